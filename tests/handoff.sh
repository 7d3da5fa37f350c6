#!/usr/bin/env bash
# WebSockets that are handed to the worker's own process: what the app sees, what is counted, and
# that nobody is lost when the worker does not take one, on every version of Node that we support.
# seconds: 90
# limit: 240
. "$(dirname "$0")/lib.sh"
. "$ROOT/tests/realtime/lib.sh"

check "npm packages of the tests" install_packages "$ROOT/tests"
check "several versions of Node" install_packages "$ROOT/tests/hook/nodes"
[ "$FAILED" = 0 ] || exit 1

some_nodes 18 20 22 24
look handoff node "$REALTIME/handoff.mjs" "$SIDEKEEPER" "$TMP/handoff" "${nodes[@]}"
