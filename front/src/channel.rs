//! Channels between threads: crossbeam's, which carry every message as a parcel, so that there is one
//! kind of channel in the binary however many kinds of messages there are. Crossbeam's code, made anew
//! for each of twenty-eight, was 200 KiB. A parcel costs an allocation; no request goes through a channel.
//! What every writer and reader may wait for is said where the channel is made.

use crossbeam_channel as crossbeam;
pub use crossbeam_channel::{RecvError, RecvTimeoutError, TryRecvError, select};
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// A message under way.
pub type Parcel = Box<dyn Any + Send>;

pub fn bounded<T: Send + 'static>(messages_max: usize) -> (Sender<T>, Receiver<T>) {
    ends(crossbeam::bounded(messages_max))
}

pub fn unbounded<T: Send + 'static>() -> (Sender<T>, Receiver<T>) {
    ends(crossbeam::unbounded())
}

fn ends<T>(
    (parcels_in, parcels): (crossbeam::Sender<Parcel>, crossbeam::Receiver<Parcel>),
) -> (Sender<T>, Receiver<T>) {
    let sender = Sender {
        parcels_in,
        kind: PhantomData,
    };
    let receiver = Receiver {
        parcels,
        kind: PhantomData,
    };
    (sender, receiver)
}

pub struct Sender<T> {
    parcels_in: crossbeam::Sender<Parcel>,
    kind: PhantomData<fn(T)>,
}

pub struct Receiver<T> {
    parcels: crossbeam::Receiver<Parcel>,
    kind: PhantomData<fn() -> T>,
}

/// Nobody hears it any more. The message is gone.
#[derive(Debug)]
pub struct Unheard;

/// Why a message has not been taken. It is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrySendError {
    Full,
    Disconnected,
}

impl<T: Send + 'static> Sender<T> {
    pub fn send(&self, message: T) -> Result<(), Unheard> {
        let sent = self.parcels_in.send(Box::new(message));
        sent.map_err(|_| Unheard)
    }

    pub fn try_send(&self, message: T) -> Result<(), TrySendError> {
        let sent = self.parcels_in.try_send(Box::new(message));
        sent.map_err(|error| match error {
            crossbeam::TrySendError::Full(_) => TrySendError::Full,
            crossbeam::TrySendError::Disconnected(_) => TrySendError::Disconnected,
        })
    }

    pub fn send_timeout(&self, message: T, patience: Duration) -> Result<(), Unheard> {
        let sent = self.parcels_in.send_timeout(Box::new(message), patience);
        sent.map_err(|_| Unheard)
    }

    pub fn is_empty(&self) -> bool {
        self.parcels_in.is_empty()
    }
}

impl<T: 'static> Receiver<T> {
    /// For `select!`, with [`Receiver::opened`].
    pub fn parcels(&self) -> &crossbeam::Receiver<Parcel> {
        &self.parcels
    }

    /// What has come of [`Receiver::parcels`].
    pub fn opened<E>(&self, parcel: Result<Parcel, E>) -> Result<T, E> {
        parcel.map(open)
    }

    pub fn len(&self) -> usize {
        self.parcels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    pub fn recv(&self) -> Result<T, RecvError> {
        self.parcels.recv().map(open)
    }

    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.parcels.try_recv().map(open)
    }

    pub fn recv_timeout(&self, patience: Duration) -> Result<T, RecvTimeoutError> {
        self.parcels.recv_timeout(patience).map(open)
    }

    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.parcels.recv_deadline(deadline).map(open)
    }

    /// What comes, until nobody can send any more.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        self.parcels.iter().map(open)
    }

    /// What has come so far.
    pub fn try_iter(&self) -> impl Iterator<Item = T> {
        self.parcels.try_iter().map(open)
    }

    /// One through which nothing ever comes.
    pub fn never() -> Receiver<T> {
        Receiver {
            parcels: crossbeam::never(),
            kind: PhantomData,
        }
    }
}

fn open<T: 'static>(parcel: Parcel) -> T {
    let message = parcel.downcast();
    *message.expect("a Sender<T> puts nothing else into its channel")
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender {
            parcels_in: self.parcels_in.clone(),
            kind: PhantomData,
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver {
            parcels: self.parcels.clone(),
            kind: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}
