#!/usr/bin/env bash
# What the operator reads when the ground is missing: a jail without /proc, a run directory that
# somebody removes, a process that is stopped for a while.
# seconds: 8
. "$(dirname "$0")/lib.sh"

libraries=$(ldd "$SIDEKEEPER" "$ECHO_APP" 2>/dev/null || true)
if [ "$(id -u)" = 0 ] && [[ $libraries != *"=>"* ]]; then
    step "a jail without /proc is told what it lacks"
    mkdir "$TMP/jail"
    cp "$SIDEKEEPER" "$TMP/jail/sidekeeper"
    code=0
    said=$(chroot "$TMP/jail" /sidekeeper run --listen 127.0.0.1:0 --run-dir /run -- /sidekeeper 2>&1) || code=$?
    same "$code" 1
    has "$said" /proc /dev/null

    if unshare --pid --fork --mount true 2>/dev/null; then
        step "a root with nothing but the two binaries, as process 1 of a container"
        rm -rf "$TMP/jail/run"
        mkdir -p "$TMP/jail/apps/echo" "$TMP/jail/proc" "$TMP/jail/dev"
        mkdir -m 777 "$TMP/jail/tmp"
        cp "$ECHO_APP" "$TMP/jail/apps/echo/run"
        touch "$TMP/jail/dev/null"
        cat >"$TMP/enter" <<'SH'
mount -t proc proc "$1/proc" && mount --bind /dev/null "$1/dev/null" && exec chroot "$@"
SH
        unshare --pid --fork --mount --kill-child sh "$TMP/enter" "$TMP/jail" /sidekeeper run --listen 127.0.0.1:0 \
            --apps /apps --run-dir /run/sidekeeper --address-file /tmp/address --workers 2 --user 65534:65534 \
            >"$TMP/jail.log" 2>&1 </dev/null &
        outer=$!
        wait_for "the address" 20 test -s "$TMP/jail/tmp/address"
        URL=http://$(cat "$TMP/jail/tmp/address")
        same "$(status /)" 200
        inner=$(cat "/proc/$outer/task/"*/children)
        inner=${inner% }
        same "$(sed -n 's/^NSpid:.*[[:space:]]\([0-9]*\)$/\1/p' "/proc/$inner/status")" 1
        same "$(sed -n 's/^Uid:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$inner/status")" 65534

        step "there it restarts workers, and ends as it is told to"
        worker=$(SK_PID=$inner worker_pids echo 0)
        kill -KILL "$worker"
        wait_for "its next life" 10 eval '[ -n "$(SK_PID=$inner worker_pids echo 0)" ] && [ "$(SK_PID=$inner worker_pids echo 0)" != "$worker" ]'
        same "$(status /)" 200
        kill -TERM "$inner"
        wait "$outer"
        same "$(find "$TMP/jail" -name '*.sock')" ""
    else
        end_step
        skip "a root with nothing but the two binaries" "no namespaces can be made here"
    fi
else
    skip "a bare root" "only for root and static binaries"
fi
end_step

echo_app 1
start_sidekeeper --apps "$TMP/apps" --connect-timeout 1 --upstream-idle-timeout 0.1

step "after a halt of three seconds the same worker serves"
worker=$(worker_pids echo)
kill -STOP "$SK_PID"
sleep 3
kill -CONT "$SK_PID"
same "$(status /)" 200
same "$(worker_pids echo)" "$worker"

step "a removed run directory is named in the log, and its files are written again"
rm -rf "$SK_DIR/run"
wait_for "the reason" 20 log_has "files of the run directory were gone and have been written again"
wait_for "a worker with a socket of its own again" 20 eval '[ "$(worker_pids echo)" != "$worker" ] && [ "$(status /)" = 200 ]'
