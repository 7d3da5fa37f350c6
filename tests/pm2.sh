#!/usr/bin/env bash
# pm2's files as they stand: the article's pm2.json, the documented keys one by one, times at which
# workers are renewed, files whose change reloads an app; and the slips that are told.
# seconds: 80
. "$(dirname "$0")/lib.sh"

command -v node >/dev/null || skip_rest "Node.js is not installed"
FACTS=$ROOT/tests/fixtures/facts.js

# fact PATH EXPRESSION: what a worker says of itself; `f` is its answer.
fact() { get "$1" | node -p "const f = JSON.parse(fs.readFileSync(0)); const v = ($2); typeof v === 'object' ? JSON.stringify(v) : v"; }
refused() {
    local said code=0
    said=$("$SIDEKEEPER" check "$@" 2>&1) || code=$?
    echo "$said"
    same "$code" 2
}
pid_at() { fact "$1" f.pid; }
replaced() { [ "$(pid_at "$1")" != "$2" ]; }

# ---- the article's file ---------------------------------------------------------------------------

mkdir -p "$TMP/article"
cp "$FACTS" "$TMP/article/app.js"
cat >"$TMP/article/pm2.json" <<'JSON'
{
  "apps": [
    {
      "name": "ws",
      "script": "./app.js",
      "env": {
        "NODE_ENV": "development"
      },
      "env_production": {
        "NODE_ENV": "production"
      },
      "instances": 4,
      "exec_mode": "cluster",
      "max_restarts" : 3,
      "restart_delay" : 5000,
      "log_date_format" : "YYYY-MM-DD HH:mm Z",
      "combine_logs" : true
    }
  ]
}
JSON
step "the article's pm2.json runs as it stands"
start_sidekeeper --config "$TMP/article/pm2.json"
same "$(fact / f.env.NODE_ENV)" development
wait_for "four workers" 20 eval '[ "$(grep -c "is ready after" "$LOG")" = 4 ]'
same "$(for _ in 1 2 3 4; do fact / f.env.NODE_APP_INSTANCE; done | sort | tr '\n' ' ')" "0 1 2 3 "

step "restart_delay comes before every restart"
kill -KILL "$(worker_pids ws 0)"
wait_for "the delay" 5 grep -q "SIGKILL; starting it again in 5 s" "$LOG"
stop_sidekeeper

step "and in production with --env production"
start_sidekeeper --config "$TMP/article/pm2.json" --env production
same "$(fact / f.env.NODE_ENV)" production
stop_sidekeeper

# ---- the keys, one by one -------------------------------------------------------------------------

app_json() { echo "{\"name\": \"$1\", \"path\": \"/$1\", \"script\": \"$FACTS\", \"instances\": 1, $2}"; }
configure() {
    local IFS=,
    echo "{\"apps\": [$*]}" >"$TMP/keys.json"
}
mkdir -p "$TMP/files/sub" "$TMP/files/node_modules/x" "$TMP/files/logs" "$TMP/package"
cp "$FACTS" "$TMP/files/app.js"
cp "$FACTS" "$TMP/package/app.js"
echo '{"name": "p", "version": "1.0.0", "scripts": {"serve": "node app.js from-the-script"}}' >"$TMP/package/package.json"

