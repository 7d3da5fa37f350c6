#!/usr/bin/env bash
# The hook in Node's workers: every kind of app in tests/hook, unchanged, on every version of Node
# that we support, through the real sidekeeper (matrix.mjs); and what supervisor and hook say to
# each other, word by word (wire.py).
# seconds: 70
# limit: 300
#
# HOOK_NODES="20 24" tests/hook.sh looks at those versions only.
. "$(dirname "$0")/lib.sh"

HOOK=$ROOT/tests/hook
command -v npm >/dev/null || skip_rest "npm is not installed"
command -v python3 >/dev/null || skip_rest "python3 is not installed"

check "npm packages of the tests" install_packages "$HOOK"
check "several versions of Node" install_packages "$HOOK/nodes"
end_step
[ "$FAILED" = 0 ] || exit 1

worker_nodes 18 20 22 24
[ ${#nodes[@]} -gt 0 ] || exit "$FAILED"

# Both print lines like ours.
look() {
    local name=$1 status=0 count
    shift
    "$@" | tee "$TMP/$name.out" || status=$?
    count=$(grep -c '^not ok' "$TMP/$name.out") || true
    FAILED=$((FAILED + count))
    if [ "$status" != 0 ] && [ "$count" = 0 ]; then failed "$name ends well"; fi
}
look wire python3 "$HOOK/wire.py" "$ROOT/src/fleet/hook.cjs" "${nodes[@]}"
look matrix node "$HOOK/matrix.mjs" "$SIDEKEEPER" "$TMP/apps" "${nodes[@]}"
