/*
 * The publisher against a real broker that works: what becomes of each message, the limits, and
 * what an owner's loop sees. Proves publisher.h together with publisher_faults_test.c: one outcome
 * for each message, and the right one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "publisher_rig.h"
#include "wait.h"

#define QUEUE   "publisher_test"
#define NOWHERE "publisher_test_nowhere"
#define MISSING "publisher_test_missing"

enum {
    LARGE = 300 * 1000,           /* several frames */
    VERY_LARGE = 5 * 1000 * 1000, /* more than the kernel's buffers */
    IDLE_MS = 3000,
};

static void confirms_what_it_publishes(void **state)
{
    struct rig *rig = *state;
    struct bridge_publisher_stats stats;

    broker_queue(rig->admin, QUEUE, NULL, 0);
    rig_start(rig);
    rig_send_many(rig, QUEUE, 1000);
    rig_until(rig, rig_all_settled);
    rig_expect_once_each(rig);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], 1000);
    bridge_publisher_get_stats(rig->pub, &stats);
    assert_int_equal(stats.published, 1000);
    assert_int_equal(stats.confirmed, 1000);
    assert_int_equal(stats.connects, 1);
    assert_int_equal(stats.disconnects, 0);
    assert_int_equal(broker_count(rig->admin, QUEUE), 1000);
}

static void messages_keep_their_order(void **state)
{
    struct rig *rig = *state;
    struct broker_message got;
    char id[32];

    broker_queue(rig->admin, QUEUE, NULL, 0);
    rig_start(rig);
    rig_send_many(rig, QUEUE, 300);
    rig_until(rig, rig_all_settled);
    for (int i = 0; i < 300; i++) {
        (void)snprintf(id, sizeof(id), "id-%d", i);
        assert_true(broker_get(rig->admin, QUEUE, &got));
        assert_string_equal(got.id, id);
    }
}

static void messages_are_persistent_and_carry_their_properties(void **state)
{
    struct rig *rig = *state;
    struct broker_message got;
    struct rig_message message;
    const struct obx_header header = {.name = bytes_of("h"), .type = OBX_H_NULL};

    broker_queue(rig->admin, QUEUE, NULL, 0);
    rig_start(rig);
    rig_message(rig, QUEUE, &message);
    message.msg.type = bytes_of("order.created");
    message.msg.timestamp_s = 1700000000;
    message.msg.headers = &header;
    message.msg.header_count = 1;
    rig_send(rig, &message);
    rig_until(rig, rig_all_settled);
    assert_true(broker_get(rig->admin, QUEUE, &got));
    assert_string_equal(got.id, "id-0");
    assert_string_equal(got.body, "body-0");
    assert_string_equal(got.type, "order.created");
    assert_string_equal(got.content_type, "text/plain");
    assert_int_equal(got.delivery_mode, 2);
    assert_int_equal(got.timestamp_s, 1700000000);
    assert_int_equal(got.header_count, 2); /* its own, and the bridge's x-obx-tag */
}

static void a_full_window_refuses_and_refills(void **state)
{
    struct rig *rig = *state;
    struct rig_message message;
    struct obx_err err = {0};

    broker_queue(rig->admin, QUEUE, NULL, 0);
    rig->opts.window = 50;
    rig_start(rig);
    rig_until(rig, rig_is_up);
    assert_int_equal(bridge_publisher_room(rig->pub), 50);
    rig_send_many(rig, QUEUE, 50); /* no turn in between: there was room for all */
    assert_int_equal(bridge_publisher_room(rig->pub), 0);
    assert_int_equal(bridge_publisher_inflight(rig->pub), 50);
    rig_message(rig, QUEUE, &message);
    assert_int_equal(bridge_publisher_publish(rig->pub, &message.msg, 50, &err), OBX_E_FULL);
    rig_send_many(rig, QUEUE, 1000);
    rig_until(rig, rig_all_settled);
    rig_expect_once_each(rig);
    assert_int_equal(bridge_publisher_room(rig->pub), 50);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], 1050);
}

