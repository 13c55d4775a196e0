# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# reconcile_rate: messages compared, a journal row and a dedup row each; nothing is missing.

figure reconcile_rate "messages compared a second by outboxctl reconcile"

reconcile_messages() {
    local fields
    fields=$(program reconcile.log "$bin/bench_reconcile" --messages "$(size 1000000 5000)") || return 1
    # shellcheck disable=SC2086
    set -- $fields
    echo "$3"
}

measure_reconcile_rate() {
    in_turns "$(size 3 1)" reconcile_messages || return 1
    result reconcile_rate "messages/s" "at least 200000" "a row of the journal and one of dedup each" \
        $(values reconcile_messages)
}
