#!/usr/bin/env bash
# Every limit and deadline: what the client sees when it is reached, that what stays within it is
# served, and that other clients notice nothing.
# seconds: 40

. "$(dirname "$0")/lib.sh"

first_line() { head -n 1 <<<"$1" | tr -d '\r'; }

# answered STATUS RAW-ARGUMENTS...: the answer's status is that, and it ends in an orderly close.
answered() {
    local want=$1 got
    shift
    got=$(raw --timeout 15 "$@") || { echo "raw: exit $? after: ${got:0:200}" >&2; return 1; }
    same "$(first_line "$got" | cut -d ' ' -f 1,2)" "HTTP/1.1 $want"
    lacks "${got#*$'\r\n\r\n'}" "HTTP/1."
}

# The same, and the answer says that the connection ends.
answered_and_closed() {
    local got
    answered "$@"
    shift
    got=$(raw --timeout 15 "$@")
    has "$got" $'\r\nConnection: close\r\n'
}

echo_app 2
app own "{\"path\": \"/own\", \"workers\": 1, \"command\": [\"$ECHO_APP\"],
    \"answer_timeout\": 3, \"body_bytes_max\": \"2k\"}"
start_sidekeeper --apps "$TMP/apps" --head-bytes-max 2k --head-fields-max 20 --target-bytes-max 300 \
    --body-bytes-max 1000 --head-timeout 1.5 --body-timeout 1.5 --answer-timeout 1.5 \
    --keepalive-timeout 1.5 --tunnel-idle-timeout 1.5 --write-timeout 1.5 --half-close-timeout 1.5 \
    --requests-per-connection-max 400 --connections-max 300

# All of the following happens beside these, and must not disturb them.
touch "$TMP/load"
"$RAW" load --connections 2 --while "$TMP/load" --pause 10 --same "$ADDR" '/bytes?n=5000' '/chunked?n=3000' \
    >"$TMP/load.out" 2>&1 &
LOAD=$!

# A slow reader, at a rate at which the kernel's buffers take seconds to ask for more.
"$RAW" --quiet --report --slow 100 --bite 30000 --timeout 60 "$ADDR" '+last:/bytes?n=5000000' 2>"$TMP/slow.out" &
SLOW=$!

x() { head -c "$1" /dev/zero | tr '\0' x; }
HEAD='Host: h\r\nConnection: close\r\n'
LONG="X-Long: $(x 2100)"
FIELDS=$(for i in {1..30}; do printf 'X-%s: y\\r\\n' "$i"; done)

check "a head longer than --head-bytes-max: 431" \
    answered_and_closed 431 "$ADDR" "GET / HTTP/1.1\r\nHost: h\r\n$LONG\r\n\r\n"
check "... even if it never ends" answered_and_closed 431 "$ADDR" "GET / HTTP/1.1\r\nHost: h\r\n$LONG"
check "a head just within it is served" \
    answered 200 "$ADDR" "GET /pid HTTP/1.1\r\n${HEAD}X-Long: $(x 1900)\r\n\r\n"
check "more fields than --head-fields-max: 431" \
    answered_and_closed 431 "$ADDR" "GET / HTTP/1.1\r\nHost: h\r\n$FIELDS\r\n"
check "a target longer than --target-bytes-max: 414" \
    answered_and_closed 414 "$ADDR" "GET /$(x 300) HTTP/1.1\r\nHost: h\r\n\r\n"
check "a target just within it is served" answered 200 "$ADDR" "GET /pid?$(x 295) HTTP/1.1\r\n$HEAD\r\n"

check "a length beyond --body-bytes-max: 413 before any of it was sent" \
    answered_and_closed 413 "$ADDR" 'POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n'
check "... and the answer can be read by a client that goes on sending" \
    answered 413 "$ADDR" 'POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n' +times:3000 "$(x 1000)" +shut
check "a body of exactly that length is served" \
    answered 200 "$ADDR" "POST /upload HTTP/1.1\r\n${HEAD}Content-Length: 1000\r\n\r\n$(x 1000)"
CHUNKED="POST /upload HTTP/1.1\r\n${HEAD}Transfer-Encoding: chunked\r\n\r\n"
check "chunks beyond --body-bytes-max: 413" \
    answered_and_closed 413 "$ADDR" "$CHUNKED" +times:11 "64\r\n$(x 100)\r\n"
check "... also when they come in one piece with the head" \
    answered_and_closed 413 "$ADDR" "${CHUNKED}3e9\r\n$(x 1001)\r\n0\r\n\r\n"