configure \
    "$(app_json line '"args": "--a \"b c\"", "node_args": "--no-warnings --stack-trace-limit=7"')" \
    "$(app_json list '"args": ["--a", "b c", 3], "interpreter_args": ["--no-warnings"], "instance_var": "MY_NUMBER", "increment_var": "MY_PORT", "env": {"MY_PORT": 4000}, "source_map_support": true')" \
    "$(app_json bare '"filter_env": ["SECRET"]')" \
    "$(app_json empty "\"filter_env\": true, \"interpreter\": \"$(command -v node)\"")" \
    "$(app_json slow '"wait_ready": true, "listen_timeout": 20000, "env": {"SAYS_READY_AFTER": 1500}')" \
    "$(app_json never '"wait_ready": true, "listen_timeout": 1000')" \
    "$(app_json once '"autorestart": false, "env": {"EXITS": 7, "EXITS_AFTER": 300}')" \
    "$(app_json finished '"stop_exit_codes": [0, 4], "env": {"EXITS": 4, "EXITS_AFTER": 300}')" \
    "$(app_json frail '"min_uptime": "1h", "max_restarts": 3, "exp_backoff_restart_delay": 150, "env": {"EXITS": 1, "EXITS_AFTER": 50}')" \
    "$(app_json timed '"cron_restart": "* * * * *"')" \
    "$(app_json confined '"limits": {"nofile": 321, "core": 0, "as": "unlimited"}, "umask": "027", "nice": 3')" \
    "{\"name\": \"run\", \"path\": \"/run\", \"command\": \"node --run serve -- and-here\", \"cwd\": \"$TMP/package\", \"workers\": 1}" \
    "{\"name\": \"watched\", \"path\": \"/watched\", \"script\": \"app.js\", \"cwd\": \"$TMP/files\", \"instances\": 1, \"watch\": true, \"ignore_watch\": [\"logs\", \"*.tmp\"], \"watch_delay\": 200, \"min_uptime\": 300}"

step "all of them are understood without a warning"
said=$("$SIDEKEEPER" check --config "$TMP/keys.json")
lacks "$said" "is not honoured"

SECRET_KEY=hidden launch_sidekeeper --config "$TMP/keys.json"
wait_for_ready 60

step "args and node_args, as a line and as a list"
same "$(fact /line f.argv)" '["--a","b c"]'
same "$(fact /line f.execArgv)" '["--no-warnings","--stack-trace-limit=7"]'
same "$(fact /list f.argv)" '["--a","b c","3"]'
same "$(fact /list f.execArgv)" '["--no-warnings"]'

step "instance_var, increment_var and source_map_support"
same "$(fact /list f.env.MY_NUMBER)" 0
same "$(fact /list f.env.MY_PORT)" 4000
same "$(fact /list 'f.env.NODE_APP_INSTANCE')" undefined
has "$(fact /list f.env.NODE_OPTIONS)" --enable-source-maps
lacks "$(fact /line f.env.NODE_OPTIONS)" --enable-source-maps

step "filter_env keeps variables from the workers"
same "$(fact /line f.env.SECRET_KEY)" hidden
same "$(fact /bare f.env.SECRET_KEY)" undefined
same "$(fact /bare f.env.PATH)" "$PATH"
same "$(fact /empty f.env.PATH)" undefined
same "$(fact /empty f.env.APPNAME)" empty

step "limits, umask and nice are those of the worker, not ours"
same "$(fact /confined 'f.limits["Max open files"]')" 321
same "$(fact /confined 'f.limits["Max core file size"]')" 0
same "$(fact /confined f.umask)" 27
same "$(fact /confined f.nice)" 3
same "$(fact /line f.nice)" "$(nice)"

step "node --run NAME is seen through"
same "$(fact /run f.argv)" '["from-the-script","and-here"]'

step "wait_ready waits for the app's word, and listen_timeout for no longer"
took=$(sed -n 's/.*slow\.0 .* is ready after \([0-9.]*\) s.*/\1/p' "$LOG")
node -e "process.exit($took >= 1.5 ? 0 : 1)"
log_has "not ready within 1 s: it listens, but never called process.send('ready')"

step "autorestart: false, and stop_exit_codes: who has ended stays stopped"
wait_for "both" 10 eval 'grep -q "once.0 .*exit code 7; it stays stopped" "$LOG" && grep -q "finished.0 .*exit code 4; it stays stopped" "$LOG"'
same "$(worker_pids once)$(worker_pids finished)" ""

step "max_restarts is a pace, and the delays grow from exp_backoff_restart_delay"
wait_for "the slow pace" 20 grep -q "frail.0 .*3 failed in a row: errored, tried again every 30 s" "$LOG"
has "$(grep 'frail.0 .*starting it again' "$LOG")" "starting it again at once" "again in 0.2 s (2 failed in a row)"

# ---- watch ----------------------------------------------------------------------------------------

