//! Client connections on their way to a worker's own process.
//!
//! A [`WorkerDoor`] stands on the roster, where pool threads find it; what they offer goes to the
//! ipc thread, which sends it on the worker's channel and keeps it in [`Offers`] until the worker
//! has spoken. Node says ACK or NACK for each descriptor, in order and without a number; the hook
//! says TOOK or REFUSED with the number, and GONE when the connection has ended.
//!
//! What lies in a channel cannot be taken back, so each offer carries a lease: the hook does not
//! take a connection whose lease is over, and we do not use it again before then. Both sides read
//! the same clock (`CLOCK_MONOTONIC`).

use crate::fleet::ipc::Ipc;
use crate::fleet::life::LifeKey;
use crate::fleet::message::Word;
use front::as_json;
use front::gauges::WorkerGauges;
use front::roster::{Door, Looks, Offer, Returning, Verdict};
use front::sys::clock::monotonic_ms;
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// How long a worker may take a connection after it was offered.
const LEASE_MS: u64 = 2_000;
/// How much longer we wait for its word.
const LEASE_MARGIN_MS: u64 = 500;
/// Offers that wait for one worker. What comes on top is relayed.
const OFFERS_MAX: u32 = 1024;
/// A worker that has let an offer wait this long is busy: what comes next is relayed.
const BUSY_MS: u64 = 500;
/// The longest head, with what came behind it, that is worth a message.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What pool threads see of [`Offers`]. Written by the ipc thread; `waiting` by both.
#[derive(Debug, Default)]
struct Queue {
    waiting: AtomicU32,
    /// When the oldest waiting offer was made; 0: none waits.
    oldest_ms: AtomicU64,
}

/// The way to hand connections to one life of a worker.
pub struct WorkerDoor {
    ipc: Ipc,
    key: LifeKey,
    queue: Arc<Queue>,
}

impl fmt::Debug for WorkerDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerDoor({:?})", self.key)
    }
}

impl Door for WorkerDoor {
    fn offer(&self, offer: Offer) -> Result<(), Offer> {
        let oldest_ms = self.queue.oldest_ms.load(Relaxed);
        let busy = oldest_ms != 0 && monotonic_ms().saturating_sub(oldest_ms) > BUSY_MS;
        if busy
            || self.ipc.is_shut()
            || offer.head.len() > HEAD_BYTES_MAX
            || self.queue.waiting.load(Relaxed) >= OFFERS_MAX
        {
            return Err(offer);
        }
        self.queue.waiting.fetch_add(1, Relaxed);
        self.ipc.offer(self.key, offer);
        Ok(())
    }
}

/// One life's offers and taken connections. Owned by the ipc thread.
pub struct Offers {
    queue: Arc<Queue>,
    gauges: Arc<WorkerGauges>,
    returning: Arc<Returning>,
    key: LifeKey,
    next_seq: u64,
    /// In the order in which they were made.
    waiting: VecDeque<Waiting>,
    /// Descriptors that Node has not spoken about, in the order in which they were sent; None:
    /// not an offer's.
    sent: VecDeque<Option<u64>>,
    /// Connections that the worker has now.
    taken: u32,
}

struct Waiting {
    seq: u64,
    made_ms: u64,
    socket: OwnedFd,
    answer: Box<dyn FnOnce(Verdict) + Send>,
}

impl Waiting {
    /// Gives the connection back to whoever offered it.
    fn back(self) {
        (self.answer)(Verdict::Back(self.socket));
    }
}

/// What has been said of offers, for the binary that takes over. None waits then.
#[derive(Debug)]
pub struct CarriedOffers {
    next_seq: u64,
    sent: VecDeque<Option<u64>>,
    taken: u32,
}

as_json!(struct CarriedOffers { next_seq, sent, taken });

impl Offers {
    pub fn carried(&self) -> CarriedOffers {
        CarriedOffers {
            next_seq: self.next_seq,
            sent: self.sent.clone(),
            taken: self.taken,
        }
    }

    pub fn take_over(&mut self, carried: CarriedOffers) {
        self.next_seq = carried.next_seq;
        self.sent = carried.sent;
        self.taken = carried.taken;
        self.gauges.handed_off.fetch_add(self.taken, Relaxed);
    }

    /// Nobody waits for the worker's word.
    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn new(key: LifeKey, gauges: Arc<WorkerGauges>, returning: Arc<Returning>) -> Offers {
        Offers {
            queue: Arc::default(),
            gauges,
            returning,
            key,
            next_seq: 1,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            taken: 0,
        }
    }

    /// A door that leads here.
    pub fn door(&self, ipc: &Ipc) -> Arc<dyn Door> {
        Arc::new(WorkerDoor {
            ipc: ipc.clone(),
            key: self.key,
            queue: Arc::clone(&self.queue),
        })
    }

