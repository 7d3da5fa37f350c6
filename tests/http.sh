#!/usr/bin/env bash
# HTTP/1.1 through the proxy: bodies of every framing both ways, promptness, pipelining, answers
# without bodies, interim answers, HTTP/1.0, header rules, refusals, and workers that misbehave.
# seconds: 20
. "$(dirname "$0")/lib.sh"

echo_app 2
start_sidekeeper --apps "$TMP/apps" --head-timeout 2 --head-bytes-max 16k --target-bytes-max 4k --body-bytes-max 64m
CRLF=$'\r\n'

# exchange STEP...: what comes back, without carriage returns.
exchange() { raw --timeout 8 "$ADDR" "$@" | tr -d '\r'; }
# status_of STEP...: the status of the first answer.
status_of() { exchange "$@" | head -n 1 | cut -d ' ' -f 2; }

# ---- bodies --------------------------------------------------------------------------------------

plain_get() {
    same "$(get /bytes?n=0)" ""
    same "$(get /bytes?n=1000)" "$(pattern 1000)"
    has "$(get '/some/thing?a=1&b=%20')" 'GET /some/thing?a=1&b=%20 HTTP/1.1' 'app=echo'
}
check "a GET arrives as it was asked" plain_get

both_workers() {
    local seen
    seen=$(for _ in 1 2 3 4 5 6; do get /who; done | grep -o 'instance=.' | sort -u | tr '\n' ' ')
    same "$seen" "instance=0 instance=1 "
}
check "requests without a session go round" both_workers

download() {
    local kind=$1 length
    for length in 1 1000 65536 5000001; do
        get "/$kind?n=$length&size=3333" | cmp - <(pattern "$length")
    done
}
check "a body with a length comes whole" download bytes
check "a chunked body comes whole" download chunked
check "a body that ends by closing comes whole" download close

head -c 6000000 /dev/urandom >"$TMP/body"
sum_of() { printf '%s %s' "$(wc -c <"$1")" "$(sha1sum <"$1" | cut -d ' ' -f 1)"; }
upload() {
    local file
    for file in "$TMP/body" "$ROOT/Cargo.toml"; do
        same "$(get /upload -T "$file" "$@")" "$(sum_of "$file")"
    done
}
check "an upload with a length arrives whole" upload
check "a chunked upload arrives whole" upload -H 'Transfer-Encoding: chunked'
check "a chunked upload with Expect: 100-continue arrives whole" upload -H 'Transfer-Encoding: chunked' -H 'Expect: 100-continue'

empty_upload() {
    local nothing
    nothing="0 $(sha1sum </dev/null | cut -d ' ' -f 1)"
    same "$(get /upload -d '')" "$nothing"
    has "$(exchange 'POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n')" "$nothing"
}
check "an empty body is a body" empty_upload

echoed() {
    get /duplex -T "$TMP/body" -H 'Transfer-Encoding: chunked' | cmp - "$TMP/body"
    get /duplex -T "$TMP/body" | cmp - "$TMP/body"
}
check "a body can flow both ways at once" echoed

slow_reader() {
    local length=3000000
    same "$(raw --slow 5 --bite 60000 --timeout 15 "$ADDR" "+last:/bytes?n=$length" | tail -c "$length" | sha1sum)" \
        "$(pattern "$length" | sha1sum)"
}
check "a slow reader gets everything" slow_reader

slow_worker() { same "$(get '/upload?pace=3' -T "$TMP/body")" "$(sum_of "$TMP/body")"; }
check "a worker that reads slowly gets everything" slow_worker

memory() {
    local before after
    before=$(awk '/VmHWM/ { print $2 }' "/proc/$SK_PID/status")
    get "/bytes?n=60000000" | tail -c 16 >/dev/null
    get /upload -T <(head -c 60000000 /dev/zero) -H 'Transfer-Encoding: chunked' | grep -q '^60000000 '
    after=$(awk '/VmHWM/ { print $2 }' "/proc/$SK_PID/status")
    [ $((after - before)) -lt 20000 ] || { echo "grew from $before to $after KiB"; false; }
}
check "bodies are streamed, not held" memory

