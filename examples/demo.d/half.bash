# shellcheck shell=bash
# shellcheck disable=SC2154  # the variables are set by examples/demo-half
# The stage, the acts and the audit of the half-message demo. Sourced by examples/demo-half, behind scene.bash.

half_processes=(transfers-1 transfers-2 transfers-3 transfers-4 bank_a bank_b bookings relay)

half_intro() {
    cat <<INTRO
Rowpost demo of half-messages: the data is in other databases than the outbox.

  half-order (C)           -> database "orders", asked through the barrier   \\
  half_order.py (Python)   -> SQLite, asked by HTTP                           > relay, database "hub" -> RabbitMQ
  transfer-service (C)     -> "transfers", "bank_a", "bank_b": TCC           /

INTRO
}

# ---------------------------------------------------------------- the stage

make_half_databases() {
    local name side
    say "making the databases: hub for the messages; orders, transfers, bank_a and bank_b for the business"
    for name in hub orders transfers bank_a bank_b; do
        echo "DROP DATABASE IF EXISTS $name; CREATE DATABASE $name;"
        account migrate "$name" "${name}_migrate"
    done | as_root || return 1
    while read -r name side; do
        migrate "$name" "${name}_migrate" "$side" || return 1
    done <<'SIDES'
hub producer,half
orders barrier
transfers barrier
bank_a consumer,barrier
bank_b consumer,barrier
SIDES
    as_root orders <"$here/purchase.sql" && as_root transfers <"$here/transfers.sql" || return 1
    as_root bank_a <"$here/bank.sql" && as_root bank_b <"$here/bank.sql" || return 1
    half_accounts | as_root
}

# The rights of sql/schema/grants.md, and those on the services' own tables. A Try is a call to the bank in real
# life; here the transfer service has rights in both.
half_accounts() {
    local bank
    account relay hub obx_relay producer,half
    cat <<SQL
GRANT SELECT, INSERT ON orders.half_barrier TO 'obx_relay'@'%';
GRANT SELECT, INSERT ON transfers.half_barrier TO 'obx_relay'@'%';
SQL
    account barrier orders orders_app barrier
    echo "GRANT SELECT, INSERT ON orders.purchase TO 'orders_app'@'%';"
    account barrier transfers transfers_app barrier
    echo "GRANT SELECT, INSERT ON transfers.transfer TO 'transfers_app'@'%';"
    for bank in bank_a bank_b; do
        account consumer $bank ${bank}_app consumer
        cat <<SQL
GRANT SELECT, INSERT ON $bank.half_barrier TO '${bank}_app'@'%';
GRANT SELECT, UPDATE ON $bank.account TO '${bank}_app'@'%';
GRANT SELECT, INSERT ON $bank.half_barrier TO 'transfers_app'@'%';
GRANT SELECT, UPDATE ON $bank.account TO 'transfers_app'@'%';
SQL
    done
}

write_half_config() {
    (umask 077 && random_word >"$dir/half.token" && cat >"$dir/relay.conf") <<CONF
[relay]
http_port = 0
drain = 1s

[broker]
addresses = 127.0.0.1:$OBX_TEST_AMQP_PORT
user = $OBX_TEST_AMQP_USER
password = $OBX_TEST_AMQP_PASSWORD
reconnect_max = 1s

[lane]
lease = 2s

[queue purchases]
bind = rowpost:purchase.made
[queue bookings]
bind = rowpost:booking.made

[source hub]
host = 127.0.0.1
port = $OBX_TEST_DB_PORT
user = obx_relay
password_file = $dir/obx_relay.password
database = hub

[half]
source = hub
http_port = $(state_get relay port)
token_file = $dir/half.token
first_check = 1s
retry_min = 200ms
retry_max = 1s
lease = 1s

[producer orders]
check = barrier
host = 127.0.0.1
port = $OBX_TEST_DB_PORT
user = obx_relay
password_file = $dir/obx_relay.password
database = orders

[producer bookings]
url = http://127.0.0.1:$(state_get bookings port)/check

[producer transfers]
check = barrier
host = 127.0.0.1
port = $OBX_TEST_DB_PORT
user = obx_relay
password_file = $dir/obx_relay.password
database = transfers
CONF
}

# producer_env USER: what a producer has to know, as NAME=VALUE words.
producer_env() {
    half_env=(HALF_URL="http://127.0.0.1:$(state_get relay port)" HALF_TOKEN="$(cat "$dir/half.token")"
        DB_PORT="$OBX_TEST_DB_PORT" DB_USER="$1" DB_PASSWORD="$(password_of "$1")")
}

start_half_relay() {
    launch relay "$dir/relay.log" "$prefix/bin/outbox-relay" --config "$dir/relay.conf"
}

