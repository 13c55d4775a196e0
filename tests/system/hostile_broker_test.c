/*
 * Publisher and consumer against a broker that means harm (tests/support/hostile_broker.h): nothing
 * aborts, reads or writes where it must not, or stands still; each message has one outcome; and
 * when the broker becomes honest, work goes on by itself.
 *
 * Some hundred connections in the suite; for more:
 *     HOSTILE_CONNECTIONS=100000 HOSTILE_SEED=7 build/asan/tests/system/hostile_broker_test
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "bridge/consumer.h"
#include "bridge/publisher.h"
#include "bridge/topology.h"
#include "hostile_broker.h"
#include "test_log.h"

enum {
    CONNECTIONS = 200,
    WINDOW = 50,
    PREFETCH = 20,
    BODY_MAX = 40, /* less than it sends now and then */
    TURN_MS = 2,
    STUCK_MS = 20000, /* without a connection that ends: the client stands still */
    ANSWER_MS = 150,
};

struct fixture {
    struct hostile_broker *broker;
    char address[32];
    struct bridge_opts opts;
    uint64_t seed;
    unsigned wanted;
    uint8_t inflight[WINDOW * 2]; /* by token % that: published and not told yet */
    uint64_t next_token;
    uint64_t told;
    uint64_t confirmed;
    uint64_t deliveries;
    size_t largest;
    struct bridge_consumer *consumer;
};

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static int setup(void **state)
{

    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    if (getenv("OBX_TEST_LOG") != NULL)
        log_setup(LOG_LVL_DEBUG, LOG_FMT_TEXT, test_log_line, NULL);
    f->seed = number_from("HOSTILE_SEED", random_u64());
    f->wanted = (unsigned)number_from("HOSTILE_CONNECTIONS", CONNECTIONS);
    print_message("HOSTILE_SEED=%llu\n", (unsigned long long)f->seed);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    hostile_broker_destroy(f->broker);
    free(f);
    return 0;
}

static void begin(struct fixture *f, enum hostile_client client)
{
    f->broker = hostile_broker_create(client, f->seed);
    assert_non_null(f->broker);
    (void)snprintf(f->address, sizeof(f->address), "127.0.0.1:%u", hostile_broker_port(f->broker));
    f->opts = (struct bridge_opts){.addresses = f->address,
                                   .user = "user",
                                   .password = "password",
                                   .connect_timeout_ms = ANSWER_MS, /* silence costs so much */
                                   .rpc_timeout_ms = ANSWER_MS,
                                   .heartbeat_s = 1,
                                   .reconnect_min_ms = 1,
                                   .reconnect_cap_ms = 2};
}

static void on_result(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct fixture *f = ctx;

    (void)why;
    assert_true(token < f->next_token);
    assert_int_equal(f->inflight[token % sizeof(f->inflight)], 1);
    f->inflight[token % sizeof(f->inflight)] = 0;
    f->told++;
    f->confirmed += outcome == PUB_CONFIRMED;
}

static void publish_some(struct fixture *f, struct bridge_publisher *pub)
{
    const struct bridge_message msg = {.exchange = bytes_of(""),
                                       .routing_key = bytes_of("key"),
                                       .message_id = bytes_of("id"),
                                       .body = bytes_of("body")};
    struct obx_err err = {0};

    while (bridge_publisher_room(pub) > 0 &&
           f->inflight[f->next_token % sizeof(f->inflight)] == 0 &&
           bridge_publisher_publish(pub, &msg, f->next_token, &err) == OBX_OK) {
        f->inflight[f->next_token % sizeof(f->inflight)] = 1;
        f->next_token++;
    }
}

static void wait_for(int fd, uint64_t due_ms)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    const int left_ms = clock_left_ms(due_ms);

    (void)poll(&pfd, 1, left_ms < TURN_MS ? left_ms : TURN_MS);
}

/* Fails when no connection has ended for long. */
static void watch(const struct fixture *f, unsigned *seen, uint64_t *since_ms)
{
    const unsigned now = hostile_broker_connections(f->broker);

    if (now != *seen) {
        *seen = now;
        *since_ms = clock_now_ms();
    } else if (clock_now_ms() - *since_ms > STUCK_MS) {
        fail_msg("stands still after %u connections, seed %llu", now, (unsigned long long)f->seed);
    }
}

