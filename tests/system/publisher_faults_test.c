/*
 * The publisher against a broker and a network that fail: cut, silent, stopped, alarmed, killed.
 * Each message published keeps exactly one outcome, unknown ones come in publish order, nothing
 * waits without a bound, and work goes on by itself.
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
#include "cut_proxy.h"
#include "publisher_rig.h"
#include "test_parts.h"
#include "wait.h"

#define QUEUE "publisher_faults_test"

enum {
    CONFIRM_MS = 1000,
    LARGE = 100 * 1000,
    MUST_NOT_WAIT_MS = 900, /* generous for a busy machine; the faults hold for much longer */
};

struct proxied {
    struct cut_proxy *proxy;
    char address[64];
};

static struct proxied proxied; /* one at a time; made again for each test */

static int setup(void **state)
{
    struct rig *rig;

    if (rig_setup(state) != 0)
        return -1;
    rig = *state;
    broker_queue(rig->admin, QUEUE, NULL, 0);
    proxied.proxy = cut_proxy_create(rig->broker.host, (uint16_t)rig->broker.port);
    assert_non_null(proxied.proxy);
    (void)snprintf(proxied.address, sizeof(proxied.address), "127.0.0.1:%u",
                   (unsigned)cut_proxy_port(proxied.proxy));
    rig->opts.bridge.addresses = proxied.address;
    return 0;
}

static bool alarm_is_set;

/* Whether the broker has noticed; it looks at its memory once in a while only. */
static bool alarm_is_in_effect(void *ctx)
{
    char answer[64] = "";
    FILE *out = popen("\"$OBX_TEST_SERVERS\" rabbitmqctl -q eval "
                      "'case rabbit_alarm:get_alarms() of [] -> none; _ -> some end.'",
                      "r");

    assert_non_null(out);
    assert_non_null(fgets(answer, sizeof(answer), out));
    (void)pclose(out);
    return (strncmp(answer, "some", strlen("some")) == 0) == *(bool *)ctx;
}

static void set_alarm(bool wanted)
{
    alarm_is_set = wanted;
    broker_servers(wanted ? "rabbitmqctl -q set_vm_memory_high_watermark 0.00001"
                          : "rabbitmqctl -q set_vm_memory_high_watermark 0.4");
    assert_true(wait_until(RIG_WAIT_MS, alarm_is_in_effect, &wanted));
}

/* In the background, so that the heartbeats go on. */
static void clear_alarm_soon(void)
{
    assert_int_equal(system("\"$OBX_TEST_SERVERS\" rabbitmqctl -q set_vm_memory_high_watermark 0.4 "
                            ">/dev/null 2>&1 &"),
                     0);
}

static int teardown(void **state)
{
    const int rc = rig_teardown(state);

    if (alarm_is_set)
        set_alarm(false);
    cut_proxy_destroy(proxied.proxy);
    proxied.proxy = NULL;
    return rc;
}

struct count_wanted {
    struct rig *rig;
    uint32_t count;
};

static bool holds(void *ctx)
{
    const struct count_wanted *wanted = ctx;

    return broker_count(wanted->rig->admin, QUEUE) == wanted->count;
}

static void until_queue_holds(struct rig *rig, uint32_t count)
{
    struct count_wanted wanted = {.rig = rig, .count = count};

    assert_true(wait_until(RIG_WAIT_MS, holds, &wanted));
}

static void a_cut_between_publish_and_confirm_is_unknown_in_order(void **state)
{
    struct rig *rig = *state;

    rig_start(rig);
    rig_until(rig, rig_is_up);
    cut_proxy_set_flow(proxied.proxy, CUT_TO_CLIENT, CUT_HOLD); /* no confirm comes through */
    rig_send_many(rig, QUEUE, 100);
    rig_turn(rig, 0);
    until_queue_holds(rig, 100);
    assert_int_equal(rig->settled, 0);
    cut_proxy_cut_all(proxied.proxy);
    cut_proxy_set_flow(proxied.proxy, CUT_TO_CLIENT, CUT_PASS);
    rig_until(rig, rig_all_settled);
    rig_expect_once_each(rig);
    assert_int_equal(rig->by_outcome[PUB_UNKNOWN], 100);
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(rig->order[i], i);
    rig_until(rig, rig_is_up);
    rig_send_many(rig, QUEUE, 100);
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], 100);
    assert_int_equal(broker_count(rig->admin, QUEUE), 200);
}

