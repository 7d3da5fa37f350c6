// The dashboard's page: what the instance says over server-sent events, drawn. Nothing is loaded from
// elsewhere. Charts are SVG with a text for those who do not see them; arrow keys move along them.
'use strict'

const STEP_S = 10
const STEPS = 360
const by = id => document.getElementById(id)
let rows = { apps: {}, workers: {}, deaths: [], alarms: [] }
let stepped = 0
let restarts = -1

// ---- figures ------------------------------------------------------------------------------------

const none = '–'
const number = value => value == null ? none : value >= 100 ? Math.round(value).toLocaleString('en') : String(Math.round(value * 10) / 10)
const time = ms => ms == null ? none : ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : ms >= 10 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(2)} ms`
const percent = value => value == null ? none : `${Math.round(value)} %`
const mib = value => value == null ? none : value >= 1024 ? `${(value / 1024).toFixed(1)} GiB` : `${value.toFixed(value < 100 ? 1 : 0)} MiB`
function age (seconds) {
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds % 86400 / 3600)} h`
}

// ---- building -----------------------------------------------------------------------------------

function make (name, attributes = {}, ...children) {
  const svg = ['svg', 'path', 'line', 'title'].includes(name)
  const node = svg ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) if (value != null) node.setAttribute(key, value)
  node.append(...children)
  return node
}

// Only what has changed is touched: a screen reader must not hear a page anew every second.
function say (node, text) {
  if (node.textContent !== text) node.textContent = text
}
function give (node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value)
}

// The nodes of a list of named things, in its order; made when they come, removed when they go.
function keep (parent, names, build) {
  parent.kept ??= new Map()
  for (const [name, part] of parent.kept) {
    if (!names.includes(name)) { part.node.remove(); parent.kept.delete(name) }
  }
  names.forEach((name, index) => {
    if (!parent.kept.has(name)) parent.kept.set(name, build(name))
    const { node } = parent.kept.get(name)
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null)
  })
  return name => parent.kept.get(name)
}

// ---- lines --------------------------------------------------------------------------------------

const WIDTH = 360
const HEIGHT = 100
const highest = lists => Math.max(0, ...lists.flat().filter(value => value != null))

// A path over the last hour; nothing is drawn where nothing was measured. A lone point is a dash.
function path (values, top) {
  const first = STEPS - values.length
  let text = ''
  let pen = false
  values.forEach((value, index) => {
    if (value == null) { pen = false; return }
    const x = (first + index) * WIDTH / (STEPS - 1)
    const y = HEIGHT - 2 - value / (top || 1) * (HEIGHT - 6)
    text += `${pen ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`
    if (!pen && values[index + 1] == null) text += 'h1.5'
    pen = true
  })
  return text
}

function spark (label) {
  const line = make('path')
  const title = make('title')
  const node = make('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' }, title, line)
  return {
    node,
    draw (values, show) {
      const top = highest([values])
      give(line, 'd', path(values, top) || 'M0 0')
      say(title, `${label}, highest in the last hour: ${show(top)}`)
    }
  }
}

