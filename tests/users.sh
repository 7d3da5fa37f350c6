#!/usr/bin/env bash
# Started as root: the port below 1024 is bound and root given up, with all threads, groups and
# capabilities; apps with users of their own; what needs root and is asked for without it.
# seconds: 20
. "$(dirname "$0")/lib.sh"

refused() {
    local said code=0
    said=$("$@" 2>&1) || code=$?
    echo "$said"
    same "$code" 2
}
cat >"$TMP/other.json" <<JSON
[{"name": "a", "command": ["$ECHO_APP"], "uid": 4721, "gid": 4722}]
JSON
cat >"$TMP/nobody-knows.json" <<JSON
[{"name": "a", "command": ["$ECHO_APP"], "uid": "no-such-user"}]
JSON

step "a user that is not there is named"
has "$(refused "$SIDEKEEPER" check --config "$TMP/nobody-knows.json")" "app \`a\`: there is no user \`no-such-user\` in /etc/passwd"
has "$(refused "$SIDEKEEPER" check --user no-such-user -- "$ECHO_APP")" "--user no-such-user: there is no user"
end_step

if [ "$(id -u)" != 0 ]; then
    step "without root nobody becomes another user"
    has "$(refused "$SIDEKEEPER" check --config "$TMP/other.json")" "only root can start workers as user 4721"
    has "$(refused "$SIDEKEEPER" check --user 4711 -- "$ECHO_APP")" "only root can become another user"
    step "who we are already may be named"
    start_sidekeeper --user "$(id -u):$(id -g)" -- "$ECHO_APP"
    same "$(status /)" 200
    skip_rest "changing users is for root"
fi

# identity PID: real, effective, saved and file user and group, groups, and the capabilities that count.
identity() {
    sed -n 's/^\(Uid\|Gid\|Groups\|CapPrm\|CapEff\|CapInh\|CapAmb\):[[:space:]]*/\1 /p' "/proc/$1/status" | tr -s '\t ' ' ' | sed 's/ $//'
}
of_threads() { for task in "/proc/$1/task/"*; do identity "$1/task/${task##*/}"; done | sort -u; }
none=0000000000000000
is_user() { printf 'Uid %s %s %s %s\nGid %s %s %s %s\nGroups %s\n' "$1" "$1" "$1" "$1" "$2" "$2" "$2" "$2" "$3"; }
no_rights="CapInh $none
CapPrm $none
CapEff $none
CapAmb $none"
guard_pid() {
    local pid
    for pid in $(cat "/proc/$SK_PID/task/"*/children); do
        case $(cat "/proc/$pid/comm") in sidekeeper-grd) echo "$pid" ;; esac
    done
}

# The workers' users must be able to reach their programs.
chmod 711 "$TMP"
mkdir "$TMP/apps"
cp "$ECHO_APP" "$TMP/apps/echo"
cp "$ROOT/tests/fixtures/facts.js" "$TMP/apps/facts.js"
chmod -R a+rX "$TMP/apps"
as_user() { (cd "$TMP/apps" && setpriv --reuid 4711 --regid 4712 --clear-groups "$@"); }
ECHO=$TMP/apps/echo

FACTS=$TMP/apps/facts.js
# Another file, so that it can be seen who runs; whoever has given up root must be able to start it.
OTHER_BINARY=$TMP/apps/sidekeeper
cp "$SIDEKEEPER" "$OTHER_BINARY"
chmod a+rx "$OTHER_BINARY"
setpriv --reuid 4711 --regid 4712 --clear-groups test -x "$ECHO" ||
    skip_rest "another user cannot reach this test's folder"
# What is written after root has been given up.
mkdir -m 777 "$TMP"/{1,2,3,4,5,6,7}
serves() { wait_for "$1" 10 eval "[ \"\$(status $1)\" = 200 ]"; }
fact() { get "$1" | node -p "const f = JSON.parse(fs.readFileSync(0)); const v = ($2); typeof v === 'object' ? JSON.stringify(v) : v"; }

step "the port below 1024 is bound as root, and root is given up: all threads, guard and worker"
start_sidekeeper --listen 127.79.79.79:80 --user 4711:4712 --pid-file "$TMP/1/pid" -- "$ECHO"
same "$(curl -sS --max-time 10 -o /dev/null -w '%{http_code}' http://127.79.79.79:80/)" 200
wanted=$(is_user 4711 4712 4712; echo "$no_rights")
same "$(of_threads "$SK_PID")" "$(sort <<<"$wanted")"
same "$(identity "$(guard_pid)")" "$wanted"
worker=$(worker_pids | head -n 1)
same "$(identity "$worker")" "$wanted"

