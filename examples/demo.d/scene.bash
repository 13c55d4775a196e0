# shellcheck shell=bash
# shellcheck disable=SC2154  # the variables are set by examples/demo
# The stage: private servers, three databases with an account for each role, and the eight processes.
# Sourced by examples/demo.

server() {
    "$servers" "$@" 8>&-
}

# Runs SQL from standard input as the server's administrator.
as_root() {
    server sql -N -B "$@"
}

# ---------------------------------------------------------------- accounts

# The statements for a role as sql/schema/grants.md has them, for this database, which has these sides
# (comma-separated), and this account. The first line of each block names the sides that it is for.
grants_of() {
    local role=$1 database=$2 user=$3 password=$4 sides=$5
    awk -v role="$role" -v sides="none,$sides" '
        function is_for(line, wanted, i, n) {
            sub(/^-- side: */, "", line)
            n = split(line, wanted, /, */)
            for (i = 1; i <= n; i++)
                if (index("," sides ",", "," wanted[i] ",") == 0)
                    return 0
            return 1
        }
        /^## / { in_role = $0 == "## " role; next }
        /^```/ { in_sql = $0 == "```sql"; next }
        in_role && in_sql && /^-- side:/ { wanted_here = is_for($0); next }
        in_role && in_sql && wanted_here' "$root/sql/schema/grants.md" |
        sed "s/\`shop\`/\`$database\`/g; s/'[a-z_]*'@/'$user'@/; s/'password'/'$password'/"
}

# account ROLE DATABASE USER [SIDES]: prints the SQL; the password goes into a file of its own.
account() {
    local role=$1 database=$2 user=$3 sides=${4-}
    (umask 077 && random_word >"$dir/$user.password")
    echo "DROP USER IF EXISTS '$user'@'%';"
    grants_of "$role" "$database" "$user" "$(password_of "$user")" "$sides"
}

password_of() {
    cat "$dir/$1.password"
}

# What each service needs on its own tables; the audit reads both databases and writes none.
own_rights() {
    cat <<SQL
GRANT SELECT, UPDATE ON shop.customer TO 'shop_app'@'%';
GRANT SELECT, INSERT ON shop.orders TO 'shop_app'@'%';
GRANT SELECT, UPDATE ON stock.stock TO 'stock_app'@'%';
GRANT INSERT ON stock.applied_order TO 'stock_app'@'%';
GRANT SELECT, UPDATE ON depot.stock TO 'depot_app'@'%';
GRANT INSERT ON depot.applied_order TO 'depot_app'@'%';
DROP USER IF EXISTS 'audit'@'%';
CREATE USER 'audit'@'%' IDENTIFIED BY '$(password_of audit)';
GRANT SELECT ON shop.* TO 'audit'@'%';
GRANT SELECT ON stock.* TO 'audit'@'%';
GRANT SELECT ON depot.* TO 'audit'@'%';
SQL
}

make_databases() {
    say "making the databases shop, stock and depot: outboxctl migrate, and the accounts of sql/schema/grants.md"
    {
        echo "DROP DATABASE IF EXISTS shop; CREATE DATABASE shop;"
        echo "DROP DATABASE IF EXISTS stock; CREATE DATABASE stock;"
        echo "DROP DATABASE IF EXISTS depot; CREATE DATABASE depot;"
        account migrate shop obx_migrate
        account migrate stock stock_migrate
        account migrate depot depot_migrate
    } | as_root || return 1
    migrate shop obx_migrate producer && migrate stock stock_migrate consumer &&
        migrate depot depot_migrate consumer,inbox || return 1
    as_root shop <"$here/shop.sql" && as_root stock <"$here/stock.sql" && as_root depot <"$here/stock.sql" || return 1
    (umask 077 && random_word >"$dir/audit.password" && random_word >"$dir/console.password")
    {
        account relay shop obx_relay producer
        account operator shop obx_operator producer
        account producer shop shop_app producer
        account consumer stock stock_app consumer
        account 'inbox-relay' depot depot_relay consumer,inbox
        account 'inbox worker' depot depot_app inbox
        own_rights
    } | as_root
}

