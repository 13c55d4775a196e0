# shellcheck shell=bash
# shellcheck disable=SC2154  # out, servers and is_smoke are set by tests/bench/run
# Flushes of the private servers that take as long as on another disk (slow_flush.c). Sourced by tests/bench/run.

flush_file=$out/flush_us

# Written in place: the servers have it mapped.
flush_set() {
    printf '%-16s' "$1" 1<>"$flush_file"
}

# The servers with slow_flush.c loaded, and flushes as they are.
start_slow_servers() {
    mkdir -p "$out" && printf '%-16s' 0 >"$flush_file.new" && mv "$flush_file.new" "$flush_file" || return 1
    quietly servers.log env OBX_SERVERS_PRELOAD="$root/build/release/tests/bench/libobx_slow_flush.so" \
        OBX_FLUSH_FILE="$flush_file" "$servers" start
}

# at_flush US COMMAND...: runs it while a flush takes at least so many microseconds.
at_flush() {
    local rc=0
    flush_set "$1" || return 1
    "${@:2}" || rc=1
    flush_set 0 || return 1
    return $rc
}

# at_each_flush FUNCTION: calls it with the end of the figure's name, for flushes as they are and of 1 and 4 ms.
at_each_flush() {
    "$1" '' || return 1
    at_flush 1000 "$1" _1ms || return 1
    at_flush 4000 "$1" _4ms
}

# rounds_at SUFFIX FULL SLOW SMOKE: how often, or how many, with flushes as they are and with slow ones. A smoke run
# of slow flushes finds out whether it works.
rounds_at() {
    if [ "$is_smoke" = yes ]; then echo "$4"; elif [ -z "$1" ]; then echo "$2"; else echo "$3"; fi
}
