# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# relay_drain: the relay's way from the table to an empty table, over a publisher that has its messages at hand:
# the same window, kind of queue and body. Starting, connecting and taking the lease are included.
# relay_drain_like: the same over a bare publisher that sends what the relay sends: through the exchange, mandatory,
# with all properties and headers. What is missing to 1 is the relay's own; between the two values lies what the
# broker takes for routing and for the message format.

figure relay_drain "rows out of the table, published and settled, over the bare publisher's rate"

drain_relay() {
    local rows fields
    rows=$(size 100000 2000)
    fill outbox "$rows" --fresh 1 || return 1
    fields=$(drain outbox "$rows") || return 1
    echo "${fields% *}"
}

drain_bare() {
    bare_rate "$(size 100000 2000)"
}

drain_bare_like() {
    bare_rate "$(size 100000 2000)" --exchange "$queue" --key bench --like-relay 1
}

measure_relay_drain() {
    in_turns "$(size 5 1)" drain_relay drain_bare drain_bare_like || return 1
    result relay_drain ratio "at least 0.90" \
        "relay $(typical drain_relay)/s over bare $(typical drain_bare)/s" $(ratios drain_relay drain_bare)
    result relay_drain_like ratio "" "relay over bare with the same messages $(typical drain_bare_like)/s" \
        $(ratios drain_relay drain_bare_like)
}
