# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# barrier_cost: what the barrier row costs a local transaction of two statements, from 8 connections, at each flush;
# barrier_time: the server's time for the row. The program takes the turns itself.

figure barrier_cost "a local transaction with the barrier row over the same without it"

barrier_statement() {
    program barrier.log "$bin/bench_statement" barrier --rounds "$(size 20 2)"
}

barrier_at() {
    local lines
    lines=$(program barrier.log "$bin/bench_half" barrier --pairs "$(rounds_at "$1" 7 3 1)" \
        --ms "$(rounds_at "$1" 2000 2000 300)") || return 1
    keep barrier "$lines"
    result "barrier_cost$1" ratio "$([ "$1" != _4ms ] || echo "at most 1.10")" \
        "time of one with it over one without: $(typical barrier)/s without, $(typical barrier 2)/s with" \
        $(awk 'NF == 2 { printf "%.6f\n", $1 / $2 }' <<<"$lines")
}

measure_barrier_cost() {
    in_turns "$(size 3 1)" barrier_statement || return 1
    result barrier_time us "" "an INSERT of the row $(typical barrier_statement 2) us, of which the round trip takes \
$(typical barrier_statement 3) us" $(values barrier_statement) || return 1
    at_each_flush barrier_at
}
