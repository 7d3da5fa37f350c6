# What every test script begins with: `. "$(dirname "$0")/lib.sh"`.
#
# A script is a row of named steps. `check NAME COMMAND...` runs one command (usually a function of
# the script) and goes on whatever comes of it. `step NAME` names what the following lines do;
# the first of them that fails ends the script. Both print `ok - NAME` or `not ok - NAME`.
#
# Each script works in a fresh directory of its own ($TMP), listens on port 0, and ends every
# process it has started, by pid. It runs alone (`tests/http.sh`) and beside all others. When
# something failed, $TMP is kept and its name is printed.

set -Eeuo pipefail
export LC_ALL=C
unset NODE_OPTIONS NODE_ENV PORT LISTEN_FDS LISTEN_PID http_proxy HTTP_PROXY

TEST=$(basename "$0" .sh)
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TMP=$(mktemp -d "${TMPDIR:-/tmp}/sk-$TEST.XXXX")
# Everything a test starts inherits this: that is how leftovers are found without knowing names.
export SIDEKEEPER_TEST=${SIDEKEEPER_TEST:-$TMP}
STEP= FAILED=0 BEGUN_APPS=0 SK_PID= SK_DIR= SK_COUNT=0 ADDR= URL= LOG=/dev/null

[ "${V:-0}" -lt 2 ] || { PS4='# ${BASH_SOURCE##*/}:$LINENO '; set -x; }

# The newest of the builds at hand, unless the caller says which. The runner says.
newest_build() {
    local found
    found=$(cd "$ROOT/target" 2>/dev/null && ls -t {x86_64-unknown-linux-musl/release,release,debug}/"$1" 2>/dev/null | head -1) || true
    [ -n "$found" ] || { echo "# no $1 in target/: run 'cargo build --workspace' first" >&2; exit 1; }
    echo "$ROOT/target/$found"
}
: "${SIDEKEEPER:=$(newest_build sidekeeper)}" "${RAW:=$(newest_build raw)}" "${ECHO_APP:=$(newest_build echo)}"
# For this script alone: workers are to see what sidekeeper gives them and nothing of the tests.
export -n SIDEKEEPER RAW ECHO_APP
raw() { "$RAW" "$@"; }

# ---- steps ---------------------------------------------------------------------------------------

passed() { printf 'ok - %s\n' "$1"; }
failed() { printf 'not ok - %s\n' "$1"; FAILED=$((FAILED + 1)); }
skip() { printf 'skip - %s # %s\n' "$1" "$2"; }
note() { printf '# %s\n' "$*" >&2; }

end_step() { [ -z "$STEP" ] || passed "$STEP"; STEP=; }
step() { end_step; STEP=$1; }

check() {
    end_step
    local name=$1 status=0
    shift
    # In a condition `set -e` would be off inside the command: hence the detour.
    set +e
    trap - ERR
    (set -e; say_where_it_fails; "$@") >"$TMP/check.out" 2>&1 </dev/null
    status=$?
    say_where_it_fails
    set -e
    if [ $status = 0 ]; then
        passed "$name"
        [ "${V:-0}" -lt 1 ] || sed 's/^/# /' "$TMP/check.out" >&2
    else
        failed "$name"
        tail -n 25 "$TMP/check.out" | cut -c 1-400 | sed 's/^/#   /' >&2
    fi
}

# The rest of the script cannot run here. Where CI says that everything must run, that is a failure.
skip_rest() {
    end_step
    if [ "${CI:-}" = true ]; then failed "$TEST can run: $1"; else skip "$TEST" "$1"; fi
    exit 0
}

say_where_it_fails() { trap 'note "line $LINENO: $BASH_COMMAND"' ERR; }
say_where_it_fails
# need_node [PACKAGES]: skips the rest without Node, or without what `make test` installs for it.
need_node() {
    command -v node >/dev/null || skip_rest "Node.js is not installed"
    [ -d "$ROOT/apps/chat/node_modules/socket.io" ] || skip_rest "the packages of apps/chat are not installed (make apps)"
    [ -d "$ROOT/tests/node_modules/ws" ] || skip_rest "the tests' packages are not installed (make test-packages)"
    export NODE_PATH=$ROOT/tests/node_modules
}

trap 'finish $?' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

finish() {
    local status=$1 left
    set +eE
    trap - ERR EXIT
    if [ "$status" != 0 ]; then
        failed "${STEP:-$TEST ends well}"
    else
        end_step
    fi
    if [ -n "$SK_PID" ]; then stop_sidekeeper || failed "sidekeeper stops at the end"; fi
    for pid in $(jobs -p); do kill "$pid" 2>/dev/null; done
    wait 2>/dev/null
    wait_for "leftovers to be gone" 2 nothing_left 2>/dev/null || {
        left=$(left_behind)
        for pid in $left; do
            note "left behind: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c 1-150)"
            kill -KILL "$pid" 2>/dev/null
        done
        failed "nothing is left behind"
    }
    if grep -l 'panicked at' "$TMP"/*/log 2>/dev/null; then failed "no panic in the log"; fi
    cd /
    if [ "$FAILED" = 0 ] && [ -z "${KEEP:-}" ]; then
        rm -rf "$TMP"
    else
        for file in "$TMP"/*/log; do
            [ -s "$file" ] && { note "last lines of $file:"; tail -n 15 "$file" | cut -c 1-300 | sed 's/^/#   /' >&2; }
        done
        note "kept: $TMP"
    fi
    [ "$FAILED" = 0 ]
    exit $?
}

