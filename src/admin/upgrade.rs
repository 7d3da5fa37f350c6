//! `sidekeeper upgrade`: whoever asks for another binary is told by the conductor how it goes; the
//! connection outlives the exec, and the other binary says the last word.

use crate::admin::ask::{Answer, Ask, Refusal, Reply};
use crate::admin::{Order, Shared};
use front::as_json;
use front::sys::carried::Baton;
use log::{error, info};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

struct Line<'a> {
    text: &'a str,
}

as_json!(to struct Line<'a> { text });

/// Who has asked for an upgrade, if not a signal. The log is told as well.
#[derive(Debug)]
pub struct Asker(Option<UnixStream>);

impl Asker {
    pub fn nobody() -> Asker {
        Asker(None)
    }

    /// One whose connection has come through the exec.
    pub fn resumed(socket: UnixStream) -> Asker {
        Asker(Some(socket))
    }

    pub fn baton(&self) -> Option<Baton> {
        self.0.as_ref().map(|socket| Baton::of(socket.as_fd()))
    }

    /// Tells how it goes.
    pub fn say(&self, text: &str) {
        info!("upgrade: {text}");
        if let Some(mut reply) = self.reply() {
            // Who has left is told nothing; the upgrade goes on.
            let _ = reply.line(&Line { text });
        }
    }

    /// It has come about.
    pub fn end(self, text: &str) {
        self.say(text);
        if let Some(mut reply) = self.reply() {
            let _ = reply.end();
        }
    }

    /// It has not come about.
    pub fn refuse(self, why: &str) {
        error!("upgrade: refused, this binary serves on: {why}");
        if let Some(mut reply) = self.reply() {
            let text = format!("refused, the running binary serves on: {why}");
            let _ = reply.refuse(&Refusal::failed(text));
        }
    }

    fn reply(&self) -> Option<Reply> {
        Some(Reply::new(self.0.as_ref()?.try_clone().ok()?))
    }
}

pub fn act(shared: &Shared, ask: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    let program = ask.operand().map(PathBuf::from);
    if program.as_ref().is_some_and(|path| !path.is_absolute()) {
        return Err(Refusal::usage("the path of the binary must begin with `/`"));
    }
    let asker = Asker(Some(reply.socket()?));
    let order = Order::Upgrade { program, asker };
    let busy = |_| Refusal::failed("too much has been asked at once; try again");
    shared.instance.orders.try_send(order).map_err(busy)?;
    Ok(Answer::Elsewhere)
}
