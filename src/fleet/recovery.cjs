'use strict';
// The part of the hook that lets Socket.IO's connectionStateRecovery find a lost connection at any
// worker. A client that comes back names it (`pid`, `offset`) in its first packet, long after its
// handshake has gone to some worker; and what there is to recover is in the memory of the one that it
// was at. So whoever does not have it asks its siblings, once and for two seconds at most, and the
// one that has it gives it away: id, rooms, data, and the packets that the client has missed.
// hook.cjs loads this file when the app listens, if Socket.IO's keeper of sessions is there.
//
// Messages between workers, which sidekeeper passes on (relay_bus); none is seen by the app:
//   HERE / HERE_TOO                        I may have sessions, and who else
//   QUESTION {id, nsp, pid, offset}        to all of them
//   ANSWER {id, session, seen}             to the one that has asked; without a session: not here
//   FAREWELL                               said by sidekeeper for a worker that has ended

const crypto = require('crypto');
const { SEEN, pack, unpack } = require('./broadcast.cjs');

const CMD = 'NODE_SIDEKEEPER_SESSIONS';
const SOURCE = '_sio_adapter';
const HERE = 1;
const HERE_TOO = 2;
const QUESTION = 3;
const ANSWER = 4;
const FAREWELL = 13;

// A client waits so long for its connection, if a sibling does not answer.
const ANSWER_MILLIS_MAX = 2_000;
// What is asked beyond that is not found.
const QUESTIONS_MAX = 1_000;
// Socket.IO's own have 20 letters; ours are not much longer.
const WORD_LENGTH_MAX = 64;
// A session with what its client has missed. A larger one stays where it is.
const SESSION_LENGTH_MAX = 1 << 20;
// Sessions that came from siblings, and where in the packets of this worker they begin.
const RESUMED_MAX = 10_000;

const uid = crypto.randomBytes(8).toString('hex');
const siblings = new Set(); // their uids
const asked = new Map(); // id -> { waiting, settle }
const keepers = new Set(); // adapters that have kept a session
const resumed = new Map(); // pid -> { offset, mark }
let count = 0;
let channel = null;

// Changes Socket.IO's class, of which the app has instances already. `send` is the process.send of
// before the hook.
function share(SessionAwareAdapter, send) {
  const { prototype } = SessionAwareAdapter;
  const { persistSession, restoreSession } = prototype;
  if (Object.hasOwn(prototype, 'sidekeeperRestores')) return;
  if (typeof persistSession !== 'function' || typeof restoreSession !== 'function') return;
  prototype.sidekeeperRestores = restoreSession;
  prototype.persistSession = function (session) {
    keepers.add(this);
    return Reflect.apply(persistSession, this, arguments);
  };
  prototype.restoreSession = function (pid, offset) {
    const isHere = this.sessions.has(pid);
    const found = restoreSession.call(this, pid, placeOf(pid, offset));
    return found || isHere ? found : fetch(this, pid, offset);
  };
  join(send);
}

function join(send) {
  if (channel) return;
  channel = send;
  process.on('internalMessage', (message) => {
    if (message?.cmd === CMD) hear(message);
  });
  say({ type: HERE });
}

function say(message) {
  if (!process.connected) return;
  const whole = { cmd: CMD, ...message, source: SOURCE, uid };
  channel.call(process, whole, () => {});
}

function hear(message) {
  const { type, uid: from, data } = message;
  switch (type) {
    case HERE:
      siblings.add(from);
      say({ type: HERE_TOO, requesterUid: from });
      break;
    case HERE_TOO:
      siblings.add(from);
      break;
    case QUESTION:
      // After what has come to our sockets in this turn of the event loop: the end of the very
      // connection that is asked for may be among it.
      setImmediate(answer, from, data);
      break;
    case ANSWER:
      unpack(message);
      if (data.session) asked.get(data.id)?.settle(data);
      else denied(asked.get(data.id), from);
      break;
    case FAREWELL:
      siblings.delete(from);
      for (const question of [...asked.values()]) denied(question, from);
      break;
  }
}

// ---- Asking

