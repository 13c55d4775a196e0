# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# relay_latency: from COMMIT to the broker's confirm, at 200 messages a second, seen from outside by a tap on the
# relay's line to the broker; over the time of one confirm for a bare publisher at the same rate. The limit for the
# median is made of the bare publisher's median in the same run.

figure relay_latency "commit to the broker's confirm at 200 messages/s, without and with the doorbell"

# latency_relay DOORBELL [OPTION...]: p50 and p99 in milliseconds.
latency_relay() {
    local port fields bell=$out/bell
    port=$((OBX_TEST_AMQP_PORT + 1))
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        port=$((port + 1))
    done
    fresh_queue || return 1
    sql "TRUNCATE obx_bench.outbox" || return 1
    rm -f "$bell"
    relay_config "$out/relay.conf" outbox "$port" "doorbell_socket = $bell" || return 1
    fields=$(program latency.log "$bin/bench_latency" --tap-port "$port" --messages "$(size 2000 200)" \
        --warmup 200 --log "$out/log/relay.log" "$@" -- "$relay_bin" --config "$out/relay.conf") || return 1
    awk '{ printf "%.3f %.3f\n", $1 / 1000, $2 / 1000 }' <<<"$fields"
}

latency_polled() {
    latency_relay
}

latency_rung() {
    latency_relay --doorbell "$out/bell"
}

latency_bare() {
    fresh_queue || return 1
    program bare.log "$bin/bare_publisher" --queue "$queue" --rate 200 --count "$(size 2000 200)" --size 256 |
        awk '{ printf "%s%.3f", sep, $2 / 1000; sep = " " } END { print "" }'
}

# latency_result NAME FUNCTION FACTOR ADDED_MS: the two quantiles of one way to notice rows.
latency_result() {
    local name=$1 function=$2 bare limit
    bare=$(median $(values latency_bare 1)) || return 1
    limit=$(printf '%.2f' "$(calculate "$bare * $3 + $4")")
    result "${name}_p50" ms "at most $limit ($3 x bare + $4 ms)" "bare $(tidy "$bare") ms" $(values "$function" 1) ||
        return 1
    result "${name}_p99" ms "" "bare $(typical latency_bare 2) ms, $(tidy "$(median $(ratios "$function" latency_bare 2))") times" \
        $(values "$function" 2)
}

measure_relay_latency() {
    in_turns "$(size 3 1)" latency_bare latency_polled latency_rung || return 1
    delete_queue || return 1
    latency_result relay_latency latency_polled 2 2 || return 1
    latency_result relay_latency_bell latency_rung 1.5 1
}
