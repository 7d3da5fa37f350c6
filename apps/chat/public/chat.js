'use strict';

const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const socket = io();

const me = { name: recall('name') || `guest-${Math.floor(1000 + Math.random() * 9000)}`, room: fromHash() };
let worker = null;
let reconnects = 0;
let lostAt = null;

// ---- small things --------------------------------------------------------------------------------

function recall(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

function keep(key, value) {
  try { localStorage.setItem(key, value); } catch { /* private mode: it lasts as long as the page */ }
}

function fromHash() {
  try { return decodeURIComponent(location.hash.slice(1)) || 'lobby'; } catch { return 'lobby'; }
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** The same name has the same colour in every window. */
function hue(name) {
  let sum = 7;
  for (const letter of name) sum = (sum * 131 + letter.codePointAt(0)) % 9973;
  return (sum * 137) % 360;
}

function face(name) {
  const made = element('span', 'face', [...name][0]?.toUpperCase() ?? '?');
  made.style.setProperty('--hue', hue(name));
  made.setAttribute('aria-hidden', 'true');
  return made;
}

const timeOf = (at) => new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });

// ---- connection ----------------------------------------------------------------------------------

function showState(state, text) {
  root.dataset.state = state;
  $('state').textContent = text;
  $('say').querySelector('button').disabled = state !== 'connected';
}

function showTransport() {
  const name = socket.io.engine?.transport?.name ?? '–';
  root.dataset.transport = name;
  $('transport').textContent = name === 'websocket' ? 'WebSocket' : name;
}

socket.on('connect', () => {
  showState('connected', 'Connected');
  showTransport();
  socket.io.engine.on('upgrade', showTransport);
  join(me.room);
  measure();
});

socket.on('disconnect', (reason) => {
  lostAt = Date.now();
  showState(socket.active ? 'reconnecting' : 'offline', socket.active ? 'Reconnecting…' : `Disconnected (${reason})`);
  $('transport').textContent = $('latency').textContent = '–';
  root.dataset.transport = '';
  // A server that says goodbye itself is not called again unless we ask.
  if (!socket.active) setTimeout(() => socket.connect(), 1000);
});

socket.io.on('reconnect_attempt', (attempt) => showState('reconnecting', `Reconnecting, attempt ${attempt}…`));
socket.io.on('reconnect', () => {
  reconnects += 1;
  $('reconnects').textContent = root.dataset.reconnects = String(reconnects);
});
socket.on('connect_error', () => {
  if (!socket.active) showState('offline', 'The server refused the connection');
  else if (root.dataset.state === 'connecting') showState('reconnecting', 'No answer yet, trying again…');
});

socket.on('welcome', (welcome) => {
  const before = worker;
  worker = welcome.worker;
  root.dataset.worker = worker.instance ?? '';
  root.dataset.pid = String(worker.pid);
  $('worker').textContent = worker.instance === null ? worker.app : `${worker.app} ${worker.instance}`;
  $('pid').textContent = String(worker.pid);
  $('node').textContent = worker.node;
  $('address').textContent = welcome.address ?? '–';
  if (before) {
    const gap = lostAt ? ` after ${((Date.now() - lostAt) / 1000).toFixed(1)} s` : '';
    const where = before.pid === worker.pid ? 'Back on the same worker' : `Now served by worker ${worker.instance ?? '–'}, process ${worker.pid}`;
    notice(`${where}${gap}`);
  }
});

socket.on('clock', (now) => {
  const clock = $('clock');
  clock.textContent = new Date(now).toLocaleTimeString();
  clock.dateTime = new Date(now).toISOString();
});

function measure() {
  if (!socket.connected) return;
  const begun = performance.now();
  socket.timeout(5000).emit('echo', (late) => {
    $('latency').textContent = late ? 'over 5 s' : `${(performance.now() - begun).toFixed(1)} ms`;
    showTransport();
  });
}
setInterval(measure, 3000);

// ---- rooms and people ----------------------------------------------------------------------------

function join(room) {
  socket.emit('join', { name: me.name, room }, (joined) => {
    const changed = me.room !== joined.room || !$('messages').childElementCount;
    me.room = joined.room;
    me.name = joined.name;
    $('name').value = me.name;
    $('room-title').textContent = `#${me.room}`;
    document.title = `#${me.room} · Chat`;
    if (fromHash() !== me.room) history.replaceState(null, '', `#${encodeURIComponent(me.room)}`);
    if (changed) $('messages').replaceChildren();
    const known = new Set([...$('messages').children].map((item) => item.dataset.id));
    joined.messages.filter((message) => !known.has(message.id)).forEach(show);
    if (!$('messages').childElementCount) notice(`This is #${me.room}. Say hello.`);
    markRoom();
  });
}

