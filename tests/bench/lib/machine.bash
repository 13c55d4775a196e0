# shellcheck shell=bash
# shellcheck disable=SC2154  # out is set by tests/bench/run
# What the figures were measured on. Sourced by tests/bench/run.

# Leaves the description in results/machine, as lines of Markdown.
describe_machine() {
    local commits
    commits=$(commits_per_second) || return 1
    warn_when_busy
    {
        printf -- '- Machine: %s, %d processors, %s GiB of memory, Linux %s\n' "$(processor)" "$(nproc)" \
            "$(awk '/^MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo)" "$(uname -r)"
        printf -- '- System: %s; MariaDB %s; RabbitMQ %s on Erlang %s; all on this machine, over the loopback\n' \
            "$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release)" \
            "$(sql 'SELECT VERSION()')" "$(rabbitmq_version)" "$(erlang_version)"
        printf -- '- Disk: %s; one connection commits one row %.0f times a second\n\n' \
            "$(df --output=fstype "$out" | tail -n 1)" "$commits"
    } >"$out/results/machine"
}

processor() {
    sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1
}

rabbitmq_version() {
    "$servers" rabbitmqctl -q version </dev/null 2>/dev/null 8>&-
}

erlang_version() {
    sed -n 's/.* RabbitMQ .* on Erlang \([0-9.]*\).*/\1/p' "$OBX_SERVERS_DIR"/rabbitmq/log/*.log |
        tail -n 1
}

# What a commit costs is what most figures hang on.
commits_per_second() {
    local fields
    fields=$(program commits.log "$bin/bench_half" commit --ms 2000) || return 1
    # shellcheck disable=SC2086
    set -- $fields
    echo "$1"
}

warn_when_busy() {
    awk -v cpus="$(nproc)" '$1 > cpus { print "warning: the machine is busy (load " $1 "): compare ratios only" }' \
        /proc/loadavg >&2
}