function chart (name, keys, show) {
  const svg = make('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', tabindex: 0 })
  const base = make('line', { x1: 0, x2: WIDTH, y1: HEIGHT - 1, y2: HEIGHT - 1 })
  const paths = keys.map((_, index) => make('path', { class: index ? 'second' : 'first' }))
  const cursor = make('line', { class: 'cursor', y1: 0, y2: HEIGHT, visibility: 'hidden' })
  // The first line lies above the others: it is the one that is most often the lowest.
  svg.append(base, ...[...paths].reverse(), cursor)
  const out = make('output')
  const top = make('span')
  const node = make('figure', {}, make('figcaption', {}, make('span', {}, name), out), svg,
    make('div', { class: 'scale', 'aria-hidden': 'true' }, make('span', {}, 'an hour ago'), top, make('span', {}, 'now')))
  let lists = keys.map(() => [])
  let at = null // Steps before now that are looked at.

  function tell () {
    const past = at ?? 0
    out.replaceChildren(...keys.flatMap((key, index) => {
      const values = lists[index]
      const text = `${key ? key + ' ' : ''}${show(values[values.length - 1 - past])}`
      return [index ? ' · ' : '', key ? make('span', { class: index ? 'second-key' : 'first-key' }, text) : text]
    }), at == null ? '' : ` (${age(past * STEP_S)} ago)`)
    give(cursor, 'visibility', at == null ? 'hidden' : 'visible')
    const x = (STEPS - 1 - past) * WIDTH / (STEPS - 1)
    give(cursor, 'x1', x)
    give(cursor, 'x2', x)
  }
  function look (steps) {
    at = steps == null ? null : Math.min(STEPS - 1, Math.max(0, Math.round(steps)))
    tell()
  }
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect()
    look((1 - (event.clientX - box.left) / box.width) * (STEPS - 1))
  })
  svg.addEventListener('pointerleave', () => look(null))
  svg.addEventListener('blur', () => look(null))
  svg.addEventListener('keydown', event => {
    const moves = { ArrowLeft: (at ?? -1) + 1, ArrowRight: (at ?? 1) - 1, Home: STEPS - 1, End: 0, Escape: null }
    if (!(event.key in moves)) return
    event.preventDefault()
    look(moves[event.key])
    give(svg, 'aria-label', `${name}: ${out.textContent}`)
  })
  return {
    node,
    draw (values) {
      lists = values
      const most = highest(values)
      paths.forEach((line, index) => give(line, 'd', path(values[index], most) || 'M0 0'))
      say(top, `highest ${show(most)}`)
      tell()
      if (at == null) give(svg, 'aria-label', `${name}, last hour: now ${out.textContent}; highest ${show(most)}. Arrow keys go back.`)
    }
  }
}

// ---- the parts of the page -----------------------------------------------------------------------

function totals (status) {
  const sum = (list, key) => list.reduce((total, item) => total + (item[key] ?? 0), 0)
  const figures = {
    'Workers ready': `${sum(status.apps, 'ready')} of ${status.workers.length}`,
    'Requests/s': number(sum(status.apps, 'requests_per_s')),
    '5xx/s': number(sum(status.apps, 'errors_per_s')),
    Connections: number(status.connections),
    Sockets: number(sum(status.workers, 'sockets')),
    Sessions: number(sum(status.workers, 'sessions')),
    'Turned away': number(status.refused)
  }
  const part = keep(by('totals'), Object.keys(figures), name => {
    const value = make('dd')
    return { node: make('div', {}, make('dt', {}, name), value), value }
  })
  for (const [name, text] of Object.entries(figures)) say(part(name).value, text)
}

function apps (status) {
  const part = keep(by('apps'), status.apps.map(app => app.app), name => {
    const note = make('small')
    const charts = {
      rate: chart('Requests/s', [''], number),
      speed: chart('Time to answer', ['p50', 'p99'], time),
      errors: chart('5xx/s', [''], number)
    }
    const steer = steering(name)
    const box = make('div', { class: 'charts' }, ...Object.values(charts).map(each => each.node))
    return { node: make('section', { 'aria-label': `App ${name}` }, make('h2', {}, name, note), steer.node, box), note, charts, steer }
  })
  for (const app of status.apps) {
    const { note, charts, steer } = part(app.app)
    steer.draw(app)
    say(note, `${app.ready} of ${app.workers} ready`)
    note.className = app.ready === 0 ? 'bad' : app.ready < app.workers ? 'warn' : ''
    const past = rows.apps[app.app] ?? { requests_per_s: [], p50_ms: [], p99_ms: [], errors_per_s: [] }
    const now = (list, value) => [...list.slice(1 - STEPS), value]
    charts.rate.draw([now(past.requests_per_s, app.requests_per_s)])
    charts.speed.draw([now(past.p50_ms, app.p50_ms), now(past.p99_ms, app.p99_ms)])
    charts.errors.draw([now(past.errors_per_s, app.errors_per_s)])
  }
}

// ---- steering ------------------------------------------------------------------------------------

// The token of this tab; asked for when it is needed. Null: the user would rather not.
function token () {
  const known = sessionStorage.getItem('token')
  if (known) return Promise.resolve(known)
  return new Promise(resolve => {
    const dialog = by('ask')
    by('token').value = ''
    dialog.addEventListener('close', () => {
      const given = dialog.returnValue === 'go' ? by('token').value.trim() : ''
      if (given) sessionStorage.setItem('token', given)
      resolve(given || null)
    }, { once: true })
    dialog.showModal()
  })
}

