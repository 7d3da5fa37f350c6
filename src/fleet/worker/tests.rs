//! The life of a worker as tables: what happens, when, and what is to be done then.

use super::*;
use crate::fleet::rules::HangRules;
use crate::fleet::spec::RestartPolicy;
use front::sys::process::Exit;

const PID: u32 = 100;

fn pid() -> Pid {
    Pid::new(PID).expect("above 1")
}

fn rules() -> Rules {
    Rules {
        restart: RestartPolicy {
            max_restarts: 4,
            ..RestartPolicy::default()
        },
        wait_ready: false,
        listen_timeout: Duration::from_secs(3),
        kill_timeout: Duration::from_millis(1600),
        drain_rate: 10,
        drain_timeout: Duration::from_secs(20),
        hang: HangRules::default(),
        memory_max: None,
        channel: true,
    }
}

/// A worker, its rules, and a clock that only the test moves.
struct Story {
    worker: Worker,
    rules: Rules,
    now: Instant,
}

impl Story {
    fn new() -> Story {
        Story::with(rules())
    }

    fn with(rules: Rules) -> Story {
        let now = Instant::now();
        Story {
            worker: Worker::new(now),
            rules,
            now,
        }
    }

    fn after(&mut self, millis: u64) -> &mut Story {
        self.now += Duration::from_millis(millis);
        self
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.worker.next(event, self.now, &self.rules)
    }

    /// Starts the next life, which must be due.
    fn spawn(&mut self) -> &mut Story {
        assert_eq!(self.on(Event::Clock), [Action::Spawn]);
        assert_eq!(self.on(Event::Spawned { pid: pid() }), []);
        self
    }

    fn listen(&mut self) -> Vec<Action> {
        let life = self.worker.life;
        self.on(Event::Listens { life })
    }

    fn die(&mut self, exit: Exit) -> Vec<Action> {
        self.on(Event::Died {
            pid: pid(),
            exit,
            group_left: false,
        })
    }

    /// What follows a death by exit code 1.
    fn crash(&mut self) -> Next {
        match self.die(Exit::Code(1)).as_slice() {
            [Action::TellDeath { next, .. }] => *next,
            other => panic!("{other:?}"),
        }
    }

    fn availability(&self) -> Availability {
        self.worker.availability(&self.rules, true)
    }

    fn ready() -> Story {
        let mut story = Story::new();
        story.spawn().after(10).listen();
        story
    }
}

fn restart(millis: u64) -> Next {
    Next::Restart {
        delay: Duration::from_millis(millis),
    }
}

fn step(rung: Rung) -> [Action; 1] {
    [Action::Step { group: pid(), rung }]
}

#[test]
fn a_worker_comes_up() {
    let mut story = Story::new();
    assert_eq!(story.availability(), Availability::Coming);
    story.spawn();
    assert_eq!(story.availability(), Availability::Coming);
    let took = Duration::from_millis(70);
    assert_eq!(story.after(70).listen(), [Action::TellReady { took }]);
    assert_eq!(story.availability(), Availability::Serving);
    assert_eq!(story.worker.deadline(), None);
    assert_eq!(story.listen(), [], "said again");
}

#[test]
fn wait_ready_needs_both_words_in_any_order() {
    for listens_first in [true, false] {
        let mut story = Story::with(Rules {
            wait_ready: true,
            ..rules()
        });
        story.spawn();
        let (listens, ready) = (Event::Listens { life: 1 }, Event::SaidReady { life: 1 });
        let (first, second) = if listens_first {
            (listens, ready)
        } else {
            (ready, listens)
        };
        assert_eq!(story.on(first), []);
        assert_eq!(story.on(second).len(), 1);
        assert_eq!(story.availability(), Availability::Serving);
    }
}

#[test]
fn a_first_crash_is_followed_at_once_and_the_next_ones_ever_later() {
    let mut story = Story::new();
    for delay in [0, 100, 200] {
        assert_eq!(story.spawn().crash(), restart(delay));
        assert_eq!(story.availability(), Availability::Coming);
        if delay > 0 {
            assert_eq!(story.after(delay - 1).on(Event::Clock), [], "too early");
            story.after(1);
        }
    }
}

