#!/usr/bin/env bash
# What is shipped beside the binary: `make install`, the man page and completions, the units, `sidekeeper init`;
# and what a service manager and a container expect: sd_notify, the watchdog, socket activation, process 1.
# seconds: 30
. "$(dirname "$0")/lib.sh"

SHIPPED=$ROOT/docs/packaging
have() { command -v "$1" >/dev/null; }
# without PROGRAM STEP: says that the step is left out, unless the program is there.
without() {
    have "$1" && return 1
    end_step
    skip "$2" "$1 is not installed"
}

# ---- files ----------------------------------------------------------------------------------------

step "make install puts everything under PREFIX, in DESTDIR, and uninstall removes it"
(
    unset MAKEFLAGS MAKELEVEL
    make -s -C "$ROOT" install STATIC="$(dirname "$SIDEKEEPER")" DESTDIR="$TMP/dest" PREFIX=/usr >/dev/null
)
installed=$(cd "$TMP/dest" && find . -type f | sort)
same "$installed" "./usr/bin/sidekeeper
./usr/lib/systemd/system/sidekeeper.service
./usr/lib/systemd/system/sidekeeper.socket
./usr/share/bash-completion/completions/sidekeeper
./usr/share/fish/vendor_completions.d/sidekeeper.fish
./usr/share/man/man1/sidekeeper.1
./usr/share/zsh/site-functions/_sidekeeper"
has "$("$TMP/dest/usr/bin/sidekeeper" --version)" sidekeeper
grep -q '^ExecStart=/usr/bin/sidekeeper run ' "$TMP/dest/usr/lib/systemd/system/sidekeeper.service"
(
    unset MAKEFLAGS MAKELEVEL
    make -s -C "$ROOT" uninstall DESTDIR="$TMP/dest" PREFIX=/usr >/dev/null
)
same "$(find "$TMP/dest" -type f)" ""

step "bash completes commands, options and values"
complete_bash() {
    bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sidekeeper; printf "%s " "${COMPREPLY[@]}"' \
        bash "$SHIPPED/sidekeeper.bash" "$@"
}
same "$(complete_bash sidekeeper rel)" "reload "
same "$(complete_bash sidekeeper --lis)" "--listen "
same "$(complete_bash sidekeeper run --log-level de)" "debug "
has "$(complete_bash sidekeeper status --)" --json --watch --run-dir
lacks "$(complete_bash sidekeeper status --)" --listen
same "$(complete_bash sidekeeper run -- --li)" " "
same "$(cd "$ROOT" && complete_bash sidekeeper run --apps ap)" "apps "

without zsh "zsh reads its completion" || { step "zsh reads its completion"; zsh -n "$SHIPPED/_sidekeeper"; }
without fish "fish completes" || {
    step "fish completes"
    same "$(fish --no-config -c "source $SHIPPED/sidekeeper.fish; complete -C 'sidekeeper relo'" 2>&1 | cut -f 1)" reload
    has "$(fish --no-config -c "source $SHIPPED/sidekeeper.fish; complete -C 'sidekeeper run --log-level '")" debug
    has "$(fish --no-config -c "source $SHIPPED/sidekeeper.fish; complete -C 'sidekeeper status --'")" --watch
}
without mandoc "the man page is well formed" || {
    step "the man page is well formed"
    # A date would have to be kept right by hand.
    same "$(mandoc -T lint -W warning "$SHIPPED/sidekeeper.1" 2>&1 | grep -v 'missing date' || true)" ""
    has "$(mandoc -T utf8 "$SHIPPED/sidekeeper.1" | sed 's/.\x08//g')" "--listen ADDR" "session_cookies" "reload [APP]"
}

# ---- init -----------------------------------------------------------------------------------------

step "init writes a configuration and a unit for what is in the folder"
mkdir "$TMP/my-app"
printf '{"scripts": {"start": "%s"}}' "$ECHO_APP" >"$TMP/my-app/package.json"
said=$(cd "$TMP/my-app" && "$SIDEKEEPER" init)
has "$said" "ecosystem.json is written" "sidekeeper.service is written" "systemctl enable"
has "$("$SIDEKEEPER" check --config "$TMP/my-app/ecosystem.json")" my-app "$ECHO_APP"
lacks "$("$SIDEKEEPER" check --config "$TMP/my-app/ecosystem.json")" warning
unit=$(cat "$TMP/my-app/sidekeeper.service")
has "$unit" "ExecStart=$(readlink -f "$SIDEKEEPER") run --config $(readlink -f "$TMP")/my-app/ecosystem.json" "WorkingDirectory=$(readlink -f "$TMP")/my-app"

step "what it has written serves"
start_sidekeeper --config "$TMP/my-app/ecosystem.json" --workers 1
same "$(status /)" 200
stop_sidekeeper

