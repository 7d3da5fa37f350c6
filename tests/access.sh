#!/usr/bin/env bash
# The access log: a line for each request, whoever ended it and how; ids of requests on their way;
# what must not get into a log; files that are moved away, a reader that stands still.
# seconds: 20
. "$(dirname "$0")/lib.sh"

# field NAME LINE: of a line of JSON.
field() { grep -oE "\"$1\":(\"[^\"]*\"|[^,}]*)" <<<"$2" | head -n 1 | sed 's/^[^:]*://; s/"//g'; }
# line_of PATTERN: the last line of the access log that has it.
line_of() { grep -F -- "$1" "$ACCESS" | tail -n 1; }
logged() { grep -qF -- "$1" "$ACCESS"; }
# wants PATTERN NAME=VALUE...: a line with the pattern comes, and has these values.
wants() {
    local pattern=$1 line pair
    shift
    wait_for "a line with $pattern" 10 logged "$pattern"
    line=$(line_of "$pattern")
    for pair in "$@"; do
        same "${pair%%=*} $(field "${pair%%=*}" "$line")" "${pair%%=*} ${pair#*=}" || { echo "$line" >&2; return 1; }
    done
}
is_id() { [[ $1 =~ ^[0-9a-hjkmnp-tv-z]{20}$ ]]; }

echo_app 2
app own "{\"path\": \"/own\", \"workers\": 1, \"policy\": \"ip-hash\", \"affinity_cookie\": \"place\", \"command\": [\"$ECHO_APP\"]}"
ACCESS=$TMP/access.log
start_sidekeeper --apps "$TMP/apps" --access-log "$ACCESS" --access-log-format json --head-timeout 1 --body-timeout 1 \
    --answer-timeout 1 --half-close-timeout 0.5 --tunnel-idle-timeout 60 --body-bytes-max 1000 --trusted-proxy 127.0.0.9

# ---- how requests end ----------------------------------------------------------------------------

completed() {
    get '/bytes?n=1000&mark=one' -A 'a "browser"' -e http://h/x -o /dev/null
    wants mark=one end=completed status=200 app=echo why=rr method=GET version=1.1 client=127.0.0.1 referer=http://h/x
    line=$(line_of mark=one)
    has "$line" '"user_agent":"a \"browser\""' '"target":"/bytes?n=1000&mark=one"' '"queue_ms":0.' '"connect_ms":'
    [ "$(field bytes_out "$line")" -gt 1000 ] && [ "$(field bytes_out "$line")" -lt 1600 ]
    [[ $(field worker "$line") =~ ^echo\.[01]$ ]]
    [[ $(field time "$line") =~ ^20[0-9-]{8}T[0-9:]{8}\.[0-9]{3}Z$ ]]
    is_id "$(field request_id "$line")"
}
check "an answered request has a line with all that is known" completed
body() {
    head -c 700 /dev/zero | get '/upload?mark=body' --data-binary @- -o /dev/null
    wants mark=body end=completed method=POST
    [ "$(field bytes_in "$(line_of mark=body)")" -gt 700 ]
}
check "bytes of the body are counted" body
times() {
    get '/slow?ms=300&mark=slow' -o /dev/null
    wants mark=slow end=completed
    [ "$(field first_ms "$(line_of mark=slow)" | cut -d . -f 1)" -ge 299 ]
    [ "$(field total_ms "$(line_of mark=slow)" | cut -d . -f 1)" -ge 299 ]
}
check "times are the worker's" times
silent() { same "$(status '/hang?mark=hang')" 504; wants mark=hang end=timeout:answer status=504 app=echo first_ms=null; }
check "a worker that is silent" silent
left() { fails get '/hang?mark=left' --max-time 0.2; wants mark=left end=client-left status=null; }
check "a client that leaves" left
closes() { same "$(status '/die?how=before&mark=drop' -X POST)" 502; wants mark=drop end=worker-died status=502; }
check "a worker that closes before it answers" closes
broken_off() { fails get '/short?n=1000&sent=10&mark=cut' -o /dev/null; wants mark=cut end=worker-died status=200; }
check "a worker that closes in the middle" broken_off
too_large() { same "$(status '/upload?mark=large' -d "$(pattern 2000)")" 413; wants mark=large end=refused:body status=413; }
check "a request that we refuse" too_large
malformed() { raw "$ADDR" 'GET /a b HTTP/1.1\r\n\r\n' >"$TMP/malformed"; wants refused:request end=refused:request status=400 method=null target=null; }
check "what is no request" malformed
slow_head() { raw "$ADDR" 'GET / HT' >/dev/null; wants timeout:head status=408; }
check "a head that does not come" slow_head
no_app() { same "$(status /own/hang?mark=x --max-time 5)" 504; wants mark=x app=own worker=own.0 why=ip; }
check "another app, another policy" no_app
cookie() {
    local jar=$TMP/jar
    get '/own/pid?mark=first' -c "$jar" -o /dev/null
    get '/own/pid?mark=second' -b "$jar" -o /dev/null
    wants mark=first why=ip
    wants mark=second why=affinity
}
check "why this worker" cookie

