# shellcheck shell=bash
# shellcheck disable=SC2154
# relay_memory: the greatest resident size of the relay while it drains. A backlog must not make it larger.

figure relay_memory "peak resident size while draining 1,000,000 rows, and its growth from 100,000"

# memory_peak ROWS: in MiB.
memory_peak() {
    local fields
    fill outbox_big "$1" --fresh 1 || return 1
    fields=$(drain outbox_big "$1") || return 1
    note "drained $1 rows at ${fields% *}/s"
    calculate "${fields#* } / 1024"
}

measure_relay_memory() {
    local small large
    small=$(memory_peak "$(size 100000 1000)") || return 1
    large=$(memory_peak "$(size 1000000 5000)") || return 1
    result relay_memory MiB "at most 48" "draining $(size 1000000 5000) rows" "$large" || return 1
    # Less than half a MiB is within what the allocator does from run to run.
    result relay_memory_growth MiB "at most 0.5" \
        "from $(tidy "$small") MiB with $(size 100000 1000) rows" "$(calculate "$large - $small")"
}
