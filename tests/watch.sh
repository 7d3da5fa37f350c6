#!/usr/bin/env bash
# A worker that hangs is noticed whatever it does, looked into, and replaced; one that holds too much
# memory is replaced without a failed request; nobody is judged by a time in which we stood still.
# seconds: 60
# limit: 240
. "$(dirname "$0")/lib.sh"
command -v node >/dev/null && command -v python3 >/dev/null || skip_rest "Node.js or Python is not installed"

HANG=3 # hang_timeout of this test, in seconds

status_of() { "$SIDEKEEPER" status --json --run-dir "$SK_DIR/run" | jq_ "$1"; }
# jq_ EXPRESSION: of the JSON on standard input, as `s`.
jq_() { node -e 'const s = JSON.parse(require("fs").readFileSync(0, "utf8")); console.log(eval(process.argv[1]))' "$1"; }
# The reason of a worker's last death, and the file of its autopsy.
death_of() { status_of "s.workers.find(w => w.worker === '$1').last_death?.reason"; }
autopsy_of() { cat "$(status_of "s.workers.find(w => w.worker === '$1').last_death.autopsy")"; }
replaced() { [ -n "$(worker_pids "$1" 0)" ] && [ "$(worker_pids "$1" 0)" != "$2" ] && log_has "$1.0 (pid $(worker_pids "$1" 0)) is ready"; }

node_app node "{\"path\": \"/\", \"workers\": 1, \"hang_timeout\": $HANG}" <<'JS'
const fs = require('fs')
const kept = []
require('http').createServer((req, res) => {
  const url = new URL(req.url, 'http://x')
  console.error('asked for ' + url.pathname)
  if (url.pathname === '/busy') for (;;);
  if (url.pathname === '/block') fs.openSync(url.searchParams.get('fifo'), 'r')
  if (url.pathname === '/never') return
  res.end(String(process.pid))
}).listen(3000)
JS
app plain "{\"path\": \"/plain\", \"workers\": 1, \"command\": [\"$ECHO_APP\"], \"hang_timeout\": $HANG}"
app serial "{\"path\": \"/serial\", \"workers\": 1, \"command\": \"python3 serial.py\", \"hang_timeout\": $HANG}"
cat >"$APP_DIR/serial.py" <<'PY'
# One request at a time, as simple servers of other languages do it.
import ctypes, os, socket, time
listener = socket.socket(fileno=3)
while True:
    client, _ = listener.accept()
    request = client.recv(65536)
    if b"/stuck" in request:
        time.sleep(600)
    if b"/slow" in request:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(6):
            time.sleep(1)
            client.sendall(b".")
    elif b"/deep" in request:
        # Until the child of a vfork has ended, its parent waits where no signal reaches it.
        if ctypes.CDLL(None).vfork() == 0:
            time.sleep(600)
    elif request:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(str(os.getpid())), str(os.getpid()).encode()))
    client.close()
PY
# said TEXT: in the log since $mark. Not a pipe, whose writer could fail when the reader has found it.
said() { grep -qF -- "$1" <(log_since "$mark"); }
mkfifo "$TMP/fifo"
start_sidekeeper

step "a loop that runs without end is noticed, and the next life serves what waited"
before=$(worker_pids node 0)
status /busy >"$TMP/busy" &
busy=$!
wait_for "the request to be there" 10 log_has "asked for /busy"
get / >"$TMP/waited" &
waited=$!
wait_for "another worker" 30 replaced node "$before"
wait $busy $waited
same "$(cat "$TMP/busy")" 502 # not tried on the next life
same "$(cat "$TMP/waited")" "$(worker_pids node 0)"
has "$(death_of node.0)" "SIGKILL: hung: its event loop has been silent for" "running" "open, the oldest for" "(GET /busy)" "autopsies/"
has "$(autopsy_of node.0)" "% of a core" "asked for /busy" "last report of its event loop" "State:" "thread $before" "s sent: GET /busy from 127.0.0.1:"

step "so is one that blocks in a system call"
before=$(worker_pids node 0)
status "/block?fifo=$TMP/fifo" >"$TMP/block" &
wait_for "another worker" 30 replaced node "$before"
wait $!
has "$(death_of node.0)" "its event loop has been silent" "waiting in"
same "$(get /)" "$(worker_pids node 0)"

