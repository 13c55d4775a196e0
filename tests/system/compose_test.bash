#!/usr/bin/env bash
# The trial of deploy/compose, on the servers at hand: its accounts are enough to make the tables, its permissions enough for
# both programs, and a message that is inserted at one side is a row of the inbox at the other.
#
# usage: compose_test.bash SOURCE_DIR OUTBOX_RELAY INBOX_RELAY OUTBOXCTL
set -u -o pipefail
export LC_ALL=C
trial=$1/deploy/compose relay=$2 inbox=$3 outboxctl=$4
work=$(mktemp -d) pids=() name=c$$

# shellcheck disable=SC2317  # what the trap calls
finish() {
    [ ${#pids[@]} = 0 ] || { kill "${pids[@]}" && wait "${pids[@]}"; } 2>/dev/null
    "$OBX_TEST_SERVERS" sql mysql 2>/dev/null <<SQL
DROP DATABASE IF EXISTS ${name}_shop; DROP DATABASE IF EXISTS ${name}_stock;
DROP USER IF EXISTS ${name}_migrate, ${name}_relay, ${name}_inbox, ${name}_shop, ${name}_stock;
SQL
    "$OBX_TEST_SERVERS" rabbitmqctl -q delete_vhost "$name" >/dev/null 2>&1
    "$OBX_TEST_SERVERS" rabbitmqctl -q delete_user "${name}_relay" >/dev/null 2>&1
    "$OBX_TEST_SERVERS" rabbitmqctl -q delete_user "${name}_inventory" >/dev/null 2>&1
    rm -rf "$work"
}
trap finish EXIT

fail() {
    printf 'compose_test: %s\n' "$*" >&2
    tail -n 20 "$work"/*.log >&2
    exit 1
}

wait_for() {
    local tries=0
    # Counted, not timed: the clock of a machine that was stopped for a while jumps.
    until "$@"; do
        [ $((tries += 1)) -lt 600 ] || return 1
        sleep 0.1
    done
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Names of databases, users and vhost that nobody else has; the addresses of these servers; and nothing else differs.
here() {
    sed -E -e "s/\b(shop|stock)\b\.\*/${name}_\1.*/g" -e "s/^(CREATE DATABASE|database =) (\w+)/\1 ${name}_\2/" \
        -e "s/'(migrate|relay|inbox|shop|stock)'@/'${name}_\1'@/g" -e "s/^user = /user = ${name}_/" \
        -e "s/\"(name|user)\": \"(relay|inventory)\"/\"\1\": \"${name}_\2\"/" \
        -e "s/(\"vhosts\": .*\"name\"|\"vhost\"): \"\/\"/\1: \"$name\"/" \
        -e "s/^addresses = .*/addresses = 127.0.0.1:$OBX_TEST_AMQP_PORT\nvhost = $name/" \
        -e "s/^host = .*/host = 127.0.0.1\nport = $OBX_TEST_DB_PORT/" -e "/^http_port = /d" -e "s/^http_address = .*/http_port = PORT/" \
        -e "s,/run/secrets/,$trial/secrets/," "$1" |
        while IFS= read -r line; do printf '%s\n' "${line/PORT/$([[ $line != *PORT ]] || free_port)}"; done
}

sql() {
    "$OBX_TEST_SERVERS" sql --batch --skip-column-names "$1" -e "$2"
}

here "$trial/accounts.sql" >"$work/accounts.sql"
"$OBX_TEST_SERVERS" sql mysql <"$work/accounts.sql" || fail "accounts.sql"
here "$trial/definitions.json" >"$work/definitions.json"
"$OBX_TEST_SERVERS" rabbitmqctl -q import_definitions "$work/definitions.json" >"$work/import.log" 2>&1 || fail "definitions.json"
for side in shop:producer stock:consumer,inbox; do
    "$outboxctl" --db "mysql://${name}_migrate@127.0.0.1:$OBX_TEST_DB_PORT/${name}_${side%:*}" --password-file "$trial/secrets/mysql" \
        migrate --side "${side#*:}" >"$work/migrate.log" 2>&1 || fail "migrate $side"
done
here "$trial/inbox-relay.conf" >"$work/inbox.conf"
here "$trial/relay.conf" >"$work/relay.conf"
"$inbox" --config "$work/inbox.conf" 2>"$work/inbox.log" &
pids+=($!)
# It declares the queue, and without a queue the first message would wait.
queue_is_bound() {
    "$OBX_TEST_SERVERS" rabbitmqctl -q list_bindings -p "$name" 2>/dev/null | grep -q 'rowpost.*orders'
}
wait_for queue_is_bound || fail "no queue"
"$relay" --config "$work/relay.conf" --check >"$work/check.log" 2>&1 || fail "--check"
"$relay" --config "$work/relay.conf" 2>"$work/relay.log" &
pids+=($!)
sql "${name}_shop" "INSERT INTO outbox (topic, ordering_key, payload) VALUES ('order.placed', 'c-1', '{\"order_id\": 1}')" || fail "INSERT"
arrived() {
    [ "$(sql "${name}_stock" "SELECT CONCAT_WS(' ', topic, ordering_key, state, payload) FROM inbox")" = 'order.placed c-1 ready {"order_id": 1}' ]
}
wait_for arrived || fail "the message did not arrive"
port=$(sed -n '/^\[console\]/,$s/^http_port = //p' "$work/relay.conf")
curl -sf -u "somebody:$(cat "$trial/secrets/console")" "http://127.0.0.1:$port/" | grep -q -i rowpost || fail "the console does not answer"
echo '[       OK ] a message goes through the trial of deploy/compose'