step "the run directory is theirs, closed to others, and root can still ask"
same "$(stat -c '%u:%g %a' "$SK_DIR/run")" "4711:4712 700"
has "$("$SIDEKEEPER" status --run-dir "$SK_DIR/run")" "workers ready"
as_user "$SIDEKEEPER" status --run-dir "$SK_DIR/run" >/dev/null
fails setpriv --reuid 4720 --regid 4720 --clear-groups "$SIDEKEEPER" status --run-dir "$SK_DIR/run" 2>/dev/null

step "another binary takes over and is nobody more than this one"
has "$("$SIDEKEEPER" upgrade --run-dir "$SK_DIR/run" "$OTHER_BINARY" 2>&1)" "has taken over from"
same "$(stat -Lc %i "/proc/$SK_PID/exe")" "$(stat -c %i "$OTHER_BINARY")"
same "$(of_threads "$SK_PID")" "$(sort <<<"$wanted")"
same "$(worker_pids | head -n 1)" "$worker"
same "$(curl -sS --max-time 10 -o /dev/null -w '%{http_code}' http://127.79.79.79:80/)" 200

step "the worker is restarted and reloaded without root"
kill -KILL "$worker"
wait_for "its next life" 10 eval '[ "$(worker_pids | wc -l)" -ge 2 ]'
has "$("$SIDEKEEPER" reload --run-dir "$SK_DIR/run")" "serve after"
same "$(identity "$(worker_pids | head -n 1)")" "$wanted"
stop_sidekeeper
same "$SK_STATUS" 0

step "the run directory of a run as root is taken over"
launch_sidekeeper -- "$ECHO"
wait_for_ready
kill -KILL "$SK_PID"
wait "$SK_PID" 2>/dev/null || true
SK_PID=
RUN_DIR=$TMP/2/run start_sidekeeper --user 4711 -- "$ECHO"
same "$(status /)" 200
same "$(stat -c %u "$TMP/2/run" "$TMP/2/run/lock" | sort -u)" 4711
stop_sidekeeper

if ! command -v node >/dev/null || ! as_user node --version >/dev/null 2>&1; then
    skip_rest "Node.js is not installed for everybody"
fi

# ---- users of their own ---------------------------------------------------------------------------

app_json() { echo "{\"name\": \"$1\", \"path\": \"/$1\", \"cwd\": \"$TMP/apps\", \"instances\": 1, $2}"; }
configure() {
    local IFS=,
    echo "[$*]" >"$TMP/users.json"
}
ours=$(app_json ours "\"command\": [\"$ECHO\"]")
other=$(app_json other "\"script\": \"$FACTS\", \"uid\": 4721, \"gid\": \"4722\", \"limits\": {\"nofile\": 200}")
named=$(app_json named "\"script\": \"$FACTS\", \"user\": \"nobody\"")

step "apps with users of their own, beside the proxy's own user"
configure "$ours" "$other" "$named"
start_sidekeeper --user 4711:4712 --config "$TMP/users.json"
same "$(identity "$(worker_pids ours)")" "$wanted"
same "$(identity "$(worker_pids other)")" "$(is_user 4721 4722 4722; echo "$no_rights")"
nobody=$(id -u nobody)
same "$(fact /named f.uid)" "$nobody"
same "$(fact /named f.env.HOME)" "$(getent passwd nobody | cut -d : -f 6)"
same "$(fact /named f.env.USER)" nobody
same "$(fact /other 'f.limits["Max open files"]')" 200

step "the proxy keeps three capabilities for them and says so; only who starts workers passes them on"
log_has "keeps the capabilities setuid, setgid and kill"
same "$(of_threads "$SK_PID" | grep -v '^CapAmb')" "$({ is_user 4711 4712 4712; printf 'CapInh %s\nCapPrm %s\nCapEff %s\n' 00000000000000e0{,,}; } | sort)"
# The supervisor is the process's first thread.
passes() { for task in "/proc/$SK_PID/task/"*; do grep -q '^CapAmb:.*e0$' "$task/status" && basename "$task"; done; true; }
same "$(passes)" "$SK_PID"