tunnel() {
    raw ws "$ADDR" '/ws?mark=ws' hello >/dev/null
    wait_for "both lines" 10 eval '[ "$(grep -c mark=ws "$ACCESS")" = 2 ]'
    same "$(field end "$(grep mark=ws "$ACCESS" | head -n 1)")" upgraded
    wants mark=ws status=101
    [[ $(field end "$(line_of mark=ws)") =~ ^(client|worker)-closed$ ]]
    [ "$(field bytes_in "$(line_of mark=ws)")" -ge 11 ] && [ "$(field bytes_out "$(line_of mark=ws)")" -ge 7 ]
    same "$(field request_id "$(line_of mark=ws)")" "$(field request_id "$(grep mark=ws "$ACCESS" | head -n 1)")"
}
check "a WebSocket has a line when it begins and one when it ends, with its bytes" tunnel
stream() {
    raw ws --count 20 --size 200000 "$ADDR" '/ws?mark=stream' >/dev/null
    wait_for "both lines" 10 eval '[ "$(grep -c mark=stream "$ACCESS")" = 2 ]'
    [ "$(field bytes_in "$(line_of mark=stream)")" -ge 4000000 ] && [ "$(field bytes_out "$(line_of mark=stream)")" -ge 4000000 ]
}
check "... whoever has moved them" stream

# ---- ids -----------------------------------------------------------------------------------------

head_of() { get "$@" -D - -o /dev/null | tr -d '\r'; }
to_worker() {
    local got
    got=$(get /headers -H 'X-Request-Id: mine' -H 'X_Request_Id: mine')
    got=$(grep -i '^x.request.id' <<<"$got")
    same "$(wc -l <<<"$got")" 1
    is_id "$(sed 's/^[^:]*: *//' <<<"$got" | tr -d '\r')"
}
check "the worker gets an id, and a client's is not believed" to_worker
lacks_id() { lacks "$(head_of /pid)" X-Request-Id; }
check "a worker's answer does not carry it" lacks_id
from_proxy() {
    local got
    got=$(get '/headers?mark=proxy' --interface 127.0.0.9 -H 'X-Request-Id: edge-17/a')
    has "$got" 'edge-17/a'
    wants mark=proxy request_id=edge-17/a
    get '/headers?mark=evil' --interface 127.0.0.9 -H 'X-Request-Id: <b>' -o /dev/null
    wait_for "its line" 10 logged mark=evil
    is_id "$(field request_id "$(line_of mark=evil)")"
}
check "that of a trusted proxy counts, if it is a plain one" from_proxy
private() { has "$(head_of '/status?code=200&field=X-Side:%20x')" X-Side; lacks "$(head_of '/status?code=200&field=X-Sidekeeper-Client:%20x')" X-Sidekeeper; }
check "a worker's X-Sidekeeper- fields stay with us" private

