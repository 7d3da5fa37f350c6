//! Node's IPC channel: lines of JSON between us and each worker, over a socket pair.
//!
//! One thread waits in an epoll set over all channels. It always reads what workers send (a
//! worker's own queue grows without bound otherwise), tells the supervisor what concerns it, and
//! writes what others ask it to write and what the siblings of a worker say to it (`relay_bus`), from
//! bounded queues for each worker (`channel`): nobody who sends ever waits for a worker. It knows
//! nothing of processes; an end of file is only reported.

use crate::fleet::channel::{
    CarriedChannel, Channel, Letter, Line, Message, Passed, Reading, Said, tell,
};
use crate::fleet::hand_off::Offers;
use crate::fleet::life::LifeKey;
use crate::fleet::message::{News, Notice};
use crate::fleet::relay_bus::Bus;
use front::channel::{Receiver, Sender, TryRecvError, bounded};
use front::gauges::WorkerGauges;
use front::roster::{Door, Offer, Returning, Verdict};
use front::sys::clock::monotonic_ms;
use front::sys::epoll::{Epoll, Event, Interest, Waker};
use front::sys::memory;
use log::error;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// One buffer serves all channels.
const READ_BYTES: usize = 64 << 10;
/// The token that is no worker's: lives begin at 1.
const WAKER: u64 = 0;

/// A life that begins, as this thread has to know it.
pub struct NewLife {
    pub key: LifeKey,
    /// Which app it is of: any number that its siblings share.
    pub app: usize,
    pub instance: u32,
    /// `chat.0`, as logs say it.
    pub name: Arc<str>,
    /// Our end of its channel.
    pub stream: UnixStream,
    pub gauges: Arc<WorkerGauges>,
    /// Where the ends of its connections are noted.
    pub returning: Arc<Returning>,
}

enum Command {
    Add {
        life: NewLife,
        offers: Offers,
        carried: Option<Box<Said>>,
    },
    Offer {
        key: LifeKey,
        offer: Offer,
    },
    Send {
        key: LifeKey,
        message: Message,
    },
    Remove {
        key: LifeKey,
    },
    /// Says so as soon as no offer waits; none is made meanwhile.
    Settle {
        tell: Sender<()>,
    },
    StandStill {
        tell: Sender<Result<CarriedIpc, String>>,
        until: Receiver<()>,
    },
    End,
}

/// The way to the thread. Its queue is unbounded and small by construction: the supervisor sends
/// a few commands for each change of a worker's state.
#[derive(Clone)]
pub struct Ipc {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    /// No connections are handed over: they are relayed.
    shut: Arc<AtomicBool>,
}

impl Ipc {
    /// Makes the two ends: the handle, and what the thread runs. `bus`: what an earlier binary knew of
    /// who speaks with whom.
    pub fn new(notices: Sender<Notice>, bus: Bus) -> io::Result<(Ipc, IpcThread)> {
        let (commands, orders) = front::channel::unbounded();
        let waker = Arc::new(Waker::new()?);
        let epoll = Epoll::new()?;
        epoll.add(waker.as_fd(), WAKER, Interest::READ_LEVEL)?;
        let thread = IpcThread {
            epoll,
            waker: Arc::clone(&waker),
            orders,
            notices,
            channels: HashMap::new(),
            buffer: memory::buffer(READ_BYTES),
            bus,
            letters: Vec::new(),
            settling: None,
        };
        let ipc = Ipc {
            commands,
            waker,
            shut: Arc::default(),
        };
        Ok((ipc, thread))
    }

    /// Takes over our end of a life's channel; returns the way to hand connections to it. `carried`: it
    /// has begun under an earlier binary, which has left this.
    pub fn add(&self, life: NewLife, carried: Option<Box<Said>>) -> Arc<dyn Door> {
        let (gauges, returning) = (Arc::clone(&life.gauges), Arc::clone(&life.returning));
        let offers = Offers::new(life.key, gauges, returning);
        let door = offers.door(self);
        self.order(Command::Add {
            life,
            offers,
            carried,
        });
        door
    }

