#!/usr/bin/env bash
# Supervision: what a worker is given, what happens when it crashes, never gets ready, listens
# late or not at all, stays stopped, leaves orphans, or loses its supervisor.
# seconds: 50
. "$(dirname "$0")/lib.sh"
export ECHO_APP

# ---- what a worker is given ----------------------------------------------------------------------

step "workers start with their contract"
app given '{"path": "/given", "workers": 2, "env": {"COLOUR": "green"}, "command": ["./run", "{port}"]}'
cat >"$APP_DIR/run" <<'SH'
#!/usr/bin/env bash
# Shows what it was given, then becomes the echo app.
{
    env
    echo "argument=$1"
    echo "directory=$PWD"
    echo "group=$(cut -d ' ' -f 5 /proc/$$/stat) session=$(cut -d ' ' -f 6 /proc/$$/stat) pid=$$"
    echo "fd3=$(readlink /proc/$$/fd/3)"
} >"given.$NODE_APP_INSTANCE"
exec "$ECHO_APP"
SH
chmod +x "$APP_DIR/run"
GIVEN=$APP_DIR
echo_app 2
start_sidekeeper

contract() {
    local instance given pid
    for instance in 0 1; do
        given=$(cat "$GIVEN/given.$instance")
        pid=$(worker_pids given $instance)
        has "$given" "APPNAME=given" "NODE_APP_INSTANCE=$instance" LISTEN_FDS=1 "LISTEN_PID=$pid" LISTEN_FDNAMES=http \
            "SIDEKEEPER_SOCKET=$SK_DIR/run/" COLOUR=green "directory=$GIVEN" "group=$pid session=$pid pid=$pid" "fd3=socket:"
        same "$(sed -n 's/^argument=//p' <<<"$given")" "$(sed -n 's/^PORT=//p' <<<"$given")"
        lacks "$given" NODE_CHANNEL_FD NODE_OPTIONS
    done
}
check "listener, names, group, folder and environment" contract

# Before the first request: the echo app has opened nothing itself yet.
no_descriptors() { same "$(ls "/proc/$(worker_pids echo 0)/fd" | tr '\n' ' ')" "0 1 2 3 "; }
check "no other descriptor of ours" no_descriptors

private() {
    same "$(stat -c %a "$SK_DIR/run")" 700
    [ "$(find "$SK_DIR/run" -type s | awk '{ if (length($0) > m) m = length($0) } END { print m + 0 }')" -lt 100 ]
}
check "the run directory is private, socket paths are short" private

logged() {
    get '/given/log?text=to-the-out' >/dev/null
    get '/given/log?text=to-the-err&to=stderr' >/dev/null
    wait_for "the lines" 3 log_has to-the-err
    grep -E 'given.*to-the-out' "$LOG"
    grep -E 'given.*to-the-err' "$LOG"
}
check "what workers print is in the log under their name" logged

# ---- crashes -------------------------------------------------------------------------------------

replaced() { [ -n "$(worker_pids echo "$1")" ] && [ "$(worker_pids echo "$1")" != "$2" ]; }

at_once() {
    local pid
    pid=$(worker_pids echo 0)
    sleep 1.1
    # (Rust programs survive a SIGSEGV that was only sent.)
    kill -ABRT "$pid"
    wait_for "another life" 10 replaced 0 "$pid"
    grep -E "echo.*$pid.*SIGABRT.*starting it again at once" "$LOG"
}
check "a first crash is repaired at once and logged with its signal" at_once

own_exit() {
    local pid
    pid=$(worker_pids echo 1)
    while [ "$(worker_pids echo 1)" = "$pid" ]; do get '/die?how=after&code=7' >/dev/null || true; done
    wait_for "the log line" 3 grep -qE 'echo.*ended.*7' "$LOG"
}
check "an exit code is logged" own_exit

step "sidekeeper stops"
stop_sidekeeper
same "$SK_STATUS" 0

step "a worker that dies at every start is tried with growing delay, then errored, then still tried"
rm -rf "$TMP/apps"
app broken '{"path": "/broken", "workers": 1, "max_restarts": 4, "exp_backoff_restart_delay": 200, "command": ["./run"]}'
cat >"$APP_DIR/run" <<'SH'
#!/usr/bin/env bash
date +%s%N >>starts
echo "broken: no database" >&2
exit 3
SH
chmod +x "$APP_DIR/run"
BROKEN=$APP_DIR
echo_app 1
launch_sidekeeper --apps "$TMP/apps" --listen "unix:$TMP/s"
wait_for "it to be errored" 15 grep -qi errored "$LOG"
gaps() { awk 'NR > 1 { print int(($1 - last) / 1000000) } { last = $1 }' "$BROKEN/starts"; }
growing() {
    gaps
    # The last gap before it was given up is longer than the first.
    [ "$(gaps | tail -n 1)" -gt $(($(gaps | head -n 1) + 200)) ]
}
check "delays grow" growing
check "its last words are in the log" grep -q 'broken: no database' "$LOG"
check "its exit code is in the log" grep -qE 'broken.*ended.*3' "$LOG"
others() { has "$(curl -sS --max-time 5 --unix-socket "$TMP/s" http://a/who)" app=echo; }
check "other apps are served meanwhile" others
none() { same "$(curl -sS --max-time 5 -o /dev/null -w '%{http_code} %header{retry-after}' --unix-socket "$TMP/s" http://a/broken | cut -c 1-4)" "503 "; }
check "its own requests get 503 with Retry-After" none
again() {
    local starts
    starts=$(wc -l <"$BROKEN/starts")
    wait_for "another try" 40 more_starts "$starts"
}
more_starts() { [ "$(wc -l <"$BROKEN/starts")" -gt "$1" ]; }
check "it is tried again at a slow pace" again

