# shellcheck shell=bash
# shellcheck disable=SC2034,SC2046,SC2154
# relay_packed: rows out of the table, packed by hundreds, over the messages that a bare publisher gets rid of: what the
# message costs the broker, paid once for a hundred rows. The payload of 256 bytes is no JSON, so it goes as base64.
# key_rate: rows of one ordering key, packed over unpacked: without packs a key has one message in flight.

figure relay_packed "rows drained with pack = 100 over the bare publisher's messages"
figure key_rate "rows of one ordering key, packed over unpacked"

packed_relay() {
    local rows fields pack=100
    rows=$(size 200000 4000)
    fill outbox "$rows" --fresh 1 || return 1
    fields=$(drain outbox "$rows") || return 1
    echo "${fields% *}"
}

packed_bare() {
    bare_rate "$(size 100000 2000)"
}

measure_relay_packed() {
    in_turns "$(size 5 1)" packed_relay packed_bare || return 1
    result relay_packed ratio "at least 2.0" "relay $(typical packed_relay)/s over bare $(typical packed_bare)/s" \
        $(ratios packed_relay packed_bare)
}

# key_drain ROWS
key_drain() {
    local fields
    fill outbox "$1" --fresh 1 --keys 1 || return 1
    fields=$(drain outbox "$1") || return 1
    echo "${fields% *}"
}

key_packed() {
    local pack=100
    key_drain "$(size 100000 4000)"
}

key_alone() {
    key_drain "$(size 3000 200)"
}

measure_key_rate() {
    in_turns "$(size 3 1)" key_packed key_alone || return 1
    result key_rate ratio "at least 20" "packed $(typical key_packed)/s over unpacked $(typical key_alone)/s" \
        $(ratios key_packed key_alone)
}
