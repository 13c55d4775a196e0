# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# apply_batch: what a batch handler gains on top. The same effect as apply_rate's, by one multi-row statement for the
# messages of a batch; the yardstick commits and acknowledges each one.

figure apply_batch "messages applied by a batch handler, over one commit per message"

apply_many() {
    local fields
    fields=$(program apply.log "$bin/bench_apply" --database obx_bench --many --messages "$(size 100000 1000)") || return 1
    echo "${fields#rate }"
}

apply_each() {
    local fields
    fields=$(program apply.log "$bin/bench_apply" --database obx_bench --one-per-commit --messages "$(size 3000 100)") ||
        return 1
    echo "${fields#rate }"
}

measure_apply_batch() {
    in_turns "$(size 3 1)" apply_many apply_each || return 1
    result apply_batch ratio "at least 15" \
        "batch handler $(typical apply_many)/s over one by one $(typical apply_each)/s" \
        $(ratios apply_many apply_each)
}
