# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# apply_rate: what consumer-lib gains by sharing commits. Both sides do the same for each message: the dedup row
# and one small UPDATE; the yardstick commits and acknowledges each one.

figure apply_rate "messages applied by one consumer process, over one commit per message"

apply_library() {
    local fields
    fields=$(program apply.log "$bin/bench_apply" --database obx_bench --messages "$(size 50000 1000)") || return 1
    echo "${fields#rate }"
}

apply_one_by_one() {
    local fields
    fields=$(program apply.log "$bin/bench_apply" --database obx_bench --messages "$(size 3000 100)" --one-per-commit) || return 1
    echo "${fields#rate }"
}

measure_apply_rate() {
    in_turns "$(size 3 1)" apply_library apply_one_by_one || return 1
    result apply_rate ratio "at least 15" \
        "library $(typical apply_library)/s over one by one $(typical apply_one_by_one)/s" \
        $(ratios apply_library apply_one_by_one)
}
