# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# relay_far: a relay whose database is a millisecond away, over the same relay beside its database. Everything else is the
# same; a proxy holds back what the relay sends to the database.

figure relay_far "rows out of a table a millisecond away, over one that is near"

far_rate() {
    local rows fields
    rows=$(size 100000 2000)
    fill outbox "$rows" --fresh 1 || return 1
    fields=$(drain outbox "$rows" --far 1) || return 1
    # shellcheck disable=SC2086
    set -- $fields
    echo "$1 $3"
}

near_rate() {
    local rows fields
    rows=$(size 100000 2000)
    fill outbox "$rows" --fresh 1 || return 1
    fields=$(drain outbox "$rows") || return 1
    echo "${fields%% *}"
}

measure_relay_far() {
    in_turns "$(size 5 1)" far_rate near_rate || return 1
    result relay_far ratio "at least 0.80" \
        "far $(typical far_rate)/s over near $(typical near_rate)/s, round trip $(typical far_rate 2) us" \
        $(ratios far_rate near_rate)
}
