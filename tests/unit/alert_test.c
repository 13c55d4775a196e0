/* The alert: says once what was parked, not too often, and makes up for calls that failed. */
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>

#include "daemon/alert.h"
#include "endpoint.h"
#include "wait.h"

enum { WAIT_MS = 20000, HOUR_MS = 3600 * 1000 };

struct receiver {
    _Atomic int status;
    pthread_mutex_t lock;
    char last[512]; /* under the lock */
};

static void answer(const struct endpoint_request *request, struct endpoint_answer *out, void *ctx)
{
    struct receiver *receiver = ctx;

    (void)pthread_mutex_lock(&receiver->lock);
    (void)snprintf(receiver->last, sizeof(receiver->last), "%.*s", (int)request->body_len,
                   request->body);
    (void)pthread_mutex_unlock(&receiver->lock);
    out->status = receiver->status;
}

static struct receiver receiver = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct endpoint *endpoint;
static struct alert *alert;
static struct lane_view lanes[2];
static struct relay_view view;

static bool has_said(const char *text)
{
    bool has = false;

    (void)pthread_mutex_lock(&receiver.lock);
    has = strstr(receiver.last, text) != NULL;
    (void)pthread_mutex_unlock(&receiver.lock);
    return has;
}

static void start(uint32_t interval_ms)
{
    char url[64];
    struct alert_opts opts = {
        .url = url, .owner = "me", .interval_ms = interval_ms, .timeout_ms = 2000};
    struct obx_err err = {0};

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/hook", (unsigned)endpoint_port(endpoint));
    assert_int_equal(alert_create(&opts, &alert, &err), OBX_OK);
}

static int set_up(void **state)
{
    (void)state;
    receiver.status = 204;
    endpoint = endpoint_create_full(answer, &receiver);
    memset(lanes, 0, sizeof(lanes));
    lanes[0].source = lanes[1].source = "shop";
    lanes[0].outbox = "outbox";
    lanes[1].outbox = "bulk";
    view = (struct relay_view){.lanes = lanes, .lane_count = 2};
    return endpoint == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    alert_destroy(alert);
    alert = NULL;
    endpoint_destroy(endpoint);
    return 0;
}

static struct alert_stats stats(void)
{
    struct alert_stats out;

    alert_get_stats(alert, &out);
    return out;
}

static bool has_sent(void *ctx)
{
    const uint64_t *wanted = ctx;

    alert_look(alert, &view);
    return stats().sent == *wanted;
}

static bool has_failed(void *ctx)
{
    (void)ctx;
    alert_look(alert, &view);
    return stats().failed >= 2;
}

static void wait_sent(uint64_t wanted)
{
    assert_true(wait_until(WAIT_MS, has_sent, &wanted));
}

static void nothing_parked_nothing_said(void **state)
{
    (void)state;
    start(1);
    for (int i = 0; i < 50; i++)
        alert_look(alert, &view);
    alert_destroy(alert);
    alert = NULL;
    assert_int_equal(endpoint_requests(endpoint), 0);
}

static void what_was_parked_is_said_once(void **state)
{
    (void)state;
    start(1);
    lanes[1].stats.parked = 3;
    lanes[1].stats.receipts_missing = 1;
    lanes[1].stats.parked_now = 9;
    wait_sent(1);
    assert_true(
        has_said("{\"event\":\"parked\",\"relay\":\"me\",\"new\":4,\"half_messages_parked\":"
                 "0,\"outboxes\":[{\"source\":\"shop\",\"outbox\":\"bulk\",\"parked\":9,"
                 "\"frozen_keys\":0}]}"));
    for (int i = 0; i < 50; i++)
        alert_look(alert, &view);
    lanes[0].stats.parked = 2;
    wait_sent(2);
    assert_true(has_said("\"new\":2"));
    /* A lane that counts from zero again is no news, and what it parks then is. */
    lanes[1].stats.parked = 0;
    lanes[1].stats.receipts_missing = 0;
    alert_look(alert, &view);
    lanes[1].stats.parked = 1;
    wait_sent(3);
    assert_true(has_said("\"new\":1"));
}

static void not_too_often(void **state)
{
    (void)state;
    start(HOUR_MS);
    lanes[0].stats.parked = 1;
    wait_sent(1);
    for (int i = 0; i < 50; i++) {
        lanes[0].stats.parked++;
        alert_look(alert, &view);
    }
    alert_destroy(alert);
    alert = NULL;
    assert_int_equal(endpoint_requests(endpoint), 1);
}

/* In one call or in two, as the failing ones were in flight or not. */
static bool all_seven_are_said(void *ctx)
{
    (void)ctx;
    alert_look(alert, &view);
    return has_said(stats().sent == 1 ? "\"new\":7" : "\"new\":2");
}

static void a_call_that_failed_is_made_up_for(void **state)
{
    (void)state;
    start(1);
    receiver.status = 500;
    lanes[0].stats.parked = 5;
    assert_true(wait_until(WAIT_MS, has_failed, NULL));
    receiver.status = 200;
    lanes[0].stats.parked = 7;
    assert_true(wait_until(WAIT_MS, all_seven_are_said, NULL));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static void say_nothing(const struct endpoint_request *request, struct endpoint_answer *out,
                        void *ctx)
{
    (void)request;
    (void)ctx;
    out->mode = ENDPOINT_SILENT;
}

static bool was_asked(void *ctx)
{
    return endpoint_requests(ctx) > 0;
}

/* An endpoint that takes the alert and never answers: looks go on meanwhile, and a stop does not
 * wait for it; this test hangs for an hour otherwise. */
static void a_silent_endpoint_holds_up_nothing(void **state)
{
    struct endpoint *mute = endpoint_create_full(say_nothing, NULL);
    char url[64];
    struct alert_opts opts = {.url = url, .owner = "me", .interval_ms = 1, .timeout_ms = HOUR_MS};
    struct obx_err err = {0};

    (void)state;
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/hook", (unsigned)endpoint_port(mute));
    assert_int_equal(alert_create(&opts, &alert, &err), OBX_OK);
    lanes[0].stats.parked = 1;
    alert_look(alert, &view);
    assert_true(wait_until(WAIT_MS, was_asked, mute));
    for (uint64_t i = 0; i < 1000; i++) {
        lanes[0].stats.parked++;
        alert_look(alert, &view);
    }
    assert_int_equal(stats().sent + stats().failed, 0);
    alert_destroy(alert);
    alert = NULL;
    endpoint_destroy(mute);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_parked_nothing_said),
        TEST(what_was_parked_is_said_once),
        TEST(not_too_often),
        TEST(a_call_that_failed_is_made_up_for),
        TEST(a_silent_endpoint_holds_up_nothing),
    };

    /* Of the environment nothing is taken: with this proxy nothing would arrive. */
    assert(setenv("http_proxy", "http://127.0.0.1:1", 1) == 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
