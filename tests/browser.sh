#!/usr/bin/env bash
# The chat page in headless Chromium: several tabs on four workers reach WebSocket, and a killed
# worker costs its visitors one reconnect. Screenshots are kept in target/screenshots.
# seconds: 40
# limit: 400
. "$(dirname "$0")/lib.sh"
need_node

need_chromium

mkdir -p "$TMP/apps"
cp -r "$ROOT/apps/chat" "$TMP/apps/chat"
start_sidekeeper --apps "$TMP/apps" --workers 4

play browser.js "$URL" "$CHROMIUM" "$ROOT/target/screenshots"

step "sidekeeper stops"
stop_sidekeeper
same "$SK_STATUS" 0
