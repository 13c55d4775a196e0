/*
 * Unit tests of outbox-relay/daemon/relay: which lanes live under which configuration, with
 * lanes that only pretend.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef stop /* cmocka 2 has a macro of this name */

#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "daemon/relay.h"
#include "fake_lane.h"
#include "wait.h"

#define ONE_LANE    "[source shop]\nuser = u\ndatabase = d\n"
#define TWO_LANES   ONE_LANE "outboxes = outbox, outbox_orders\n"
#define TWO_SOURCES ONE_LANE "[source mall]\nuser = u\ndatabase = e\n"

struct fixture {
    struct relay *relay;
    char passed[256]; /* the last ring passed on: "address source/outbox" */
    unsigned pass_count;
    bool can_pass;
};

static bool pass_on(const char *address, const char *source, const char *outbox, void *ctx)
{
    struct fixture *fix = ctx;

    fix->pass_count++;
    snprintf(fix->passed, sizeof(fix->passed), "%s %s/%s", address, source, outbox);
    return fix->can_pass;
}

static int start(void **state)
{
    static struct fixture fix;
    const struct relay_opts opts = {.owner = "test:1", .pass_on = pass_on, .ctx = &fix};

    memset(&fix, 0, sizeof(fix));
    fix.can_pass = true;
    fake_lanes_reset();
    assert_int_equal(relay_create(&opts, &fix.relay, NULL), OBX_OK);
    *state = &fix;
    return 0;
}

static void end_all_lanes(struct fixture *fix)
{
    relay_stop(fix->relay);
    for (unsigned i = 0; i < fake_lane_count; i++)
        fake_lanes[i].stats.state = LANE_STOPPED;
    relay_turn(fix->relay);
    assert_true(relay_is_idle(fix->relay));
}

static int stop(void **state)
{
    struct fixture *fix = *state;

    end_all_lanes(fix);
    relay_destroy(fix->relay);
    assert_int_equal(fake_lanes_alive(), 0);
    return 0;
}

static struct relay_config *config_of(const char *text)
{
    const struct cfg_input input = {.path = "test.conf", .text = bytes_of(text)};
    struct relay_config *config = NULL;
    struct obx_err err = {0};