static void returns_among_routed_ones_find_their_messages(void **state)
{
    struct rig *rig = *state;

    broker_queue(rig->admin, QUEUE, NULL, 0);
    broker_delete_queue(rig->admin, NOWHERE);
    rig_start(rig);
    for (int i = 0; i < 3000; i++)
        rig_send_many(rig, i % 3 == 0 ? NOWHERE : QUEUE, 1);
    rig_until(rig, rig_all_settled);
    rig_expect_once_each(rig);
    for (uint64_t token = 0; token < rig->next_token; token++)
        assert_int_equal(rig->outcomes[token], token % 3 == 0 ? PUB_RETURNED : PUB_CONFIRMED);
    assert_non_null(strstr(rig->why, "NO_ROUTE"));
    assert_int_equal(broker_count(rig->admin, QUEUE), 2000);
}

static void send_as(struct rig *rig, const char *exchange, const char *key, const char *id)
{
    struct rig_message message;

    rig_message(rig, key, &message);
    message.msg.exchange = bytes_of(exchange);
    message.msg.message_id = bytes_of(id);
    rig_send(rig, &message);
}

struct held {
    struct rig *rig;
    const char *queue;
};

/* A quorum queue counts what it holds a little later. */
static bool holds_40(void *ctx)
{
    const struct held *held = ctx;

    return broker_count(held->rig->admin, held->queue) == 40;
}

/* A producer chooses its ids, and a resend publishes a message whose earlier copy is in flight. */
static void expect_own_fates(struct rig *rig, const char *queue, const char *queue_type)
{
    const struct broker_arg type = {.name = "x-queue-type", .text = queue_type};
    uint64_t first = rig->next_token;

    broker_queue(rig->admin, queue, &type, 1);
    broker_delete_queue(rig->admin, NOWHERE);
    for (int i = 0; i < 20; i++) {
        char id[32];

        (void)snprintf(id, sizeof(id), "%s-%d", queue_type, i);
        send_as(rig, "", i % 2 == 0 ? queue : NOWHERE, id); /* both orders */
        send_as(rig, "", i % 2 == 0 ? NOWHERE : queue, id);
        send_as(rig, "", queue, id);
    }
    rig_until(rig, rig_all_settled);
    rig_expect_once_each(rig);
    for (uint64_t i = 0; i < 60; i++) {
        const bool is_nowhere = i % 6 == 1 || i % 6 == 3;

        assert_int_equal(rig->outcomes[first + i], is_nowhere ? PUB_RETURNED : PUB_CONFIRMED);
    }
    assert_true(wait_until(RIG_WAIT_MS, holds_40, &(struct held){.rig = rig, .queue = queue}));
    broker_delete_queue(rig->admin, queue);
}

static void copies_of_one_id_share_no_fate(void **state)
{
    struct rig *rig = *state;

    rig_start(rig);
    expect_own_fates(rig, QUEUE "_classic", "classic");
    expect_own_fates(rig, QUEUE "_quorum", "quorum");
    assert_non_null(strstr(rig->why, "routing key '" NOWHERE "'"));
}

static bool is_some_confirmed(struct rig *rig)
{
    return rig->by_outcome[PUB_CONFIRMED] > 0;
}

/* Everything about the copies is the same, and what is bound changes between them. */
static void copies_of_one_route_share_no_fate(void **state)
{
    struct rig *rig = *state;
    const uint32_t copies = 2000;
    uint32_t confirmed;

    broker_exchange(rig->admin, MISSING);
    broker_queue(rig->admin, QUEUE, NULL, 0);
    broker_bind(rig->admin, QUEUE, MISSING, "k");
    rig->opts.window = 5000;
    rig_start(rig);
    for (uint32_t i = 0; i < copies; i++) {
        send_as(rig, MISSING, "k", "same");
        if (i == copies / 2)
            rig_until(rig, is_some_confirmed);
        if (i == copies / 2)
            broker_unbind(rig->admin, QUEUE, MISSING, "k");
    }
    rig_until(rig, rig_all_settled);
    rig_expect_once_each(rig);
    confirmed = (uint32_t)rig->by_outcome[PUB_CONFIRMED];
    assert_int_equal(confirmed + rig->by_outcome[PUB_RETURNED], copies);
    assert_true(confirmed > 0 && confirmed < copies);
    assert_int_equal(broker_count(rig->admin, QUEUE), confirmed);
    for (uint32_t i = 0; i < copies; i++) /* routed first, then not */
        assert_int_equal(rig->outcomes[i], i < confirmed ? PUB_CONFIRMED : PUB_RETURNED);
    broker_delete_exchange(rig->admin, MISSING);
}

