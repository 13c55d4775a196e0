#!/usr/bin/env bash
# Runs the short demo as a user would, with servers of its own, and then proves that its audit can fail:
# each fault is put into the databases by hand and has to be found.
# usage: demo_test.bash SOURCE_FOLDER
set -u -o pipefail
export LC_ALL=C
root=$1
dir=$root/build/demo/run
unset OBX_SERVERS_DIR

die() {
    printf 'demo_test: %s\n' "$*" >&2
    exit 1
}

demo() {
    bash "$root/examples/demo" "$@" </dev/null
}

trap 'demo --stop' EXIT
demo --fast --keep || die "the demo failed"

# The databases stay as they are while the audit looks.
end_processes() {
    local name pid
    for name in inventory-1 inventory-2 python-1 python-2 inbox-relay relay-1 relay-2; do
        if ! read -r pid _ <"$dir/$name/pid" || ! kill -KILL "$pid"; then
            die "$name does not run with --keep"
        fi
    done
}

sql() {
    OBX_SERVERS_DIR=$root/build/demo/servers "$root/tests/support/servers" sql -e "$1" || die "$1"
}

audit() {
    bash "$dir/audit" >"$dir/audit.log" 2>&1
}

# finds WHAT SQL UNDO: the audit finds a fault, names it, and finds nothing without it.
finds() {
    local what=$1
    sql "$2"
    ! audit || die "the audit does not see: $what"
    grep -q "$what.*WRONG" "$dir/audit.log" || { cat "$dir/audit.log"; die "the audit does not name: $what"; }
    sql "$3"
    audit || { cat "$dir/audit.log"; die "the audit finds something where nothing is, after: $what"; }
}

end_processes
audit || { cat "$dir/audit.log"; die "the audit of the finished demo"; }
columns="order_id, customer, customer_seq, sku, quantity"
finds "lost: committed and not applied" \
    "INSERT INTO shop.orders (id, customer, customer_seq, sku, quantity) VALUES (9999999, 1, 9999999, 'plum', 0)" \
    "DELETE FROM shop.orders WHERE id = 9999999"
finds "ghosts: applied and not committed" \
    "INSERT INTO stock.applied_order ($columns) VALUES (9999999, 1, 9999999, 'plum', 0)" \
    "DELETE FROM stock.applied_order WHERE order_id = 9999999"
finds "doubled: applied more than once" \
    "INSERT INTO stock.applied_order (line, $columns)
     SELECT 9999999, $columns FROM stock.applied_order ORDER BY line DESC LIMIT 1" \
    "DELETE FROM stock.applied_order WHERE line = 9999999"
finds "applied out of a customer's order" \
    "UPDATE stock.applied_order SET line = 9999999 WHERE customer = 1 AND customer_seq = 1" \
    "UPDATE stock.applied_order SET line = 0 WHERE line = 9999999"
finds "altered on the way" \
    "UPDATE stock.applied_order SET quantity = quantity + 1 WHERE customer = 1 AND customer_seq = 1" \
    "UPDATE stock.applied_order SET quantity = quantity - 1 WHERE customer = 1 AND customer_seq = 1"
finds "pieces of stock missing or too many" \
    "UPDATE stock.stock SET on_hand = on_hand - 1 WHERE sku = 'apple'" \
    "UPDATE stock.stock SET on_hand = on_hand + 1 WHERE sku = 'apple'"
finds "rows left in the outbox" \
    "INSERT INTO shop.outbox (topic, payload) VALUES ('order.placed', '{}')" \
    "DELETE FROM shop.outbox"
finds "messages that the relay has parked" \
    "INSERT INTO shop.outbox_parked (outbox, id, message_id, topic, content_type, payload, created_at, reason_code)
     VALUES ('outbox', 1, 'x', 't', 'text/plain', '', UTC_TIMESTAMP(6), 'x')" \
    "DELETE FROM shop.outbox_parked"
for state in waiting dead; do
    what="messages that wait for another attempt"
    [ $state = waiting ] || what="dead messages"
    finds "$what" \
        "INSERT INTO stock.inbox_parked (consumer_group, message_id, lane, state, replay_until, queue, properties, body, size)
         VALUES ('inventory', 'x', 0, '$state', UTC_TIMESTAMP(6), 'inventory', '', '', 0)" \
        "DELETE FROM stock.inbox_parked"
done
# The service in Python is looked at just the same.
finds "doubled: applied more than once" \
    "INSERT INTO depot.applied_order (line, $columns)
     SELECT 9999999, $columns FROM depot.applied_order ORDER BY line DESC LIMIT 1" \
    "DELETE FROM depot.applied_order WHERE line = 9999999"
finds "pieces of stock missing or too many" \
    "UPDATE depot.stock SET on_hand = on_hand - 1 WHERE sku = 'pear'" \
    "UPDATE depot.stock SET on_hand = on_hand + 1 WHERE sku = 'pear'"
finds "rows left in an inbox" \
    "INSERT INTO depot.inbox (queue, state, message_id, topic, size, payload) VALUES ('x', 'ready', 'x', 't', 0, '')" \
    "DELETE FROM depot.inbox"
echo "demo_test: the demo works, and its audit finds what is wrong"
