/*
 * The bridge's consumer against a real broker: deliveries whole, answers by epoch, and its return
 * from everything that can happen to a queue, a channel and a connection. Proves consumer.h.
 */
#include <poll.h>
#include <pthread.h>
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
#include "base/log.h"
#include "bridge/consumer.h"
#include "broker.h"
#include "message_header.h"
#include "test_log.h"

#define QUEUE "bridge_consumer_test"

enum {
    WAIT_MS = 30000,
    TURN_MS = 20,
    DELIVERIES_MAX = 5000,
    NESTED = 20000,
    VALUES = 70000,
    STACK_BYTES = 512 * 1024,
    FULL_HEADER = 131072 - 8 - 12 - 2 - 4 - 7, /* its frame is as large as frames may be */
};

struct fixture {
    struct broker broker;
    struct broker_admin *admin;
    struct bridge_consumer_opts opts;
    struct bridge_consumer *consumer;
    struct bridge_delivery *deliveries[DELIVERIES_MAX];
    size_t count;
    size_t wanted;
    unsigned ups, downs, closes;
    uint32_t up_epoch;
    struct obx_err why;
};

static void on_delivery(struct bridge_delivery *delivery, void *ctx)
{
    struct fixture *f = ctx;

    assert_true(f->count < DELIVERIES_MAX);
    f->deliveries[f->count++] = delivery;
}

