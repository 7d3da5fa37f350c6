#!/usr/bin/env bash
# The number of workers follows the load: a burst gets a second worker within its own boot time and a
# second, the one that is not needed any more leaves without dropping anybody, an app without a worker
# gets one for its first request; bounds are kept; `scale`, `drain` and `start` do what they say.
# seconds: 150
# limit: 300
. "$(dirname "$0")/lib.sh"
. "$ROOT/tests/realtime/lib.sh"

check "npm packages of the tests" install_packages "$ROOT/tests"
[ "$FAILED" = 0 ] || exit 1
export NODE_PATH=$ROOT/tests/node_modules

# app_json NAME PATH KEYS [ENV]: one app of this test.
app_json() {
    echo "{\"name\": \"$1\", \"script\": \"$ROOT/tests/fixtures/busy.js\", \"path\": \"$2\", $3, \"env\": ${4:-{\}}}"
}
configure() {
    local IFS=,
    echo "{\"apps\": [$*]}" >"$TMP/apps.json"
}
ask() { "$SIDEKEEPER" "$@" --run-dir "$SK_DIR/run"; }
# code WANTED COMMAND...: the exit code, the output being in $OUT.
code() {
    local wanted=$1 got=0
    shift
    OUT=$("$@" 2>&1) || got=$?
    same "$got" "$wanted" || { printf '%s\n' "$OUT" >&2; return 1; }
}
workers_are() { same "$(worker_pids "$1" | wc -l)" "$2"; }
ready_are() { has "$(ask status)" "$1 of $2"; }
# saturate: a load that one worker cannot carry. Sets $load; its words go to $TMP/load.
saturate() {
    node "$ROOT/tests/fixtures/saturate.js" "$URL" 8 40 >"$TMP/load" 2>"$TMP/load.err" &
    load=$!
}
relieve() {
    kill "$load"
    wait "$load"
    has "$(tail -n 1 "$TMP/load")" '"errors":{}'
}

configure "$(app_json main / '"min": 1, "max": 3, "cool_down": 3, "drain_timeout": 6' '{"BOOT_MS": "300"}')" \
    "$(app_json lazy /lazy '"min": 0, "max": 2, "idle_timeout": 2' '{"PREFIX": "/lazy"}')"
start_sidekeeper --config "$TMP/apps.json" --workers-max 4 --dashboard 127.0.0.1:0

step "an app begins with its least workers, and one with none counts as ready"
has "$(ask status)" "main  1 of 1-3" "lazy  0 of 0-2"
workers_are main 1
workers_are lazy 0
has "$(cat "$LOG")" "when asked for"
dashboard=$(ask status --json | sed -n 's/.*"dashboard":"\([^"]*\)".*/\1/p')
same "$(curl -s "http://$dashboard/readyz")" ready
has "$(curl -s "http://$dashboard/metrics")" 'sidekeeper_app_workers_max{app="main"} 3' 'sidekeeper_app_workers_min{app="lazy"} 0'

step "a burst: a second worker serves within its own boot time and a second"
# What a worker does right after its start is no measure.
sleep 2
saturate
wait_for "an answer of a second worker" 20 grep -q '^worker 1 ' "$TMP/load"
served=$(sed -n 's/^worker 1 after //p' "$TMP/load")
boot=$(sed -n 's/.*main\.1 (pid .*) is ready after \(.*\) s$/\1/p' "$LOG" | awk '{ print int($1 * 1000) }')
note "the second worker served after $served ms, $boot of them its boot"
# Where more wants to run than there are processors, that says nothing about scaling.
[ "$served" -le $((boot + $(awk -v cores="$(nproc)" '{ print ($1 + 0 > cores + 0 ? 5000 : 1000) }' /proc/loadavg))) ]
has "$(ask status)" "of 1-3" "1 more, 2 of 1-3: the worker is full"
has "$(ask status --json)" '"workers_min":1,"workers_max":3,"by_hand":false,"scaled":{"ago_s":'

step "it grows no further than its most"
wait_for "three workers" 20 ready_are 3 1-3
sleep 3
workers_are main 3
relieve