step "it writes nothing over"
echo '{"mine": true}' >"$TMP/my-app/ecosystem.json"
code=0
said=$("$SIDEKEEPER" init "$TMP/my-app" 2>&1) || code=$?
same "$code" 1
has "$said" "are there already"
rm "$TMP/my-app/sidekeeper.service"
has "$("$SIDEKEEPER" init "$TMP/my-app")" "ecosystem.json is there already, and is kept" "sidekeeper.service is written"
same "$(cat "$TMP/my-app/ecosystem.json")" '{"mine": true}'

step "a folder that says nothing gets a configuration to be corrected"
mkdir "$TMP/empty"
has "$("$SIDEKEEPER" init "$TMP/empty")" "correct \`script\`"

without systemd-analyze "systemd finds nothing wrong with the units" || {
    step "systemd finds nothing wrong with the units"
    cp "$SHIPPED/sidekeeper.socket" "$TMP/my-app/"
    same "$(cd "$TMP/my-app" && systemd-analyze verify --man=no ./sidekeeper.service ./sidekeeper.socket 2>&1 | grep -i sidekeeper | grep -v 'Special user' || true)" ""
    exposure=$(systemd-analyze security --offline=true "$TMP/my-app/sidekeeper.service" 2>/dev/null | sed -n 's/.*Overall exposure level.*: \([0-9.]*\) .*/\1/p')
    note "exposure ${exposure:-unknown}"
    [ -z "$exposure" ] || [ "${exposure%.*}" -le 3 ]
}

# ---- sd_notify ------------------------------------------------------------------------------------

have python3 || skip_rest "python3 is not installed"
# hear NAME: writes what comes to a datagram socket, a line each, until it is ended.
hear() {
    exec python3 -u - "$1" <<'PY'
import socket, sys
name = sys.argv[1]
heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
heard.bind('\0' + name[1:] if name[0] == '@' else name)
print('listening')
while True:
    print(heard.recv(4096).decode().replace('\n', ' ').strip())
PY
}
echo_app 1
for name in "$TMP/notify" "@sidekeeper-test-$$"; do
    hear "$name" >"$TMP/heard" &
    ear=$!
    wait_for "the ear" 10 grep -q listening "$TMP/heard"

    case $name in @*) kind="an abstract socket" ;; *) kind="a path" ;; esac
    step "ready, alive, reloading and stopping are told to $kind"
    NOTIFY_SOCKET=$name WATCHDOG_USEC=400000 start_sidekeeper
    wait_for READY 10 grep -q '^READY=1$' "$TMP/heard"
    wait_for "its pulse" 10 eval '[ "$(grep -c "^WATCHDOG=1$" "$TMP/heard")" -ge 4 ]'
    fails grep -q RELOADING "$TMP/heard"
    "$SIDEKEEPER" reload --run-dir "$SK_DIR/run" >/dev/null
    wait_for "READY once more" 10 eval '[ "$(grep -v WATCHDOG "$TMP/heard" | tail -n 2 | cut -c 1-9 | tr "\n" " ")" = "RELOADING READY=1 " ]'
    grep -q '^RELOADING=1 MONOTONIC_USEC=[0-9]' "$TMP/heard"
    same "$(get /headers | grep -ci notify || true)" 0
    stop_sidekeeper
    same "$(grep -v WATCHDOG "$TMP/heard" | tail -n 1)" STOPPING=1
    kill "$ear"
    wait "$ear" 2>/dev/null || true
done

step "a watchdog that is somebody else's is left to them, and a manager that is gone stops nothing"
NOTIFY_SOCKET=$TMP/nobody WATCHDOG_USEC=400000 WATCHDOG_PID=1 start_sidekeeper
same "$(status /)" 200
log_has "the service manager cannot be told READY=1"
fails log_has WATCHDOG=1
stop_sidekeeper

# ---- socket activation ----------------------------------------------------------------------------

# Binds a port and a path as systemd does, and starts what follows with them each time that a line
# is read; the sockets stay its own.
cat >"$TMP/activate.py" <<'PY'
import os, socket, sys
out, names, command = sys.argv[1], sys.argv[2], sys.argv[3:]
tcp = socket.create_server(('127.0.0.1', 0))
unix = socket.socket(socket.AF_UNIX)
unix.bind(out + '.sock')
unix.listen(16)
with open(out, 'w') as file:
    print(tcp.getsockname()[1], file=file)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        one, other = os.dup(tcp.fileno()), os.dup(unix.fileno())
        os.dup2(os.dup2(one, 90), 3), os.dup2(os.dup2(other, 91), 4)
        os.dup2(2, 1)
        os.closerange(5, 100)
        os.environ.update(LISTEN_FDS='2', LISTEN_FDNAMES=names, LISTEN_PID=str(os.getpid()))
        os.execv(command[0], command)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
PY
mkfifo "$TMP/orders"
mkdir "$TMP/run"
python3 "$TMP/activate.py" "$TMP/port" http:local "$SIDEKEEPER" run --run-dir "$TMP/run/dir" --address-file "$TMP/run/address" \
    --listen 127.0.0.1:1 --log-level debug -- "$ECHO_APP" <"$TMP/orders" >"$TMP/lives" 2>"$TMP/run/log" &