check "chunks count by their payload, not by their framing" \
    answered 200 "$ADDR" "$CHUNKED" +times:900 '1\r\nx\r\n' '0\r\n\r\n'
check "an app's own body_bytes_max goes before" \
    answered 200 "$ADDR" "POST /own/upload HTTP/1.1\r\n${HEAD}Content-Length: 2000\r\n\r\n$(x 2000)"
check "... and holds" answered_and_closed 413 "$ADDR" 'POST /own/upload HTTP/1.1\r\nHost: h\r\nContent-Length: 2049\r\n\r\n'

# between MILLISECONDS MILLISECONDS COMMAND...: how long the command takes.
between() {
    local from=$1 to=$2 begun took
    shift 2
    begun=$(date +%s%3N)
    "$@"
    took=$(($(date +%s%3N) - begun))
    echo "took $took ms" >&2
    [ "$took" -ge "$from" ] && [ "$took" -le "$to" ]
}

check "a head slower than --head-timeout: 408, however it drips" \
    between 1400 9000 answered 408 --drip 100 "$ADDR" "GET / HTTP/1.1\r\nHost: h\r\n$(x 20)"
check "... which says that the connection ends" answered_and_closed 408 "$ADDR" 'GET / HTTP/1.1\r\nHo'
check "a second head that stops: 408 after the first one's answer" \
    has "$(raw --timeout 15 "$ADDR" +get:/pid 'GET / HT')" 'HTTP/1.1 200' 'HTTP/1.1 408'
check "a body that stops for longer than --body-timeout: 408" \
    between 1400 9000 answered_and_closed 408 "$ADDR" 'POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc'
check "a body that goes on, slowly, is taken however long it takes" \
    between 2400 15000 answered 200 "$ADDR" "POST /upload HTTP/1.1\r\n${HEAD}Content-Length: 6\r\n\r\n" +drip:500 abcdef
check "a worker silent for longer than --answer-timeout: 504" \
    between 1400 9000 answered 504 "$ADDR" "+last:/slow?ms=20000"
check "... after which the connection can be used" \
    has "$(raw --timeout 15 "$ADDR" +get:/hang +until:504 +last:/pid)" 'HTTP/1.1 200'
check "an app's own answer_timeout goes before" answered 200 "$ADDR" '+last:/own/slow?ms=2200'
cut_answer() {
    local got status=0
    got=$(raw --timeout 15 "$ADDR" '+last:/stream?n=2&ms=20000') || status=$?
    has "$got" 'HTTP/1.1 200'
    same "$status" 5
}
check "an answer that stops in the middle is reset, never ended cleanly" cut_answer
check "a connection without a request is closed after --keepalive-timeout" \
    between 1400 9000 eval 'same "$(raw --timeout 15 "$ADDR")" ""'
check "... and so is one after its last answer" between 1400 9000 answered 200 "$ADDR" +get:/pid
check "a client that ended its side gets an answer within --half-close-timeout" \
    answered 200 "$ADDR" '+get:/slow?ms=700' +shut
half_closed() {
    local status=0
    raw --quiet --timeout 15 "$ADDR" '+get:/own/slow?ms=20000' +shut || status=$?
    same "$status" 5
}
check "... and counts as gone after it" half_closed

WS='GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
check "a tunnel without a byte is closed after --tunnel-idle-timeout" \
    between 1400 9000 eval 'has "$(raw --timeout 15 "$ADDR" "$WS")" "HTTP/1.1 101"'
check "... one with a byte now and then stays" \
    has "$(raw ws --count 6 --pause 500 --timeout 20 "$ADDR" /ws)" 'fine 1'

deaf_client() {
    local mark left
    left=$(lefts)
    mark=$(log_mark)
    "$RAW" --deaf --quiet --timeout 12 "$ADDR" '+last:/bytes?n=50000000' &
    wait_for "the deaf client to be cut off" 10 cut_off "$mark" WriteTimeout
    wait_for "its worker to be free of it" 5 more_lefts "$left"
    kill $! 2>/dev/null || true
}
cut_off() { log_since "$1" | grep -q "$2"; }
lefts() { local i; for i in {1..12}; do get /stats; done | awk '/^left/ { l[$2] = 1 } END { for (n in l) s += n; print s + 0 }'; }
more_lefts() { [ "$(lefts)" -gt "$1" ]; }
check "a client that does not read is cut off after --write-timeout, and its worker freed" deaf_client