static unsigned cuts_left;
static unsigned seed;

/* Sets the next cut as soon as the last one has happened: at any byte, of either direction, so also
 * inside frames. */
static void keep_cutting(struct rig *rig)
{
    (void)rig;
    if (cuts_left == 0 || cut_proxy_cut_is_pending(proxied.proxy, CUT_TO_SERVER) ||
        cut_proxy_cut_is_pending(proxied.proxy, CUT_TO_CLIENT))
        return;
    cuts_left--;
    seed = seed * 1103515245U + 12345U;
    if (cuts_left % 2 == 0)
        cut_proxy_cut_after(proxied.proxy, CUT_TO_SERVER, (seed >> 8) % 20000);
    else
        cut_proxy_cut_after(proxied.proxy, CUT_TO_CLIENT, (seed >> 8) % 900);
}

static void cuts_at_any_byte_lose_nothing(void **state)
{
    struct rig *rig = *state;
    struct bridge_publisher_stats stats;

    cuts_left = 60;
    seed = 1;
    rig->opts.window = 40;
    rig_start(rig);
    rig_deliver_all(rig, QUEUE, 10000, keep_cutting);
    bridge_publisher_get_stats(rig->pub, &stats);
    assert_int_equal(cuts_left, 0);
    assert_true(rig->by_outcome[PUB_UNKNOWN] > 0);
    assert_int_equal(stats.published, stats.confirmed + stats.unknown);
    (void)rig_expect_all_there(rig, QUEUE, 10000);
}

static void silence_while_idle_is_noticed_by_heartbeats(void **state)
{
    struct rig *rig = *state;
    uint64_t start_ms;

    rig->opts.bridge.heartbeat_s = 1;
    rig_start(rig);
    rig_until(rig, rig_is_up);
    cut_proxy_set_flow(proxied.proxy, CUT_TO_CLIENT, CUT_HOLD);
    start_ms = clock_now_ms();
    rig_until(rig, rig_is_down);
    assert_true(clock_now_ms() - start_ms < 5000);
    assert_int_equal(bridge_publisher_trouble(rig->pub)->code, OBX_E_MQ_GONE);
    cut_proxy_cut_all(proxied.proxy);
    cut_proxy_set_flow(proxied.proxy, CUT_TO_CLIENT, CUT_PASS);
    rig_until(rig, rig_is_up);
}

static void a_confirm_that_never_comes_gives_the_connection_up(void **state)
{
    struct rig *rig = *state;
    uint64_t start_ms;

    rig->opts.confirm_timeout_ms = CONFIRM_MS;
    rig_start(rig);
    rig_until(rig, rig_is_up);
    cut_proxy_set_flow(proxied.proxy, CUT_TO_CLIENT, CUT_HOLD);
    rig_send_many(rig, QUEUE, 10);
    start_ms = clock_now_ms();
    rig_until(rig, rig_all_settled);
    assert_true(clock_now_ms() - start_ms >= CONFIRM_MS - 100);
    assert_true(clock_now_ms() - start_ms < CONFIRM_MS + 3000);
    assert_int_equal(rig->by_outcome[PUB_UNKNOWN], 10);
    assert_non_null(strstr(rig->why, "no confirm"));
    cut_proxy_cut_all(proxied.proxy);
    cut_proxy_set_flow(proxied.proxy, CUT_TO_CLIENT, CUT_PASS);
    rig_send_many(rig, QUEUE, 1);
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], 1);
}

/* Publish large messages until the buffers are full, whatever their size; that takes no time at
 * all. */
static void fill_up(struct rig *rig, size_t most)
{
    struct rig_message message;
    char *body = calloc(1, LARGE);

    assert_non_null(body);
    for (size_t i = 0; i < most && bridge_publisher_room(rig->pub) > 0; i++) {
        rig_message(rig, QUEUE, &message);
        message.msg.body = (struct obx_bytes){.p = body, .len = LARGE};
        rig_send(rig, &message);
    }
    assert_int_equal(bridge_publisher_room(rig->pub), 0);
    free(body);
}

