/*
 * Unit tests of outbox-relay/daemon/pages/status and readiness: what /readyz and /status say in each
 * state.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "daemon/pages/readiness.h"
#include "daemon/pages/status.h"

static struct lane_view lane_in(enum lane_state state, enum bridge_state broker,
                                const char *trouble)
{
    struct lane_view lane = {
        .source = "shop", .outbox = "outbox", .slot = SLOT_RUNNING, .trouble = ""};

    lane.stats.state = state;
    lane.stats.broker_state = broker;
    snprintf(lane.stats.trouble, sizeof(lane.stats.trouble), "%s", trouble);
    return lane;
}

static void expect_lane(const struct lane_view *lane, bool is_ready, const char *reason)
{
    char got[256];

    assert_int_equal(lane_view_is_ready(lane, got, sizeof(got)), is_ready);
    assert_string_equal(got, reason);
}

/* A standby is ready while another owner works, and not because it waits. */
static void a_standby_is_ready_while_somebody_works(void **state)
{
    struct lane_view lane = lane_in(LANE_STANDBY, BRIDGE_DOWN, "");

    (void)state;
    expect_lane(&lane, false, "standby, and nobody works: no lease is held");
    strcpy(lane.stats.lease_owner, "this-relay");
    expect_lane(&lane, false, "standby, and nobody works: a lease of this relay is in doubt");
    strcpy(lane.stats.lease_owner, "another-relay");
    lane.stats.is_served = true;
    expect_lane(&lane, true, "");
}

