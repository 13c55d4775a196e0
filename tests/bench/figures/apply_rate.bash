# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# apply_rate: what consumer-lib gains by sharing commits. Both sides do the same for each message: the dedup row
# and one small UPDATE; the yardstick commits and acknowledges each one. What is shared is the flush, so it is given at
# flushes of 1 and 4 ms too.

figure apply_rate "messages applied by one consumer process, over one commit per message"

apply_library() {
    local fields
    fields=$(program apply.log "$bin/bench_apply" --database obx_bench \
        --messages "$(rounds_at "$apply_flush" 50000 25000 1000)") || return 1
    echo "${fields#rate }"
}

apply_one_by_one() {
    local fields
    fields=$(program apply.log "$bin/bench_apply" --database obx_bench --one-per-commit \
        --messages "$(rounds_at "$apply_flush" 3000 500 100)") || return 1
    echo "${fields#rate }"
}

apply_at() {
    local target
    apply_flush=$1
    case $1 in
    '') target="at least 5" ;;
    _1ms) target="at least 12" ;;
    *) target="" ;;
    esac
    in_turns "$(size 3 1)" apply_library apply_one_by_one || return 1
    result "apply_rate$1" ratio "$target" \
        "library $(typical apply_library)/s over one by one $(typical apply_one_by_one)/s" \
        $(ratios apply_library apply_one_by_one)
}

measure_apply_rate() {
    at_each_flush apply_at
}