healed() {
    cat >"$BROKEN/run" <<'SH'
#!/usr/bin/env bash
exec "$ECHO_APP"
SH
    wait_for "it to serve" 40 serves_broken
    wait_for "the address file" 5 test -s "$SK_DIR/address"
}
serves_broken() { curl -sS --max-time 2 --unix-socket "$TMP/s" http://a/broken/who | grep -q app=broken; }
check "and serves as soon as it can" healed

step "a worker that never listens is killed after listen_timeout"
stop_sidekeeper
rm -rf "$TMP/apps"
app mute '{"path": "/mute", "workers": 1, "listen_timeout": 700, "command": ["sleep", "1000"]}'
echo_app 1
launch_sidekeeper --apps "$TMP/apps"
wait_for "the log line" 6 grep -qE 'mute.*killed' "$LOG"
stop_sidekeeper

step "stop_exit_codes leave a worker stopped"
rm -rf "$TMP/apps"
app done '{"path": "/done", "workers": 1, "stop_exit_codes": [5], "command": ["./run"]}'
printf '#!/bin/sh\necho x >>starts\nexit 5\n' >"$APP_DIR/run"
chmod +x "$APP_DIR/run"
DONE=$APP_DIR
echo_app 1
launch_sidekeeper --apps "$TMP/apps" --listen "unix:$TMP/s"
wait_for "the log line" 5 grep -qE 'done.*stays stopped' "$LOG"
sleep 0.5
same "$(wc -l <"$DONE/starts")" 1
stop_sidekeeper

# ---- any program ---------------------------------------------------------------------------------

step "a program that binds {socket} itself"
rm -rf "$TMP/apps"
mkdir -p "$TMP/apps"
cp -r "$ROOT/apps/wsgi" "$TMP/apps/wsgi"
start_sidekeeper --apps "$TMP/apps" --workers 2
has "$(get /wsgi/page -d hello)" 'POST /wsgi/page with 5 bytes'
pid=$(worker_pids wsgi 0)
kill -KILL "$pid"
wsgi_replaced() { [ -n "$(worker_pids wsgi 0)" ] && [ "$(worker_pids wsgi 0)" != "$pid" ]; }
wait_for "another life" 5 wsgi_replaced
for _ in 1 2 3 4; do has "$(get /wsgi)" 'from process'; done
stop_sidekeeper

step "one app from the command line"
start_sidekeeper --workers 3 -- "$ECHO_APP"
same "$(worker_pids | wc -l)" 3
has "$(get /who)" instance=
stop_sidekeeper

# ---- nothing is left behind ----------------------------------------------------------------------

step "kill -9 of sidekeeper leaves no worker behind, nor what workers have started"
app parent '{"path": "/parent", "workers": 2, "command": ["./run"]}'
cat >"$APP_DIR/run" <<'SH'
#!/usr/bin/env bash
sleep 1000 &
(sleep 1001 & exec sleep 1002) &
exec "$ECHO_APP"
SH
chmod +x "$APP_DIR/run"
start_sidekeeper
family=$(descendants "$SK_PID")
[ "$(wc -w <<<"$family")" -ge 10 ]
kill -KILL "$SK_PID"
wait "$SK_PID" 2>/dev/null || true
wait_for "all of them to be dead" 5 all_dead $family
run_dir=$SK_DIR/run
SK_PID=

step "stale sockets of a killed run are no obstacle"
RUN_DIR=$run_dir start_sidekeeper
has "$(get /parent/who)" app=parent

step "a second sidekeeper does not take over a run directory that is in use"
code=0
timeout 10 "$SIDEKEEPER" run --apps "$TMP/apps" --listen 127.0.0.1:0 --run-dir "$run_dir" >"$TMP/second" 2>&1 || code=$?
cat "$TMP/second"
same "$code" 1
has "$(get /parent/who)" app=parent
stop_sidekeeper

step "suspended and continued: the workers are the same"
echo_app 2
start_sidekeeper
pids=$(worker_pids | tr '\n' ' ')
kill -STOP "$SK_PID"
sleep 2.5
kill -CONT "$SK_PID"
has "$(get /who)" app=echo
same "$(worker_pids | tr '\n' ' ')" "$pids"
stop_sidekeeper

step "as pid 1 it reaps orphans"
if unshare --fork --pid --mount-proc true 2>/dev/null; then isolate=(unshare --fork --pid --mount-proc --kill-child)
elif unshare --map-root-user --fork --pid --mount-proc true 2>/dev/null; then isolate=(unshare --map-root-user --fork --pid --mount-proc --kill-child)
else isolate=(); fi
if [ ${#isolate[@]} = 0 ]; then
    STEP=
    skip "as pid 1 it reaps orphans" "process namespaces are not allowed here"
else
    rm -rf "$TMP/apps"
    app orphans '{"path": "/", "workers": 1, "command": ["./run"]}'
    cat >"$APP_DIR/run" <<'SH'
#!/usr/bin/env bash
# Children of a parent that has gone: they end after we have become the echo app.
for _ in 1 2 3 4 5; do (setsid sh -c 'sleep 0.3' &) ; done
exec "$ECHO_APP"
SH
    chmod +x "$APP_DIR/run"
    "${isolate[@]}" "$SIDEKEEPER" run --apps "$TMP/apps" --listen "unix:$TMP/one.s" --run-dir "$TMP/one" \
        --address-file "$TMP/one.address" >"$TMP/one.log" 2>&1 &
    outer=$!
    wait_for "it to be ready" 15 test -s "$TMP/one.address"
    inner=$(cat "/proc/$outer/task/$outer/children" | tr -d ' ')
    same "$(sed -n 's/^NSpid:.*\t//p' "/proc/$inner/status")" 1
    sleep 0.8
    zombies() { local pid; for pid in $(descendants "$inner"); do sed -n 's/^State:\t\(Z\).*/\1/p' "/proc/$pid/status"; done; }
    same "$(zombies)" ""
    has "$(curl -sS --max-time 5 --unix-socket "$TMP/one.s" http://a/who)" app=orphans
    kill -TERM "$inner"
    wait_for "it to end" 15 dead "$inner"
    wait "$outer" || true
fi

# ---- a run directory that somebody sweeps -----------------------------------------------------------

rm -rf "$TMP/apps"
echo_app 2
start_sidekeeper

step "what is removed from the run directory is there again, and workers that nobody could reach are renewed"
before=$(worker_pids echo)
mark=$(log_mark)
rm "$SK_DIR/run/"{hook.cjs,broadcast.cjs,recovery.cjs,lock,*.sock}
wait_for "the workers to be renewed" 30 eval 'log_since "$mark" | grep -q "reload: done"'
same "$(status /pid)" 200
[ -s "$SK_DIR/run/hook.cjs" ] && [ -s "$SK_DIR/run/broadcast.cjs" ] && [ -s "$SK_DIR/run/recovery.cjs" ] && [ -s "$SK_DIR/run/lock" ]
has "$(log_since "$mark")" "somebody has removed the sockets of its workers" "files of the run directory were gone"
wait_for "the old workers to leave" 40 all_dead $before
same "$(worker_pids echo | wc -l)" 2

step "also when the directory itself is gone"
mark=$(log_mark)
rm -r "$SK_DIR/run"
wait_for "the workers to be renewed" 30 eval 'log_since "$mark" | grep -q "reload: done"'
same "$(status /pid)" 200
same "$(stat -c %a "$SK_DIR/run")" 700

step "a single worker that has died is reached again at once"
rm "$SK_DIR/run/"*.sock
kill -KILL $(worker_pids echo)
wait_for "the next lives" 10 eval '[ "$(find "$SK_DIR/run" -name "*.sock" | wc -l)" = 2 ] && [ "$(status /pid)" = 200 ]'
stop_sidekeeper

# ---- Node ----------------------------------------------------------------------------------------

need_node

step "wait_ready waits for the app's own word"
rm -rf "$TMP/apps"
node_app slow '{"path": "/", "workers": 1, "wait_ready": true, "listen_timeout": 8000}' <<'JS'
require('node:http').createServer((q, s) => s.end('here\n')).listen(3000);
setTimeout(() => process.send('ready'), 1500);
JS
begun=$(date +%s%N)
start_sidekeeper
[ $(($(date +%s%N) - begun)) -ge 1400000000 ]
same "$(get /)" here
stop_sidekeeper

step "a Node app that throws at its start: the error is in the log"
rm -rf "$TMP/apps"
node_app thrower '{"path": "/", "workers": 1, "max_restarts": 2}' <<'JS'
throw new Error('the settings are missing');
JS
launch_sidekeeper --apps "$TMP/apps"
wait_for "it to be errored" 15 grep -qi errored "$LOG"
has "$(cat "$LOG")" 'the settings are missing'
stop_sidekeeper

step "npm start"
node_app wrapped '{"path": "/", "workers": 2, "command": "npm start"}' <<'JS'
require('node:http').createServer((q, s) => s.end(`instance=${process.env.NODE_APP_INSTANCE}\n`)).listen(3000);
JS
rm -rf "$TMP/apps/thrower"
echo '{"name": "wrapped", "scripts": {"start": "node app.js"}}' >"$APP_DIR/package.json"
start_sidekeeper
same "$(for _ in 1 2 3 4; do get /; done | sort -u | tr '\n' ' ')" "instance=0 instance=1 "
stop_sidekeeper