#[test]
fn who_keeps_failing_is_errored_and_tried_slowly_for_ever() {
    let mut story = Story::new();
    for delay in [0, 100, 200] {
        assert_eq!(story.spawn().crash(), restart(delay));
        story.after(delay);
    }
    let delay = Duration::from_secs(30);
    assert_eq!(story.spawn().crash(), Next::Errored { delay, first: true });
    for _ in 0..100 {
        assert_eq!(story.availability(), Availability::Down);
        story.after(30_000).spawn();
        assert_eq!(
            story.availability(),
            Availability::Down,
            "not trusted before it is ready"
        );
        assert_eq!(
            story.crash(),
            Next::Errored {
                delay,
                first: false
            }
        );
    }
    story.after(30_000).spawn().listen();
    assert_eq!(story.availability(), Availability::Serving);
}

#[test]
fn a_good_life_is_ready_for_min_uptime_and_clears_the_count() {
    let rows = [
        (true, 999, restart(200)),
        (true, 1000, restart(0)),
        (false, 1000, restart(200)),
    ];
    for (listens, lived, next) in rows {
        let mut story = Story::new();
        assert_eq!(story.spawn().crash(), restart(0));
        assert_eq!(story.spawn().crash(), restart(100));
        story.after(100).spawn();
        if listens {
            story.listen();
        }
        assert_eq!(story.after(lived).crash(), next, "{listens} {lived}");
    }
}

#[test]
fn a_process_that_cannot_be_started_is_a_failure_but_no_life() {
    let mut story = Story::new();
    assert_eq!(story.on(Event::Clock), [Action::Spawn]);
    let next = restart(0);
    assert_eq!(
        story.on(Event::SpawnFailed),
        [Action::TellDeath {
            pid: None,
            exit: None,
            next
        }]
    );
    assert_eq!((story.worker.failures, story.worker.life), (1, 1));
}

#[test]
fn exit_codes_can_mean_that_it_is_finished() {
    let restart = RestartPolicy {
        stop_exit_codes: vec![0, 7],
        ..RestartPolicy::default()
    };
    for (exit, stays) in [
        (Exit::Code(0), true),
        (Exit::Code(7), true),
        (Exit::Code(1), false),
        (Exit::Signal(7), false),
    ] {
        let mut story = Story::with(Rules {
            restart: restart.clone(),
            ..rules()
        });
        story.spawn().listen();
        let _ = story.die(exit);
        assert_eq!(story.worker.state == State::Stopped, stays, "{exit}");
    }
}

#[test]
fn who_never_listens_is_killed_and_has_failed() {
    let mut story = Story::new();
    story.spawn();
    assert_eq!(story.after(2999).on(Event::Clock), []);
    let condemn = Action::Condemn {
        group: pid(),
        listens: false,
    };
    assert_eq!(story.after(1).on(Event::Clock), [condemn]);
    assert_eq!(story.listen(), [], "too late");
    assert_eq!(
        story.after(5000).on(Event::Clock),
        [Action::Insist { group: pid() }]
    );
    assert_eq!(story.crash(), restart(0));
    assert_eq!(story.worker.failures, 1);
}

#[test]
fn time_in_which_we_stood_still_is_given_back() {
    let mut story = Story::new();
    story.spawn().after(60_000);
    story.worker.postpone(Duration::from_secs(57));
    assert_eq!(story.on(Event::Clock).len(), 1, "not more than that");
    let mut story = Story::new();
    story.spawn().after(60_000);
    story.worker.postpone(Duration::from_secs(58));
    assert_eq!(story.on(Event::Clock), []);
}

#[test]
fn an_app_may_close_its_server_and_listen_again() {
    let mut story = Story::ready();
    assert_eq!(story.on(Event::Closed { life: 1 }), []);
    assert_eq!(story.availability(), Availability::Coming);
    assert_eq!(story.listen(), []);
    assert_eq!(story.availability(), Availability::Serving);
}

