/*
 * The consumer library on real servers: the ordinary life. Each message takes effect once, what is
 * in doubt is kept, what cannot be applied is dead-lettered with its reason, and a stop leaves
 * nothing half done.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "consumer_rig.h"

static void applies_each_message_once_and_acknowledges(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    struct obx_consumer_stats stats = {0};

    rig_declare(rig);
    rig_fill(rig, "m", 1000, 0);
    consumer = rig_start(rig, rig_apply, NULL);
    rig_wait_applied(rig, 1000);
    RIG_WAIT_STAT(consumer, acked, 1000);
    stats = rig_stats(consumer);
    assert_int_equal(stats.applied, 1000);
    assert_int_equal(stats.delivered, 1000);
    assert_int_equal(stats.duplicates, 0);
    assert_int_equal(stats.in_flight, 0);
    assert_int_equal(stats.in_flight_bytes, 0);
    assert_true(stats.commits < 1000);
    assert_true(stats.broker_up);
    assert_int_equal(stats.databases_up, 1);
    assert_int_equal(stats.state, OBX_CONSUMER_RUNNING);
    rig_stop(consumer);
    rig_audit(rig, 1000);
    rig_assert_empty(rig, rig->queue);
}

static void skips_what_is_published_twice(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_fill(rig, "m", 100, 0);
    rig_fill(rig, "m", 100, 0); /* within one batch, or the next */
    consumer = rig_start(rig, rig_apply, NULL);
    RIG_WAIT_STAT(consumer, acked, 200);
    rig_fill(rig, "m", 100, 0); /* long after */
    RIG_WAIT_STAT(consumer, acked, 300);
    assert_int_equal(rig_stats(consumer).applied, 100);
    assert_int_equal(rig_stats(consumer).duplicates, 200);
    rig_stop(consumer);
    rig_audit(rig, 100);
    rig_assert_empty(rig, rig->queue);
}

static void two_groups_on_one_database_apply_independently(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_fill(rig, "m", 50, 0);
    consumer = rig_start(rig, rig_apply, NULL);
    rig_wait_applied(rig, 50);
    rig_stop(consumer);
    rig_fill(rig, "m", 50, 0);
    rig->opts.group = "group-b";
    consumer = rig_start(rig, rig_apply, NULL);
    rig_wait_applied(rig, 100);
    rig_stop(consumer);
    assert_int_equal(rig_number(rig, "SELECT COUNT(DISTINCT consumer_group) FROM inbox_applied"),
                     2);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied"), 100);
}