static void on_state(enum bridge_state state, uint32_t epoch, const struct obx_err *why, void *ctx)
{
    struct fixture *f = ctx;

    switch (state) {
    case BRIDGE_UP:
        f->ups++;
        f->up_epoch = epoch;
        break;
    case BRIDGE_DOWN:
        f->downs++;
        assert_non_null(why);
        f->why = *why;
        break;
    case BRIDGE_CLOSED:
        f->closes++;
        break;
    case BRIDGE_BLOCKED:
    default:
        fail_msg("state %s", bridge_state_name(state));
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    if (getenv("OBX_TEST_LOG") != NULL)
        log_setup(LOG_LVL_DEBUG, LOG_FMT_TEXT, test_log_line, NULL);
    assert_non_null(f);
    if (!broker_from_env(&f->broker)) {
        print_message("no broker: eval \"$(tests/support/servers env)\"\n");
        free(f);
        return -1;
    }
    f->admin = broker_admin_open(&f->broker);
    broker_queue(f->admin, QUEUE, NULL, 0);
    f->opts = (struct bridge_consumer_opts){
        .bridge = {.addresses = f->broker.address,
                   .vhost = f->broker.vhost,
                   .user = f->broker.user,
                   .password = f->broker.password,
                   .connection_name = "bridge_consumer_test",
                   .reconnect_min_ms = 20,
                   .reconnect_cap_ms = 200},
        .queue = QUEUE,
        .on_delivery = on_delivery,
        .on_state = on_state,
        .ctx = f,
    };
    *state = f;
    return 0;
}

static void free_deliveries(struct fixture *f)
{
    while (f->count > 0)
        bridge_delivery_free(f->deliveries[--f->count]);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    bridge_consumer_destroy(f->consumer);
    free_deliveries(f);
    broker_delete_queue(f->admin, QUEUE);
    broker_admin_close(f->admin);
    free(f);
    return 0;
}

static void start(struct fixture *f)
{
    struct obx_err err = {0};

    if (bridge_consumer_create(&f->opts, &f->consumer, &err) != OBX_OK)
        fail_msg("create: %s", err.text);
}

static void turn(struct fixture *f)
{
    struct pollfd pfd = {.events = POLLIN};
    int wait_ms;

    bridge_consumer_service(f->consumer);
    pfd.fd = bridge_consumer_fd(f->consumer);
    wait_ms = clock_left_ms(bridge_consumer_next_due_ms(f->consumer));
    (void)poll(&pfd, 1, wait_ms < TURN_MS ? wait_ms : TURN_MS);
}

typedef bool fixture_fn(struct fixture *f);

static void until(struct fixture *f, fixture_fn *condition)
{
    const uint64_t due_ms = clock_now_ms() + WAIT_MS;

    while (!condition(f)) {
        if (clock_now_ms() >= due_ms)
            fail_msg("not in time; state %s, %zu deliveries, trouble: %s",
                     bridge_state_name(bridge_consumer_state(f->consumer)), f->count,
                     bridge_consumer_trouble(f->consumer)->text);
        turn(f);
    }
}

static bool is_up(struct fixture *f)
{
    return bridge_consumer_state(f->consumer) == BRIDGE_UP;
}

static bool is_down(struct fixture *f)
{
    return bridge_consumer_state(f->consumer) == BRIDGE_DOWN;
}

static bool is_closed(struct fixture *f)
{
    return f->closes > 0;
}

static bool has_wanted(struct fixture *f)
{
    return f->count >= f->wanted;
}

static void until_deliveries(struct fixture *f, size_t count)
{
    f->wanted = count;
    until(f, has_wanted);
    assert_int_equal(f->count, count);
}

/* Whatever was sent to the broker has been handled: it answers in order, so a delivery that follows
 * proves it. */
static bool queue_is_empty(struct fixture *f)
{
    return broker_count(f->admin, QUEUE) == 0;
}

static void put_many(struct fixture *f, size_t count)
{
    char id[32];

    for (size_t i = 0; i < count; i++) {
        (void)snprintf(id, sizeof(id), "id-%zu", i);
        broker_put(f->admin, QUEUE, id, id);
    }
}

static void ack(struct fixture *f, const struct bridge_delivery *delivery, bool multiple)
{
    struct obx_err err = {0};

    if (bridge_consumer_ack(f->consumer, delivery->epoch, delivery->tag, multiple, &err) != OBX_OK)
        fail_msg("ack: %s", err.text);
}

static void delivers_whole_and_in_order(void **state)
{
    struct fixture *f = *state;
    char id[32];

    put_many(f, 1000);
    start(f);
    until_deliveries(f, 1000);
    for (size_t i = 0; i < f->count; i++) {
        const struct bridge_message *msg = &f->deliveries[i]->msg;

        (void)snprintf(id, sizeof(id), "id-%zu", i);
        assert_true(bytes_is(msg->message_id, id));
        assert_true(bytes_is(msg->body, id));
        assert_true(bytes_is(msg->routing_key, QUEUE));
        assert_int_equal(msg->exchange.len, 0);
        assert_null(msg->type.p);
        assert_false(f->deliveries[i]->redelivered);
        assert_true(f->deliveries[i]->memory_bytes > msg->body.len);
    }
    ack(f, f->deliveries[999], true);
    until(f, queue_is_empty);
    assert_int_equal(f->ups, 1);
}

static void prefetch_bounds_what_is_unacked(void **state)
{
    struct fixture *f = *state;

    f->opts.prefetch = 10;
    put_many(f, 25);
    start(f);
    until_deliveries(f, 10);
    ack(f, f->deliveries[0], false);
    until_deliveries(f, 11);
    ack(f, f->deliveries[10], true);
    until_deliveries(f, 21);
}

static void what_is_unacked_comes_again_after_destroy(void **state)
{
    struct fixture *f = *state;

    put_many(f, 3);
    start(f);
    until_deliveries(f, 3);
    bridge_consumer_destroy(f->consumer);
    free_deliveries(f);
    start(f);
    until_deliveries(f, 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(f->deliveries[i]->redelivered);
}

static void a_missing_queue_is_awaited_with_its_trouble_visible(void **state)
{
    struct fixture *f = *state;

    broker_delete_queue(f->admin, QUEUE);
    start(f);
    f->wanted = 0;
    while (f->downs == 0)
        turn(f);
    assert_int_equal(f->why.code, OBX_E_MQ_TOPOLOGY);
    assert_int_equal(bridge_consumer_trouble(f->consumer)->code, OBX_E_MQ_TOPOLOGY);
    assert_non_null(strstr(bridge_consumer_trouble(f->consumer)->text, QUEUE));
    broker_queue(f->admin, QUEUE, NULL, 0);
    put_many(f, 1);
    until_deliveries(f, 1);
    assert_int_equal(bridge_consumer_trouble(f->consumer)->code, OBX_OK);
    assert_int_equal(f->ups, 1);
    assert_int_equal(f->downs, 1); /* the same trouble at each try is told once */
}

static void goes_on_after_its_queue_was_deleted_and_made_again(void **state)
{
    struct fixture *f = *state;
    uint32_t old_epoch;
    struct obx_err err = {0};

    put_many(f, 1);
    start(f);
    until_deliveries(f, 1);
    old_epoch = f->deliveries[0]->epoch;
    broker_delete_queue(f->admin, QUEUE);
    until(f, is_down);
    assert_int_equal(f->why.code, OBX_E_MQ_CANCELLED);
    broker_queue(f->admin, QUEUE, NULL, 0);
    put_many(f, 2);
    until_deliveries(f, 3);
    assert_true(f->deliveries[1]->epoch > old_epoch);
    /* The old delivery's tag is 1, as the first new one's: its ack must not touch that. */
    assert_int_equal(f->deliveries[0]->tag, f->deliveries[1]->tag);
    assert_int_equal(
        bridge_consumer_ack(f->consumer, old_epoch, f->deliveries[0]->tag, false, &err), OBX_OK);
    ack(f, f->deliveries[2], false);
    until(f, is_up);
    bridge_consumer_destroy(f->consumer);
    f->consumer = NULL;
    assert_int_equal(broker_count(f->admin, QUEUE), 1);
}

static void cancel_drains(void **state)
{
    struct fixture *f = *state;

    f->opts.prefetch = 2;
    put_many(f, 5);
    start(f);
    until_deliveries(f, 2);
    bridge_consumer_cancel(f->consumer);
    until(f, is_closed);
    assert_int_equal(bridge_consumer_state(f->consumer), BRIDGE_CLOSED);
    assert_int_equal(f->count, 2);
    ack(f, f->deliveries[1], true);
    bridge_consumer_service(f->consumer);
    bridge_consumer_destroy(f->consumer);
    f->consumer = NULL;
    assert_int_equal(broker_count(f->admin, QUEUE), 3);
    assert_int_equal(f->downs, 0);
}

static void cancel_before_it_was_ever_up_is_closed_at_once(void **state)
{
    struct fixture *f = *state;

    start(f);
    bridge_consumer_cancel(f->consumer);
    until(f, is_closed);
    assert_int_equal(f->ups, 0);
    assert_int_equal(bridge_consumer_next_due_ms(f->consumer), UINT64_MAX);
}

static void a_wrong_ack_costs_the_channel_only(void **state)
{
    struct fixture *f = *state;
    struct obx_err err = {0};

    put_many(f, 1);
    start(f);
    until_deliveries(f, 1);
    assert_int_equal(bridge_consumer_ack(f->consumer, f->deliveries[0]->epoch, 77, false, &err),
                     OBX_OK);
    until_deliveries(f, 2);
    assert_int_equal(f->downs, 1);
    assert_int_equal(f->why.code, OBX_E_MQ_CHANNEL);
    assert_int_equal(f->why.sys, 406);
    assert_true(f->deliveries[1]->redelivered);
    assert_true(f->deliveries[1]->epoch > f->deliveries[0]->epoch);
}

static void an_exclusive_consumer_waits_for_its_turn(void **state)
{
    struct fixture *f = *state;
    struct bridge_consumer *first;

    f->opts.exclusive = true;
    start(f);
    until(f, is_up);
    first = f->consumer;
    start(f);
    while (f->downs == 0)
        turn(f);
    assert_int_equal(f->why.sys, 403);
    bridge_consumer_destroy(first);
    until(f, is_up);
}

/* In a thread with little stack, as applications have them. */
static void *consume_two(void *ctx)
{
    struct fixture *f = ctx;
    const uint64_t due_ms = clock_now_ms() + WAIT_MS;

    while (f->count < 2 && clock_now_ms() < due_ms)
        turn(f);
    return NULL;
}

static void deep_headers_need_no_deep_stack(void **state)
{
    struct fixture *f = *state;
    pthread_attr_t attr;
    pthread_t thread;

    broker_put_nested(f->admin, QUEUE, NESTED);
    broker_put(f->admin, QUEUE, "next", "next");
    start(f);
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, STACK_BYTES), 0);
    assert_int_equal(pthread_create(&thread, &attr, consume_two, f), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pthread_attr_destroy(&attr), 0);
    assert_int_equal(f->count, 2);
    assert_int_equal(f->deliveries[0]->msg.header_count, 1);
    assert_int_equal(f->deliveries[0]->msg.headers[0].type, OBX_H_TEXT);
    assert_true(bytes_equal(f->deliveries[1]->msg.message_id, bytes_of("next")));
}