#[test]
fn an_app_that_closes_its_server_and_stays_is_killed() {
    let mut story = Story::ready();
    let _ = story.after(1000).on(Event::Closed { life: 1 });
    assert_eq!(story.after(59_999).on(Event::Clock), []);
    assert_eq!(
        story.after(1).on(Event::Clock),
        [Action::CondemnClosed { group: pid() }]
    );
}

#[test]
fn an_app_that_closes_its_server_and_ends_is_started_again() {
    for (lived, failures) in [(1000, 0), (10, 1)] {
        let mut story = Story::ready();
        let _ = story.after(lived).on(Event::Closed { life: 1 });
        assert_eq!(story.after(5000).crash(), restart(0));
        assert_eq!(story.worker.failures, failures);
    }
}

#[test]
fn the_ladder_takes_its_time() {
    let mut story = Story::ready();
    assert_eq!(story.on(Event::Stop), step(Rung::Message));
    assert_eq!(story.availability(), Availability::Down);
    assert_eq!(story.on(Event::Stop), [], "asked twice");
    assert_eq!(story.after(399).on(Event::Clock), []);
    assert_eq!(story.after(1).on(Event::Clock), step(Rung::Terminate));
    assert_eq!(story.after(1199).on(Event::Clock), []);
    assert_eq!(story.after(1).on(Event::Clock), step(Rung::Kill));
    assert_eq!(
        story.after(5000).on(Event::Clock),
        [Action::Insist { group: pid() }]
    );
    let told = story.die(Exit::Signal(9));
    assert!(matches!(
        told[..],
        [Action::TellDeath {
            next: Next::WasAsked,
            ..
        }]
    ));
    assert_eq!(story.worker.state, State::Stopped);
    assert_eq!(story.worker.deadline(), None);
}

#[test]
fn without_a_channel_the_ladder_begins_with_the_signal() {
    let mut story = Story::with(Rules {
        channel: false,
        ..rules()
    });
    story.spawn().listen();
    assert_eq!(story.on(Event::Stop), step(Rung::Terminate));
    assert_eq!(story.after(1600).on(Event::Clock), step(Rung::Kill));
}

#[test]
fn a_worker_that_has_finished_is_not_waited_for() {
    let mut story = Story::ready();
    let _ = story.on(Event::Stop);
    assert_eq!(story.on(Event::Closed { life: 1 }), step(Rung::Terminate));
    assert_eq!(
        story.on(Event::Closed { life: 1 }),
        [],
        "never faster than that"
    );
}

#[test]
fn hurry_takes_the_next_rung() {
    let mut story = Story::ready();
    let _ = story.on(Event::Stop);
    assert_eq!(story.on(Event::Hurry), step(Rung::Terminate));
    assert_eq!(story.on(Event::Hurry), step(Rung::Kill));
    assert_eq!(story.on(Event::Hurry), []);
}

#[test]
fn what_a_worker_leaves_behind_climbs_the_same_ladder() {
    let mut story = Story::ready();
    let _ = story.on(Event::Stop);
    let _ = story.on(Event::Hurry);
    let died = Event::Died {
        pid: pid(),
        exit: Exit::Signal(15),
        group_left: true,
    };
    assert_eq!(story.on(died).len(), 1);
    assert_eq!(
        (story.worker.pid(), story.worker.group()),
        (None, Some(pid()))
    );
    assert_eq!(story.after(1200).on(Event::Clock), step(Rung::Kill));
    let stranger = Pid::new(PID + 1).expect("above 1");
    assert_eq!(story.on(Event::GroupGone { group: stranger }), []);
    assert_ne!(story.worker.state, State::Stopped);
    assert_eq!(story.on(Event::GroupGone { group: pid() }), []);
    assert_eq!(story.worker.state, State::Stopped);
}

