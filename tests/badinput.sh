#!/usr/bin/env bash
# Bad input and faults: each is one line that says what to do, with exit code 2 for usage and
# configuration and 1 for a failure to start.
# seconds: 10
. "$(dirname "$0")/lib.sh"
cd "$TMP"

# says CODE PARTS... -- ARGS...: the exit code, one line on stderr with all parts in it.
says() {
    local code=$1 parts=() got=0 text
    shift
    while [ "$1" != -- ]; do parts+=("$1"); shift; done
    shift
    timeout 10 "$SIDEKEEPER" "$@" >out 2>err </dev/null || got=$?
    text=$(cat err)
    echo "$text"
    same "$got" "$code"
    same "$(wc -l <err)" 1
    has "$text" "${parts[@]}"
    lacks "$text" panicked
}
config() { cat >"$1.json"; }

# ---- usage ---------------------------------------------------------------------------------------

check "an unknown option: the right one is suggested" says 2 --lissten --listen -- run --lissten 127.0.0.1:0
check "an unknown command" says 2 strat -- strat
check "a value is missing" says 2 --listen -- run --listen
check "an address that is none" says 2 --listen nowhere -- run --listen nowhere
check "a port that is none" says 2 --listen -- run --listen 127.0.0.1:70000
check "a number that is none" says 2 --workers -- run --workers many
check "a duration that is none" says 2 --head-timeout -- run --head-timeout soon
check "a level that is none" says 2 --log-level -- run --log-level loud
check "a path without unix:" says 2 "did you mean unix:/run/x.sock?" -- run --listen /run/x.sock
check "a word after a path that is none" says 2 "did you mean \`mode\`?" -- run --listen unix:/run/x.sock,mod=0660
check "no command after --" says 2 -- run --
# The runner's own shell eats nothing: an option given twice is a contradiction.
check "an option given twice" says 2 --threads -- run --threads 1 --threads 2

# ---- apps ----------------------------------------------------------------------------------------

check "the folder of apps is missing" says 2 nowhere --apps -- run --apps nowhere
mkdir empty
check "the folder of apps is empty" says 2 empty -- run --apps empty
mkdir -p silent/app && touch silent/app/notes.txt
check "no folder in it says how it starts" says 1 silent/app sidekeeper.json -- run --apps silent

mkdir -p unbuilt/app && echo '{"name": "app", "main": "dist/server.js"}' >unbuilt/app/package.json
check "a main that is not there" says 1 unbuilt/app/package.json dist/server.js -- run --apps unbuilt
mkdir -p jobs/app && echo 'worker: node jobs.js' >jobs/app/Procfile
check "a Procfile without web" says 1 jobs/app/Procfile 'web: COMMAND' -- run --apps jobs
mkdir -p broken/app && printf '{\n  "path": "/",\n  "workers": 2,,\n}\n' >broken/app/sidekeeper.json
check "a sidekeeper.json that is no JSON: line and column" says 2 sidekeeper.json 3:16 -- run --apps broken
mkdir -p typo/app && printf '{\n  "path": "/",\n  "wrokers": 2\n}\n' >typo/app/sidekeeper.json && touch typo/app/app.js
check "a key that is misspelt: the right one is suggested" says 2 sidekeeper.json wrokers workers -- run --apps typo

# ---- configuration file --------------------------------------------------------------------------

check "the configuration is missing" says 2 nothing.json -- run --config nothing.json
printf '{"apps": [{"script": "a.js"' >cut.json
check "the configuration ends early" says 2 cut.json 1: -- run --config cut.json
config type <<<'{"apps": [{"script": "a.js", "instances": {}}]}'
check "a value of the wrong type" says 2 instances -- run --config type.json
config none <<<'{"apps": []}'
check "no apps in it" says 2 none.json -- run --config none.json
config top <<<'{"apps": [{"command": ["true"]}], "threds": 2}'
check "a misspelt key at the top" says 2 threds threads -- run --config top.json
config gone <<<'{"apps": [{"name": "gone", "script": "gone.js"}]}'
check "the script is missing" says 2 gone.js -- run --config gone.json
config interpreter <<<'{"apps": [{"name": "x", "script": "x.py", "interpreter": "python-nowhere"}]}'
touch x.py
check "the interpreter is missing" says 2 python-nowhere -- run --config interpreter.json
config twins <<<'{"apps": [{"name": "a", "command": ["true"], "path": "/x"}, {"name": "b", "command": ["true"], "path": "/x"}]}'
check "two apps want the same path" says 2 '`a`' '`b`' /x -- run --config twins.json
config names <<<'{"apps": [{"name": "a", "command": ["true"], "path": "/x"}, {"name": "a", "command": ["true"], "path": "/y"}]}'
check "two apps have the same name" says 2 '`a`' -- run --config names.json
config cwd <<<'{"apps": [{"name": "a", "command": ["true"], "cwd": "elsewhere"}]}'
check "the working directory is missing" says 2 elsewhere -- run --config cwd.json
config both <<<'{"apps": [{"name": "a", "command": ["true"], "script": "a.js"}]}'
check "two ways to start" says 2 command script -- run --config both.json
check "a folder and a file of apps at once" says 2 -- run --config both.json --apps empty
check "a program that is not there" says 2 nothing-of-the-kind -- run --listen 127.0.0.1:0 -- nothing-of-the-kind

