#!/usr/bin/env bash
# Workers' logs: whole lines whatever the worker writes, forms and dates, files merged and for each
# worker, rotation by size and age, compression, reopening, floods, full disks, and our own lines.
# seconds: 60
. "$(dirname "$0")/lib.sh"
export ECHO_APP HOME=$TMP/home
mkdir -p "$HOME" "$TMP/bin"
DISK=
unmount() { [ -z "$DISK" ] || umount "$DISK" 2>/dev/null || true; }
trap 'status=$?; unmount; finish $status' EXIT

# worker NAME JSON: an app at /NAME whose `run` comes from standard input and ends as the echo app.
worker() {
    app "$1" "{\"path\": \"/$1\", \"command\": [\"./run\"], $2}"
    { echo '#!/bin/bash'; cat; echo 'exec "$ECHO_APP"'; } >"$APP_DIR/run"
    chmod +x "$APP_DIR/run"
}
says() { get "/$1/log?text=$2" -o /dev/null; }
file_has() { grep -qF -- "$2" "$1"; }
# What the app itself has to say at its start is left out.
printed() { cat "$@" 2>/dev/null | grep -v 'echo: process' || true; }
lines_of() { printed "$@" | wc -l; }
at_least() { [ "$("${@:2}")" -ge "$1" ]; }
status_json() { "$SIDEKEEPER" status --json --run-dir "$SK_DIR/run"; }
fresh_apps() { rm -rf "$TMP/apps"; }
# The numbers in these files (compressed or not), each on a line, in order.
numbers() {
    local file
    for file in "$@"; do
        case $file in *.gz) gzip -dc "$file" ;; *) cat "$file" ;; esac
    done | grep -oE '^n[0-9]+' | tr -d n | sort -n
}
complete() { same "$(numbers "${@:2}" | cksum)" "$(seq 1 "$1" | cksum)"; }

# ---- lines ---------------------------------------------------------------------------------------

step "lines written in pieces are whole in the file, on our output, and for readers"
worker torn '"workers": 1, "error_file": "out.log"' <<'SH'
# The echo app has something to say on the other one.
(for i in {1..60}; do printf 'torn '; sleep 0.01; printf '%s wh' $i; sleep 0.01; printf 'ole\n'; done) >&2 &
SH
worker last '"workers": 1, "out_file": "out.log", "error_file": "err.log"' <<'SH'
[ -e died ] || { touch died; printf 'begun\nand no newline'; printf 'neither here' >&2; exit 3; }
SH
worker long '"workers": 1, "out_file": "out.log"' <<'SH'
head -c 100000 /dev/zero | tr '\0' x; echo; echo short
SH
worker dated '"workers": 2, "out_file": "logs/d.log", "error_file": "~/errors.log", "log_date_format": "[at] YYYY-MM-DD HH:mm:ss.SSS Z ddd"' <<'SH'
SH
worker json '"workers": 2, "merge_logs": true, "out_file": "all.log", "error_file": "all.log", "log_type": "json"' <<'SH'
SH
worker orders '"workers": 1' <<'SH'
printf '\033[31mred\033[0m \033]0;title\007 \233 end\n'
SH
worker silent '"workers": 1, "disable_logs": true, "out_file": "out.log"' <<'SH'
SH
worker bad '"workers": 1, "out_file": "/proc/nowhere/x.log"' <<'SH'
SH
APPS=$TMP/apps
export TZ=IST-5:30
start_sidekeeper
wait_for "all pieces" 20 file_has "$APPS/torn/out.log" "torn 60 whole"
same "$(printed "$APPS/torn/out.log")" "$(seq -f 'torn %g whole' 60)"
wait_for "all pieces on our output" 5 log_has "torn.0 | torn 60 whole"
same "$(grep -c '^torn\.0 | torn [0-9]* whole$' "$LOG")" 60
has "$("$SIDEKEEPER" logs torn --run-dir "$SK_DIR/run")" "torn.0 | torn 1 whole" "torn.0 | torn 60 whole"

