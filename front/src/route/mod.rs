//! Which app, and which worker: decisions only, no I/O. Runs on the pool threads.
//!
//! [`Router`] joins the three rules in their order: `rules` finds the app, `sticky` the worker
//! that owns the request's session, and where no session decides, `balance` chooses.

pub mod affinity;
pub mod balance;
pub mod rules;
pub mod sticky;

use crate::as_json;
use crate::http::head::{Method, Request};
use crate::http::sniff;
use crate::roster::{
    App, Availability, LastWords, Looks, Policy, Returning, Roster, Slot, View, Worker,
};
use crate::sys::clock::monotonic_ms;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use affinity::Affinity;
pub use rules::Rules;
pub use sticky::{Home, Known, Sessions};

/// Why a request went to its worker. The words appear in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The engine.io session of the query, and what the client looks like that opened it.
    Sid(Looks),
    /// The SockJS session of the path.
    Path,
    /// A cookie that the app binds clients with.
    Cookie,
    /// Our own cookie.
    Affinity,
    /// A client that has just lost its connection to this worker, or one that looks the same.
    Returned,
    /// The app's policy.
    Policy,
    /// Not the worker that was chosen before.
    Moved(Moved),
}

/// What was the matter with the worker chosen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It could not be connected to.
    Unreachable,
    /// Its backlog was full.
    NoRoom,
    /// It ended before it had answered.
    WorkerDied,
}

impl Why {
    /// All that [`Why::word`] can say.
    pub fn words() -> impl Iterator<Item = &'static str> {
        let whys = [
            Why::Sid(Looks::UNKNOWN),
            Why::Path,
            Why::Cookie,
            Why::Affinity,
            Why::Returned,
            Why::Policy,
            Why::Moved(Moved::Unreachable),
            Why::Moved(Moved::NoRoom),
            Why::Moved(Moved::WorkerDied),
        ];
        let policies = [
            Policy::RoundRobin,
            Policy::LeastBusy,
            Policy::RandomTwo,
            Policy::IpHash,
        ];
        let all = whys
            .into_iter()
            .flat_map(move |why| policies.map(|policy| (why, policy)));
        all.map(|(why, policy)| why.word(policy))
    }

    /// For logs; `policy` is the app's.
    pub fn word(self, policy: Policy) -> &'static str {
        match (self, policy) {
            (Why::Sid(_), _) => "sid",
            (Why::Path, _) => "path",
            (Why::Cookie, _) => "cookie",
            (Why::Affinity, _) => "affinity",
            (Why::Returned, _) => "returning",
            (Why::Policy, Policy::RoundRobin) => "rr",
            (Why::Policy, Policy::LeastBusy) => "least-busy",
            (Why::Policy, Policy::RandomTwo) => "random-two",
            (Why::Policy, Policy::IpHash) => "ip",
            (Why::Moved(Moved::Unreachable), _) => "moved:unreachable",
            (Why::Moved(Moved::NoRoom), _) => "moved:no-room",
            (Why::Moved(Moved::WorkerDied), _) => "moved:worker-died",
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The peer's address; None: a Unix socket.
    pub address: Option<IpAddr>,
    /// See [`Router::looks`].
    pub looks: Looks,
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
    /// The app has no worker yet: one comes if it is asked for.
    Asleep { app: usize },
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
    /// Our own cookies, which need no table.
    pub affinity: Affinity,
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
            affinity: Affinity::default(),
        }
    }
}

/// All tables, for the binary that takes over.
#[derive(Debug, Default)]
pub struct CarriedTables {
    engine: sticky::Carried,
    cookies: sticky::Carried,
    affinity: Affinity,
}

as_json!(struct CarriedTables or default { engine, cookies, affinity });

impl Tables {
    pub fn carried(&self) -> CarriedTables {
        CarriedTables {
            engine: self.engine.carried(),
            cookies: self.cookies.carried(),
            affinity: self.affinity.clone(),
        }
    }