head -c 3000 /dev/urandom >noise.json
check "noise instead of a configuration" says 2 noise.json -- run --config noise.json

# ---- failures to start ---------------------------------------------------------------------------

GOOD=(--run-dir "$TMP/run" -- "$ECHO_APP")
"$ECHO_APP" --listen 127.0.0.1:0 >taken 2>&1 &
wait_for "a taken port" 5 grep -q listens taken
taken=$(grep -oE '127[^ ]*' taken)
check "a group that is not there" says 2 "no group" no-such-group -- run --listen unix:/run/x.sock,group=no-such-group "${GOOD[@]}"
check "a socket in a folder that is not there" says 1 "$TMP/nowhere/s" "make its folder first" -- run --listen "unix:$TMP/nowhere/s" "${GOOD[@]}"
check "the port is in use" says 1 "$taken" -- run --listen "$taken" "${GOOD[@]}"
kill $!
check "the address is not ours" says 1 192.0.2.1:80 -- run --listen 192.0.2.1:80 "${GOOD[@]}"

long=$TMP/$(printf 'a%.0s' {1..120})
check "a run directory whose socket paths would be too long" says 1 "${long:0:20}" -- run --listen 127.0.0.1:0 --run-dir "$long" -- "$ECHO_APP"
touch file
check "the run directory is a file" says 1 "$TMP/file" -- run --listen 127.0.0.1:0 --run-dir "$TMP/file" -- "$ECHO_APP"
check "the address file cannot be written" says 1 nowhere/address -- run --listen 127.0.0.1:0 --address-file "$TMP/nowhere/address" "${GOOD[@]}"
check "the pid file cannot be written" says 1 nowhere/pid -- run --listen 127.0.0.1:0 --pid-file "$TMP/nowhere/pid" "${GOOD[@]}"

if [ "$(id -u)" != 0 ]; then
    check "a port that only root may take" says 1 127.0.0.1:1 -- run --listen 127.0.0.1:1 "${GOOD[@]}"
    mkdir -m 500 readonly
    check "a run directory that cannot be written" says 1 readonly -- run --listen 127.0.0.1:0 --run-dir "$TMP/readonly/run" -- "$ECHO_APP"
elif command -v setpriv >/dev/null; then
    as_nobody() {
        local code=0
        chmod 755 "$TMP"
        mkdir -m 755 -p "$TMP/root-only"
        timeout 10 setpriv --reuid 65534 --regid 65534 --clear-groups "$TMP/sidekeeper" run "$@" >out 2>err || code=$?
        cat err
        same "$code" 1
        same "$(wc -l <err)" 1
    }
    cp "$SIDEKEEPER" "$TMP/sidekeeper"
    check "a run directory that cannot be written" as_nobody --listen 127.0.0.1:0 --run-dir "$TMP/root-only/run" -- sleep 1
fi

# ---- check ---------------------------------------------------------------------------------------

config good <<JSON
{"apps": [{"name": "echo", "path": "/", "workers": 3, "command": ["$ECHO_APP"]}]}
JSON
validates() {
    local text
    text=$("$SIDEKEEPER" check --config good.json --run-dir "$TMP/never")
    has "$text" echo 3 "$ECHO_APP"
    [ ! -e "$TMP/never" ]
}
check "check prints what would run and starts nothing" validates
check "check refuses what run refuses" says 2 wrokers workers -- check --apps typo
check "check refuses a missing script" says 2 gone.js -- check --config gone.json

warns() {
    config ignored <<<"{\"apps\": [{\"name\": \"echo\", \"command\": [\"$ECHO_APP\"], \"pid_file\": \"x\"}]}"
    "$SIDEKEEPER" check --config ignored.json >out 2>&1
    has "$(cat out)" pid_file
}
check "a pm2 key that is not honoured is named" warns

helps() {
    has "$("$SIDEKEEPER" --help)" run check --listen --workers
    has "$("$SIDEKEEPER" run --help)" --listen --run-dir --address-file
    has "$("$SIDEKEEPER" check --help)" check
    has "$("$SIDEKEEPER" --version)" sidekeeper 0.
}
check "--help and --version" helps
