#!/usr/bin/env bash
# Replays what the fuzzers have kept and found, then lets each go on for a moment with dice that
# always fall the same. `make fuzz SECONDS=600` fuzzes in earnest.
# seconds: 20
# limit: 300

. "$(dirname "$0")/lib.sh"

command -v cargo >/dev/null || skip_rest "there is no cargo to build the fuzzers with"
FUZZ=$ROOT/target/fuzz/debug/fuzz
build() { cargo build --quiet --manifest-path "$ROOT/tests/fuzz/Cargo.toml" --target-dir "$ROOT/target/fuzz"; }
check "the fuzzers build" build

# A copy: what is found while a test runs is shown, not written down.
cp -r "$ROOT/tests/fuzz/corpus" "$TMP/corpus"
fuzz() { TMPDIR=$TMP "$FUZZ" --corpus "$TMP/corpus" --sidekeeper "$SIDEKEEPER" "$@" | tee "$TMP/fuzz.out"; }
for target in request response chunks connection answer; do
    check "$target: corpus and two seconds more" fuzz --seconds 2 "$target"
    note "$(grep -m 1 runs "$TMP/fuzz.out")"
done
