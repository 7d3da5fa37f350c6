#!/usr/bin/env bash
# Socket.IO's connectionStateRecovery over all workers: a client that nobody recognises, a crowd, a
# reload; and, with `broadcast: true`, that nothing said meanwhile is lost or doubled.
# seconds: 150
# limit: 400
. "$(dirname "$0")/lib.sh"
. "$ROOT/tests/realtime/lib.sh"

check "npm packages of the tests" install_packages "$ROOT/tests"
check "several versions of Node" install_packages "$ROOT/tests/hook/nodes"
[ "$FAILED" = 0 ] || exit 1

some_nodes 18 20 22 24
look recovery node "$REALTIME/recovery.mjs" "$SIDEKEEPER" "$TMP/recovery" "${nodes[@]}"
