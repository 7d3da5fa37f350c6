#!/usr/bin/env bash
# kill -9 of each worker in turn under a steady load of GETs: not one fails. And of all at once.
# Connections made while a worker is away wait in its backlog.
# seconds: 25
. "$(dirname "$0")/lib.sh"

# under_load SECONDS-TO-SETTLE COMMAND... TARGETS in $TARGETS
TARGETS=(/pid '/slow?ms=20' /bytes?n=3000)
begin_load() {
    touch "$TMP/load"
    raw load --connections "${1:-8}" --pause 2 --while "$TMP/load" --answer-max 15 "$ADDR" "${TARGETS[@]}" >"$TMP/tally" 2>&1 &
    LOAD=$!
}
end_load() {
    sleep 0.5
    rm "$TMP/load"
    wait $LOAD || true
    cat "$TMP/tally"
    grep -q ' failed 0 ' "$TMP/tally"
}

replaced() { [ -n "$(worker_pids "$1" "$2")" ] && [ "$(worker_pids "$1" "$2")" != "$3" ]; }
kill_instance() {
    local pid
    pid=$(worker_pids "$1" "$2")
    kill -KILL "$pid"
    wait_for "instance $2 of $1 to be replaced" 10 replaced "$1" "$2" "$pid"
}

each_in_turn() {
    local instance
    begin_load
    for instance in 0 1 2 3 0 1 2 3; do
        sleep 0.3
        kill_instance "$1" $instance
    done
    end_load
}

echo_app 4
start_sidekeeper
check "each worker killed in turn" each_in_turn echo

all_at_once() {
    begin_load
    sleep 0.3
    kill -KILL $(worker_pids echo)
    sleep 1
    # A request is repeated once. One that was repeated to a worker in the instant before that one
    # died too is answered with 502; there is no room for more than a few of those.
    end_load || {
        [ "$(sed -n 's/.* failed \([0-9]*\) .*/\1/p' "$TMP/tally")" -le 4 ]
        same "$(grep '^raw:' "$TMP/tally" | grep -v 'status 502')" ""
    }
}
check "all workers killed at once" all_at_once

fresh() {
    # A new connection for each request, and none kept to the workers when they die.
    touch "$TMP/load"
    raw load --fresh --connections 4 --pause 5 --while "$TMP/load" --answer-max 15 "$ADDR" /pid >"$TMP/tally" 2>&1 &
    LOAD=$!
    for instance in 0 1 2 3; do
        sleep 0.2
        kill_instance echo $instance
    done
    end_load
}
check "clients without kept connections" fresh

terminated() {
    begin_load
    for instance in 0 1 2 3; do
        sleep 0.3
        pid=$(worker_pids echo $instance)
        kill -TERM "$pid"
        wait_for "instance $instance to be replaced" 10 replaced echo $instance "$pid"
    done
    end_load
}
check "workers that end by SIGTERM" terminated

step "a single worker: what comes while it is away waits for its next life"
stop_sidekeeper
echo_app 1
start_sidekeeper
begin_load 4
for _ in 1 2 3; do
    sleep 0.3
    kill_instance echo 0
done
end_load

step "a single worker: a hundred connections queued while it is stopped and killed"
pid=$(worker_pids echo)
kill -STOP "$pid"
raw hold 100 --until 'HTTP/1.1 200' --timeout 15 "$ADDR" +get:/who >"$TMP/held" 2>&1 &
holding=$!
wait_for "the connections" 5 grep -q '^held 100' "$TMP/held"
kill -KILL "$pid"
wait $holding
has "$(cat "$TMP/held")" 'answered 100 of 100'

posts() {
    # A POST may have been begun: it is not sent twice, its client is told.
    local pid answer
    pid=$(worker_pids echo)
    get '/slow?ms=3000' -X POST -d x -w '%{http_code}' >"$TMP/post" 2>&1 &
    answer=$!
    wait_for "the request to arrive" 5 eval '[ -n "$(worker_pids echo)" ]'
    sleep 0.5
    kill -KILL "$pid"
    wait $answer || true
    has "$(cat "$TMP/post")" 502
}
check "a POST in flight is answered with 502, not repeated" posts

step "Node workers: each killed in turn"
need_node
stop_sidekeeper
rm -rf "$TMP/apps"
node_app hello '{"path": "/", "workers": 3}' <"$ROOT/apps/hello/app.js"
start_sidekeeper
TARGETS=(/)
begin_load
for instance in 0 1 2; do
    sleep 0.5
    kill_instance hello $instance
    sleep 0.5
done
end_load