step "a last line without a newline is kept"
wait_for "the last line" 10 file_has "$APPS/last/out.log" "and no newline"
same "$(printed "$APPS/last/out.log")" "$(printf 'begun\nand no newline')"
wait_for "the other last line" 10 file_has "$APPS/last/err.log" "neither here"

step "a line that is too long is cut, and says so"
wait_for "the line after it" 10 file_has "$APPS/long/out.log" short
same "$(lines_of "$APPS/long/out.log")" 2
has "$(printed "$APPS/long/out.log" | tail -c 60)" "xxx [... $((100000 - 65536)) bytes more]"

step "dates are moment's, in the zone of the machine; each worker has its file"
for _ in 1 2 3 4; do says dated hello; done
get '/dated/log?text=oops&to=stderr' -o /dev/null
dated() { printed "$APPS/dated/logs/d-0.log" "$APPS/dated/logs/d-1.log"; }
wait_for "the lines" 10 at_least 4 lines_of "$APPS/dated/logs/d-0.log" "$APPS/dated/logs/d-1.log"
fails grep -vE '^at [0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3} \+05:30 [SMTWF][a-z]{2}: hello$' <(dated)
has "$(dated)" "at $(date +%Y-%m-%d)"
wait_for "the error" 10 eval 'cat "$HOME"/errors-?.log | grep -q ": oops"'
wait_for "the prefix" 5 eval 'grep -qE "^dated\.[01] \| at 20.*: hello" "$LOG"'

step "JSON has pm2's names, and merged workers share a file"
for _ in 1 2 3 4; do says json 'a%22quote'; done
get '/json/log?text=oops&to=stderr' -o /dev/null
wait_for "the lines" 10 at_least 5 lines_of "$APPS/json/all.log"
python3 - "$APPS/json/all.log" <<'PY'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
lines = [line for line in lines if "echo: process" not in line["message"]]
assert len(lines) == 5, lines
assert {line["message"] for line in lines} == {'a"quote', "oops"}, lines
assert {line["type"] for line in lines} == {"out", "err"}, lines
assert {line["worker"] for line in lines} == {"json.0", "json.1"}, lines
assert {line["process_id"] for line in lines} == {0, 1}
assert all(line["app_name"] == "json" and line["timestamp"].endswith("Z") for line in lines), lines
PY

step "what a terminal would obey is shown to those who look, colours excepted"
shown=$("$SIDEKEEPER" logs orders --run-dir "$SK_DIR/run")
has "$shown" $'\e[31mred\e[0m' '^[]0;title^G'
lacks "$shown" $'\e]' $'\a'
if command -v script >/dev/null; then
    # Our own output on a terminal.
    script -qec "'$SIDEKEEPER' run --listen 127.0.0.1:0 --run-dir '$TMP/tty' -- /bin/sh -c \"printf '\\033]0;title\\007\\n'; exec '$ECHO_APP'\"" \
        /dev/null >"$TMP/screen" 2>&1 </dev/null &
    wait_for "the line" 15 grep -qF '^[]0;title^G' "$TMP/screen"
    "$SIDEKEEPER" stop --run-dir "$TMP/tty"
fi

step "disabled logs go nowhere, but can be read along"
says silent nothing-here
wait_for "the reader's line" 10 eval 'has "$("$SIDEKEEPER" logs silent --run-dir "$SK_DIR/run")" nothing-here'
fails log_has "silent.0 | nothing-here"
[ ! -e "$APPS/silent/out.log" ]

step "a file that cannot be written is told once, and costs nothing else"
for _ in 1 2 3; do says bad lines; done
wait_for "the complaint" 10 log_has "/proc/nowhere/x.log cannot be written: No such file or directory"
same "$(grep -c 'x.log cannot be written' "$LOG")" 1
same "$(status /bad/)" 200
has "$(status_json)" '"log_files_failing":1' '"log_disk_full":false'

step "our own lines have a date and no names of our insides"
grep -qE '^INFO  \[20[0-9-]{8} [0-9:.]{12} \+05:30\] torn\.0 ' "$LOG"
fails grep -q 'sidekeeper::' "$LOG"
stop_sidekeeper
unset TZ

