#!/usr/bin/env bash
# The chat page in headless Chromium: several tabs on four workers reach WebSocket, and a killed
# worker costs its visitors one reconnect. Screenshots are kept in target/screenshots.
# seconds: 40
# limit: 400
. "$(dirname "$0")/lib.sh"
need_node

CHROMIUM=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$CHROMIUM" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    note "installing chromium"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } \
        >"$TMP/apt" 2>&1 || tail -n 3 "$TMP/apt" >&2
    CHROMIUM=$(command -v chromium || true)
fi
[ -n "$CHROMIUM" ] || skip_rest "there is no Chromium here, and only root can install it"
[ -d "$ROOT/tests/node_modules/playwright-core" ] || skip_rest "playwright-core is not installed (make test-packages)"

mkdir -p "$TMP/apps" "$ROOT/target/screenshots" "$TMP/home"
cp -r "$ROOT/apps/chat" "$TMP/apps/chat"
start_sidekeeper --apps "$TMP/apps" --workers 4

# Names a failure and takes its details with it; the browser asks us to kill a worker.
export HOME=$TMP/home XDG_RUNTIME_DIR=$TMP/home
coproc BROWSER { exec node "$ROOT/tests/fixtures/browser.js" "$URL" "$CHROMIUM" "$ROOT/target/screenshots" 2>"$TMP/browser.err"; }
browser=$BROWSER_PID
exec {from}<&"${BROWSER[0]}" {to}>&"${BROWSER[1]}"
while read -r -t 60 -u "$from" line; do
    case $line in
    ok\ *) passed "${line#ok }" ;;
    not\ ok\ *) failed "${line#not ok }" ;;
    kill\ *)
        kill -KILL "${line#kill }"
        echo killed >&"$to"
        ;;
    *) note "$line" ;;
    esac
done
exec {from}<&- {to}>&-
code=0
wait "$browser" || code=$?
step "the browser ends well"
[ "$FAILED" != 0 ] || same "$code" 0
[ "$code" = 0 ] || tail -n 5 "$TMP/browser.err" >&2

step "sidekeeper stops"
stop_sidekeeper
same "$SK_STATUS" 0
