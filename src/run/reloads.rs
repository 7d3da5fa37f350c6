//! How a reload begins: the configuration is read anew, and the fleet follows it. What is remembered over all
//! reloads is here as well. On the conductor's thread.

use super::banner::Arrival;
use super::notify::Notify;
use super::renewals::Renewals;
use crate::config::plan::Plan;
use crate::fleet::{Fleet, Progress};
use front::channel::Receiver;
use log::{error, warn};
use std::time::Duration;

/// Reads the configuration again, as it was read for the plan that runs.
pub type ReadAnew = Box<dyn Fn() -> Result<Plan, String> + Send>;

/// What a reload needs, and what is remembered over all of them.
pub struct Reloads {
    pub notify: Notify,
    pub read_anew: ReadAnew,
    /// The longest one of all apps that ever ran.
    pub kill_timeout_max: Duration,
    pub renewals: Renewals,
}

impl Reloads {
    /// Reads the configuration, and has the fleet follow it. What cannot be read changes nothing.
    pub fn begin(
        &mut self,
        fleet: &Fleet,
        arrivals: &mut [Arrival],
        first: &Plan,
        only: Option<String>,
    ) -> Result<Receiver<Progress>, String> {
        self.notify.reloading();
        let next = (self.read_anew)().inspect_err(|why| {
            error!("reload: refused, everything stays as it is: {why}");
            self.notify.ready();
        })?;
        if let Some(name) = only.as_deref()
            && !next.apps.iter().any(|app| app.name == name)
            && !fleet.snapshot().iter().any(|worker| *worker.app == *name)
        {
            self.notify.ready();
            return Err(format!("the configuration has no app `{name}`"));
        }
        for warning in &next.warnings {
            warn!("{warning}");
        }
        for key in first.options.wait_for_a_start(&next.options) {
            warn!("reload: `{key}` has changed, and stays as it was until the next start");
        }
        for left in &next.left_out {
            warn!("left out {}: {}", left.name, left.reason);
        }
        // Who waits for the addresses does not wait for an app that is no more.
        for (app, arrival) in first.apps.iter().zip(arrivals) {
            let stays = next.apps.iter().any(|other| other.name == app.name);
            if !stays && *arrival == Arrival::Coming {
                *arrival = Arrival::Failing;
            }
        }
        self.kill_timeout_max = self.kill_timeout_max.max(longest_kill_timeout(&next));
        self.renewals.follow(&next.apps, only.as_deref());
        Ok(fleet.reload(next.apps, only))
    }
}

pub fn longest_kill_timeout(plan: &Plan) -> Duration {
    let timeouts = plan.apps.iter().map(|app| app.kill_timeout);
    timeouts.max().unwrap_or_default()
}
