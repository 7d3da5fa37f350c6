//! Messages between the workers of one app: who gets which line. Pure; the ipc thread asks for each
//! line that a worker sends, and writes what comes out of it.
//!
//! Socket.IO's adapters speak through the process that started the workers: a line goes unchanged
//! to the other workers, an answer only to the one that asked. Only the envelope is read; what it
//! carries is skipped where it lies. Workers of different apps never hear of each other.
//!
//! Understood are `@socket.io/cluster-adapter` 0.3 (names itself by `uid`) and 0.2 (by
//! `cluster.worker.id`), our own adapter and our search for lost sessions (`broadcast.cjs`,
//! `recovery.cjs`: as 0.3, but with a `cmd` that keeps their messages from the app),
//! `@socket.io/cluster-engine`, and letters that an app writes itself:
//! `process.send({sidekeeper: {to: 'siblings', message}})`.

use crate::fleet::life::LifeKey;
use front::as_json;
use front::json::{self, ToJson};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

/// Names that are remembered of one worker: an adapter has one for each namespace. Who has more
/// gets answers to them by way of all siblings, and they end by the adapter's own timeout.
const NAMES_MAX: usize = 10_000;

const ADAPTER: &str = "_sio_adapter";
const ENGINE: &str = "_eio";
/// The `cmd` of our own adapter's messages, and of those about sessions.
const OWN_CMD: &str = "NODE_SIDEKEEPER_BROADCAST";
const SESSIONS_CMD: &str = "NODE_SIDEKEEPER_SESSIONS";
/// How lines begin that are Node's or the hook's, and those of the hook among them that are for
/// siblings.
const INNER: &[u8] = b"{\"cmd\":\"NODE_";
const FOR_SIBLINGS: [&[u8]; 2] = [
    b"{\"cmd\":\"NODE_SIDEKEEPER_BROADCAST\"",
    b"{\"cmd\":\"NODE_SIDEKEEPER_SESSIONS\"",
];
/// `ADAPTER_CLOSE` of 0.3, and the farewell of whoever else has a name.
const NAME_ENDS: u64 = 13;
/// `WORKER_EXIT` of 0.2.
const NUMBER_ENDS: u64 = 3;

/// An adapter's language. The same number means a fetch in one and a disconnect in another, so a
/// worker is told only what it has spoken itself; each adapter speaks when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Numbered,
    Named,
    Own,
    Sessions,
}

impl Dialect {
    /// What its messages have as their `cmd`.
    fn cmd(self) -> Option<&'static str> {
        match self {
            Dialect::Numbered | Dialect::Named => None,
            Dialect::Own => Some(OWN_CMD),
            Dialect::Sessions => Some(SESSIONS_CMD),
        }
    }
}

as_json!(
    enum Dialect {
        Numbered,
        Named,
        Own,
        Sessions,
    }
);

/// The part of a line that decides where it goes.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    cmd: Option<Text<'a>>,
    #[serde(borrow, default)]
    source: Option<Text<'a>>,
    #[serde(borrow, default, rename = "_source")]
    engine: Option<Text<'a>>,
    #[serde(default, rename = "type")]
    kind: Option<u64>,
    #[serde(borrow, default)]
    uid: Option<Text<'a>>,
    #[serde(borrow, default)]
    nsp: Option<Text<'a>>,
    #[serde(borrow, default, rename = "requesterUid")]
    requester: Option<Text<'a>>,
    #[serde(borrow, default, rename = "senderId")]
    sender: Option<Text<'a>>,
    #[serde(borrow, default, rename = "recipientId")]
    recipient: Option<Text<'a>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sidekeeper: Option<&'a RawValue>,
}

/// A string that is only copied when it holds escapes. (An `Option<Cow>` always would be.)
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What an app sends to its siblings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Letter<'a> {
    to: Addressee,
    #[serde(borrow)]
    message: &'a RawValue,
}

impl Letter<'_> {
    /// Node and the hook would obey it. An app may well pass on what a client has sent to it, and
    /// a client must not be able to drain a worker.
    fn is_a_command(&self) -> bool {
        let command: Result<Command<'_>, _> = serde_json::from_slice(self.message.get().as_bytes());
        command.is_ok_and(|command| command.cmd.0.starts_with("NODE_"))
    }
}

#[derive(Deserialize)]
struct Command<'a> {
    #[serde(borrow)]
    cmd: Text<'a>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Addressee {
    Instance(u32),
    Word(Word),
}

#[derive(Deserialize)]
enum Word {
    #[serde(rename = "siblings")]
    Siblings,
}

/// Where 0.2 says who asked.
#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "workerId")]
    worker: u64,
}

/// A farewell on behalf of a worker that is gone.
struct Farewell<'a> {
    cmd: Option<&'a str>,
    source: &'a str,
    kind: u64,
    uid: Option<&'a str>,
    nsp: Option<&'a str>,
    data: Option<u64>,
}