# Sets the array plain: runs a program without the caller's OBX_ variables, which would be its configuration.
set_plain() {
    local name
    plain=(env)
    for name in $(compgen -e OBX_); do
        [ "$name" = OBX_TEST_RUN ] || plain+=(-u "$name")
    done
}

migrate() {
    local database=$1 user=$2 side=$3
    "${plain[@]}" "$prefix/bin/outboxctl" --db "mysql://$user@127.0.0.1:$OBX_TEST_DB_PORT/$database" \
        --password-file "$dir/$user.password" migrate --side "$side" >>"$dir/migrate.log" 2>&1 || {
        cat "$dir/migrate.log" >&2
        fail "outboxctl migrate of $database"
    }
}

# ---------------------------------------------------------------- processes

# A short lease shows a takeover within seconds; rows are settled late, so that a killed relay leaves
# some that are published and not yet deleted: those are published again, and the consumer must notice.
write_relay_config() {
    local name=$1
    (umask 077 && cat >"$dir/$name.conf") <<CONF
[relay]
name = $name
http_port = $(state_get "$name" port)
doorbell_socket = $dir/$name.bell
drain = 1s

[broker]
addresses = 127.0.0.1:$OBX_TEST_AMQP_PORT
user = $OBX_TEST_AMQP_USER
password = $OBX_TEST_AMQP_PASSWORD
reconnect_max = 1s

[lane]
lease = 2s
settle_age = 200ms

[source shop]
host = 127.0.0.1
port = $OBX_TEST_DB_PORT
user = obx_relay
password_file = $dir/obx_relay.password
database = shop
CONF
    [ "${console:-no}" = no ] || write_console_config "$name" >>"$dir/$name.conf"
}

# The consumers' databases with the accounts of those who apply there: what is dead can be replayed.
write_console_config() {
    cat <<CONF

[console]
http_port = $(state_get "$1" console)
admin_token_file = $dir/console.password

# With the usual number of tries it would take minutes until there is something to look at.
[topic invoice.sent]
max_attempts = 2

[consumer stock]
host = 127.0.0.1
port = $OBX_TEST_DB_PORT
user = stock_app
password_file = $dir/stock_app.password
database = stock

[consumer depot]
host = 127.0.0.1
port = $OBX_TEST_DB_PORT
user = depot_relay
password_file = $dir/depot_relay.password
database = depot
CONF
}

start_relay() {
    local name=$1
    settle_port "$name" port && settle_port "$name" console && write_relay_config "$name" || return 1
    launch "$name" "$dir/$name.log" "${plain[@]}" "$prefix/bin/outbox-relay" --config "$dir/$name.conf"
}

# Each life of a consumer has a log of its own: the last line has the counts of that life.
declare -A lives=([inventory-1]=0 [inventory-2]=0)
start_inventory() {
    local name=$1
    lives[$name]=$((lives[$name] + 1))
    launch "$name" "$dir/$name.${lives[$name]}.log" env \
        DB_PORT="$OBX_TEST_DB_PORT" DB_USER=stock_app DB_PASSWORD="$(password_of stock_app)" DB_NAME=stock \
        AMQP_ADDRESSES="127.0.0.1:$OBX_TEST_AMQP_PORT" AMQP_USER="$OBX_TEST_AMQP_USER" \
        AMQP_PASSWORD="$OBX_TEST_AMQP_PASSWORD" "$base/examples/inventory-service"
}

