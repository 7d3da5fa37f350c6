#!/usr/bin/env bash
# SIGTERM and SIGINT: no new connections, what is in flight is finished, workers stop by a ladder
# whose rungs are printed, nothing is left behind. A second signal hurries.
# seconds: 30
. "$(dirname "$0")/lib.sh"

echo_app 2
start_again() { start_sidekeeper --apps "$TMP/apps" --pid-file "$TMP/pid" "$@"; }

# begin COMMAND...: a client in the background, with its exit status in $TMP/out.status
begin() {
    # New files: what an earlier client has got must not be taken for this one's.
    rm -f "$TMP"/out "$TMP"/out.status
    ("$@" >"$TMP/out" 2>"$TMP/err" && echo 0 >"$TMP/out.status" || echo $? >"$TMP/out.status") &
    CLIENT=$!
}
refused() { ! curl -sS --max-time 2 -o /dev/null "$URL/pid" 2>/dev/null; }

step "a long download in flight is completed"
start_again
same "$(cat "$TMP/pid")" "$SK_PID"
run_dir=$SK_DIR/run
[ "$(stat -c %a "$run_dir")" = 700 ]
begin raw --timeout 20 "$ADDR" '+last:/stream?n=25&ms=100'
wait_for "the first line" 5 grep -q 'line 2' "$TMP/out"
kill -TERM "$SK_PID"
wait_for "new connections to be refused" 3 refused
alive "$SK_PID"
# Signal 0 is none: this only waits.
stop_sidekeeper 0 15
same "$SK_STATUS" 0
wait $CLIENT
same "$(cat "$TMP/out.status")" 0
has "$(cat "$TMP/out")" 'line 24'

step "nothing is left in the run directory, nor the pid file"
same "$(find "$SK_DIR/run" -type s 2>/dev/null | wc -l)" 0
[ ! -e "$TMP/pid" ]

step "a download whose client reads slowly is completed"
start_again
begin raw --slow 30 --bite 65536 --timeout 25 "$ADDR" '+last:/bytes?n=8000000'
wait_for "the first bytes" 5 test -s "$TMP/out"
stop_sidekeeper TERM 25
wait $CLIENT
same "$(tail -c 8000000 "$TMP/out" | sha1sum)" "$(pattern 8000000 | sha1sum)"

step "an upload in flight is completed"
start_again
begin raw --timeout 20 "$ADDR" 'POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n' +drip:150 0123456789 '+until:\r\n\r\n10 '
sleep 0.5
stop_sidekeeper TERM 15
wait $CLIENT
has "$(cat "$TMP/out")" "10 $(printf 0123456789 | sha1sum | cut -d ' ' -f 1)"

step "SIGINT does the same"
start_again
begin raw --timeout 20 "$ADDR" '+last:/slow?ms=800'
sleep 0.3
stop_sidekeeper INT 10
same "$SK_STATUS" 0
wait $CLIENT
has "$(cat "$TMP/out")" 'slow but here'

step "who waits to be accepted when a stop begins is served"
start_again
kill -STOP "$SK_PID"
begin raw --timeout 15 "$ADDR" '+last:/pid'
sleep 0.5
kill -TERM "$SK_PID"
kill -CONT "$SK_PID"
wait $CLIENT
same "$(cat "$TMP/out.status")" 0
has "$(cat "$TMP/out")" 'HTTP/1.1 200'
stop_sidekeeper 0 10
same "$SK_STATUS" 0

step "idle connections do not hold it up"
start_again
begin raw hold 50 --timeout 20 "$ADDR" '+get:/pid' '+until:\r\n\r\n'
wait_for "the connections" 5 grep -q '^held 50' "$TMP/out"
begun=$SECONDS
stop_sidekeeper TERM 10
[ $((SECONDS - begun)) -le 3 ]
wait $CLIENT

step "a connection that is kept is told that it ends"
start_again
begin raw --timeout 10 "$ADDR" '+get:/slow?ms=700' +end
sleep 0.3
stop_sidekeeper TERM 10
wait $CLIENT
has "$(tr 'A-Z' 'a-z' <"$TMP/out")" 'connection: close' 'slow but here'

step "what takes longer than --shutdown-timeout is cut"
start_again --shutdown-timeout 1
begin raw --timeout 20 "$ADDR" '+get:/hang'
sleep 0.3
begun=$SECONDS
stop_sidekeeper TERM 10
[ $((SECONDS - begun)) -le 5 ]
wait $CLIENT

step "a second signal hurries"
start_again
begin raw --timeout 20 "$ADDR" '+get:/hang'
sleep 0.3
kill -TERM "$SK_PID"
sleep 0.5
alive "$SK_PID"
begun=$SECONDS
stop_sidekeeper TERM 10
[ $((SECONDS - begun)) -le 3 ]
wait $CLIENT

step "a worker that ignores everything is killed, and each rung is printed"
app stubborn '{"path": "/stubborn", "workers": 1, "kill_timeout": 800, "command": ["./run"]}'
cat >"$APP_DIR/run" <<'SH'
#!/usr/bin/env bash
trap '' TERM INT HUP
# The listener was meant for this shell: its child must be told that it is meant now.
(LISTEN_PID=$BASHPID exec "$ECHO_APP") &
while :; do sleep 1; done
SH
chmod +x "$APP_DIR/run"
export ECHO_APP
start_again
pid=$(worker_pids stubborn)
stop_sidekeeper TERM 10
dead "$pid"
has "$(cat "$LOG")" SIGTERM SIGKILL
rm -rf "$TMP/apps/stubborn"

need_node

step "a Node worker hears the shutdown message first, then SIGTERM"
node_app polite '{"path": "/polite", "workers": 1, "kill_timeout": 3000}' <<'JS'
const server = require('node:http').createServer((q, s) => s.end('polite\n')).listen(3000);
process.on('message', (message) => { if (message === 'shutdown') console.log('polite: heard the message'); });
process.on('SIGTERM', () => { console.log('polite: heard SIGTERM'); server.close(); process.exit(0); });
JS
start_again
same "$(get /polite)" polite
stop_sidekeeper TERM 10
same "$SK_STATUS" 0
has "$(cat "$LOG")" 'polite: heard the message'

step "SIGTERM during a long poll"
rm -rf "$TMP/apps"
mkdir -p "$TMP/apps/chat"
cp -r "$ROOT"/apps/chat/{server.js,package.json,public} "$TMP/apps/chat/"
ln -s "$ROOT/apps/chat/node_modules" "$TMP/apps/chat/node_modules"
start_sidekeeper --apps "$TMP/apps" --workers 2 --shutdown-timeout 3
sid=$(get '/socket.io/?EIO=4&transport=polling' | sed -n 's/.*"sid":"\([^"]*\)".*/\1/p')
begin get "/socket.io/?EIO=4&transport=polling&sid=$sid"
sleep 0.3
stop_sidekeeper TERM 10
same "$SK_STATUS" 0
wait $CLIENT