# ---- promptness ----------------------------------------------------------------------------------

events_at_once() {
    # The stream goes on for ever: an answer that is held back would never match.
    raw --timeout 5 --until 'data: event 3' "$ADDR" '+get:/sse?ms=50' >/dev/null
}
check "server-sent events come one by one" events_at_once

first_byte_down() { raw --timeout 5 --until 'line 0' "$ADDR" '+get:/stream?n=2&ms=30000' >/dev/null; }
check "the first byte of an answer does not wait for the second" first_byte_down

first_byte_up() {
    local head='POST /duplex HTTP/1.1\r\nHost: a\r\nConnection: close\r\n'
    raw --timeout 8 "$ADDR" "${head}Transfer-Encoding: chunked\r\n\r\n" '3\r\nabc\r\n' '+until:abc' \
        '1\r\nZ\r\n' +until:Z '0\r\n\r\n' +end >/dev/null
    raw --timeout 8 "$ADDR" "${head}Content-Length: 4\r\n\r\n" 'abc' '+until:abc' 'd' +until:d +end >/dev/null
}
check "the first byte of a request body does not wait for the rest" first_byte_up

dripped() {
    same "$(raw --drip 2 --timeout 8 "$ADDR" 'POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n' | tail -n 1)" \
        "5 $(printf hello | sha1sum | cut -d ' ' -f 1)"
}
check "a request that comes byte by byte is understood" dripped

# ---- connections ---------------------------------------------------------------------------------

kept() { same "$(curl -sS -o /dev/null -o /dev/null -o /dev/null -w '%{num_connects} ' "$URL"/pid "$URL"/pid "$URL"/pid)" "1 0 0 "; }
check "a client's connection is kept" kept

upstream_kept() {
    local before after
    before=$(get /stats | awk '/^connections/ { print $2 }')
    raw load --connections 1 --count 30 "$ADDR" /pid >/dev/null
    after=$(get /stats | awk '/^connections/ { print $2 }')
    [ $((after - before)) -lt 5 ] || { echo "$before then $after connections to one of the workers"; false; }
}
check "connections to workers are kept" upstream_kept

pipelined() {
    local answer
    answer=$(exchange '+get:/slow?ms=300' '+get:/status?body=second%0a' '+get:/chunked?n=16' '+get:/status?code=204' '+last:/status?body=last%0a')
    same "$(grep -E '^(slow but here|second|0{15}|last)$' <<<"$answer" | tr '\n' ' ')" "slow but here second 000000000000000 last "
    same "$(grep -c '^HTTP/1.1 20[04]' <<<"$answer")" 5
}
check "pipelined requests are answered in order" pipelined

pipelined_bodies() {
    local one='POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc'
    local two='POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n'
    same "$(exchange "$one$two$one$two" '+last:/pid' | grep -c "^3 $(printf abc | sha1sum | cut -d ' ' -f 1)")" 4
}
check "pipelined requests with bodies keep apart" pipelined_bodies

many_pipelined() { same "$(exchange +times:200 'GET /pid HTTP/1.1\r\nHost: a\r\n\r\n' +last:/pid | grep -c '^HTTP/1.1 200')" 201; }
check "two hundred pipelined requests are answered" many_pipelined

blank_line() { same "$(status_of '\r\nGET /pid HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')" 200; }
check "a blank line before a request is overlooked" blank_line

half_closed() { has "$(exchange --shut '+get:/slow?ms=200')" 'slow but here'; }
check "a client that has half-closed still gets its answer" half_closed

close_asked() {
    has "$(exchange +last:/pid)" 'Connection: close'
    # The connection really ends: raw waits for that.
    exchange '+get:/pid' 'GET /pid HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n' >/dev/null
}
check "Connection: close is obeyed" close_asked