# What is a library in C is a process of its own beside a service in another language.
write_inbox_relay_config() {
    (umask 077 && cat >"$dir/inbox-relay.conf") <<CONF
[notify]
http_port = $(state_get inbox-relay port)
drain = 1s

[broker]
addresses = 127.0.0.1:$OBX_TEST_AMQP_PORT
user = $OBX_TEST_AMQP_USER
password = $OBX_TEST_AMQP_PASSWORD

[database]
host = 127.0.0.1
port = $OBX_TEST_DB_PORT
user = depot_relay
password_file = $dir/depot_relay.password
database = depot

[queue inventory-python]
topics = order.placed
wake = $dir/wake
CONF
}

start_inbox_relay() {
    settle_port inbox-relay port && write_inbox_relay_config || return 1
    launch inbox-relay "$dir/inbox-relay.log" "${plain[@]}" "$prefix/bin/inbox-relay" --config "$dir/inbox-relay.conf"
}

# Debian's own Python: another one that stands before it in PATH does not have Debian's driver.
start_python() {
    launch "$1" "$dir/$1.log" env DB_PORT="$OBX_TEST_DB_PORT" DB_USER=depot_app DB_PASSWORD="$(password_of depot_app)" \
        DB_NAME=depot WAKE_DIR="$dir/wake" PYTHONPATH="$root/clients/python/src" PYTHONDONTWRITEBYTECODE=1 \
        /usr/bin/python3 "$here/inventory_service.py"
}

start_orders() {
    launch order-service "$dir/order-service.log" env \
        DB_PORT="$OBX_TEST_DB_PORT" DB_USER=shop_app DB_PASSWORD="$(password_of shop_app)" DB_NAME=shop \
        "$base/examples/order-service" --rate "$rate" --rollback-percent 10 --doorbell "$dir/relay-1.bell"
}

# Has a log got such a line?
log_has() {
    grep -qs -- "$2" "$1"
}

# It has a socket there by which it is woken.
is_listening() {
    [ -n "$(find "$dir/wake" -name "$(pid_of "$1")-*")" ]
}

relay_is_ready() {
    case $(http_get "$(state_get "$1" port)" /readyz) in
    'HTTP/1.'?' 200 '*) return 0 ;;
    *) return 1 ;;
    esac
}

# http_get PORT PATH [TOKEN]: the whole answer of a server on the loopback.
http_get() {
    (
        exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
        printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n' "$2" >&3
        [ -z "${3-}" ] || printf 'Authorization: Bearer %s\r\n' "$3" >&3
        printf '\r\n' >&3
        timeout 5 cat <&3
    ) 2>/dev/null
}

is_consuming() {
    log_has "$dir/$1.${lives[$1]}.log" ' broker.up '
}

# wait_up NAME LOG TEST: until the test says that it is at work; shows why it is not.
wait_up() {
    local name=$1 log=$2 test=$3 end=$((SECONDS + 60))
    until "$test" "$name"; do
        if ! is_running "$name" || [ $SECONDS -ge $end ]; then
            tail -n 5 "$log" >&2
            fail "$name does not get ready; the end of its log is above"
            return 1
        fi
        sleep 0.1
    done
}

# The inventory services and inbox-relay first: they declare the queue, without which no message could be routed.
start_processes() {
    local name
    say "starting inventory-1 and inventory-2, python-1 and python-2 with inbox-relay, relay-1 and relay-2"
    mkdir -p "$dir/wake"
    for name in inventory-1 inventory-2; do
        start_inventory $name
    done
    for name in inventory-1 inventory-2; do
        wait_up $name "$dir/$name.${lives[$name]}.log" is_consuming || return 1
    done
    start_inbox_relay && wait_up inbox-relay "$dir/inbox-relay.log" relay_is_ready || return 1
    for name in python-1 python-2; do
        start_python $name && wait_up $name "$dir/$name.log" is_listening || return 1
    done
    for name in relay-1 relay-2; do
        start_relay $name || return 1
    done
    for name in relay-1 relay-2; do
        wait_up $name "$dir/$name.log" relay_is_ready || return 1
    done
    "${plain[@]}" "$prefix/bin/outbox-relay" --config "$dir/relay-1.conf" --check >"$dir/check.log" 2>&1 ||
        { cat "$dir/check.log" >&2; fail "outbox-relay --check"; }
}

