#!/usr/bin/env bash
# The commands for a running instance: what they show, what they do, how they end, and that nobody
# but its user reaches the control socket.
# seconds: 12
. "$(dirname "$0")/lib.sh"

ask() { "$SIDEKEEPER" "$@" --run-dir "$SK_DIR/run"; }
# code WANTED COMMAND...: the exit code, the output being in $OUT.
code() {
    local wanted=$1 got=0
    shift
    OUT=$("$@" 2>&1) || got=$?
    same "$got" "$wanted" || { printf '%s\n' "$OUT" >&2; return 1; }
}
# value FIELD JSON: a number or string, of the first line that has it.
value() { grep -o "\"$1\":[^,}]*" <<<"$2" | head -n 1 | sed 's/^[^:]*://; s/"//g'; }
# Figures that change from run to run, made the same.
steady() {
    sed -E "s#$SK_DIR#DIR#g; s/127\.0\.0\.1:[0-9]+/ADDR/g; s/pid [0-9]+/pid N/g; s/up [0-9]+ (s|min)/up N s/" |
        awk '/^WORKER/ { table = 1 } table && !/^WORKER/ { $2 = "PID"; $4 = "T"; $6 = "CPU"; $7 = "MEM"; $8 = "MEM"; $1 = $1 } { print }' |
        sed -E 's/ +/ /g'
}

step "no instance: every command says so, how to start one, and ends with 3"
SK_DIR=$TMP/none
for command in status top sessions logs stop restart "why abc"; do
    code 3 ask $command
    has "$OUT" "no instance runs in $TMP/none/run" "sidekeeper run"
done
code 0 ask version
has "$OUT" "sidekeeper "

app echo "{\"path\": \"/\", \"workers\": 2, \"session_cookies\": [\"session\"], \"command\": [\"$ECHO_APP\"]}"
app spare "{\"workers\": 1, \"path\": \"/spare\", \"command\": [\"$ECHO_APP\"]}"
step "an instance"
start_sidekeeper

mode_of() { stat -c %a "$1"; }
check "the control socket is its user's alone" same "$(mode_of "$SK_DIR/run/control") $(mode_of "$SK_DIR/run")" "600 700"

wanted='sidekeeper 0.1.0 (pid N), up N s, on ADDR
3 of 3 workers ready, 0 requests/s, 0 connections, 0 refused

APP READY REQ/S P50 P99 5XX/S
echo 2/2 0 - - 0
spare 1/1 0 - - 0

WORKER PID STATE SINCE RESTARTS CPU MEMORY LOOP LAG IN FLIGHT SESSIONS SOCKETS REQ/S P99 LAST DEATH
echo.0 PID ready T 0 CPU MEM MEM - 0 0 0 0 -
echo.1 PID ready T 0 CPU MEM MEM - 0 0 0 0 -
spare.0 PID ready T 0 CPU MEM MEM - 0 0 0 0 -'
check "status is a table of all workers" same "$(ask status | steady)" "$wanted"

# A terminal of 100 columns and 20 lines: what it gets until a key that interrupts is pressed.
top_on_a_terminal() {
    python3 - "$SIDEKEEPER" "$SK_DIR/run" <<'PY'
import fcntl, os, pty, signal, struct, sys, termios, time
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.environ.pop("NO_COLOR", None)
    os.execv(sys.argv[1], [sys.argv[1], "top", "--run-dir", sys.argv[2]])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 100, 0, 0))
text, pictures, deadline = b"", 0, time.time() + 20
while text.count(b"Ctrl-C ends this") < 3 and time.time() < deadline:
    text += os.read(fd, 65536)
os.write(fd, b"\x03")
try:
    while time.time() < deadline:
        more = os.read(fd, 65536)
        if not more: break
        text += more
except OSError:
    pass
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert status == 0, status
assert text.startswith(b"\x1b[?1049h") and text.rstrip(b"^C\r\n").endswith(b"\x1b[?1049l"), text[-80:]
for word in (b"WORKER", b"echo.1", b"spare.0", b"REQ/S"):
    assert word in text, word
for line in text.split(b"\r\n"):
    plain = __import__("re").sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", line).decode()
    assert len(plain) <= 100, plain
PY
}
check "top fills a terminal, keeps to its width, and gives it back" top_on_a_terminal
check "top elsewhere is one picture" same "$(ask top | grep -c '^WORKER')" 1

status_knows() {
    get / >/dev/null
    get / >/dev/null
    local json
    json=$(ask status --json)
    same "$(wc -l <<<"$json")" 1
    has "$json" '"worker":"echo.1"' '"state":"ready"' '"loop_lag_ms":null' '"last_death":null' '"apps":[{"app":"echo"'
    same "$(value requests "$json")" 2
    same "$(value pid "$json")" "$SK_PID"
}
check "status --json has stable names, on one line" status_knows

