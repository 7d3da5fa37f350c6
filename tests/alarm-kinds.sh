#!/usr/bin/env bash
# Every kind of alarm that takes its time, each brought about by an app that does what it is about; and
# that none of them speaks of an app that does nothing of the kind. The others are in alarms.sh.
# seconds: 80
# limit: 240
. "$(dirname "$0")/lib.sh"
command -v node >/dev/null || skip_rest "Node.js is not installed"

alarms() { "$SIDEKEEPER" alarms --run-dir "$SK_DIR/run" "$@"; }
raised() { alarms --json | grep '"raised":true' | grep -qF "\"alarm\":\"$1\",\"subject\":\"$2\""; }

# burns APP MILLISECONDS EVERY: its event loop is blocked for so long, again and again. On a busy machine that is far
# less of a core than it seems, hence the low threshold.
burns() {
    node_app "$1" "{\"path\": \"/$1\", \"workers\": 1}" <<JS
require('http').createServer((req, res) => res.end('ok')).listen(3000)
setInterval(() => { const end = Date.now() + $2; while (Date.now() < end); }, $3)
JS
}
burns busy 400 410
burns blocked 700 1000
node_app slow '{"path": "/slow", "workers": 1}' <<'JS'
require('http').createServer((req, res) => setTimeout(() => res.end('ok'), 300)).listen(3000)
JS
node_app files '{"path": "/files", "workers": 1, "limits": {"nofile": 80}}' <<'JS'
const files = []
try { for (;;) files.push(require('fs').openSync('/dev/null')) } catch { for (const file of files.splice(0, 2)) require('fs').closeSync(file) }
require('http').createServer((req, res) => res.end('ok')).listen(3000)
JS
cat >"$TMP/threads.py" <<'PY'
import os, socket, threading
threading.stack_size(64 << 10)
for _ in range(1005):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
listener = socket.socket(fileno=3)
while True:
    client, _ = listener.accept()
    client.close()
PY
app threads "{\"path\": \"/threads\", \"workers\": 1, \"command\": [\"python3\", \"$TMP/threads.py\"]}"
node_app large '{"path": "/large", "workers": 1, "max_memory_restart": "20M"}' <<'JS'
require('http').createServer((req, res) => res.end('ok')).listen(3000)
JS
node_app gone '{"path": "/gone", "workers": 1, "autorestart": false}' <<'JS'
require('http').createServer((req, res) => { res.end('ok', () => process.exit(0)) }).listen(3000)
JS
app full "{\"path\": \"/full\", \"workers\": 1, \"out_file\": \"/dev/full\", \"command\": [\"sh\", \"-c\", \"while sleep 0.2; do echo line; done & exec $ECHO_APP\"]}"
node_app quiet '{"path": "/", "workers": 1}' <<'JS'
require('http').createServer((req, res) => res.end('ok')).listen(3000)
JS

step "all of them serve"
start_sidekeeper --apps "$TMP/apps" --alarm-cpu 10 --alarm-latency 0.2 --dashboard 127.0.0.1:0
step "the app that is gone is noticed, and who is turned away for it"
same "$(status /gone)" 200
wait_for "the alarm" 20 raised down gone
same "$(status /gone)" 503
wait_for "the alarm" 10 raised queue-full sidekeeper
(while get /slow -o /dev/null 2>/dev/null; do :; done) &
load=$!
(while get /slow -o /dev/null 2>/dev/null; do :; done) &
other=$!
# each KIND SUBJECT SECONDS
each() { wait_for "$1 of $2" "$3" raised "$1" "$2"; }
check "a full disk under a log" each disk-full sidekeeper 20
check "descriptors" each descriptors files.0 20
check "memory" each memory large.0 60
check "an event loop that is blocked" each loop-lag blocked.0 40
check "answers that take long" each latency slow 60
check "threads" each threads threads.0 60
check "processor time" each cpu busy.0 90
kill $load $other 2>/dev/null || true

step "each has a sentence and a number, and nobody else is spoken of"
note "$(alarms)"
same "$(alarms --json | grep '"raised":true' | grep -cF '"subject":"quiet')" 0
same "$(alarms --json | grep '"alarm"' | grep -cF '"text":""')" 0
