//! What is under way, for those who ask: the pool threads own the exchanges, so they are asked
//! through their mailboxes, and each tells of its own. A thread that is late is not waited for.
//! Tunnels that relay threads have are told from a list. Runs on the asker's thread.

use super::connection::Connection;
use super::mailbox::{Mailbox, Message};
use super::relay::Relays;
use crate::channel::{Sender, bounded};
use crate::http::id::{RequestId, Run};
use crate::order;
use crate::proxy::Context;
use crate::proxy::slab::{Id, Slab};
use crate::roster::Slot;
use crate::roster::traffic::{Heard, Request, Traffic};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Requests that one thread tells at most: the oldest ones.
const TOLD_MAX: usize = 500;

/// What a pool thread is asked.
pub enum Question {
    UnderWay { of: Option<Slot> },
    Find { id: RequestId },
}

/// What a pool thread answers.
#[derive(Debug, Default)]
pub struct Told {
    pub requests: Vec<Request>,
    /// Younger ones that were left out.
    pub more: usize,
}

/// A question with the way back.
pub struct Inquiry {
    pub question: Question,
    /// Has room for all answers: who answers does not wait.
    pub answers: Sender<Told>,
}

impl Inquiry {
    /// Answers for one pool thread, on that thread.
    pub fn answer(self, connections: &mut Slab<Box<Connection>>, ctx: &Context) {
        let mut told = Told::default();
        let mut found: Vec<(u64, Id)> = Vec::new();
        for id in connections.ids() {
            let connection = connections.get_mut(id);
            let Some(record) = connection.as_ref().and_then(|c| c.record()) else {
                continue;
            };
            let wanted = match self.question {
                Question::UnderWay { of } => of.is_none() || record.slot == of,
                Question::Find { id } => record.id == id,
            };
            if wanted {
                found.push((record.began_us, id));
            }
        }
        // The order of the slab is no order in time.
        order::sort_by_key(&mut found, |(began_us, _)| *began_us);
        told.more = found.len().saturating_sub(TOLD_MAX);
        for (_, id) in found.into_iter().take(TOLD_MAX) {
            let connection = connections.get_mut(id);
            told.requests.extend(connection.and_then(|c| c.told(ctx)));
        }
        if let Question::Find { id } = self.question
            && told.requests.is_empty()
        {
            let ended = ctx.recent.find(id, ctx.router.roster(), ctx.now_us);
            told.requests.extend(ended);
        }
        // Who has asked may have lost patience.
        let _ = self.answers.try_send(told);
    }
}

/// Asks the pool.
pub struct Reporter {
    pub mailboxes: Vec<Arc<Mailbox>>,
    pub relays: Arc<Relays>,
    pub run: Run,
}

impl Reporter {
    fn ask(&self, question: impl Fn() -> Question, patience: Duration) -> Heard {
        let (answers, heard) = bounded(self.mailboxes.len());
        for mailbox in &self.mailboxes {
            mailbox.post(Message::Tell(Inquiry {
                question: question(),
                answers: answers.clone(),
            }));
        }
        let deadline = Instant::now() + patience;
        let mut all = Heard::default();
        for answered in 0..self.mailboxes.len() {
            match heard.recv_deadline(deadline) {
                Ok(told) => {
                    all.requests.extend(told.requests);
                    all.more += told.more;
                }
                Err(_) => {
                    all.silent = self.mailboxes.len() - answered;
                    break;
                }
            }
        }
        all
    }
}

impl Traffic for Reporter {
    fn under_way(&self, of: Option<Slot>, patience: Duration) -> Heard {
        let mut all = self.ask(|| Question::UnderWay { of }, patience);
        let relayed = self.relays.under_way();
        all.requests
            .extend(relayed.into_iter().filter(|r| of.is_none() || r.slot == of));
        order::sort_by_key(&mut all.requests, |request| {
            std::cmp::Reverse(request.age_ms)
        });
        all
    }

    fn find(&self, id: &str, patience: Duration) -> Heard {
        let number = self.run.number(id);
        let mut all = self.ask(|| Question::Find { id: number }, patience);
        let relayed = self.relays.under_way();
        all.requests
            .extend(relayed.into_iter().filter(|request| request.id == id));
        all
    }
}
