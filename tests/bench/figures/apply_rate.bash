# shellcheck shell=bash
# shellcheck disable=SC2154
# apply_rate: what consumer-lib gains by sharing commits. Both sides do the same for each message: the dedup row
# and one small UPDATE; the yardstick commits and acknowledges each one.

figure apply_rate "messages applied by one consumer process, over one commit per message"

library_rate() {
    local fields
    fields=$(program apply.log "$bin/bench_apply" --messages "$(size 50000 1000)") || return 1
    echo "${fields#rate }"
}

one_per_commit_rate() {
    local fields
    fields=$(program apply.log "$bin/bench_apply" --messages "$(size 2000 100)" --one-per-commit) || return 1
    echo "${fields#rate }"
}

measure_apply_rate() {
    in_turns "$(size 3 1)" library_rate one_per_commit_rate || return 1
    ratios_of_pairs || return 1
    result apply_rate ratio "at least 15" "library $(tidy "$(median "${a_values[@]}")")/s over one by one \
$(tidy "$(median "${b_values[@]}")")/s" "${ratios[@]}"
}