static void readiness_of_each_state(void **state)
{
    static const struct {
        enum lane_state state;
        enum bridge_state broker;
        const char *trouble;
        bool is_ready;
        const char *reason;
    } cases[] = {
        {LANE_OWNER, BRIDGE_UP, "", true, ""},
        {LANE_OWNER, BRIDGE_UP, "odd", false, "owner with a condition: odd"},
        {LANE_OWNER, BRIDGE_DOWN, "refused", false, "broker not connected: refused"},
        {LANE_OWNER, BRIDGE_DOWN, "", false, "broker not connected"},
        {LANE_OWNER, BRIDGE_BLOCKED, "low on disk", false,
         "broker takes no messages (alarm): low on disk"},
        {LANE_OWNER, BRIDGE_CLOSED, "", false, "broker connection closed"},
        {LANE_STANDBY, BRIDGE_DOWN, "", false, "standby, and nobody works: no lease is held"},
        {LANE_STANDBY, BRIDGE_DOWN, "x", false, "standby: x"},
        {LANE_STARTING, BRIDGE_DOWN, "", false, "not yet connected to the database"},
        {LANE_DB_DOWN, BRIDGE_UP, "wrong password", false,
         "database lost or unfit: wrong password"},
        {LANE_DRAINING, BRIDGE_UP, "", false, "draining"},
        {LANE_STOPPED, BRIDGE_CLOSED, "", false, "stopped"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct lane_view lane = lane_in(cases[i].state, cases[i].broker, cases[i].trouble);

        expect_lane(&lane, cases[i].is_ready, cases[i].reason);
        lane.slot = SLOT_DRAINING;
        lane.stats.trouble[0] = '\0';
        expect_lane(&lane, false, "draining");
        lane.slot = SLOT_WAITING;
        lane.trouble = "no thread";
        expect_lane(&lane, false, "not started: no thread");
    }
}

static json_t *parsed(enum obx_code (*write)(const struct relay_view *, struct obx_buf *),
                      const struct relay_view *view)
{
    struct obx_buf buf = {0};
    json_error_t error;
    json_t *root;

    assert_int_equal(write(view, &buf), OBX_OK);
    assert_int_equal(buf.data[buf.len - 1], '\n');
    root = json_loads(buf.data, 0, &error);
    if (root == NULL)
        fail_msg("%s in %s", error.text, buf.data);
    buf_fini(&buf);
    return root;
}

static const char *text_at(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    if (text == NULL)
        fail_msg("no text %s", name);
    return text;
}

static void readyz_names_the_reason(void **state)
{
    struct lane_view lanes[2] = {lane_in(LANE_OWNER, BRIDGE_UP, ""),
                                 lane_in(LANE_DB_DOWN, BRIDGE_DOWN, "it said: \"no\"")};
    struct relay_view view = {
        .owner = "o", .version = "v", .lanes = lanes, .lane_count = 2, .topology.is_done = true};
    json_t *root, *lane;

    (void)state;
    lanes[1].outbox = "outbox_2";
    root = parsed(status_write_readiness, &view);
    assert_true(json_is_false(json_object_get(root, "ready")));
    assert_string_equal(
        text_at(root, "reason"),
        "1 of 2 lanes ready; shop/outbox_2: database lost or unfit: it said: \"no\"");
    lane = json_array_get(json_object_get(root, "lanes"), 1);
    assert_string_equal(text_at(lane, "source"), "shop");
    assert_string_equal(text_at(lane, "outbox"), "outbox_2");
    assert_string_equal(text_at(lane, "state"), "db_down");
    assert_true(json_is_false(json_object_get(lane, "ready")));
    lane = json_array_get(json_object_get(root, "lanes"), 0);
    assert_true(json_is_true(json_object_get(lane, "ready")));
    json_decref(root);
}

static void a_relay_is_ready_when_all_of_it_is(void **state)
{
    struct lane_view lane = lane_in(LANE_OWNER, BRIDGE_UP, "");
    struct relay_view view = {
        .owner = "o", .version = "v", .lanes = &lane, .lane_count = 1, .topology.is_done = true};
    char text[256];

    (void)state;
    assert_true(relay_view_is_ready(&view));
    relay_view_summary(&view, text, sizeof(text));
    assert_string_equal(text, "1 lanes ready");
    view.topology.is_done = false;
    assert_false(relay_view_is_ready(&view));
    snprintf(view.topology.trouble, sizeof(view.topology.trouble), "queue q differs");
    relay_view_summary(&view, text, sizeof(text));
    assert_string_equal(text, "topology: queue q differs");
    view.topology.is_done = true;
    view.is_stopping = true;
    assert_false(relay_view_is_ready(&view));
    relay_view_summary(&view, text, sizeof(text));
    assert_string_equal(text, "stopping");
}

static void status_has_everything(void **state)
{
    static const char *const numbers[] = {
        "read",           "published",      "confirmed",   "returned",    "nacked",
        "unknown",        "settled",        "parked",      "resumed",     "discarded",
        "late",           "lease_acquired", "lease_lost",  "db_connects", "broker_connects",
        "broker_blocked", "polls",          "queries",     "inflight",    "held",
        "retrying",       "unsettled",      "frozen_keys", "waiting",     "oldest_age_ms",
        "parked_now",     "starts"};
    struct lane_view lane = lane_in(LANE_OWNER, BRIDGE_UP, "");
    struct relay_view view = {.owner = "o:1", .version = "9.8", .lanes = &lane, .lane_count = 1};
    json_t *root, *object;

    (void)state;
    lane.stats.oldest_age_us = 2500999;
    lane.stats.lease_epoch = 4;
    snprintf(lane.stats.lease_owner, sizeof(lane.stats.lease_owner), "o:1");
    root = parsed(status_write, &view);
    object = json_object_get(root, "relay");
    assert_string_equal(text_at(object, "version"), "9.8");
    assert_string_equal(text_at(object, "owner"), "o:1");
    assert_non_null(json_object_get(root, "topology"));
    assert_non_null(json_object_get(root, "doorbell"));
    object = json_array_get(json_object_get(root, "lanes"), 0);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (!json_is_integer(json_object_get(object, numbers[i])))
            fail_msg("no number %s", numbers[i]);
    }
    assert_int_equal(json_integer_value(json_object_get(object, "oldest_age_ms")), 2500);
    assert_string_equal(text_at(object, "broker"), "up");
    object = json_object_get(object, "lease");
    assert_int_equal(json_integer_value(json_object_get(object, "epoch")), 4);
    assert_string_equal(text_at(object, "owner"), "o:1");
    json_decref(root);
}

/* A server's message may be in any encoding; the answer stays JSON. */
static void text_that_is_not_utf8_does_not_break_it(void **state)
{
    struct lane_view lane = lane_in(LANE_DB_DOWN, BRIDGE_DOWN, "gar\xe7on");
    struct relay_view view = {.owner = "o", .version = "v", .lanes = &lane, .lane_count = 1};
    json_t *root = parsed(status_write_readiness, &view);

    (void)state;
    lane = (struct lane_view){0};
    assert_true(json_is_false(json_object_get(root, "ready")));
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readiness_of_each_state),
        cmocka_unit_test(a_standby_is_ready_while_somebody_works),
        cmocka_unit_test(readyz_names_the_reason),
        cmocka_unit_test(a_relay_is_ready_when_all_of_it_is),
        cmocka_unit_test(status_has_everything),
        cmocka_unit_test(text_that_is_not_utf8_does_not_break_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