no_colours() { lacks "$(ask status)" $'\e'; }
check "no colours where there is no terminal" no_colours

on_terminal() {
    script -qec "stty cols 60; '$SIDEKEEPER' status --run-dir '$SK_DIR/run'" /dev/null </dev/null | tr -d '\r'
}
fits_terminal() {
    local plain
    has "$(on_terminal)" $'\e[32mready'
    plain=$(NO_COLOR=1 on_terminal)
    lacks "$plain" $'\e[3'
    has "$plain" "echo.0" "ready"
    lacks "$plain" "LAST DEATH"
    # In the C locale awk counts bytes, and an ellipsis is three of them.
    same "$(sed 's/…/./g' <<<"$plain" | awk 'length > 60')" ""
}
if command -v script >/dev/null; then
    check "a terminal gets colours, if it wants them, and lines that fit" fits_terminal
else
    skip "a terminal gets colours" "script is not installed"
fi

speed() {
    # Rates are those of the last second: each look needs requests of its own.
    known() {
        local json
        for _ in 1 2 3; do get / >/dev/null; done
        same "$(status "/status?code=503")" 503
        json=$(ask status --json)
        lacks "$json" '"app":"echo","workers":2,"ready":2,"requests_per_s":0.0'
        lacks "$(value p99_ms "$json")" null
        lacks "$(value errors_per_s "$json")" "0.0"
    }
    wait_for "the counters to tell of it" 20 known
}
check "how fast an app answers, and how often with 5xx" speed

watched() {
    ask status --watch >"$TMP/watch" &
    local pid=$!
    wait_for "two pictures" 10 eval "[ \"\$(grep -c ^sidekeeper '$TMP/watch')\" -ge 2 ]"
    kill "$pid"
}
check "status --watch shows it again and again" watched

sample_comes() { [ "$(value cpu_percent "$(ask status --json)")" != null ]; }
memory_known() {
    wait_for "a sample" 10 sample_comes
    [ "$(value memory_bytes "$(ask status --json)")" -gt 100000 ]
}
check "CPU and memory of each worker are known" memory_known

# ---- sessions ------------------------------------------------------------------------------------

counts() {
    has "$(ask sessions)" "WORKER" "SIDS" "COOKIES" "spare.0"
    has "$(ask sessions --json)" '"worker":"echo.0","sids":0,"cookies":0'
}
check "sessions are counted by worker" counts
check "why: an unknown session" code 1 ask why nobody-has-this

why_cookie() {
    local session pid
    session=$(get "/login?name=session")
    pid=${session#s-}
    pid=${pid%-*}
    has "$(ask why "$session")" "pid $pid" "set a session cookie to this value" "echo."
    has "$(ask why "$session" --json)" '"kind":"cookie"' '"alive":true' "\"pid\":$pid"
    # Another life: the session is remembered, and known to be lost.
    kill -KILL "$pid"
    ended() { has "$(ask why "$session")" "that life has ended"; }
    wait_for "the death to be known" 10 ended
}
check "why: a cookie's value, while its worker lives and after" why_cookie

# ---- logs ----------------------------------------------------------------------------------------

logs_of() {
    has "$(ask logs)" "echo.0 | echo: process" "spare.0 | echo: process"
    local spare
    spare=$(ask logs spare --json)
    has "$spare" '"worker":"spare.0","stream":"stdout"'
    lacks "$spare" '"echo.0"'
    has "$(ask logs echo.1)" "echo.1 | "
    lacks "$(ask logs echo.1)" "echo.0 | "
}
check "logs: all, of an app, of a worker" logs_of

followed() {
    ask logs echo -f >"$TMP/follow" &
    local pid=$!
    wait_for "the lines so far" 10 grep -q 'echo.1 |' "$TMP/follow"
    local before after
    before=$(wc -l <"$TMP/follow")
    ask restart echo.1
    more() { [ "$(wc -l <"$TMP/follow")" -gt "$before" ]; }
    wait_for "a new line" 10 more
    alive "$pid"
    kill "$pid"
}
check "logs -f goes on with new lines" followed

# ---- restart -------------------------------------------------------------------------------------

restarted() {
    local before after
    before=$(worker_pids echo)
    has "$(ask restart echo)" "echo.0 is ready after" "echo.1 is ready after"
    after=$(worker_pids echo)
    same "$(wc -w <<<"$after")" 2
    same "$(sort <(echo "$before") <(echo "$after") | uniq -d)" ""
    has "$(ask status)" "SIGTERM: restarted on request"
    same "$(status /)" 200
}
check "restart gives an app new processes and waits for them" restarted

lossless() {
    local answers=$TMP/answers
    : >"$answers"
    for _ in $(seq 40); do status / >>"$answers"; echo >>"$answers"; done &
    local pid=$!
    ask restart echo >/dev/null
    wait "$pid"
    same "$(sort -u "$answers")" 200
}
check "requests during a restart wait for the new process" lossless

misnamed() {
    code 2 ask restart ehco
    has "$OUT" "no app or worker is called \`ehco\`" "did you mean \`echo\`?"
    code 2 ask logs echo.7
    has "$OUT" "did you mean"
    code 2 "$SIDEKEEPER" stauts
    has "$OUT" "did you mean \`status\`?"
    code 2 ask status --wacth
    has "$OUT" "did you mean --watch?"
    code 2 ask why
    has "$OUT" "why needs SID"
}
check "wrong names are told with the right ones" misnamed

helped() {
    local name
    for name in status logs sessions why restart stop version; do
        has "$("$SIDEKEEPER" --help)" "  $name"
        has "$("$SIDEKEEPER" "$name" --help)" "Usage: sidekeeper $name" "--run-dir DIR" "--json" "  3   no instance"
    done
}
check "every command has its help" helped

# ---- the socket itself ---------------------------------------------------------------------------

# said LINE: what the control socket answers to it.
said() {
    python3 - "$SK_DIR/run/control" "$1" <<'PY'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode())
got = b""
try:
    while True:
        chunk = s.recv(65536)
        if not chunk:
            break
        got += chunk
except ConnectionResetError:
    pass
print(got.decode(), end="")
PY
}
strict_socket() {
    has "$(said $'{"command":"fly"}\n')" '"error"' 'no command `fly`' '{"end":2}'
    has "$(said $'nonsense\n')" 'not a request' '{"end":2}'
    has "$(said $'{"command":"version","operands":["x"]}\n')" 'means nothing'
    # Without an end of line: the deadline ends it, and others are served again.
    same "$(said '{"command":"status"')" ""
    same "$(said "$(head -c 200000 /dev/zero | tr '\0' x)")" ""
    code 0 ask version
}
if command -v python3 >/dev/null; then
    check "the socket answers nonsense politely, and silence not at all" strict_socket