# ---- files that grow -----------------------------------------------------------------------------

step "a full file is put aside and compressed, and no line is lost"
fresh_apps
worker busy '"workers": 1' <<'SH'
seq -f 'n%g and some text that makes the line longer' 3000
SH
start_sidekeeper --apps "$APPS" --log-dir "$TMP/size" --log-file-bytes-max 8k --log-files-max 0
wait_for "the last line" 20 file_has "$TMP/size/busy-out.log" n3000
all_compressed() { ! ls "$TMP/size" | grep -qE '__.*\.log$' && at_least 15 eval 'ls "$TMP/size" | grep -c "__.*\.gz"'; }
wait_for "gzip" 40 all_compressed
complete 3000 "$TMP/size"/busy-out*
[ "$(find "$TMP/size" -name '*.log' -size +8k)" = "" ]
ls "$TMP/size" | grep -qE '^busy-out__[0-9]{4}-[0-9]{2}-[0-9]{2}_[0-9]{2}-[0-9]{2}-[0-9]{2}(\.[0-9]+)?\.log\.gz$'
[ -e "$TMP/size/busy-error.log" ]
stop_sidekeeper

step "the newest are kept, what is not ours stays, and a total holds for all"
touch "$TMP/size/busy-out__notes.log"
start_sidekeeper --apps "$APPS" --log-dir "$TMP/size" --log-file-bytes-max 8k --log-files-max 3 --log-compress off
few() { [ "$(ls "$TMP/size" | grep -c '^busy-out__[0-9]')" -le 3 ]; }
wait_for "few files" 20 few
[ -e "$TMP/size/busy-out__notes.log" ]
stop_sidekeeper
start_sidekeeper --apps "$APPS" --log-dir "$TMP/size" --log-file-bytes-max 8k --log-files-max 0 \
    --log-total-bytes-max 40k --log-compress off
small() { [ "$(cat "$TMP/size"/* | wc -c)" -le 40960 ]; }
wait_for "the total" 20 small
stop_sidekeeper

step "a file is put aside for its age, and without gzip stays as it is"
fresh_apps
worker ticks '"workers": 1' <<'SH'
(for i in {1..40}; do echo "n$i"; sleep 0.1; done) &
SH
ln -s "$(command -v sleep)" "$TMP/bin/"
printf '#!/bin/bash\nPATH=%s exec %s "$@"\n' "$TMP/bin" "$SIDEKEEPER" >"$TMP/without-gzip"
chmod +x "$TMP/without-gzip"
SIDEKEEPER=$TMP/without-gzip start_sidekeeper --apps "$APPS" --log-dir "$TMP/age" --log-rotate-every 1 --log-rotated-date 'X[s]SSS'
aside() { ls "$TMP/age" | grep -cE '^ticks-out__[0-9]{10}s[0-9]{3}\.log$' || true; }
wait_for "files put aside" 20 at_least 3 aside
wait_for "the last line" 20 eval 'cat "$TMP/age"/ticks-out*.log | grep -q "^n40$"'
complete 40 "$TMP/age"/ticks-out*
same "$(grep -c 'there is no gzip in PATH' "$LOG")" 1
stop_sidekeeper

step "SIGUSR1 opens the files anew, at any time, and no line is lost"
fresh_apps
worker counts '"workers": 1' <<'SH'
(for i in {1..4000}; do echo "n$i"; done; while [ ! -e stop ]; do sleep 0.05; done; echo end) &
(i=4000; while [ ! -e stop ]; do i=$((i + 1)); echo "n$i"; sleep 0.001; done; echo $i >count) &
SH
COUNTS=$APPS/counts
launch_sidekeeper --apps "$APPS" --log-dir "$TMP/usr1" --log-file-bytes-max 0 --log-rotate-every never
wait_for "our process" 10 test -d "$SK_DIR/run"
for _ in {1..30}; do kill -USR1 "$SK_PID" && sleep 0.01; done
wait_for_ready
wait_for "the file" 10 test -s "$TMP/usr1/counts-out.log"
for i in {1..8}; do
    mv "$TMP/usr1/counts-out.log" "$TMP/usr1/moved.$i"
    kill -USR1 "$SK_PID"
    wait_for "the new file" 10 test -s "$TMP/usr1/counts-out.log"
