/*
 * System tests of the receipts that a consumer sends: after the commit, before the acknowledgement,
 * again for a duplicate with the outcome that was recorded, and to nobody who did not ask. P8.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "consumer_rig.h"
#include "wait.h"

enum { TAKE_MS = 30000, NOTHING_MS = 300, TEXT_MAX = 512 };

static char receipts[96];

static int setup(void **state)
{
    struct rig *rig = NULL;

    if (rig_setup(state) != 0)
        return -1;
    rig = *state;
    (void)snprintf(receipts, sizeof(receipts), "rowpost.receipts.%s", rig->queue);
    broker_queue(rig->admin, receipts, NULL, 0);
    rig->opts.group = "stock";
    rig->opts.max_attempts = 2;
    rig->opts.retry_min_ms = 10;
    rig->opts.retry_cap_ms = 20;
    rig->opts.dead_letter_queue = NULL; /* the default */
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    broker_delete_queue(rig->admin, receipts);
    return rig_teardown(state);
}

/* A message that asks, not flushed; key may be NULL. */
static void put_asking(struct rig *rig, const char *id, const char *key, const char *body,
                       const char *to, const char *from)
{
    const struct obx_header headers[] = {
        {.name = bytes_of("cloudEvents:partitionkey"), .type = OBX_H_TEXT, .v.text = bytes_of(key)},
        {.name = bytes_of("x-obx-receipt-to"), .type = OBX_H_TEXT, .v.text = bytes_of(to)},
        {.name = bytes_of("x-obx-receipt-from"), .type = OBX_H_TEXT, .v.text = bytes_of(from)},
        {.name = bytes_of("x-obx-receipt-token"),
         .type = OBX_H_TEXT,
         .v.text = bytes_of("1.token")},
    };
    const size_t count = sizeof(headers) / sizeof(headers[0]);
    const struct bridge_message msg = {.exchange = bytes_of(""),
                                       .routing_key = bytes_of(rig->queue),
                                       .message_id = bytes_of(id),
                                       .headers = key != NULL ? headers : headers + 1,
                                       .header_count = key != NULL ? count : count - 1,
                                       .body = bytes_of(body)};

    rig_put_message(rig, &msg);
}

static void ask_of(struct rig *rig, const char *id, const char *body, const char *to,
                   const char *from)
{
    put_asking(rig, id, NULL, body, to, from);
    rig_flush(rig);
}

static void ask_keyed(struct rig *rig, const char *id, const char *key, const char *body)
{
    put_asking(rig, id, key, body, receipts, "stock");
}

static void ask(struct rig *rig, const char *id, const char *body)
{
    ask_of(rig, id, body, receipts, "mail, stock");
}

static enum obx_verdict handle(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    (void)ctx;
    if (msg->body.len == strlen("reject") && memcmp(msg->body.p, "reject", msg->body.len) == 0) {
        obx_tx_reason(tx, "no \"such\" article");
        return OBX_REJECT;
    }
    if (msg->body.len == strlen("retry") && memcmp(msg->body.p, "retry", msg->body.len) == 0)
        return OBX_RETRY;
    return rig_write(msg, tx);
}

/* The next message of the receipt queue has this text in it. */
static void expect(struct rig *rig, const char *text)
{
    struct bridge_delivery *delivery = rig_take(rig, receipts, TAKE_MS);
    char body[TEXT_MAX];

    if (delivery == NULL) {
        fail_msg("no receipt: %s", text);
        return;
    }
    (void)bytes_to_text(delivery->msg.body, body, sizeof(body));
    if (strstr(body, text) == NULL)
        fail_msg("%s is not in %s", text, body);
    assert_true(bytes_is(delivery->msg.type, "rowpost.receipts"));
    assert_true(bytes_is(delivery->msg.content_type, "application/json"));
    bridge_delivery_free(delivery);
}

static void expect_nothing(struct rig *rig)
{
    struct bridge_delivery *delivery = rig_take(rig, receipts, NOTHING_MS);

    if (delivery != NULL)
        fail_msg("a receipt too many: %.*s", (int)delivery->msg.body.len,
                 (const char *)delivery->msg.body.p);
}

static void applied_and_again_for_the_copy(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    consumer = rig_start(rig, handle, NULL);
    ask(rig, "m1", "ok");
    expect(rig, "{\"receipts\":[{\"message_id\":\"m1\",\"group\":\"stock\",\"outcome\":\"applied\","
                "\"token\":\"1.token\"}]}");
    ask(rig, "m1", "ok");
    expect(rig, "\"outcome\":\"applied\"");
    rig_stop(consumer);
    rig_assert_empty(rig, rig->queue);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied"), 1);
}

