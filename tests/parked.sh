#!/usr/bin/env bash
# What is silent costs no thread: two hundred long polls, three hundred idle connections and a
# hundred half heads are held open, and new requests are served at once.
# seconds: 15
. "$(dirname "$0")/lib.sh"

echo_app 2
start_sidekeeper --apps "$TMP/apps" --threads 2 --head-timeout 30
threads() { awk '/^Threads/ { print $2 }' "/proc/$SK_PID/status"; }
before=$(threads)

step "200 long polls, 300 idle connections and 100 half heads are open"
touch "$TMP/hold"
HOLDERS=()
# hold COUNT NAME STEP...
hold() {
    raw hold "$1" --while "$TMP/hold" --timeout 60 "$ADDR" "${@:3}" >"$TMP/$2" 2>&1 &
    HOLDERS+=($!)
}
hold 200 polls +get:/hang
hold 150 idle +get:/pid '+until:\r\n\r\n'
hold 150 silent
hold 100 heads 'GET / HTTP/1.1\r\nHost: a\r\nX-Half: '
for file in polls idle silent heads; do wait_for "$file" 20 grep -q '^held ' "$TMP/$file"; done

at_once() {
    local result slowest
    result=$(raw load --connections 4 --count 100 --fresh "$ADDR" /pid '/bytes?n=5000')
    echo "$result"
    slowest=$(sed 's/.*slowest_ms \([0-9]*\).*/\1/' <<<"$result")
    has "$result" 'failed 0'
    [ "$slowest" -lt 1000 ]
}
check "new requests are served at once" at_once

no_threads() {
    local now
    now=$(threads)
    [ "$now" -le $((before + 10)) ] || { echo "$before threads before, $now now"; false; }
}
check "what is parked costs no thread" no_threads

check "a WebSocket is opened at once" raw ws --count 20 "$ADDR" /ws
check "a large body goes through" cmp <(get /bytes?n=3000000) <(pattern 3000000)

step "all of them are still there"
rm "$TMP/hold"
wait "${HOLDERS[@]}"
has "$(cat "$TMP/polls")" 'open 200 ended 0'
has "$(cat "$TMP/idle")" 'open 150 ended 0 answered 150'
has "$(cat "$TMP/silent")" 'open 150 ended 0'
has "$(cat "$TMP/heads")" 'open 100 ended 0'

answered() { raw hold 200 --until 'slow but here' --timeout 20 "$ADDR" '+get:/slow?ms=3000'; }
check "200 long polls are all answered" answered

tunnels() {
    touch "$TMP/hold"
    raw ws --connections 200 --hold --while "$TMP/hold" --count 1 --timeout 30 "$ADDR" /ws >"$TMP/tunnels" &
    wait_for "the tunnels" 15 grep -q '^held 200' "$TMP/tunnels"
    no_threads
    rm "$TMP/hold"
    wait $!
}
check "200 silent tunnels cost no thread" tunnels

step "sidekeeper stops"
stop_sidekeeper
same "$SK_STATUS" 0
