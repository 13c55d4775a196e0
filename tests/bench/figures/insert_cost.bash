# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# insert_cost: what the outbox costs the application. insert_time is the server's time for one INSERT into the outbox;
# insert_cost the time of a transaction of two small writes with such an INSERT as well, over that of the transaction
# without, at each flush. Eight connections share the server's commits.

figure insert_cost "an application's transaction with an INSERT into the outbox, over the same without"

insert_statement() {
    program insert.log "$bin/bench_statement" outbox --rounds "$(size 20 2)"
}

insert_at() {
    local lines
    lines=$(program insert.log "$bin/bench_insert" --pairs "$(rounds_at "$1" 5 3 1)" \
        --turn-ms "$(rounds_at "$1" 4000 2500 300)") || return 1
    keep insert_rates "$lines"
    # Transactions per second: without over with is the cost of one.
    result "insert_cost$1" ratio "$([ "$1" != _4ms ] || echo "at most 1.15")" \
        "without $(typical insert_rates 1)/s, with $(typical insert_rates 2)/s, 8 connections" \
        $(awk '{ printf "%.6f\n", $1 / $2 }' <<<"$lines")
}

measure_insert_cost() {
    sql "TRUNCATE obx_bench.outbox" || return 1
    in_turns "$(size 3 1)" insert_statement || return 1
    result insert_time us "" "an INSERT of 256 bytes $(typical insert_statement 2) us, of which the round trip takes \
$(typical insert_statement 3) us" $(values insert_statement) || return 1
    at_each_flush insert_at
}
