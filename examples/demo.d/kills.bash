# shellcheck shell=bash
# shellcheck disable=SC2154  # the variables are set by examples/demo
# The act: orders flow, parts are killed and come back, the rest is waited for, and the report.
# Sourced by examples/demo.

# ---------------------------------------------------------------- looking

committed=0 applied=0 waiting=0 stored=0

audit_sql() {
    MYSQL_PWD=$(password_of audit) mariadb --no-defaults --protocol=tcp --connect-timeout=5 --host=127.0.0.1 \
        --port="$OBX_TEST_DB_PORT" --user=audit -N -B -e "$1" 2>/dev/null </dev/null 8>&-
}

# Reads the figures; leaves them as they were while the database is away. Applied is what both services, that in C and
# that in Python, have applied.
look() {
    local row
    row=$(audit_sql "SELECT (SELECT COUNT(*) FROM shop.orders),
                            LEAST((SELECT COUNT(*) FROM stock.applied_order), (SELECT COUNT(*) FROM depot.applied_order)),
                            (SELECT COUNT(*) FROM shop.outbox), (SELECT COUNT(*) FROM depot.inbox)") || return 1
    read -r committed applied waiting stored <<<"$row"
}

show_flow() {
    show_bar "$applied" "$orders" "$committed orders committed, $applied applied, $waiting in the outbox"
}

# watch SECONDS COMMAND...: like wait_for, with the flow of orders shown.
watch() {
    local end=$((SECONDS + $1))
    shift
    until look && "$@"; do
        if [ $SECONDS -ge $end ]; then
            fail "this did not happen in time: $*"
            return 1
        fi
        show_flow
        sleep 0.3
    done
    show_flow
}

committed_is() {
    [ "$committed" -ge "$1" ]
}

applied_is() {
    [ "$applied" -ge "$1" ]
}

waiting_is() {
    [ "$waiting" -ge "$1" ]
}

# ---------------------------------------------------------------- counts that die with their process

declare -A published=([relay-1]=0 [relay-2]=0)

# Adds what a relay has published since its start. Right before it is killed: the count dies with it.
note_published() {
    local count
    count=$(http_get "$(state_get "$1" port)" /metrics | awk '/^rowpost_published_total/ { sum += $2 } END { print sum + 0 }')
    published[$1]=$((published[$1] + count))
}

# consumer_sum WORD: of the last counts of every life of both consumers.
consumer_sum() {
    local log
    for log in "$dir"/inventory-*.log; do
        grep '^delivered=' "$log" | tail -n 1
    done | tr ' ' '\n' | awk -F= -v word="$1" '$1 == word { sum += $2 } END { print sum + 0 }'
}

# ---------------------------------------------------------------- killing

kill_process() {
    local pid
    pid=$(pid_of "$1") || fail "$1 ended by itself, see its log in $dir" || return 1
    kill -KILL "$pid"
    wait_for 10 is_gone "$pid"
}

other() {
    case $1 in
    *1) echo "${1%1}2" ;;
    *) echo "${1%2}1" ;;
    esac
}

# The owner's name is the relay's, with its pid and more behind it.
owner() {
    audit_sql "SELECT owner FROM shop.outbox_lease WHERE outbox = 'outbox' AND expires_at > UTC_TIMESTAMP(6)"
}

is_owner() {
    case $(owner) in
    "$1"*) return 0 ;;
    *) return 1 ;;
    esac
}

current_owner() {
    local name
    for name in relay-1 relay-2; do
        if is_owner $name; then
            victim=$name
            return 0
        fi
    done
    return 1
}

# Of the two consumers one is active; the other waits for its place.
delivered_of() {
    sed -n 's/^delivered=\([0-9]*\).*/\1/p' "$dir/$1.${lives[$1]}.log" | tail -n 1
}

declare -A delivered_before=()