static void a_peer_that_does_not_read_never_blocks_a_publish(void **state)
{
    struct rig *rig = *state;

    rig->opts.confirm_timeout_ms = CONFIRM_MS;
    rig_start(rig);
    rig_until(rig, rig_is_up);
    cut_proxy_set_flow(proxied.proxy, CUT_TO_SERVER, CUT_HOLD);
    fill_up(rig, 2000);
    assert_true(rig->longest_publish_ms < MUST_NOT_WAIT_MS);
    rig_until(rig, rig_all_settled);
    rig_expect_all(rig, PUB_UNKNOWN);
    cut_proxy_cut_all(proxied.proxy);
    cut_proxy_set_flow(proxied.proxy, CUT_TO_SERVER, CUT_PASS);
    rig_send_many(rig, QUEUE, 10);
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], 10);
}

static void a_slow_peer_is_waited_for_without_spinning(void **state)
{
    struct rig *rig = *state;
    uint64_t calls;

    rig_start(rig);
    rig_until(rig, rig_is_up);
    cut_proxy_set_flow(proxied.proxy, CUT_TO_SERVER, CUT_HOLD);
    fill_up(rig, 2000);
    rig->service_calls = 0;
    for (uint64_t until_ms = clock_now_ms() + 500; clock_now_ms() < until_ms;)
        rig_turn(rig, clock_left_ms(until_ms));
    calls = rig->service_calls;
    cut_proxy_set_flow(proxied.proxy, CUT_TO_SERVER, CUT_PASS);
    rig_until(rig, rig_all_settled);
    assert_true(calls < 10);
    rig_expect_all(rig, PUB_CONFIRMED);
}

static bool has_trouble(struct rig *rig)
{
    return bridge_publisher_trouble(rig->pub)->code != OBX_OK;
}

static void a_connect_that_is_not_answered_ends_in_time(void **state)
{
    struct rig *rig = *state;
    uint64_t start_ms;

    rig->opts.bridge.connect_timeout_ms = CONFIRM_MS;
    cut_proxy_set_flow(proxied.proxy, CUT_TO_CLIENT, CUT_HOLD);
    rig_start(rig);
    start_ms = clock_now_ms();
    bridge_publisher_service(rig->pub);
    assert_true(clock_now_ms() - start_ms < CONFIRM_MS + 1000);
    assert_int_equal(bridge_publisher_trouble(rig->pub)->code, OBX_E_MQ_CONNECT);
    cut_proxy_cut_all(proxied.proxy);
    cut_proxy_set_flow(proxied.proxy, CUT_TO_CLIENT, CUT_PASS);
    rig_until(rig, rig_is_up);
}

static void a_channel_that_is_not_opened_in_time_is_given_up(void **state)
{
    struct rig *rig = *state;
    uint64_t start_ms;

    rig->opts.bridge.rpc_timeout_ms = CONFIRM_MS;
    rig_start(rig);
    while (bridge_publisher_fd(rig->pub) < 0)
        bridge_publisher_service(rig->pub); /* logged in; the channel is being opened */
    cut_proxy_set_flow(proxied.proxy, CUT_TO_CLIENT, CUT_HOLD);
    if (bridge_publisher_state(rig->pub) == BRIDGE_DOWN) {
        start_ms = clock_now_ms();
        rig_until(rig, has_trouble);
        assert_true(clock_now_ms() - start_ms < CONFIRM_MS + 2000);
    }
    cut_proxy_cut_all(proxied.proxy);
    cut_proxy_set_flow(proxied.proxy, CUT_TO_CLIENT, CUT_PASS);
    rig_until(rig, rig_is_down);
    rig_until(rig, rig_is_up);
}

static uint64_t tries(void)
{
    struct cut_stats stats;

    cut_proxy_get_stats(proxied.proxy, &stats);
    return stats.accepted;
}

static void a_broker_that_is_not_there_is_tried_with_a_backoff(void **state)
{
    struct rig *rig = *state;
    uint64_t until_ms;

    rig->opts.bridge.password = "wrong"; /* each try reaches the broker and fails */
    rig->opts.bridge.reconnect_min_ms = 50;
    rig->opts.bridge.reconnect_cap_ms = 400;
    rig_start(rig);
    rig->service_calls = 0;
    until_ms = clock_now_ms() + 3000;
    while (clock_now_ms() < until_ms)
        rig_turn(rig, clock_left_ms(until_ms));
    assert_true(tries() >= 4);
    assert_true(tries() <= 3000 / 50);
    assert_true(rig->service_calls <= tries() * 3 + 3);
}

