#!/usr/bin/env bash
# How clients find their worker again: lost connections that Socket.IO recovers, our own cookie, the
# app's session cookie, SockJS, and preflights that have nothing but a sid.
# seconds: 60
# limit: 240
. "$(dirname "$0")/lib.sh"
. "$ROOT/tests/realtime/lib.sh"

check "npm packages of the tests" install_packages "$ROOT/tests"
check "several versions of Node" install_packages "$ROOT/tests/hook/nodes"
[ "$FAILED" = 0 ] || exit 1

some_nodes 18 20 22 24
look sessions node "$REALTIME/sessions.mjs" "$SIDEKEEPER" "$TMP/sessions" "${nodes[@]}"
