# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# apply_poison: what failing messages cost the others. Both sides are the library; on one the first attempt of every
# hundredth message fails, so that it is undone, parked, and tried again out of the table while the rest is applied.

figure apply_poison "apply rate with 1 % failing messages, over the rate with none"

apply_some_failing() {
    local fields
    fields=$(program apply.log "$bin/bench_apply" --database obx_bench --messages "$(size 50000 1000)" --fail-every 100) || return 1
    echo "${fields#rate }"
}

apply_none_failing() {
    local fields
    fields=$(program apply.log "$bin/bench_apply" --database obx_bench --messages "$(size 50000 1000)") || return 1
    echo "${fields#rate }"
}

measure_apply_poison() {
    in_turns "$(size 3 1)" apply_some_failing apply_none_failing || return 1
    result apply_poison ratio "at least 0.70" \
        "with failures $(typical apply_some_failing)/s over without $(typical apply_none_failing)/s" \
        $(ratios apply_some_failing apply_none_failing)
}
