# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# half_rate, half_limit, half_latency: prepare + commit pairs over HTTP from 64 connections, beside one pair at a
# time, beside the two statements straight in SQL from 64 connections (what the database's own group commit gives),
# and beside one commit.

figure half "prepare + commit pairs over HTTP: half_rate, half_limit, half_latency, at each flush"

half_many() {
    half_http "$(rounds_at "$half_flush" 4000 2500 400)" --connections 64
}

half_one() {
    half_http "$(rounds_at "$half_flush" 3000 2000 400)" --connections 1
}

half_straight() {
    half_sql sql --connections 64 --ms "$(rounds_at "$half_flush" 4000 2500 400)"
}

half_commit() {
    half_sql commit --ms "$(rounds_at "$half_flush" 2000 1000 300)"
}

# Latencies at half the load that was just reached.
half_calm() {
    half_http "$(rounds_at "$half_flush" 4000 2500 400)" --connections 64 --rate "$(calculate "int($(median $(values half_many)) / 2)" | sed 's/\..*//')"
}

half_turns() {
    in_turns "$(rounds_at "$half_flush" 3 2 1)" half_many half_one half_straight &&
        in_turns "$(rounds_at "$half_flush" 3 2 1)" half_calm half_commit
}

# The targets are for flushes as they are; the others say what is different on another disk.
half_at() {
    half_flush=$1
    half_turns || return 1
    result "half_rate$1" ratio "$([ -n "$1" ] || echo "at least 20")" \
        "64 connections $(typical half_many)/s over one pair at a time $(typical half_one)/s" \
        $(ratios half_many half_one) || return 1
    result "half_limit$1" ratio "$([ -n "$1" ] || echo "at least 1.0")" \
        "over HTTP $(typical half_many)/s over straight SQL $(typical half_straight)/s" \
        $(ratios half_many half_straight) || return 1
    result "half_latency$1" ratio "$([ -n "$1" ] || echo "at most 3")" \
        "p99 of prepare $(typical half_calm 3) us over one commit $(typical half_commit 2) us" \
        $(paste -d ' ' <(values half_calm 3) <(values half_commit 2) | awk '{ printf "%.6f\n", $1 / $2 }')
}

measure_half() {
    with_half at_each_flush half_at
}