/* A copy of what was published before (a dead letter, a replay) carries the tag of that publish. */
static void a_tag_of_an_earlier_publish_is_replaced(void **state)
{
    struct rig *rig = *state;
    struct rig_message message;
    struct broker_message got;
    const struct obx_header old[] = {
        {.name = bytes_of("x-obx-tag"), .type = OBX_H_I64, .v.i64 = 1},
        {.name = bytes_of("kept"), .type = OBX_H_BOOL, .v.yes = true},
    };

    broker_queue(rig->admin, QUEUE, NULL, 0);
    broker_delete_queue(rig->admin, NOWHERE);
    rig_start(rig);
    rig_send_many(rig, QUEUE, 1);
    for (int i = 0; i < 2; i++) {
        rig_message(rig, i == 0 ? NOWHERE : QUEUE, &message);
        message.msg.headers = old;
        message.msg.header_count = 2;
        rig_send(rig, &message);
    }
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->outcomes[0], PUB_CONFIRMED);
    assert_int_equal(rig->outcomes[1], PUB_RETURNED);
    assert_int_equal(rig->outcomes[2], PUB_CONFIRMED);
    assert_true(broker_get(rig->admin, QUEUE, &got));
    assert_int_equal(got.header_count, 1);
    assert_true(broker_get(rig->admin, QUEUE, &got));
    assert_int_equal(got.header_count, 2);
}

static void returned_bodies_of_any_size_are_passed_over(void **state)
{
    static const size_t sizes[] = {0, 1, 131064, 131065, LARGE, VERY_LARGE, 5};
    struct rig *rig = *state;
    struct rig_message message;
    char *body = calloc(1, VERY_LARGE);

    assert_non_null(body);
    broker_queue(rig->admin, QUEUE, NULL, 0);
    broker_delete_queue(rig->admin, NOWHERE);
    rig_start(rig);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        rig_message(rig, NOWHERE, &message);
        message.msg.body = (struct obx_bytes){.p = body, .len = sizes[i]};
        rig_send(rig, &message);
        rig_send_many(rig, QUEUE, 1);
    }
    rig_until(rig, rig_all_settled);
    rig_expect_once_each(rig);
    for (uint64_t token = 0; token < rig->next_token; token++)
        assert_int_equal(rig->outcomes[token], token % 2 == 0 ? PUB_RETURNED : PUB_CONFIRMED);
    free(body);
}

static void bodies_of_any_size_arrive_whole(void **state)
{
    static const size_t sizes[] = {0, 1, 131063, 131064, 131065, 262128, LARGE, VERY_LARGE};
    struct rig *rig = *state;
    struct rig_message message;
    struct broker_message got;
    char *body = malloc(VERY_LARGE);

    assert_non_null(body);
    memset(body, 'b', VERY_LARGE);
    broker_queue(rig->admin, QUEUE, NULL, 0);
    rig_start(rig);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        rig_message(rig, QUEUE, &message);
        message.msg.body = (struct obx_bytes){.p = body, .len = sizes[i]};
        rig_send(rig, &message);
    }
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], sizeof(sizes) / sizeof(sizes[0]));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_true(broker_get(rig->admin, QUEUE, &got));
        assert_int_equal(got.body_len, sizes[i]);
    }
    free(body);
}

static void a_full_queue_that_rejects_is_a_nack(void **state)
{
    const struct broker_arg args[] = {{.name = "x-max-length", .number = 10},
                                      {.name = "x-overflow", .text = "reject-publish"}};
    struct rig *rig = *state;

    broker_queue(rig->admin, QUEUE, args, 2);
    rig_start(rig);
    rig_send_many(rig, QUEUE, 200);
    rig_until(rig, rig_all_settled);
    rig_expect_once_each(rig);
    assert_true(rig->by_outcome[PUB_NACKED] > 0);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED] + rig->by_outcome[PUB_NACKED], 200);
    assert_int_equal(broker_count(rig->admin, QUEUE), rig->by_outcome[PUB_CONFIRMED]);
    broker_purge(rig->admin, QUEUE);
    rig_send_many(rig, QUEUE, 1);
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->outcomes[200], PUB_CONFIRMED);
}