static void refused_connections_are_retried_until_one_works(void **state)
{
    struct rig *rig = *state;

    cut_proxy_set_refuse(proxied.proxy, true);
    rig_start(rig);
    rig_until(rig, has_trouble);
    assert_int_equal(bridge_publisher_trouble(rig->pub)->code, OBX_E_MQ_CONNECT);
    cut_proxy_set_refuse(proxied.proxy, false);
    rig_send_many(rig, QUEUE, 10);
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], 10);
}

static void a_stopped_broker_meets_the_deadline_and_comes_back(void **state)
{
    struct rig *rig = *state;

    rig->opts.bridge.addresses = rig->broker.address;
    rig->opts.bridge.connect_timeout_ms = CONFIRM_MS;
    rig->opts.confirm_timeout_ms = CONFIRM_MS;
    rig_start(rig);
    rig_until(rig, rig_is_up);
    broker_servers("pause rabbitmq");
    fill_up(rig, 2000);
    rig_until(rig, rig_all_settled);
    broker_servers("resume rabbitmq");
    rig_expect_all(rig, PUB_UNKNOWN);
    assert_true(rig->longest_publish_ms < MUST_NOT_WAIT_MS);
    rig_send_many(rig, QUEUE, 10);
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], 10);
}

static void an_alarm_blocks_and_nothing_is_lost(void **state)
{
    struct rig *rig = *state;
    struct bridge_publisher_stats stats;
    struct rig_message message;
    struct obx_err err = {0};
    uint64_t sent;

    rig->opts.confirm_timeout_ms = CONFIRM_MS;
    rig->opts.bridge.heartbeat_s = 1;
    set_alarm(true);
    rig_start(rig);
    rig_until(rig, rig_is_up);
    rig_send_many(rig, QUEUE, 100); /* the broker says "blocked" only to who publishes */
    rig_until(rig, rig_is_blocked);
    sent = rig->next_token;
    assert_int_equal(bridge_publisher_room(rig->pub), 0);
    assert_int_equal(bridge_publisher_trouble(rig->pub)->code, OBX_E_MQ_BLOCKED);
    assert_non_null(strstr(bridge_publisher_trouble(rig->pub)->text, "memory"));
    rig_message(rig, QUEUE, &message);
    assert_int_equal(bridge_publisher_publish(rig->pub, &message.msg, sent, &err),
                     OBX_E_MQ_BLOCKED);
    /* Longer than both the confirm timeout and two heartbeats. */
    for (uint64_t until_ms = clock_now_ms() + 4 * CONFIRM_MS; clock_now_ms() < until_ms;)
        rig_turn(rig, 20);
    assert_int_equal(bridge_publisher_state(rig->pub), BRIDGE_BLOCKED);
    clear_alarm_soon();
    rig_until(rig, rig_is_up);
    rig_until(rig, rig_all_settled);
    rig_expect_once_each(rig);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], sent);
    bridge_publisher_get_stats(rig->pub, &stats);
    assert_int_equal(stats.blocked, 1);
    assert_int_equal(stats.connects, 1);
    assert_int_equal(bridge_publisher_trouble(rig->pub)->code, OBX_OK);
}

static void a_blocked_broker_with_full_buffers_never_blocks_us(void **state)
{
    struct rig *rig = *state;

    rig->opts.bridge.heartbeat_s = 1;
    rig->opts.confirm_timeout_ms = CONFIRM_MS;
    rig->opts.bridge.addresses = rig->broker.address;
    set_alarm(true);
    rig_start(rig);
    rig_until(rig, rig_is_up);
    fill_up(rig, 2000);
    assert_true(rig->longest_publish_ms < MUST_NOT_WAIT_MS);
    rig_until(rig, rig_is_blocked);
    for (uint64_t until_ms = clock_now_ms() + 3 * CONFIRM_MS; clock_now_ms() < until_ms;) {
        const uint64_t start_ms = clock_now_ms();

        bridge_publisher_service(
            rig->pub); /* heartbeats are due, and there is no room to write them */
        assert_true(clock_now_ms() - start_ms < MUST_NOT_WAIT_MS);
        rig_turn(rig, 20);
    }
    assert_int_equal(bridge_publisher_state(rig->pub), BRIDGE_BLOCKED);
    clear_alarm_soon();
    rig_until(rig, rig_all_settled);
    rig_expect_all(rig, PUB_CONFIRMED);
}