one_has_moved() {
    local name
    for name in inventory-1 inventory-2; do
        if [ "$(delivered_of "$name")" -gt "${delivered_before[$name]}" ]; then
            victim=$name
            return 0
        fi
    done
    return 1
}

find_active_consumer() {
    local name
    for name in inventory-1 inventory-2; do
        delivered_before[$name]=$(delivered_of "$name")
    done
    watch 60 one_has_moved
}

kill_relay() {
    local heir start
    watch 60 current_owner || return 1
    heir=$(other "$victim")
    note_published "$victim"
    say "kill -9 $victim, which owned the outbox"
    start=$(now_ms)
    kill_process "$victim" && watch 60 is_owner "$heir" || return 1
    say "  $heir took over after $(since "$start"); $victim is started again and stands by"
    start_relay "$victim"
}

kill_consumer() {
    local start
    find_active_consumer || return 1
    say "kill -9 $victim, in the middle of its work"
    start=$(now_ms)
    kill_process "$victim" && look && watch 60 applied_is $((applied + rate / 10 + 1)) || return 1
    say "  $(other "$victim") went on after $(since "$start"); $victim is started again and stands by"
    start_inventory "$victim"
}

# As a consumer in C: what was in hand is where it was.
kill_python() {
    local start
    say "kill -9 python-1 and inbox-relay, in the middle of their work"
    start=$(now_ms)
    kill_process python-1 && kill_process inbox-relay || return 1
    start_python python-1 && start_inbox_relay || return 1
    look && watch 60 applied_is $((applied + rate / 10 + 1)) || return 1
    say "  both are started again; orders go on after $(since "$start")"
}

kill_broker() {
    local start
    say "kill -9 RabbitMQ; orders go on, the outbox keeps their messages"
    start=$(now_ms)
    server kill rabbitmq >>"$dir/servers.log" 2>&1 && watch 60 waiting_is "$rate" || return 1
    run_server_start rabbitmq || return 1
    say "  RabbitMQ is back after $(since "$start") with $waiting messages waiting in the outbox"
    watch 60 applied_is "$committed" || return 1
    say "  they are delivered and applied"
}

kill_database() {
    local start
    say "kill -9 MariaDB, with both databases, in the middle of transactions"
    start=$(now_ms)
    server kill database >>"$dir/servers.log" 2>&1 && run_server_start database || return 1
    wait_for 60 look || fail "MariaDB does not answer" || return 1
    say "  MariaDB is back after $(since "$start"); what was committed is there: $committed orders"
    watch 60 applied_is $((committed + rate / 10 + 1)) || return 1
    say "  and orders flow again"
}

# The flow is shown while a server starts.
run_server_start() {
    local pid
    server start "$1" >>"$dir/servers.log" 2>&1 &
    pid=$!
    while kill -0 $pid 2>/dev/null; do
        look
        show_flow
        sleep 0.3
    done
    wait $pid && return 0
    tail -n 20 "$dir/servers.log" >&2
    fail "$1 did not start again"
}

kill_everything_of_ours() {
    local name
    say "kill -9 both relays, all inventory services and inbox-relay at the same moment"
    for name in relay-1 relay-2; do
        note_published $name
    done
    for name in relay-1 relay-2 inventory-1 inventory-2 inbox-relay python-1 python-2; do
        kill_process $name || return 1
    done
    look && watch 60 waiting_is "$rate" || return 1
    start_inbox_relay || return 1
    for name in 1 2; do
        start_inventory "inventory-$name"
        start_python "python-$name"
        start_relay "relay-$name" || return 1
    done
    watch 60 applied_is "$committed" || return 1
    say "  all seven are started again and have caught up"
}

order_by_hand() {
    local number
    for number in 1 2 3; do
        DB_PORT=$OBX_TEST_DB_PORT DB_USER=shop_app DB_PASSWORD=$(password_of shop_app) DB_NAME=shop \
            sh "$here/order.sh" $number plum 1 >>"$dir/order.sh.log" 2>&1 || {
            cat "$dir/order.sh.log" >&2
            fail "examples/order.sh"
            return 1
        }
    done
    say "three orders more, from a shell script with nothing but the database client (order.sh)"
}