manager=$!
exec 8>"$TMP/orders"

step "sockets that systemd passes stand for --listen, and a client that came before is served"
wait_for "the port" 10 test -s "$TMP/port"
URL=http://127.0.0.1:$(cat "$TMP/port")
curl -sS --max-time 30 -o /dev/null -w '%{http_code}' "$URL/" >"$TMP/early" &
early=$!
echo >&8
wait_for "sidekeeper" 20 test -s "$TMP/run/address"
same "$(cat "$TMP/run/address")" "127.0.0.1:$(cat "$TMP/port")
unix:$TMP/port.sock"
wait "$early"
same "$(cat "$TMP/early")" 200
same "$(curl -sS --max-time 10 -o /dev/null -w '%{http_code}' --unix-socket "$TMP/port.sock" http://a/)" 200

step "its workers get none of them"
pid=$(head -n 1 "$TMP/lives")
workers=$(SK_PID=$pid worker_pids)
[ -n "$workers" ]
for worker in $workers; do
    lacks "$(ls -l "/proc/$worker/fd")" "$(readlink "/proc/$pid/fd/3")"
done

step "another binary takes over with them, and they still are not its own"
cp "$SIDEKEEPER" "$TMP/other-binary"
has "$("$SIDEKEEPER" upgrade --run-dir "$TMP/run/dir" "$TMP/other-binary" 2>&1)" "has taken over from"
same "$(stat -Lc %i "/proc/$pid/exe")" "$(stat -c %i "$TMP/other-binary")"
same "$(SK_PID=$pid worker_pids)" "$workers"
same "$(status /)" 200
same "$(curl -sS --max-time 10 -o /dev/null -w '%{http_code}' --unix-socket "$TMP/port.sock" http://a/)" 200
# A worker of the new binary's own gets none of them either.
has "$("$SIDEKEEPER" reload --run-dir "$TMP/run/dir" 2>&1)" "serve after"
wait_for "the old workers to leave" 20 eval 'all_dead $workers'
for worker in $(SK_PID=$pid worker_pids); do
    lacks "$(ls -l "/proc/$worker/fd")" "$(readlink "/proc/$pid/fd/3")"
done

step "they outlive a stop: who comes meanwhile waits for the next life"
kill -TERM "$pid"
wait_for "its end" 20 eval '[ "$(wc -l <"$TMP/lives")" = 2 ]'
same "$(tail -n 1 "$TMP/lives")" 0
[ -S "$TMP/port.sock" ]
curl -sS --max-time 30 -o /dev/null -w '%{http_code}' "$URL/" >"$TMP/early" &
early=$!
echo >&8
wait "$early"
same "$(cat "$TMP/early")" 200
pid=$(tail -n 1 "$TMP/lives")
kill -TERM "$pid"
exec 8>&-
wait "$manager"

step "a descriptor that is no socket is told"
said=$(LISTEN_FDS=1 bash -c 'exec 3</dev/null; export LISTEN_PID=$$; exec "$@"' bash "$SIDEKEEPER" run --run-dir "$TMP/run/dir" -- "$ECHO_APP" 2>&1 || true)
has "$said" "cannot listen on descriptor 3 (unnamed)"

# ---- process 1 ------------------------------------------------------------------------------------

new_pids=(unshare --pid --fork --mount-proc --kill-child)
[ "$(id -u)" = 0 ] || new_pids+=(--user --map-root-user)
if ! "${new_pids[@]}" true 2>/dev/null; then
    skip_rest "no PID namespace can be made here"
fi
step "as process 1 it serves, reaps what workers leave behind, and ends when it is told to"
cat >"$TMP/litter" <<SH
#!/bin/sh
(sleep 0.1 & sleep 0.2 &) 
exec "$ECHO_APP"
SH
chmod +x "$TMP/litter"
mkdir "$TMP/one"
"${new_pids[@]}" "$SIDEKEEPER" run --listen 127.0.0.1:0 --run-dir "$TMP/one/run" \
    --address-file "$TMP/one/address" --workers 2 -- "$TMP/litter" >"$TMP/one/log" 2>&1 &
outer=$!
wait_for "sidekeeper" 20 test -s "$TMP/one/address"
URL=http://$(cat "$TMP/one/address")
same "$(status /)" 200
first=$(cat "/proc/$outer/task/"*/children)
same "$(sed -n 's/^NSpid:.*[[:space:]]\([0-9]*\)$/\1/p' "/proc/${first% }/status")" 1
no_zombies() {
    local pid
    for pid in $(descendants "${first% }"); do
        fails grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" || return 1
        case $(cat "/proc/$pid/comm") in sleep) return 1 ;; esac
    done
}
wait_for "the orphans to be reaped" 10 no_zombies
kill -TERM "${first% }"
wait "$outer"
