//! Signals as messages for the conductor. One thread hears them, all others hold them back: when it
//! stops listening, for another binary to take over, what comes meanwhile waits for that one.

use front::channel::{Receiver, Sender, bounded};
use front::sys::process::{hear_signals, hold_signals};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGTTOU, SIGUSR1, SIGUSR2};
use signal_hook::iterator::{Handle, Signals};
use std::io;
use std::thread::{self, JoinHandle};

/// Signals that wait for the conductor. More than these say nothing new.
const SIGNALS_MAX: usize = 64;

/// The signals that have come.
pub struct Heard {
    sender: Sender<i32>,
    receiver: Receiver<i32>,
    caught: Option<Signals>,
    listening: Option<(Handle, JoinHandle<()>)>,
}

fn catch() -> io::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGCHLD, SIGHUP, SIGTTOU, SIGUSR1, SIGUSR2])
}

impl Heard {
    /// From now on no signal does what it would do by itself, and threads that are started hold them
    /// back. They are heard when [`Heard::go_on`] starts the thread for it.
    pub fn catch() -> io::Result<Heard> {
        hold_signals();
        let (sender, receiver) = bounded(SIGNALS_MAX);
        Ok(Heard {
            sender,
            receiver,
            caught: Some(catch()?),
            listening: None,
        })
    }

    /// Those that have come and that nobody has taken yet.
    pub fn receiver(&self) -> &Receiver<i32> {
        &self.receiver
    }

    /// Stops listening; returns those that nobody has taken, which stay to be taken.
    pub fn pause(&mut self) -> Vec<i32> {
        if let Some((handle, thread)) = self.listening.take() {
            handle.close();
            // It has nothing left to do but to pass on what it had heard.
            let _ = thread.join();
        }
        let waiting: Vec<i32> = self.receiver.try_iter().collect();
        self.hear_again(&waiting);
        waiting
    }

    /// Begins to listen, or goes on.
    pub fn go_on(&mut self) -> io::Result<()> {
        if self.listening.is_some() {
            return Ok(());
        }
        let mut signals = self.caught.take().map_or_else(catch, Ok)?;
        let (handle, sender) = (signals.handle(), self.sender.clone());
        let forward = move || {
            hear_signals();
            for signal in signals.forever() {
                // A full channel says all that this one could.
                let _ = sender.try_send(signal);
            }
        };
        let thread = thread::Builder::new().name("signals".to_owned());
        self.listening = Some((handle, thread.spawn(forward)?));
        Ok(())
    }

    /// Puts in what was heard before.
    pub fn hear_again(&self, signals: &[i32]) {
        for signal in signals {
            let _ = self.sender.try_send(*signal);
        }
    }
}
