//! What a run begins with: bound and made anew, or left to it by an earlier binary.

use super::takeover::{self, Found, Left};
use crate::admin::Asker;
use crate::config::plan::Plan;
use crate::fleet;
use front::roster::Board;
use front::server::Server;
use front::sys::carried::Baton;
use front::sys::{identity, process};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Everything is bound; nothing is served and no worker is started yet.
pub struct Bound {
    pub board: Arc<Board>,
    pub server: Server,
    pub control: Option<UnixListener>,
    pub dashboard: Option<TcpListener>,
    pub began: Instant,
    pub program: PathBuf,
    /// Some if an earlier binary has left it, its fleet as well.
    pub arrived: Option<(Arrived, fleet::Carried)>,
}

/// The end of an upgrade, to be told when everything goes on.
pub struct Arrived {
    asker: Asker,
    before: String,
    stood_still: Instant,
    complaint: Option<String>,
    /// Heard, and not obeyed.
    pub signals: Vec<i32>,
}

impl Arrived {
    pub fn tell(self) {
        let version = env!("CARGO_PKG_VERSION");
        let millis = self.stood_still.elapsed().as_millis();
        match self.complaint {
            Some(why) => self.asker.refuse(&why),
            None => self.asker.end(&format!(
                "sidekeeper {version} has taken over from {}; everything stood still for {millis} ms",
                self.before
            )),
        }
    }
}

impl Bound {
    pub fn anew(plan: &Plan) -> Result<Bound, String> {
        let board = Arc::new(Board::default());
        let server = Server::bind(plan.server.clone(), board.clone());
        Ok(Bound {
            board,
            server: server.map_err(|error| error.to_string())?,
            control: None,
            dashboard: plan.dashboard.as_deref().map(bind_dashboard).transpose()?,
            began: Instant::now(),
            // If it cannot be found, an upgrade has to name it.
            program: takeover::own_program().unwrap_or_default(),
            arrived: None,
        })
    }

    pub fn take_over(plan: &Plan, found: &Found, mut left: Left) -> Result<Bound, String> {
        let failed = |error| format!("cannot take over what was left: {error}");
        found.touch();
        identity::pass_capabilities_on(false);
        // A binary that was gone back to was called by a number.
        process::set_name(c"sidekeeper");
        let arrived = Arrived {
            asker: left.take_asker(),
            before: left.version,
            stood_still: left.stood_still,
            complaint: found.complaint.clone(),
            signals: left.signals,
        };
        let claim = |baton: Option<Baton>| baton.map(Baton::claim).transpose().map_err(failed);
        let control = claim(left.control)?.map(UnixListener::from);
        let dashboard = match claim(left.dashboard)? {
            Some(listener) => Some(TcpListener::from(listener)),
            None => match &plan.dashboard {
                Some(address) => super::or_goes_on(bind_dashboard(address), true)?,
                None => None,
            },
        };
        let board = Arc::new(Board::knowing(left.returning));
        let settings = plan.server.clone();
        let server = Server::take_over(settings, board.clone(), left.tables, left.server);
        Ok(Bound {
            board,
            server: server.map_err(failed)?,
            control,
            dashboard,
            began: left.began,
            program: match found.complaint {
                Some(_) => left.program_before,
                None => left.program,
            },
            arrived: Some((arrived, left.fleet)),
        })
    }
}

fn bind_dashboard(address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| {
        format!("cannot listen on {address}: {error}; choose another one with --dashboard")
    })
}
