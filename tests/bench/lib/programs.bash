# shellcheck shell=bash
# shellcheck disable=SC2154  # out, root and servers are set by tests/bench/run
# The build, the servers, the accounts, and how the programs are run. Sourced by tests/bench/run.

bin=$root/build/release/tests/bench
relay_bin=$root/build/release/outbox-relay/outbox-relay
outboxctl_bin=$root/build/release/outbox-relay/outboxctl/outboxctl
queue=obx-bench

# quietly LOG COMMAND...: runs a long command without input, its output to a log that is shown when it fails. In
# the background, so that a signal to this script is acted on at once, and without our lock.
quietly() {
    local log=$out/log/$1
    shift
    "$@" >"$log" 2>&1 </dev/null 8>&- &
    if ! wait $!; then
        tail -n 30 "$log" >&2
        note "FAILED: $*"
        return 1
    fi
}

# program LOG COMMAND...: runs one of the bench's programs and passes its standard output on. It must end well.
program() {
    local log=$out/log/$1
    shift
    if ! "$@" 2>"$log" </dev/null 8>&-; then
        tail -n 30 "$log" >&2
        note "FAILED: $*"
        return 1
    fi
}

prepare() {
    note "packages, build, servers"
    quietly packages.log bash tests/support/packages || return 1
    quietly build.log cmake --preset release || return 1
    quietly build.log cmake --build --preset release -j "$(nproc)" --target obx_bench_programs || return 1
    start_slow_servers || return 1
    eval "$("$servers" env)" || return 1
    make_database || return 1
    # Where both are to be had, what the machine does has to be known to judge a figure.
    [ "$is_smoke" = yes ] || describe_machine || return 1
}

# The source of the benchmarks, with an outbox and a large one.
make_database() {
    local url="mysql://$OBX_TEST_DB_USER@$OBX_TEST_DB_HOST:$OBX_TEST_DB_PORT/obx_bench"
    (umask 077 && printf '%s\n' "$OBX_TEST_DB_PASSWORD" >"$out/password") || return 1
    sql "DROP DATABASE IF EXISTS obx_bench; CREATE DATABASE obx_bench" || return 1
    quietly migrate.log "$outboxctl_bin" --db "$url" --password-file "$out/password" \
        migrate --side "$(schema_sides)" --outbox outbox_big || return 1
    relay_password=$(new_password)
    documented_account relay obx_bench_relay "$relay_password" || return 1
    sql "GRANT SELECT, INSERT, DELETE ON obx_bench.outbox_big TO obx_bench_relay@'127.0.0.1'" || return 1
    export OBX_TEST_CONSUMER_PASSWORD
    OBX_TEST_CONSUMER_PASSWORD=$(new_password)
    documented_account consumer obx_bench_consumer "$OBX_TEST_CONSUMER_PASSWORD" || return 1
    # The handler's own table.
    sql "CREATE TABLE obx_bench.bench_stock (id INT PRIMARY KEY, n BIGINT NOT NULL) ENGINE = InnoDB;
        GRANT SELECT, INSERT, UPDATE ON obx_bench.bench_stock TO obx_bench_consumer@'127.0.0.1'"
}

new_password() {
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n'
}

# All sides that there are migrations for, with commas.
schema_sides() {
    basename -a sql/schema/*_0001_*.sql | sed 's/_.*//' | paste -sd ,
}

# documented_account ROLE USER PASSWORD: an account with the rights that sql/schema/grants.md lists for the role,
# in the database obx_bench, and no others.
documented_account() {
    local grants
    grants=$(awk -v role="$1" '/^## / { is_wanted = $2 == role } is_wanted && /^GRANT /,/;$/' sql/schema/grants.md |
        sed "s/\`shop\`/\`obx_bench\`/; s/TO '[a-z_]*'@'%'/TO '$2'@'127.0.0.1'/")
    [ -n "$grants" ] || return 1
    sql "CREATE OR REPLACE USER '$2'@'127.0.0.1' IDENTIFIED BY '$3'; $grants"
}

