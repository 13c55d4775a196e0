# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# half_rate, half_limit, half_async, half_latency: prepare + commit pairs over HTTP from 64 connections, beside one
# pair at a time, and beside the two statements straight in SQL from 64 connections (what the database's own group
# commit gives), at full load and at the half of it.

figure half "prepare + commit pairs over HTTP: half_rate, half_limit, half_async, half_latency"

half_many() {
    half_http "$(size 4000 400)" --connections 64
}

# A verdict that is answered when it is queued counts all the same only when it was applied: the rate is that of what
# the database has, and nothing may be missing.
half_soon() {
    local line open=1
    line=$(half_http "$(size 4000 400)" --connections 64 --async 1) || return 1
    for _ in $(seq 100); do
        open=$(sql "SELECT COUNT(*) FROM obx_bench.half_message WHERE state <> 'committed'") || return 1
        [ "$open" = 0 ] && break
        sleep 0.1
    done
    [ "$open" = 0 ] || { note "$open verdicts were not applied"; return 1; }
    echo "$line"
}

half_one() {
    half_http "$(size 3000 400)" --connections 1
}

half_straight() {
    half_sql sql --connections 64 --ms "$(size 4000 400)"
}

# Latencies at half the load that HTTP has just reached, on both sides.
half_load() {
    calculate "int($(median $(values half_many)) / 2)" | sed 's/\..*//'
}

half_calm() {
    half_http "$(size 4000 400)" --connections 64 --rate "$(half_load)"
}

half_straight_calm() {
    half_sql sql --connections 64 --ms "$(size 4000 400)" --rate "$(half_load)"
}

half_turns() {
    in_turns "$(size 3 1)" half_many half_soon half_one half_straight &&
        in_turns "$(size 3 1)" half_calm half_straight_calm
}

measure_half() {
    with_half half_turns || return 1
    result half_rate ratio "at least 20" \
        "64 connections $(typical half_many)/s over one pair at a time $(typical half_one)/s" \
        $(ratios half_many half_one) || return 1
    result half_limit ratio "at least 1.3" \
        "over HTTP $(typical half_many)/s over straight SQL $(typical half_straight)/s" \
        $(ratios half_many half_straight) || return 1
    result half_async ratio "at least 1.8" \
        "verdicts that do not wait $(typical half_soon)/s over straight SQL $(typical half_straight)/s" \
        $(ratios half_soon half_straight) || return 1
    result half_latency ratio "at most 1.5" \
        "at $(typical half_calm) pairs/s: p99 of prepare $(typical half_calm 3) us over p99 of its INSERT in SQL $(typical half_straight_calm 3) us" \
        $(ratios half_calm half_straight_calm 3)
}
