# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# idle_cost: a relay that has nothing to do: its processor time, and the statements that the server counts.

figure idle_cost "a relay with an empty outbox: processor time, and queries a second"

# The processor time of a process so far, in milliseconds.
idle_cpu_ms() {
    awk -v tick_ms=$((1000 / $(getconf CLK_TCK))) '{ sub(/.*\) /, ""); print ($12 + $13) * tick_ms }' \
        "/proc/$idle_pid/stat"
}

idle_questions() {
    sql "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'QUESTIONS'"
}

# Percent of a core, and queries per second, over some seconds. Looking at the count takes the client two of them.
idle_turn() {
    local seconds cpu queries
    seconds=$(size 10 1)
    cpu=$(idle_cpu_ms) && queries=$(idle_questions) || return 1
    sleep "$seconds" 8>&-
    calculate "($(idle_cpu_ms) - $cpu) / ($seconds * 10)" | tr '\n' ' ' || return 1
    calculate "($(idle_questions) - $queries - 2) / $seconds"
}

measure_idle_cost() {
    local rc=0
    sql "TRUNCATE obx_bench.outbox" && fresh_queue || return 1
    relay_config "$out/relay.conf" outbox "$OBX_TEST_AMQP_PORT" || return 1
    "$relay_bin" --config "$out/relay.conf" >"$out/log/relay.log" 2>&1 </dev/null 8>&- &
    idle_pid=$!
    # It polls more slowly the longer nothing comes: what counts is the state it ends in.
    sleep "$(size 5 1)" 8>&-
    in_turns "$(size 3 1)" idle_turn || rc=1
    kill -TERM "$idle_pid"
    wait "$idle_pid" || { note "the relay ended badly, see $out/log/relay.log"; rc=1; }
    [ $rc = 0 ] || return 1
    result idle_cost "% of a core" "at most 1" "" $(values idle_turn 1)
    result idle_queries queries/s "at most 200" "" $(values idle_turn 2)
}