/// What there is none of is not named.
impl ToJson for Farewell<'_> {
    fn to_json(&self, to: &mut json::Writer) {
        to.open('{');
        // First, as the hook writes it.
        let _ = self.cmd.map(|cmd| to.field("cmd", &cmd));
        to.field("source", &self.source);
        to.field("type", &self.kind);
        let _ = self.uid.map(|uid| to.field("uid", &uid));
        let _ = self.nsp.map(|nsp| to.field("nsp", &nsp));
        let _ = self.data.map(|data| to.field("data", &data));
        to.close('}');
    }
}

#[derive(Clone, Debug)]
struct Member {
    key: LifeKey,
    instance: u32,
    speaks: Vec<Dialect>,
    /// `cluster.worker.id`, as 0.2 has said it.
    number: Option<u64>,
    /// Its `cluster-engine`.
    engine: Option<String>,
    names: usize,
}

as_json!(struct Member { key, instance, speaks, number, engine, names });

impl Member {
    fn new(key: LifeKey, instance: u32) -> Member {
        Member {
            key,
            instance,
            speaks: Vec::new(),
            number: None,
            engine: None,
            names: 0,
        }
    }

    fn learn(&mut self, dialect: Dialect) {
        if !self.speaks.contains(&dialect) {
            self.speaks.push(dialect);
        }
    }
}

/// Whose `uid` it is.
#[derive(Clone, Debug)]
struct Name {
    owner: LifeKey,
    nsp: String,
    dialect: Dialect,
}

as_json!(struct Name { owner, nsp, dialect });

/// The workers of one app.
#[derive(Clone, Debug, Default)]
struct Family {
    members: Vec<Member>,
    names: HashMap<String, Name>,
}

as_json!(struct Family { members, names });

/// All apps' workers that have a channel.
#[derive(Clone, Debug, Default)]
pub struct Bus {
    families: HashMap<usize, Family>,
    app_of: HashMap<LifeKey, usize>,
}

as_json!(struct Bus or default { families });

/// A line of ours, and a worker that it is for.
#[derive(Debug, PartialEq, Eq)]
pub struct Parting {
    pub to: LifeKey,
    pub line: Vec<u8>,
}

impl Bus {
    /// A worker's life begins. `app` is any number that its siblings share.
    pub fn join(&mut self, key: LifeKey, app: usize, instance: u32) {
        let family = self.families.entry(app).or_default();
        if self.app_of.insert(key, app).is_some() || family.members.iter().any(|m| m.key == key) {
            return; // What it has said to an earlier binary is known.
        }
        family.members.push(Member::new(key, instance));
    }

    /// A worker is gone. Siblings that wait for its answers are told so, in the words in which its
    /// own adapter would have said farewell, each line with its newline.
    pub fn leave(&mut self, key: LifeKey) -> Vec<Parting> {
        let family = self.app_of.remove(&key);
        match family.and_then(|app| self.families.get_mut(&app)) {
            Some(family) => family.leave(key),
            None => Vec::new(),
        }
    }

    /// Takes a line (without its newline) that a worker has sent. If it is for siblings: what is
    /// to be sent, and to whom, added to `to`. None if it is not for them.
    pub fn route<'a>(
        &mut self,
        from: LifeKey,
        line: &'a [u8],
        to: &mut Vec<LifeKey>,
    ) -> Option<&'a [u8]> {
        // The hook's and Node's own messages, which are many, need not be read for this.
        if line.first() != Some(&b'{') || is_inner(line) {
            return None;
        }
        let family = self.families.get_mut(self.app_of.get(&from)?)?;
        let envelope: Envelope<'a> = serde_json::from_slice(line).ok()?;
        if envelope.is_from(ADAPTER) {
            family.route_adapter(from, &envelope, to);
            Some(line)
        } else if envelope.engine.as_ref().is_some_and(|e| e.0 == ENGINE) {
            family.route_engine(from, &envelope, to);
            Some(line)
        } else {
            let letter: Letter<'a> =
                serde_json::from_slice(envelope.sidekeeper?.get().as_bytes()).ok()?;
            if letter.is_a_command() {
                return None;
            }
            family.route_letter(from, &letter.to, to);
            Some(letter.message.get().as_bytes())
        }
    }
}

/// Node's own, or the hook's and not for siblings.
fn is_inner(line: &[u8]) -> bool {
    line.starts_with(INNER) && !FOR_SIBLINGS.iter().any(|start| line.starts_with(start))
}

impl Envelope<'_> {
    fn is_from(&self, source: &str) -> bool {
        self.source.as_ref().is_some_and(|said| said.0 == source)
    }

    fn dialect(&self) -> Dialect {
        match (&self.cmd, &self.uid) {
            (Some(cmd), _) if cmd.0 == OWN_CMD => Dialect::Own,
            (Some(cmd), _) if cmd.0 == SESSIONS_CMD => Dialect::Sessions,
            (_, Some(_)) => Dialect::Named,
            (_, None) => Dialect::Numbered,
        }
    }
}

