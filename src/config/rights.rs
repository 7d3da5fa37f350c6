//! Whom the proxy and the workers of each app become, and whether we may ask for that. Pure.

use super::ConfigError;
use super::accounts::Account;
use super::machine::Machine;
use super::process::ProcessKeys;
use super::values::UserGroup;
use crate::fleet::spawn::binds_itself;
use crate::fleet::spec::Launch;
use front::sys::identity::Identity;

/// What the process gives up once everything is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    pub identity: Identity,
    /// The right to start workers as other users stays.
    pub changes_users: bool,
}

/// The account of `--user`, which may be who we are already.
pub fn ours(asked: Option<&UserGroup>, machine: &Machine) -> Result<Option<Account>, ConfigError> {
    let Some(UserGroup { user, group }) = asked else {
        return Ok(None);
    };
    let refused = |why: &str| ConfigError::Setup(format!("--user {user}: {why}"));
    let found = machine.accounts.find(user, group.as_deref());
    let account = found.map_err(|why| refused(&why))?;
    match is_us(&account, machine) || machine.changes_users {
        true => Ok(Some(account)),
        false => Err(refused(
            "only root can become another user; start as root, or leave it out",
        )),
    }
}

/// Whether there is nothing to change.
pub fn is_us(account: &Account, machine: &Machine) -> bool {
    (machine.user, machine.group) == (account.identity.uid, account.identity.gid)
}

/// The account of an app that has one of its own. The error says what to do.
pub fn of_app(
    keys: &ProcessKeys,
    launch: &Launch,
    ours: Option<&Account>,
    machine: &Machine,
) -> Result<Option<Account>, String> {
    if keys.user.is_none() && keys.group.is_none() {
        return Ok(None);
    }
    let (uid, gid) = ours.map_or((machine.user, machine.group), |account| {
        (account.identity.uid, account.identity.gid)
    });
    let user = keys.user.clone().unwrap_or_else(|| uid.to_string());
    let account = machine.accounts.find(&user, keys.group.as_deref())?;
    if (account.identity.uid, account.identity.gid) == (uid, gid) {
        return Ok(None);
    }
    if !machine.changes_users {
        return Err(format!(
            "only root can start workers as user {user}; start sidekeeper as root, or remove `uid` and `gid`"
        ));
    }
    if binds_itself(launch) {
        // Another user may not write into the run directory, nor could we connect to what it binds.
        return Err(
            "a program that binds {socket} itself cannot have a user of its own; let it take its listener by LISTEN_FDS, or name the user with --user"
                .to_owned(),
        );
    }
    Ok(Some(account))
}