static void a_connection_closed_by_an_operator_comes_back(void **state)
{
    struct rig *rig = *state;

    rig_start(rig);
    rig_send_many(rig, QUEUE, 10);
    rig_until(rig, rig_all_settled);
    broker_admin_close(rig->admin);
    rig->admin = NULL;
    broker_servers("rabbitmqctl -q close_all_connections maintenance-of-the-broker");
    rig_until(rig, rig_is_down);
    assert_int_equal(bridge_publisher_trouble(rig->pub)->sys, 320);
    assert_non_null(strstr(bridge_publisher_trouble(rig->pub)->text, "maintenance-of-the-broker"));
    rig->admin = broker_admin_open(&rig->broker);
    rig_send_many(rig, QUEUE, 10);
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], 20);
}

/* A message that the broker thinks too large closes the channel; it is told apart from those around
 * it. */
static void a_message_over_the_brokers_own_limit_is_told_apart(void **state)
{
    struct rig *rig = *state;
    struct rig_message message;
    char *body = calloc(1, LARGE);

    assert_non_null(body);
    broker_max_message_size(50000);
    rig_start(rig);
    rig_send_many(rig, QUEUE, 5);
    rig_message(rig, QUEUE, &message);
    message.msg.body = (struct obx_bytes){.p = body, .len = LARGE};
    rig_send(rig, &message);
    rig_send_many(rig, QUEUE, 5);
    rig_until(rig, rig_all_settled);
    broker_max_message_size(BROKER_MAX_MESSAGE_DEFAULT);
    free(body);
    rig_expect_once_each(rig);
    assert_int_equal(rig->outcomes[5], PUB_NACKED);
    assert_int_equal(rig->by_outcome[PUB_NACKED], 1);
    assert_non_null(strstr(rig->why, "message size"));
    rig_send_many(rig, QUEUE, 5);
    rig_until(rig, rig_all_settled);
    for (uint64_t token = 11; token < 16; token++)
        assert_int_equal(rig->outcomes[token], PUB_CONFIRMED);
}

static void a_missing_permission_is_told_with_its_exchange(void **state)
{
    struct rig *rig = *state;
    struct rig_message message;

    broker_exchange(rig->admin, "faults_denied");
    /* Left behind by a run that was killed; it is usually not there. */
    assert_int_not_equal(
        system("\"$OBX_TEST_SERVERS\" rabbitmqctl -q delete_user limited >/dev/null 2>&1"), -1);
    broker_servers("rabbitmqctl -q add_user limited limited");
    broker_servers("rabbitmqctl -q set_permissions limited '^$' 'amq.default' '.*'");
    rig->opts.bridge.user = "limited";
    rig->opts.bridge.password = "limited";
    rig_start(rig);
    rig_message(rig, "key", &message);
    message.msg.exchange = bytes_of("faults_denied");
    rig_send(rig, &message);
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->outcomes[0], PUB_RETURNED);
    assert_non_null(strstr(rig->why, "ACCESS_REFUSED"));
    rig_send_many(rig, QUEUE, 5);
    rig_until(rig, rig_all_settled);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED], 5);
    rig_stop(rig);
    broker_servers("rabbitmqctl -q delete_user limited");
    broker_delete_exchange(rig->admin, "faults_denied");
}

/* One forbidden topic of an exchange: the others of the exchange are not to blame. */
static void a_forbidden_topic_is_told_apart_from_its_exchange(void **state)
{
    struct rig *rig = *state;
    struct rig_message message;

    broker_topic_exchange(rig->admin, "faults_topics");
    broker_bind(rig->admin, QUEUE, "faults_topics", "#");
    assert_int_not_equal(
        system("\"$OBX_TEST_SERVERS\" rabbitmqctl -q delete_user topical >/dev/null 2>&1"), -1);
    broker_servers("rabbitmqctl -q add_user topical topical");
    broker_servers("rabbitmqctl -q set_permissions topical '.*' '.*' '.*'");
    broker_servers(
        "rabbitmqctl -q set_topic_permissions topical faults_topics '^good\\..*' '^good\\..*'");
    rig->opts.bridge.user = "topical";
    rig->opts.bridge.password = "topical";
    rig_start(rig);
    for (int i = 0; i < 30; i++) {
        rig_message(rig, i == 10 ? "bad.one" : "good.one", &message);
        message.msg.exchange = bytes_of("faults_topics");
        rig_send(rig, &message);
    }
    rig_until(rig, rig_all_settled);
    rig_expect_once_each(rig);
    assert_int_equal(rig->outcomes[10], PUB_DENIED);
    assert_int_equal(rig->by_outcome[PUB_DENIED], 1);
    assert_int_equal(rig->by_outcome[PUB_CONFIRMED] + rig->by_outcome[PUB_UNKNOWN], 29);
    assert_non_null(strstr(rig->why, "bad.one"));
    rig_stop(rig);
    broker_servers("rabbitmqctl -q delete_user topical");
    broker_delete_exchange(rig->admin, "faults_topics");
}

