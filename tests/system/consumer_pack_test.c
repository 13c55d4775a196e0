/*
 * Packs at the consumer: each message of a pack is one of its own (applied once, in the order of its
 * key, tried again, rejected, reported), and the pack is acknowledged when all of them have been
 * dealt with. A pack that cannot be read is dead with its reason, and nothing else suffers. P3, P4, P6, P10.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "bridge/pack.h"
#include "consumer_rig.h"
#include "message_header.h"
#include "wait.h"

enum { EVENTS = 60, KEYS = 4, TEXT_SIZE = 32 };

static void name_event(struct rig_event *event, const char *prefix, int number)
{
    (void)snprintf(event->id, sizeof(event->id), "%s-%03d", prefix, number);
}

/* Ids that rise, some keys, bodies "ok". */
static void fill(struct rig_event events[EVENTS], const char *prefix)
{
    static const char *const keys[KEYS] = {"key-0", "key-1", "key-2", NULL};

    for (int i = 0; i < EVENTS; i++) {
        events[i] = (struct rig_event){.key = keys[i % KEYS], .body = "ok"};
        name_event(&events[i], prefix, i);
    }
}

/* "reject", "retry N" until attempt N, anything else is applied. */
static enum obx_verdict obey(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    char body[TEXT_SIZE];

    (void)ctx;
    (void)bytes_to_text(msg->body, body, sizeof(body));
    if (strcmp(body, "reject") == 0)
        return OBX_REJECT;
    if (strncmp(body, "retry ", 6) == 0 && msg->attempt < (uint32_t)atoi(body + 6))
        return OBX_RETRY;
    return rig_write(msg, tx);
}

static void each_message_of_a_pack_is_applied_once_in_order(void **state)
{
    struct rig *rig = *state;
    struct rig_event events[EVENTS];
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    fill(events, "a");
    rig_put_pack(rig, events, EVENTS);
    rig_put_pack(rig, events, EVENTS); /* a copy */
    rig_put(rig, "alone", "key-0", "ok");
    fill(events, "b");
    rig_put_pack(rig, events, EVENTS);
    rig->opts.workers = 3;
    consumer = rig_start(rig, rig_apply, NULL);
    RIG_WAIT_STAT(consumer, acked, 4);
    assert_int_equal(rig_stats(consumer).applied, 2 * EVENTS + 1);
    assert_int_equal(rig_stats(consumer).duplicates, EVENTS);
    rig_stop(consumer);
    rig_audit(rig, 2 * EVENTS + 1);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_applied"), 2 * EVENTS + 1);
    rig_assert_empty(rig, rig->queue);
}

/* What a handler sees of a message that came in a pack is what it would have seen otherwise. */
static enum obx_verdict look(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    _Atomic int *seen = ctx;

    (void)tx;
    assert_true(bytes_is(msg->message_id, "m-007"));
    assert_true(bytes_is(msg->topic, "test.topic"));
    assert_true(bytes_is(msg->ordering_key, "key \"7\""));
    assert_true(bytes_is(msg->source, "/shop/outbox"));
    assert_true(bytes_is(msg->content_type, "text/plain"));
    assert_true(bytes_is(msg->body, " {\"a\": 12.50}\n"));
    assert_int_equal(msg->outbox_id, 1);
    assert_true(msg->created_us > 0 && msg->created_us % 1000000 == 1);
    assert_int_equal(msg->attempt, 1);
    assert_true(bytes_is(obx_message_header(msg, "app")->v.text, "x\ty"));
    assert_null(obx_message_header(msg, PACK_COUNT_HEADER));
    atomic_fetch_add(seen, 1);
    return OBX_APPLIED;
}

static void a_handler_sees_nothing_of_the_pack(void **state)
{
    struct rig *rig = *state;
    struct rig_event event = {
        .id = "m-007", .key = "key \"7\"", .body = " {\"a\": 12.50}\n", .app = "x\ty"};
    _Atomic int seen = 0;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_put_pack(rig, &event, 1);
    consumer = rig_start(rig, look, &seen);
    RIG_WAIT_STAT(consumer, acked, 1);
    rig_stop(consumer);
    assert_int_equal(atomic_load(&seen), 1);
}

static void poison_in_a_pack_costs_the_others_nothing(void **state)
{
    struct rig *rig = *state;
    struct rig_event events[EVENTS];
    struct obx_consumer *consumer = NULL;
    struct bridge_delivery *dead = NULL;

    rig_declare(rig);
    fill(events, "m");
    events[5].body = "reject";
    events[6].body = "retry 3"; /* of key-2 */
    rig_put_pack(rig, events, EVENTS);
    rig->opts.retry_min_ms = 50;
    rig->opts.retry_cap_ms = 50;
    consumer = rig_start(rig, obey, NULL);
    RIG_WAIT_STAT(consumer, acked, 1);
    rig_wait_applied(rig, EVENTS - 1);
    RIG_WAIT_STAT(consumer, dead_lettered, 1);
    rig_stop(consumer);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_parked"), 0);
    dead = rig_take(rig, rig->dead, RIG_WAIT_MS);
    assert_non_null(dead);
    assert_true(bytes_is(dead->msg.message_id, "m-005")); /* it, and not its pack */
    assert_true(bytes_is(dead->msg.body, "reject"));
    assert_int_equal(dead->msg.timestamp_s, UINT64_C(4070908800));
    assert_null(message_header(&dead->msg, PACK_COUNT_HEADER));
    bridge_delivery_free(dead);
    rig_assert_empty(rig, rig->queue);
}

