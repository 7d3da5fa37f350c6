//! Scaling by hand: somebody says how many workers an app is to have, until a reload. What is asked
//! for is only noted here; the next look does it. Runs on the supervisor thread.

use crate::fleet::app::App;
use crate::fleet::scale::policy::Limits;
use crate::fleet::scale::{Aim, ScaleOrder, Target};
use crate::fleet::supervisor::Supervisor;
use log::info;
use std::time::Instant;

impl Supervisor {
    /// By hand.
    pub fn scale(&mut self, order: ScaleOrder, now: Instant) {
        let outcome = self.aim_at(&order.app, order.target);
        if outcome.is_ok() {
            self.scaling.due = now;
            self.changed = true;
        }
        // Whoever asked may have left.
        let _ = order.answer.send(outcome);
    }

    fn aim_at(&mut self, name: &str, target: Target) -> Result<Aim, String> {
        let found = |app: &App| *app.name == *name && app.rank.is_some();
        let Some(index) = self.apps.iter().position(found) else {
            return Err(format!("there is no app `{name}`"));
        };
        let present = i64::try_from(self.members(index).count()).unwrap_or(i64::MAX);
        let room = self.room(index, 0);
        let Some(app) = self.apps.get_mut(index) else {
            return Err(format!("there is no app `{name}`"));
        };
        let wanted = match target {
            Target::Auto => {
                app.scaling.fixed = None;
                app.scaling.held = None;
                self.published.clear();
                let Limits { min, max, .. } = app.limits();
                return Ok(match min == max {
                    true => Aim::Fixed(min),
                    false => Aim::Between(min, max),
                });
            }
            Target::Exactly(number) => i64::from(number),
            Target::By(more) => {
                let from = app.scaling.fixed.map_or(present, i64::from);
                from.saturating_add(more).max(0)
            }
        };
        let most = present.saturating_add(i64::from(room.workers));
        if wanted > most && wanted > present {
            return Err(format!(
                "{name} can have {most} workers at most: all apps together may have {} (--workers-max)",
                room.workers_max
            ));
        }
        let fixed = u32::try_from(wanted).unwrap_or(u32::MAX);
        app.scaling.fixed = Some(fixed);
        app.scaling.held = None;
        // Whether it can be woken is on the roster.
        self.published.clear();
        info!("{name}: workers: {fixed}, as somebody asked");
        Ok(Aim::Fixed(fixed))
    }
}