client_leaves() {
    local before
    before=$(left)
    ! raw --timeout 0.3 "$ADDR" +get:/hang 2>/dev/null
    wait_for "the worker to notice" 5 more_left "$before"
}
left() { for _ in 1 2; do get /stats; done | awk '/^left/ { sum += $2 } END { print sum }'; }
more_left() { [ "$(left)" -gt "$1" ]; }
check "a worker learns that its client has left" client_leaves

# ---- answers without a body, interim answers -----------------------------------------------------

no_body() {
    has "$(get /bytes?n=1234 -I)" 'Content-Length: 1234'
    has "$(get /chunked?n=5 -I)" 'HTTP/1.1 200'
    same "$(exchange 'HEAD /bytes?n=50 HTTP/1.1\r\nHost: a\r\n\r\n' 'HEAD /close?n=50 HTTP/1.1\r\nHost: a\r\n\r\n' '+last:/status?body=end' | grep -c '^HTTP/1.1 200')" 3
    same "$(exchange '+get:/status?code=204' '+get:/status?code=304&field=ETag:%20%22a%22' '+last:/status?body=end' | grep -cE '^HTTP/1.1 (204|304|200)|^end$')" 4
}
check "HEAD, 204 and 304 have no body and the connection goes on" no_body

continue_asked() {
    local answer
    answer=$(exchange 'POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n' \
        '+until:100 Continue' hello)
    has "$answer" 'HTTP/1.1 200' "5 $(printf hello | sha1sum | cut -d ' ' -f 1)"
}
check "100-continue comes before the body is sent" continue_asked

continue_refused() {
    local answer
    answer=$(exchange 'POST /reply-early?code=403 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n' '+until:early\n')
    has "$answer" 'HTTP/1.1 403'
    lacks "$answer" '100 Continue'
}
check "a body that the worker refuses need not be sent" continue_refused

early_answer() {
    has "$(get /reply-early -T "$TMP/body")" early
    has "$(get '/reply-early?then=close' -T "$TMP/body" 2>&1 || true)" early
}
check "an answer that comes before the body is passed on" early_answer

hints() {
    has "$(exchange +last:/early-hints)" 'HTTP/1.1 103' 'Link: </style.css>' 'HTTP/1.1 200' 'after the hints'
    raw --timeout 5 --until '103 Early' "$ADDR" '+get:/early-hints?ms=20000' >/dev/null
}
check "103 Early Hints are passed on at once" hints

# ---- HTTP/1.0 ------------------------------------------------------------------------------------

old_client() {
    local answer
    answer=$(exchange 'GET /chunked?n=100 HTTP/1.0\r\n\r\n')
    lacks "${answer,,}" transfer-encoding
    has "$answer" "$(pattern 100)"
    lacks "$(exchange 'GET /early-hints HTTP/1.0\r\n\r\n')" 103
    has "$(exchange 'GET /pid HTTP/1.0\r\nConnection: keep-alive\r\n\r\n' 'GET /status?body=second HTTP/1.0\r\n\r\n')" second
    get /bytes?n=50000 -0 | cmp - <(pattern 50000)
}
check "HTTP/1.0 clients get what they understand" old_client

# ---- header fields -------------------------------------------------------------------------------

seen() { get /headers "$@" | tr -d '\r'; }

