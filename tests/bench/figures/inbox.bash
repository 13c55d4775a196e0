# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# The inbox: storing, working off, a long backlog, idleness, and the whole way from commit to commit.

figure inbox_store "messages stored from a queue into the inbox, over one commit per message"
figure inbox_work "take, a small UPDATE and done by 4 workers, over the UPDATE alone in 4 connections"
figure inbox_backlog "takes with 1,000,000 rows waiting, half of them of one key, over 1,000 rows"
figure inbox_idle "queries a second of an idle inbox-relay, and of an idle worker with wake-up"
figure inbox_latency "commit of the outbox row to the commit of the worker's effect, at 200 messages/s"

inbox_relay_bin=$root/build/release/consumer-lib/inbox-relay/inbox-relay

# inbox_config FILE [LINE...]: LINEs go to [queue bench]. The queue is there already.
inbox_config() {
    local file=$1
    shift
    (
        umask 077
        printf '[notify]\nhttp_port = 0\n[broker]\naddresses = %s:%s\nvhost = %s\nuser = %s\npassword = %s\n' \
            "$OBX_TEST_AMQP_HOST" "$OBX_TEST_AMQP_PORT" "$OBX_TEST_AMQP_VHOST" "$OBX_TEST_AMQP_USER" \
            "$OBX_TEST_AMQP_PASSWORD"
        printf 'topology = no\n[database]\nhost = %s\nport = %s\nuser = %s\npassword = %s\ndatabase = obx_bench\n' \
            "$OBX_TEST_DB_HOST" "$OBX_TEST_DB_PORT" "$OBX_TEST_DB_USER" "$OBX_TEST_DB_PASSWORD"
        printf '[queue bench]\nqueue = %s\n' "$queue"
        [ $# = 0 ] || printf '%s\n' "$@"
    ) >"$file"
}

inbox_stock() {
    sql "DELETE FROM obx_bench.bench_stock" || return 1
    sql "INSERT INTO obx_bench.bench_stock SELECT seq, 0 FROM obx_bench.numbers" 2>/dev/null && return 0
    sql "CREATE TABLE obx_bench.numbers (seq INT PRIMARY KEY)" || return 1
    sql "INSERT INTO obx_bench.numbers SELECT a.n + 10 * b.n + 100 * c.n FROM
        (SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6
         UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) a,
        (SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6
         UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) b,
        (SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6
         UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) c" || return 1
    sql "INSERT INTO obx_bench.bench_stock SELECT seq, 0 FROM obx_bench.numbers"
}

# inbox_stored MESSAGES [LINE...]: a queue with so many messages, and how fast they come into the table.
inbox_stored() {
    local messages=$1 rc=0
    shift
    relay_config "$out/relay.conf" outbox "$OBX_TEST_AMQP_PORT" && fresh_queue && fill outbox "$messages" || return 1
    program drain.log "$bin/bench_drain" --rows "$messages" --table outbox --log "$out/log/relay.log" \
        -- "$relay_bin" --config "$out/relay.conf" >/dev/null || return 1
    inbox_config "$out/inbox.conf" "$@" || return 1
    program inbox.log "$bin/bench_inbox" store --messages "$messages" --log "$out/log/inbox-relay.log" \
        -- "$inbox_relay_bin" --config "$out/inbox.conf" || rc=1
    rm -f "$out/inbox.conf"
    delete_queue && return $rc
}

inbox_stored_together() {
    inbox_stored "$(size 40000 1000)"
}

inbox_stored_singly() {
    inbox_stored "$(size 2500 200)" "batch = 1" "workers = 1"
}

measure_inbox_store() {
    in_turns "$(size 3 1)" inbox_stored_together inbox_stored_singly || return 1
    result inbox_store ratio "at least 10" \
        "$(typical inbox_stored_together)/s over one by one $(typical inbox_stored_singly)/s" \
        $(ratios inbox_stored_together inbox_stored_singly)
}

inbox_worked() {
    program inbox.log "$bin/bench_inbox" fill --rows "$(size 4000 300)" || return 1
    program inbox.log "$bin/bench_inbox" work --messages "$(size 4000 300)"
}

inbox_updated() {
    program inbox.log "$bin/bench_inbox" plain --messages "$(size 4000 300)"
}

measure_inbox_work() {
    inbox_stock || return 1
    in_turns "$(size 5 1)" inbox_worked inbox_updated || return 1
    result inbox_work ratio "at least 0.4" \
        "inbox $(typical inbox_worked)/s over UPDATE alone $(typical inbox_updated)/s" \
        $(ratios inbox_worked inbox_updated)
}

# Takes from a long table go on in it from turn to turn; the short one is made again.
inbox_take_long() {
    program inbox.log "$bin/bench_inbox" take --messages "$(size 1000 100)"
}

inbox_take_short() {
    sql "RENAME TABLE obx_bench.inbox TO obx_bench.inbox_long, obx_bench.inbox_short TO obx_bench.inbox" || return 1
    program inbox.log "$bin/bench_inbox" fill --rows "$(size 1000 100)" &&
        program inbox.log "$bin/bench_inbox" take --messages "$(size 1000 100)"
    local rc=$?
    sql "RENAME TABLE obx_bench.inbox TO obx_bench.inbox_short, obx_bench.inbox_long TO obx_bench.inbox" && return $rc
}

measure_inbox_backlog() {
    program inbox.log "$bin/bench_inbox" fill --rows "$(size 1000000 2000)" --hot 1 || return 1
    sql "DROP TABLE IF EXISTS obx_bench.inbox_short; CREATE TABLE obx_bench.inbox_short LIKE obx_bench.inbox" || return 1
    in_turns "$(size 7 1)" inbox_take_long inbox_take_short || return 1
    sql "DROP TABLE obx_bench.inbox_short; TRUNCATE obx_bench.inbox" || return 1
    result inbox_backlog ratio "at least 0.9" \
        "$(typical inbox_take_long)/s over $(typical inbox_take_short)/s, 50 to a commit" \
        $(ratios inbox_take_long inbox_take_short)
}

# inbox_idle_turn: queries per second; looking at the count takes the client two of them.
inbox_idle_turn() {
    local seconds queries
    seconds=$(size 10 1)
    queries=$(inbox_questions) || return 1
    sleep "$seconds" 8>&-
    calculate "($(inbox_questions) - $queries - 2) / $seconds"
}

inbox_questions() {
    sql "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'QUESTIONS'"
}

# inbox_idle_of NAME COMMAND...: of a program that has been idle for some seconds.
inbox_idle_of() {
    local name=$1 pid rc=0
    shift
    "$@" >"$out/log/inbox-idle.log" 2>&1 </dev/null 8>&- &
    pid=$!
    sleep "$(size 5 1)" 8>&-
    in_turns "$(size 3 1)" inbox_idle_turn || rc=1
    kill -TERM "$pid"
    wait "$pid"
    [ $rc = 0 ] || return 1
    result "$name" queries/s "at most 10" "" $(values inbox_idle_turn)
}

measure_inbox_idle() {
    sql "TRUNCATE obx_bench.inbox" && fresh_queue || return 1
    inbox_config "$out/inbox.conf" "wake = $out/worker.sock" || return 1
    inbox_idle_of inbox_idle_relay "$inbox_relay_bin" --config "$out/inbox.conf" || return 1
    inbox_idle_of inbox_idle_worker "$bin/bench_inbox" listen --socket "$out/worker.sock" || return 1
    rm -f "$out/inbox.conf" "$out/worker.sock"
    delete_queue
}

inbox_latency_turn() {
    local relay inbox fields rc=0
    sql "TRUNCATE obx_bench.outbox; TRUNCATE obx_bench.inbox" && fresh_queue || return 1
    rm -f "$out/bell"
    relay_config "$out/relay.conf" outbox "$OBX_TEST_AMQP_PORT" "doorbell_socket = $out/bell" || return 1
    mkdir -p "$out/wake" && inbox_config "$out/inbox.conf" "wake = $out/wake" || return 1
    "$relay_bin" --config "$out/relay.conf" >"$out/log/relay.log" 2>&1 </dev/null 8>&- &
    relay=$!
    "$inbox_relay_bin" --config "$out/inbox.conf" >"$out/log/inbox-relay.log" 2>&1 </dev/null 8>&- &
    inbox=$!
    while [ ! -S "$out/bell" ] && kill -0 "$relay" 2>/dev/null; do
        sleep 0.1 8>&-
    done
    fields=$(program inbox.log "$bin/bench_inbox" latency --messages "$(size 2000 100)" --doorbell "$out/bell" \
        --sockets "$out/wake") || rc=1
    kill -TERM "$relay" "$inbox"
    wait "$relay" "$inbox"
    rm -rf "$out/inbox.conf" "$out/wake"
    delete_queue || return 1
    [ $rc = 0 ] || return 1
    awk '{ printf "%.3f %.3f\n", $1 / 1000, $2 / 1000 }' <<<"$fields"
}

measure_inbox_latency() {
    inbox_stock || return 1
    in_turns "$(size 3 1)" inbox_latency_turn || return 1
    result inbox_latency_p50 ms "at most 10" "both doorbells on" $(values inbox_latency_turn 1) || return 1
    result inbox_latency_p99 ms "" "" $(values inbox_latency_turn 2)
}