step "a changed file reloads the app that watches it, and no other"
before=$(pid_at /watched) other=$(pid_at /line)
mark=$(log_mark)
echo '// changed' >>"$TMP/files/app.js"
wait_for "the reload" 20 replaced /watched "$before"
log_since "$mark" | grep -q "watched: app.js has changed"
wait_for "its end" 20 eval 'log_since "$mark" | grep -q "reload: done"'
same "$(pid_at /line)" "$other"

step "so does one in a folder that came later"
before=$(pid_at /watched)
mark=$(log_mark)
mkdir -p "$TMP/files/new/deep"
wait_for "the folder to be seen" 20 eval 'log_since "$mark" | grep -q "reload: done"'
before=$(pid_at /watched)
mark=$(log_mark)
echo 1 >"$TMP/files/new/deep/a.js"
wait_for "the reload" 20 replaced /watched "$before"
wait_for "its end" 20 eval 'log_since "$mark" | grep -q "reload: done"'

step "what is ignored does not: packages, dotfiles, ignore_watch"
mark=$(log_mark)
echo 1 >"$TMP/files/node_modules/x/a.js"
echo 1 >"$TMP/files/.hidden"
echo 1 >"$TMP/files/logs/today.txt"
echo 1 >"$TMP/files/sub/a.tmp"
echo 1 >"$TMP/files/sub/told.js"
wait_for "the one that counts" 20 eval 'log_since "$mark" | grep -q "watched: sub/told.js has changed"'
wait_for "its end" 20 eval 'log_since "$mark" | grep -q "reload: done"'
same "$(log_since "$mark" | grep -c " has changed")" 1

step "a version that is broken leaves the old one serving"
before=$(pid_at /watched)
mark=$(log_mark)
cp "$TMP/files/app.js" "$TMP/good.js"
echo 'this is no JavaScript' >"$TMP/files/app.js"
wait_for "the refusal" 20 eval 'log_since "$mark" | grep -q "watched: refused, the version before serves on"'
same "$(pid_at /watched)" "$before"
mark=$(log_mark)
cp "$TMP/good.js" "$TMP/files/app.js"
wait_for "the mended one" 20 replaced /watched "$before"
wait_for "its end" 20 eval 'log_since "$mark" | grep -q "reload: done"'

step "the next reload follows a changed configuration: nothing is watched any more"
sed -i 's/"watch": true/"watch": false/' "$TMP/keys.json"
"$SIDEKEEPER" reload watched --run-dir "$SK_DIR/run" >/dev/null
mark=$(log_mark)
echo '// unseen' >>"$TMP/files/app.js"
sleep 1
fails eval 'log_since "$mark" | grep -q "watched: .* has changed"'

# ---- cron -----------------------------------------------------------------------------------------

step "cron_restart: a ready successor takes over when the minute comes, and nobody is dropped"
before=$(pid_at /timed)
( while [ ! -e "$TMP/enough" ]; do status /timed; echo; sleep 0.02; done ) >"$TMP/statuses" &
wait_for "the minute" 70 replaced /timed "$before"
log_has "timed: its workers are renewed, as cron_restart says"
touch "$TMP/enough"
wait $!
same "$(sort -u "$TMP/statuses")" 200
stop_sidekeeper

# ---- slips ----------------------------------------------------------------------------------------

step "a key that stands twice is named with its line"
printf '{"apps": [{"script": "a.js",\n "instances": 2,\n "instances": 4}]}' >"$TMP/twice.json"
has "$(refused --config "$TMP/twice.json")" "twice.json:3:2: \`instances\` stands twice"

step "a misspelt placeholder is told with the right one"
has "$(refused -- sleep 1 --bind '{sokcet}')" 'its command has `{sokcet}`; did you mean `{socket}`?'
has "$(refused -- sleep 1 '{SOCKET}')" 'did you mean `{socket}`?'
"$SIDEKEEPER" check -- sleep '{"a": 1}' '{x}' >/dev/null

step "a time that is none is told with its place"
echo '[{"script": "a.js", "cron_restart": "0 25 * * *"}]' >"$TMP/cron.json"
has "$(refused --config "$TMP/cron.json")" "cron.json:1:" "its hour is \`25\`"