step "those that are not needed leave, and nobody is dropped: a long answer ends, sessions move on"
node "$ROOT/tests/fixtures/stayers.js" "$URL" 12 >"$TMP/stayers" 2>&1 &
stayers=$!
wait_for "sessions" 20 grep -q ready "$TMP/stayers"
for n in 1 2 3 4 5 6; do get "/slow?ms=12000" -w '\n' >"$TMP/slow.$n" & done
slow=$(jobs -p | tail -n 6)
wait_for "one worker" 120 workers_are main 1
# shellcheck disable=SC2086
wait $slow
kill "$stayers"
wait "$stayers"
note "$(tail -n 1 "$TMP/stayers")"
has "$(tail -n 1 "$TMP/stayers")" '"errors":{}' '"connected":12'
same "$(cat "$TMP"/slow.* | grep -cE '^[0-2] [0-9]+$')" 6
[ "$(cat "$TMP"/slow.* | cut -d ' ' -f 1 | sort -u | wc -l)" -gt 1 ]
same "$(worker_pids main 0 | wc -l)" 1
has "$(ask status)" "1 fewer, 1 of 1-3" "the others are enough"

step "an app that sleeps gets a worker for its first request, which is served, body and all"
workers_are lazy 0
same "$(get /lazy/length -d hello)" 5
workers_are lazy 1

step "it goes back to sleep when nobody asks, and wakes for many at once"
wait_for "nobody" 30 workers_are lazy 0
has "$(ask status)" "no request for 2 s"
answers=$(for _ in $(seq 20); do status /lazy/ & done; wait)
same "$answers" "$(printf '200%.0s' $(seq 20))"
wait_for "nobody again" 30 workers_are lazy 0

step "a WebSocket wakes it too, and it stays while the socket is open"
node "$ROOT/tests/fixtures/stayers.js" "$URL" 1 /lazy >"$TMP/stayers" 2>&1 &
stayers=$!
wait_for "the session" 20 grep -q ready "$TMP/stayers"
sleep 4
workers_are lazy 1
kill "$stayers"
wait "$stayers"
has "$(tail -n 1 "$TMP/stayers")" '"errors":{}'
wait_for "nobody" 30 workers_are lazy 0

step "by hand: so many, more, fewer, none; wrong words say what is meant"
# Those that leave count among the workers of all apps until they have ended.
wait_for "those of the burst to have left" 60 workers_are main 1
code 0 ask scale main 3
has "$OUT" "main.1 is ready" "main.2 is ready" "main: 3 workers from now on"
has "$(ask status)" "3 of 3 by hand"
sleep 4
workers_are main 3
code 1 ask scale main 4
has "$OUT" "main can have 3 workers at most" "--workers-max"
workers_are main 3
code 0 ask scale main -1
has "$OUT" "leaves when nobody is left" "main: 2 workers"
wait_for "one to leave" 20 workers_are main 2
code 0 ask scale main +1
code 2 ask scale mian 2
has "$OUT" "did you mean \`main\`?"
code 2 ask scale main many
has "$OUT" "auto"
code 0 ask scale main 0
wait_for "none" 20 workers_are main 0
same "$(status /)" 503
code 0 ask start main
wait_for "the first one" 20 eval '[ "$(status /)" = 200 ]'
code 0 ask scale main auto
has "$OUT" "main: 1 to 3 workers"

step "a reload keeps as many as there are, within the new bounds, and ends what was said by hand"
code 0 ask scale main 3
configure "$(app_json main / '"min": 1, "max": 2, "drain_timeout": 3')" "$(app_json lazy /lazy '"min": 0, "max": 2')"
code 0 ask reload
wait_for "two workers" 20 workers_are main 2
has "$(ask status)" "main  2 of 1-2" "lazy  0 of 0-2"
# A worker that sleeps is of the new version all the same.
same "$(status /lazy/)" 200

step "drain: a worker leaves, its count is told, the rest of the app serves on; start brings it back"
wait_for "those that were replaced to leave" 20 workers_are main 2
get "/slow?ms=2500" >/dev/null & one=$!
get "/slow?ms=2500" >/dev/null & other=$!
sleep 0.3
code 0 ask drain main.1
has "$OUT" "main.1 drains: 0 WebSockets and 1 requests are left" "main.1 has left"
wait $one $other
code 1 ask drain main.0
has "$OUT" "only ready worker" "sidekeeper scale main +1"
code 2 ask drain main
code 2 ask drain main.7
code 0 ask start main.1
has "$OUT" "main.1 is ready"
code 0 ask start main.1
has "$OUT" "main.1 is ready already"
code 0 ask start

