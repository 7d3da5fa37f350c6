#!/usr/bin/env bash
# Alarms: raised once, cleared once, told to the log, the status, the metrics, the timeline, and to a
# command that can neither hold up nor outlive anybody; the sample that tells a chat.
# seconds: 60
# limit: 240
. "$(dirname "$0")/lib.sh"
command -v node >/dev/null || skip_rest "Node.js is not installed"

run_dir() { echo "$SK_DIR/run"; }
alarms() { "$SIDEKEEPER" alarms --run-dir "$(run_dir)" "$@"; }
# js EXPRESSION: of the JSON on standard input, as `s`.
js() { node -e 'const s = JSON.parse(require("fs").readFileSync(0, "utf8")); console.log(eval(process.argv[1]))' "$1"; }
raised() { alarms --json | grep -qF "\"alarm\":\"$1\",\"subject\":\"$2\"" <(alarms --json | grep '"raised":true'); }
told() { grep -qF -- "$1" "$TMP/told"; }

app crasher '{"path": "/crasher", "workers": 1, "command": "sh -c \"sleep 0.2; echo no database >&2; exit 7\"", "max_restarts": 3}'
node_app shop '{"path": "/", "workers": 2, "hang_timeout": 3}' <<'JS'
require('http').createServer((req, res) => {
  if (req.url === '/hang') for (;;);
  res.statusCode = req.url === '/bad' ? 500 : 200
  res.end(String(process.pid))
}).listen(3000)
JS
cat >"$TMP/command.sh" <<'SH'
#!/bin/sh
# One line for each call, written at once.
echo "$SIDEKEEPER_ALARM_STATE $SIDEKEEPER_ALARM_KIND $SIDEKEEPER_ALARM_SUBJECT app=$SIDEKEEPER_ALARM_APP worker=$SIDEKEEPER_ALARM_WORKER since=$SIDEKEEPER_ALARM_SINCE seconds=$SIDEKEEPER_ALARM_SECONDS dir=$SIDEKEEPER_RUN_DIR pid=$SIDEKEEPER_PID text=$SIDEKEEPER_ALARM_TEXT" >>"$TOLD"
# What is left running is ended.
sleep 600 &
SH
chmod +x "$TMP/command.sh"
export TOLD=$TMP/told
touch "$TOLD"
start_sidekeeper --apps "$TMP/apps" --dashboard 127.0.0.1:0 --alarm-command "$TMP/command.sh" --alarm-errors 20

step "a worker that dies again and again is an alarm, told to everybody"
wait_for "the alarm" 30 raised crash-loop crasher.0
grep -qE 'WARN .*alarm: crash-loop of crasher.0: .*exit code 7' "$LOG"
has "$(alarms)" "crash-loop of crasher.0, for"
has "$("$SIDEKEEPER" status --run-dir "$(run_dir)")" "ALARM crash-loop of crasher.0"
dashboard=http://$("$SIDEKEEPER" status --json --run-dir "$(run_dir)" | js s.dashboard)
has "$(curl -sS "$dashboard/metrics")" 'sidekeeper_alarms{alarm="crash-loop"} 1' 'sidekeeper_alarms{alarm="hang"} 0'
has "$(curl -sS "$dashboard/status.json" | js 'JSON.stringify(s.alarms)')" '"alarm":"crash-loop"' '"app":"crasher"'
has "$(curl -sS "$dashboard/history.json" | js 'JSON.stringify(s.alarms)')" '"subject":"crasher.0"' '"raised":true'
wait_for "the command" 10 told "raised crash-loop crasher.0 app=crasher worker=crasher.0"
has "$(cat "$TMP/told")" "seconds=0" "dir=$(run_dir)" "pid=$SK_PID" "text=it "

step "so is one that hangs; the command is told once"
shop=$(worker_pids shop | head -1)
status /hang >"$TMP/hang" &
hang=$!
wait_for "the alarm" 30 eval 'raised hang shop.0 || raised hang shop.1'
wait $hang
wait_for "the command" 10 told "raised hang shop."
sleep 3
same "$(grep -c "raised hang shop" "$TMP/told")" 1
same "$(grep -c "raised crash-loop crasher" "$TMP/told")" 1
has "$(alarms)" "its event loop has been silent" "autopsies/"

step "too many errors are an alarm, and it is cleared when they have ended"
for _ in {1..130}; do status /bad; status /; sleep 0.05; done >/dev/null &
traffic=$!
wait_for "the alarm" 40 raised errors shop
wait $traffic
grep -qE 'WARN .*alarm: errors of shop: .* % of its answers are errors' "$LOG"