// Asks for a command, and says each line of the answer as it comes.
async function command (name, operands, tell) {
  const secret = await token()
  if (!secret) return tell('')
  tell('asked …')
  const answer = await fetch('do', { method: 'POST', headers: { Authorization: `Bearer ${secret}` }, body: JSON.stringify({ command: name, operands }) })
  if (answer.status === 401) sessionStorage.removeItem('token')
  if (!answer.ok) throw new Error((await answer.text()).trim())
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    text += value
    const lines = text.split('\n')
    text = lines.pop()
    for (const line of lines) {
      const said = JSON.parse(line)
      if (said.error) throw new Error(said.error.text)
      if (said.text) tell(said.text)
    }
  }
}

function steering (app) {
  const told = make('output', { role: 'status' })
  const reload = make('button', { type: 'button', 'aria-label': `Reload ${app}` }, 'Reload')
  const count = make('input', { type: 'number', min: 0, max: 512, 'aria-label': `Workers of ${app}` })
  const scale = make('button', { type: 'submit' }, 'Scale')
  const form = make('form', {}, reload, make('span', {}, count, scale), told)
  const act = async (name, operands) => {
    reload.disabled = scale.disabled = true
    try {
      await command(name, operands, text => { told.className = ''; say(told, text) })
    } catch (error) {
      told.className = 'bad'
      say(told, error.message)
    }
    reload.disabled = scale.disabled = false
  }
  reload.addEventListener('click', () => act('reload', [app]))
  form.addEventListener('submit', event => {
    event.preventDefault()
    act('scale', [app, count.value])
  })
  return {
    node: form,
    draw ({ workers }) {
      const offered = rows.steering ?? []
      form.hidden = offered.length === 0
      reload.hidden = !offered.includes('reload')
      scale.parentNode.hidden = !offered.includes('scale')
      // What somebody is typing stays.
      if (document.activeElement !== count && count.value === '') count.value = workers
    }
  }
}

function workers (status) {
  const part = keep(by('rows'), status.workers.map(worker => worker.worker), name => {
    const pid = make('small')
    const cells = {}
    const sparks = {}
    const cell = (key, title, kind) => {
      cells[key] = make('span')
      const td = make('td', { role: 'cell', 'data-name': title, class: kind }, cells[key])
      if (['cpu', 'memory', 'lag', 'sockets'].includes(key)) {
        sparks[key] = spark(`${title} of ${name}`)
        td.append(sparks[key].node)
      }
      return td
    }
    // The roles are said, because on a narrow screen the rows are no table's any more.
    const node = make('tr', { role: 'row' }, make('th', { role: 'rowheader', scope: 'row' }, name, pid), cell('state', 'State'), cell('cpu', 'CPU', 'n'),
      cell('memory', 'Memory', 'n'), cell('lag', 'Loop lag', 'n'), cell('sockets', 'Sockets', 'n'), cell('flight', 'In flight', 'n'),
      cell('sessions', 'Sessions', 'n'), cell('rate', 'Requests/s', 'n'), cell('restarts', 'Restarts', 'n'), cell('death', 'Last death', 'wide'))
    return { node, pid, cells, sparks }
  })
  for (const worker of status.workers) {
    const { pid, cells, sparks } = part(worker.worker)
    const past = rows.workers[worker.worker] ?? { cpu_percent: [], memory_mib: [], loop_lag_ms: [], sockets: [] }
    const memory = worker.memory_bytes == null ? null : worker.memory_bytes / 1048576
    say(pid, worker.pid == null ? 'no process' : `pid ${worker.pid}`)
    say(cells.state, `${worker.state} ${age(worker.state_s)}`)
    cells.state.className = worker.state === 'ready' ? 'good' : ['errored', 'stopped'].includes(worker.state) ? 'bad' : 'warn'
    say(cells.cpu, percent(worker.cpu_percent))
    say(cells.memory, mib(memory))
    say(cells.lag, worker.loop_lag_ms == null ? none : time(worker.loop_lag_ms))
    cells.lag.className = worker.loop_lag_ms >= 100 ? 'warn' : ''
    say(cells.sockets, number(worker.sockets))
    say(cells.flight, number(worker.in_flight))
    say(cells.sessions, number(worker.sessions))
    say(cells.rate, number(worker.requests_per_s))
    say(cells.restarts, number(worker.restarts))
    say(cells.death, worker.last_death ? `${age(worker.last_death.ago_s)} ago: ${worker.last_death.reason}` : none)
    sparks.cpu.draw(past.cpu_percent, percent)
    sparks.memory.draw(past.memory_mib, mib)
    sparks.lag.draw(past.loop_lag_ms, time)
    sparks.sockets.draw(past.sockets, number)
  }
}