/* The broker closes the channel for it. The message is told apart, the others are published again,
 * the connection stays. */
static void a_missing_exchange_costs_the_others_nothing_but_time(void **state)
{
    struct rig *rig = *state;
    struct rig_message message;
    struct bridge_publisher_stats stats;

    broker_queue(rig->admin, QUEUE, NULL, 0);
    broker_delete_exchange(rig->admin, MISSING);
    rig_start(rig);
    rig_send_many(rig, QUEUE, 20);
    rig_message(rig, QUEUE, &message);
    message.msg.exchange = bytes_of(MISSING);
    rig_send(rig, &message);
    rig_send_many(rig, QUEUE, 20);
    rig_until(rig, rig_all_settled);
    rig_expect_once_each(rig);
    assert_int_equal(rig->outcomes[20], PUB_RETURNED);
    assert_int_equal(rig->by_outcome[PUB_RETURNED], 1);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED] + rig->by_outcome[PUB_UNKNOWN], 40);
    assert_true(rig->by_outcome[PUB_UNKNOWN] >= 20); /* those behind it were thrown away */
    assert_non_null(strstr(rig->why, MISSING));
    assert_int_equal(bridge_publisher_trouble(rig->pub)->code, OBX_E_MQ_TOPOLOGY);
    rig_until(rig, rig_is_up);
    assert_int_equal(bridge_publisher_trouble(rig->pub)->code, OBX_OK);
    rig_send_many(rig, QUEUE, 20);
    rig_until(rig, rig_all_settled);
    for (uint64_t token = 41; token < 61; token++)
        assert_int_equal(rig->outcomes[token], PUB_CONFIRMED);
    bridge_publisher_get_stats(rig->pub, &stats);
    assert_int_equal(stats.connects, 1);
}

static void an_exchange_made_later_is_used(void **state)
{
    struct rig *rig = *state;
    struct rig_message message;

    broker_queue(rig->admin, QUEUE, NULL, 0);
    broker_delete_exchange(rig->admin, MISSING);
    rig_start(rig);
    for (int i = 0; i < 2; i++) {
        rig_message(rig, "key", &message);
        message.msg.exchange = bytes_of(MISSING);
        rig_send(rig, &message);
        rig_until(rig, rig_all_settled);
        broker_exchange(rig->admin, MISSING);
        broker_bind(rig->admin, QUEUE, MISSING, "key");
    }
    broker_delete_exchange(rig->admin, MISSING);
    assert_int_equal(rig->outcomes[0], PUB_RETURNED);
    assert_int_equal(rig->outcomes[1], PUB_CONFIRMED);
}

static void expect_refused(struct rig *rig, const struct bridge_message *msg, enum obx_code code,
                           const char *text)
{
    struct obx_err err = {0};

    assert_int_equal(bridge_publisher_publish(rig->pub, msg, 999, &err), code);
    if (strstr(err.text, text) == NULL)
        fail_msg("'%s' not in '%s'", text, err.text);
    assert_int_equal(bridge_publisher_publish(rig->pub, msg, 999, NULL), code);
}

static void what_can_never_be_sent_is_refused_and_harms_nothing(void **state)
{
    struct rig *rig = *state;
    struct rig_message message;
    struct obx_header header = {.name = bytes_of("big"), .type = OBX_H_TEXT};
    char *text = malloc(LARGE);

    assert_non_null(text);
    memset(text, 't', LARGE);
    broker_queue(rig->admin, QUEUE, NULL, 0);
    rig->opts.max_body_bytes = 1000;
    rig_start(rig);
    rig_until(rig, rig_is_up);
    rig_send_many(rig, QUEUE, 1);

    rig_message(rig, QUEUE, &message);
    message.msg.body = (struct obx_bytes){.p = text, .len = 1001};
    expect_refused(rig, &message.msg, OBX_E_TOO_LARGE, "1001");
    rig_message(rig, QUEUE, &message);
    message.msg.routing_key = (struct obx_bytes){.p = text, .len = 256};
    expect_refused(rig, &message.msg, OBX_E_FORMAT, "routing key of 256");
    rig_message(rig, QUEUE, &message);
    message.msg.message_id = (struct obx_bytes){.p = NULL, .len = 0};
    expect_refused(rig, &message.msg, OBX_E_FORMAT, "no message id");
    rig_message(rig, QUEUE, &message);
    message.msg.headers = &header;
    message.msg.header_count = 1;
    header.v.text = (struct obx_bytes){.p = text, .len = LARGE};
    expect_refused(rig, &message.msg, OBX_E_FORMAT, "properties and headers of more than");
    header.v.text = bytes_of("x");
    header.name = (struct obx_bytes){.p = text, .len = 256};
    expect_refused(rig, &message.msg, OBX_E_FORMAT, "header name of 256");
    header.name.len = 0;
    expect_refused(rig, &message.msg, OBX_E_FORMAT, "header name of 0");

    rig_send_many(rig, QUEUE, 1);
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], 2);
    assert_int_equal(broker_count(rig->admin, QUEUE), 2);
    free(text);
}