static void the_broker_is_told_what_the_client_can_do(void **state)
{
    struct rig *rig = *state;
    static const char *const wanted[] = {"\"connection.blocked\",true",
                                         "consumer_cancel_notify",
                                         "publisher_confirms",
                                         "authentication_failure_close",
                                         "basic.nack",
                                         "publisher_test"};
    char line[8192] = "";
    FILE *out;

    rig_start(rig);
    rig_until(rig, rig_is_up);
    out = popen("\"$OBX_TEST_SERVERS\" rabbitmqctl -q list_connections client_properties"
                " | grep publisher_test",
                "r");
    assert_non_null(out);
    assert_non_null(fgets(line, sizeof(line), out));
    (void)pclose(out);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (strstr(line, wanted[i]) == NULL)
            fail_msg("%s is not in: %s", wanted[i], line);
    }
}

static unsigned turns_to_kill;

static void kill_at_half_time(struct rig *rig)
{
    if (turns_to_kill == 0 || rig->by_outcome[PUB_CONFIRMED] < turns_to_kill)
        return;
    turns_to_kill = 0;
    broker_servers("kill rabbitmq");
    broker_servers("start rabbitmq");
}

static void a_killed_broker_loses_nothing_that_it_confirmed(void **state)
{
    const struct broker_arg quorum = {.name = "x-queue-type", .text = "quorum"};
    struct rig *rig = *state;
    char queue[64];

    /* A name of its own: RabbitMQ 3.10 finds the old one's data, and no leader, after a kill. */
    (void)snprintf(queue, sizeof(queue), QUEUE "_%llu", (unsigned long long)clock_wall_us());
    broker_queue(rig->admin, queue, &quorum, 1);
    broker_settle();
    broker_admin_close(rig->admin);
    rig->admin = NULL;
    turns_to_kill = 1000;
    rig_start(rig);
    rig_deliver_all(rig, queue, 10000, kill_at_half_time);
    assert_int_equal(turns_to_kill, 0);
    assert_true(rig->by_outcome[PUB_UNKNOWN] > 0);
    rig->admin = broker_admin_open(&rig->broker);
    (void)rig_expect_all_there(rig, queue, 10000);
    broker_delete_queue(rig->admin, queue);
}

#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest shared[] = {
        RIG_TEST(a_cut_between_publish_and_confirm_is_unknown_in_order),
        RIG_TEST(cuts_at_any_byte_lose_nothing),
        RIG_TEST(silence_while_idle_is_noticed_by_heartbeats),
        RIG_TEST(a_confirm_that_never_comes_gives_the_connection_up),
        RIG_TEST(a_peer_that_does_not_read_never_blocks_a_publish),
        RIG_TEST(a_slow_peer_is_waited_for_without_spinning),
        RIG_TEST(a_connect_that_is_not_answered_ends_in_time),
        RIG_TEST(a_channel_that_is_not_opened_in_time_is_given_up),
        RIG_TEST(a_broker_that_is_not_there_is_tried_with_a_backoff),
        RIG_TEST(refused_connections_are_retried_until_one_works),
        RIG_TEST(a_missing_permission_is_told_with_its_exchange),
        RIG_TEST(a_forbidden_topic_is_told_apart_from_its_exchange),
        RIG_TEST(the_broker_is_told_what_the_client_can_do),
    };
    const struct CMUnitTest alone[] = {
        RIG_TEST(a_stopped_broker_meets_the_deadline_and_comes_back),
        RIG_TEST(an_alarm_blocks_and_nothing_is_lost),
        RIG_TEST(a_blocked_broker_with_full_buffers_never_blocks_us),
        RIG_TEST(a_connection_closed_by_an_operator_comes_back),
        RIG_TEST(a_message_over_the_brokers_own_limit_is_told_apart),
        RIG_TEST(a_killed_broker_loses_nothing_that_it_confirmed),
    };

    return TEST_RUN_PARTS(argc, argv, shared, alone);
}