start_scene() {
    local coordinates
    say "starting a private MariaDB and a private RabbitMQ"
    stop_everything
    rm -rf "$dir"
    mkdir -p "$dir"
    chmod 700 "$dir"
    # The broker begins empty; the databases are made again.
    rm -rf "${OBX_SERVERS_DIR:?}/rabbitmq/data"
    built "the servers" "$dir/servers.log" server start || return 1
    coordinates=$(server env) || return 1
    eval "$coordinates"
    set_plain
    make_databases && start_processes
}

# ---------------------------------------------------------------- the end

stop_everything() {
    local name pids=()
    mkdir -p "$dir"
    for name in order-service inventory-1 inventory-2 python-1 python-2 inbox-relay relay-1 relay-2; do
        stop_process $name 10 &
        pids+=($!)
    done
    [ -z "${running-}" ] || kill "$running" 2>/dev/null
    wait "${pids[@]}"
    [ ! -d "$OBX_SERVERS_DIR" ] || server stop >>"$base/stop.log" 2>&1
}

# What the consumers hold is finished or given back, so that the audit sees it; then their counts are final.
settle_scene() {
    note_published relay-1
    note_published relay-2
    stop_process inventory-1 30 && stop_process inventory-2 30 && stop_process python-1 30 && stop_process python-2 30 &&
        stop_process inbox-relay 30
}

# A topic that no queue is bound for: parked, with its key frozen. An order that no service understands: dead.
make_trouble() {
    local n end=$((SECONDS + 60))
    for n in 1 2 3 4 5; do
        echo "INSERT INTO shop.outbox (topic, ordering_key, payload) VALUES ('invoice.sent', 'customer-1', '{\"invoice\": $n}');"
    done | as_root || return 1
    echo "INSERT INTO shop.outbox (topic, ordering_key, payload) VALUES ('order.placed', '4711', '{\"nonsense\": 4711}');" |
        as_root || return 1
    until [ "$(echo 'SELECT (SELECT COUNT(*) FROM shop.outbox_parked) * (SELECT COUNT(*) FROM stock.inbox_parked)' |
        as_root)" != 0 ]; do
        [ $SECONDS -lt $end ] || {
            fail "nothing was parked for the console to show"
            return 1
        }
        sleep 0.2
    done
}

say_of_console() {
    make_trouble || return 1
    cat <<LOOK

The console: http://127.0.0.1:$(state_get relay-1 console)/
  any name, and the password $(cat "$dir/console.password")
  Messages are parked, a key is frozen, and an order is dead: search for the key 4711.
LOOK
}

say_how_to_look() {
    start_inventory inventory-1
    start_inventory inventory-2
    start_inbox_relay
    start_python python-1
    start_python python-2
    (umask 077 && cat >"$dir/env") <<ENV
export PATH="$prefix/bin:\$PATH" OBX_CONFIG="$dir/relay-1.conf" OBX_SERVERS_DIR="$OBX_SERVERS_DIR"
export DB_PORT=$OBX_TEST_DB_PORT DB_USER=shop_app DB_PASSWORD=$(password_of shop_app) DB_NAME=shop
ENV
    cat <<LOOK

Everything runs on. Look around:

  . $dir/env
  sh examples/order.sh 1 apple 2         place an order
  outboxctl status                       how the outbox is, and the relays
  outboxctl parked list                  what could not be published
  tests/support/servers sql stock    SQL, for instance: SELECT * FROM stock; that of the service in Python: sql depot
  tests/support/servers rabbitmqctl list_queues
  bash $dir/audit    the audit again
  metrics: http://127.0.0.1:$(state_get relay-1 port)/metrics
  logs:    $dir

and end it with: bash examples/demo --stop
LOOK
}
