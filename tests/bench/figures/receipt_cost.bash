# shellcheck shell=bash
# shellcheck disable=SC2046,SC2154
# receipt_cost: outbox, relay, broker, consumer and back: messages that ask for a receipt over the same messages
# that do not. With receipts it ends when the last of them is settled by its receipt.

figure receipt_cost "end-to-end rate with receipts over without"

# through RECEIPT_FROM: prints messages per second.
through() {
    local rows fields
    rows=$(size 30000 500)
    fill outbox "$rows" --fresh 1 || return 1
    sql "UPDATE obx_bench.outbox SET receipt_from = $1" || return 1
    relay_config "$out/relay.conf" outbox "$OBX_TEST_AMQP_PORT" || return 1
    echo 'receipt_queue = rowpost.receipts.bench' >>"$out/relay.conf"
    fresh_queue || return 1
    fields=$(program end_to_end.log "$bin/bench_end_to_end" --rows "$rows" --log "$out/log/relay.log" \
        -- "$relay_bin" --config "$out/relay.conf") || return 1
    delete_queue || return 1
    echo "${fields#rate }"
}

through_with_receipts() {
    through "'bench'"
}

through_without() {
    through NULL
}

measure_receipt_cost() {
    in_turns "$(size 5 1)" through_with_receipts through_without || return 1
    result receipt_cost ratio "at least 0.60" \
        "with receipts $(typical through_with_receipts)/s over $(typical through_without)/s without" \
        $(ratios through_with_receipts through_without)
}
