#!/usr/bin/env bash
# Socket.IO sessions stay with their worker: the real client, protocols 4 and 3, over polling, over
# WebSocket and from one to the other, with and without cookies, and when a worker dies.
# seconds: 30
. "$(dirname "$0")/lib.sh"
need_node

export CHAT_DIR=$ROOT/apps/chat
socketio_app() {
    app "$1" "{\"path\": \"$2\", \"workers\": 4, \"env\": $3}"
    cp "$ROOT/tests/fixtures/socketio.js" "$APP_DIR/app.js"
}
socketio_app rooms / '{}'
start_sidekeeper

# clients JSON FIELD...: runs them; every message must have come back, without an error.
clients() { node "$ROOT/tests/fixtures/clients.js" "$URL" "$@"; }

all_connected() {
    local result
    result=$(clients "$1")
    echo "$result"
    has "$result" "\"connected\":$2" '"errors":{}' "\"echoed\":$(($2 * 6))"
    has "$result" '"workers":{"0":' '"1":' '"2":' '"3":'
    [ -z "${3:-}" ] || has "$result" "\"transports\":{\"$3\":$2}"
}
check "polling alone" all_connected '{"clients": 16, "transports": ["polling"]}' 16 polling
check "WebSocket alone" all_connected '{"clients": 16, "transports": ["websocket"]}' 16 websocket
check "from polling up to WebSocket" all_connected '{"clients": 24}' 24 websocket
check "engine.io 3: polling alone" all_connected '{"clients": 8, "version": 2, "transports": ["polling"]}' 8 polling
check "engine.io 3: from polling up to WebSocket" all_connected '{"clients": 8, "version": 2}' 8 websocket
check "with another app's cookies" all_connected '{"clients": 8, "extraHeaders": {"Cookie": "connect.sid=s%3Aabc; io=someone-elses"}}' 8

real_address() { has "$(clients '{"clients": 2}')" '127.0.0.1":2'; }
check "the app sees the client's address" real_address

# ---- by hand -------------------------------------------------------------------------------------

open_session() { get "/socket.io/?EIO=4&transport=polling" "$@" | sed -n 's/.*"sid":"\([^"]*\)".*/\1/p'; }

many_polls() {
    # Each on its own connection: only the sid says where it belongs.
    local sid
    for _ in 1 2 3 4 5; do
        sid=$(open_session)
        same "$(get "/socket.io/?EIO=4&transport=polling&sid=$sid" -d 40)" ok
        poll_until "$sid" '"who"' | grep -q '40{"sid"'
    done
}
# The packets may come in one poll or in two.
poll_until() {
    local sid=$1 wanted=$2 got= _
    for _ in 1 2 3; do
        got+=$(get "/socket.io/?EIO=4&transport=polling&sid=$sid")
        [[ $got == *"$wanted"* ]] && break
    done
    echo "$got"
}
check "polls and posts of a session find it on any connection" many_polls

pipelined() {
    # On one connection, requests of two sessions and of none.
    local one two answer
    one=$(open_session) two=$(open_session)
    answer=$(raw --timeout 8 "$ADDR" \
        "POST /socket.io/?EIO=4&transport=polling&sid=$one HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n40" \
        "POST /socket.io/?EIO=4&transport=polling&sid=$two HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n40" \
        "+get:/" "+get:/socket.io/?EIO=4&transport=polling&sid=$one" "+last:/socket.io/?EIO=4&transport=polling&sid=$two")
    lacks "$answer" "Session ID unknown" " 400 "
    same "$(grep -o 'HTTP/1.1 200' <<<"$answer" | wc -l)" 5
}
check "one connection may carry several sessions" pipelined

split_body() {
    local sid
    sid=$(open_session)
    has "$(raw --timeout 8 "$ADDR" "POST /socket.io/?EIO=4&transport=polling&sid=$sid HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n" +drip:100 40)" ok
    has "$(get "/socket.io/?EIO=4&transport=polling&sid=$sid")" '40{"sid"'
}
check "a post that comes in pieces" split_body

