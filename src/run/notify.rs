//! Tells the service manager how we are (sd_notify(3)): ready, reloading, stopping, and alive while it
//! watches us. Without NOTIFY_SOCKET nothing is told. Belongs to the conductor, whose loop is what
//! the watchdog watches: it hears of everything that others do.

use crossbeam_channel::{Receiver, after, never};
use log::warn;
use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

pub struct Notify {
    manager: Option<(UnixDatagram, SocketAddr)>,
    /// How often the manager wants to hear that we live.
    pulse_every: Option<Duration>,
    /// When it is to be told next.
    pulse_at: Cell<Instant>,
}

impl Notify {
    /// As the variables say that the manager has set for this process.
    pub fn new(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Notify {
        let manager = variable("NOTIFY_SOCKET").and_then(|name| match connect(&name) {
            Ok(manager) => Some(manager),
            Err(error) => {
                warn!("NOTIFY_SOCKET {}: {error}", name.display());
                None
            }
        });
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_for_us = number("WATCHDOG_PID").is_none_or(|other| other == u64::from(pid));
        // Twice as often as it must be.
        let every = number("WATCHDOG_USEC").map(|time| Duration::from_micros(time / 2));
        Notify {
            pulse_every: every.filter(|every| is_for_us && manager.is_some() && !every.is_zero()),
            pulse_at: Cell::new(Instant::now()),
            manager,
        }
    }

    pub fn ready(&self) {
        self.send("READY=1\n");
    }

    /// [`Notify::ready`] is to follow.
    pub fn reloading(&self) {
        let now = front::sys::clock::monotonic_us();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}\n"));
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    /// Speaks when [`Notify::pulse`] is due.
    pub fn tick(&self) -> Receiver<Instant> {
        match self.pulse_every {
            Some(_) => after(
                self.pulse_at
                    .get()
                    .saturating_duration_since(Instant::now()),
            ),
            None => never(),
        }
    }

    /// Says that we live, if it is time to.
    pub fn pulse(&self) {
        let now = Instant::now();
        if let Some(every) = self.pulse_every
            && self.pulse_at.get() <= now
        {
            self.pulse_at.set(now + every);
            self.send("WATCHDOG=1\n");
        }
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.manager
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            warn!(
                "the service manager cannot be told {}: {error}",
                text.trim()
            );
        }
    }
}

/// A path, or behind an `@` an abstract name.
fn connect(name: &OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not make us wait.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(name: &str, more: &[(&str, &str)]) -> Notify {
        let named = [("NOTIFY_SOCKET", name)];
        let value = |wanted: &str| {
            let mut all = more.iter().chain(&named);
            let (_, value) = all.find(|(name, _)| *name == wanted)?;
            Some(value.into())
        };
        Notify::new(value, 7)
    }

    fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 200];
        let read = manager.recv(&mut bytes).expect("a datagram");
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    #[test]
    fn what_a_manager_hears() {
        let name = format!("sk-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let manager = UnixDatagram::bind_addr(&address).expect("a socket");
        let notify = notify(
            &format!("@{name}"),
            &[("WATCHDOG_USEC", "20000"), ("WATCHDOG_PID", "7")],
        );
        notify.ready();
        assert_eq!(heard(&manager), "READY=1\n");
        notify.reloading();
        assert!(heard(&manager).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        notify.pulse();
        assert_eq!(heard(&manager), "WATCHDOG=1\n");
        // Not before its time.
        notify.pulse();
        notify.stopping();
        assert_eq!(heard(&manager), "STOPPING=1\n");
        assert!(notify.tick().recv_timeout(Duration::from_secs(5)).is_ok());
    }

    #[test]
    fn the_watchdog_of_somebody_else_is_not_ours() {
        let ours = notify("@sk-nobody", &[("WATCHDOG_USEC", "20000")]);
        assert!(ours.pulse_every.is_some());
        let theirs = notify(
            "@sk-nobody",
            &[("WATCHDOG_USEC", "20000"), ("WATCHDOG_PID", "8")],
        );
        assert!(theirs.pulse_every.is_none());
        let off = Notify::new(|_| None, 7);
        off.ready();
        assert!(off.tick().is_empty() && off.pulse_every.is_none());
    }
}
