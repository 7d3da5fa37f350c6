//! `sidekeeper sessions`: how many sessions each worker owns.

use crate::admin::Shared;
use crate::admin::ask::{Answer, Ask, Refusal, Reply};
use crate::admin::names;
use front::as_json;
use front::route::Home;
use std::collections::HashMap;

#[derive(Debug)]
pub struct WorkerSessions {
    pub worker: String,
    /// engine.io sessions.
    pub sids: usize,
    /// Values of session cookies.
    pub cookies: usize,
}

as_json!(struct WorkerSessions { worker, sids, cookies });

#[derive(Debug)]
pub struct SessionCounts {
    pub workers: Vec<WorkerSessions>,
    /// Of lives that have ended: remembered, so that their clients can be told.
    pub lost: usize,
}

as_json!(struct SessionCounts { workers, lost });

pub fn act(shared: &Shared, _: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    let instance = &shared.instance;
    let (mut engine, mut cookies) = (
        instance.tables.engine.count(),
        instance.tables.cookies.count(),
    );
    let workers = instance.fleet.snapshot().into_iter().map(|status| {
        let home = Home {
            slot: status.slot,
            life: status.life,
        };
        WorkerSessions {
            worker: names::worker(&status),
            sids: engine.remove(&home).unwrap_or(0),
            cookies: cookies.remove(&home).unwrap_or(0),
        }
    });
    let workers = workers.collect();
    let lost = engine.values().chain(cookies.values()).sum();
    reply.line(&SessionCounts { workers, lost })?;
    Ok(Answer::Done)
}

/// Sessions of both kinds, by the life that owns them.
pub fn counts(shared: &Shared) -> HashMap<Home, usize> {
    let tables = &shared.instance.tables;
    let mut counts = tables.engine.count();
    for (home, count) in tables.cookies.count() {
        *counts.entry(home).or_default() += count;
    }
    counts
}
