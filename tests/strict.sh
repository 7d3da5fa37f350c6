#!/usr/bin/env bash
# Every rule of HTTP/1.1 by raw bytes: the tables in tests/strict, whose first lines say how to read
# them, played against one sidekeeper from both sides, as its clients and as its worker.
# seconds: 25
#
# tests/strict.sh WORD...   plays only the cases whose group, name or file:line holds a word.
. "$(dirname "$0")/lib.sh"

command -v python3 >/dev/null || skip_rest "python3 is not installed"

# The worker's process only tells where its socket has to be; the player listens there itself.
tell_socket='printf "%s\n" "$1" >"$2" && exec sleep 3600'

launch_sidekeeper --threads 1 --workers 1 --head-fields-max 100 --head-bytes-max 16k \
    --target-bytes-max 8k --body-bytes-max 1m --half-close-timeout 1 --head-timeout 2 \
    --body-timeout 2 --answer-timeout 3 \
    -- sh -c "$tell_socket" sh '{socket}' "$TMP/socket"

# It prints a line for every case, as the runner wants them.
python3 "$ROOT/tests/strict/run.py" "$SK_PID" "$TMP/socket" "$SK_DIR/address" "$@" || FAILED=1