/* More values than are read: the message comes without them, once, and the next one after it. */
static void an_unreadable_message_is_handed_on(void **state)
{
    struct fixture *f = *state;

    broker_put_voids(f->admin, QUEUE, VALUES);
    broker_put(f->admin, QUEUE, "next", "next");
    start(f);
    until_deliveries(f, 2);
    assert_int_equal(f->deliveries[0]->msg.header_count, 0);
    assert_int_equal(f->deliveries[0]->msg.message_id.len, 0);
    assert_true(bytes_equal(f->deliveries[0]->msg.body, bytes_of("voids")));
    assert_true(bytes_equal(f->deliveries[1]->msg.message_id, bytes_of("next")));
    ack(f, f->deliveries[1], true);
    until(f, queue_is_empty);
    assert_true(is_up(f));
}

/* Who may write to the queue must not be able to fill our memory, nor to stop what follows. */
static void a_body_above_the_limit_is_not_kept(void **state)
{
    enum { LARGE = 3 * 1000 * 1000, LIMIT = 1000 };
    struct fixture *f = *state;
    char *large = calloc(1, LARGE + 1);

    assert_non_null(large);
    memset(large, 'x', LARGE);
    broker_put(f->admin, QUEUE, "large", large);
    large[LIMIT] = '\0';
    broker_put(f->admin, QUEUE, "just", large);
    free(large);
    f->opts.body_max = LIMIT;
    start(f);
    until_deliveries(f, 2);
    assert_true(bytes_equal(f->deliveries[0]->msg.message_id, bytes_of("large")));
    assert_int_equal(f->deliveries[0]->too_large_bytes, LARGE);
    assert_int_equal(f->deliveries[0]->msg.body.len, 0);
    assert_true(f->deliveries[0]->memory_bytes < 2 * LIMIT);
    assert_int_equal(f->deliveries[1]->too_large_bytes, 0);
    assert_int_equal(f->deliveries[1]->msg.body.len, LIMIT);
    ack(f, f->deliveries[1], true);
    until(f, queue_is_empty);
    assert_true(is_up(f));
}

