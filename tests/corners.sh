#!/usr/bin/env bash
# Corners of hand-off and sessions, on every version of Node: a worker that stands still while many
# come, a post under way in a reload, io.close(), compression, cookies.
# seconds: 60
# limit: 240
. "$(dirname "$0")/lib.sh"
. "$ROOT/tests/realtime/lib.sh"

check "npm packages of the tests" install_packages "$ROOT/tests"
check "several versions of Node" install_packages "$ROOT/tests/hook/nodes"
[ "$FAILED" = 0 ] || exit 1

some_nodes 18 20 22 24
look corners node "$REALTIME/corners.mjs" "$SIDEKEEPER" "$TMP/corners" "${nodes[@]}"