    /// Tables of up to `sessions_max` sessions each that know what earlier ones knew.
    pub fn knowing(carried: CarriedTables, sessions_max: usize) -> Self {
        let mut tables = Tables::new(sessions_max);
        let now_ms = monotonic_ms();
        tables.engine.take_over(&carried.engine, now_ms);
        tables.cookies.take_over(&carried.cookies, now_ms);
        tables.affinity = carried.affinity;
        tables
    }
}

/// One pool thread's router.
#[derive(Debug)]
pub struct Router {
    view: View,
    rules: Rules,
    /// The index of each worker in its app: a session's is found without a look at the others.
    places: HashMap<Slot, usize>,
    tables: Arc<Tables>,
}

impl Router {
    pub fn new(view: View, tables: Arc<Tables>) -> Self {
        Router {
            rules: Rules::new(view.roster()),
            places: places(view.roster()),
            view,
            tables,
        }
    }

    /// Takes the newest roster; true if it had changed.
    pub fn refresh(&mut self) -> bool {
        let changed = self.view.refresh();
        if changed {
            self.rules = Rules::new(self.view.roster());
            self.places = places(self.view.roster());
        }
        changed
    }

    pub fn roster(&self) -> &Arc<Roster> {
        self.view.roster()
    }

    /// Clients that have just lost their connection.
    pub fn returning(&self) -> &Arc<Returning> {
        self.view.returning()
    }

    /// See [`crate::roster::Board::last_words`].
    pub fn last_words(&self) -> &LastWords {
        self.view.last_words()
    }

    /// The app that a request is for: an index into the roster.
    pub fn app(&self, request: &Request<'_, '_>) -> Option<usize> {
        self.rules.find(request.host, request.path)
    }

    /// What the client of a request looks like that opens an engine.io session.
    pub fn looks(&self, request: &Request<'_, '_>, client: Option<IpAddr>) -> Looks {
        let opens = matches!(request.method, Method::Get)
            && sniff::is_engine_request(request)
            && request.query_value("sid").is_none();
        match client {
            Some(ip) if opens => {
                let mut fields = request.fields();
                let browser = fields.find(|(name, _)| name.eq_ignore_ascii_case("user-agent"));
                let returning = self.view.returning();
                returning.looks((balance::household(ip), browser.map(|(_, value)| value)))
            }
            Some(_) | None => Looks::UNKNOWN,
        }
    }

    /// Decides for one request of `asker`; slots in `failed` are avoided where no session binds to
    /// them; `now_ms` is the pool's clock.
    pub fn decide(
        &self,
        request: &Request<'_, '_>,
        asker: Asker,
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
        let owner = match self.owner(app, request, now_ms) {
            Owner::Nobody => self.favourite(app, request, asker.looks, failed, now_ms),
            owner @ (Owner::Worker(..) | Owner::Gone) => owner,
        };
        match owner {
            Owner::Worker(worker, why) => Decision::Worker {
                app: index,
                worker,
                why,
            },
            Owner::Gone => Decision::SessionGone,
            Owner::Nobody => self.balanced(index, asker.address, failed, Why::Policy),
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
            None if entry.asleep.is_some() => Decision::Asleep { app },
            None => Decision::NoWorker,
        }
    }

