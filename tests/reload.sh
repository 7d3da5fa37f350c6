#!/usr/bin/env bash
# A reload (SIGHUP, `sidekeeper reload`): under a load of every kind no request fails and no session is
# lost; a version that does not come up is refused; apps come, change and go; what cannot be read
# changes nothing. SK_FULL=1: 200 clients instead of 40.
# seconds: 60
. "$(dirname "$0")/lib.sh"
. "$ROOT/tests/realtime/lib.sh"

check "npm packages of the tests" install_packages "$ROOT/tests"
[ "$FAILED" = 0 ] || exit 1
export NODE_PATH=$ROOT/tests/node_modules

# app_json NAME PATH WORKERS ENV: one app of this test.
app_json() {
    echo "{\"name\": \"$1\", \"script\": \"$ROOT/tests/fixtures/versioned.js\", \"path\": \"$2\", \"instances\": $3,
        \"drain_timeout\": 3, \"env\": $4}"
}
configure() {
    local IFS=,
    echo "{\"apps\": [$*]}" >"$TMP/apps.json"
}
reload() { "$SIDEKEEPER" reload --run-dir "$SK_DIR/run" "$@" 2>&1; }
serves() { same "$(get "$1")" "$2"; }
workers_are() { same "$(worker_pids "$1" | wc -l)" "$2"; }
none_of() {
    local pid
    for pid in $1; do dead "$pid" || return 1; done
}

configure "$(app_json main / 3 '{"VERSION": "one"}')"
start_sidekeeper --config "$TMP/apps.json"
wait_for "all workers" 20 eval '[ "$(grep -c " is ready after " "$LOG")" = 3 ]'

step "a load begins"
node "$ROOT/tests/fixtures/load.js" "$URL" $([ "${SK_FULL:-}" = 1 ] && echo 5 || echo 1) >"$TMP/load.out" 2>"$TMP/load.err" &
load=$!
wait_for "the load" 10 grep -q ready "$TMP/load.out"
sleep 1

step "the configuration is read anew: every worker is replaced, and says the new version"
before=$(worker_pids main)
configure "$(app_json main / 3 '{"VERSION": "two"}')"
out=$(reload)
has "$out" "main: 0 of 3 done; the successor of worker 0 starts" "main: 3 of 3 done; it serves" "main: 3 workers of the new version serve"
same "$(tail -n 1 <<<"$out" | grep -c 'new version serve')" 1
for _ in 1 2 3 4 5 6; do serves /version two; done
wait_for "the old workers to leave" 20 none_of "$before"
workers_are main 3

step "SIGHUP is the same, and options that wait for the next start are named"
before=$(worker_pids main)
configure "$(app_json main / 4 '{"VERSION": "three"}')"
sed -i '$s/}$/, "threads": 7, "head_timeout": 3, "log_format": "prefixed"}/' "$TMP/apps.json"
mark=$(log_mark)
kill -HUP "$SK_PID"
wait_for "the end of the reload" 30 eval 'log_since "$mark" | grep -q "reload: done"'
said=$(log_since "$mark")
has "$said" "\`threads\` has changed" "\`head_timeout\` has changed"
lacks "$said" "\`listen\`" "\`log_format\`"
serves /version three
wait_for "the old workers to leave" 20 none_of "$before"
workers_are main 4

step "a version that does not come up is refused, and the one before serves on"
before=$(worker_pids main)
configure "$(app_json main / 4 '{"VERSION": "four", "BROKEN": "1"}')"
status=0
answer=$(reload) || status=$?
same "$status" 1
has "$answer" "main: refused, the version before serves on: exit code 1" "this version is broken"
serves /version three
same "$(worker_pids main)" "$before"

step "so is one that dies as soon as it is ready"
configure "$(app_json main / 4 '{"VERSION": "four", "FRAIL": "1"}')"
has "$(reload || true)" "main: refused, the version before serves on: exit code 3"
serves /version three
same "$(worker_pids main)" "$before"

step "what had been replaced before a later worker failed goes back"
configure "$(app_json main / 4 '{"VERSION": "four", "BREAKS_AT": "2"}')"
mark=$(log_mark)
has "$(reload || true)" "main: refused, the version before serves on: exit code 1" "this worker is broken"
has "$(log_since "$mark")" "main: what was replaced goes back"
for _ in 1 2 3 4 5 6 7 8; do serves /version three; done
wait_for "those of the refused version to leave" 20 workers_are main 4
before=$(worker_pids main)

step "what cannot be read changes nothing"
echo '{"apps": [' >"$TMP/apps.json"
status=0
answer=$(reload) || status=$?
same "$status" 1
has "$answer" "refused, everything stays as it is" "apps.json"
mark=$(log_mark)
kill -HUP "$SK_PID"
wait_for "the refusal" 10 eval 'log_since "$mark" | grep -q "ERROR.*everything stays as it is"'
same "$(worker_pids main)" "$before"

step "an app is added, and no other touched, when only it is named"
configure "$(app_json main / 1 '{"VERSION": "five"}')" "$(app_json more /more 2 '{"VERSION": "more one"}')"
has "$(reload more)" "more: 2 workers of the new version serve"
serves /more/version "more one"
same "$(worker_pids main)" "$before"
has "$(reload nobody || true)" "the configuration has no app \`nobody\`"

step "an added app that does not come up is not added, and the others are reloaded all the same"
configure "$(app_json main / 2 '{"VERSION": "six"}')" "$(app_json more /more 2 '{"VERSION": "more two"}')" \
    "$(app_json never /never 1 '{"BROKEN": "1"}')"
status=0
answer=$(reload) || status=$?
same "$status" 1
has "$answer" "never: refused, the app is not added" "main: 2 workers" "more: 2 workers"
serves /version six
serves /more/version "more two"
wait_for "fewer workers" 20 workers_are main 2

step "an app moves to another path, and one is removed"
configure "$(app_json main / 2 '{"VERSION": "seven"}')" "$(app_json less /less 1 '{"VERSION": "less"}')"
has "$(reload)" "more: removed" "less: 1 worker of the new version serves"
serves /less/version less
serves /more/version seven
wait_for "its workers to leave" 20 workers_are more 0
wait_for "all others to leave" 20 workers_are main 2

step "nothing of the load was lost in all of this"
kill -TERM "$load"
wait "$load"
result=$(tail -n 1 "$TMP/load.out")
note "$result"
has "$result" '"errors":{}' '"one":' '"two":' '"three":' '"six":' '"seven":'
has "$result" '"get":' '"post":' '"slow":' '"polling":' '"websocket":' '"staying":'
lacks "$result" '"sentAway":0'

step "sockets of workers that have left are gone"
same "$(find "$SK_DIR/run" -name '*.sock' | wc -l)" 3
stop_sidekeeper
same "$SK_STATUS" 0

step "a program without a channel is reloaded too, and orders that come at once are obeyed one by one"
configure "{\"name\": \"echo\", \"command\": [\"$ECHO_APP\"], \"path\": \"/\", \"workers\": 2}"
start_sidekeeper --config "$TMP/apps.json"
before=$(worker_pids echo)
kill -HUP "$SK_PID"
(reload || true) >"$TMP/first" &
first=$!
(reload || true) >"$TMP/second"
wait $first
wait_for "the old workers to leave" 20 none_of "$before"
# One of them may have taken the place of the other before that one had begun.
has "$(cat "$TMP/first" "$TMP/second")" "echo: 2 workers of the new version serve"
same "$(status /pid)" 200
wait_for "the others to leave" 20 workers_are echo 2
