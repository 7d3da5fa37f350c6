#!/usr/bin/env bash
# Traps that Node, engine.io and the kernel set for whoever stands in front of them. Each has a test;
# those that are nowhere else are here and in realtime/traps.mjs, on every version of Node that we support.
#
#   a descriptor that blocks, handed over      realtime/handoff.mjs: a slow reader does not stop the worker
#   two descriptors in one message             src/fleet/channel_tests.rs; here: hand-offs pile up
#   a malformed line in the channel            here: from a worker; relay_bus_tests.rs: never to a sibling
#   a stale socket file                        here: --listen; supervision.sh: of workers
#   a socket path of 108 bytes                 here: --listen; badinput.sh: the run directory
#   fastify listens twice                      hook/matrix.mjs: fastify.cjs; hook/wire.py
#   a preflight with a sid and no cookie       realtime/sessions.mjs, sessions.sh
#   a POST with a sid, its body in pieces      realtime/corners.mjs; sessions.sh: a post that comes in pieces
#   overlapping polls                          here
#   an idle connection closed as we use it     here; hook/wire.py: keep_alive_outlasts_the_proxy
#   a refused upgrade                          realtime/handoff.mjs, websocket.sh (relayed)
#   half-closing in a tunnel                   websocket.sh, realtime/relay.mjs
#   a killed worker with 100 in its queue      here; kill.sh (without Node), hook/wire.py
#   connect.sid mistaken for sid               realtime/sessions.mjs, sessions.sh
#   an app that forks its own cluster          hook/matrix.mjs: cluster.cjs; hook/wire.py
#   npm start                                  hook/matrix.mjs, supervision.sh
#   ESM with top-level await                   hook/matrix.mjs: esm.mjs
#   SIGTERM during a long poll                 here; shutdown.sh
# seconds: 55
# limit: 240
. "$(dirname "$0")/lib.sh"

# ---- without Node --------------------------------------------------------------------------------

# listen_at PATH: one app, served on a Unix socket of that path.
listen_at() {
    launch_sidekeeper --listen "unix:$1" -- "$ECHO_APP"
    wait_for_ready
    same "$(curl -sS --max-time 20 --unix-socket "$1" -o /dev/null -w '%{http_code}' http://a/pid)" 200
}

step "a stale socket where --listen is to be: it is replaced"
at=$TMP/front.sock
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$at"
[ -S "$at" ]
listen_at "$at"

step "a socket that somebody serves is not taken"
code=0
timeout 20 "$SIDEKEEPER" run --listen "unix:$at" --run-dir "$TMP/other" -- "$ECHO_APP" >"$TMP/taken" 2>&1 || code=$?
same "$code" 1
has "$(cat "$TMP/taken")" "$at"
same "$(curl -sS --max-time 20 --unix-socket "$at" -o /dev/null -w '%{http_code}' http://a/pid)" 200
stop_sidekeeper

step "nor a file that is no socket"
echo mine >"$TMP/file"
code=0
timeout 20 "$SIDEKEEPER" run --listen "unix:$TMP/file" --run-dir "$TMP/other" -- "$ECHO_APP" >"$TMP/taken" 2>&1 || code=$?
same "$code" 1
has "$(cat "$TMP/taken")" "$TMP/file"
same "$(cat "$TMP/file")" mine

# A path of exactly so many bytes.
path_of() { printf '%s/%s' "$TMP" "$(printf 'p%.0s' $(seq $(($1 - ${#TMP} - 1))))"; }
step "a socket path of 107 bytes, the longest"
listen_at "$(path_of 107)"
stop_sidekeeper

step "one of 108 bytes is refused in a line that names it"
code=0
timeout 20 "$SIDEKEEPER" run --listen "unix:$(path_of 108)" --run-dir "$TMP/other" -- "$ECHO_APP" >"$TMP/long" 2>&1 || code=$?
cat "$TMP/long"
case $code in 1 | 2) ;; *) false ;; esac
same "$(grep -c . "$TMP/long")" 1
has "$(cat "$TMP/long")" "$(path_of 108)" "at most 107 bytes"
end_step

shared=$TMP/shared.sock
# open_to WORDS: serves at a path with these words about who may connect.
open_to() {
    launch_sidekeeper --listen "unix:$shared,$1" -- "$ECHO_APP"
    wait_for_ready
    same "$(cat "$SK_DIR/address" | tail -n 1)" "unix:$shared"
}
as_group() { setpriv --reuid 4791 --regid "$1" --clear-groups "${@:2}"; }
knock_as_group() { as_group "$1" curl -sS --max-time 20 --unix-socket "$shared" -o /dev/null -w '%{http_code}' http://a/pid; }

step "the mode of a socket is what it is told, whatever the umask"
usual=$(umask)
umask 077
open_to mode=0666
umask "$usual"
same "$(stat -c '%a %g' "$shared")" "666 $(id -g)"
if [ "$(id -u)" = 0 ]; then
    chmod 711 "$TMP"
    same "$(knock_as_group 4791)" 200
    stop_sidekeeper
    step "with a group it is open to that group, and to no other"
    open_to group=4790
    same "$(stat -c '%a %g' "$shared")" "660 4790"
    same "$(knock_as_group 4790)" 200
    fails knock_as_group 4791 2>/dev/null
    step "without root, only to a group that we are in, and nothing is left of the attempt"
    mkdir -m 777 "$TMP/open"
    code=0
    as_group 4791 timeout 20 "$SIDEKEEPER" run --listen "unix:$TMP/open/s,group=4790" --run-dir "$TMP/open/run" -- "$ECHO_APP" >"$TMP/taken" 2>&1 || code=$?
    same "$code" 1
    has "$(cat "$TMP/taken")" "cannot be given to group 4790" "name a group that we are in"
    [ ! -e "$TMP/open/s" ]
fi
stop_sidekeeper
end_step

# ---- Node ----------------------------------------------------------------------------------------

. "$ROOT/tests/realtime/lib.sh"
check "npm packages of the tests" install_packages "$ROOT/tests"
check "several versions of Node" install_packages "$ROOT/tests/hook/nodes"
[ "$FAILED" = 0 ] || exit 1

some_nodes 18 20 22 24
look traps node "$REALTIME/traps.mjs" "$SIDEKEEPER" "$TMP/traps" "${nodes[@]}"