half_relay_is_ready() {
    case $(http_get "$(state_get relay port)" /v1/half-messages/nobody "$(cat "$dir/half.token")") in
    'HTTP/1.'?' 404 '*) return 0 ;;
    *) return 1 ;;
    esac
}

start_bank() {
    launch "$1" "$dir/$1.log" env DB_PORT="$OBX_TEST_DB_PORT" DB_USER="$1_app" DB_PASSWORD="$(password_of "$1_app")" \
        DB_NAME="$1" AMQP_ADDRESSES="127.0.0.1:$OBX_TEST_AMQP_PORT" AMQP_USER="$OBX_TEST_AMQP_USER" \
        AMQP_PASSWORD="$OBX_TEST_AMQP_PASSWORD" "$base/examples/bank-service" "$1"
}

bank_is_up() {
    log_has "$dir/$1.log" ' broker.up '
}

start_half_scene() {
    local coordinates bank
    say "starting a private MariaDB and a private RabbitMQ"
    stop_everything
    rm -rf "$dir"
    mkdir -p "$dir"
    chmod 700 "$dir"
    rm -rf "${OBX_SERVERS_DIR:?}/rabbitmq/data"
    built "the servers" "$dir/servers.log" server start || return 1
    coordinates=$(server env) || return 1
    eval "$coordinates"
    make_half_databases || return 1
    say "starting both banks, the check address of the Python producer, and the relay"
    for bank in bank_a bank_b; do
        start_bank $bank
        wait_for 60 bank_is_up $bank || fail "$bank did not start" || return 1
    done
    settle_port relay port && settle_port bookings port && write_half_config || return 1
    launch bookings "$dir/bookings.log" env DB_FILE="$dir/bookings.sqlite" \
        python3 "$here/half_order.py" serve "$(state_get bookings port)"
    start_half_relay
    wait_for 60 half_relay_is_ready || fail "the relay did not get ready"
}

# Replaces that of scene.bash.
stop_everything() {
    local name pids=()
    mkdir -p "$dir"
    for name in "${half_processes[@]}"; do
        stop_process "$name" 10 &
        pids+=($!)
    done
    [ -z "${running-}" ] || kill "$running" 2>/dev/null
    wait "${pids[@]}"
    [ ! -d "$OBX_SERVERS_DIR" ] || server stop >>"$base/stop.log" 2>&1
}

# ---------------------------------------------------------------- acts

# Without the shell's word on what was killed.
quietly_dying() {
    (
        "$@" >>"$dir/half-order.log" 2>&1
        exit $?
    ) 2>/dev/null
}

# place_c GID SKU QUANTITY [STAGE]: what comes of it is for the relay to find out when it dies.
place_c() {
    producer_env orders_app
    quietly_dying env "${half_env[@]}" DB_NAME=orders "$base/examples/half-order" "$@"
}

place_python() {
    producer_env orders_app
    quietly_dying env "${half_env[@]}" DB_FILE="$dir/bookings.sqlite" python3 "$here/half_order.py" place "$@"
}

state_of() {
    as_root hub <<<"SELECT CONCAT(state, ' by ', decided_by) FROM half_message WHERE gid = '$1'"
}

is_decided() {
    case $(state_of "$1") in
    'committed by '* | 'rolled_back by '*) return 0 ;;
    *) return 1 ;;
    esac
}

# show_deaths PLACE PREFIX: one order that goes well, and one that dies at each stage.
show_deaths() {
    local place=$1 prefix=$2 stage
    $place "$prefix-well" bolt 3 || fail "an order with nobody killed" || return 1
    say "  nobody dies:                            $(state_of "$prefix-well")"
    for stage in before inside after; do
        $place "$prefix-$stage" bolt 1 $stage
        wait_for 60 is_decided "$prefix-$stage" || fail "nothing was decided about $prefix-$stage" || return 1
        printf -v line '  it dies %-7s the local transaction:' "$stage"
        say "$line   $(state_of "$prefix-$stage")"
    done
}

act_in_c() {
    say "a producer in C, its data in the database orders; the relay looks into the barrier there:"
    show_deaths place_c order || return 1
    say "  outboxctl half show order-after:"
    "$prefix/bin/outboxctl" --config "$dir/relay.conf" half show order-after | sed 's/^/              /'
}

act_in_python() {
    say "a producer in Python, its data in SQLite, nothing but HTTP; the relay asks its check address:"
    show_deaths place_python booking
}

start_transfers() {
    local number=$1 count=$2
    producer_env transfers_app
    lives_of_transfers=$((lives_of_transfers + 1))
    launch "transfers-$number" "$dir/transfers.log" env "${half_env[@]}" \
        "$base/examples/transfer-service" "t$number-$lives_of_transfers" "$count" "$RANDOM"
}