# ---- waiting and comparing -----------------------------------------------------------------------

# wait_for DESCRIPTION SECONDS COMMAND...
wait_for() {
    local what=$1 end=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -gt $end ]; then
            note "waited in vain for $what"
            return 1
        fi
        sleep 0.05
    done
}

same() {
    [ "$1" = "$2" ] || { printf 'wanted: %s\ngot:    %s\n' "$2" "$1" >&2; return 1; }
}

# has TEXT PART...: every part occurs in the text.
has() {
    local text=$1 part
    shift
    for part in "$@"; do
        [[ $text == *"$part"* ]] || { printf 'wanted in it: %s\ngot: %s\n' "$part" "${text:0:1000}" >&2; return 1; }
    done
}

lacks() {
    local text=$1 part
    shift
    for part in "$@"; do
        [[ $text != *"$part"* ]] || { printf 'not wanted in it: %s\ngot: %s\n' "$part" "${text:0:1000}" >&2; return 1; }
    done
}

fails() { ! "$@"; }

# What the echo app's /bytes?n=N, /chunked and /close send.
pattern() { { seq -f %015.0f 0 $(($1 / 16)) || true; } 2>/dev/null | head -c "$1"; }

# ---- apps ----------------------------------------------------------------------------------------

# app NAME JSON: a folder app of this test. Sets APP_DIR, where its further files go.
app() {
    APP_DIR=$TMP/apps/$1
    mkdir -p "$APP_DIR"
    printf '%s\n' "$2" >"$APP_DIR/sidekeeper.json"
}

# echo_app [WORKERS [PATH]]: the echo app, at / unless said otherwise.
echo_app() {
    app echo "{\"path\": \"${2:-/}\", \"workers\": ${1:-2}, \"command\": [\"$ECHO_APP\"]}"
}

# node_app NAME JSON: a folder app whose app.js comes from standard input.
node_app() {
    app "$1" "$2"
    cat >"$APP_DIR/app.js"
}

# install_packages DIR: once for each state of the lock file, and by one script at a time.
install_packages() {
    local dir=$1
    (
        flock 9
        cmp -s "$dir/package-lock.json" "$dir/node_modules/.installed" && exit
        cd "$dir"
        npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
        cp package-lock.json node_modules/.installed
    ) 9>"$dir/.lock"
}

# worker_nodes VERSION...: sets `nodes` to the versions of Node that run here.
worker_nodes() {
    local version node
    nodes=()
    for version in ${HOOK_NODES:-$@}; do
        node=$ROOT/tests/hook/nodes/node_modules/node$version/bin/node
        if "$node" --version >/dev/null 2>&1; then
            nodes+=("$node")
        elif [ "${CI:-}" = true ]; then
            failed "Node $version runs"
        else
            skip "Node $version" "its binary does not run here"
        fi
    done
}

# ---- browsers ------------------------------------------------------------------------------------

# need_chromium: sets CHROMIUM and a home for it, or skips the rest of the script.
need_chromium() {
    CHROMIUM=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
    if [ -z "$CHROMIUM" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        note "installing chromium"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } \
            >"$TMP/apt" 2>&1 || tail -n 3 "$TMP/apt" >&2
        CHROMIUM=$(command -v chromium || true)
    fi
    [ -n "$CHROMIUM" ] || skip_rest "there is no Chromium here, and only root can install it"
    [ -d "$ROOT/tests/node_modules/playwright-core" ] || skip_rest "playwright-core is not installed (make test-packages)"
    mkdir -p "$ROOT/target/screenshots" "$TMP/home"
}

# play FILE ARGS...: a script of tests/fixtures that drives a browser. It names each step with `ok` or `not ok`,
# and asks with `kill PID` or `kill WORKER` for a death, which is answered with a line.
play() {
    local browser from to line victim code=0
    coproc BROWSER { HOME=$TMP/home XDG_RUNTIME_DIR=$TMP/home NODE_PATH=$ROOT/tests/node_modules \
        exec node "$ROOT/tests/fixtures/$1" "${@:2}" 2>"$TMP/browser.err"; }
    browser=$BROWSER_PID
    exec {from}<&"${BROWSER[0]}" {to}>&"${BROWSER[1]}"
    while read -r -t 90 -u "$from" line; do
        case $line in
        ok\ *) passed "${line#ok }" ;;
        not\ ok\ *) failed "${line#not ok }" ;;
        kill\ *)
            victim=${line#kill }
            case $victim in *.*) victim=$(worker_pids "${victim%.*}" "${victim##*.}") ;; esac
            kill -KILL "$victim" || failed "there is one ${line#kill } to kill"
            echo killed >&"$to"
            ;;
        *) note "$line" ;;
        esac
    done
    exec {from}<&- {to}>&-
    wait "$browser" || code=$?
    step "the browser ends well"
    [ "$FAILED" != 0 ] || same "$code" 0
    [ "$code" = 0 ] || tail -n 5 "$TMP/browser.err" >&2
}