# at PERCENT ACT: when so many of the orders are committed.
at() {
    watch "$patience" committed_is $((orders * $1 / 100)) && "$2"
}

kill_all_in_turn() {
    local seconds=25
    [ "$mode" = full ] || seconds=15
    rate=$((orders / seconds))
    [ $rate -ge 5 ] || rate=5
    [ $rate -le 300 ] || rate=300
    patience=$((120 + 5 * orders / rate)) # seconds; the machine may be busy with other things
    say "orders flow, about $rate a second; one of ten is rolled back on purpose"
    start_orders
    at 5 order_by_hand && at 10 kill_relay && at 20 kill_consumer && at 30 kill_python &&
        at 40 kill_broker && at 55 kill_database || return 1
    [ "$mode" = fast ] || at 75 kill_everything_of_ours || return 1
    watch "$patience" committed_is "$orders" || return 1
    stop_process order-service 20
    say "enough: the order service is stopped"
}

is_all_applied() {
    [ "$applied" -ge "$committed" ] && [ "$waiting" = 0 ] && [ "$stored" = 0 ]
}

wait_until_applied() {
    look
    orders=$committed
    watch 120 is_all_applied || return 1
    say "nothing is left on the way"
}

# ---------------------------------------------------------------- the report

fact() {
    printf '  %-52s %10s   %s\n' "$1" "$2" "${3-}"
}

print_facts() {
    local last word value
    last=$(tail -n 1 "$dir/order-service.log")
    declare -A placed=()
    for word in $last; do
        value=${word#*=}
        placed[${word%%=*}]=$value
    done
    echo
    echo "What happened"
    fact "transactions rolled back on purpose" "${placed[rolled_back]}"
    fact "transactions that failed as the database was killed" "${placed[failed]}"
    fact "commits whose answer was lost with the database" "${placed[unknown]}" "only the database knows"
    fact "messages published by the relays" $((published[relay-1] + published[relay-2])) "* some twice"
    fact "deliveries to the inventory services in C" "$(consumer_sum delivered)" "*"
    fact "of them dropped as duplicates" "$(consumer_sum duplicates)" "*"
    echo "  (*) at least: what a killed process counted in its last moments went with it"
}

# A script of its own, so that it can be run again by hand while --keep lets everything run.
write_audit() {
    (umask 077 && cat >"$dir/audit") <<AUDIT
export SHOP_DB_PORT=$OBX_TEST_DB_PORT SHOP_DB_USER=audit SHOP_DB_PASSWORD=$(password_of audit) SHOP_DB_NAME=shop
export STOCK_DB_PORT=$OBX_TEST_DB_PORT STOCK_DB_USER=audit STOCK_DB_PASSWORD=$(password_of audit) STOCK_DB_NAME=stock
export AMQP_PORT=$OBX_TEST_AMQP_PORT AMQP_USER=$OBX_TEST_AMQP_USER AMQP_PASSWORD=$OBX_TEST_AMQP_PASSWORD
rc=0
echo "The service in C"
"$base/examples/audit" || rc=1
echo "The service in Python, by its inbox"
STOCK_DB_NAME=depot AMQP_QUEUE=inventory-python "$base/examples/audit" || rc=1
exit \$rc
AUDIT
}

print_report() {
    local rc=0
    print_facts
    echo
    echo "The audit of the databases and the queues"
    write_audit
    bash "$dir/audit" || rc=1
    echo
    if [ $rc = 0 ]; then
        echo "Every committed order was applied exactly once and in order by both services, and nothing else was."
    else
        echo "THE AUDIT FOUND SOMETHING. The logs are in $dir."
    fi
    return $rc
}
