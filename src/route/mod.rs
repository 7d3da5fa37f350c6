//! Which app, and which worker: decisions only, no I/O. Runs on the pool threads.
//!
//! [`Router`] joins the three rules in their order: `rules` finds the app, `sticky` the worker
//! that owns the request's session, and where no session decides, `balance` chooses.

pub mod balance;
pub mod rules;
pub mod sticky;

use crate::http::head::Request;
use crate::http::sniff;
use crate::roster::{App, Availability, Roster, Slot, View, Worker};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use rules::Rules;
pub use sticky::{Home, Known, Sessions};

/// Why a request went to its worker. The words appear in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The engine.io session of the query.
    Sid,
    /// A cookie that the app binds clients with.
    Cookie,
    /// The app's policy.
    Policy,
    /// The worker chosen before could not be reached.
    Moved,
}

/// Where a request goes.
#[derive(Debug)]
pub enum Decision {
    /// To this worker of this app (indices into the roster).
    Worker { app: usize, worker: usize, why: Why },
    /// Its engine.io session belonged to a life that has ended, or that leaves: to be answered as engine.io
    /// answers an unknown session, so that the client opens a new one at once.
    SessionGone,
    /// No app has this route.
    NoApp,
    /// The app has no worker that can take it.
    NoWorker,
}

/// The session tables, shared by all pool threads.
#[derive(Debug)]
pub struct Tables {
    /// engine.io `sid`s.
    pub engine: Sessions,
    /// Cookies of the names that an app's configuration lists.
    pub cookies: Sessions,
}

/// How long an engine.io session is remembered after it was last asked for. A polling client asks
/// every 25 s; one that has moved to WebSocket does not ask again.
const ENGINE_SECS: u64 = 3600;
/// How long a cookie is remembered after the client last sent it.
const COOKIE_SECS: u64 = 24 * 3600;

impl Tables {
    /// Tables that hold up to `sessions_max` sessions each.
    pub fn new(sessions_max: usize) -> Self {
        Tables {
            engine: Sessions::new(sessions_max, Duration::from_secs(ENGINE_SECS)),
            cookies: Sessions::new(sessions_max, Duration::from_secs(COOKIE_SECS)),
        }
    }
}

/// One pool thread's router.
#[derive(Debug)]
pub struct Router {
    view: View,
    rules: Rules,
    tables: Arc<Tables>,
}

impl Router {
    pub fn new(view: View, tables: Arc<Tables>) -> Self {
        let rules = Rules::new(view.roster());
        Router {
            view,
            rules,
            tables,
        }
    }

    /// Takes the newest roster; true if it had changed.
    pub fn refresh(&mut self) -> bool {
        let changed = self.view.refresh();
        if changed {
            self.rules = Rules::new(self.view.roster());
        }
        changed
    }

    pub fn roster(&self) -> &Arc<Roster> {
        self.view.roster()
    }

    /// Decides for one request. `client` is the peer's address; slots in `failed` are avoided
    /// where no session binds to them; `now_ms` is the pool's clock.
    pub fn decide(
        &self,
        request: &Request<'_, '_>,
        client: Option<IpAddr>,
        failed: &[Slot],
        now_ms: u64,
    ) -> Decision {
        let roster = self.view.roster();
        let Some(index) = self.rules.find(request.host, request.path) else {
            return Decision::NoApp;
        };
        let Some(app) = roster.apps.get(index) else {
            return Decision::NoApp;
        };
        match self.owner(app, request, now_ms) {
            Owner::Worker(worker, why) => Decision::Worker {
                app: index,
                worker,
                why,
            },
            Owner::Gone => Decision::SessionGone,
            Owner::Nobody => self.balanced(index, client, failed, Why::Policy),
        }
    }

    /// Chooses among the workers of an app, leaving out the slots that have just failed.
    pub fn balanced(
        &self,
        app: usize,
        client: Option<IpAddr>,
        failed: &[Slot],
        why: Why,
    ) -> Decision {
        let Some(entry) = self.view.roster().apps.get(app) else {
            return Decision::NoApp;
        };
        match balance::choose(entry, client, failed) {
            Some(worker) => Decision::Worker { app, worker, why },
            None => Decision::NoWorker,
        }
    }

    fn owner(&self, app: &App, request: &Request<'_, '_>, now_ms: u64) -> Owner {
        // The query beats the cookies: two tabs share one cookie jar, and a cookie may be stale.
        if let Some(sid) = engine_sid(request) {
            if let Some(home) = self.tables.engine.find(&app.name, sid.as_bytes(), now_ms) {
                return match alive(app, home) {
                    Some(worker) if has_to_go(app, worker, sid, now_ms) => Owner::Gone,
                    Some(worker) => Owner::Worker(worker, Why::Sid),
                    None => Owner::Gone,
                };
            }
        }
        for name in app.session_cookies.iter() {
            let Some(value) = request.cookie(name) else {
                continue;
            };
            let found = self
                .tables
                .cookies
                .find(&app.name, value.as_bytes(), now_ms);
            if let Some(worker) = found.and_then(|home| alive(app, home)) {
                return Owner::Worker(worker, Why::Cookie);
            }
        }
        Owner::Nobody
    }

    /// Remembers that an engine.io session lives on this worker.
    pub fn learn_engine(&self, app: &App, worker: &Worker, sid: &[u8], now_ms: u64) {
        self.tables
            .engine
            .learn(&app.name, sid, home(worker), now_ms);
    }

    /// Remembers that a cookie's value was given out by this worker.
    pub fn learn_cookie(&self, app: &App, worker: &Worker, value: &[u8], now_ms: u64) {
        self.tables
            .cookies
            .learn(&app.name, value, home(worker), now_ms);
    }
}

enum Owner {
    Worker(usize, Why),
    Gone,
    Nobody,
}

/// The `sid` of an engine.io request's query. Parsed, not searched for: `connect.sid` cookies and
/// `Referer` fields hold the same letters.
pub fn engine_sid<'b>(request: &Request<'_, 'b>) -> Option<&'b str> {
    if sniff::is_engine_request(request) {
        request.query_value("sid")
    } else {
        None
    }
}

fn home(worker: &Worker) -> sticky::Home {
    sticky::Home {
        slot: worker.slot,
        life: worker.life,
    }
}

/// Whether the worker leaves and it is this session's turn to go. Its client opens a new one.
fn has_to_go(app: &App, worker: usize, sid: &str, now_ms: u64) -> bool {
    let drain = app.workers.get(worker).and_then(|worker| worker.drain);
    drain.is_some_and(|drain| {
        let lot = BuildHasherDefault::<DefaultHasher>::default().hash_one(sid);
        drain.due_ms(lot) <= now_ms
    })
}

/// The index of the worker, if that very life can still be asked.
fn alive(app: &App, home: sticky::Home) -> Option<usize> {
    app.workers.iter().position(|w| {
        w.slot == home.slot
            && w.life == home.life
            && matches!(
                w.availability,
                Availability::Serving | Availability::Draining
            )
    })
}
