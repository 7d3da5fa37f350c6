#!/usr/bin/env bash
# What is under way, and why: `sidekeeper requests` and `sidekeeper why` for clients and requests.
# seconds: 10
. "$(dirname "$0")/lib.sh"

ask() { "$SIDEKEEPER" "$@" --run-dir "$SK_DIR/run"; }
# field NAME LINE: of the first object that has it.
field() { grep -oE "\"$1\":(\"[^\"]*\"|[^,}]*)" <<<"$2" | head -n 1 | sed 's/^[^:]*://; s/"//g'; }
# code WANTED COMMAND...
code() {
    local wanted=$1 got=0
    shift
    OUT=$("$@" 2>&1) || got=$?
    same "$got" "$wanted" || { printf '%s\n' "$OUT" >&2; return 1; }
}

echo_app 2
app own "{\"path\": \"/own\", \"workers\": 2, \"policy\": \"ip-hash\", \"command\": [\"$ECHO_APP\"]}"
start_sidekeeper --apps "$TMP/apps" --threads 2

check "nothing is under way" same "$(ask requests)" "no request is under way"

# hold NAME RAW-ARGUMENTS...
hold() {
    local name=$1
    shift
    touch "$TMP/$name"
    "$RAW" "$@" >"$TMP/$name.out" 2>&1 &
    eval "${name}_pid=$!"
}
# count WHAT [OPERAND]: requests that the command lists with it.
count() { { ask requests --json ${2:+"$2"} | grep -oF -- "$1" || true; } | wc -l; }
counts() { [ "$(count "$1" "${3:-}")" = "$2" ]; }

step "requests in all phases"
hold silent hold 3 --timeout 60 --while "$TMP/silent" "$ADDR" '+get:/hang?sid=abcdefghi&mark=silent'
hold flow --timeout 60 --quiet "$ADDR" '+last:/own/sse?n=300&ms=100'
hold tunnel ws --hold --while "$TMP/tunnel" --timeout 60 "$ADDR" /ws hello
wait_for "three that wait" 10 counts '"phase":"sent"' 3
wait_for "one that is answered" 10 counts '"phase":"answering"' 1
wait_for "a tunnel" 10 counts '"phase":"upgraded"' 1

table() {
    local got
    got=$(ask requests)
    has "$got" 'AGE' 'PHASE' 'TARGET' '/hang?sid=abcd***&mark=silent' '/own/sse?n=300&ms=100' ' /ws' ' ip ' ' rr '
    same "$(wc -l <<<"$got")" 6
    lacks "$got" abcdefghi
}
check "they are listed, without what is secret in them" table
check "those of one app" counts '"app":"own"' 1 own
check "... and of one worker" eval '[ "$(($(count request_id echo.0) + $(count request_id echo.1)))" = 4 ]'
check "an app that is not there is told with the right one" has "$(ask requests ech 2>&1 || true)" 'did you mean `echo`'
oldest() {
    python3 - "$(ask requests --json)" <<'PY'
import json, sys
told = json.loads(sys.argv[1])
ages = [request["age_ms"] for request in told["requests"]]
assert ages == sorted(ages, reverse=True) and len(ages) == 5, ages
assert told["more"] == 0 and told["silent_threads"] == 0, told
PY
}
command -v python3 >/dev/null && check "the oldest first" oldest

under_way() {
    local id
    id=$(field request_id "$(ask requests --json own)")
    code 0 ask why "$id"
    has "$OUT" 'GET /own/sse' 'went to own.' 'ip-hash' 'under way' answering
}
check "why: a request that is under way" under_way
client() {
    code 0 ask why 127.0.0.1
    has "$OUT" 'own: 127.0.0.1 goes to own.' 'echo: 127.0.0.1 goes to each ready worker in turn' 'requests are under way, at'
    same "$(field worker "$(ask why 127.0.0.1 --json | grep '"app":"own"')")" "$(field worker "$(ask requests --json own)")"
}
check "why: a client" client
ended() {
    local id
    id=$(get '/raw?text=nonsense' | sed -n 's/^request id: //p')
    code 0 ask why "$id"
    has "$OUT" 'GET /raw?text=nonsense' 'went to echo.' 'whose turn it was' '502, worker-broke after'
    same "$(field end "$(ask why "$id" --json)")" worker-broke
}
check "why: one that has ended" ended
unknown() {
    code 1 ask why 00000000000000000000
    has "$OUT" 'neither under way nor among the last' 'access log'
    code 1 ask why nobody
    has "$OUT" 'no worker has given out'
}
check "why: one that nobody remembers" unknown

step "they end"
rm -f "$TMP/silent" "$TMP/tunnel"
kill "$flow_pid"
wait_for "tunnels to be gone" 10 counts '"phase":"upgraded"' 0
wait_for "silent ones to be gone" 10 counts mark=silent 0
wait_for "all to be gone" 10 counts request_id 0
end_step

# Relay threads have this one, and are asked too.
streams() {
    touch "$TMP/stream"
    "$RAW" ws --count 100000 --size 400000 --timeout 60 "$ADDR" '/ws?mark=stream' >/dev/null 2>&1 &
    local pid=$!
    wait_for "a tunnel that streams" 10 counts mark=stream 1
    for _ in 1 2 3 4 5 6 7 8; do same "$(count mark=stream)" 1; done
    kill "$pid"
    wait_for "it to be gone" 10 counts mark=stream 0
}
check "a tunnel that streams is listed, whoever moves it" streams