static void a_publisher_outlives_it(void **state)
{
    struct fixture *f = *state;
    struct bridge_publisher_opts opts = {
        .window = WINDOW, .confirm_timeout_ms = ANSWER_MS, .on_result = on_result, .ctx = f};
    struct bridge_publisher *pub = NULL;
    unsigned seen = 0;
    uint64_t since_ms = clock_now_ms();

    begin(f, HOSTILE_PUBLISHER);
    opts.bridge = f->opts;
    assert_int_equal(bridge_publisher_create(&opts, &pub, NULL), OBX_OK);
    while (hostile_broker_connections(f->broker) < f->wanted) {
        bridge_publisher_service(pub);
        publish_some(f, pub);
        wait_for(bridge_publisher_fd(pub), bridge_publisher_next_due_ms(pub));
        watch(f, &seen, &since_ms);
    }
    hostile_broker_behave(f->broker);
    f->confirmed = 0;
    since_ms = clock_now_ms();
    while (f->confirmed < WINDOW && clock_now_ms() - since_ms < STUCK_MS) {
        bridge_publisher_service(pub);
        publish_some(f, pub);
        wait_for(bridge_publisher_fd(pub), bridge_publisher_next_due_ms(pub));
    }
    assert_true(f->confirmed >= WINDOW);
    bridge_publisher_destroy(pub);
    assert_int_equal(f->told, f->next_token);
    assert_true(hostile_broker_attacks(f->broker) >= f->wanted);
    assert_true(hostile_broker_logins(f->broker) > f->wanted / 2);
    print_message("%u attacks in %u connections, %llu messages\n",
                  hostile_broker_attacks(f->broker), hostile_broker_connections(f->broker),
                  (unsigned long long)f->told);
}

/* Reads all of what is said to be there; a reader of memory that is not is found by ASan. */
static void on_delivery(struct bridge_delivery *delivery, void *ctx)
{
    struct fixture *f = ctx;
    size_t sum = delivery->msg.message_id.len + delivery->msg.body.len;

    for (size_t i = 0; i < delivery->msg.header_count; i++) {
        const struct obx_header *header = &delivery->msg.headers[i];

        sum += bytes_hash(header->name) % 2;
        if (header->type == OBX_H_TEXT)
            sum += bytes_hash(header->v.text) % 2;
    }
    sum += bytes_hash(delivery->msg.body) % 2;
    assert_true(delivery->msg.body.len <= BODY_MAX);
    if (delivery->too_large_bytes > 0)
        assert_int_equal(delivery->msg.body.len, 0);
    if (sum > f->largest)
        f->largest = sum;
    f->deliveries++;
    if (f->deliveries % 3 != 0)
        (void)!bridge_consumer_ack(f->consumer, delivery->epoch, delivery->tag,
                                   f->deliveries % 2 == 0, NULL);
    bridge_delivery_free(delivery);
}

static void a_consumer_outlives_it(void **state)
{
    struct fixture *f = *state;
    struct bridge_consumer_opts opts = {.queue = "queue",
                                        .prefetch = PREFETCH,
                                        .body_max = BODY_MAX,
                                        .on_delivery = on_delivery,
                                        .ctx = f};
    unsigned seen = 0;
    uint64_t since_ms = clock_now_ms();

    begin(f, HOSTILE_CONSUMER);
    opts.bridge = f->opts;
    assert_int_equal(bridge_consumer_create(&opts, &f->consumer, NULL), OBX_OK);
    while (hostile_broker_connections(f->broker) < f->wanted) {
        bridge_consumer_service(f->consumer);
        wait_for(bridge_consumer_fd(f->consumer), bridge_consumer_next_due_ms(f->consumer));
        watch(f, &seen, &since_ms);
    }
    hostile_broker_behave(f->broker);
    f->deliveries = 0;
    since_ms = clock_now_ms();
    while (f->deliveries == 0 && clock_now_ms() - since_ms < STUCK_MS) {
        bridge_consumer_service(f->consumer);
        wait_for(bridge_consumer_fd(f->consumer), bridge_consumer_next_due_ms(f->consumer));
    }
    assert_true(f->deliveries > 0);
    bridge_consumer_destroy(f->consumer);
    assert_true(hostile_broker_attacks(f->broker) >= f->wanted);
    assert_true(hostile_broker_logins(f->broker) > f->wanted / 2);
    print_message("%u attacks in %u connections\n", hostile_broker_attacks(f->broker),
                  hostile_broker_connections(f->broker));
}

/* The topology's requests are waited for, so silence and chatter are bounded by the time given. */
static void the_topology_ends_in_time(void **state)
{
    struct fixture *f = *state;
    const struct topology_exchange exchange = {.name = "x", .type = "topic"};
    const struct topology_queue queue = {.name = "q"};
    const struct topology topology = {
        .exchanges = &exchange, .exchange_count = 1, .queues = &queue, .queue_count = 1};
    const unsigned rounds = f->wanted / 4;

    begin(f, HOSTILE_PUBLISHER);
    for (unsigned i = 0; i < rounds; i++) {
        const uint64_t began_ms = clock_now_ms();
        struct obx_err err = {0};

        assert_int_not_equal(bridge_topology_apply(&f->opts, &topology, TOPOLOGY_DECLARE, &err),
                             OBX_OK);
        assert_true(err.text[0] != '\0');
        assert_true(clock_now_ms() - began_ms < STUCK_MS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_publisher_outlives_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_consumer_outlives_it, setup, teardown),
        cmocka_unit_test_setup_teardown(the_topology_ends_in_time, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