# sql STATEMENT: as root; prints what it gives, columns separated by tabs.
sql() {
    "$servers" sql -N -B -e "$1" </dev/null 8>&-
}

# relay_config FILE OUTBOX AMQP_PORT [LINE...]: what a user would write; LINEs go to [relay]. With pack=N in the caller's
# variables the messages are packed.
relay_config() {
    local file=$1 outbox=$2 port=$3
    shift 3
    (
        umask 077
        printf '[relay]\nhttp_port = 0\n'
        [ $# = 0 ] || printf '%s\n' "$@"
        printf '[broker]\naddresses = %s:%s\nvhost = %s\nuser = %s\npassword = %s\nexchange = %s\n' \
            "$OBX_TEST_AMQP_HOST" "$port" "$OBX_TEST_AMQP_VHOST" "$OBX_TEST_AMQP_USER" \
            "$OBX_TEST_AMQP_PASSWORD" "$queue"
        printf '[exchange %s]\ntype = direct\n' "$queue"
        printf '[source bench]\nhost = %s\nport = %s\nuser = obx_bench_relay\npassword = %s\n' \
            "$OBX_TEST_DB_HOST" "$OBX_TEST_DB_PORT" "$relay_password"
        printf 'database = obx_bench\noutboxes = %s\n' "$outbox"
        [ "${pack:-1}" = 1 ] || printf '[topic *]\npack = %s\n' "$pack"
    ) >"$file"
}

# A quorum queue without messages, bound to what the relay publishes.
fresh_queue() {
    program queue.log "$bin/bench_queue" fresh "$queue" "$queue" bench
}

delete_queue() {
    program queue.log "$bin/bench_queue" delete "$queue"
}

# drain OUTBOX ROWS [OPTION...]: a relay takes the first ROWS rows out of the table; prints "rows/s peak_kib". With options of
# bench_drain's own, the round trip to the database is a third value, in microseconds.
drain() {
    local outbox=$1 rows=$2 options=$(($# - 2)) fields depth
    relay_config "$out/relay.conf" "$outbox" "$OBX_TEST_AMQP_PORT" || return 1
    fresh_queue || return 1
    fields=$(program drain.log "$bin/bench_drain" --rows "$rows" --table "$outbox" --log "$out/log/relay.log" \
        "${@:3}" -- "$relay_bin" --config "$out/relay.conf") || return 1
    depth=$(program queue.log "$bin/bench_queue" depth "$queue") || return 1
    if [ "$((depth * ${pack:-1}))" -lt "$rows" ]; then
        note "the queue holds $depth messages for $rows rows"
        return 1
    fi
    delete_queue || return 1
    # shellcheck disable=SC2086
    set -- $fields
    echo "$3 $4$([ "$options" = 0 ] || echo " $5")"
}

# fill OUTBOX ROWS [OPTION...]: brings the table to exactly so many rows of 256 bytes.
fill() {
    program fill.log "$bin/bench_fill" --table "$1" --rows "$2" --body 256 "${@:3}"
}

# bare_rate COUNT [OPTION...]: messages per second of the yardstick, into the same kind of queue.
bare_rate() {
    local fields count=$1
    shift
    fresh_queue || return 1
    fields=$(program bare.log "$bin/bare_publisher" --queue "$queue" --count "$count" --window 2000 --size 256 "$@") ||
        return 1
    delete_queue || return 1
    echo "${fields#rate }"
}

# The processes below a process, its children's children too; not those of the subshell that asks.
descendants() {
    ps -e -o pid=,ppid= | awk -v top="$1" -v me="$BASHPID" '
        { parent[$1] = $2 }
        END {
            for (pid in parent)
                for (up = pid; up != me && (up in parent); up = parent[up])
                    if (parent[up] == top) { print pid; break }
        }'
}

end_run() {
    local below
    trap '' INT TERM HUP
    below=$(descendants $$)
    # shellcheck disable=SC2086
    [ -z "$below" ] || kill -KILL $below 2>/dev/null
    rm -f "$out/password" "$out/relay.conf"
    "$servers" stop >"$out/log/servers-stop.log" 2>&1 </dev/null || note "the servers did not stop"
}