step "one that reports itself may let a request wait as long as it likes"
before=$(worker_pids node 0)
get /never --max-time $((HANG * 2 + 1)) >"$TMP/never" 2>&1 || true
same "$(worker_pids node 0)" "$before"

step "one that is stopped is noticed, with and without the hook"
before=$(worker_pids node 0)
plain=$(worker_pids plain 0)
kill -STOP "$before" "$plain"
wait_for "another worker" 30 replaced node "$before"
wait_for "another worker" 30 replaced plain "$plain"
has "$(death_of node.0)" "hung: "
has "$(death_of plain.0)" "hung: stopped by a signal for"
same "$(status /plain/pid)" 200

step "one that goes on in time is left alone"
before=$(worker_pids node 0)
kill -STOP "$before"
sleep 1.5
kill -CONT "$before"
sleep $((HANG + 1))
same "$(worker_pids node 0)" "$before"

step "without the hook: who answers slowly does not hang, who takes nothing and says nothing does"
before=$(worker_pids serial 0)
same "$(get /serial/slow)" "......"
same "$(worker_pids serial 0)" "$before"
status /serial/stuck >"$TMP/stuck" &
stuck=$!
wait_for "another worker" 40 replaced serial "$before"
wait $stuck
has "$(death_of serial.0)" "requests have got no byte for" "takes no connection"
same "$(get /serial/)" "$(worker_pids serial 0)"

step "one in an uninterruptible wait is noticed"
before=$(worker_pids serial 0)
status /serial/deep >"$TMP/deep" &
deep=$!
wait_for "another worker" 40 replaced serial "$before"
wait $deep
has "$(death_of serial.0)" "in an uninterruptible wait for"

step "nobody is judged by a time in which sidekeeper itself was stopped"
before=$(worker_pids)
mark=$(log_mark)
kill -STOP "$SK_PID" $before
sleep $((HANG + 3))
# The workers go on later than we do: that time counts, the time before does not.
kill -CONT "$SK_PID"
wait_for "it to notice" 10 said "has stood still"
sleep 1
kill -CONT $before
sleep $((HANG + 1))
same "$(worker_pids)" "$before"
fails said "hangs"
same "$(status /)" 200

step "autopsies are private"
same "$(stat -c %a "$SK_DIR"/run/autopsies "$SK_DIR"/run/autopsies/*.txt | sort -u | tr '\n' ' ')" "600 700 "
stop_sidekeeper
same "$SK_STATUS" 0

step "a worker that holds too much memory is replaced; no request fails, and its past is kept"
rm -r "$TMP/apps"
node_app leaky '{"path": "/", "workers": 2, "max_memory_restart": "150M", "drain_timeout": 3}' <<'JS'
const kept = []
require('http').createServer((req, res) => {
  const mib = Number(new URL(req.url, 'http://x').searchParams.get('mib') ?? 0)
  if (mib > 0) kept.push(Buffer.alloc(mib << 20, 1))
  res.end(String(process.pid))
}).listen(3000)
JS
start_sidekeeper
wait_for "both workers" 20 eval '[ "$(grep -c " is ready after " "$LOG")" = 2 ]'
load() { while [ ! -e "$TMP/enough" ]; do status / || echo failed; echo; done >"$TMP/statuses"; }
load &
load=$!
first=$(get '/?mib=200')
wait_for "its successor" 40 eval '! worker_pids leaky | grep -qx "$first"'
touch "$TMP/enough"
wait $load
same "$(sort -u "$TMP/statuses")" 200
instance=$(status_of 's.workers.findIndex(w => w.restarts === 1)')
has "$(death_of "leaky.$instance")" "replaced: it holds" "max_memory_restart of 150 MiB"
same "$(worker_pids leaky | wc -l)" 2

step "again and again, it is replaced ever more slowly"
mark=$(log_mark)
for _ in 1 2 3; do get '/?mib=200' >/dev/null; done
wait_for "the other one to be replaced" 40 said "is to be replaced"
sleep 4
lacks "$(log_since "$mark")" "leaky.$instance is to be replaced"
