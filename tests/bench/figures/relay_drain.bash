# shellcheck shell=bash
# shellcheck disable=SC2154
# relay_drain: the relay's way from the table to an empty table, over a publisher that has its messages
# at hand. The same window, kind of queue and body. Starting, connecting and taking the lease are included.

figure relay_drain "rows out of the table, published and settled, over the bare publisher's rate"

relay_rate() {
    local rows fields
    rows=$(size 100000 2000)
    fill outbox "$rows" --fresh 1 || return 1
    fields=$(drain outbox "$rows") || return 1
    echo "${fields% *}"
}

yardstick_rate() {
    bare_rate "$(size 100000 2000)"
}

measure_relay_drain() {
    in_turns "$(size 5 1)" relay_rate yardstick_rate || return 1
    ratios_of_pairs || return 1
    result relay_drain ratio "at least 0.90" "relay $(tidy "$(median "${a_values[@]}")")/s over bare \
$(tidy "$(median "${b_values[@]}")")/s" "${ratios[@]}"
}
