# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# delayed_cost: the relay's drain with a million delayed messages waiting, over the same with none. The table with
# the million and an empty one change places between the turns.

figure delayed_cost "drain rate with 1,000,000 delayed rows waiting over none"

delayed_tables() {
    local rows
    rows=$(size 1000000 10000)
    fill outbox 1 --fresh 1 || return 1 # makes bench_numbers
    sql "USE obx_bench; DROP TABLE IF EXISTS delayed_none, delayed_full;
        CREATE TABLE delayed_full LIKE outbox_delayed;
        INSERT INTO delayed_full (topic, payload, deliver_at)
            SELECT 'bench', REPEAT('x', 256), UTC_TIMESTAMP(6) + INTERVAL 1 DAY + INTERVAL a.i SECOND
            FROM bench_numbers a JOIN bench_numbers b WHERE b.i < $rows / 10000 ORDER BY b.i, a.i"
}

drain_delayed_full() {
    local rc=0
    sql "USE obx_bench; RENAME TABLE outbox_delayed TO delayed_none, delayed_full TO outbox_delayed" || return 1
    drain_with_delayed || rc=1
    sql "USE obx_bench; RENAME TABLE outbox_delayed TO delayed_full, delayed_none TO outbox_delayed" || return 1
    return $rc
}

drain_with_delayed() {
    local rows fields
    rows=$(size 50000 1000)
    fill outbox "$rows" --fresh 1 || return 1
    fields=$(drain outbox "$rows") || return 1
    echo "${fields% *}"
}

measure_delayed_cost() {
    delayed_tables || return 1
    in_turns "$(size 5 1)" drain_delayed_full drain_with_delayed || return 1
    result delayed_cost ratio "at least 0.95" \
        "with a million waiting $(typical drain_delayed_full)/s over $(typical drain_with_delayed)/s" \
        $(ratios drain_delayed_full drain_with_delayed)
}
