//! The order in which everything stops. On the conductor's thread, which goes on reaping meanwhile.

use super::reloads::Reloads;
use super::signals::Heard;
use crate::admin::Order;
use crate::config::plan::Plan;
use crate::fleet::Fleet;
use front::channel::Receiver;
use front::server::Server;
use log::{error, info, warn};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How often a waiting stop looks whether it is to hurry.
const GLANCE: Duration = Duration::from_millis(20);
/// What the workers' ladder may take beyond the longest `kill_timeout`: two rungs and the reaping.
const LADDER_SLACK: Duration = Duration::from_secs(15);
/// What may ask the conductor for something.
pub struct Asked {
    pub signals: Heard,
    /// From the control socket.
    pub orders: Receiver<Order>,
}

/// No new connections, what is in flight, the workers' ladder, what is left: in this order. A second signal hurries.
pub fn stop(plan: &Plan, mut server: Server, fleet: &Fleet, asked: &Asked, reloads: &Reloads) {
    reloads.notify.stopping();
    // True if another stop signal has come. Children are reaped all the while.
    let hurried = || {
        reloads.notify.pulse();
        let is_stop = |order: &Order| matches!(order, Order::Stop);
        let mut hurried = asked.orders.try_iter().filter(is_stop).count() > 0;
        for signal in asked.signals.receiver().try_iter() {
            match signal {
                SIGCHLD => fleet.child_signal(),
                SIGTERM | SIGINT => hurried = true,
                _ => {}
            }
        }
        hurried
    };
    server.begin_drain();
    let patience = plan.shutdown_timeout;
    info!(
        "stopping: no new connections; {} unfinished, given {} s (a second signal hurries)",
        server.unfinished(),
        patience.as_secs_f64()
    );
    let told_again = Cell::new(false);
    let drained = server.wait_drained(patience, &|| {
        told_again.set(told_again.get() || hurried());
        told_again.get()
    });
    match drained {
        true => info!("stopping: nothing is in flight any more; the workers are next"),
        false => warn!(
            "stopping: {} unfinished are not waited for; the workers are next",
            server.unfinished()
        ),
    }
    fleet.stop();
    if told_again.get() {
        fleet.hurry();
    }
    let end = Instant::now() + reloads.kill_timeout_max + LADDER_SLACK;
    while !fleet.wait_stopped(Instant::now() + GLANCE) {
        if hurried() {
            warn!("stopping: told again; the workers' next step is taken now");
            fleet.hurry();
        }
        if Instant::now() >= end {
            error!(
                "stopping: workers are left that SIGKILL did not end; the guard goes on killing them"
            );
            break;
        }
    }
    server.close();
    info!("stopped");
}
