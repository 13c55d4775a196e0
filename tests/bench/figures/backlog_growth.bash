# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# backlog_growth: whether a large backlog is slower to drain. The first 100,000 rows of a table of 2,000,000 against
# a table that has no more than those.

figure backlog_growth "drain rate with 2,000,000 rows waiting, over that with 100,000"

# backlog_rate TABLE ROWS: the rate at which the first rows of a table of so many are drained.
backlog_rate() {
    local fields
    fill "$1" "$2" || return 1
    fields=$(drain "$1" "$(size 100000 1000)") || return 1
    echo "${fields% *}"
}

backlog_large() {
    backlog_rate outbox_big "$(size 2000000 5000)"
}

backlog_small() {
    backlog_rate outbox "$(size 100000 1000)"
}

measure_backlog_growth() {
    sql "TRUNCATE obx_bench.outbox; TRUNCATE obx_bench.outbox_big" || return 1
    in_turns "$(size 3 1)" backlog_large backlog_small || return 1
    result backlog_growth ratio "at least 0.90" \
        "$(typical backlog_large)/s with $(size 2000000 5000) rows over $(typical backlog_small)/s" \
        $(ratios backlog_large backlog_small)
}
