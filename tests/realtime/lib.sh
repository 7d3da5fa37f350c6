# What the scripts that test with Node clients begin with, after tests/lib.sh.

REALTIME=$ROOT/tests/realtime
command -v node >/dev/null && command -v npm >/dev/null || skip_rest "node and npm are not installed"

# Like worker_nodes; with the Node of this machine where none of them runs.
some_nodes() {
    worker_nodes "$@"
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
