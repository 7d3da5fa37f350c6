#!/usr/bin/env bash
# SIGKILL for sidekeeper itself in the middle of something: a reload, a worker that is added, a drain, each moment of
# an upgrade. Whatever it was doing, no process is left, and the next start on the same run directory serves.
# seconds: 40
. "$(dirname "$0")/lib.sh"

export RUN_DIR=$TMP/run
sk() { "$SIDEKEEPER" "$@" --run-dir "$RUN_DIR"; }

# cut_off: kills it, and waits until everything that it has started is gone.
cut_off() {
    local all
    all=$(descendants "$SK_PID")
    kill -KILL "$SK_PID"
    wait "$SK_PID" 2>/dev/null || true
    SK_PID=
    wait_for "everything that it had started to end" 5 all_dead $all
}
# serves_again: on the same run directory, with nothing in it that is not of this run.
serves_again() {
    start_sidekeeper
    same "$(status /pid)" 200
    same "$(find "$RUN_DIR" -name '*.sock' | wc -l)" 2
    has "$(sk status)" "2 of 2 workers ready"
}
slow_to_start() {
    echo "{\"path\": \"/\", \"workers\": 2, \"command\": [\"sh\", \"-c\", \"[ ! -e $TMP/slow ] || sleep 60; exec $ECHO_APP\"]}" \
        >"$TMP/apps/echo/sidekeeper.json"
}
workers_are() { [ "$(worker_pids echo | wc -l)" = "$1" ]; }

echo_app 2
slow_to_start
start_sidekeeper

step "in a reload, while the newcomer comes up"
touch "$TMP/slow"
sk reload >"$TMP/said" 2>&1 &
asked=$!
wait_for "the newcomer" 10 workers_are 3
cut_off
fails wait "$asked"
rm "$TMP/slow"
serves_again

step "while a worker is added"
touch "$TMP/slow"
sk scale echo 4 >"$TMP/said" 2>&1 &
asked=$!
wait_for "the new ones" 10 workers_are 4
cut_off
fails wait "$asked"
rm "$TMP/slow"
serves_again

step "while a worker drains, with a request in it"
get '/slow?ms=60000' -o /dev/null >/dev/null 2>&1 &
held=$!
in_flight() { sk status --json | grep -q '"in_flight":1'; }
wait_for "the request" 10 in_flight
sk drain "$(sk status --json | sed -n 's/.*"worker":"\([^"]*\)".*"in_flight":1.*/\1/p' | head -n 1)" >"$TMP/said" 2>&1 &
asked=$!
wait_for "the drain" 10 eval 'sk status | grep -q draining'
cut_off
fails wait "$asked"
fails wait "$held"
serves_again

step "while it tries out another binary"
cat >"$TMP/patient" <<SH
#!/bin/sh
touch "$TMP/tried"
exec "$SIDEKEEPER" status --watch --run-dir "$RUN_DIR"
SH
chmod +x "$TMP/patient"
sk upgrade "$TMP/patient" >"$TMP/said" 2>&1 &
asked=$!
wait_for "the trial" 10 test -e "$TMP/tried"
cut_off
fails wait "$asked"
serves_again

step "at any moment of an upgrade"
cp "$SIDEKEEPER" "$TMP/other-binary"
for pause in 0 0.01 0.02 0.03 0.05 0.08 0.12 0.2; do
    sk upgrade "$TMP/other-binary" >"$TMP/said" 2>&1 &
    asked=$!
    sleep "$pause"
    cut_off
    wait "$asked" || true
    serves_again
done
stop_sidekeeper
same "$SK_STATUS" 0
same "$(find "$RUN_DIR" -name '*.sock' -o -name control | wc -l)" 0
