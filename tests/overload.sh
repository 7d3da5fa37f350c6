#!/usr/bin/env bash
# When something runs out: descriptors, relay threads, a worker's backlog. What is in flight is
# never lost, who comes too much is told so, and everything recovers by itself.
# seconds: 25

. "$(dirname "$0")/lib.sh"

ticks() { sed 's/.*) //' "/proc/$SK_PID/stat" | awk '{ print $12 + $13 }'; }
# hold NAME COUNT STEP...
hold() {
    local name=$1 count=$2
    shift 2
    touch "$TMP/$name.hold"
    "$RAW" hold "$count" --timeout 60 --while "$TMP/$name.hold" "$ADDR" "$@" >"$TMP/$name.out" 2>&1 &
    wait_for "$count connections to stand" 20 grep -q "^held $count" "$TMP/$name.out"
}
release() { rm -f "$TMP/$1.hold"; }
served() { [ "$(status /pid)" = 200 ]; }

# ---- descriptors ---------------------------------------------------------------------------------

echo_app 1
# The wrapper is exec'ed away, so that SK_PID is sidekeeper's.
REAL=$SIDEKEEPER
cat >"$TMP/few" <<END
#!/bin/sh
ulimit -n 100
exec "$REAL" "\$@"
END
chmod +x "$TMP/few"
SIDEKEEPER=$TMP/few
start_sidekeeper --apps "$TMP/apps" --connections-max 100000 --connect-timeout 0.5 --threads 2
SIDEKEEPER=$REAL

step "an exchange is under way, and then there are no descriptors left"
"$RAW" --timeout 40 "$ADDR" '+last:/stream?n=60&ms=100' >"$TMP/flow.out" &
FLOW=$!
wait_for "it to flow" 10 grep -q 'line' "$TMP/flow.out" || has "$(cat "$TMP/flow.out")" 200
hold crowd 120
out_of_descriptors() { log_has 'cannot accept a connection'; }
wait_for "accept to fail" 10 out_of_descriptors
end_step

calm() {
    local before lines
    before=$(ticks)
    lines=$(grep -c 'cannot accept' "$LOG")
    sleep 3
    echo "$(($(ticks) - before)) ticks of CPU time, $(($(grep -c 'cannot accept' "$LOG") - lines)) lines in 3 s"
    [ $(($(ticks) - before)) -lt 60 ]
    [ $(($(grep -c 'cannot accept' "$LOG") - lines)) -le 2 ]
}
check "accept backs off: little CPU time, few lines in the log" calm
release crowd
check "everything recovers by itself when they have left" wait_for "an answer" 20 served
# As many clients as leave one descriptor or none: whoever is accepted gets an answer of ours.
no_way_to_the_worker() {
    local i seen=
    hold some 40 +get:/pid '+until:HTTP/1.1 200'
    # Each takes its own descriptor first, and asks for the second one when there are none.
    for i in {1..45}; do
        "$RAW" --timeout 30 "$ADDR" 'GET /slow?ms=1500 HTTP/1.1\r\nHost: a\r\n' +sleep:1500 '\r\n' +shut >"$TMP/way.$i" 2>&1 &
    done
    wait_for "a 503" 20 grep -q 'HTTP/1.1 503' "$TMP"/way.*
    release some
    wait_for "an answer" 20 served
    for i in {1..45}; do seen+=" $(head -c 12 "$TMP/way.$i" | cut -c 10-)"; done
    lacks "$seen" 502 504
    # Nothing is said while nothing can be done, but nothing wrong either.
    has "$(cat "$TMP"/way.*)" 'Retry-After: '
}
whole_flow() {
    wait_for "it to end" 20 dead $FLOW
    same "$(grep -c '^line' "$TMP/flow.out")" 60
    same "$(tail -c 5 "$TMP/flow.out" | od -An -c | tr -d ' ')" '0\r\n\r\n'
}
check "the exchange that was under way is whole" whole_flow

check "a request that finds no descriptor for its way to a worker gets 503, or is served" \
    no_way_to_the_worker
stop_sidekeeper

# ---- relay threads -------------------------------------------------------------------------------

echo_app 2
start_sidekeeper --apps "$TMP/apps" --relay-threads-max 2 --threads 2
threads() { ls "/proc/$SK_PID/task" | wc -l; }
BEFORE=$(threads)
streaming() {
    local out
    "$RAW" ws --connections 12 --count 40 --size 400000 --binary --timeout 60 "$ADDR" /ws >"$TMP/stream.out" 2>&1 &
    for i in {1..10}; do
        [ "$(threads)" -le $((BEFORE + 3)) ] || { echo "$(threads) threads" >&2; return 1; }
        sleep 0.1
    done
    wait $!
    has "$(cat "$TMP/stream.out")" 'connections 12 fine 12 messages 480'
}
check "out of relay threads the pool goes on: every byte of 12 streaming tunnels arrives" streaming
one_way() {
    local got i pids=
    for i in 1 2 3 4; do
        "$RAW" ws --binary --timeout 60 "$ADDR" /ws '/bytes 20000000' >"$TMP/way$i" 2>&1 &
        pids+=" $!"
    done
    # Others are served meanwhile.
    for i in {1..10}; do same "$(status /pid)" 200; done
    wait $pids
    for i in 1 2 3 4; do has "$(cat "$TMP/way$i")" 'binary 20000000 bytes'; done
}
check "... in one direction, too, while others are served" one_way
stop_sidekeeper

# ---- a worker's backlog --------------------------------------------------------------------------

app one "{\"path\": \"/\", \"workers\": 1, \"command\": [\"$ECHO_APP\"]}"
rm -rf "$TMP/apps/echo"
app small "{\"path\": \"/small\", \"workers\": 1, \"command\": [\"python3\", \"$TMP/small.py\", \"{socket}\"]}"
cat >"$TMP/small.py" <<'END'
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(4)
while True:
    peer, _ = listener.accept()
    try:
        if peer.recv(65536):
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    except OSError:
        pass
    peer.close()
END
command -v python3 >/dev/null || skip_rest "there is no python3 for a worker with a small backlog"
start_sidekeeper --apps "$TMP/apps" --connect-timeout 1.5
WORKER=$(worker_pids small)
step "a worker stands still, and its backlog fills"
kill -STOP "$WORKER"
"$RAW" hold 40 --timeout 60 --until '200 OK' "$ADDR" +get:/small >"$TMP/backlog.out" 2>&1 &
BACKLOG=$!
wait_for "40 requests" 20 grep -q 'held 40' "$TMP/backlog.out"
end_step
backlog_full() {
    local begun got took
    begun=$(date +%s%3N)
    got=$(raw --timeout 20 "$ADDR" +last:/small)
    took=$(($(date +%s%3N) - begun))
    echo "took $took ms: ${got:0:100}"
    has "$got" 'HTTP/1.1 503' 'Retry-After: '
    [ "$took" -ge 1400 ] && [ "$took" -le 10000 ]
}
check "a full backlog: 503 with Retry-After after --connect-timeout" backlog_full
check "... the other app is served meanwhile" served
waits_for_room() {
    "$RAW" --timeout 20 "$ADDR" +last:/small >"$TMP/patient" &
    sleep 0.5
    kill -CONT "$WORKER"
    wait $!
    has "$(cat "$TMP/patient")" '200 OK'
}
check "who waits when room comes is served" waits_for_room
check "everything recovers by itself" wait_for "an answer" 10 eval 'same "$(status /small)" 200'
