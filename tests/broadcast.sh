#!/usr/bin/env bash
# What workers of one app say to each other, without Redis: Socket.IO's adapters (cluster-adapter
# 0.3 and 0.2, and ours: `broadcast: true`) between several workers, with real clients; a worker
# that is killed while others wait for it, one that does not read; letters of the app itself.
# seconds: 40
# limit: 240
. "$(dirname "$0")/lib.sh"
need_node

FIXTURE=$ROOT/tests/fixtures/broadcast
check "npm packages of this test" install_packages "$FIXTURE"
end_step
[ "$FAILED" = 0 ] || exit 1

# serve NAME WORKERS JSON: one app of the fixture, with these further keys.
serve() {
    printf '{"apps": [{"name": "%s", "path": "/", "cwd": "%s", "workers": %d, %s}]}' "$1" "$FIXTURE" "$2" "$3" >"$TMP/$1.json"
    start_sidekeeper --config "$TMP/$1.json"
}

# scene LABEL WORKERS NAME: the clients' lines are ours.
scene() {
    local status=0 count
    end_step
    LABEL=$1 node "$FIXTURE/clients.js" "$URL" "$2" "$3" >"$TMP/scene.out" 2>"$TMP/scene.err" || status=$?
    cat "$TMP/scene.out"
    count=$(grep -c '^not ok' "$TMP/scene.out") || true
    FAILED=$((FAILED + count))
    if [ "$status" != 0 ] && [ "$count" = 0 ]; then failed "$1: $3 ends well"; fi
    if [ "$status" != 0 ] || [ "${V:-0}" -gt 0 ]; then sed 's/^/#   /' "$TMP/scene.err" | cut -c 1-300 >&2; fi
}

serve adapter-0.3 4 '"script": "app.js", "env": {"ADAPTER": "0.3"}'
scene "cluster-adapter 0.3" 4 everything
scene "cluster-adapter 0.3" 4 death
stop_sidekeeper

serve adapter-0.2 3 '"script": "app.js", "env": {"ADAPTER": "0.2"}'
scene "cluster-adapter 0.2" 3 everything
scene "cluster-adapter 0.2" 3 death02
stop_sidekeeper

serve chosen-for-it 4 '"script": "app.js", "broadcast": true'
scene "broadcast: true" 4 everything
scene "broadcast: true" 4 unseen
scene "broadcast: true" 4 death
scene "broadcast: true" 4 slow
step "the log tells of a worker that does not read, once, and when it reads again"
wait_for "the end of it" 5 log_has "reads its channel again"
same "$(grep -c 'loses what its siblings say' "$LOG")" 1
step "an alarm tells of it"
"$SIDEKEEPER" alarms --run-dir "$SK_DIR/run" >"$TMP/alarms" || true
has "$(cat "$TMP/alarms")" broadcast-loss chosen-for-it
step "the status counts what it lost, and that nobody else lost anything"
said=$(grep -o '[0-9]* messages of its siblings were lost' "$LOG" | cut -d ' ' -f 1)
"$SIDEKEEPER" status --json --run-dir "$SK_DIR/run" | tr ',' '\n' | sed -n 's/.*"lost"://p' | tr '\n' ' ' >"$TMP/lost"
same "$(cat "$TMP/lost")" "0 $said 0 0 "
stop_sidekeeper

# Node's plain require and its loader of ES modules reach Socket.IO by different ways.
for node in "$(command -v node)" "$ROOT"/tests/hook/nodes/node_modules/node*/bin/node; do
    version=$("$node" --version 2>/dev/null) || continue
    [ ! -e "$TMP/module-$version.json" ] || continue
    serve "module-$version" 3 "\"script\": \"app.mjs\", \"interpreter\": \"$node\", \"broadcast\": true"
    scene "broadcast: true, an ES module, Node $version" 3 everything
    stop_sidekeeper
done

serve recovery 3 '"script": "app.js", "broadcast": true, "env": {"RECOVERY": "1"}'
RECOVERY=1 scene "broadcast: true, connectionStateRecovery" 3 everything
RECOVERY=1 scene "broadcast: true, connectionStateRecovery" 3 recovery
stop_sidekeeper

# Socket.IO 3 has an adapter of another making, which we leave alone; 2 as well.
for old in 3 2; do
    serve "old-$old" 2 "\"script\": \"app.js\", \"broadcast\": true, \"env\": {\"SOCKETIO\": \"socket.io-$old\"}"
    check "Socket.IO $old: the log says that broadcast needs a newer one" wait_for "the warning" 10 log_has "broadcast needs socket.io-adapter 2.5.3"
    stop_sidekeeper
done

serve letters 3 '"script": "app.js", "env": {"LETTERS": "1"}'
scene "no adapter" 3 alone
scene "no adapter" 3 letters
scene "no adapter" 3 engine
stop_sidekeeper
