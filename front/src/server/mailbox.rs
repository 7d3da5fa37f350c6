//! What others have for a pool thread: a list under a lock that nobody holds for long, and a bell
//! that the thread hears in its epoll set.

use super::accept::Arrival;
use super::carry::{CarriedConnection, Claimed};
use super::connection::Counted;
use super::relay::Returned;
use super::report::Inquiry;
use crate::channel::{Receiver, Sender};
use crate::proxy::handoff::NotTaken;
use crate::sys::epoll::Waker;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// What the rest of the process has for a pool thread.
pub enum Message {
    /// Another thread has accepted a client, and holds more of them.
    Accepted(Arrival),
    /// A relayed tunnel is quiet.
    Quiet(Returned),
    /// A worker has not taken a connection that was offered to it.
    NotTaken(NotTaken<Counted>),
    /// The roster has changed; the thread looks at it in each batch.
    RosterChanged,
    /// Somebody wants to know what is under way.
    Tell(Inquiry),
    /// No further request is wanted: idle connections close, the others after their answer.
    Drain,
    /// A client whom an earlier binary has served.
    Carried(Box<Claimed>, Counted),
    /// Take nobody in any more, and say so.
    ShutDoor(Sender<()>),
    /// Write down what every connection is doing, and touch none of them until the order's end.
    StandStill(StandStill),
    /// Take clients in again.
    OpenDoor,
    /// Drop everything and end.
    Close,
}

/// What a thread needs to stand still.
pub struct StandStill {
    pub tell: Sender<Vec<CarriedConnection>>,
    /// Closed when the thread is to go on.
    pub until: Receiver<()>,
}

/// A pool thread's mailbox. Written by anyone, read by the thread; never waits for it.
pub struct Mailbox {
    messages: Mutex<Vec<Message>>,
    waker: Waker,
    /// Connections that the thread holds: written by it once a batch, and by who deals it one.
    held: AtomicU32,
}

impl Mailbox {
    pub fn new() -> io::Result<Self> {
        Ok(Mailbox {
            messages: Mutex::default(),
            waker: Waker::new()?,
            held: AtomicU32::new(0),
        })
    }

    pub fn post(&self, message: Message) {
        let mut messages = self.lock();
        messages.push(message);
        let first = messages.len() == 1;
        drop(messages);
        // Who finds the box empty rings; the thread takes all that is there when it comes.
        if first {
            self.waker.ring();
        }
    }

    /// Gives the thread a client, who counts as held at once: the next one goes to another thread.
    pub fn deal(&self, arrival: Arrival) {
        self.held.fetch_add(1, Relaxed);
        self.post(Message::Accepted(arrival));
    }

    /// Takes all that is there.
    pub fn take(&self) -> Vec<Message> {
        self.waker.silence();
        std::mem::take(&mut *self.lock())
    }

    /// Connections that the thread holds, as far as it is known.
    pub fn held(&self) -> &AtomicU32 {
        &self.held
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Mailbox {
    /// Readable while there are messages.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}