# ---- sidekeeper ----------------------------------------------------------------------------------

# launch_sidekeeper ARGS...: starts it and does not wait. Sets SK_PID, SK_DIR and LOG.
launch_sidekeeper() {
    SK_COUNT=$((SK_COUNT + 1))
    SK_DIR=$TMP/$SK_COUNT
    LOG=$SK_DIR/log
    mkdir -p "$SK_DIR"
    "$SIDEKEEPER" run --listen 127.0.0.1:0 --run-dir "${RUN_DIR:-$SK_DIR/run}" --address-file "$SK_DIR/address" \
        --log-level "${LOG_LEVEL:-debug}" "$@" >"$LOG" 2>&1 </dev/null &
    SK_PID=$!
}

# start_sidekeeper [ARGS...]: until every app is ready. Without arguments: the apps of this test.
# Sets ADDR (HOST:PORT) and URL too.
start_sidekeeper() {
    [ $# -gt 0 ] || set -- --apps "$TMP/apps"
    launch_sidekeeper "$@"
    wait_for_ready
}

wait_for_ready() {
    wait_for "sidekeeper to be ready" "${1:-30}" ready_or_dead
    if ! [ -s "$SK_DIR/address" ]; then
        note "sidekeeper ended before it was ready"
        return 1
    fi
    ADDR=$(head -n 1 "$SK_DIR/address")
    URL=http://$ADDR
}

ready_or_dead() { [ -s "$SK_DIR/address" ] || ! alive "$SK_PID"; }

# A zombie has ended as well.
alive() {
    local state
    state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 1
    [ -n "$state" ] && [ "$state" != Z ]
}
dead() { ! alive "$1"; }

# stop_sidekeeper [SIGNAL [SECONDS]]: sets SK_STATUS; fails if it does not end or leaves workers.
stop_sidekeeper() {
    local pid=$SK_PID workers
    SK_PID= SK_STATUS=
    workers=$(descendants "$pid")
    kill "-${1:-TERM}" "$pid" 2>/dev/null || true
    if ! wait_for "sidekeeper $pid to end" "${2:-15}" dead "$pid"; then
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        return 1
    fi
    SK_STATUS=0
    wait "$pid" 2>/dev/null || SK_STATUS=$?
    wait_for "its workers to end" 5 all_dead $workers
}

all_dead() {
    local pid
    for pid in "$@"; do dead "$pid" || return 1; done
}

descendants() {
    local pid
    for pid in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
        echo "$pid"
        descendants "$pid"
    done
}

# worker_pids [APP [INSTANCE]]: the processes that sidekeeper has started as workers, by instance.
worker_pids() {
    local pid environment name instance
    for pid in $(cat "/proc/$SK_PID/task/"*/children 2>/dev/null); do
        environment=$(tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null) || continue
        name=$(sed -n 's/^APPNAME=//p' <<<"$environment")
        instance=$(sed -n 's/^NODE_APP_INSTANCE=//p' <<<"$environment")
        [ -n "$name" ] || continue
        [ -z "${1:-}" ] || [ "$name" = "$1" ] || continue
        [ -z "${2:-}" ] || [ "$instance" = "$2" ] || continue
        echo "$name $instance $pid"
    done | sort -k1,1 -k2,2n | cut -d ' ' -f 3
}

left_behind() {
    local file pid
    for file in $(env -u SIDEKEEPER_TEST grep -lzsFx "SIDEKEEPER_TEST=$SIDEKEEPER_TEST" /proc/[0-9]*/environ); do
        pid=${file#/proc/}
        pid=${pid%/environ}
        # Our own subshells were born with it when a runner started us.
        [ "$(group_of "$pid")" = "$OWN_GROUP" ] && is_shell_of_ours "$pid" && continue
        alive "$pid" && echo "$pid"
    done
    return 0
}
# The fifth field of stat; the second, a name in brackets, may hold anything.
group_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 3; }
OWN_GROUP=$(group_of $$)
is_shell_of_ours() { [ "$(readlink "/proc/$1/exe" 2>/dev/null)" = "$(readlink /proc/$$/exe)" ]; }
nothing_left() { [ -z "$(left_behind)" ]; }

# Lines of the log from here on: mark=$(log_mark); ...; log_since "$mark" | grep ...
log_mark() { wc -l <"$LOG"; }
log_since() { tail -n "+$(($1 + 1))" "$LOG"; }
log_has() { grep -qF -- "$1" "$LOG"; }

# ---- requests ------------------------------------------------------------------------------------

# get PATH [CURL OPTIONS...]
get() {
    local path=$1
    shift
    curl -sS --max-time 20 "$@" "$URL$path"
}

status() {
    local path=$1
    shift
    curl -sS --max-time 20 -o /dev/null -w '%{http_code}' "$@" "$URL$path"
}