hop_by_hop() {
    local head
    head=$(exchange 'GET /headers HTTP/1.1\r\nHost: a\r\nConnection: close, X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=9\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: secret\r\nTE: trailers\r\nX-Public: 2\r\n\r\n')
    has "$head" 'X-Public: 2'
    head=${head#*GET /headers}
    lacks "${head,,}" x-private keep-alive proxy-connection trailers close
}
check "hop-by-hop fields end with us" hop_by_hop

hop_by_hop_back() {
    local head
    head=$(get '/status?field=Keep-Alive:%20timeout=7&field=Connection:%20X-Mine&field=X-Mine:%201&field=X-Yours:%202' -i)
    has "$head" 'X-Yours: 2'
    lacks "${head,,}" 'timeout=7' x-mine
}
check "the worker's hop-by-hop fields end with us too" hop_by_hop_back

forwarded() {
    local head
    head=$(seen -H 'Host: shop.test')
    has "${head,,}" 'x-forwarded-for: 127.0.0.1' 'x-forwarded-proto: http' 'x-forwarded-host: shop.test' 'host: shop.test' 'via: 1.1 '
    has "$(get /pid -i | tr 'A-Z' 'a-z')" 'via: 1.1 '
}
check "the worker learns who asked and how" forwarded

forged() {
    local head
    head=$(seen -H 'X-Forwarded-For: 6.6.6.6' -H 'x-forwarded-proto: https' -H 'X-Forwarded-Host: evil.test' \
        -H 'X-Forwarded-For: 7.7.7.7' -H 'X-Sidekeeper-Client: 8.8.8.8 1' -H 'x-sidekeeper-anything: 9.9.9.9' -H 'Forwarded: for=5.5.5.5')
    lacks "$head" 6.6.6.6 7.7.7.7 8.8.8.8 9.9.9.9 5.5.5.5 evil.test https
    has "${head,,}" 'x-sidekeeper-client: 127.0.0.1 '
}
check "forged forwarding fields are not believed" forged

repeated() {
    has "$(get '/status?field=Set-Cookie:%20a=1&field=Set-Cookie:%20b=2' -i)" 'Set-Cookie: a=1' 'Set-Cookie: b=2'
    has "$(seen -H 'Cookie: a=1' -H 'X-Twice: 1' -H 'X-Twice: 2')" 'Cookie: a=1' 'X-Twice: 1' 'X-Twice: 2'
}
check "fields keep their case, order and number" repeated

# ---- refusals ------------------------------------------------------------------------------------

# refused STATUS REQUEST: answered so, closed, and never seen by a worker.
refused() {
    local answer
    answer=$(raw --timeout 8 "$ADDR" "$2" 2>/dev/null | tr -d '\r') || true
    same "$(head -n 1 <<<"$answer" | cut -d ' ' -f 2)" "$1"
    lacks "$answer" X-Worker
    has "${answer,,}" 'connection: close'
}
H='Host: a\r\n'
check "400: no HTTP at all" refused 400 'hello there\r\n\r\n'
check "400: HTTP/1.1 without Host" refused 400 'GET / HTTP/1.1\r\n\r\n'
check "400: two Hosts" refused 400 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'
check "400: a length and a transfer coding" refused 400 "POST / HTTP/1.1\r\n${H}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
check "400: two lengths" refused 400 "POST / HTTP/1.1\r\n${H}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"
check "400: a length with a sign" refused 400 "POST / HTTP/1.1\r\n${H}Content-Length: +3\r\n\r\nabc"
check "400: a length that is no number" refused 400 "POST / HTTP/1.1\r\n${H}Content-Length: 3x\r\n\r\nabc"
check "400: a length beyond numbers" refused 400 "POST / HTTP/1.1\r\n${H}Content-Length: 99999999999999999999\r\n\r\nabc"
check "400: a blank before a colon" refused 400 "POST / HTTP/1.1\r\n${H}Content-Length : 3\r\n\r\nabc"
check "400: a folded field" refused 400 "GET / HTTP/1.1\r\n${H}X-A: 1\r\n 2\r\n\r\n"
check "400: chunked twice" refused 400 "POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"
check "400: chunked in HTTP/1.0" refused 400 'POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'
check "501: an unknown transfer coding" refused 501 "POST / HTTP/1.1\r\n${H}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
check "400: a NUL in a field" refused 400 "GET / HTTP/1.1\r\n${H}X-A: a\x00b\r\n\r\n"
check "408: a head that stays half" refused 408 "GET / HTTP/1.1\r\n${H}X-A: "
check "414: a target too long" refused 414 "GET /$(printf 'a%.0s' {1..5000}) HTTP/1.1\r\n${H}\r\n"
check "431: a head too long" refused 431 "GET / HTTP/1.1\r\n${H}X-A: $(printf 'a%.0s' {1..20000})\r\n\r\n"
check "413: a body too long" refused 413 "POST /upload HTTP/1.1\r\n${H}Content-Length: 100000000\r\n\r\n"

bad_chunk() {
    local answer
    answer=$(raw --timeout 8 "$ADDR" "POST /upload HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\nZZ\r\n\r\n" +get:/pid 2>/dev/null) || true
    lacks "$answer" 'HTTP/1.1 200'
}
check "a broken chunk ends the exchange and the connection" bad_chunk

smuggling() {
    # What follows a refused request on the connection is not a request.
    local answer
    answer=$(raw --timeout 8 "$ADDR" "POST / HTTP/1.1\r\n${H}Content-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /status?body=smuggled HTTP/1.1\r\n${H}\r\n" 2>/dev/null) || true
    lacks "$answer" smuggled
    same "$(grep -c '^HTTP/1' <<<"$answer")" 1
}
check "nothing is smuggled behind a contradiction" smuggling

# ---- workers that misbehave ----------------------------------------------------------------------

nonsense() {
    same "$(status '/raw?text=no+answer+at+all%0d%0a%0d%0a')" 502
    same "$(status '/raw?text=HTTP/1.1+200+OK%0d%0aContent-Length:+x%0d%0a%0d%0a')" 502
    same "$(status '/raw?text=HTTP/1.1+200+OK%0d%0aContent-Length:+1%0d%0aContent-Length:+2%0d%0a%0d%0aab')" 502
    same "$(status '/raw?text=HTTP/1.1+200+OK%0d%0aHalf')" 502
    same "$(status '/raw')" 502
}
check "502: an answer that is none" nonsense

cut_short() {
    local rc=0
    get '/short?n=1000&sent=500' >"$TMP/short" 2>/dev/null || rc=$?
    [ "$rc" != 0 ] && [ "$(wc -c <"$TMP/short")" -le 500 ]
    rc=0
    get '/raw?text=HTTP/1.1+200+OK%0d%0aTransfer-Encoding:+chunked%0d%0a%0d%0a5%0d%0ahello%0d%0a' >/dev/null 2>&1 || rc=$?
    [ "$rc" != 0 ]
}
check "a body that was cut short does not look complete" cut_short

too_much() {
    # The bytes behind the answer must not become the next client's answer.
    get '/raw?keep=1&text=HTTP/1.1+200+OK%0d%0aContent-Length:+2%0d%0a%0d%0aokHTTP/1.1+200+OK%0d%0aContent-Length:+6%0d%0a%0d%0apoison' >/dev/null
    local answers
    answers=$(for _ in 1 2 3 4 5 6; do get /status?body=clean; done)
    lacks "$answers" poison
}
check "bytes behind an answer are nobody's answer" too_much

dies() {
    local how=$1 wanted=$2 answer
    answer=$(status "/die?how=$how" -X POST -d x) || true
    same "$answer" "$wanted"
    wait_for "both workers to be back" 10 both_workers
}
check "502: the worker dies before it answers a POST" dies before 502
check "502: the worker dies inside its head" dies head 502
dies_within() {
    local rc=0
    get '/die?how=mid' -X POST -d x >/dev/null 2>&1 || rc=$?
    [ "$rc" != 0 ]
    wait_for "both workers to be back" 10 both_workers
}
check "a worker that dies inside a body breaks the connection off" dies_within

ours_say_nothing() {
    local answer
    answer=$(get /raw -i)
    lacks "$answer" "$TMP" "$SK_DIR" .sock
    has "$answer" 'HTTP/1.1 502' 'Content-Length'
}
check "our own answers say nothing about our insides" ours_say_nothing

step "sidekeeper stops"
stop_sidekeeper
same "$SK_STATUS" 0