# ---- what must not get into a log ----------------------------------------------------------------

injected() {
    get /pid -A $'a\tb\x9b31m"\\' -o /dev/null
    wait_for "its line" 10 logged '\u0009b'
    same "$(tr -d ' -~\n' <"$ACCESS" | wc -c)" 0
}
check "control bytes are written as what they are" injected
is_json() { python3 -c 'import json, sys; [json.loads(line) for line in open(sys.argv[1])]' "$ACCESS"; }
command -v python3 >/dev/null && check "every line is JSON" is_json
masked() {
    get '/socket.io/?EIO=4&transport=polling&sid=abcdefghijkl&mark=sid' -o /dev/null
    wait_for "its line" 10 logged 'sid=abcd***&mark=sid'
    lacks "$(cat "$ACCESS")" abcdefgh
}
check "a session cannot be taken over from the log" masked

# ---- files ---------------------------------------------------------------------------------------

reopened() {
    mv "$ACCESS" "$ACCESS.1"
    kill -USR1 "$SK_PID"
    wait_for "a new file" 10 test -f "$ACCESS"
    get '/pid?mark=new' -o /dev/null
    wait_for "its line" 10 logged mark=new
}
check "SIGUSR1 opens the file anew" reopened
stop_sidekeeper
formats() {
    local format
    for format in common combined text; do
        ACCESS=$TMP/$format.log
        start_sidekeeper --apps "$TMP/apps" --access-log "$ACCESS" --access-log-format "$format" --access-log-query drop
        get '/pid?secret=1' -A 'b"r' -o /dev/null
        stop_sidekeeper
    done
    [[ $(cat "$TMP/common.log") =~ ^127\.0\.0\.1\ -\ -\ \[[0-9]{2}/[A-Z][a-z]{2}/20[0-9]{2}:[0-9:]{8}\ \+0000\]\ \"GET\ /pid\ HTTP/1\.1\"\ 200\ [0-9]+$ ]]
    [[ $(cat "$TMP/combined.log") == *'"GET /pid HTTP/1.1" 200 '*' "-" "b\"r"' ]]
    has "$(cat "$TMP/text.log")" ' rr 200 completed "GET /pid HTTP/1.1" queue=' ' echo.'
}
check "common, combined and text; without the query; the last line is written before the end" formats

check "a file that cannot be written is told at the start" \
    has "$("$SIDEKEEPER" run --apps "$TMP/apps" --run-dir "$TMP/none" --access-log "$TMP/no/such" 2>&1)" "cannot write $TMP/no/such" --access-log

on_stdout() {
    mkfifo "$TMP/out"
    SK_DIR=$TMP/fifo
    mkdir -p "$SK_DIR"
    "$SIDEKEEPER" run --apps "$TMP/apps" --listen 127.0.0.1:0 --run-dir "$SK_DIR/run" --address-file "$SK_DIR/address" \
        --access-log - >"$TMP/out" 2>"$SK_DIR/log" </dev/null &
    SK_PID=$!
    LOG=$SK_DIR/log
    exec 7<"$TMP/out"
    wait_for_ready
}
step "standard output, which nobody reads"
on_stdout
end_step
full() {
    # Each line is about 2,200 bytes: what a pipe and the buffer hold, and more.
    "$RAW" load --connections 4 --count 400 --seconds 20 "$ADDR" "/pid?$(head -c 2000 /dev/zero | tr '\0' x)" >"$TMP/load"
    has "$(cat "$TMP/load")" 'failed 0'
}
check "nobody waits for it" full
exec 8<"$TMP/out" 7<&-
told() {
    timeout 20 grep -m 1 ' lines dropped: ' <&8
}
check "what was dropped is told when somebody reads again" told
timeout 30 cat <&8 >/dev/null &
READER=$!
exec 8<&-
stop_sidekeeper
kill "$READER" 2>/dev/null || true
