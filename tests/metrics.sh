#!/usr/bin/env bash
# The dashboard's listener: the exposition of the metrics is read by a strict parser (and by promtool,
# where it is installed), the figures are those of the traffic, health and readiness say what is so.
# seconds: 8
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip_rest "python3 is not installed"

# Finds the dashboard of the running instance.
find_dashboard() {
    DASH=http://$("$SIDEKEEPER" status --json --run-dir "$SK_DIR/run" | grep -o '"dashboard":"[^"]*"' | cut -d '"' -f 4)
}
dash() { local path=$1; shift; curl -sS --max-time 20 "$@" "$DASH$path"; }
code_of() { local path=$1; shift; curl -sS --max-time 20 -o "$TMP/body" -w '%{http_code}' "$@" "$DASH$path"; }

app echo "{\"path\": \"/\", \"workers\": 2, \"command\": [\"$ECHO_APP\"]}"
app 'we"ird\name' "{\"path\": \"/weird\", \"workers\": 1, \"command\": [\"$ECHO_APP\"]}"
step "an instance with a dashboard"
start_sidekeeper --apps "$TMP/apps" --dashboard 127.0.0.1:0
find_dashboard

for _ in $(seq 20); do get / >/dev/null; done
get '/status?code=404' >/dev/null
get '/status?code=503' >/dev/null
raw_garbage() { printf 'NONSENSE\r\n\r\n' | timeout 10 python3 -c '
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
s = socket.create_connection((host, int(port)), 10)
s.sendall(sys.stdin.buffer.read())
s.recv(1000)' "$ADDR"; }
raw_garbage

parses() {
    has "$(dash /metrics -D - -o "$TMP/metrics")" "HTTP/1.1 200 OK" "text/plain; version=0.0.4"
    python3 "$ROOT/tests/metrics.py" "$TMP/metrics"
}
check "the exposition is read by a strict parser" parses

if command -v promtool >/dev/null; then
    with_promtool() { promtool check metrics <"$TMP/metrics"; }
    check "promtool has nothing to say against it" with_promtool
fi

# sample LINE_START: the value of the one sample that begins so.
sample() { grep -v '^#' "$TMP/metrics" | grep -F -- "$1 " | sed 's/.* //'; }
counted() {
    same "$(sample 'sidekeeper_app_answers_total{app="echo",class="2xx"}')" 20
    same "$(sample 'sidekeeper_app_answers_total{app="echo",class="4xx"}')" 1
    same "$(sample 'sidekeeper_app_answers_total{app="echo",class="5xx"}')" 1
    same "$(sample 'sidekeeper_app_answer_seconds_count{app="echo"}')" 22
    same "$(sample 'sidekeeper_app_answer_seconds_bucket{app="echo",le="+Inf"}')" 22
    same "$(sample 'sidekeeper_requests_total')" 22
    same "$(sample 'sidekeeper_own_answers_total{status="400"}')" 1
    same "$(sample 'sidekeeper_app_workers_ready{app="echo"}')" 2
    same "$(sample 'sidekeeper_app_workers{app="we\"ird\\name"}')" 1
    local one two
    one=$(sample 'sidekeeper_worker_answers_total{app="echo",worker="echo.0"}')
    two=$(sample 'sidekeeper_worker_answers_total{app="echo",worker="echo.1"}')
    same "$((one + two))" 22
}
check "the counters are those of the traffic" counted

