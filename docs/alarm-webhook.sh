#!/bin/sh
# Tells a chat of sidekeeper's alarms, by a webhook that takes {"text": "..."} (Slack, Mattermost, Rocket.Chat,
# Google Chat; Discord takes it at its address with /slack behind). Needs curl.
#
#   export WEBHOOK_URL=https://chat.example.com/hooks/...
#   sidekeeper run --alarm-command /srv/alarm-webhook.sh
#
# What the variables say is in docs/alarms.md. sidekeeper does not start this folder: it holds no app.

set -eu
: "${WEBHOOK_URL:?say where the chat is: export WEBHOOK_URL=https://...}"

# json TEXT: as a string of JSON. Control characters become blanks.
json() {
    printf '"%s"' "$(printf %s "$1" | tr '\000-\037' ' ' | sed 's/\\/\\\\/g; s/"/\\"/g')"
}

host=$(uname -n)
case $SIDEKEEPER_ALARM_STATE in
raised) text="ALARM on $host: $SIDEKEEPER_ALARM_KIND of $SIDEKEEPER_ALARM_SUBJECT: $SIDEKEEPER_ALARM_TEXT" ;;
*) text="over on $host: $SIDEKEEPER_ALARM_KIND of $SIDEKEEPER_ALARM_SUBJECT, after $SIDEKEEPER_ALARM_SECONDS s" ;;
esac

# Less time than sidekeeper gives (30 s), so that curl can say what was wrong.
printf '{"text": %s}' "$(json "$text")" |
    curl --silent --show-error --fail --max-time 8 --retry 2 --retry-connrefused --retry-max-time 20 \
        --header 'Content-Type: application/json' --data-binary @- --output /dev/null "$WEBHOOK_URL"
