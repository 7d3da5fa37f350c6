//! One channel on a real socket pair, whose other end reads or does not.

use super::*;
use front::roster::Slot;
use front::sys::passing::receive;

const KEY: LifeKey = LifeKey {
    slot: Slot(1),
    life: 1,
};
/// Large enough that the kernel takes only a few of them.
const LINE_BYTES: usize = 100_000;

struct Bench {
    channel: Channel,
    worker: UnixStream,
    gauges: Arc<WorkerGauges>,
    epoll: Epoll,
}

impl Bench {
    fn new() -> Bench {
        let (ours, worker) = UnixStream::pair().expect("socketpair");
        ours.set_nonblocking(true).expect("nonblocking");
        worker.set_nonblocking(true).expect("nonblocking");
        let epoll = Epoll::new().expect("epoll");
        let token = KEY.token();
        epoll
            .add(ours.as_fd(), token, Interest::READ_LEVEL)
            .expect("epoll");
        let gauges: Arc<WorkerGauges> = Arc::default();
        let offers = Offers::new(KEY, Arc::clone(&gauges), Arc::default());
        let channel = Channel::new(KEY, Arc::from("a.0"), ours, Arc::clone(&gauges), offers);
        Bench {
            channel,
            worker,
            gauges,
            epoll,
        }
    }

    fn relay(&mut self, text: &str) {
        if self
            .channel
            .relay(Line::from(format!("{text}\n").as_bytes()))
        {
            self.channel.flush(&self.epoll);
        }
    }

    fn send(&mut self, text: &str) {
        let message = Message {
            line: Line::from(format!("{text}\n").as_bytes()),
            passed: Passed::Nothing,
        };
        self.channel.send(message, &self.epoll);
    }

    /// Reads until there is no more, and gives us room again and again.
    fn read_all(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.worker.read(&mut buffer) {
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(_) if self.channel.awaits_room => self.channel.flush(&self.epoll),
                Err(_) => break,
            }
        }
        let text = String::from_utf8(bytes).expect("what we sent");
        text.lines().map(str::to_owned).collect()
    }
}

fn long(number: usize) -> String {
    format!("{number}{}", "x".repeat(LINE_BYTES))
}

#[test]
fn lines_come_whole_and_in_order() {
    let mut bench = Bench::new();
    let lines: Vec<String> = (0..40).map(long).collect();
    for line in &lines {
        bench.relay(line);
    }
    assert!(bench.channel.awaits_room, "more than the kernel takes");
    assert_eq!(bench.read_all(), lines);
    for line in ["a", "b"] {
        bench.relay(line);
    }
    assert_eq!(bench.read_all(), ["a", "b"]);
    assert_eq!(bench.gauges.relayed.load(Relaxed), 42);
    assert_eq!(bench.gauges.lost.load(Relaxed), 0);
}

#[test]
fn who_does_not_read_loses_what_comes_last() {
    let mut bench = Bench::new();
    for number in 0..200 {
        bench.relay(&long(number));
    }
    assert!(bench.channel.relayed_bytes <= RELAYED_BYTES_MAX);
    let kept = bench.gauges.relayed.load(Relaxed);
    assert_eq!(bench.gauges.lost.load(Relaxed), 200 - kept);
    let lines = bench.read_all();
    assert_eq!(lines.len() as u64, kept);
    assert!(lines.iter().enumerate().all(|(n, line)| *line == long(n)));
    assert_eq!(bench.channel.relayed_bytes, 0);
    bench.relay("again");
    assert_eq!(bench.read_all(), ["again"]);
}

#[test]
fn our_own_words_do_not_wait_for_siblings() {
    let mut bench = Bench::new();
    for number in 0..200 {
        bench.relay(&long(number));
    }
    bench.send("ours");
    let lines = bench.read_all();
    let at = lines.iter().position(|line| line == "ours").expect("sent");
    // Behind what the kernel had taken, and the line that was begun.
    assert!(at < 10, "at {at}");
}

#[test]
fn a_worker_that_is_gone_costs_nothing() {
    let mut bench = Bench::new();
    for number in 0..20 {
        bench.relay(&long(number));
    }
    let (_, elsewhere) = UnixStream::pair().expect("socketpair");
    bench.worker = elsewhere;
    bench.channel.flush(&bench.epoll);
    assert_eq!(bench.channel.relayed_bytes, 0);
    assert!(!bench.channel.awaits_room);
}