static enum obx_verdict look_at_all(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    int *wrong = ctx;
    const struct obx_header *count = obx_message_header(msg, "count");
    const struct obx_header *yes = obx_message_header(msg, "yes");

    *wrong +=
        !bytes_is(msg->topic, "order.created") + !bytes_is(msg->ordering_key, "order-7") +
        !bytes_is(msg->content_type, "application/json") + !bytes_is(msg->source, "/shop/outbox") +
        !bytes_is(msg->traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") +
        !bytes_is(msg->body, "{}") + (msg->outbox_id != 42) + (msg->attempt != 1) +
        (msg->created_us != UINT64_C(4070908800123456)) +
        (count == NULL || count->type != OBX_H_I64 || count->v.i64 != -3) +
        (yes == NULL || yes->type != OBX_H_BOOL || !yes->v.yes) +
        (obx_message_header(msg, "none") != NULL);
    return rig_write(msg, tx);
}

static void the_handler_sees_the_whole_message(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    int wrong = 0;
    const struct obx_header headers[] = {
        {bytes_of("cloudEvents_source"), OBX_H_TEXT, {.text = bytes_of("/shop/outbox")}},
        {bytes_of("cloudEvents:partitionkey"), OBX_H_TEXT, {.text = bytes_of("order-7")}},
        {bytes_of("cloudEvents:time"),
         OBX_H_TEXT,
         {.text = bytes_of("2099-01-01T00:00:00.123456Z")}},
        {bytes_of("x-obx-outbox-id"), OBX_H_I64, {.i64 = 42}},
        {bytes_of("traceparent"),
         OBX_H_TEXT,
         {.text = bytes_of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")}},
        {bytes_of("count"), OBX_H_I64, {.i64 = -3}},
        {bytes_of("yes"), OBX_H_BOOL, {.yes = true}},
    };
    const struct bridge_message msg = {.message_id = bytes_of("m-1"),
                                       .type = bytes_of("order.created"),
                                       .content_type = bytes_of("application/json"),
                                       .headers = headers,
                                       .header_count = sizeof(headers) / sizeof(headers[0]),
                                       .body = bytes_of("{}")};

    rig_declare(rig);
    rig_put_message(rig, &msg);
    rig_flush(rig);
    consumer = rig_start(rig, look_at_all, &wrong);
    rig_wait_applied(rig, 1);
    rig_stop(consumer);
    assert_int_equal(wrong, 0);
}

/* ------------------------------------------------------------------ dead letters */

static enum obx_verdict reject_bad(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    (void)ctx;
    if (rig_write(msg, tx) != OBX_APPLIED)
        return OBX_RETRY;
    if (bytes_is(msg->body, "bad")) {
        obx_tx_reason(tx, "no such order: %d", 4711);
        return OBX_REJECT;
    }
    return OBX_APPLIED;
}

static void assert_header(const struct bridge_delivery *delivery, const char *name,
                          const char *value)
{
    assert_string_equal(rig_header(delivery, name), value);
}

static void a_rejected_message_is_dead_lettered_with_its_reason(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    struct bridge_delivery *dead = NULL;
    const struct obx_header headers[] = {
        {bytes_of("tenant"), OBX_H_TEXT, {.text = bytes_of("acme")}},
        {bytes_of("x-obx-reason"), OBX_H_TEXT, {.text = bytes_of("of an earlier life")}},
    };
    const struct bridge_message bad = {.message_id = bytes_of("bad-1"),
                                       .type = bytes_of("order.created"),
                                       .content_type = bytes_of("text/plain"),
                                       .correlation_id = bytes_of("corr-1"),
                                       .timestamp_s = 1700000000,
                                       .headers = headers,
                                       .header_count = 2,
                                       .body = bytes_of("bad")};

    rig_declare(rig);
    rig_put(rig, "m-1", NULL, "ok");
    rig_put_message(rig, &bad);
    rig_put(rig, "m-2", NULL, "ok");
    rig_flush(rig);
    consumer = rig_start(rig, reject_bad, NULL);
    RIG_WAIT_STAT(consumer, acked, 3);
    RIG_WAIT_STAT(consumer, dead_lettered, 1);
    assert_int_equal(rig_stats(consumer).rejected, 1);
    rig_wait_number(rig, "SELECT COUNT(*) FROM inbox_parked", 0);
    assert_int_equal(rig_stats(consumer).dead_letter_pending, 0);
    rig_stop(consumer);
    rig_audit(rig, 2);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_applied"), 2);
    rig_assert_empty(rig, rig->queue);

    dead = rig_take(rig, rig->dead, RIG_WAIT_MS);
    assert_non_null(dead);
    assert_true(bytes_is(dead->msg.message_id, "bad-1"));
    assert_true(bytes_is(dead->msg.type, "order.created"));
    assert_true(bytes_is(dead->msg.content_type, "text/plain"));
    assert_true(bytes_is(dead->msg.correlation_id, "corr-1"));
    assert_true(bytes_is(dead->msg.body, "bad"));
    assert_int_equal(dead->msg.timestamp_s, 1700000000);
    assert_header(dead, "tenant", "acme");
    assert_header(dead, "x-obx-reason", "no such order: 4711");
    assert_header(dead, "x-obx-reason-code", "OBX_E_REJECTED");
    assert_header(dead, "x-obx-attempts", "1");
    assert_header(dead, "x-obx-original-exchange", "");
    assert_header(dead, "x-obx-original-routing-key", rig->queue);
    assert_header(dead, "x-obx-original-queue", rig->queue);
    assert_header(dead, "x-obx-consumer-group", "group-a");
    assert_int_equal(strlen(rig_header(dead, "x-obx-failed-at")),
                     strlen("2024-01-01T00:00:00.000000Z"));
    assert_int_equal(strlen(rig_header(dead, "x-obx-first-failed-at")),
                     strlen("2024-01-01T00:00:00.000000Z"));
    assert_int_equal(dead->msg.header_count, 10);
    bridge_delivery_free(dead);
}

static void a_message_without_an_id_is_dead_lettered(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    struct bridge_delivery *dead = NULL;

    rig_declare(rig);
    broker_put(rig->admin, rig->queue, NULL, "ok");
    broker_put(rig->admin, rig->queue, "", "ok");
    broker_put(rig->admin, rig->queue, "m-1", "ok");
    consumer = rig_start(rig, rig_apply, NULL);
    RIG_WAIT_STAT(consumer, acked, 3);
    RIG_WAIT_STAT(consumer, dead_lettered, 2);
    rig_stop(consumer);
    rig_audit(rig, 1);
    for (int i = 0; i < 2; i++) {
        dead = rig_take(rig, rig->dead, RIG_WAIT_MS);
        assert_non_null(dead);
        assert_header(dead, "x-obx-reason", "no message id");
        assert_true(dead->msg.message_id.len > 20); /* a new one, so that it can be replayed */
        assert_true(bytes_is(dead->msg.body, "ok"));
        bridge_delivery_free(dead);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(applies_each_message_once_and_acknowledges, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(skips_what_is_published_twice, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(two_groups_on_one_database_apply_independently, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(the_handler_sees_the_whole_message, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_rejected_message_is_dead_lettered_with_its_reason,
                                        rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_message_without_an_id_is_dead_lettered, rig_setup,
                                        rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
