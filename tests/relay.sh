#!/usr/bin/env bash
# Relayed tunnels: ends and resets, bounds for silence and standstill, few relay threads, and what
# thousands of silent ones cost.
# seconds: 30
. "$(dirname "$0")/lib.sh"
. "$ROOT/tests/realtime/lib.sh"

check "npm packages of the tests" install_packages "$ROOT/tests"
end_step
[ "$FAILED" = 0 ] || exit 1
look relay node "$REALTIME/relay.mjs" "$SIDEKEEPER" "$TMP/relay" "$(command -v node)"
