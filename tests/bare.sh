#!/usr/bin/env bash
# What the operator reads when the ground is missing: a jail without /proc, a run directory that
# somebody removes, a process that is stopped for a while.
# seconds: 8
. "$(dirname "$0")/lib.sh"

if [ "$(id -u)" = 0 ] && ! ldd "$SIDEKEEPER" 2>/dev/null | grep -q '=>'; then
    step "a jail without /proc is told what it lacks"
    mkdir "$TMP/jail"
    cp "$SIDEKEEPER" "$TMP/jail/sidekeeper"
    code=0
    said=$(chroot "$TMP/jail" /sidekeeper run --listen 127.0.0.1:0 --run-dir /run -- /sidekeeper 2>&1) || code=$?
    same "$code" 1
    has "$said" /proc /dev/null
else
    skip "a jail without /proc is told what it lacks" "only for root and the static binary"
fi

echo_app 1
start_sidekeeper --apps "$TMP/apps" --connect-timeout 1

step "after a halt of three seconds the same worker serves"
worker=$(worker_pids echo)
kill -STOP "$SK_PID"
sleep 3
kill -CONT "$SK_PID"
same "$(status /)" 200
same "$(worker_pids echo)" "$worker"

step "a removed run directory is named in the log"
rm -rf "$SK_DIR/run"
same "$(status /)" 503
wait_for "the reason" 10 log_has "its socket is gone from the run directory"
