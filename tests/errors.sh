#!/usr/bin/env bash
# What people are told when we answer instead of a worker: a page, JSON or text; the request's id;
# the worker's last lines for the operator and nobody else. In Chromium too, if there is one.
# seconds: 15
. "$(dirname "$0")/lib.sh"

HTML='Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'
JSON='Accept: application/json'
app echo "{\"path\": \"/\", \"workers\": 1, \"command\": [\"$ECHO_APP\"]}"
app gone "{\"path\": \"/gone\", \"workers\": 1, \"command\": [\"sh\", \"-c\", \"echo it cannot start >&2; exit 3\"],
    \"max_restarts\": 0}"
start_sidekeeper --apps "$TMP/apps" --answer-timeout 1

complain() { get '/log?to=stderr&text=%3Cb%3Ebroken%3C/b%3E%20%22here%22' -o /dev/null; wait_for "its line" 10 log_has '<b>broken'; }
# What is no answer, from a worker that goes on.
broken() { get '/raw?text=nonsense' "$@"; }
answer() { get "$@" -i | tr -d '\r'; }
id_in() { sed -n 's/^X-Request-Id: //p' <<<"$1"; }
back() { wait_for "the worker" 10 eval '[ "$(status /pid)" = 200 ]'; }

page() {
    local got id
    complain
    got=$(get '/die?how=before' -X POST -i -H "$HTML" | tr -d '\r')
    back
    id=$(id_in "$got")
    has "$got" 'HTTP/1.1 502 ' 'Content-Type: text/html; charset=utf-8' "<code>$id</code>" '<h1>' 'Cache-Control: no-store'
    has "$got" 'echo.0</strong>' '&lt;b&gt;broken&lt;/b&gt; &quot;here&quot;'
    lacks "${got#*<!DOCTYPE}" '<b>' '<script' 'src=' '@import' 'url('
    log_has "(request $id)"
}
check "a browser gets a page, with the id that the log has; the operator sees the worker's last lines" page
json() {
    local got
    got=$(answer /hang -H "$JSON")
    has "$got" 'HTTP/1.1 504 ' 'Content-Type: application/json' "\"request_id\":\"$(id_in "$got")\"" '"status":504' '"reason":"'
}
check "a program gets JSON" json
text() {
    local got
    got=$(answer /gone/x)
    has "$got" 'HTTP/1.1 503 ' 'Content-Type: text/plain' 'Retry-After: 1' "request id: $(id_in "$got")" 'stderr | it cannot start'
}
check "everybody else gets text; 503 says when to try again, and why nothing is up" text

quiet() {
    local got
    for got in "$(broken -i -H "$HTML" "$@")" "$(broken -i -H "$JSON" "$@")" "$(broken -i "$@")"; do
        has "$got" 'HTTP/1.1 502 '
        lacks "$got" 'broken<' echo.0 operator malformed
    done
}
operator() {
    complain
    has "$(broken)" 'worker: echo.0' 'reason: a malformed status line' 'stderr | <b>broken'
}
check "the operator sees why" operator
check "who comes through a proxy sees none of it" quiet -H 'X-Forwarded-For: 192.0.2.1'
check "... whichever field says so" quiet -H 'Via: 1.1 front'
check "... or who asks for another host" quiet -H 'Host: shop.example'
check "... or who speaks as old proxies do" quiet --http1.0
head_only() {
    local with without
    with=$(answer /gone/x -H "$HTML" -H 'Via: 1.1 x')
    without=$(raw "$ADDR" "HEAD /gone/x HTTP/1.1\r\nHost: h\r\n$HTML\r\nConnection: close\r\n\r\n" | tr -d '\r')
    same "$(grep -o '^Content-Length: .*' <<<"$with")" "$(grep -o '^Content-Length: .*' <<<"$without")"
    lacks "$without" '<'
}
check "HEAD gets the same head and no body" head_only
lengths() {
    local form
    for form in "$HTML" "$JSON" 'Accept: */*'; do
        # Two answers on one connection: a wrong length would spoil the second.
        same "$(get /gone/x -H "$form" -o /dev/null -o /dev/null -w '%{http_code} ' "$URL/gone/y")" '503 503 '
    done
}
check "lengths are exact" lengths
style() {
    local page said
    page=$(get /gone/x -H "$HTML" -i)
    said=$(grep -o "sha256-[^']*" <<<"$page")
    same "$said" "sha256-$(python3 -c 'import base64, hashlib, sys
text = sys.stdin.read()
style = text[text.index("<style>") + 7 : text.index("</style>")]
print(base64.b64encode(hashlib.sha256(style.encode()).digest()).decode())' <<<"$page")"
}
command -v python3 >/dev/null && check "the page's policy admits its own style and nothing else" style

CHROMIUM=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
shoot() {
    local name=$1 size=$2
    shift 2
    mkdir -p "$ROOT/target/screenshots"
    HOME=$TMP XDG_RUNTIME_DIR=$TMP timeout 60 "$CHROMIUM" --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
        --user-data-dir="$TMP/chromium-$name" --window-size="$size" --screenshot="$ROOT/target/screenshots/error-$name.png" \
        "$@" "$URL/gone/x" >"$TMP/chromium-$name.log" 2>&1
    [ -s "$ROOT/target/screenshots/error-$name.png" ]
    lacks "$(cat "$TMP/chromium-$name.log")" 'Content Security Policy' 'Refused to'
}
shots() {
    shoot light 1100,800 --enable-logging=stderr
    shoot dark 1100,800 --blink-settings=preferredColorScheme=0
    shoot phone 500,900
}
if [ -n "$CHROMIUM" ]; then check "Chromium shows it, light, dark and on a phone" shots; else skip "Chromium shows it" "there is no Chromium here"; fi
stop_sidekeeper

start_sidekeeper --apps "$TMP/apps" --error-details none
check "--error-details none: nobody sees details" quiet
stop_sidekeeper
start_sidekeeper --apps "$TMP/apps" --error-details all
check "--error-details all: everybody does" has "$(get /gone/x -H 'Host: shop.example' -H 'Via: 1.1 x')" 'stderr | it cannot start'
