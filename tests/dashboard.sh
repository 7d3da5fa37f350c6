#!/usr/bin/env bash
# The dashboard in headless Chromium: figures, a death, the keyboard, light and dark, phone and wide
# screen. Screenshots are kept in target/screenshots.
# seconds: 40
# limit: 400
. "$(dirname "$0")/lib.sh"

command -v node >/dev/null || skip_rest "Node.js is not installed"
need_chromium

echo_app 2
node_app hello '{"path": "/hello", "workers": 1}' <<'JS'
require('http').createServer((request, response) => response.end('hello')).listen(3000)
JS
step "an instance with a dashboard"
TOKEN=0123456789abcdef-secret
printf '%s\n' "$TOKEN" >"$TMP/token"
start_sidekeeper --apps "$TMP/apps" --dashboard 127.0.0.1:0 --dashboard-token-file "$TMP/token"
DASH=http://$("$SIDEKEEPER" status --json --run-dir "$SK_DIR/run" | grep -o '"dashboard":"[^"]*"' | cut -d '"' -f 4)
end_step

served() {
    local head
    head=$(curl -sS --max-time 20 -D - -o "$TMP/page" "$DASH/")
    has "$head" "text/html" "Content-Security-Policy: default-src 'self'" "Cache-Control: no-store" "nosniff"
    lacks "$(cat "$TMP/page")" "http://" "https://"
    has "$(curl -sSN --max-time 3 "$DASH/events" 2>/dev/null || true)" "retry: 2000" "event: status" '"worker":"echo.0"'
    has "$(curl -sS --max-time 20 "$DASH/history.json")" '"apps":{' '"deaths":['
    has "$(curl -sS --max-time 20 "$DASH/status.json")" '"app":"hello"'
}
check "the page loads nothing from elsewhere; events and history are JSON" served

# post BODY [CURL...]: the status, the answer being in $TMP/answer.
post() { curl -sS --max-time 30 -o "$TMP/answer" -w '%{http_code}' -d "$1" "${@:2}" "$DASH/do"; }
steering() {
    local reload='{"command":"reload","operands":["echo"]}' right="Authorization: Bearer $TOKEN"
    has "$(curl -sS --max-time 20 "$DASH/history.json")" '"steering":["reload"'
    same "$(post "$reload")" 401
    same "$(post "$reload" -H "Authorization: Bearer ${TOKEN}x")" 401
    same "$(post "$reload" -H "Authorization: Basic $TOKEN")" 401
    same "$(post '{"command":"stop"}' -H "$right")" 403
    same "$(post 'reload echo' -H "$right")" 400
    same "$(post "$(pattern 5000)" -H "$right")" 400
    same "$(post "$reload" -H "$right" -H 'Host: evil.example')" 403
    same "$(post "$reload" -H "$right")" 200
    has "$(cat "$TMP/answer")" 'echo' '{"end":0}'
    same "$(post '{"command":"reload","operands":["ecko"]}' -H "$right")" 200
    has "$(cat "$TMP/answer")" '"error"' '{"end":'
    log_has 'dashboard: reload echo'
}
check "who has the token may reload, nobody else, and nothing worse" steering
three_workers() { [ "$("$SIDEKEEPER" status --run-dir "$SK_DIR/run" | grep -c ' ready ')" = 3 ] && ! "$SIDEKEEPER" status --run-dir "$SK_DIR/run" | grep -q draining; }
check "the workers before it are gone" wait_for "the old workers to be gone" 20 three_workers

play dashboard.js "$DASH" "$URL" "$CHROMIUM" "$ROOT/target/screenshots" "$TOKEN"

step "sidekeeper stops, though pages were open"
stop_sidekeeper
same "$SK_STATUS" 0