preflight() {
    local sid
    sid=$(open_session)
    same "$(status "/socket.io/?EIO=4&transport=polling&sid=$sid" -X OPTIONS)" "$(status "/socket.io/?EIO=4&transport=polling&sid=$sid" -X OPTIONS)"
    same "$(get "/socket.io/?EIO=4&transport=polling&sid=$sid" -d 40)" ok
}
check "a preflight without cookies does no harm" preflight

unknown() {
    local answer
    answer=$(get "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA" -w ' %{http_code}')
    same "$answer" '{"code":1,"message":"Session ID unknown"} 400'
}
check "a session that nobody knows" unknown

not_a_sid() {
    # A sid in a cookie or a referrer is not this request's session.
    local sid
    sid=$(open_session)
    same "$(for _ in 1 2 3 4 5 6 7 8; do get / -H "Referer: http://a/?sid=$sid" -H "Cookie: connect.sid=$sid"; done | grep -o 'instance=.' | sort -u | wc -l)" 4
}
check "a sid elsewhere than in the query binds nothing" not_a_sid

# ---- a worker dies -------------------------------------------------------------------------------

survives() {
    local transports=$1 victim lost other
    # A new file: what an earlier run has said must not be taken for this one's.
    rm -f "$TMP/stay"
    node "$ROOT/tests/fixtures/clients.js" "$URL" "{\"clients\": 12, \"stay\": true, \"seconds\": 40, \"transports\": $transports}" >"$TMP/stay" 2>&1 &
    wait_for "the clients" 15 grep -q '^ready' "$TMP/stay"
    victim=$(sed -n 's/^stays //p' "$TMP/stay" | head -n 1)
    lost=$(grep -c "^stays $victim\$" "$TMP/stay")
    kill -KILL "$victim"
    wait_for "its clients to be back" 12 all_back "$lost"
    other=$(grep '^lost ' "$TMP/stay" | grep -vc "^lost $victim " || true)
    cat "$TMP/stay"
    same "$other" 0
    same "$(awk '/^back/ && $4 > 3000 { print "slow:", $0 }' "$TMP/stay")" ""
    kill $!
    wait $! || true
    lacks "$(tail -n 1 "$TMP/stay")" timeout
}
all_back() { [ "$(grep -c '^back ' "$TMP/stay")" -ge "$1" ]; }
check "polling clients of a killed worker are back within 3 s, the others notice nothing" survives '["polling"]'
check "WebSocket clients of a killed worker are back within 3 s, the others notice nothing" survives '["websocket"]'
check "upgraded clients of a killed worker are back within 3 s, the others notice nothing" survives '["polling", "websocket"]'

gone_session() {
    local sid pid
    sid=$(open_session)
    same "$(get "/socket.io/?EIO=4&transport=polling&sid=$sid" -d 40)" ok
    pid=$(poll_until "$sid" '"who"' | grep -o '"pid":[0-9]*' | cut -d : -f 2)
    kill -KILL "$pid"
    wait_for "it to be gone" 5 dead "$pid"
    same "$(get "/socket.io/?EIO=4&transport=polling&sid=$sid" -w ' %{http_code}')" '{"code":1,"message":"Session ID unknown"} 400'
}
check "a session whose worker has died is answered as engine.io would" gone_session

step "sidekeeper stops"
stop_sidekeeper
same "$SK_STATUS" 0

# ---- cookies -------------------------------------------------------------------------------------

step "with engine.io's own cookie, the query beats the cookie"
rm -rf "$TMP/apps"
socketio_app cookies / '{"IO_COOKIE": "1"}'
start_sidekeeper
first=$(get "/socket.io/?EIO=4&transport=polling" -c "$TMP/jar" | sed -n 's/.*"sid":"\([^"]*\)".*/\1/p')
second=$(get "/socket.io/?EIO=4&transport=polling" -c "$TMP/jar" | sed -n 's/.*"sid":"\([^"]*\)".*/\1/p')
grep -q io "$TMP/jar"
for sid in "$first" "$second"; do
    # Two tabs share one jar, which holds the second tab's cookie.
    same "$(get "/socket.io/?EIO=4&transport=polling&sid=$sid" -b "$TMP/jar" -d 40)" ok
    has "$(get "/socket.io/?EIO=4&transport=polling&sid=$sid" -b "$TMP/jar")" '40{"sid"'
done

check "clients with cookies" all_connected '{"clients": 12, "cookies": true}' 12 websocket
