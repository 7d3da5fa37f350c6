//! Gives up root. On the main thread, once every address is bound and before there is any other
//! thread: capabilities belong to threads, and whoever is started later is born without them.

use crate::config::rights::Rights;
use crate::fleet;
use front::sys::identity;
use log::{info, warn};
use std::path::Path;

/// Becomes whom `--user` names; the run directory becomes theirs too.
pub fn give_up(rights: &Rights, run_dir: &Path) -> Result<(), String> {
    let identity = &rights.identity;
    fleet::hand_over_run_dir(run_dir, identity.uid, identity.gid)
        .map_err(|error| error.to_string())?;
    let done = match rights.changes_users {
        true => identity::become_user_who_changes_users(identity),
        false => identity::become_user(identity),
    };
    done.map_err(|error| {
        format!(
            "cannot become user {}: {error}; root needs the capabilities setuid and setgid",
            identity.uid
        )
    })?;
    info!(
        "is user {} and group {} from now on",
        identity.uid, identity.gid
    );
    if rights.changes_users {
        warn!(
            "keeps the capabilities setuid, setgid and kill, because apps have users of their own"
        );
    }
    Ok(())
}