/* ---- packs that cannot be read ---- */

static void put_text(struct rig *rig, const char *app_id, int64_t told, const char *text)
{
    const struct obx_header header = {
        .name = bytes_of(PACK_COUNT_HEADER), .type = OBX_H_I64, .v.i64 = told};
    const struct bridge_message msg = {.content_type = bytes_of(PACK_CONTENT_TYPE),
                                       .app_id = bytes_of(app_id),
                                       .headers = &header,
                                       .header_count = 1,
                                       .body = bytes_of(text)};

    rig_put_message(rig, &msg);
}

static void a_bad_pack_is_dead_with_its_reason(void **state)
{
    static const struct {
        const char *reason;
    } dead[] = {
        {"no JSON"},
        {"has 1"},
        {"two messages of one id"},
        {"not of Rowpost"},
        {"1000 are allowed"},
        {"nested too deeply"},
        {"bytes; "},
    };
    enum { DEAD = sizeof(dead) / sizeof(dead[0]) };
    const char *event = "{\"specversion\":\"1.0\",\"id\":\"a\",\"source\":\"/s/o\",\"type\":\"t\","
                        "\"time\":\"2026-11-25T11:12:00Z\"}";
    struct rig *rig = *state;
    struct rig_event good = {.id = "good", .body = "ok"};
    struct obx_consumer *consumer = NULL;
    char *text = calloc(1, PACK_BYTES_MAX + 2);

    assert_non_null(text);
    rig_declare(rig);
    put_text(rig, "rowpost", 1, "[{\"specversion\":");
    (void)snprintf(text, PACK_BYTES_MAX, "[%s]", event);
    put_text(rig, "rowpost", 2, text);
    put_text(rig, "another", 1, text);
    put_text(rig, "rowpost", 1001, text);
    (void)snprintf(text, PACK_BYTES_MAX, "[%s,%s]", event, event);
    put_text(rig, "rowpost", 2, text);
    rig_put_pack(rig, &good, 1); /* among them */
    memset(text, '[', 1000);
    text[1000] = '\0';
    put_text(rig, "rowpost", 1, text);
    memset(text, ' ', PACK_BYTES_MAX + 1);
    put_text(rig, "rowpost", 1, text);
    rig_flush(rig);
    consumer = rig_start(rig, rig_apply, NULL);
    RIG_WAIT_STAT(consumer, acked, DEAD + 1);
    RIG_WAIT_STAT(consumer, dead_lettered, DEAD);
    rig_stop(consumer);
    rig_audit(rig, 1);
    for (unsigned found = 0; found != (1U << DEAD) - 1;) {
        struct bridge_delivery *letter = rig_take(rig, rig->dead, RIG_WAIT_MS);

        assert_non_null(letter);
        for (unsigned i = 0; i < DEAD; i++) {
            if (strstr(rig_header(letter, "x-obx-reason"), dead[i].reason) != NULL)
                found |= 1U << i;
        }
        assert_true(pack_is(&letter->msg)); /* as it was, for somebody to look at */
        bridge_delivery_free(letter);
    }
    rig_assert_empty(rig, rig->queue);
    free(text);
}

/* A batch of events that an application sends as its payload is no affair of ours. */
static void a_batch_that_is_no_pack_is_a_message(void **state)
{
    struct rig *rig = *state;
    const struct bridge_message msg = {.message_id = bytes_of("m"),
                                       .type = bytes_of("test.topic"),
                                       .content_type = bytes_of(PACK_CONTENT_TYPE),
                                       .body = bytes_of("[]")};
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_put_message(rig, &msg);
    rig_flush(rig);
    consumer = rig_start(rig, rig_apply, NULL);
    RIG_WAIT_STAT(consumer, acked, 1);
    rig_stop(consumer);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied WHERE body = '[]'"), 1);
}

/* Whatever ends between a part of a pack and its rest: the pack comes again, and each is applied once. */
static void packs_survive_lost_connections(void **state)
{
    struct rig *rig = *state;
    struct rig_event events[EVENTS];
    struct obx_consumer *consumer = NULL;
    enum { PACKS = 40 };

    rig_declare(rig);
    for (int i = 0; i < PACKS; i++) {
        char prefix[TEXT_SIZE];

        (void)snprintf(prefix, sizeof(prefix), "p%02d", i);
        fill(events, prefix);
        rig_put_pack(rig, events, EVENTS);
    }
    rig->opts.workers = 2;
    rig->opts.prefetch = 8;
    rig->opts.batch_max = 7; /* no pack in one commit */
    consumer = rig_start(rig, rig_apply, NULL);
    rig_wait_applied(rig, EVENTS);
    rig_broker_away(rig);
    rig_broker_back(rig);
    rig_wait_applied(rig, (uint64_t)PACKS * EVENTS);
    rig_stop(consumer);
    rig_audit(rig, (uint64_t)PACKS * EVENTS);
    rig_assert_empty(rig, rig->queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_message_of_a_pack_is_applied_once_in_order, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_handler_sees_nothing_of_the_pack, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(poison_in_a_pack_costs_the_others_nothing, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_bad_pack_is_dead_with_its_reason, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_batch_that_is_no_pack_is_a_message, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(packs_survive_lost_connections, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