    /// Takes an offer in; returns its number and the line to send with its socket.
    pub fn begin(&mut self, offer: Offer) -> (u64, Vec<u8>) {
        let now_ms = monotonic_ms();
        let seq = self.next_seq;
        self.next_seq += 1;
        let cookie = offer.cookie.as_deref();
        let line = line(seq, now_ms + LEASE_MS, offer.looks, cookie, &offer.head);
        self.waiting.push_back(Waiting {
            seq,
            made_ms: now_ms,
            socket: offer.socket,
            answer: offer.answer,
        });
        self.note_oldest();
        (seq, line)
    }

    /// The socket of an offer; None if it is not waiting any more.
    pub fn socket(&self, seq: u64) -> Option<BorrowedFd<'_>> {
        let waiting = self.waiting.iter().find(|w| w.seq == seq)?;
        Some(waiting.socket.as_fd())
    }

    /// A descriptor has been sent: an offer's, or another one that Node speaks about as well.
    pub fn note_sent(&mut self, seq: Option<u64>) {
        self.sent.push_back(seq);
    }

    /// The worker has spoken.
    pub fn hear(&mut self, word: Word) {
        match word {
            Word::Took(seq) => {
                if let Some(waiting) = self.take(seq) {
                    self.taken += 1;
                    self.gauges.handed_off.fetch_add(1, Relaxed);
                    (waiting.answer)(Verdict::Taken);
                }
            }
            Word::Refused(seq) => {
                if let Some(waiting) = self.take(seq) {
                    waiting.back();
                }
            }
            Word::Gone(_, looks) => {
                if self.taken > 0 {
                    self.taken -= 1;
                    self.gauges.handed_off.fetch_sub(1, Relaxed);
                    let LifeKey { slot, life } = self.key;
                    self.returning.left(looks, slot, life, monotonic_ms());
                }
            }
            Word::Ack => {
                self.sent.pop_front();
            }
            Word::Nack => {
                let refused = self.sent.pop_front().flatten();
                if let Some(waiting) = refused.and_then(|seq| self.take(seq)) {
                    waiting.back();
                }
            }
        }
        self.note_oldest();
    }

    /// An offer's message could not be sent.
    pub fn unsent(&mut self, seq: u64) {
        if let Some(waiting) = self.take(seq) {
            waiting.back();
        }
        self.note_oldest();
    }

    /// When [`Offers::expire`] has to be called next.
    pub fn deadline_ms(&self) -> Option<u64> {
        let oldest = self.waiting.front()?;
        Some(oldest.made_ms + LEASE_MS + LEASE_MARGIN_MS)
    }

    /// Gives back what the worker has not spoken about although its lease is over.
    pub fn expire(&mut self, now_ms: u64) {
        while self.deadline_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            if let Some(waiting) = self.waiting.pop_front() {
                self.queue.waiting.fetch_sub(1, Relaxed);
                waiting.back();
            }
        }
        self.note_oldest();
    }

    fn take(&mut self, seq: u64) -> Option<Waiting> {
        let place = self.waiting.iter().position(|w| w.seq == seq)?;
        let waiting = self.waiting.remove(place)?;
        self.queue.waiting.fetch_sub(1, Relaxed);
        Some(waiting)
    }

    fn note_oldest(&self) {
        let oldest_ms = self.waiting.front().map_or(0, |w| w.made_ms);
        self.queue.oldest_ms.store(oldest_ms, Relaxed);
    }
}

impl Drop for Offers {
    /// The channel has ended: what the worker has not taken goes back, what it had is gone.
    fn drop(&mut self) {
        self.gauges.handed_off.fetch_sub(self.taken, Relaxed);
        // Whoever still holds the door must not wait for an answer that nobody would give.
        self.queue.oldest_ms.store(1, Relaxed);
        for waiting in self.waiting.drain(..) {
            waiting.back();
        }
    }
}