/// Node takes the descriptor of a message's first line and loses any other.
#[test]
fn descriptors_go_one_with_each_line() {
    const COUNT: usize = 200;
    let mut bench = Bench::new();
    // So much waits that several messages are due when the worker begins to read.
    for _ in 0..10 {
        bench.send(&long(0));
    }
    for number in 1..=COUNT {
        let socket = OwnedFd::from(std::fs::File::open("/dev/null").expect("opens"));
        let message = Message {
            line: Line::from(format!("{number}\n").as_bytes()),
            passed: Passed::Own(socket),
        };
        bench.channel.send(message, &bench.epoll);
    }
    let mut buffer = vec![0; 1 << 16];
    let mut arrived = Vec::new();
    while arrived.len() < COUNT {
        match receive(bench.worker.as_fd(), &mut buffer) {
            Ok((_, 0)) => {}
            Ok((count, passed)) => {
                assert_eq!(passed, 1);
                let text = std::str::from_utf8(&buffer[..count]).expect("what we sent");
                // A read goes no further than to what came with a descriptor.
                let last = text.lines().last().expect("a line");
                arrived.push(last.parse::<usize>().expect("a number"));
            }
            Err(_) => {
                assert!(bench.channel.awaits_room, "nothing is lost");
                bench.channel.flush(&bench.epoll);
            }
        }
    }
    assert_eq!(arrived, (1..=COUNT).collect::<Vec<_>>());
}

#[test]
fn a_descriptor_passes_only_where_one_read_takes_its_line_whole() {
    let mut ahead = Ahead::Bytes(0);
    assert!(ahead.lets_pass(700, || unreachable!("nothing is ahead of it")));
    ahead.add(READ_BYTES - 700);
    assert!(ahead.lets_pass(700, || unreachable!("both fit into one read")));
    ahead.add(1);
    assert!(!ahead.lets_pass(700, || READ_BYTES));
    // Most of it has been read already.
    assert!(ahead.lets_pass(700, || 1000));
    ahead.passed(true);
    assert_eq!(ahead, Ahead::Bytes(0));
    // Written in part: what follows must not come with another descriptor.
    ahead.passed(false);
    assert!(!ahead.lets_pass(700, || 1));
    assert!(ahead.lets_pass(700, || 0));
    assert!(!Ahead::Bytes(0).lets_pass(READ_BYTES + 1, || 0));
}

/// Node keeps one descriptor at a time: the rest of a line that was cut would get the next one's.
#[test]
fn beside_broadcasts_no_read_ends_inside_a_line_with_a_descriptor() {
    use front::roster::{Looks, Offer, Verdict};
    use std::sync::atomic::AtomicUsize;
    let mut bench = Bench::new();
    let came_back = Arc::new(AtomicUsize::new(0));
    let (mut text, mut passed) = (Vec::new(), 0);
    for round in 0..30 {
        // Each round another part of the first offer's line stands where a read of Node's ends.
        for _ in 0..62 {
            bench.relay(&"b".repeat(1023));
        }
        bench.relay(&"b".repeat(400 + round * 40));
        for _ in 0..3 {
            let counter = Arc::clone(&came_back);
            let answer = move |verdict| {
                if let Verdict::Back(_) = verdict {
                    counter.fetch_add(1, Relaxed);
                }
            };
            let (seq, line) = bench.channel.offers.begin(Offer {
                socket: std::fs::File::open("/dev/null").expect("opens").into(),
                looks: Looks::UNKNOWN,
                head: vec![b'h'; 600],
                cookie: None,
                answer: Box::new(answer),
            });
            let passed = Passed::Offered(seq);
            let line = Line::from(line);
            bench.channel.send(Message { line, passed }, &bench.epoll);
        }
        let mut buffer = vec![0; READ_BYTES];
        while let Ok((count, descriptors)) = receive(bench.worker.as_fd(), &mut buffer) {
            text.extend_from_slice(&buffer[..count]);
            passed += descriptors;
            if descriptors > 0 {
                assert_eq!(text.last(), Some(&b'\n'), "cut in round {round}");
            }
        }
    }
    assert_eq!(
        passed + came_back.load(Relaxed),
        90,
        "each goes or comes back"
    );
    assert!(
        passed > 0 && came_back.load(Relaxed) > 0,
        "both have happened"
    );
}
