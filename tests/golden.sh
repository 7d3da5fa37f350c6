#!/usr/bin/env bash
# What the commands print, compared with the files of tests/golden; figures that differ from run to run are
# made the same first. UPDATE_GOLDEN=1 writes the files anew, to be looked at before they are committed.
# seconds: 20
. "$(dirname "$0")/lib.sh"

GOLDEN=$ROOT/tests/golden
ask() { "$SIDEKEEPER" "$@" --run-dir "$SK_DIR/run" 2>&1 || printf '(exit code %s)\n' $?; }

# Digits give way to letters, words of states and names stay; runs of blanks are one.
steady() {
    sed -E \
        -e "s#$ROOT#ROOT#g; s#$TMP#TMP#g" \
        -e 's#ROOT/target/[a-z0-9_/-]*/echo#ECHO#g' \
        -e 's/127\.0\.0\.1:[0-9]+/127.0.0.1:PORT/g' \
        -e 's/pid [0-9]+/pid N/g; s/stopping sidekeeper [0-9]+/stopping sidekeeper N/; s/process [0-9]+/process N/; s/up [0-9]+ ?(s|min)/up T/' \
        -e 's/\b[0-9a-hjkmnp-tv-z]{20}\b/ID/g' \
        -e 's/[0-9]+(\.[0-9]+)? ?(ms|us|s|min)\b/T/g' \
        -e 's/[0-9]+(\.[0-9]+)? (KiB|MiB|GiB)/MEM/g; s/\b[0-9]+%/CPU/g; s/ - +MEM/ CPU MEM/' \
        -e 's/^((echo|spare)\.[0-9]+ +)[0-9]+ /\1PID /' \
        -e 's/ +/ /g; s/ $//; s/^ (AGE|T) /\1 /'
}

# golden NAME: what comes in is what the file says.
golden() {
    local file=$GOLDEN/$1.txt got
    got=$(steady)
    if [ "${UPDATE_GOLDEN:-}" = 1 ]; then
        printf '%s\n' "$got" >"$file"
        return
    fi
    [ -f "$file" ] || { note "no $file; UPDATE_GOLDEN=1 writes it"; return 1; }
    diff -u --label "wanted: tests/golden/$1.txt" --label got "$file" <(printf '%s\n' "$got") >&2
}

helps() {
    "$SIDEKEEPER" --help | golden help
    local command
    for command in $("$SIDEKEEPER" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z]*\).*/\1/p' | sort -u); do
        [ "$command" != run ] && [ "$command" != check ] || continue
        "$SIDEKEEPER" "$command" --help | golden "help-$command"
    done
}
check "the help of every command" helps

nobody() {
    SK_DIR=$TMP/none
    for command in status "why x" "scale a 1" reload stop; do ask $command; done | golden no-instance
}
check "no instance" nobody

slips() {
    local words
    while IFS= read -r words; do
        printf '$ sidekeeper %s\n' "$words"
        # shellcheck disable=SC2086
        "$SIDEKEEPER" $words 2>&1 || printf '(exit code %s)\n' $?
    done <<'WORDS' | golden slips
statsu
status --wacth
run --lisen 127.0.0.1:0
run --listen nowhere
run --apps /no/such/folder
run --config /no/such/file
run --head-bytes-max 12
logs a b
scale chat
why
WORDS
}
check "slips of the command line" slips

app echo "{\"path\": \"/\", \"workers\": 2, \"session_cookies\": [\"session\"], \"command\": [\"$ECHO_APP\"]}"
app spare "{\"workers\": 1, \"path\": \"/spare\", \"command\": [\"$ECHO_APP\"]}"
(cd "$TMP" && "$SIDEKEEPER" check --listen 127.0.0.1:0 --threads 2 2>&1) >"$TMP/check"
checked() { golden check <"$TMP/check"; }
check "check" checked
step "an instance"
start_sidekeeper

quiet() {
    ask status | golden status
    ask sessions | golden sessions
    ask requests | golden requests-none
    ask why 127.0.0.1 | golden why-address
    ask why nobody | golden why-nobody
    ask logs spare | golden logs
}
check "commands that look, at an instance that does nothing" quiet

waits() { ask requests | grep -q sent; }
under_way() {
    get '/slow?ms=4000' >/dev/null &
    wait_for "a request under way" 10 waits
    ask requests | golden requests
    wait $!
}
check "requests" under_way

steering() {
    ask restart spare | golden restart
    ask scale spare 2 | golden scale-up
    ask scale spare 1 | golden scale-down
    ask reload spare | golden reload
    ask drain echo.1 | sed '/left$/d; /connection/d' | golden drain
    ask start echo | golden start
    ask restart nobody | golden wrong-name
    ask scale echo many | golden wrong-number
}
check "commands that steer" steering

ends() {
    ask stop | golden stop
    SK_PID=
}
check "stop" ends