done
guard=$(pgrep -P "$SK_PID" | while read -r pid; do grep -qz __guard "/proc/$pid/cmdline" && echo "$pid"; done || true)
kill -USR1 "$guard"
touch "$COUNTS/stop"
wait_for "the end" 10 eval '[ -s "$COUNTS/count" ] && grep -q "^n$(cat "$COUNTS/count")$" "$TMP/usr1/counts-out.log"'
complete "$(cat "$COUNTS/count")" "$TMP/usr1"/*
alive "$guard"
same "$(status /counts/)" 200
stop_sidekeeper

# ---- too much ------------------------------------------------------------------------------------

step "a worker that floods slows no other one and costs bounded memory"
fresh_apps
worker flood '"workers": 1' <<'SH'
yes "a line of the flood, of which there are very many" &
SH
echo_app 1
start_sidekeeper --apps "$APPS" --log-dir "$TMP/flood" --log-output off --log-file-bytes-max 1m --log-files-max 2 --log-compress off
for _ in {1..40}; do
    same "$(curl -sS --max-time 5 -o /dev/null -w '%{http_code}' "$URL/")" 200
    sleep 0.05
done
resident_kb=$(sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$SK_PID/status")
note "resident: $resident_kb kB; files: $(ls "$TMP/flood" | tr '\n' ' ')"
[ "$resident_kb" -lt 80000 ]
[ "$({ cat "$TMP/flood"/flood-out* 2>/dev/null || true; } | wc -c)" -le 16777216 ]
fails grep -vxE 'a line of the flood, of which there are very many|sidekeeper: [0-9]+ lines? dropped here' <(printed "$TMP/flood"/flood-out*)
stop_sidekeeper

step "a full disk stops the files and nothing else; what is lost is counted and said"
fresh_apps
DISK=$TMP/disk
mkdir "$DISK"
if mount -t tmpfs -o size=256k none "$DISK" 2>/dev/null; then
    worker filler '"workers": 1' <<'SH'
(while [ ! -e go ]; do sleep 0.05; done; seq -f "%0990.0f" 6000; touch done) &
SH
    echo_app 1
    start_sidekeeper --apps "$APPS" --log-dir "$DISK" --log-output off --log-file-bytes-max 0
    head -c 200000 /dev/zero >"$DISK/ballast"
    touch "$APPS/filler/go"
    wait_for "the complaint" 10 log_has "filler-out.log cannot be written: No space left on device"
    wait_for "all lines, which nobody holds up" 20 test -e "$APPS/filler/done"
    same "$(status /)" 200
    wait_for "the status" 5 eval 'has "$(status_json)" "\"log_disk_full\":true"'
    same "$(grep -c 'filler-out.log cannot be written' "$LOG")" 1
    dropped=$(status_json | grep -oE '"log_lines_dropped":[0-9]+' | head -n 1 | cut -d : -f 2)
    [ "$dropped" -gt 1000 ]
    mount -o remount,size=20m "$DISK"
    wait_for "the files to be written again" 20 log_has "filler-out.log is written again"
    wait_for "the line that says what was lost" 10 file_has "$DISK/filler-out.log" "sidekeeper: $dropped lines dropped here"
    same "$(grep -c '^[0-9]*$' "$DISK/filler-out.log")" $((6000 - dropped))
    fails grep -vqxE '[0-9]{990}|sidekeeper: [0-9]+ lines dropped here' <(printed "$DISK/filler-out.log")
    has "$(status_json)" '"log_disk_full":false' '"log_files_failing":0'
    stop_sidekeeper
else
    skip "a file system of our own" "no right to mount one"
    DISK=
    worker filler '"workers": 1, "out_file": "/dev/full"' <<'SH'
echo anything
SH
    start_sidekeeper --apps "$APPS"
    wait_for "the complaint" 10 log_has "/dev/full cannot be written: No space left on device"
    same "$(status /filler/)" 200
    has "$(status_json)" '"log_disk_full":true'
    stop_sidekeeper
fi

# ---- the rest ------------------------------------------------------------------------------------

step "a reload that changes the keys changes the files of the new workers"
configure() {
    echo "{\"apps\": [{\"name\": \"main\", \"path\": \"/\", \"command\": [\"$ECHO_APP\"], \"workers\": 2, $1}]}" >"$TMP/apps.json"
}
configure "\"out_file\": \"$TMP/first.log\""
start_sidekeeper --config "$TMP/apps.json"
for _ in 1 2; do get '/log?text=before' -o /dev/null; done
wait_for "the lines" 10 at_least 2 lines_of "$TMP/first-0.log" "$TMP/first-1.log"
configure "\"out_file\": \"$TMP/second.log\", \"merge_logs\": true, \"log_format\": \"prefixed\""
has "$("$SIDEKEEPER" reload --run-dir "$SK_DIR/run" 2>&1)" "2 workers of the new version serve"
for _ in 1 2; do get '/log?text=after' -o /dev/null; done
wait_for "the lines" 10 at_least 2 lines_of "$TMP/second.log"
fails grep -vE "^main\.[01] \| " "$TMP/second.log"
same "$(printed "$TMP/second.log" | grep -c '| after$')" 2

step "what every failed request would say is said a few times and counted"
mark=$(log_mark)
for _ in {1..8}; do
    curl -sS --max-time 20 -o /dev/null --parallel --parallel-max 8 "$URL/raw?text=junk"{,,,,,,,,,,} >/dev/null 2>&1 || true
done
many() { log_since "$mark" | grep -qE 'WARN.* [0-9]+ more within a second like: main\.[01]: 502'; }
wait_for "the count" 10 many
stop_sidekeeper

step "whoever does not read our own lines holds nobody up, and is told what he has missed"
mkfifo "$TMP/pager"
exec 8<>"$TMP/pager"
"$SIDEKEEPER" run --config "$TMP/apps.json" --listen 127.0.0.1:0 --run-dir "$TMP/paged" --address-file "$TMP/paged.address" \
    --log-level debug 2>"$TMP/pager" >/dev/null </dev/null &
SK_PID=$!
wait_for "sidekeeper to be ready" 30 test -s "$TMP/paged.address"
URL=http://$(head -n 1 "$TMP/paged.address")
# Each connection is a line of the log; a pipe holds 64 KiB, and 4096 lines more may wait.
for _ in {1..60}; do
    urls=$(for _ in {1..120}; do echo "url = $URL/who"; echo "output = /dev/null"; done)
    curl -sS --max-time 20 -H 'Connection: close' -K - <<<"$urls"
done
same "$(status /who)" 200
timeout 20 cat <&8 >"$TMP/paged.log" &
wait_for "what is said of the lost ones" 15 grep -qE 'WARN .* [0-9]+ lines of ours are lost: stderr was not read' "$TMP/paged.log"
stop_sidekeeper
wait_for "the last line" 10 grep -q 'INFO .* stopped' "$TMP/paged.log"
exec 8>&-

step "options and keys are checked, and unknown letters of a date told"
refused() { "$SIDEKEEPER" check "$@" -- "$ECHO_APP" 2>&1 && return 1 || true; }
has "$(refused --log-format jsno)" "--log-format is \`jsno\`: did you mean json?"
has "$(refused --log-rotated-date YYYY/MM)" "slash"
has "$(refused --log-file-bytes-max 5)" "at least 1024 bytes"
"$SIDEKEEPER" check --log-date-format 'yyyy-MM' -- "$ECHO_APP" >"$TMP/check.out" 2>&1
has "$(cat "$TMP/check.out")" "\`y\` means nothing to moment.js"
