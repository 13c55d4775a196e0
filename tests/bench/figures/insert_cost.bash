# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# insert_cost: what the outbox costs the application: the time of a transaction of two small writes with an INSERT
# into the outbox as well, over that of the transaction without. Eight connections share the server's commits.

figure insert_cost "an application's transaction with an INSERT into the outbox, over the same without"

measure_insert_cost() {
    local lines
    sql "TRUNCATE obx_bench.outbox" || return 1
    lines=$(program insert.log "$bin/bench_insert" --pairs "$(size 5 1)" --turn-ms "$(size 4000 300)") || return 1
    keep insert_rates "$lines"
    # Transactions per second: without over with is the cost of one.
    result insert_cost ratio "at most 1.15" \
        "without $(typical insert_rates 1)/s, with $(typical insert_rates 2)/s, 8 connections" \
        $(awk '{ printf "%.6f\n", $1 / $2 }' <<<"$lines")
}