    fn owner(&self, app: &App, request: &Request<'_, '_>, now_ms: u64) -> Owner {
        // The query beats the cookies: two tabs share one cookie jar, and a cookie may be stale.
        if let Some(sid) = engine_sid(request) {
            if let Some(known) = self.tables.engine.find(&app.name, sid.as_bytes(), now_ms) {
                return match self.alive(app, known) {
                    Some(worker) if has_to_go(app, worker, sid, now_ms) => Owner::Gone,
                    Some(worker) => Owner::Worker(worker, Why::Sid(known.looks)),
                    None => Owner::Gone,
                };
            }
        } else if let Some(session) = sniff::sockjs_session(request.path) {
            let tables = &self.tables.engine;
            let known = tables.find(&app.name, session.as_bytes(), now_ms);
            if let Some(worker) = known.and_then(|known| self.alive(app, known)) {
                return Owner::Worker(worker, Why::Path);
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
            if let Some(worker) = found.and_then(|known| self.alive(app, known)) {
                return Owner::Worker(worker, Why::Cookie);
            }
        }
        Owner::Nobody
    }

    /// A worker that owns nothing of this client's, but is a better choice than any other one.
    fn favourite(
        &self,
        app: &App,
        request: &Request<'_, '_>,
        looks: Looks,
        failed: &[Slot],
        now_ms: u64,
    ) -> Owner {
        if let Some(worker) = self
            .affinity(app, request)
            .filter(|slot| !failed.contains(slot))
            .and_then(|s| self.serving(app, s, None))
        {
            return Owner::Worker(worker, Why::Affinity);
        }
        let returning = self.view.returning();
        let serving = |slot, life| self.serving(app, slot, Some(life));
        let worker = returning.back(looks, now_ms, serving);
        match worker {
            Some(worker) => Owner::Worker(worker, Why::Returned),
            None => Owner::Nobody,
        }
    }

    /// The worker of this app in this slot, and its index.
    fn standing<'a>(&self, app: &'a App, slot: Slot) -> Option<(usize, &'a Worker)> {
        let index = *self.places.get(&slot)?;
        let worker = app.workers.get(index)?;
        (worker.slot == slot).then_some((index, worker))
    }

    /// The index of the worker in this slot, if it takes new sessions, and lives this life.
    fn serving(&self, app: &App, slot: Slot, life: Option<u32>) -> Option<usize> {
        let (index, worker) = self.standing(app, slot)?;
        let same = life.is_none_or(|life| worker.life == life);
        (same && worker.availability == Availability::Serving).then_some(index)
    }

    /// The index of the worker, if that very life can still be asked.
    fn alive(&self, app: &App, Known { home, .. }: Known) -> Option<usize> {
        let (index, worker) = self.standing(app, home.slot)?;
        let asked = matches!(
            worker.availability,
            Availability::Serving | Availability::Draining
        );
        (asked && worker.life == home.life).then_some(index)
    }

    /// Where our own cookie leads.
    pub fn affinity(&self, app: &App, request: &Request<'_, '_>) -> Option<Slot> {
        let value = request.cookie(app.affinity_cookie.as_deref()?)?;
        self.tables.affinity.slot(&app.name, value)
    }

    /// The `Set-Cookie` that leads to this worker. The app's scripts do not see it, other sites'
    /// requests do not send it, and over TLS it stays there.
    pub fn affinity_field(&self, app: &App, worker: &Worker, secure: bool) -> Option<String> {
        let name = app.affinity_cookie.as_deref()?;
        let value = self.tables.affinity.value(&app.name, worker.slot);
        let path = match app.routes.as_ref().map(|routes| routes.path.as_str()) {
            Some("") | None => "/",
            Some(path) => path,
        };
        let secure = if secure { "; Secure" } else { "" };
        Some(format!(
            "{name}={value}; Path={path}; HttpOnly; SameSite=Lax{secure}"
        ))
    }

    /// Remembers that an engine.io session lives on this worker.
    pub fn learn_engine(&self, app: &App, worker: &Worker, sid: &[u8], looks: Looks, now_ms: u64) {
        self.tables
            .engine
            .learn(&app.name, sid, home(worker), looks, now_ms);
    }

    /// Remembers that a cookie's value was given out by this worker.
    pub fn learn_cookie(&self, app: &App, worker: &Worker, value: &[u8], now_ms: u64) {
        self.tables
            .cookies
            .learn(&app.name, value, home(worker), Looks::UNKNOWN, now_ms);
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

fn places(roster: &Roster) -> HashMap<Slot, usize> {
    let workers = roster
        .apps
        .iter()
        .flat_map(|app| app.workers.iter().enumerate());
    workers
        .map(|(index, worker)| (worker.slot, index))
        .collect()
}

#[cfg(test)]
mod tests;