impl Family {
    fn leave(&mut self, key: LifeKey) -> Vec<Parting> {
        let mut partings = Vec::new();
        let Some(at) = self.members.iter().position(|m| m.key == key) else {
            return partings;
        };
        let gone = self.members.swap_remove(at);
        let mut part = |dialect, farewell: &Farewell<'_>| {
            let mut line = json::text(farewell).into_bytes();
            line.push(b'\n');
            for member in self.members.iter().filter(|m| m.speaks.contains(&dialect)) {
                partings.push(Parting {
                    to: member.key,
                    line: line.clone(),
                });
            }
        };
        let mut farewell = Farewell {
            cmd: None,
            source: ADAPTER,
            kind: NUMBER_ENDS,
            uid: None,
            nsp: None,
            data: gone.number,
        };
        if gone.number.is_some() {
            part(Dialect::Numbered, &farewell);
        }
        farewell.kind = NAME_ENDS;
        farewell.data = None;
        for (uid, name) in self.names.iter().filter(|(_, name)| name.owner == key) {
            let farewell = Farewell {
                cmd: name.dialect.cmd(),
                uid: Some(uid),
                nsp: Some(&name.nsp),
                ..farewell
            };
            part(name.dialect, &farewell);
        }
        self.names.retain(|_, name| name.owner != key);
        partings
    }

    fn member(&mut self, key: LifeKey) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.key == key)
    }

    fn route_adapter(&mut self, from: LifeKey, envelope: &Envelope<'_>, to: &mut Vec<LifeKey>) {
        let dialect = envelope.dialect();
        if let Some(member) = self.member(from) {
            member.learn(dialect);
        }
        let asker = match dialect {
            Dialect::Named | Dialect::Own | Dialect::Sessions => {
                self.note_name(from, dialect, envelope);
                let asker = envelope.requester.as_ref();
                asker.and_then(|uid| self.names.get(uid.0.as_ref()).map(|name| name.owner))
            }
            Dialect::Numbered => {
                let asker = self.note_number(from, envelope);
                asker
                    .and_then(|n| self.members.iter().find(|m| m.number == Some(n)))
                    .map(|member| member.key)
            }
        };
        match asker {
            Some(asker) => to.extend((asker != from).then_some(asker)),
            None => {
                let hears = |m: &&Member| m.key != from && m.speaks.contains(&dialect);
                to.extend(self.members.iter().filter(hears).map(|m| m.key));
            }
        }
    }

    /// Remembers whose `uid` it is, until it is closed.
    fn note_name(&mut self, from: LifeKey, dialect: Dialect, envelope: &Envelope<'_>) {
        let Some(uid) = envelope.uid.as_ref().map(|uid| uid.0.as_ref()) else {
            return;
        };
        let known = self.names.contains_key(uid);
        let Some(member) = self.members.iter_mut().find(|member| member.key == from) else {
            return;
        };
        if envelope.kind == Some(NAME_ENDS) {
            if known {
                self.names.remove(uid);
                member.names = member.names.saturating_sub(1);
            }
        } else if !known && member.names < NAMES_MAX {
            member.names += 1;
            let nsp = envelope.nsp.as_ref();
            let name = Name {
                owner: from,
                nsp: nsp.map_or_else(String::new, |nsp| nsp.0.clone().into_owned()),
                dialect,
            };
            self.names.insert(uid.to_owned(), name);
        }
    }

    /// Remembers the number that 0.2 gives as its own; returns the one that an answer is for.
    fn note_number(&mut self, from: LifeKey, envelope: &Envelope<'_>) -> Option<u64> {
        let data = envelope.data.map(RawValue::get)?;
        match envelope.kind? {
            // WORKER_INIT, WORKER_PING
            1 | 2 => {
                let number = serde_json::from_slice(data.as_bytes()).ok();
                if let Some(member) = self.member(from) {
                    member.number = number.or(member.number);
                }
                None
            }
            // FETCH_SOCKETS_RESPONSE, SERVER_SIDE_EMIT_RESPONSE
            9 | 11 => serde_json::from_slice::<Asked>(data.as_bytes())
                .ok()
                .map(|a| a.worker),
            _ => None,
        }
    }

    fn route_engine(&mut self, from: LifeKey, envelope: &Envelope<'_>, to: &mut Vec<LifeKey>) {
        if let (Some(sender), Some(member)) = (&envelope.sender, self.member(from))
            && member.engine.as_deref() != Some(sender.0.as_ref())
        {
            member.engine = Some(sender.0.clone().into_owned());
        }
        let recipient = envelope.recipient.as_ref().map(|text| text.0.as_ref());
        let known = self
            .members
            .iter()
            .find(|m| recipient.is_some() && m.engine.as_deref() == recipient);
        match known {
            Some(member) => to.extend((member.key != from).then_some(member.key)),
            None => {
                let others = self.members.iter().filter(|m| m.key != from);
                to.extend(others.map(|m| m.key));
            }
        }
    }

    fn route_letter(&self, from: LifeKey, addressee: &Addressee, to: &mut Vec<LifeKey>) {
        let wanted = |member: &&Member| match addressee {
            Addressee::Word(Word::Siblings) => member.key != from,
            Addressee::Instance(number) => member.instance == *number,
        };
        to.extend(self.members.iter().filter(wanted).map(|m| m.key));
    }
}

#[cfg(test)]
#[path = "relay_bus_tests.rs"]
mod tests;
