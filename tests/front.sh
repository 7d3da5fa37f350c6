#!/usr/bin/env bash
# Behind another balancer: whose word about the client is taken, and what the worker learns of it.
# seconds: 10
. "$(dirname "$0")/lib.sh"

app echo "{\"path\": \"/\", \"workers\": 3, \"policy\": \"ip-hash\", \"affinity_cookie\": \"side\", \"command\": [\"$ECHO_APP\"]}"
node_app node '{"path": "/node", "workers": 1}' <<'JS'
const server = require('http').createServer((req, res) => res.end(req.socket.remoteAddress));
server.on('upgrade', (req, socket) => socket.end(`HTTP/1.1 400 Bad Request\r\n\r\n${req.socket.remoteAddress}`));
server.listen(3000);
JS
command -v node >/dev/null && node=yes || rm -rf "$TMP/apps/node"
start_sidekeeper --apps "$TMP/apps" --trusted-proxy 127.0.0.1 --trusted-proxy 10.0.0.0/8 --connections-per-client-max 3

forwarded() { get /seen -H "X-Forwarded-For: $1" "${@:2}" | tr -d '\r'; }

chain() {
    local seen
    seen=$(forwarded '6.6.6.6, 203.0.113.9, 10.0.0.7' -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-Host: shop.example')
    has "$seen" 'X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.7, 127.0.0.1' 'X-Sidekeeper-Client: 203.0.113.9 0' \
        'X-Forwarded-Proto: https' 'X-Forwarded-Host: shop.example'
    same "$(grep -ci '^x-forwarded-for' <<<"$seen")" 1
}
check "a trusted proxy's word goes on, with the proxy's own address added" chain

unsaid() {
    has "$(get /seen | tr -d '\r')" 'X-Forwarded-For: 127.0.0.1' 'X-Forwarded-Proto: http' "X-Forwarded-Host: $ADDR"
}
check "a trusted proxy that says nothing is the client" unsaid

# One kept connection of the proxy carries many clients: each is balanced by its own address.
instances() {
    local n
    for n in $(seq 1 30); do forwarded "203.0.113.$n" | grep -o 'instance=.'; done | sort -u | wc -l
}
by_address() {
    local first
    same "$(instances)" 3
    first=$(forwarded 198.51.100.77 | grep -o 'instance=.')
    same "$(forwarded 198.51.100.77 | grep -o 'instance=.')" "$first"
}
check "clients behind the proxy are balanced by their own addresses" by_address

real_client() {
    local ask='GET /node HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n'
    same "$(get /node -H 'X-Forwarded-For: 203.0.113.9')" 203.0.113.9
    # Handed off: the socket itself is the proxy's.
    has "$(raw --timeout 8 "$ADDR" "${ask}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")" 203.0.113.9
}
if [ -n "${node:-}" ]; then
    check "a Node app sees the real client in requests and WebSockets" real_client
else
    skip "a Node app sees the real client in requests and WebSockets" "Node.js is not installed"
fi

cookie() { get /seen -D - -o "$TMP/body" "$@" | grep -i '^set-cookie: side='; }
secure() {
    has "$(cookie -H 'X-Forwarded-Proto: https')" '; Secure'
    lacks "$(cookie -H 'X-Forwarded-Proto: http')" Secure
    lacks "$(cookie)" Secure
}
check "our cookie is Secure when the client speaks https" secure

held() {
    local pids=() n
    for n in 1 2 3 4 5; do
        raw --timeout 8 "$ADDR" 'GET /slow?ms=1500 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' >"$TMP/held.$n" &
        pids+=($!)
    done
    wait "${pids[@]}"
    same "$(grep -l '^HTTP/1.1 200' "$TMP"/held.* | wc -l)" 5
}
check "a trusted proxy may have more connections than one client" held

check "it ends" stop_sidekeeper
start_sidekeeper --apps "$TMP/apps"

forged() {
    local seen
    seen=$(forwarded 203.0.113.9 -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-Host: shop.example')
    has "$seen" 'X-Forwarded-For: 127.0.0.1' 'X-Forwarded-Proto: http' "X-Forwarded-Host: $ADDR"
    lacks "$seen" 203.0.113.9
    lacks "$(cookie -H 'X-Forwarded-Proto: https')" Secure
}
check "nobody is believed who was not named" forged

wrong() {
    local said
    said=$("$SIDEKEEPER" check --apps "$TMP/apps" --trusted-proxy 10.0.0.0/99 2>&1) && return 1
    has "$said" '--trusted-proxy' '/32'
    said=$("$SIDEKEEPER" check --apps "$TMP/apps" --trusted-proxy example.com 2>&1) && return 1
    has "$said" 'expected an IP address'
}
check "a network that is none is refused with what to write" wrong
