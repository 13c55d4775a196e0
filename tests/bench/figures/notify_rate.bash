# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# notify_rate: calls of inbox-relay to a fast endpoint on this machine, signed, each result written. The endpoint
# and the database share the machine's processors with it.

figure notify_rate "calls a second of inbox-relay to a fast local endpoint"

notify_calls() {
    local fields status=0
    fields=$(program notify.log "$bin/bench_notify" --calls "$(size 20000 500)" --config "$out/notify.conf" \
        --log "$out/log/inbox-relay.log" -- "$root/build/release/consumer-lib/inbox-relay/inbox-relay") || status=1
    rm -f "$out/notify.conf"
    program queue.log "$bin/bench_queue" delete obx-bench-notify || return 1
    [ $status = 0 ] || return 1
    # shellcheck disable=SC2086
    set -- $fields
    echo "$3"
}

measure_notify_rate() {
    in_turns "$(size 3 1)" notify_calls || return 1
    result notify_rate "calls/s" "at least 2000" "bodies of 256 B, signed, 64 at once" $(values notify_calls)
}