kill_process() {
    local pid
    pid=$(pid_of "$1") && kill -KILL "$pid" 2>/dev/null
}

count_transfers() {
    as_root hub <<<"SELECT COUNT(*) FROM half_message WHERE producer = 'transfers'"
}

# A service that was killed or has ended is started again until there are enough.
tend_transfers() {
    local number
    for number in 1 2 3 4; do
        pid_of transfers-$number >/dev/null || start_transfers $number "$transfers"
    done
    for number in bank_a bank_b; do
        pid_of $number >/dev/null || start_bank $number
    done
    pid_of relay >/dev/null || start_half_relay
}

act_tcc() {
    local done_now=0 victims=(transfers-1 bank_a transfers-2 relay transfers-3 bank_b transfers-4) turn=0
    lives_of_transfers=0 kills=0
    say "TCC: four initiators move money between two banks; they, the banks and the relay are killed all the while"
    until done_now=$(count_transfers) && [ "${done_now:-0}" -ge "$transfers" ]; do
        tend_transfers
        show_bar "${done_now:-0}" "$transfers" "${done_now:-0} transfers, $kills kills"
        sleep 0.3
        if kill_process "${victims[turn++ % ${#victims[@]}]}"; then kills=$((kills + 1)); fi
    done
    show_bar_end
    for turn in 1 2 3 4; do
        kill_process transfers-$turn
    done
    sleep 0.3
    pid_of relay >/dev/null || start_half_relay
    for turn in bank_a bank_b; do
        pid_of $turn >/dev/null || start_bank $turn
    done
    say "  $(count_transfers) transfers, $kills kills; waiting until nothing is open or frozen"
    wait_for 120 is_settled || fail "something stays open or frozen"
}

is_settled() {
    [ "$(as_root <<<"SELECT (SELECT COUNT(*) FROM hub.half_message WHERE state NOT IN ('committed', 'rolled_back')) +
        (SELECT COUNT(*) FROM hub.outbox) + (SELECT SUM(frozen + expected) FROM bank_a.account) +
        (SELECT SUM(frozen + expected) FROM bank_b.account)")" = 0 ]
}

# ---------------------------------------------------------------- the audit

# fact WHAT WANTED FOUND
fact() {
    local mark='ok' text
    if [ "$2" != "$3" ]; then
        mark="WRONG, wanted $2"
        audit_rc=1
    fi
    printf -v text '  %-52s %8s  %s' "$1" "$3" "$mark"
    say "$text"
}

sqlite() {
    python3 -c 'import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])' \
        "$dir/bookings.sqlite" "$1"
}

queued() {
    server rabbitmqctl -q list_queues name messages | awk -v name="$1" '$1 == name { print $2 }'
}

one() {
    as_root <<<"SELECT $1"
}

half_report() {
    audit_rc=0
    say "the audit:"
    fact "orders in the database of the C producer" 2 "$(one "COUNT(*) FROM orders.purchase")"
    fact "messages about them in RabbitMQ" 2 "$(queued purchases)"
    fact "bookings in the SQLite of the Python producer" 2 "$(sqlite "SELECT COUNT(*) FROM booking")"
    fact "messages about them in RabbitMQ" 2 "$(queued bookings)"
    fact "verdicts that disagree with an order" 0 "$(one "COUNT(*) FROM hub.half_message h LEFT JOIN
        orders.purchase p ON p.gid = h.gid WHERE h.producer = 'orders' AND
        (h.state = 'committed') <> (p.gid IS NOT NULL)")"
    fact "verdicts that disagree with a transfer" 0 "$(one "COUNT(*) FROM hub.half_message h LEFT JOIN
        transfers.transfer t ON t.gid = h.gid WHERE h.producer = 'transfers' AND
        (h.state = 'committed') <> (t.gid IS NOT NULL)")"
    fact "money at both banks" 16000 "$(one "(SELECT SUM(balance) FROM bank_a.account) +
        (SELECT SUM(balance) FROM bank_b.account)")"
    fact "money frozen or expected" 0 "$(one "(SELECT SUM(frozen + expected) FROM bank_a.account) +
        (SELECT SUM(frozen + expected) FROM bank_b.account)")"
    fact "half-messages not decided" 0 "$(one "COUNT(*) FROM hub.half_message
        WHERE state NOT IN ('committed', 'rolled_back')")"
    say "  verdicts by: $(as_root hub <<<"SELECT GROUP_CONCAT(who SEPARATOR ', ') FROM (SELECT
        CONCAT(decided_by, ' ', COUNT(*)) AS who FROM half_message GROUP BY decided_by) x")"
    return $audit_rc
}