function ask(question) {
  if (siblings.size === 0 || asked.size >= QUESTIONS_MAX) return null;
  const id = ++count;
  return new Promise((resolve) => {
    const settle = (found) => {
      clearTimeout(timer);
      asked.delete(id);
      resolve(found);
    };
    const timer = setTimeout(settle, ANSWER_MILLIS_MAX, null);
    asked.set(id, { waiting: new Set(siblings), settle });
    say({ type: QUESTION, data: { id, ...question } });
  });
}

function denied(question, by) {
  if (question?.waiting.delete(by) && question.waiting.size === 0) question.settle(null);
}

async function fetch(keeper, pid, offset) {
  if (pid.length > WORD_LENGTH_MAX || offset.length > WORD_LENGTH_MAX) return null;
  const begun = mark(keeper);
  const found = await ask({ nsp: keeper.nsp.name, pid, offset });
  // From here to the socket of the client nothing comes between: what is delivered at this worker
  // until now has to be in the list, and what comes later goes to the socket.
  const meanwhile = unmark(keeper, begun);
  if (!found) return null;
  const { session, seen } = found;
  const missedPackets = [...session.missedPackets];
  // The packets of each worker come in their order everywhere, so one number says which of them the
  // other one has seen. What it has not, comes from here.
  for (const { speaker, number, opts, data } of keeper[SEEN] ? meanwhile : []) {
    if (speaker === undefined || number <= (seen?.[speaker] ?? 0)) continue;
    if (isFor(session.rooms, opts)) missedPackets.push(data);
  }
  if (resumed.size >= RESUMED_MAX) resumed.delete(resumed.keys().next().value);
  // The last entry of a packet is its number.
  resumed.set(pid, { offset: missedPackets.at(-1)?.at(-1) ?? offset, mark: mark(keeper) });
  return { ...session, missedPackets };
}

// Whom a packet is for, as Socket.IO decides it.
function isFor(rooms, { rooms: wanted, except }) {
  return (
    (wanted.size === 0 || rooms.some((room) => wanted.has(room))) &&
    !rooms.some((room) => except.has(room))
  );
}

// ---- Places in the packets of a worker
//
// A client that has heard nothing since it was brought here names a packet of the worker before. What
// it misses then begins where it came to us. A mark is a packet for nobody; Socket.IO throws it out
// when it is too old, like any other.

const NOBODY = { rooms: new Set([Symbol('nobody')]), except: new Set() };

function mark(keeper) {
  const id = Symbol('mark');
  keeper.packets.push({ id, opts: NOBODY, data: [], emittedAt: Date.now() });
  return id;
}

// Takes a mark away; returns what has come behind it.
function unmark({ packets }, id) {
  const at = packets.findLastIndex((packet) => packet.id === id);
  const behind = packets.slice(at + 1);
  if (at >= 0) packets.splice(at, 1);
  return behind;
}

function placeOf(pid, offset) {
  const place = resumed.get(pid);
  return place && place.offset === offset ? place.mark : offset;
}

// ---- Answering

async function answer(asker, { id, nsp, pid, offset }) {
  let found = null;
  for (const keeper of keepers) {
    if (keeper.sessions.size === 0) keepers.delete(keeper);
    else if (keeper.nsp.name === nsp) found ??= await find(keeper, pid, offset);
  }
  const message = (data) => ({ type: ANSWER, requesterUid: asker, ...pack({ data: { id, ...data } }) });
  if (found) {
    try {
      const { session, seen } = found;
      const whole = message({ session, seen });
      if (JSON.stringify(whole).length <= SESSION_LENGTH_MAX) {
        // It is the other worker's now.
        found.keeper.sessions.delete(pid);
        resumed.delete(pid);
        return say(whole);
      }
    } catch {
      // What the app keeps in socket.data cannot be written down.
    }
  }
  say(message({}));
}

async function find(keeper, pid, offset) {
  const session = await keeper.sidekeeperRestores(pid, placeOf(pid, offset));
  if (!session) return null;
  return { keeper, session, seen: keeper[SEEN] && Object.fromEntries(keeper[SEEN]) };
}

module.exports = { share };