    if (relay_config_load(&input, &config, NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
    return config;
}

/* The relay keeps references of its own, so the test's is given back at once. */
static void apply(struct fixture *fix, const char *text)
{
    struct relay_config *config = config_of(text);

    assert_int_equal(relay_apply(fix->relay, config, NULL), OBX_OK);
    relay_config_unref(config);
    relay_turn(fix->relay);
}

static void one_lane_for_each_outbox(void **state)
{
    struct fixture *fix = *state;
    struct lane *lane;

    apply(fix, "[relay]\ndoorbell_address = 127.0.0.1:9\n" TWO_LANES);
    assert_int_equal(fake_lanes_alive(), 2);
    lane = fake_lane_of("shop", "outbox_orders");
    assert_non_null(lane);
    assert_true(lane->is_started);
    assert_string_equal(lane->opts.owner, "test:1");
    assert_string_equal(lane->opts.address, "127.0.0.1:9");
    assert_string_equal(lane->opts.exchange, "rowpost");
    assert_true(lane->opts.gated);
}

static void the_gate_opens_for_all(void **state)
{
    struct fixture *fix = *state;

    apply(fix, ONE_LANE);
    relay_set_gate(fix->relay, true);
    assert_int_equal(fake_lane_of("shop", "outbox")->gate_opens, 1);
    apply(fix, TWO_LANES);
    assert_false(fake_lane_of("shop", "outbox_orders")->opts.gated);
    relay_set_gate(fix->relay, false);
    apply(fix, TWO_LANES "[source mall]\nuser = u\ndatabase = e\n");
    assert_true(fake_lane_of("mall", "outbox")->opts.gated);
}

static void a_reload_leaves_equal_lanes_alone(void **state)
{
    struct fixture *fix = *state;
    struct lane *kept;

    apply(fix, TWO_SOURCES);
    kept = fake_lane_of("shop", "outbox");
    apply(fix, TWO_SOURCES "window = 7\n");
    assert_ptr_equal(fake_lane_of("shop", "outbox"), kept);
    assert_int_equal(kept->drains, 0);
    assert_int_equal(fake_lane_of("mall", "outbox")->drains, 1);
}

static void a_changed_lane_ends_before_its_successor_starts(void **state)
{
    struct fixture *fix = *state;
    struct lane *old;

    apply(fix, ONE_LANE);
    old = fake_lane_of("shop", "outbox");
    apply(fix, ONE_LANE "[topic order.*]\non_park = skip\n");
    assert_int_equal(old->drains, 1);
    assert_int_equal(fake_lane_count, 1);
    old->stats.state = LANE_STOPPED;
    relay_turn(fix->relay);
    relay_turn(fix->relay);
    assert_int_equal(fake_lane_count, 2);
    assert_int_equal(fake_lane_of("shop", "outbox")->opts.rule_count, 1);
    assert_int_equal(fake_lanes_alive(), 1);
}

static void a_removed_lane_drains_and_goes(void **state)
{
    struct fixture *fix = *state;
    struct lane *gone;
    size_t count = 0;

    apply(fix, TWO_LANES);
    gone = fake_lane_of("shop", "outbox_orders");
    apply(fix, ONE_LANE);
    assert_int_equal(gone->drains, 1);
    gone->stats.state = LANE_STOPPED;
    relay_turn(fix->relay);
    assert_null(fake_lane_of("shop", "outbox_orders"));
    relay_lane_views(fix->relay, &count);
    assert_int_equal(count, 1);
}

/* Taken back before the lane has ended: it drains to its end and starts again. */
static void a_change_taken_back_while_draining(void **state)
{
    struct fixture *fix = *state;
    struct lane *old;

    apply(fix, TWO_LANES);
    old = fake_lane_of("shop", "outbox_orders");
    apply(fix, ONE_LANE);
    apply(fix, TWO_LANES);
    assert_int_equal(old->drains, 1);
    old->stats.state = LANE_STOPPED;
    relay_turn(fix->relay);
    relay_turn(fix->relay);
    assert_non_null(fake_lane_of("shop", "outbox_orders"));
    assert_ptr_not_equal(fake_lane_of("shop", "outbox_orders"), old);
}

static bool has_started_again(void *ctx)
{
    struct fixture *fix = ctx;

    relay_turn(fix->relay);
    return fake_lane_count == 3;
}

static void a_lane_that_ends_by_itself_is_reported_and_started_again(void **state)
{
    struct fixture *fix = *state;
    const struct lane_view *views;
    struct lane *failed;
    size_t count = 0;

    apply(fix, TWO_LANES);
    failed = fake_lane_of("shop", "outbox");
    failed->stats.state = LANE_STOPPED;
    snprintf(failed->stats.trouble, sizeof(failed->stats.trouble), "the sky fell");
    relay_turn(fix->relay);
    assert_int_equal(fake_lanes_alive(), 1);
    views = relay_lane_views(fix->relay, &count);
    assert_int_equal(count, 2);
    assert_int_equal(views[0].slot, SLOT_WAITING);
    assert_non_null(strstr(views[0].trouble, "the sky fell"));
    assert_int_equal(fake_lane_of("shop", "outbox_orders")->drains, 0);
    assert_true(wait_until(20000, has_started_again, fix));
    views = relay_lane_views(fix->relay, &count);
    assert_int_equal(views[0].starts, 2);
    assert_string_equal(views[0].trouble, "");
}

static bool has_started(void *ctx)
{
    struct fixture *fix = ctx;

    relay_turn(fix->relay);
    return fake_lane_of("shop", "outbox") != NULL && fake_lane_of("shop", "outbox")->is_started;
}

static void a_lane_that_cannot_start_is_tried_again(void **state)
{
    struct fixture *fix = *state;
    const struct lane_view *views;
    size_t count = 0;

    fake_lane_start_failures = 1;
    apply(fix, ONE_LANE);
    assert_int_equal(fake_lanes_alive(), 0);
    views = relay_lane_views(fix->relay, &count);
    assert_non_null(strstr(views[0].trouble, "no more threads"));
    assert_true(wait_until(20000, has_started, fix));
}

static bool is_told_to_stop(void *ctx)
{
    struct fixture *fix = ctx;

    relay_turn(fix->relay);
    return fake_lanes[0].stops > 0;
}

static void a_drain_that_takes_too_long_becomes_a_stop(void **state)
{
    struct fixture *fix = *state;

    apply(fix, "[relay]\ndrain = 10ms\n" ONE_LANE);
    relay_drain(fix->relay);
    relay_turn(fix->relay);
    assert_int_equal(fake_lanes[0].drains, 1);
    assert_int_equal(fake_lanes[0].stops, 0);
    assert_false(relay_is_idle(fix->relay));
    assert_true(wait_until(20000, is_told_to_stop, fix));
    fake_lanes[0].stats.state = LANE_STOPPED;
    relay_turn(fix->relay);
    assert_true(relay_is_idle(fix->relay));
    assert_int_equal(fake_lane_count, 1);
}

static bool ring(struct fixture *fix, const char *text)
{
    struct bell_msg msg;

    assert_true(bell_msg_parse(bytes_of(text), &msg));
    return relay_ring(fix->relay, &msg);
}

static bool nothing_is_left(void *ctx)
{
    struct fixture *fix = ctx;

    return relay_flush_rings(fix->relay) == UINT32_MAX;
}

static void flush(struct fixture *fix)
{
    assert_true(wait_until(10000, nothing_is_left, fix));
}

static void a_ring_reaches_the_lanes_it_names(void **state)
{
    struct fixture *fix = *state;

    apply(fix, TWO_LANES);
    fake_lane_of("shop", "outbox")->stats.state = LANE_OWNER;
    fake_lane_of("shop", "outbox_orders")->stats.state = LANE_OWNER;
    assert_true(ring(fix, "outbox_orders"));
    flush(fix);
    assert_int_equal(fake_lane_of("shop", "outbox")->rings, 0);
    assert_int_equal(fake_lane_of("shop", "outbox_orders")->rings, 1);
    assert_true(ring(fix, ""));
    flush(fix);
    assert_int_equal(fake_lane_of("shop", "outbox")->rings, 1);
    assert_int_equal(fake_lane_of("shop", "outbox_orders")->rings, 2);
    assert_false(ring(fix, "mall/outbox"));
    assert_int_equal(fix->pass_count, 0);
}

static void a_burst_of_rings_is_one_look(void **state)
{
    struct fixture *fix = *state;

    apply(fix, ONE_LANE);
    fake_lane_of("shop", "outbox")->stats.state = LANE_OWNER;
    for (int i = 0; i < 1000; i++)
        assert_true(ring(fix, "outbox"));
    flush(fix);
    assert_int_equal(fake_lane_of("shop", "outbox")->rings, 1);
}

static void a_ring_is_passed_on_to_the_owner_once(void **state)
{
    struct fixture *fix = *state;
    uint64_t passed = 0, failed = 0;
    struct lane *lane;

    apply(fix, ONE_LANE);
    lane = fake_lane_of("shop", "outbox");
    lane->stats.state = LANE_STANDBY;
    ring(fix, "outbox");
    flush(fix);
    assert_int_equal(fix->pass_count, 0); /* the owner told no address */
    snprintf(lane->stats.lease_address, sizeof(lane->stats.lease_address), "10.0.0.7:8378");
    ring(fix, "outbox");
    flush(fix);
    assert_int_equal(fix->pass_count, 1);
    assert_string_equal(fix->passed, "10.0.0.7:8378 shop/outbox");
    ring(fix, ">shop/outbox"); /* was passed on already */
    flush(fix);
    assert_int_equal(fix->pass_count, 1);
    fix->can_pass = false;
    ring(fix, "outbox");
    flush(fix);
    relay_pass_counts(fix->relay, &passed, &failed);
    assert_int_equal(passed, 1);
    assert_int_equal(failed, 1);
    /* The one from another relay says that the lane may be free. */
    assert_int_equal(lane->rings, 1);
}

static bool outbox_is_elsewhere(const char *source, const char *outbox, char address[64], void *ctx)
{
    const bool *is_elsewhere = ctx;

    (void)source;
    address[0] = '\0';
    if (strcmp(outbox, "outbox") != 0 || !*is_elsewhere)
        return false;
    snprintf(address, 64, "10.0.0.8:8378");
    return true;
}

static void a_lane_that_another_is_to_have_is_given_away(void **state)
{
    struct fixture *fix = *state;
    bool is_elsewhere = true;
    struct lane *lane, *other;

    apply(fix, TWO_LANES);
    lane = fake_lane_of("shop", "outbox");
    other = fake_lane_of("shop", "outbox_orders");
    lane->stats.state = LANE_STANDBY;
    other->stats.state = LANE_OWNER;
    relay_share(fix->relay, outbox_is_elsewhere, &is_elsewhere);
    assert_true(lane->is_elsewhere);
    relay_turn(fix->relay);
    assert_int_equal(lane->drains, 0); /* there is nothing to give */
    lane->stats.state = LANE_OWNER;
    relay_turn(fix->relay);
    assert_int_equal(lane->drains, 1);
    assert_int_equal(other->drains, 0);
    assert_int_equal(fix->pass_count, 0);
    lane->stats.state = LANE_STOPPED;
    relay_turn(fix->relay);
    assert_string_equal(fix->passed, "10.0.0.8:8378 shop/outbox");
    relay_turn(fix->relay);
    lane = fake_lane_of("shop", "outbox");
    assert_true(lane->is_started); /* again, as a standby that leaves it to the other one */
    assert_true(lane->opts.is_elsewhere);
    assert_int_equal(relay_given(fix->relay), 1);
    assert_int_equal(fix->pass_count, 1);
    is_elsewhere = false;
    relay_share(fix->relay, outbox_is_elsewhere, &is_elsewhere);
    assert_false(lane->is_elsewhere);
}

static void what_is_known_of_the_broker_outlives_a_lane(void **state)
{
    struct fixture *fix = *state;
    struct broker_counts counts;

    apply(fix, TWO_LANES);
    fake_lane_of("shop", "outbox")->stats.broker_connects = 2;
    fake_lane_of("shop", "outbox_orders")->stats.broker_connects = 1;
    fake_lane_of("shop", "outbox")->stats.exchange_faults = 7;
    relay_broker_counts(fix->relay, &counts);
    assert_int_equal(counts.connects, 3);
    assert_int_equal(counts.exchange_faults, 7);
    fake_lane_of("shop", "outbox")->stats.state = LANE_STOPPED;
    relay_turn(fix->relay);
    relay_broker_counts(fix->relay, &counts);
    assert_int_equal(counts.connects, 3);
    assert_int_equal(counts.exchange_faults, 7);
}

int main(void)
{
#define RELAY_TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        RELAY_TEST(one_lane_for_each_outbox),
        RELAY_TEST(the_gate_opens_for_all),
        RELAY_TEST(a_reload_leaves_equal_lanes_alone),
        RELAY_TEST(a_changed_lane_ends_before_its_successor_starts),
        RELAY_TEST(a_removed_lane_drains_and_goes),
        RELAY_TEST(a_change_taken_back_while_draining),
        RELAY_TEST(a_lane_that_ends_by_itself_is_reported_and_started_again),
        RELAY_TEST(a_lane_that_cannot_start_is_tried_again),
        RELAY_TEST(a_drain_that_takes_too_long_becomes_a_stop),
        RELAY_TEST(a_ring_reaches_the_lanes_it_names),
        RELAY_TEST(a_burst_of_rings_is_one_look),
        RELAY_TEST(a_ring_is_passed_on_to_the_owner_once),
        RELAY_TEST(a_lane_that_another_is_to_have_is_given_away),
        RELAY_TEST(what_is_known_of_the_broker_outlives_a_lane),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