request_max() {
    local got
    got=$(raw --timeout 15 "$ADDR" +times:399 'GET /pid HTTP/1.1\r\nHost: h\r\n\r\n' '+get:/who' '+get:/never')
    same "$(grep -c '^HTTP/1.1 200' <<<"$got")" 400
    same "$(grep -c '^Connection: close' <<<"$got")" 1
    has "${got##*HTTP/1.1 200}" 'Connection: close' 'app=echo'
    lacks "$got" 'never'
}
check "the last of --requests-per-connection-max answers says close, and no more is read" request_max

check "the slow reader got all that it was sent" eval 'wait_for "it to end" 60 dead $SLOW; has "$(cat "$TMP/slow.out")" EndOfStream'

# ---- counts --------------------------------------------------------------------------------------

# hold NAME COUNT ADDR STEP...: holds connections until release NAME.
hold() {
    local name=$1 count=$2
    shift 2
    touch "$TMP/$name.hold"
    "$RAW" hold "$count" --timeout 60 --while "$TMP/$name.hold" "$@" >"$TMP/$name.out" 2>&1 &
    wait_for "$count connections to stand" 20 grep -q "^held $count" "$TMP/$name.out"
}
release() { rm -f "$TMP/$1.hold"; }

rm -f "$TMP/load"
wait $LOAD || true
check "nobody else has noticed anything of all this" has "$(cat "$TMP/load.out")" ' failed 0 '
stop_sidekeeper

echo_app 1
start_sidekeeper --apps "$TMP/apps" --connections-max 4
hold crowd 4 "$ADDR" +get:/pid '+until:HTTP/1.1 200' # four that were served and stay
check "beyond --connections-max: 503 and close" answered_and_closed 503 "$ADDR" +get:/pid
check "... with Retry-After" has "$(raw "$ADDR" +get:/pid)" 'Retry-After: '
check "... readable by a client that sends a lot first" answered 503 "$ADDR" +times:2000 "$(x 1000)" +shut
release crowd
free_again() { [ "$(status /pid)" = 200 ]; }
check "there is room again when they have left" wait_for "room" 10 free_again
check "the log says which limit it was" log_has --connections-max
stop_sidekeeper

start_sidekeeper --apps "$TMP/apps" --connections-per-client-max 3 --listen "unix:$TMP/front.sock"
hold mine 3 "$ADDR" +get:/pid '+until:HTTP/1.1 200'
check "beyond --connections-per-client-max: 503 and close" answered_and_closed 503 "$ADDR" +get:/pid
check "another client is served" eval 'same "$(status /pid --interface 127.0.0.9)" 200'
hold local 5 "unix:$TMP/front.sock" +get:/pid '+until:HTTP/1.1 200'
check "clients of a Unix socket are not counted" has "$(cat "$TMP/local.out")" "held 5"
release mine
release local
check "a client that has left room gets in again" wait_for "room" 10 free_again
check "the log says which limit it was" log_has --connections-per-client-max
stop_sidekeeper

start_sidekeeper --apps "$TMP/apps" --tunnels-max 2
touch "$TMP/ws.hold"
"$RAW" ws --hold --while "$TMP/ws.hold" --connections 2 --timeout 60 "$ADDR" /ws >"$TMP/ws.out" 2>&1 &
wait_for "two tunnels" 20 grep -q 'held 2' "$TMP/ws.out"
REQUESTS=$(get /stats | awk '/^requests/ { print $2 }')
check "beyond --tunnels-max: 503" answered_and_closed 503 "$ADDR" "${WS/Connection: Upgrade/Connection: Upgrade, close}"
check "... before the worker has heard of it" eval 'same "$(get /stats | awk "/^requests/ { print \$2 }")" $((REQUESTS + 1))'
check "... while requests are served" eval 'same "$(status /pid)" 200'
rm -f "$TMP/ws.hold"
tunnel_again() { raw ws --timeout 5 "$ADDR" /ws hello | grep -q hello; }
check "there is room again when one has ended" wait_for "a tunnel" 10 tunnel_again
stop_sidekeeper

# ---- the same as configuration keys --------------------------------------------------------------

ask_limits() {
    "$SIDEKEEPER" run --help | grep -oE -- '--[a-z-]+-(max|timeout)' | sort -u | while read -r flag; do
        key=${flag#--}
        key=${key//-/_}
        value=200
        [[ $key != *_bytes_max ]] || value=2000
        printf '{"apps": [{"name": "e", "command": ["%s"]}], "%s": %d}\n' "$ECHO_APP" "$key" $value >"$TMP/keys.json"
        "$SIDEKEEPER" check --config "$TMP/keys.json" >/dev/null 2>"$TMP/keys.err" ||
            { echo "$key: $(cat "$TMP/keys.err")"; }
    done
}
check "every limit is a configuration key as well" eval 'same "$(ask_limits)" ""'