step "a drain goes on when whoever asked has left"
get "/slow?ms=2500" >/dev/null & one=$!
get "/slow?ms=2500" >/dev/null & other=$!
sleep 0.3
ask drain main.1 >"$TMP/drain" &
client=$!
wait_for "the count" 10 grep -q "main.1 drains" "$TMP/drain"
kill -INT "$client" 2>/dev/null || kill "$client"
wait "$client" || true
wait $one $other
wait_for "it to have left" 20 workers_are main 1
stop_sidekeeper
same "$SK_STATUS" 0

step "workers that do not come up are not added without end, and those there serve on"
configure "$(app_json main / '"min": 1, "max": 9, "cool_down": 300' '{"BREAKS_FROM": "1"}')"
start_sidekeeper --config "$TMP/apps.json" --workers-max 9
sleep 2
saturate
wait_for "a second one that fails" 20 eval 'has "$(ask status)" "errored"'
sleep 3
has "$(ask status --json)" '"workers":2,"ready":1'
code 1 ask scale main 3
has "$OUT" "main.1 does not come up: exit code 1"
relieve
stop_sidekeeper

step "a client that keeps coming with a cookie moves on, and does not keep its worker for ever"
configure "$(app_json main / '"instances": 2, "session_cookies": ["session"], "drain_timeout": 3')"
start_sidekeeper --config "$TMP/apps.json"
wait_for "two workers" 20 eval 'has "$(ask status)" "2/2"'
cookie=$(for _ in 1 2 3 4; do get /login -i; echo; done | tr -d '\r' | sed -n '/^Set-Cookie: /{s///;h}; /^1 /{x;p;q}')
(until [ -e "$TMP/enough" ]; do get / -w ' %{http_code}\n' -b "$cookie"; sleep 0.2; done) >"$TMP/cookies" 2>&1 &
visitor=$!
wait_for "answers of the one with the session" 10 grep -q '^1 .* 200' "$TMP/cookies"
code 0 ask scale main 1
wait_for "it to leave" 30 workers_are main 1
touch "$TMP/enough"
wait "$visitor"
has "$(tail -n 1 "$TMP/cookies")" "0 "
same "$(grep -v ' 200$' "$TMP/cookies" || true)" ""
stop_sidekeeper

step "a worker that only waits is full too, if the app says how many requests it is meant to have"
configure "$(app_json main / '"min": 1, "max": 2, "requests_per_worker": 3')"
start_sidekeeper --config "$TMP/apps.json"
sleep 2
for _ in 1 2 3; do get "/slow?ms=6000" >/dev/null & done
wait_for "a second one" 20 ready_are 2 1-2
has "$(ask status)" "the worker is full and 3 requests are with them"
stop_sidekeeper

step "no worker is started that memory has no room for, nor one too many over all apps"
configure "$(app_json main / '"min": 1, "max": 3')" "$(app_json other /other '"workers": 1')"
start_sidekeeper --config "$TMP/apps.json" --memory-reserve 900g
sleep 2
saturate
wait_for "a word about memory" 20 log_has "main: no more workers, although the worker is full"
has "$(ask status)" "main gets no more workers: memory: " "--memory-reserve"
workers_are main 1
relieve
stop_sidekeeper
start_sidekeeper --config "$TMP/apps.json" --workers-max 2
sleep 2
saturate
wait_for "a word about the bound" 20 log_has "there are 2 workers over all apps, as many as --workers-max allows"
workers_are main 1
relieve
stop_sidekeeper

step "numbers that contradict are refused"
configure "$(app_json main / '"min": 3, "max": 2')"
code 2 "$SIDEKEEPER" check --config "$TMP/apps.json"
has "$OUT" "app \`main\`: 3 workers at least (\`min\`) are more than 2 at most (\`max\`)"
configure "$(app_json main / '"workers": 3')"
code 2 "$SIDEKEEPER" check --config "$TMP/apps.json" --workers-max 2
has "$OUT" "--workers-max is 2, but the apps begin with 3 workers"