/* Header frames just below the limit go, whatever the library's buffers. */
static void headers_up_to_the_frame_limit_go(void **state)
{
    struct rig *rig = *state;
    struct rig_message message;
    struct obx_header header = {.name = bytes_of("big"), .type = OBX_H_TEXT};
    char *text = malloc(LARGE);

    assert_non_null(text);
    memset(text, 't', LARGE);
    broker_queue(rig->admin, QUEUE, NULL, 0);
    rig_start(rig);
    for (size_t len = 900; len < 131000; len = len * 3 / 2) {
        rig_message(rig, QUEUE, &message);
        header.v.text = (struct obx_bytes){.p = text, .len = len};
        message.msg.headers = &header;
        message.msg.header_count = 1;
        rig_send(rig, &message);
    }
    rig_until(rig, rig_all_settled);
    rig_expect_all(rig, PUB_CONFIRMED);
    free(text);
}

static void a_publish_without_a_connection_says_so(void **state)
{
    struct rig *rig = *state;
    struct rig_message message;
    struct obx_err err = {0};

    rig_start(rig);
    assert_int_equal(bridge_publisher_state(rig->pub), BRIDGE_DOWN);
    assert_int_equal(bridge_publisher_fd(rig->pub), -1);
    assert_int_equal(bridge_publisher_room(rig->pub), 0);
    rig_message(rig, QUEUE, &message);
    assert_int_equal(bridge_publisher_publish(rig->pub, &message.msg, 0, &err), OBX_E_MQ_GONE);
}

static bool has_trouble(struct rig *rig)
{
    return bridge_publisher_trouble(rig->pub)->code != OBX_OK;
}

static void a_wrong_password_is_its_own_trouble(void **state)
{
    struct rig *rig = *state;

    rig->opts.bridge.password = "not-the-password";
    rig_start(rig);
    rig_until(rig, has_trouble);
    assert_int_equal(bridge_publisher_trouble(rig->pub)->code, OBX_E_MQ_AUTH);
    assert_int_equal(bridge_publisher_trouble(rig->pub)->sys, 403);
    assert_null(strstr(bridge_publisher_trouble(rig->pub)->text, "not-the-password"));
    assert_int_equal(bridge_publisher_state(rig->pub), BRIDGE_DOWN);
}

static void a_wrong_vhost_is_its_own_trouble(void **state)
{
    struct rig *rig = *state;

    rig->opts.bridge.vhost = "no-such-vhost";
    rig_start(rig);
    rig_until(rig, has_trouble);
    assert_int_equal(bridge_publisher_trouble(rig->pub)->code, OBX_E_MQ_AUTH);
    assert_non_null(strstr(bridge_publisher_trouble(rig->pub)->text, "no-such-vhost"));
}

static void a_dead_address_among_others_is_passed_over(void **state)
{
    struct rig *rig = *state;
    char *addresses = malloc(400);

    assert_non_null(addresses);
    (void)snprintf(addresses, 400, "127.0.0.1:1,%s", rig->broker.address);
    rig->opts.bridge.addresses = addresses;
    rig->opts.bridge.reconnect_min_ms =
        RIG_WAIT_MS; /* the second address is tried before any backoff */
    rig->opts.bridge.reconnect_cap_ms = RIG_WAIT_MS;
    for (int i = 0; i < 8; i++) { /* whichever comes first by chance */
        rig_start(rig);
        rig_until(rig, rig_is_up);
        rig_stop(rig);
    }
    free(addresses);
}

