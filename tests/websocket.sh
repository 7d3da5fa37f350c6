#!/usr/bin/env bash
# WebSocket and other upgrades through the proxy: messages, early bytes, refusals, half-closing,
# resets, many tunnels at once, and a worker that dies.
# seconds: 10
. "$(dirname "$0")/lib.sh"

echo_app 2
start_sidekeeper --apps "$TMP/apps" --tunnel-idle-timeout 3
UPGRADE='GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
# /tunnel echoes bytes as they are: what is in a tunnel is nobody's business but the two ends'.

messages() { same "$(raw ws "$ADDR" /ws hello /who | head -n 1)" hello; has "$(raw ws "$ADDR" /ws /who)" app=echo; }
check "messages are echoed" messages

many() { same "$(raw ws --connections 40 --count 50 --size 2000 --timeout 30 "$ADDR" /ws)" "connections 40 fine 40 messages 2000"; }
check "forty tunnels carry two thousand messages" many

large() {
    raw ws --count 5 --size 3000000 --binary --timeout 30 "$ADDR" /ws
    raw ws --count 20 --size 100000 --fragments 7 --timeout 30 "$ADDR" /ws
}
check "large and fragmented messages come through" large

burst() { same "$(raw ws --until 'burst 4999' --timeout 20 "$ADDR" /ws '/burst 5000' | grep -c '^burst')" 5000; }
check "a burst from the worker comes whole and in order" burst

both_ways() { has "$(raw ws --print --until 'push 3' "$ADDR" '/ws?push=20')" 'push 0' 'push 1' 'push 2' 'push 3'; }
check "the worker may speak first" both_ways

early_from_client() { same "$(raw ws --eager "$ADDR" /ws early | head -n 1)" early; }
check "a message in one write with the request is not lost" early_from_client

early_from_worker() {
    has "$(raw ws --until welcome "$ADDR" '/ws?greet=welcome')" welcome
    has "$(raw --timeout 5 "$ADDR" "${UPGRADE/tunnel/tunnel?greet=welcome}" +until:welcome +shut)" welcome
}
check "a message in one write with the 101 is not lost" early_from_worker

protocol() {
    local head
    head=$(raw ws --print --header 'Sec-WebSocket-Protocol: chat, superchat' "$ADDR" /ws hi | tr -d '\r')
    has "$head" 'HTTP/1.1 101' 'Sec-WebSocket-Protocol: chat' 'Upgrade: websocket'
    has "${head,,}" 'connection: upgrade'
}
check "the handshake's fields come through" protocol

refusal() {
    local answer
    answer=$(raw --timeout 5 "$ADDR" 'GET /ws?refuse=403 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n' \
        '+until:upgrade refused' '+last:/status?body=still-http')
    has "$answer" 'HTTP/1.1 403' 'X-Refused: yes' 'upgrade refused' still-http
}
check "a refusal is passed on and the connection stays HTTP" refusal

ordinary() { has "$(get /ws -i)" 'HTTP/1.1 426'; }
check "without an upgrade it is an ordinary request" ordinary

upgrade_ignored() { has "$(raw --timeout 5 "$ADDR" 'GET /pid HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n')" 'HTTP/1.1 200'; }
check "a worker may answer an upgrade as plain HTTP" upgrade_ignored

close_handshake() {
    has "$(raw ws "$ADDR" /ws '/close 4321 enough')" 'close 4321 enough'
    has "$(raw ws "$ADDR" /ws bye)" 'close 1000' 'end of stream'
}
check "either side may say goodbye" close_handshake

half_close() {
    # The worker hears the end of our stream and still has something to say.
    has "$(raw ws --shut "$ADDR" /ws one two)" 'end of stream after 2 messages' 'close 1000'
    has "$(raw --timeout 5 --shut "$ADDR" "$UPGRADE" '+until:\r\n\r\n' abcdef +until:abcdef)" 'end of stream after 6 bytes'
}
check "half-closing travels to the worker, its last words back" half_close

half_close_back() {
    # The worker ends its stream: the client hears it at once, not after some timeout.
    local begun=$SECONDS
    raw --timeout 8 "$ADDR" 'GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n' \
        '+until:\r\n\r\n' '\x81\x85\x00\x00\x00\x00/shut' +end >/dev/null
    [ $((SECONDS - begun)) -le 2 ]
}
check "the worker's half-close travels to the client" half_close_back

drop() {
    local begun=$SECONDS
    raw ws "$ADDR" /ws /drop >/dev/null 2>&1 || true
    [ $((SECONDS - begun)) -le 2 ]
}
check "a connection that the worker drops is dropped" drop

client_gone() {
    local before
    before=$(open_connections)
    raw --timeout 5 "$ADDR" "$UPGRADE" '+until:\r\n\r\n' +close >/dev/null
    wait_for "the worker to be rid of it" 5 no_more_than "$before"
}
open_connections() { for _ in 1 2; do get /stats; done | awk '/^open/ { sum += $2 } END { print sum }'; }
no_more_than() { [ "$(open_connections)" -le "$1" ]; }
check "a client that goes away is gone at the worker too" client_gone

idle() {
    local begun=$SECONDS
    raw --timeout 9 "$ADDR" "$UPGRADE" '+until:\r\n\r\n' +end >/dev/null
    [ $((SECONDS - begun)) -ge 2 ]
}
check "a silent tunnel is ended after its idle time" idle

not_idle() { raw ws --count 8 --pause 700 --timeout 15 "$ADDR" /ws; }
check "a tunnel with little traffic is not" not_idle

held() {
    touch "$TMP/hold"
    raw ws --connections 150 --hold --while "$TMP/hold" --count 1 --timeout 30 "$ADDR" '/ws?push=500' >"$TMP/held" &
    wait_for "the tunnels to stand" 15 grep -q '^held 150' "$TMP/held"
    same "$(status /pid)" 200
    raw load --connections 4 --count 50 "$ADDR" /pid
    rm "$TMP/hold"
    wait $!
    has "$(cat "$TMP/held")" 'fine 150'
}
check "150 open tunnels leave room for requests" held

killed() {
    # The tunnel ends with its worker, and the next one goes to a worker that lives.
    local begun=$SECONDS
    raw ws "$ADDR" /ws /die >/dev/null 2>&1 || true
    [ $((SECONDS - begun)) -le 2 ]
    has "$(raw ws "$ADDR" /ws /who)" app=echo
}
check "a worker's death ends its tunnels at once" killed

step "sidekeeper stops with a tunnel open"
touch "$TMP/hold"
raw ws --connections 3 --hold --while "$TMP/hold" --timeout 30 "$ADDR" /ws >"$TMP/held" 2>&1 &
wait_for "the tunnels to stand" 5 grep -q '^held 3' "$TMP/held"
stop_sidekeeper TERM 20
same "$SK_STATUS" 0
rm "$TMP/hold"
wait $! || true
