# Completion of sidekeeper for bash.
_sidekeeper() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=run words=
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        # Behind the dashes stands the app's own command.
        [[ ${COMP_WORDS[i]} == -- ]] && return
    done
    [[ $COMP_CWORD -gt 1 && ${COMP_WORDS[1]} != -* ]] && command=${COMP_WORDS[1]}
    COMPREPLY=()
    case $before in
        --apps|--run-dir|--log-dir) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
        --config|--dashboard-token-file|--address-file|--pid-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        --log-level) mapfile -t COMPREPLY < <(compgen -W 'error warn info debug trace' -- "$word"); return ;;
        --env|--workers|--workers-max|--memory-reserve|--listen|--trusted-proxy|--dashboard|--user|--access-log|--access-log-format|--access-log-query|--error-details|--request-id-to|--log-output|--log-format|--log-date-format|--log-file-bytes-max|--log-rotate-every|--log-files-max|--log-total-bytes-max|--log-compress|--log-rotated-date|--alarm-command|--alarm-latency|--alarm-errors|--alarm-cpu|--threads|--relay-threads-max|--connections-max|--connections-per-client-max|--tunnels-max|--sessions-max|--requests-per-connection-max|--head-bytes-max|--head-fields-max|--target-bytes-max|--body-bytes-max|--head-timeout|--body-timeout|--connect-timeout|--answer-timeout|--keepalive-timeout|--upstream-idle-timeout|--tunnel-idle-timeout|--write-timeout|--half-close-timeout|--shutdown-timeout) return ;;
    esac
    case $command in
        run|check) words='--apps --config --env --workers --workers-max --memory-reserve --listen --trusted-proxy --dashboard --dashboard-token-file --run-dir --address-file --pid-file --user --access-log --access-log-format --access-log-query --error-details --request-id-to --log-level --log-output --log-dir --log-format --log-date-format --log-file-bytes-max --log-rotate-every --log-files-max --log-total-bytes-max --log-compress --log-rotated-date --alarm-command --alarm-latency --alarm-errors --alarm-cpu --threads --relay-threads-max --connections-max --connections-per-client-max --tunnels-max --sessions-max --requests-per-connection-max --head-bytes-max --head-fields-max --target-bytes-max --body-bytes-max --head-timeout --body-timeout --connect-timeout --answer-timeout --keepalive-timeout --upstream-idle-timeout --tunnel-idle-timeout --write-timeout --half-close-timeout --shutdown-timeout --help' ;;
        status) words='--watch --json --run-dir --help' ;;
        top) words='--json --run-dir --help' ;;
        alarms) words='--json --run-dir --help' ;;
        logs) words='--follow --json --run-dir --help' ;;
        sessions) words='--json --run-dir --help' ;;
        requests) words='--watch --json --run-dir --help' ;;
        why) words='--json --run-dir --help' ;;
        restart) words='--json --run-dir --help' ;;
        reload) words='--json --run-dir --help' ;;
        scale) words='--json --run-dir --help' ;;
        drain) words='--json --run-dir --help' ;;
        start) words='--json --run-dir --help' ;;
        upgrade) words='--json --run-dir --help' ;;
        stop) words='--json --run-dir --help' ;;
        version) words='--json --run-dir --help' ;;
        init) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
        help) words='run check init status top alarms logs sessions requests why restart reload scale drain start upgrade stop version' ;;
    esac
    [[ $COMP_CWORD == 1 ]] && words="run check init status top alarms logs sessions requests why restart reload scale drain start upgrade stop version $words --version"
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _sidekeeper sidekeeper
