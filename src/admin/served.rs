//! A listener with a thread of its own, which takes one client after the other until this value is dropped. What
//! is done with a client is for whoever starts it to say; the control socket and the dashboard are two of them.

use front::sys::carried::Baton;
use front::sys::socket::{self, End};
use log::warn;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// After an accept that failed.
const BACK_OFF: Duration = Duration::from_millis(100);

pub struct Served<L: AsFd> {
    listener: Arc<L>,
    /// Raised here, read by all who serve a client of it.
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<L: AsFd + Send + Sync + 'static> Served<L> {
    /// `thread` is the thread's name, `closing` is lowered still.
    pub fn start<C: 'static>(
        thread: &'static str,
        listener: L,
        closing: Arc<AtomicBool>,
        accept: fn(&L) -> io::Result<C>,
        mut each: impl FnMut(C) + Send + 'static,
    ) -> io::Result<Served<L>> {
        let listener = Arc::new(listener);
        let (theirs, end) = (Arc::clone(&listener), Arc::clone(&closing));
        let serve = move || {
            while !end.load(Relaxed) {
                match accept(&theirs) {
                    Ok(client) => each(client),
                    Err(_) if end.load(Relaxed) => break,
                    Err(e) => {
                        warn!("{thread}: cannot accept: {e}; trying again");
                        thread::sleep(BACK_OFF);
                    }
                }
            }
        };
        let handle = thread::Builder::new()
            .name(thread.to_owned())
            .spawn(serve)?;
        Ok(Served {
            listener,
            closing,
            thread: Some(handle),
        })
    }

    /// Of the listener, for the binary that takes over.
    pub fn baton(&self) -> Baton {
        Baton::of(self.listener.as_fd())
    }
}

impl<L: AsFd> Drop for Served<L> {
    fn drop(&mut self) {
        self.closing.store(true, Relaxed);
        // Wakes the accept(2) that the thread waits in.
        socket::shutdown(self.listener.as_fd(), End::Both);
        if let Some(thread) = self.thread.take() {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                warn!("the {name} thread panicked");
            }
        }
    }
}
