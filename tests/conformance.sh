#!/usr/bin/env bash
# WebSocket conformance, case by case in the classes of the Autobahn suite, and whatever the client of the
# `ws` package can do: through the relay and the hand-off the app's library answers what it answers directly.
# seconds: 30
# limit: 180
. "$(dirname "$0")/lib.sh"
. "$ROOT/tests/realtime/lib.sh"

check "npm packages of the tests" install_packages "$ROOT/tests"
end_step
[ "$FAILED" = 0 ] || exit 1
look conformance node "$REALTIME/conformance.mjs" "$SIDEKEEPER" "$TMP/conformance" "$(command -v node)"
look ws node "$REALTIME/ws.mjs" "$SIDEKEEPER" "$TMP/ws" "$(command -v node)"