#[test]
fn a_stop_finds_every_state() {
    let waiting = Story::new();
    let mut starting = Story::new();
    starting.spawn();
    let mut closed = Story::ready();
    let _ = closed.on(Event::Closed { life: 1 });
    let mut condemned = Story::new();
    let _ = condemned.spawn().after(3000).on(Event::Clock);
    let mut pausing = Story::new();
    let _ = pausing.spawn().crash();
    let rows: [(&str, Story, &[Action]); 6] = [
        ("waiting", waiting, &[]),
        ("starting", starting, &step(Rung::Message)),
        ("ready", Story::ready(), &step(Rung::Message)),
        ("closed", closed, &step(Rung::Message)),
        ("condemned", condemned, &[]),
        ("pausing", pausing, &[]),
    ];
    for (name, mut story, actions) in rows {
        assert_eq!(story.on(Event::Stop), actions, "{name}");
        assert_eq!(story.availability(), Availability::Down, "{name}");
        if story.worker.pid().is_some() {
            let _ = story.die(Exit::Code(0));
        }
        assert_eq!(story.worker.state, State::Stopped, "{name}");
        assert_eq!(
            story.after(100_000).on(Event::Clock),
            [],
            "{name} stays down"
        );
    }
}

#[test]
fn late_words_of_an_earlier_life_change_nothing() {
    let mut story = Story::ready();
    let _ = story.crash();
    story.spawn();
    let before = story.worker.clone();
    let other = Pid::new(PID + 1).expect("above 1");
    for event in [
        Event::Listens { life: 1 },
        Event::SaidReady { life: 1 },
        Event::Closed { life: 1 },
        Event::Died {
            pid: other,
            exit: Exit::Code(0),
            group_left: false,
        },
        Event::GroupGone { group: other },
        Event::Spawned { pid: other },
        Event::SpawnFailed,
    ] {
        assert_eq!(story.on(event), [], "{event:?}");
        assert_eq!(story.worker, before, "{event:?}");
    }
}

#[test]
fn a_life_is_over_as_soon_as_it_has_ended() {
    let mut story = Story::ready();
    assert_eq!(story.worker.life, 1);
    let _ = story.crash();
    assert_eq!(
        story.worker.life, 2,
        "sessions of the dead life are lost from now on"
    );
    story.spawn();
    assert_eq!(story.worker.life, 2);
}

#[test]
fn without_a_listener_nothing_waits_for_the_next_life() {
    let mut story = Story::new();
    assert_eq!(
        story.worker.availability(&story.rules, false),
        Availability::Down
    );
    story.spawn().listen();
    assert_eq!(
        story.worker.availability(&story.rules, false),
        Availability::Serving
    );
}

#[test]
fn one_that_leaves_serves_until_nobody_is_left() {
    let enough = [
        (19_999, Event::Drained { life: 1 }),
        (20_000, Event::Clock),
        (1, Event::Closed { life: 1 }),
        (1, Event::Stop),
        (1, Event::Hurry),
    ];
    for (after, event) in enough {
        let mut story = Story::ready();
        assert_eq!(story.on(Event::Drain), [Action::Drain]);
        assert_eq!(story.availability(), Availability::Draining);
        assert_eq!(story.on(Event::Drain), [], "it leaves already");
        assert_eq!(story.on(Event::Clock), []);
        assert_eq!(story.on(Event::Drained { life: 2 }), [], "of another life");
        assert_eq!(story.after(after).on(event), step(Rung::Message));
        assert_eq!(story.availability(), Availability::Down);
        assert_eq!(story.crash(), Next::WasAsked);
        assert_eq!(story.worker.state, State::Stopped);
    }
}

#[test]
fn one_that_is_spared_is_never_hurried_by_the_clock() {
    let mut story = Story::ready();
    assert_eq!(story.on(Event::Spare), [Action::Drain]);
    assert_eq!(story.worker.deadline(), None);
    assert_eq!(story.after(1_000_000).on(Event::Clock), []);
    assert_eq!(story.availability(), Availability::Draining);
    assert_eq!(story.on(Event::Drained { life: 1 }), step(Rung::Message));
}