documented() {
    diff <(sed -n 's/^# TYPE \([^ ]*\) .*/\1/p' "$TMP/metrics" | sort) \
        <(sed -n '/<!-- metrics -->/,/<!-- end of metrics -->/s/^| `\([^`]*\)`.*/\1/p' "$ROOT/README.md" | sort)
}
check "README lists every metric" documented
samples_are_real() {
    local name
    for name in $(grep -ohE '\b(sidekeeper|process)_[a-z0-9_]+' "$ROOT/docs/prometheus-alerts.yml" "$ROOT/docs/grafana.json" | sort -u); do
        case $name in *_bucket | *_sum | *_count) name=${name%_*} ;; esac
        grep -q "^| \`$name\`" "$ROOT/README.md" || { note "no such metric: $name"; return 1; }
    done
    python3 -m json.tool "$ROOT/docs/grafana.json" >/dev/null
}
check "the sample alerts and the sample dashboard speak of metrics that there are" samples_are_real
if command -v promtool >/dev/null; then
    check "promtool reads the sample alerts" promtool check rules "$ROOT/docs/prometheus-alerts.yml"
fi

health() {
    same "$(code_of /healthz)" 200
    same "$(code_of /readyz)" 200
    same "$(code_of /nothing)" 404
    same "$(code_of /healthz -X POST)" 405
    same "$(code_of /metrics -I)" 200
    same "$(code_of /metrics -H 'Host: evil.example')" 403
    same "$(code_of /metrics -H 'Host: localhost')" 200
}
check "health, readiness, and what is refused" health

unready() {
    kill -STOP $(worker_pids echo)
    kill -KILL $(worker_pids echo)
    # The next life comes at once, so what is looked for is a short moment, or the restarts after it.
    again() {
        dash /metrics >"$TMP/metrics"
        [ "$(sample 'sidekeeper_worker_restarts_total{app="echo",worker="echo.0"}')" = 1 ]
    }
    wait_for "the restart to be counted" 10 again
    wait_for "readiness again" 10 eval '[ "$(code_of /readyz)" = 200 ]'
}
check "restarts are counted, and it is ready again" unready

silent_client() {
    # One that says nothing must not keep others from being answered.
    exec 7<>"/dev/tcp/${DASH#http://127.0.0.1:}" 2>/dev/null || exec 7<>"/dev/tcp/127.0.0.1/${DASH##*:}"
    same "$(code_of /healthz)" 200
    exec 7>&-
}
check "a silent client holds up nobody" silent_client

stopping() {
    # A request in flight holds the stop back, and the load balancer is told meanwhile.
    curl -sS --max-time 20 "$URL/slow?first=3000&ms=3000" >/dev/null &
    local slow=$!
    sleep 0.3
    kill -TERM "$SK_PID"
    wait_for "unreadiness" 10 eval '[ "$(code_of /readyz)" = 503 ]'
    has "$(cat "$TMP/body")" stopping
    wait "$slow" || true
}
check "readiness ends when the stop begins" stopping

wait "$SK_PID" || true
SK_PID=

rm -rf "$TMP/apps"
app idle '{"path": "/", "workers": 1, "command": ["sleep", "60"]}'
never_ready() {
    asked() { find_dashboard 2>/dev/null && [ "$(code_of /healthz)" = 200 ]; }
    wait_for "the dashboard" 10 asked
    same "$(code_of /readyz)" 503
    has "$(cat "$TMP/body")" "no ready worker: idle"
    "$SIDEKEEPER" stop --run-dir "$SK_DIR/run"
}
step "an app that does not come up"
launch_sidekeeper --apps "$TMP/apps" --dashboard 127.0.0.1:0
check "it is alive, and not ready" never_ready
wait "$SK_PID" || true
SK_PID=

step "a port that is taken is told at once"
python3 - "$TMP/port" <<'PY' &
import socket, sys, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
open(sys.argv[1], "w").write(str(s.getsockname()[1])); time.sleep(20)
PY
HOLDER=$!
wait_for "a taken port" 10 test -s "$TMP/port"
OUT=$("$SIDEKEEPER" run --apps "$TMP/apps" --listen 127.0.0.1:0 --run-dir "$TMP/r2" --dashboard "127.0.0.1:$(cat "$TMP/port")" 2>&1) && exit 1
has "$OUT" "choose another one with --dashboard"
kill "$HOLDER"