/// The message that carries a connection, as Node wants it; the head as latin1.
fn line(seq: u64, until_ms: u64, looks: Looks, cookie: Option<&str>, head: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(head.len() + head.len() / 8 + 128);
    line.extend_from_slice(
        b"{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":{\"cmd\":\"NODE_SIDEKEEPER_CONN\",\"seq\":",
    );
    line.extend_from_slice(seq.to_string().as_bytes());
    line.extend_from_slice(b",\"until\":");
    line.extend_from_slice(until_ms.to_string().as_bytes());
    if looks.is_known() {
        line.extend_from_slice(b",\"looks\":");
        line.extend_from_slice(looks.number().to_string().as_bytes());
    }
    if let Some(cookie) = cookie {
        line.extend_from_slice(b",\"cookie\":\"");
        push_latin1(&mut line, cookie.as_bytes());
        line.push(b'"');
    }
    line.extend_from_slice(b",\"head\":\"");
    push_latin1(&mut line, head);
    line.extend_from_slice(b"\"}}\n");
    line
}

/// Bytes as the characters of the same numbers, in JSON (RFC 8259, 7).
fn push_latin1(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x20..0x7f => out.push(byte),
            0x00..0x20 | 0x7f..=0xff => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use front::roster::Slot;
    use std::fs::File;
    use std::sync::Mutex;

    type Log = Arc<Mutex<Vec<(u32, bool)>>>;

    fn offer(number: u32, log: &Log) -> Offer {
        let log = Arc::clone(log);
        Offer {
            socket: File::open("/dev/null").expect("/dev/null opens").into(),
            looks: Looks::UNKNOWN,
            head: b"GET /\r\n\r\n\xff\"".to_vec(),
            cookie: None,
            answer: Box::new(move |verdict| {
                let taken = matches!(verdict, Verdict::Taken);
                log.lock().expect("no panic").push((number, taken));
            }),
        }
    }

    fn offers(count: u32, log: &Log) -> (Offers, Arc<WorkerGauges>) {
        let gauges = Arc::<WorkerGauges>::default();
        let key = LifeKey {
            slot: Slot(1),
            life: 1,
        };
        let mut offers = Offers::new(key, Arc::clone(&gauges), Arc::default());
        for number in 1..=count {
            offers.queue.waiting.fetch_add(1, Relaxed);
            let (seq, _) = offers.begin(offer(number, log));
            offers.note_sent(Some(seq));
        }
        (offers, gauges)
    }

    fn said(log: &Log) -> Vec<(u32, bool)> {
        std::mem::take(&mut log.lock().expect("no panic"))
    }

    #[test]
    fn every_offer_gets_one_answer() {
        let log = Log::default();
        let (mut offers, gauges) = offers(5, &log);
        for word in [
            Word::Ack,
            Word::Nack,
            Word::Ack,
            Word::Took(3),
            Word::Took(3),
        ] {
            offers.hear(word);
        }
        offers.hear(Word::Refused(1));
        assert_eq!(said(&log), [(2, false), (3, true), (1, false)]);
        assert_eq!(gauges.handed_off.load(Relaxed), 1);
        assert_eq!(offers.queue.waiting.load(Relaxed), 2);
        offers.hear(Word::Gone(3, Looks::UNKNOWN));
        offers.hear(Word::Gone(3, Looks::UNKNOWN));
        assert_eq!(gauges.handed_off.load(Relaxed), 0);
        drop(offers);
        assert_eq!(said(&log), [(4, false), (5, false)]);
    }

    #[test]
    fn a_dead_worker_has_no_connections_left() {
        let log = Log::default();
        let (mut offers, gauges) = offers(2, &log);
        offers.hear(Word::Took(1));
        offers.hear(Word::Took(2));
        drop(offers);
        assert_eq!(gauges.handed_off.load(Relaxed), 0);
        assert_eq!(said(&log), [(1, true), (2, true)]);
    }

    #[test]
    fn a_lease_ends() {
        let log = Log::default();
        let (mut offers, _) = offers(2, &log);
        let due = offers.deadline_ms().expect("two wait");
        offers.expire(due - 1);
        assert_eq!(said(&log), []);
        offers.expire(due + 1_000);
        assert_eq!(said(&log), [(1, false), (2, false)]);
        assert_eq!(offers.deadline_ms(), None);
        // Its word comes too late and is not believed.
        offers.hear(Word::Took(1));
        assert_eq!(said(&log), []);
    }

    #[test]
    fn what_cannot_be_sent_comes_back() {
        let log = Log::default();
        let (mut offers, _) = offers(2, &log);
        offers.unsent(2);
        assert_eq!(said(&log), [(2, false)]);
        assert!(offers.socket(2).is_none());
        offers.hear(Word::Nack);
        assert_eq!(said(&log), [(1, false)]);
    }

    #[test]
    fn the_message_is_json_and_holds_any_byte() {
        let every: Vec<u8> = (0..=255).collect();
        let line = line(
            7,
            99,
            Looks::from_number(0xfeed),
            Some("a=b; Path=/"),
            &every,
        );
        let text = line.strip_suffix(b"\n").expect("one line");
        assert!(!text.contains(&b'\n'));
        let value: serde_json::Value = serde_json::from_slice(text).expect("JSON");
        let head = value["msg"]["head"].as_str().expect("a string");
        let back: Vec<u8> = head.chars().map(|c| u32::from(c) as u8).collect();
        assert_eq!(back, every);
        assert_eq!(value["msg"]["seq"], 7);
        assert_eq!(value["msg"]["looks"], 0xfeed);
        assert_eq!(value["msg"]["cookie"], "a=b; Path=/");
    }
}
