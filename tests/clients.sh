#!/usr/bin/env bash
# The clients of Socket.IO 2, 3 and 4 over polling, WebSocket and from one to the other, with binary
# payloads; and many of them at once: 200, or 1,000 with SK_FULL=1.
# seconds: 45
# limit: 240
. "$(dirname "$0")/lib.sh"
. "$ROOT/tests/realtime/lib.sh"

check "npm packages of the tests" install_packages "$ROOT/tests"
check "several versions of Node" install_packages "$ROOT/tests/hook/nodes"
[ "$FAILED" = 0 ] || exit 1

some_nodes 18 24
look clients node "$REALTIME/clients.mjs" "$SIDEKEEPER" "$TMP/clients" "${nodes[@]}"