static const struct obx_header *long_header(const struct bridge_delivery *delivery)
{
    return message_header(&delivery->msg, "h");
}

/* RabbitMQ adds a header when it delivers again, and the frame was full before. */
static void a_full_header_frame_comes_again(void **state)
{
    const struct broker_arg quorum = {.name = "x-queue-type", .text = "quorum"};
    struct fixture *f = *state;
    char *text = calloc(1, FULL_HEADER + 1);

    assert_non_null(text);
    memset(text, 'x', FULL_HEADER);
    f->opts.queue = QUEUE "_quorum";
    broker_queue(f->admin, f->opts.queue, &quorum, 1);
    broker_put_header(f->admin, f->opts.queue, "h", text, "full");
    for (int i = 0; i < 3; i++) {
        start(f);
        until_deliveries(f, 1);
        assert_int_equal(f->deliveries[0]->redelivered, i > 0);
        assert_non_null(long_header(f->deliveries[0]));
        assert_int_equal(long_header(f->deliveries[0])->v.text.len, FULL_HEADER);
        assert_int_equal(f->deliveries[0]->msg.header_count, i > 0 ? 2 : 1);
        free_deliveries(f);
        bridge_consumer_destroy(f->consumer);
        f->consumer = NULL;
    }
    broker_delete_queue(f->admin, f->opts.queue);
    free(text);
}

static void refuses_bad_options(void **state)
{
    struct fixture *f = *state;
    struct bridge_consumer *consumer;
    struct obx_err err = {0};

    f->opts.queue = "";
    assert_int_equal(bridge_consumer_create(&f->opts, &consumer, &err), OBX_E_CONFIG);
    f->opts.queue = QUEUE;
    f->opts.bridge.addresses = ",";
    assert_int_equal(bridge_consumer_create(&f->opts, &consumer, &err), OBX_E_CONFIG);
    assert_null(consumer);
    f->opts.on_delivery = NULL;
    assert_int_equal(bridge_consumer_create(&f->opts, &consumer, &err), OBX_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(delivers_whole_and_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(prefetch_bounds_what_is_unacked, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_unacked_comes_again_after_destroy, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_queue_is_awaited_with_its_trouble_visible, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(goes_on_after_its_queue_was_deleted_and_made_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(cancel_drains, setup, teardown),
        cmocka_unit_test_setup_teardown(cancel_before_it_was_ever_up_is_closed_at_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_wrong_ack_costs_the_channel_only, setup, teardown),
        cmocka_unit_test_setup_teardown(an_exclusive_consumer_waits_for_its_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(deep_headers_need_no_deep_stack, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unreadable_message_is_handed_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_body_above_the_limit_is_not_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_header_frame_comes_again, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_bad_options, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
