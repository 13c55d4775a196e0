# shellcheck shell=bash
# shellcheck disable=SC2154  # the variables are set by tests/bench/run and lib/programs.bash
# A relay with the half-message role, for the figures that are about it. Sourced by tests/bench/run.

half_token=a-token-of-the-benchmarks
half_pid='' half_port='' answer_pid=''

# with_half COMMAND...: runs it while the relay serves half-messages on $half_port; the messages that they become go
# into a table that no lane drains, so that nothing else is measured.
with_half() {
    local status=0
    half_start || return 1
    "$@" || status=1
    half_stop || return 1
    return $status
}

half_start() {
    local log=$out/log/half-relay.log
    half_port=$(free_port) || return 1
    relay_config "$out/relay.conf" outbox "$OBX_TEST_AMQP_PORT" || return 1
    {
        printf '[half]\nsource = bench\noutbox = outbox_big\nhttp_port = %s\ntoken = %s\n' "$half_port" "$half_token"
        printf '[producer bench]\n'
        if [ -n "${answer_port-}" ]; then
            printf 'url = http://127.0.0.1:%s/check\nconcurrency = 128\n' "$answer_port"
        else
            printf 'check = none\n'
        fi
    } >>"$out/relay.conf"
    "$relay_bin" --config "$out/relay.conf" >"$log" 2>&1 </dev/null 8>&- &
    half_pid=$!
    for _ in $(seq 200); do
        grep -q 'half api.listening' "$log" && half_answers && return 0
        kill -0 $half_pid 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$log" >&2
    note "FAILED: the relay does not serve half-messages"
    return 1
}

# Whether the API and the database behind it are there: an unknown gid is known to be unknown.
half_answers() {
    (
        exec 3<>"/dev/tcp/127.0.0.1/$half_port" || exit 1
        printf 'GET /v1/half-messages/nobody HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n' \
            "$half_token" >&3
        timeout 5 cat <&3
    ) 2>/dev/null | grep -q ' 404 '
}

half_stop() {
    kill -TERM $half_pid && wait $half_pid
}

# A port that nobody listens on, from below the range that clients are given.
free_port() {
    local port
    for port in $(shuf -i 20000-30000 -n 20); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return 0; }
    done
    return 1
}

# with_answers COMMAND...: runs it while a fast check address listens on $answer_port.
with_answers() {
    local status=0 fd
    exec {fd}< <(exec "$bin/bench_answer" 8>&-)
    answer_pid=$!
    read -r answer_port <&"$fd" || return 1
    "$@" || status=1
    kill $answer_pid
    answer_port=''
    exec {fd}<&-
    return $status
}

# Empties the tables of half-messages, so that every turn begins the same.
half_clear() {
    sql "TRUNCATE obx_bench.half_message; TRUNCATE obx_bench.half_part; TRUNCATE obx_bench.outbox_big"
}

# half_http ROUNDS_MS [OPTION...]: "pairs_per_second p50_us p99_us" over HTTP.
half_http() {
    local ms=$1
    shift
    half_clear || return 1
    program half.log "$bin/bench_half" http --port "$half_port" --token "$half_token" --ms "$ms" "$@"
}

half_sql() {
    half_clear || return 1
    program half.log "$bin/bench_half" "$@"
}
