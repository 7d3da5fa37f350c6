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

# Once for each state of the lock file, and by one script at a time.
install() {
    local dir=$1
    (
        flock 9
        cmp -s "$dir/package-lock.json" "$dir/node_modules/.installed" && exit
        cd "$dir"
        npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
        cp package-lock.json node_modules/.installed
    ) 9>"$dir/.lock"
}
check "npm packages of the tests" install "$HOOK"
check "several versions of Node" install "$HOOK/nodes"
end_step
[ "$FAILED" = 0 ] || exit 1

nodes=()
for version in ${HOOK_NODES:-18 20 22 24}; do
    node=$HOOK/nodes/node_modules/node$version/bin/node
    if "$node" --version >/dev/null 2>&1; then
        nodes+=("$node")
    elif [ "${CI:-}" = true ]; then
        failed "Node $version runs"
    else
        skip "Node $version" "its binary does not run here"
    fi
done
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