    /// Offers a client's connection; it goes back if that life's channel is gone.
    pub fn offer(&self, key: LifeKey, offer: Offer) {
        self.order(Command::Offer { key, offer });
    }

    /// Sends a line; nothing happens if that life's channel is gone.
    pub fn send(&self, key: LifeKey, line: &[u8]) {
        self.send_message(key, line, Passed::Nothing);
    }

    /// Sends a line and with it a descriptor.
    pub fn send_with(&self, key: LifeKey, line: &[u8], passed: OwnedFd) {
        self.send_message(key, line, Passed::Own(passed));
    }

    fn send_message(&self, key: LifeKey, line: &[u8], passed: Passed) {
        let message = Message {
            line: Arc::from(line),
            passed,
        };
        self.order(Command::Send { key, message });
    }

    pub fn remove(&self, key: LifeKey) {
        self.order(Command::Remove { key });
    }

    /// Hands no more connections over; told when each that is on its way has arrived or is back.
    pub fn settle(&self) -> Receiver<()> {
        let (tell, told) = bounded(1);
        self.shut.store(true, Relaxed);
        self.order(Command::Settle { tell });
        told
    }

    /// Hands connections over again.
    pub fn open(&self) {
        self.shut.store(false, Relaxed);
    }

    pub fn is_shut(&self) -> bool {
        self.shut.load(Relaxed)
    }

    /// Has the thread write everything down and stand still until `until` is closed.
    pub fn stand_still(&self, until: &Receiver<()>) -> Receiver<Result<CarriedIpc, String>> {
        let (tell, told) = bounded(1);
        let until = until.clone();
        self.order(Command::StandStill { tell, until });
        told
    }

    /// Something has been ordered that is not done.
    pub fn has_orders(&self) -> bool {
        !self.commands.is_empty()
    }

    pub fn end(&self) {
        self.order(Command::End);
    }

    fn order(&self, command: Command) {
        // A thread that has ended has no channels left to do anything with.
        let _ = self.commands.send(command);
        self.waker.ring();
    }
}

/// What the thread leaves to the next binary.
pub struct CarriedIpc {
    pub channels: Vec<CarriedChannel>,
    pub bus: Bus,
}

pub struct IpcThread {
    epoll: Epoll,
    waker: Arc<Waker>,
    orders: Receiver<Command>,
    notices: Sender<Notice>,
    channels: HashMap<u64, Channel>,
    buffer: Vec<u8>,
    bus: Bus,
    /// What workers have said to their siblings in this turn. Empty between turns.
    letters: Vec<Letter>,
    /// Who is to be told that no offer waits.
    settling: Option<Sender<()>>,
}

impl IpcThread {
    pub fn run(mut self) -> io::Result<()> {
        loop {
            let count = self.epoll.wait(self.patience())?;
            for index in 0..count {
                let Some(event) = self.epoll.event(index) else {
                    break;
                };
                if event.token == WAKER {
                    self.waker.silence();
                } else {
                    self.serve(event);
                }
            }
            loop {
                match self.orders.try_recv() {
                    Ok(Command::End) | Err(TryRecvError::Disconnected) => return Ok(()),
                    Ok(command) => self.obey(command),
                    Err(TryRecvError::Empty) => break,
                }
            }
            let now_ms = monotonic_ms();
            for channel in self.channels.values_mut() {
                channel.offers.expire(now_ms);
            }
            if self.settling.is_some()
                && self.is_settled()
                && let Some(tell) = self.settling.take()
            {
                let _ = tell.send(());
            }
        }
    }

