#!/usr/bin/env bash
# The structure of the code, checked by reading it: which room may name which, where `unsafe` may
# stand, how long files are, what is not to be said. Needs no build, except to compare the README
# with --help.

set -uo pipefail
cd "$(dirname "$0")/.."
FAILED=0

# verdict NAME FINDINGS: no findings means well.
verdict() {
    if [ -z "$2" ]; then
        echo "ok - $1"
    else
        echo "not ok - $1"
        sed 's/^/#   /' <<<"$2" >&2
        FAILED=1
    fi
}

# A room may use only rooms with a lower rank; two of the same rank do not know each other.
rank_of() {
    case $1 in
    main) echo 12 ;;
    lib) echo 9 ;;
    cli | run) echo 11 ;;
    console) echo 10 ;;
    config) echo 9 ;;
    server) echo 8 ;;
    admin | proxy) echo 7 ;;
    route | fleet) echo 6 ;;
    roster) echo 5 ;;
    gauges) echo 4 ;;
    http | journal) echo 3 ;;
    sys) echo 2 ;;
    json | channel | order) echo 1 ;;
    esac
}

room_of() {
    local room=${1#front/}
    room=${room#src/}
    room=${room%%/*}
    echo "${room%.rs}"
}

# Every room that a file names, whether as `crate::room::x`, as `front::room::x` or inside `crate::{a, b::c}`.
rooms_named_in() {
    sed -E 's,//.*,,' "$1" | tr '\n' ' ' | grep -oE '\b(crate|front)::(\{[^;]*;|[a-z_]+)' | sed 's/^front::/crate::/' | while read -r path; do
        case $path in
        'crate::{'*)
            # Inner braces go first, so that only the rooms' names stand before a comma or a colon.
            path=${path#'crate::{'}
            while [[ $path =~ ^(.*)\{[^{}]*\}(.*)$ ]] && [[ ${BASH_REMATCH[1]} == *::* ]]; do
                path=${BASH_REMATCH[1]}${BASH_REMATCH[2]}
            done
            tr -d '}; ' <<<"$path" | tr ',' '\n' | sed 's/::.*//'
            ;;
        *) echo "${path#crate::}" ;;
        esac
    done | grep . | sort -u
}

upward() {
    local file room own named rank
    for file in $(git ls-files 'src/*.rs' 'front/src/*.rs'; git ls-files -o --exclude-standard 'src/*.rs' 'front/src/*.rs'); do
        [ -f "$file" ] || continue
        room=$(room_of "$file")
        own=$(rank_of "$room")
        if [ -z "$own" ]; then
            echo "$file: the room $room has no rank in tests/tidy.sh"
            continue
        fi
        for named in $(rooms_named_in "$file"); do
            rank=$(rank_of "$named")
            [ -n "$rank" ] && [ "$named" != "$room" ] || continue
            [ "$rank" -lt "$own" ] || echo "$file: $room must not use $named"
            [ "$named" = fleet ] && [ "$room" = proxy ] && echo "$file: proxy must not name fleet"
        done
    done
}
verdict "rooms use only rooms below them" "$(upward)"

rust_files() { git ls-files '*.rs'; git ls-files -o --exclude-standard '*.rs'; }
code() { sed -E 's,^[[:space:]]*//.*,,; s,[[:space:]]//[^"]*$,,' "$1"; }

unsafe_outside() {
    local file count
    for file in $(rust_files); do
        case $file in front/src/sys/*) continue ;; esac
        count=$(code "$file" | grep -cE '\bunsafe\b')
        # The echo app takes over the listener's descriptor: one call, in one function.
        [ "$file" = apps/echo/src/wire.rs ] && count=$((count - 1))
        [ "$count" -le 0 ] || echo "$file: $count lines with unsafe"
    done
}
verdict "unsafe stands in front/src/sys alone" "$(unsafe_outside)"

safety() {
    local file
    for file in $(rust_files); do
        [ -f "$file" ] && awk -v file="$file" '
            /SAFETY:/ { said = NR }
            /^[[:space:]]*\/\// { if (said == NR - 1) said = NR }
            /unsafe (\{|impl)/ && !/^[[:space:]]*\/\// { if (NR - said > 3) print file ":" NR ": no SAFETY sentence" }
        ' "$file"
    done
}
verdict "every unsafe block says why it is sound" "$(safety)"

headers() {
    local file
    for file in $(rust_files); do
        [ ! -s "$file" ] || head -n 1 "$file" | grep -q '^//!' || echo "$file"
    done
}
verdict "every file begins with what it is for" "$(headers)"

names() {
    git ls-files | grep -E '(^|/)(utils?|misc|common|helpers?)(\.[a-z]+)?(/|$)'
    git grep -nE '(struct|enum|trait|mod) +([A-Za-z]*Manager|utils?|misc|common|helpers?)\b' -- '*.rs'
}
verdict "no names that say nothing" "$(names)"

texts() {
    git grep -nIE '/wor[k]/|registry\.npm|deb\.debian|static\.rust|files\.pythonhosted' -- ':!Cargo.lock'
    git grep -nIiE '\bissue [0-9]+' -- '*.rs' '*.sh' '*.js' '*.cjs' '*.mjs'
}
verdict "the texts speak of the product alone" "$(texts)"

executables() {
    local file
    for file in tests/run tests/tidy.sh .ci/run; do [ -x "$file" ] || echo "$file is not executable"; done
}
verdict "scripts are executable" "$(executables)"

syntax() {
    local file
    for file in tests/*.sh tests/run .ci/run; do bash -n "$file" 2>&1; done
}
verdict "scripts are valid" "$(syntax)"

# Long files are only pointed out: what matters is that one can hold a file in the head.
for file in $(rust_files); do
    lines=$(sed '/^#\[cfg(test)\]/,$d' "$file" | code /dev/stdin | grep -c .)
    [ "$lines" -le 500 ] || echo "# $file has $lines lines of code" >&2
done

# ---- README and --help ---------------------------------------------------------------------------

newest() { ls -t target/{x86_64-unknown-linux-musl/release,release,debug}/sidekeeper 2>/dev/null | head -n 1; }
BINARY=${SIDEKEEPER:-$(newest)}

options_of_help() { "$BINARY" run --help 2>/dev/null | grep -oE '^ +(-[a-zA-Z], )?--[a-z-]+' | grep -oE -- '--[a-z-]+' | grep -vx -- --help | sort -u; }
options_of_readme() { grep -oE '^\| *`--[a-z-]+' README.md | grep -oE -- '--[a-z-]+' | grep -vxE -- '--(help|version)' | sort -u; }

if ! [ -f README.md ] || ! [ -x "$BINARY" ] || [ -z "$(options_of_help)" ]; then
    echo "skip - README's option table is --help's # there is no README or no build yet"
else
    verdict "README's option table is --help's" "$(diff <(options_of_readme) <(options_of_help) | grep '^[<>]' |
        sed 's/^</only in README.md:/; s/^>/only in --help:/')"
fi

# Files that are named relative to the document, and those that the README names.
dead_links() {
    local file link
    for file in README.md ARCHITECTURE.md docs/*.md tests/bench/*.md; do
        grep -ohE '\]\([^)#: ]+' "$file" | sed 's/](//' | sort -u | while read -r link; do
            [ -e "$(dirname "$file")/$link" ] || echo "$file: $link"
        done
    done
}
verdict "links in documents lead somewhere" "$(dead_links)"

exit $FAILED