// Deaths are moments, alarms last: red marks above, amber bars below.
const EVENTS_SHOWN = 30
function timeline () {
  const now = Date.now() / 1000
  const hour = at => WIDTH * (1 - Math.min(3600, Math.max(0, now - at)) / 3600)
  const recent = rows.deaths.filter(death => now - death.at_unix_s < 3600)
  const alarms = (rows.alarms ?? []).filter(alarm => now - (alarm.cleared_unix_s ?? now) < 3600)
  const marks = recent.map(death => {
    const x = hour(death.at_unix_s)
    return make('line', { class: 'death', x1: x, x2: x, y1: 10, y2: 60 })
  })
  const bars = alarms.map(alarm => make('line', { class: 'alarm', x1: hour(alarm.since_unix_s), x2: Math.max(hour(alarm.cleared_unix_s ?? now), hour(alarm.since_unix_s) + 1), y1: 80, y2: 80 }))
  by('strip').replaceChildren(
    make('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': `${recent.length} deaths and ${alarms.length} alarms in the last hour` }, ...bars, ...marks),
    make('div', { class: 'scale', 'aria-hidden': 'true' }, make('span', {}, 'an hour ago'), make('span', {}, 'now')))
  const events = [
    ...recent.map(death => ({
      at: death.at_unix_s,
      who: death.worker,
      what: `${death.reason} (life ${death.life}${death.pid ? `, pid ${death.pid}` : ''})`
    })),
    ...alarms.map(alarm => ({
      at: alarm.since_unix_s,
      who: alarm.subject,
      what: `alarm: ${alarm.alarm}${alarm.raised ? '' : `, over after ${age(alarm.for_s)}`}: ${alarm.what}`,
      raised: alarm.raised
    }))
  ].sort((a, b) => b.at - a.at)
  const shown = events.slice(0, EVENTS_SHOWN).map(({ at, who, what, raised }) => {
    const time = new Date(at * 1000)
    return make('li', { class: raised ? 'warn' : null }, make('time', { datetime: time.toISOString() }, time.toLocaleTimeString()), make('strong', {}, who), what)
  })
  if (events.length === 0) shown.push(make('li', {}, 'none'))
  if (events.length > EVENTS_SHOWN) shown.push(make('li', {}, `and ${events.length - EVENTS_SHOWN} before them`))
  by('obituary').replaceChildren(...shown)
}

// What is wrong now stands on top; it is said once.
function raised (status) {
  by('alarms').hidden = status.alarms.length === 0
  const part = keep(by('alarms'), status.alarms.map(alarm => `${alarm.alarm} of ${alarm.subject}`), name => {
    const what = make('span')
    return { node: make('li', {}, make('strong', {}, name), what), what }
  })
  for (const alarm of status.alarms) say(part(`${alarm.alarm} of ${alarm.subject}`).what, `: ${alarm.what}`)
}

// ---- the instance --------------------------------------------------------------------------------

function link (kind, text) {
  by('link').className = kind
  say(by('link'), text)
}

async function past () {
  const answer = await fetch('history.json')
  if (!answer.ok) throw new Error(`history.json: ${answer.status}`)
  rows = await answer.json()
  stepped = Date.now()
  timeline()
}

function show (status) {
  say(by('version'), status.version)
  say(by('about'), `pid ${status.pid} · up ${age(status.uptime_s)} · ${status.addresses.join(', ')}`)
  link(status.stopping ? 'waits' : 'live', status.stopping ? 'stopping' : 'live')
  raised(status)
  totals(status)
  apps(status)
  workers(status)
  const lives = status.workers.reduce((sum, worker) => sum + worker.restarts, 0) + status.alarms.length
  // The instance keeps the past: it is asked again when a step is over, or something has happened.
  if (lives !== restarts || Date.now() - stepped >= STEP_S * 1000) {
    restarts = lives
    stepped = Date.now()
    past().catch(() => {})
  }
}

const events = new EventSource('events')
events.addEventListener('status', event => show(JSON.parse(event.data)))
events.addEventListener('error', () => link('lost', 'no connection; trying again'))
