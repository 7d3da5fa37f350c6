# What the scripts that test with Node clients begin with, after tests/lib.sh.

REALTIME=$ROOT/tests/realtime
command -v node >/dev/null && command -v npm >/dev/null || skip_rest "node and npm are not installed"

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

# worker_nodes VERSION...: sets `nodes` to the versions of Node that run here.
worker_nodes() {
    local version node
    nodes=()
    for version in ${HOOK_NODES:-$@}; do
        node=$ROOT/tests/hook/nodes/node_modules/node$version/bin/node
        if "$node" --version >/dev/null 2>&1; then
            nodes+=("$node")
        elif [ "${CI:-}" = true ]; then
            failed "Node $version runs"
        else
            skip "Node $version" "its binary does not run here"
        fi
    done
    [ ${#nodes[@]} -gt 0 ] || nodes=("$(command -v node)")
}

# Runs one of this folder's programs, which print lines like ours.
look() {
    local name=$1 status=0 count
    shift
    ECHO_APP=$ECHO_APP "$@" | tee "$TMP/$name.out" || status=$?
    count=$(grep -c '^not ok' "$TMP/$name.out") || true
    FAILED=$((FAILED + count))
    if [ "$status" != 0 ] && [ "$count" = 0 ]; then failed "$name ends well"; fi
}