else
    skip "the socket answers nonsense politely" "python3 is not installed"
fi

foreign() {
    chmod 755 "$TMP" "$SK_DIR" "$SK_DIR/run"
    chmod 666 "$SK_DIR/run/control"
    code 1 setpriv --reuid 65534 --clear-groups "$SIDEKEEPER" status --run-dir "$SK_DIR/run"
    chmod 600 "$SK_DIR/run/control"
    chmod 700 "$SK_DIR/run"
    has "$OUT" "belongs to another user"
}
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null && setpriv --reuid 65534 --clear-groups test -x "$SIDEKEEPER"; then
    check "another user is refused even where the file's mode lets him in" foreign
else
    skip "another user is refused" "needs root and a binary that everyone may run"
fi

# ---- stop ----------------------------------------------------------------------------------------

stopped() {
    has "$(ask stop)" "stopping sidekeeper" "stopped"
    dead "$SK_PID"
    [ ! -e "$SK_DIR/run/control" ]
    code 3 ask status
}
check "stop ends when the instance has ended" stopped
wait "$SK_PID" || true
SK_PID=

# ---- Node ----------------------------------------------------------------------------------------

command -v node >/dev/null || skip_rest "Node is not installed"
rm -rf "$TMP/apps"
node_app io '{"path": "/", "workers": 1}' <<'JS'
const body = '0{"sid":"Yk3sT-0aAB","upgrades":[],"pingInterval":25000,"pingTimeout":20000}'
require('http').createServer((request, response) => {
  if (request.url === '/slow') return
  response.end(body)
}).listen(3000)
JS
step "an instance with a Node worker"
start_sidekeeper

why_sid() {
    get '/socket.io/?EIO=4&transport=polling' >/dev/null
    has "$(ask why Yk3sT-0aAB)" "io.0 (life 1, pid " "gave this sid to a client in an engine.io handshake" \
        "requests with it in their query go to io.0 alone"
    has "$(ask sessions --json)" '"worker":"io.0","sids":1,"cookies":0'
    has "$(ask status --json)" '"sessions":1'
}
check "why: an engine.io session" why_sid

lag_known() { [ "$(value loop_lag_ms "$(ask status --json)")" != null ]; }
check "the loop's lag is known" wait_for "the hook's figures" 10 lag_known

in_flight() {
    curl -s --max-time 30 "$URL/slow" >/dev/null &
    local pid=$!
    one() { same "$(value in_flight "$(ask status --json)")" 1; }
    wait_for "the request" 10 one
    kill "$pid"
}
check "requests in flight are counted" in_flight
