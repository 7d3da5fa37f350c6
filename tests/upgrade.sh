#!/usr/bin/env bash
# Another binary takes over (`sidekeeper upgrade`, SIGUSR2): under a load of every kind no request fails,
# no worker is restarted, no WebSocket and no session is lost; a binary that is not fit to take over is
# refused, and the running one serves on; what watches over the workers goes on doing so.
# seconds: 60
# limit: 300
. "$(dirname "$0")/lib.sh"

check "npm packages of the tests" install_packages "$ROOT/tests"
[ "$FAILED" = 0 ] || exit 1
export NODE_PATH=$ROOT/tests/node_modules

# The binary under test is replaced again and again, each time by another file.
REAL=$SIDEKEEPER
SIDEKEEPER=$TMP/sidekeeper
cp "$REAL" "$SIDEKEEPER"
replace_binary() { cp "$REAL" "$TMP/next" && mv "$TMP/next" "$SIDEKEEPER"; }
upgrade() { "$SIDEKEEPER" upgrade --run-dir "$SK_DIR/run" "$@" 2>&1; }
file_of_process() { stat -Lc %i "/proc/$SK_PID/exe"; }
# upgraded: replaces the binary, has it take over, and looks that it really has.
upgraded() {
    replace_binary
    has "$(upgrade)" "can take over" "handing over" "has taken over from" || return 1
    same "$(file_of_process)" "$(stat -c %i "$SIDEKEEPER")"
}
node_spec() {
    echo "{\"name\": \"main\", \"script\": \"$ROOT/tests/fixtures/versioned.js\", \"path\": \"/\", \"instances\": 3,
        \"kill_timeout\": 1000, \"env\": {\"VERSION\": \"one\"} ${1:-}}"
}

# ---- any traffic, relayed -----------------------------------------------------------------------

echo_app 2
start_sidekeeper --apps "$TMP/apps" --relay-threads-max 4
workers=$(worker_pids echo)

step "while random traffic goes on, five binaries take over one after the other"
"$RAW" soak --seconds 14 --clients 8 "$ADDR" >"$TMP/soak.out" 2>&1 &
soak=$!
for _ in 1 2 3 4 5; do
    sleep 1.5
    upgraded
done
wait $soak || { cat "$TMP/soak.out" >&2; false; }
note "$(tr '\n' ' ' <"$TMP/soak.out")"
has "$(cat "$TMP/soak.out")" "violations 0"
lacks "$(cat "$TMP/soak.out")" failed_by
step "the workers are the same ones"
same "$(worker_pids echo)" "$workers"

step "what had begun before goes on after: slow bodies both ways, a WebSocket, a half-read head"
"$RAW" --slow 20 --bite 20000 --timeout 40 "$ADDR" "+last:/bytes?n=3000000" >"$TMP/download" 2>"$TMP/download.err" &
download=$!
{ head -c 300000 /dev/zero; sleep 3; head -c 300000 /dev/zero; } |
    curl -sS --max-time 20 -T - -H 'Expect:' "$URL/digest" >"$TMP/upload" 2>&1 &
upload=$!
"$RAW" ws --count 60 --pause 50 --timeout 20 "$ADDR" /ws >"$TMP/ws" 2>&1 &
ws=$!
"$RAW" --timeout 20 "$ADDR" "GET /pid HTTP/1.1\r\nHost: a\r\n" +sleep:2500 "Connection: close\r\n\r\n" >"$TMP/head" 2>&1 &
head=$!
curl -sS --max-time 20 "$URL/pid" "$URL/pid" >/dev/null
sleep 1
upgraded
upgraded
wait $upload
wait $head
wait $ws || { cat "$TMP/ws" >&2; false; }
wait $download
same "$(sed -z 's/.*\r\n\r\n//' "$TMP/download" | cmp - <(pattern 3000000) && echo whole)" whole
has "$(cat "$TMP/head")" "HTTP/1.1 200"
note "upload: $(cat "$TMP/upload")"
same "$(worker_pids echo)" "$workers"
stop_sidekeeper
same "$SK_STATUS" 0

# ---- Node: sessions, hand-offs, broadcasts -------------------------------------------------------

echo "{\"apps\": [$(node_spec)]}" >"$TMP/apps.json"
start_sidekeeper --config "$TMP/apps.json" --pid-file "$TMP/pid" --dashboard 127.0.0.1:0
wait_for "all workers" 20 eval '[ "$(grep -c " is ready after " "$LOG")" = 3 ]'
workers=$(worker_pids main)

step "under a load of Node's clients, and by SIGUSR2 as well, nothing is lost"
node "$ROOT/tests/fixtures/load.js" "$URL" >"$TMP/load.out" 2>"$TMP/load.err" &
load=$!
wait_for "the load" 10 grep -q ready "$TMP/load.out"
sleep 1.5
upgraded
sleep 1
upgraded
replace_binary
mark=$(log_mark)
kill -USR2 "$SK_PID"
wait_for "the upgrade" 20 eval 'log_since "$mark" | grep -q "has taken over from"'
same "$(file_of_process)" "$(stat -c %i "$SIDEKEEPER")"
sleep 1
kill -TERM "$load"
wait "$load"
result=$(tail -n 1 "$TMP/load.out")
note "$result"
has "$result" '"errors":{}' '"sentAway":0' '"get":' '"post":' '"slow":' '"polling":' '"websocket":' '"staying":'
step "... and no worker was restarted"
same "$(worker_pids main)" "$workers"
same "$(cat "$TMP/pid")" "$SK_PID"
step "... and nothing is open that was not carried on purpose"
wait_for "few descriptors" 10 eval '[ "$(ls /proc/$SK_PID/fd | wc -l)" -lt 60 ]'