static bool holds_500(void *ctx)
{
    struct rig *rig = ctx;

    return broker_count(rig->admin, QUEUE) == 500;
}

static void destroy_tells_what_is_in_flight_in_order(void **state)
{
    struct rig *rig = *state;

    broker_queue(rig->admin, QUEUE, NULL, 0);
    rig_start(rig);
    rig_until(rig, rig_is_up);
    rig_send_many(rig, QUEUE, 500);
    rig_stop(rig);
    rig_expect_once_each(rig);
    assert_int_equal(rig->by_outcome[PUB_UNKNOWN], 500);
    /* Unknown means that they may well have arrived: all that was taken was written before the
     * good-bye. */
    assert_true(wait_until(RIG_WAIT_MS, holds_500, rig));
}

static uint64_t chain_left;

/* An owner that has lost its lease may send nothing more. */
static void drop_sends_nothing_that_was_not_written(void **state)
{
    struct rig *rig = *state;

    broker_queue(rig->admin, QUEUE, NULL, 0);
    rig_start(rig);
    rig_until(rig, rig_is_up);
    rig_send_many(rig, QUEUE, 10); /* the first is written at once, the others with the next turn */
    bridge_publisher_drop(rig->pub);
    rig->pub = NULL;
    rig_expect_all(rig, PUB_UNKNOWN);
    rig_start(rig);
    rig_send_many(rig, QUEUE, 1);
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], 1);
    assert_true(broker_count(rig->admin, QUEUE) <= 2);
}

static void publish_next(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct rig *rig = ctx;
    struct rig_message message;

    (void)why;
    assert_int_equal(outcome, PUB_CONFIRMED);
    assert_int_equal(token + 1, rig->next_token);
    rig->settled++;
    if (chain_left-- == 0)
        return;
    rig_message(rig, QUEUE, &message);
    assert_int_equal(bridge_publisher_publish(rig->pub, &message.msg, rig->next_token, NULL),
                     OBX_OK);
    rig->next_token++;
}

static void the_callback_may_publish(void **state)
{
    struct rig *rig = *state;

    broker_queue(rig->admin, QUEUE, NULL, 0);
    rig->opts.on_result = publish_next;
    chain_left = 500;
    rig_start(rig);
    rig_send_many(rig, QUEUE, 1);
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->next_token, 501);
}

/* Messages that nobody serviced since are written by the turn that follows, not held back. */
/* Confirms, returns and bodies of many records, read and written over TLS. */
static void all_of_it_goes_over_tls(void **state)
{
    struct rig *rig = *state;
    struct rig_message message;
    char address[64];
    char *body = calloc(1, VERY_LARGE);

    assert_non_null(body);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%s", getenv("OBX_TEST_AMQP_TLS_PORT"));
    rig->opts.bridge.addresses = address;
    rig->opts.bridge.tls = (struct bridge_tls){.enabled = true,
                                               .ca_file = getenv("OBX_TEST_TLS_CA"),
                                               .cert_file = getenv("OBX_TEST_TLS_CERT"),
                                               .key_file = getenv("OBX_TEST_TLS_KEY")};
    broker_queue(rig->admin, QUEUE, NULL, 0);
    broker_delete_queue(rig->admin, NOWHERE);
    rig_start(rig);
    for (int i = 0; i < 3000; i++)
        rig_send_many(rig, i % 3 == 0 ? NOWHERE : QUEUE, 1);
    rig_message(rig, NOWHERE, &message);
    message.msg.body = (struct obx_bytes){.p = body, .len = VERY_LARGE};
    rig_send(rig, &message);
    rig_until(rig, rig_all_settled);
    rig_expect_once_each(rig);
    assert_int_equal(rig->by_outcome[PUB_RETURNED], 1001);
    assert_int_equal(broker_count(rig->admin, QUEUE), 2000);
    free(body);
}