function markRoom() {
  for (const button of $('rooms').querySelectorAll('button')) {
    button.setAttribute('aria-current', String(button.dataset.room === me.room));
  }
}

socket.on('rooms', (rooms) => {
  const items = rooms.map(({ name, people }) => {
    const button = element('button');
    button.type = 'button';
    button.dataset.room = name;
    button.append(element('span', '', `# ${name}`), element('span', 'count', people || ''));
    button.setAttribute('aria-label', `${name}, ${people} here`);
    button.addEventListener('click', () => go(name));
    const item = element('li');
    item.append(button);
    return item;
  });
  const focused = document.activeElement?.dataset?.room;
  $('rooms').replaceChildren(...items);
  markRoom();
  if (focused) $('rooms').querySelector(`[data-room="${CSS.escape(focused)}"]`)?.focus();
});

socket.on('people', ({ room, people, workers }) => {
  if (room !== me.room) return;
  $('scope').textContent = workers > 1 ? `on all ${workers} workers` : '';
  $('people').replaceChildren(...people.map(({ id, name, worker: at }) => {
    const item = element('li');
    item.append(face(name), element('span', '', id === socket.id ? `${name} (me)` : name));
    item.title = name;
    if (workers > 1) item.append(element('small', '', `worker ${at}`));
    return item;
  }));
});

function go(room) {
  $('messages').replaceChildren();
  $('people').replaceChildren();
  me.room = room;
  history.pushState(null, '', `#${encodeURIComponent(room)}`);
  if (socket.connected) join(room);
  $('text').focus();
}

// ---- messages ------------------------------------------------------------------------------------

function append(item) {
  const list = $('messages');
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  list.append(item);
  while (list.childElementCount > 300) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function notice(text) {
  append(element('li', 'notice', text));
}

function show(message) {
  const before = $('messages').lastElementChild;
  const item = element('li', message.from === socket.id || message.name === me.name ? 'mine' : '');
  item.dataset.id = message.id;
  item.dataset.name = message.name;
  if (before?.dataset.name === message.name) item.classList.add('follows');
  const who = element('p', 'who');
  const name = element('b', '', message.name);
  who.style.setProperty('--hue', hue(message.name));
  who.append(name, ` ${timeOf(message.at)}`);
  const body = element('div', 'body');
  body.append(who, element('p', 'text', message.text));
  item.append(face(message.name), body);
  append(item);
}

socket.on('message', (message) => {
  if (message.room !== me.room) return;
  $('typing').textContent = '';
  show(message);
});

let typingEnds;
socket.on('typing', ({ room, name }) => {
  if (room !== me.room) return;
  $('typing').textContent = `${name} is writing…`;
  clearTimeout(typingEnds);
  typingEnds = setTimeout(() => { $('typing').textContent = ''; }, 2500);
});

let typedAt = 0;
$('text').addEventListener('input', () => {
  if (Date.now() - typedAt < 1500) return;
  typedAt = Date.now();
  socket.volatile.emit('typing');
});

// ---- forms ---------------------------------------------------------------------------------------

$('say').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = $('text').value.trim();
  if (!text || !socket.connected) return;
  socket.timeout(5000).emit('say', text, (late) => {
    if (late) notice('That message may not have arrived.');
  });
  $('text').value = '';
});

function rename() {
  const name = $('name').value.trim();
  if (!name || name === me.name) {
    $('name').value = me.name;
    return;
  }
  me.name = name;
  keep('name', name);
  if (socket.connected) join(me.room);
}
$('me').addEventListener('submit', (event) => {
  event.preventDefault();
  $('text').focus();
});
$('name').addEventListener('change', rename);

$('new-room').addEventListener('submit', (event) => {
  event.preventDefault();
  const room = $('room-name').value.trim();
  $('room-name').value = '';
  if (room) go(room);
});

addEventListener('popstate', () => {
  const room = fromHash();
  if (room === me.room) return;
  $('messages').replaceChildren();
  me.room = room;
  if (socket.connected) join(room);
});

$('theme').addEventListener('click', () => {
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  keep('theme', root.dataset.theme);
});

$('name').value = me.name;
showState('connecting', 'Connecting…');