# ---- binaries that are not fit -------------------------------------------------------------------

still_served() {
    same "$(get /version)" one || return 1
    same "$(worker_pids main)" "$workers"
}
# refused WHY PATH...
refused() {
    local why=$1 status=0 answer
    shift
    answer=$(upgrade "$@") || status=$?
    same "$status" 1 || return 1
    has "$answer" "the running binary serves on" "$why" || return 1
    still_served
}
script() {
    printf '#!/bin/sh\n%s\n' "$1" >"$TMP/script"
    chmod +x "$TMP/script"
}
check "a file that is not there is refused" refused "cannot be started" "$TMP/nowhere"
printf 'text' >"$TMP/text"
check "one that is not executable" refused "cannot be started" "$TMP/text"
script 'echo "no room" >&2; exit 1'
check "one that fails" refused "exit code 1: no room" "$TMP/script"
check "another program" refused "is no sidekeeper" /bin/true
script 'exec sleep 60'
check "one that does not answer" refused "has not said within" "$TMP/script"
script 'case $1 in __trial) echo "sidekeeper 9.9.9 can take over form 99" ;; esac'
check "one that takes over another form" refused "is no sidekeeper" "$TMP/script"

broken_configuration() {
    echo '{"apps": [' >"$TMP/apps.json"
    local status=0
    refused "apps.json" || status=1
    echo "{\"apps\": [$(node_spec)]}" >"$TMP/apps.json"
    return $status
}
check "a configuration that cannot be read refuses the upgrade" broken_configuration

# It agrees when it is tried out, and then does as a binary does that cannot read what was left to it.
script "case \$1 in __trial) exec $REAL \"\$@\" ;; esac
export SIDEKEEPER_LEFT=\"\$SIDEKEEPER_LEFT:it is too old for that\"
before=\${SIDEKEEPER_LEFT#*:*:}
exec /proc/self/fd/\${before%%:*} \"\$@\""
check "a binary that cannot go on goes back to the one before" refused "it is too old for that" "$TMP/script"
check "and from there an upgrade comes about" upgraded
check "by name as well, from a folder of its own" eval 'cd "$TMP" && has "$(upgrade ./sidekeeper)" "has taken over from"'
check "a path that is no path is a mistake of whoever asked" fails upgrade a b

# ---- what it cannot have ------------------------------------------------------------------------

step "what a binary cannot write, open or bind keeps it from nothing"
# A folder is where a file would have to be, which is like a full disk to whoever writes the file.
mkdir "$SK_DIR/run/hook.cjs.new"
echo "{\"apps\": [$(node_spec)], \"access_log\": \"$TMP/nowhere/access.log\"}" >"$TMP/apps.json"
upgraded
still_served
grep -q "WARN .*hook of the binary before" "$LOG"
grep -q "WARN .*nowhere/access.log" "$LOG"
rmdir "$SK_DIR/run/hook.cjs.new"
echo "{\"apps\": [$(node_spec)]}" >"$TMP/apps.json"
upgraded
still_served

# ---- afterwards ----------------------------------------------------------------------------------

step "a worker that dies after it is started again, and what it prints is heard"
victim=$(worker_pids main 1)
kill -KILL "$victim"
wait_for "another one" 20 eval '[ -n "$(worker_pids main 1)" ] && [ "$(worker_pids main 1)" != "$victim" ]'
wait_for "it is ready" 20 eval '"$SIDEKEEPER" status --run-dir "$SK_DIR/run" | grep -q "3 of 3 workers ready"'
has "$("$SIDEKEEPER" status --run-dir "$SK_DIR/run")" SIGKILL

step "the dashboard is where it was"
dashboard=$(sed -n 's,.*http://\(127.0.0.1:[0-9]*\)/.*dashboard.*,\1,p; s,.*dashboard.*http://\(127.0.0.1:[0-9]*\).*,\1,p' "$LOG" | head -n 1)
[ -n "$dashboard" ] || dashboard=$("$SIDEKEEPER" status --run-dir "$SK_DIR/run" --json | grep -o '127.0.0.1:[0-9]*' | grep -v "$ADDR" | head -n 1)
has "$(curl -sS --max-time 5 "http://$dashboard/metrics")" sidekeeper_info

step "a reload works after it"
has "$("$SIDEKEEPER" reload --run-dir "$SK_DIR/run" 2>&1)" "main: 3 workers of the new version serve"

step "a stop right after it stops all"
upgraded
stop_sidekeeper
same "$SK_STATUS" 0
[ ! -e "$TMP/pid" ]

step "killed right after it, it leaves no worker behind"
start_sidekeeper --config "$TMP/apps.json"
upgraded
workers=$(worker_pids main)
kill -KILL "$SK_PID"
wait_for "the workers to end" 5 all_dead $workers
wait "$SK_PID" 2>/dev/null || true
SK_PID=
