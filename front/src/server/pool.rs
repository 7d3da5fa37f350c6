//! The pool: as many threads as cores, each with an epoll set of its own. A connection stays on
//! its thread, which never waits for a peer; what others have for a thread comes by its mailbox.

mod passage;
#[cfg(test)]
mod steady_tests;
mod thread;

use self::thread::PoolThread;
use super::accept::Desk;
use super::carry::CarriedConnection;
use super::listener::Listener;
use super::mailbox::{Mailbox, Message, StandStill};
use super::relay::Relays;
use crate::channel::{Receiver, unbounded};
use crate::gauges::FrontGauges;
use crate::http::id;
use crate::proxy;
use crate::roster::Board;
use crate::route::Tables;
use log::error;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

/// What all pool threads share.
pub struct Shared {
    pub settings: Arc<proxy::Settings>,
    pub front: Arc<FrontGauges>,
    pub board: Arc<Board>,
    pub tables: Arc<Tables>,
    pub relays: Arc<Relays>,
    pub desk: Arc<Desk>,
    pub listeners: Vec<Arc<Listener>>,
    /// What the ids of requests have in common.
    pub run: id::Run,
}

/// The running pool.
pub struct Pool {
    threads: Vec<(Arc<Mailbox>, JoinHandle<()>)>,
}

impl Pool {
    /// Starts a thread for each mailbox of the desk.
    pub fn start(shared: &Shared) -> io::Result<Pool> {
        let mailboxes = shared.desk.mailboxes.iter();
        let threads = mailboxes
            .cloned()
            .enumerate()
            .map(|(number, mailbox)| {
                let thread = PoolThread::new(shared, number, mailbox.clone())?;
                let bell = mailbox.clone();
                let ring = Box::new(move || bell.post(Message::RosterChanged));
                shared.board.ring_at_change(ring);
                let handle = Builder::new()
                    .name(format!("pool-{number}"))
                    .spawn(move || thread.run())?;
                Ok((mailbox, handle))
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Pool { threads })
    }

    pub fn drain(&self) {
        for (mailbox, _) in &self.threads {
            mailbox.post(Message::Drain);
        }
    }

    /// Has every thread stand still; returns what all connections are doing. They go on when `until`
    /// is dropped. The error says who did not obey in time.
    pub fn stand_still(
        &self,
        until: &Receiver<()>,
        deadline: Instant,
    ) -> Result<Vec<CarriedConnection>, String> {
        let late = |_| "a pool thread did not stand still in time".to_owned();
        let (shut, all_shut) = unbounded();
        for (mailbox, _) in &self.threads {
            mailbox.post(Message::ShutDoor(shut.clone()));
        }
        for _ in &self.threads {
            all_shut.recv_deadline(deadline).map_err(late)?;
        }
        let (tell, told) = unbounded();
        for (mailbox, _) in &self.threads {
            mailbox.post(Message::StandStill(StandStill {
                tell: tell.clone(),
                until: until.clone(),
            }));
        }
        let mut connections = Vec::new();
        for _ in &self.threads {
            connections.extend(told.recv_deadline(deadline).map_err(late)?);
        }
        Ok(connections)
    }

    /// After [`Pool::stand_still`]: takes clients in again.
    pub fn open_doors(&self) {
        for (mailbox, _) in &self.threads {
            mailbox.post(Message::OpenDoor);
        }
    }

    pub fn close(self) {
        for (mailbox, _) in &self.threads {
            mailbox.post(Message::Close);
        }
        for (_, handle) in self.threads {
            if handle.join().is_err() {
                error!("a pool thread panicked");
            }
        }
    }
}