step "their workers reach the hook, and neither the control socket nor each other's"
same "$(stat -c '%u %a' "$SK_DIR/run")" "4711 711"
other_user() { setpriv --reuid 4721 --regid 4722 --clear-groups "$@"; }
other_user cat "$SK_DIR/run/hook.cjs" >/dev/null
fails other_user ls "$SK_DIR/run" 2>/dev/null
fails other_user cat "$SK_DIR/run/lock" 2>/dev/null
fails other_user "$SIDEKEEPER" status --run-dir "$SK_DIR/run" 2>/dev/null
sockets=$(find "$SK_DIR/run" -name '*.sock')
[ -n "$sockets" ]
for socket in $sockets; do
    fails other_user curl -sS --max-time 5 --unix-socket "$socket" http://a/ 2>/dev/null
done

step "they are restarted, reloaded and joined by others, each as who it is"
before=$(worker_pids other)
kill -KILL "$before"
wait_for "its next life" 10 eval '[ "$(fact /other f.pid)" != "$before" ]'
same "$(fact /other f.uid)" 4721
configure "$ours" "$other" "$named" "$(app_json more "\"script\": \"$FACTS\", \"uid\": 4731")"
has "$("$SIDEKEEPER" reload --run-dir "$SK_DIR/run")" "other: 1 worker" "named: 1 worker" "more: 1 worker"
same "$(fact /more '[f.uid, f.gid]')" "[4731,4731]"
same "$(fact /named '[f.uid, f.env.USER]')" "[$nobody,\"nobody\"]"
same "$(fact /other f.capabilities)" "[\"$none\",\"$none\",\"$none\"]"

step "another binary takes over: everybody is who they were, and the rights that stay are the same three"
one_other() { [ "$(worker_pids other | wc -l)" = 1 ]; }
wait_for "the workers before the reload to have left" 20 one_other
rights=$(of_threads "$SK_PID")
before=$(worker_pids)
has "$("$SIDEKEEPER" upgrade --run-dir "$SK_DIR/run" "$OTHER_BINARY" 2>&1)" "has taken over from"
same "$(stat -Lc %i "/proc/$SK_PID/exe")" "$(stat -c %i "$OTHER_BINARY")"
same "$(worker_pids)" "$before"
same "$(of_threads "$SK_PID")" "$rights"
same "$(passes)" "$SK_PID"
same "$(identity "$(guard_pid)" | grep '^Uid')" "Uid 4711 4711 4711 4711"
kill -KILL "$(worker_pids other)"
wait_for "its next life" 10 eval '[ "$(fact /other f.uid)" = 4721 ]'
same "$(fact /other f.capabilities)" "[\"$none\",\"$none\",\"$none\"]"
has "$("$SIDEKEEPER" reload --run-dir "$SK_DIR/run")" "other: 1 worker" "named: 1 worker" "more: 1 worker"
same "$(fact /named f.uid)" "$nobody"

step "a kill -9 of sidekeeper leaves none of them behind"
workers=$(worker_pids)
[ "$(wc -l <<<"$workers")" -ge 4 ]
kill -KILL "$SK_PID"
wait "$SK_PID" 2>/dev/null || true
SK_PID=
wait_for "all to be gone" 5 all_dead $workers

step "a stop ends them too"
start_sidekeeper --user 4711:4712 --config "$TMP/users.json"
stop_sidekeeper
same "$SK_STATUS" 0
fails log_has "has not ended by SIGKILL"

# ---- refusals -------------------------------------------------------------------------------------

step "root given up is given up: an app with another user cannot be added later"
configure "$ours"
start_sidekeeper --user 4711:4712 --config "$TMP/users.json"
configure "$ours" "$other"
has "$("$SIDEKEEPER" reload --run-dir "$SK_DIR/run" 2>&1 || true)" "only root can start workers as user 4721"
same "$(status /ours)" 200
stop_sidekeeper

step "a program that binds {socket} cannot have a user of its own"
configure "$(app_json own "\"command\": \"$ECHO {socket}\", \"uid\": 4721")"
has "$(refused "$SIDEKEEPER" check --user 4711 --config "$TMP/users.json")" "binds {socket} itself cannot have a user of its own"

step "who is not root cannot ask for users"
as_user "$SIDEKEEPER" check --user 4711:4712 -- "$ECHO" >/dev/null
has "$(refused as_user "$SIDEKEEPER" check --user nobody -- "$ECHO")" "--user nobody: only root can become another user"
has "$(refused as_user "$SIDEKEEPER" check --config "$TMP/other.json")" "app \`a\`: only root can start workers as user 4721"

step "without --user the proxy stays root, and says so when apps are somebody else"
configure "$other"
start_sidekeeper --config "$TMP/users.json"
same "$(fact /other f.uid)" 4721
log_has "apps have users of their own while the proxy stays root"