/* Dead by rejection, or out of attempts: the producer hears of it once it is for good, and a copy
 * is never applied. */
static void check_rejected(struct rig *rig)
{
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    consumer = rig_start(rig, handle, NULL);
    ask(rig, "m1", "reject");
    expect(rig, "\"outcome\":\"rejected\",\"reason\":\"no \\\"such\\\" article\"");
    ask(rig, "m1", "ok");
    expect(rig, "\"message_id\":\"m1\",\"group\":\"stock\",\"outcome\":\"rejected\","
                "\"reason\":\"no \\\"such\\\" article\"");
    ask(rig, "m2", "retry");
    expect(rig, "\"message_id\":\"m2\",\"group\":\"stock\",\"outcome\":\"rejected\"");
    ask(rig, "m2", "retry");
    expect(rig, "\"message_id\":\"m2\",\"group\":\"stock\",\"outcome\":\"rejected\"");
    rig_stop(consumer);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied"), 0);
    rig_assert_empty(rig, rig->queue);
}

static void rejected_and_again_for_the_copy(void **state)
{
    struct rig *rig = *state;

    check_rejected(rig);
    assert_int_equal(
        rig_number(rig,
                   "SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead' AND is_reported = 1"),
        2);
}

/* The dead rows leave the table: what is left to tell by are the dedup rows. */
static void rejected_and_again_with_a_dead_letter_queue(void **state)
{
    struct rig *rig = *state;

    rig->opts.dead_letter_queue = rig->dead;
    check_rejected(rig);
}

/* A rejection that its producer is told of ends the message: what follows it goes on, the
 * compensation of the same key among it, and nobody has to lend a hand. */
static void a_told_rejection_freezes_no_key(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    ask_keyed(rig, "m1", "k", "reject");
    rig_put(rig, "m2", "k", "ok");
    ask_keyed(rig, "m3", "k", "retry"); /* dead by its second attempt, out of the table */
    rig_put(rig, "m4", "k", "ok");
    rig_flush(rig);
    consumer = rig_start(rig, handle, NULL);
    rig_wait_applied(rig, 2);
    rig_put(rig, "compensation-of-m1", "k", "ok");
    rig_flush(rig);
    rig_wait_applied(rig, 3);
    rig_wait_number(rig, "SELECT COUNT(*) FROM inbox_parked WHERE state <> 'dead'", 0);
    rig_stop(consumer);
    assert_int_equal(
        rig_number(rig,
                   "SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead' AND is_reported = 1"),
        2);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM (SELECT message_id < LAG(message_id) "
                                     "OVER (ORDER BY seq) AS wrong FROM applied WHERE message_id "
                                     "LIKE 'm%') o WHERE wrong"),
                     0);
}

/* What an operator has discarded is applied by no copy, and reported to nobody. */
static void a_discarded_message_stays_discarded(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    consumer = rig_start(rig, handle, NULL);
    rig_put(rig, "m1", NULL, "reject");
    ask(rig, "m2", "reject");
    expect(rig, "\"outcome\":\"rejected\"");
    rig_wait_number(rig, "SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead'", 2);
    test_db_run(rig->db, "UPDATE inbox_parked SET request = 'discard', requested_by = 'test', "
                         "request_note = 'not wanted', next_at = UTC_TIMESTAMP(6)");
    rig_wait_number(rig, "SELECT COUNT(*) FROM inbox_parked", 0);
    rig_put(rig, "m1", NULL, "ok");
    rig_flush(rig);
    RIG_WAIT_STAT(consumer, duplicates, 1);
    ask(rig, "m1", "ok");
    RIG_WAIT_STAT(consumer, duplicates, 2);
    expect_nothing(rig);
    ask(rig, "m2", "ok"); /* its producer was told, and is told again */
    expect(rig, "\"message_id\":\"m2\",\"group\":\"stock\",\"outcome\":\"rejected\"");
    rig_stop(consumer);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied"), 0);
    assert_int_equal(rig_number(rig,
                                "SELECT COUNT(*) FROM inbox_applied WHERE outcome = 'discarded' "
                                "AND reason = 'discarded by test: not wanted'"),
                     1);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_audit WHERE action = 'discard' "
                                     "AND actor = 'test' AND note = 'not wanted' "
                                     "AND message_id IN ('m1', 'm2') AND reason_code <> ''"),
                     2);
}

