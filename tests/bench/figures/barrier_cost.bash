# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# barrier_cost: what the barrier row costs a local transaction of two statements, from 8 connections. The program
# takes the turns itself.

figure barrier_cost "a local transaction with the barrier row over the same without it"

measure_barrier_cost() {
    local lines
    lines=$(program barrier.log "$bin/bench_half" barrier --pairs "$(size 7 2)" --ms "$(size 2000 300)") || return 1
    keep barrier "$lines"
    result barrier_cost ratio "at most 1.10" \
        "time of one with it over one without: $(typical barrier)/s without, $(typical barrier 2)/s with" \
        $(awk 'NF == 2 { printf "%.6f\n", $1 / $2 }' <<<"$lines")
}
