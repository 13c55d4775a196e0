# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# check_rate: half-messages per second that check-back asks a fast local producer about, and decides.

figure check_rate "check-backs per second against a fast local producer"

# All due when the relay starts; the rate is between the first verdict and the last, by the database's clock.
check_turn() {
    local rows=$1 left=1
    half_clear || return 1
    sql "SET SESSION max_recursive_iterations = 1000000;
         INSERT INTO obx_bench.half_message (gid, producer, next_check_at) WITH RECURSIVE n AS (SELECT 0 AS i
         UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $rows) SELECT CONCAT('c-', i), 'bench', UTC_TIMESTAMP(6) FROM n;
         INSERT INTO obx_bench.half_part (gid, topic, payload) SELECT gid, 'bench', gid FROM obx_bench.half_message" ||
        return 1
    with_half check_wait || return 1
    sql "SELECT COUNT(*) / (TIMESTAMPDIFF(MICROSECOND, MIN(decided_at), MAX(decided_at)) / 1000000)
         FROM obx_bench.half_message WHERE decided_by = 'check'"
}

check_wait() {
    for _ in $(seq 600); do
        left=$(sql "SELECT COUNT(*) FROM obx_bench.half_message WHERE state = 'prepared'") || return 1
        [ "$left" != 0 ] || return 0
        sleep 0.1
    done
    note "FAILED: $left half-messages are not decided"
    return 1
}

check_run() {
    check_turn "$(size 20000 500)"
}

measure_check_rate() {
    with_answers in_turns "$(size 3 1)" check_run || return 1
    result check_rate "per second" "at least 2000" "asked, answered and decided with a message each" $(values check_run)
}
