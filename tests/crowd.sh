#!/usr/bin/env bash
# A crowd that only holds on: half-open heads, idle connections, silent tunnels and slow readers,
# all at once. A new client is served promptly, and memory stays flat.
# seconds: 20
# limit: 150

. "$(dirname "$0")/lib.sh"

HEADS=300 IDLE=300 TUNNELS=100 SLOW=100
NEED=$((4 * (HEADS + IDLE + TUNNELS + SLOW)))
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
[ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge $NEED ] ||
    skip_rest "only $(ulimit -n) descriptors are allowed here, it takes $NEED"

rss_kb() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$SK_PID/status"; }
peak_kb() { sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$SK_PID/status"; }
threads() { ls "/proc/$SK_PID/task" | wc -l; }

# hold NAME COUNT RAW-ARGUMENTS...
hold() {
    local name=$1 count=$2
    shift 2
    "$RAW" "$@" --timeout 100 --while "$TMP/crowd" >"$TMP/$name.out" 2>&1 &
    wait_for "$count $name" 40 grep -q "^held $count" "$TMP/$name.out"
}

# Of eleven new clients the median and the slowest, in milliseconds. A busy machine delays one or
# the other, a busy sidekeeper all of them.
new_clients() {
    local i
    for i in {1..11}; do
        curl -sS --max-time 20 -o /dev/null -w '%{time_total}\n' "$URL/pid"
    done | sort -n | awk '{ ms[NR] = $1 * 1000 } END { printf "%.1f %.1f\n", ms[6], ms[11] }'
}

echo_app 2
LOG_LEVEL=info start_sidekeeper --apps "$TMP/apps" --head-timeout 90 --keepalive-timeout 90 --write-timeout 90
raw load --connections 20 --seconds 1 "$ADDR" '/bytes?n=100000' >/dev/null # warm
ALONE=$(new_clients)
BEFORE=$(rss_kb)
STANDING=$(ls "/proc/$SK_PID/fd" | wc -l)
touch "$TMP/crowd"

step "$HEADS half-open heads, $IDLE idle connections, $TUNNELS tunnels and $SLOW slow readers stand"
hold heads $HEADS hold $HEADS "$ADDR" 'GET / HTTP/1.1\r\nHost: h\r\nX-Half'
hold idle $IDLE hold $IDLE "$ADDR" +get:/pid '+until:HTTP/1.1 200'
hold tunnels $TUNNELS ws --hold --connections $TUNNELS "$ADDR" /ws
# They ask for more than all buffers on the way hold and hardly read: nothing goes on by itself.
touch "$TMP/slow"
for ((i = 0; i < SLOW; i += 20)); do
    for j in {1..20}; do
        "$RAW" --quiet --slow 1000 --bite 1000 --timeout 100 "$ADDR" '+get:/bytes?n=20000000' &
        SLOW_PIDS+=" $!"
    done
done
open_now() { [ "$(get /stats | awk '/^open/ { print $2 }')" -ge $((TUNNELS / 2 + 20)) ]; }
wait_for "the slow readers to be served" 40 open_now
# Until their buffers are full the workers are busy, and that is not what is to be measured.
ticks() { local pid sum=0; for pid in "$SK_PID" $(worker_pids); do sum=$((sum + $(sed 's/.*) //' "/proc/$pid/stat" | awk '{ print $12 + $13 }'))); done; echo $sum; }
calm() { local before; before=$(ticks); sleep 0.5; [ $(($(ticks) - before)) -lt 5 ]; }
wait_for "all buffers to be full" 90 calm
end_step

prompt() {
    new_clients >"$TMP/ms"
    [ "$(cut -d . -f 1 "$TMP/ms")" -lt 1000 ]
}
check "a new client is served promptly" prompt
flat() {
    local now
    now=$(rss_kb)
    echo "from $BEFORE to $now kB" | tee "$TMP/kb"
    [ $((now - BEFORE)) -lt 32768 ]
}
check "memory stays flat" flat
few_threads() { echo "$(threads) threads"; [ "$(threads)" -lt 30 ]; }
check "nobody holds a thread" few_threads
spins() { awk '{ print $14 + $15 }' <(sed 's/.*) //; s/^/x x /' "/proc/$SK_PID/stat"); }
note "ms until a new client is answered (median, slowest of 11): $ALONE alone, $(cat "$TMP/ms") in the crowd"
note "memory $(cat "$TMP/kb"), peak $(peak_kb) kB; $(threads) threads"

rest() {
    local before
    before=$(spins)
    sleep 1
    echo "ticks in a second: $(($(spins) - before))"
    [ $(($(spins) - before)) -lt 30 ]
}
check "and it takes no time" rest

step "the crowd leaves, and everything goes on"
rm -f "$TMP/crowd"
kill $SLOW_PIDS
wait $SLOW_PIDS 2>/dev/null || true
all_left() { [ "$(ls "/proc/$SK_PID/fd" | wc -l)" -lt $((STANDING + 20)) ]; }
wait_for "its descriptors to be free" 40 all_left
same "$(status /pid)" 200