static void nobody_else_is_told(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    char elsewhere[80];

    (void)snprintf(elsewhere, sizeof(elsewhere), "%s-other", rig->queue);
    broker_queue(rig->admin, elsewhere, NULL, 0);
    rig_declare(rig);
    consumer = rig_start(rig, handle, NULL);
    ask_of(rig, "m1", "ok", receipts, "mail,stocks,stoc");
    ask_of(rig, "m2", "ok", elsewhere, "stock"); /* a queue that is none for receipts */
    ask_of(rig, "m3", "ok", "rowpost.receipts.", "stock");
    rig_put(rig, "m4", NULL, "ok");
    rig_flush(rig);
    rig_wait_applied(rig, 4);
    rig_stop(consumer);
    expect_nothing(rig);
    assert_int_equal(broker_count(rig->admin, elsewhere), 0);
    rig_assert_empty(rig, rig->queue);
    broker_delete_queue(rig->admin, elsewhere);
}

/* A rejection that nobody asked to hear of leaves no mark: an operator may replay it. */
static void a_rejection_of_no_concern(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    consumer = rig_start(rig, handle, NULL);
    ask_of(rig, "m1", "reject", receipts, "mail");
    rig_wait_number(rig, "SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead'", 1);
    rig_stop(consumer);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_applied"), 0);
    expect_nothing(rig);
}

/* Many share a message, none is missing, and what is acknowledged was reported. */
static void many_share_a_message(void **state)
{
    enum { MESSAGES = 500 };
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    int reported = 0;
    int taken = 0;

    rig_declare(rig);
    for (int i = 0; i < MESSAGES; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "m%d", i);
        ask(rig, id, "ok");
    }
    consumer = rig_start(rig, handle, NULL);
    rig_wait_applied(rig, MESSAGES);
    rig_stop(consumer);
    rig_assert_empty(rig, rig->queue);
    while (reported < MESSAGES) {
        struct bridge_delivery *delivery = rig_take(rig, receipts, TAKE_MS);
        char *body = NULL;

        assert_non_null(delivery);
        /* Not strndup(), which reads past the end in the eyes of the address sanitizer. */
        body = calloc(1, delivery->msg.body.len + 1);
        assert_non_null(body);
        memcpy(body, delivery->msg.body.p, delivery->msg.body.len);
        for (const char *at = body; (at = strstr(at, "\"message_id\"")) != NULL; at++)
            reported++;
        taken++;
        free(body);
        bridge_delivery_free(delivery);
    }
    assert_int_equal(reported, MESSAGES);
    assert_true(taken <= MESSAGES / 5);
    expect_nothing(rig);
}

/* Each names a queue of its own that never was: none of them keeps its place in the window. */
static void queues_that_never_were(void **state)
{
    enum { MESSAGES = 300, WINDOW = 10 };
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig->opts.prefetch =
        WINDOW; /* by default 1000: a hundred times as many messages for the same */
    rig_declare(rig);
    for (int i = 0; i < MESSAGES; i++) {
        char id[16];
        char to[64];

        (void)snprintf(id, sizeof(id), "m%d", i);
        (void)snprintf(to, sizeof(to), "rowpost.receipts.nobody-%d", i);
        put_asking(rig, id, NULL, "ok", to, "stock");
    }
    rig_flush(rig);
    consumer = rig_start(rig, handle, NULL);
    RIG_WAIT_STAT(consumer, acked, MESSAGES);
    assert_int_equal(rig_stats(consumer).receipts_given_up, MESSAGES);
    rig_stop(consumer);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied"), MESSAGES);
    rig_assert_empty(rig, rig->queue);
}

/* The producer is gone: the messages are acknowledged without. */
static void a_queue_that_is_not_there(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    consumer = rig_start(rig, handle, NULL);
    ask_of(rig, "m1", "ok", "rowpost.receipts.nobody-at-all", "stock");
    rig_wait_applied(rig, 1);
    /* Others are not held up meanwhile. */
    ask(rig, "m2", "ok");
    expect(rig, "\"m2\"");
    RIG_WAIT_STAT(consumer, acked, 2);
    rig_stop(consumer);
    rig_assert_empty(rig, rig->queue);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(applied_and_again_for_the_copy),
        TEST(rejected_and_again_for_the_copy),
        TEST(rejected_and_again_with_a_dead_letter_queue),
        TEST(a_told_rejection_freezes_no_key),
        TEST(a_discarded_message_stays_discarded),
        TEST(nobody_else_is_told),
        TEST(a_rejection_of_no_concern),
        TEST(many_share_a_message),
        TEST(a_queue_that_is_not_there),
        TEST(queues_that_never_were),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
