#!/usr/bin/env bash
# A worker that leaves while others stay (SIGTTOU): its clients are sent away one by one, by a close
# frame if they are WebSockets of a Node worker, and no request is cut.
# seconds: 40
. "$(dirname "$0")/lib.sh"
. "$ROOT/tests/realtime/lib.sh"

check "npm packages of the tests" install_packages "$ROOT/tests"
check "several versions of Node" install_packages "$ROOT/tests/hook/nodes"
[ "$FAILED" = 0 ] || exit 1

some_nodes 18 24
look drain node "$REALTIME/drain.mjs" "$SIDEKEEPER" "$TMP/drain" "${nodes[@]}"