step "what the command leaves running is ended with it"
wait_for "its children to be gone" 10 eval '! pgrep -f "^sleep 600" -P 1 >/dev/null && [ -z "$(descendants "$SK_PID" | xargs -r ps -o args= -p | grep "^sleep 600")" ]'

step "names and kinds are suggested and refused as everywhere"
fails alarms nobody 2>"$TMP/refusal"
has "$(cat "$TMP/refusal")" "nothing can follow alarms"

step "what is over is told as over, once"
wait_for "the end" 120 told "cleared errors shop"
has "$(alarms)" "errors of shop, over since"
alarms --json | grep '"alarm":"errors"' | js '[s.raised, s.cleared_unix_s > s.since_unix_s, s.for_s > 0]' | grep -qx 'true,true,true' && false
alarms --json | grep '"alarm":"errors"' | js '[s.raised, s.cleared_unix_s > s.since_unix_s, s.for_s > 0].join()' | grep -qx 'false,true,true'
grep -qE 'INFO .*alarm over: errors of shop, after' "$LOG"
stop_sidekeeper
same "$SK_STATUS" 0

step "a command that does not end holds nobody up, and is not left behind"
rm -r "$TMP/apps"
app crasher '{"path": "/crasher", "workers": 1, "command": "false", "max_restarts": 2}'
echo_app 1
start_sidekeeper --apps "$TMP/apps" --alarm-command 'echo told $SIDEKEEPER_ALARM_KIND; sleep 601'
wait_for "the command" 30 log_has "told crash-loop"
same "$(status /pid)" 200
plain=$(worker_pids echo 0)
kill -KILL "$plain"
wait_for "the next life" 10 eval '[ -n "$(worker_pids echo 0)" ]'
wait_for "an answer" 10 eval '[ "$(status /pid)" = 200 ]'
stop_sidekeeper
same "$SK_STATUS" 0

step "one that fails is told of"
start_sidekeeper --apps "$TMP/apps" --alarm-command 'exit 9'
wait_for "the log" 30 log_has "the alarm command failed for crash-loop of crasher.0: exit code 9"
stop_sidekeeper

step "the sample tells a chat, whatever the text holds"
cat >"$TMP/chat.js" <<'JS'
// Takes one webhook after the other; the first one is refused, to see that it is tried again.
const fs = require('fs')
let count = 0
const server = require('http').createServer((req, res) => {
  let body = ''
  req.on('data', data => { body += data }).on('end', () => {
    count++
    if (count === 1) { res.statusCode = 503; return res.end() }
    fs.appendFileSync(process.argv[2], JSON.stringify({ type: req.headers['content-type'], said: JSON.parse(body).text }) + '\n')
    res.end('ok')
  })
}).listen(0, '127.0.0.1', () => fs.writeFileSync(process.argv[3], String(server.address().port)))
JS
node "$TMP/chat.js" "$TMP/said" "$TMP/port" &
chat=$!
wait_for "the chat" 10 test -s "$TMP/port"
export WEBHOOK_URL=http://127.0.0.1:$(cat "$TMP/port")/hook
start_sidekeeper --apps "$TMP/apps" --alarm-command "$ROOT/docs/alarm-webhook.sh"
wait_for "the message" 40 test -s "$TMP/said"
has "$(cat "$TMP/said")" '"type":"application/json"' "ALARM on $(uname -n): crash-loop of crasher.0: it"
SIDEKEEPER_ALARM_STATE=cleared SIDEKEEPER_ALARM_KIND=hang SIDEKEEPER_ALARM_SUBJECT='a"b\c' SIDEKEEPER_ALARM_SECONDS=7 \
    SIDEKEEPER_ALARM_TEXT= "$ROOT/docs/alarm-webhook.sh"
has "$(tail -n 1 "$TMP/said")" 'hang of a\"b\\c, after 7 s'
fails env -u WEBHOOK_URL SIDEKEEPER_ALARM_STATE=raised "$ROOT/docs/alarm-webhook.sh" 2>"$TMP/complaint"
has "$(cat "$TMP/complaint")" "export WEBHOOK_URL="
kill "$chat"
stop_sidekeeper

step "every folder of the samples is an app"
has "$("$SIDEKEEPER" check --apps "$ROOT/apps" 2>&1 || true)" hello
lacks "$("$SIDEKEEPER" check --apps "$ROOT/apps" 2>&1 || true)" "says how it starts"