static void poll_wakes_up_for_what_is_not_written_yet(void **state)
{
    struct rig *rig = *state;

    broker_queue(rig->admin, QUEUE, NULL, 0);
    rig_start(rig);
    rig_until(rig, rig_is_up);
    rig_send_many(rig, QUEUE, 3);
    rig->service_calls = 0;
    while (!rig_all_settled(rig))
        rig_turn(rig, RIG_WAIT_MS); /* hangs here if nothing woke it up */
    assert_true(rig->service_calls < 20);
}

static void an_idle_publisher_sleeps(void **state)
{
    struct rig *rig = *state;
    uint64_t until_ms;

    rig->opts.bridge.heartbeat_s = 1;
    rig_start(rig);
    rig_until(rig, rig_is_up);
    rig->service_calls = 0;
    until_ms = clock_now_ms() + IDLE_MS;
    while (clock_now_ms() < until_ms)
        rig_turn(rig, clock_left_ms(until_ms));
    assert_int_equal(bridge_publisher_state(rig->pub), BRIDGE_UP);
    /* Two heartbeats a second go out and one or two come in; each is a call or two. */
    assert_true(rig->service_calls <= IDLE_MS / 1000 * 8);
}

static void refuses_bad_options(void **state)
{
    static const char *const bad[] = {"",           " ",        ",",    "host:",  "host:0",
                                      "host:65536", "host:12x", "[::1", "[::1]5", "::1",
                                      ":5672",      "a,,b",     NULL};
    struct rig *rig = *state;
    struct obx_err err = {0};
    struct bridge_publisher_opts opts = rig->opts;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        opts.bridge.addresses = bad[i];
        assert_int_equal(bridge_publisher_create(&opts, &rig->pub, &err), OBX_E_CONFIG);
        assert_null(rig->pub);
    }
    opts = rig->opts;
    opts.on_result = NULL;
    assert_int_equal(bridge_publisher_create(&opts, &rig->pub, &err), OBX_E_INVALID);
    opts = rig->opts;
    opts.window = UINT32_MAX;
    assert_int_equal(bridge_publisher_create(&opts, &rig->pub, &err), OBX_E_INVALID);
    opts = rig->opts;
    opts.bridge.user = NULL;
    assert_int_equal(bridge_publisher_create(&opts, &rig->pub, &err), OBX_E_CONFIG);
    opts = rig->opts;
    opts.bridge.tls.cert_file = "only-one-of-two";
    assert_int_equal(bridge_publisher_create(&opts, &rig->pub, &err), OBX_E_CONFIG);
    bridge_publisher_destroy(NULL);
}

#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(confirms_what_it_publishes),
        RIG_TEST(messages_keep_their_order),
        RIG_TEST(messages_are_persistent_and_carry_their_properties),
        RIG_TEST(a_full_window_refuses_and_refills),
        RIG_TEST(returns_among_routed_ones_find_their_messages),
        RIG_TEST(copies_of_one_id_share_no_fate),
        RIG_TEST(copies_of_one_route_share_no_fate),
        RIG_TEST(a_tag_of_an_earlier_publish_is_replaced),
        RIG_TEST(returned_bodies_of_any_size_are_passed_over),
        RIG_TEST(bodies_of_any_size_arrive_whole),
        RIG_TEST(a_full_queue_that_rejects_is_a_nack),
        RIG_TEST(a_missing_exchange_costs_the_others_nothing_but_time),
        RIG_TEST(an_exchange_made_later_is_used),
        RIG_TEST(what_can_never_be_sent_is_refused_and_harms_nothing),
        RIG_TEST(headers_up_to_the_frame_limit_go),
        RIG_TEST(a_publish_without_a_connection_says_so),
        RIG_TEST(a_wrong_password_is_its_own_trouble),
        RIG_TEST(a_wrong_vhost_is_its_own_trouble),
        RIG_TEST(a_dead_address_among_others_is_passed_over),
        RIG_TEST(destroy_tells_what_is_in_flight_in_order),
        RIG_TEST(drop_sends_nothing_that_was_not_written),
        RIG_TEST(the_callback_may_publish),
        RIG_TEST(all_of_it_goes_over_tls),
        RIG_TEST(poll_wakes_up_for_what_is_not_written_yet),
        RIG_TEST(an_idle_publisher_sleeps),
        RIG_TEST(refuses_bad_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
