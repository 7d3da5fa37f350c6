#!/usr/bin/env bash
# Random valid traffic in which every body describes itself, first in peace, then while workers are
# killed: no answer is another's, nothing cut looks complete, and only what was inside a killed
# worker and cannot be repeated fails. SECONDS_MAX=600 tests/soak.sh soaks longer.
# seconds: 30
# limit: 900

. "$(dirname "$0")/lib.sh"

TIME=${SECONDS_MAX:-12}
SEED=${SEED:-$((RANDOM + 1))}

echo_app 3
LOG_LEVEL=info start_sidekeeper --apps "$TMP/apps" --relay-threads-max 4

soak() {
    "$RAW" soak --seed "$SEED" "$@" "$ADDR" >"$TMP/soak.out" 2>&1 || { cat "$TMP/soak.out" >&2; return 1; }
    has "$(cat "$TMP/soak.out")" 'violations 0'
}
seen() { note "seed $SEED: $(tr '\n' ' ' <"$TMP/soak.out")"; }
check "in peace every exchange is whole and its own" soak --seconds $((TIME / 3))
seen
in_peace() { lacks "$(cat "$TMP/soak.out")" failed_by; }
check "... and none fails" in_peace
check "while workers are killed nothing is mixed up, cut in silence, or lost without need" \
    soak --seconds "$TIME" --kill 1200
seen
check "workers saw no request cut in silence" fails log_has VIOLATION
recovered() { [ "$(status /pid)" = 200 ]; }
check "and everything is served afterwards" wait_for "an answer" 30 recovered