    /// Until the next offer's lease is over.
    fn patience(&self) -> Option<Duration> {
        let deadlines = self.channels.values().map(|c| c.offers.deadline_ms());
        let next_ms = deadlines.flatten().min()?;
        Some(Duration::from_millis(
            next_ms.saturating_sub(monotonic_ms()),
        ))
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Add {
                life,
                offers,
                carried,
            } => self.begin(life, offers, carried),
            Command::Offer { key, offer } => match self.channels.get_mut(&key.token()) {
                Some(channel) => {
                    let (seq, line) = channel.offers.begin(offer);
                    let message = Message {
                        line: Arc::from(line),
                        passed: Passed::Offered(seq),
                    };
                    channel.send(message, &self.epoll);
                }
                None => (offer.answer)(Verdict::Back(offer.socket)),
            },
            Command::Send { key, message } => {
                if let Some(channel) = self.channels.get_mut(&key.token()) {
                    channel.send(message, &self.epoll);
                }
            }
            Command::Remove { key } => self.remove(key),
            Command::Settle { tell } => self.settling = Some(tell),
            Command::StandStill { tell, until } => self.stand_still(&tell, &until),
            Command::End => {}
        }
    }

    fn is_settled(&self) -> bool {
        self.channels
            .values()
            .all(|channel| channel.offers.is_settled())
    }

    fn stand_still(&mut self, tell: &Sender<Result<CarriedIpc, String>>, until: &Receiver<()>) {
        if !self.is_settled() {
            let _ = tell.send(Err("a worker has still to take a connection".to_owned()));
            return;
        }
        let carried = CarriedIpc {
            channels: self.channels.values().map(Channel::carried).collect(),
            bus: self.bus.clone(),
        };
        if tell.send(Ok(carried)).is_ok() {
            // Nothing is ever sent: it ends when whoever has given the order lets it go.
            let _ = until.recv();
        }
    }

    fn begin(&mut self, life: NewLife, offers: Offers, carried: Option<Box<Said>>) {
        let NewLife {
            key,
            app,
            instance,
            name,
            stream,
            gauges,
            returning: _,
        } = life;
        let (fd, token) = (stream.as_fd(), key.token());
        let watched = stream
            .set_nonblocking(true)
            .and_then(|()| self.epoll.add(fd, token, Interest::READ_LEVEL));
        match watched {
            Ok(()) => {
                let mut channel = Channel::new(key, name, stream, gauges, offers);
                let taken = carried.map(|carried| channel.take_over(*carried, &self.epoll));
                if let Some(Err(e)) = taken {
                    error!("what was on its way to a worker is lost: {e}");
                }
                self.channels.insert(token, channel);
                self.bus.join(key, app, instance);
            }
            // Our end closes, and the worker does what it does without us.
            Err(e) => error!("{name}: its channel cannot be watched: {e}"),
        }
    }

    fn remove(&mut self, key: LifeKey) {
        // What it had said before it ended is still for its siblings.
        self.hear(key.token());
        self.channels.remove(&key.token());
        self.part(key);
    }

    /// Reads a turn's worth from a worker and passes on what is for its siblings; false at the end
    /// of its channel.
    fn hear(&mut self, token: u64) -> bool {
        let Some(channel) = self.channels.get_mut(&token) else {
            return true; // Removed earlier in this batch.
        };
        let open = channel.read(&mut Reading {
            buffer: &mut self.buffer,
            notices: &self.notices,
            bus: &mut self.bus,
            letters: &mut self.letters,
        });
        self.deliver();
        open
    }

    fn deliver(&mut self) {
        let mut due = Vec::new();
        for Letter { to, line } in self.letters.drain(..) {
            if let Some(channel) = self.channels.get_mut(&to.token())
                && channel.relay(line)
                && due.last() != Some(&to)
            {
                due.push(to);
            }
        }
        for to in due {
            if let Some(channel) = self.channels.get_mut(&to.token()) {
                channel.flush(&self.epoll);
            }
        }
    }

    /// Says farewell to the siblings of a worker that cannot.
    fn part(&mut self, key: LifeKey) {
        let partings = self.bus.leave(key);
        self.letters.extend(partings.into_iter().map(|p| Letter {
            to: p.to,
            line: Line::from(p.line),
        }));
        self.deliver();
    }

    fn serve(&mut self, event: Event) {
        let Some(channel) = self.channels.get_mut(&event.token) else {
            return; // Removed earlier in this batch.
        };
        let key = channel.key;
        if event.writable() {
            channel.flush(&self.epoll);
        }
        if event.readable() && !self.hear(event.token) {
            self.channels.remove(&event.token);
            self.part(key);
            tell(&self.notices, key, News::ChannelGone);
        }
    }
}