#[test]
fn one_that_dies_while_it_leaves_is_not_started_again() {
    let mut story = Story::ready();
    let _ = story.on(Event::Drain);
    assert_eq!(story.crash(), Next::WasAsked);
    assert_eq!(story.worker.state, State::Stopped);
}

#[test]
fn one_that_serves_nobody_yet_leaves_at_once() {
    let mut story = Story::new();
    let _ = story.on(Event::Drain);
    assert_eq!(story.worker.state, State::Stopped);
    let mut story = Story::new();
    assert_eq!(story.spawn().on(Event::Drain), step(Rung::Message));
}

#[test]
fn a_drain_is_spread_by_its_rate_and_within_its_timeout() {
    // `rules` says 10 a second and 20 s.
    for (open, millis) in [(0, 0), (1, 100), (50, 5000), (10_000, 16_000)] {
        assert_eq!(rules().drain_spread(open), Duration::from_millis(millis));
    }
    let at_once = Rules {
        drain_rate: 0,
        ..rules()
    };
    assert_eq!(at_once.drain_spread(1000), Duration::ZERO);
}

#[test]
fn a_restart_is_a_stop_with_a_new_life_after_it() {
    let mut story = Story::new();
    story.spawn().listen();
    let steps = story.on(Event::Restart);
    assert!(matches!(
        steps.as_slice(),
        [Action::Step {
            rung: Rung::Message,
            ..
        }]
    ));
    // Who connects meanwhile waits in the listener for the new life.
    let availability = |story: &Story, listener| story.worker.availability(&story.rules, listener);
    assert_eq!(availability(&story, true), Availability::Coming);
    assert_eq!(availability(&story, false), Availability::Down);
    story.die(Exit::Code(0));
    assert_eq!((story.worker.life, story.worker.failures), (2, 0));
    story.spawn().listen();
    assert_eq!(availability(&story, true), Availability::Serving);
    // The wish is fulfilled: the next stop is one for good.
    story.on(Event::Stop);
    story.die(Exit::Code(0));
    assert_eq!(story.worker.state, State::Stopped);
}

#[test]
fn a_stop_beats_the_restart_that_is_under_way() {
    let mut story = Story::new();
    story.spawn().listen();
    story.on(Event::Restart);
    story.on(Event::Stop);
    story.die(Exit::Code(0));
    assert_eq!(story.worker.state, State::Stopped);
}

#[test]
fn a_restart_ends_every_delay_and_forgets_every_failure() {
    let mut story = Story::new();
    for _ in 0..4 {
        story.after(60_000).spawn().crash();
    }
    assert!(story.worker.errored(&story.rules));
    story.on(Event::Restart);
    assert_eq!(story.worker.failures, 0);
    story.spawn();
}

#[test]
fn one_that_hangs_is_killed_and_replaced_at_once() {
    let mut story = Story::ready();
    let life = story.worker.life;
    story.after(60_000);
    let condemn = Action::CondemnHung { group: pid() };
    assert_eq!(story.on(Event::Hung { life: life + 1 }), [], "another life");
    assert_eq!(story.on(Event::Hung { life }), [condemn]);
    // What waits in its socket is served by the next life.
    assert_eq!(story.availability(), Availability::Coming);
    assert_eq!(story.on(Event::Hung { life }), [], "said again");
    let insist = Action::Insist { group: pid() };
    assert_eq!(story.after(5000).on(Event::Clock), [insist]);
    let death = story.die(Exit::Signal(9));
    let [Action::TellDeath { next, .. }] = death.as_slice() else {
        panic!("{death:?}");
    };
    assert_eq!(*next, restart(0));
    assert_eq!(story.worker.failures, 0, "it had served");
}

#[test]
fn one_that_hangs_while_it_leaves_is_not_asked_any_more() {
    let mut story = Story::ready();
    let life = story.worker.life;
    assert_eq!(story.on(Event::Drain), [Action::Drain]);
    assert_eq!(story.on(Event::Hung { life }), step(Rung::Kill));
    story.die(Exit::Signal(9));
    assert_eq!(story.worker.state, State::Stopped);
}
