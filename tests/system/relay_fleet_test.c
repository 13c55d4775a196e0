/*
 * Relays that share the outboxes of a source: each has its part, a new one gets its part without a
 * message twice, a dead one's are taken over, and whatever is wrong with the sharing itself holds up
 * no message. P7.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>

#include "program_rig.h"
#include "wait.h"

enum { OUTBOXES = 6, ROWS = 40 };

static const char *const outboxes[OUTBOXES] = {"outbox",   "outbox_b", "outbox_c",
                                               "outbox_d", "outbox_e", "outbox_f"};

#define ALL "OBX_SOURCE_SHOP_OUTBOXES=outbox,outbox_b,outbox_c,outbox_d,outbox_e,outbox_f"
/* A short lease, since the tests wait for its end. */
#define SHARED ALL, "OBX_RELAY_SHARE=yes", "OBX_LANE_LEASE=3s"

static int setup(void **state)
{
    if (program_setup(state) != 0)
        return -1;
    for (unsigned i = 1; i < OUTBOXES; i++)
        rig_add_outbox(*state, outboxes[i]);
    return 0;
}

static unsigned held_by(struct program_rig *rig, unsigned relay)
{
    unsigned held = 0;

    for (unsigned i = 0; i < OUTBOXES; i++) {
        char series[96];

        snprintf(series, sizeof(series), "rowpost_lease_held{source=\"shop\",outbox=\"%s\"}",
                 outboxes[i]);
        held += rig_metric(rig, relay, series) == 1;
    }
    return held;
}

struct wanted {
    struct program_rig *rig;
    const unsigned *held; /* by relay */
    unsigned count;
};

static bool is_shared_so(void *ctx)
{
    const struct wanted *wanted = ctx;

    for (unsigned i = 0; i < wanted->count; i++) {
        if (wanted->rig->relays[i] != NULL && held_by(wanted->rig, i) != wanted->held[i])
            return false;
    }
    return true;
}

static void wait_shared(struct program_rig *rig, unsigned count, const unsigned *held)
{
    struct wanted wanted = {rig, held, count};

    if (!wait_until(RIG_WAIT_MS, is_shared_so, &wanted))
        fail_msg("not shared as wanted: the first has %u, not %u", held_by(rig, count - 1),
                 held[count - 1]);
}
#define SHARES(...) ((const unsigned[]){__VA_ARGS__})

/* Every outbox is drained by somebody. */
static void drain_all(struct program_rig *rig)
{
    for (unsigned i = 0; i < OUTBOXES; i++)
        rig_fill(rig, outboxes[i], "t.x", ROWS, 3);
    for (unsigned i = 0; i < OUTBOXES; i++)
        rig_wait_empty(rig, outboxes[i]);
}

static void each_has_its_part(void **state)
{
    struct program_rig *rig = *state;

    rig_start_ready(rig, 0, WORDS(SHARED));
    wait_shared(rig, 1, SHARES(6));
    drain_all(rig);
    rig_start_ready(rig, 1, WORDS(SHARED));
    wait_shared(rig, 2, SHARES(3, 3));
    drain_all(rig);
    rig_start_ready(rig, 2, WORDS(SHARED));
    wait_shared(rig, 3, SHARES(2, 2, 2));
    drain_all(rig);
    /* Handing over loses nothing and doubles nothing: each was drained first. */
    assert_int_equal(broker_count(rig->admin, rig->queue), 3 * OUTBOXES * ROWS);
    assert_true(rig_metric(rig, 0, "rowpost_fleet_relays{source=\"shop\"}") == 3);
    assert_true(rig_metric(rig, 0, "rowpost_lanes_given_total") == 4);
    /* One leaves in good order, one dies. */
    rig_stop(rig, 0);
    wait_shared(rig, 3, SHARES(0, 3, 3));
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_relay"), 2);
    rig_kill(rig, 1);
    wait_shared(rig, 3, SHARES(0, 0, 6));
    drain_all(rig);
    rig_stop(rig, 2);
}

static void weights_are_parts(void **state)
{
    struct program_rig *rig = *state;

    rig_start_ready(rig, 0, WORDS(SHARED, "OBX_RELAY_WEIGHT=0"));
    wait_shared(rig, 1, SHARES(6));
    rig_start_ready(rig, 1, WORDS(SHARED, "OBX_RELAY_WEIGHT=2"));
    wait_shared(rig, 2, SHARES(0, 6));
    rig_start_ready(rig, 2, WORDS(SHARED));
    wait_shared(rig, 3, SHARES(0, 4, 2));
    rig_kill(rig, 1);
    rig_kill(rig, 2);
    wait_shared(rig, 1, SHARES(6));
    drain_all(rig);
    rig_stop(rig, 0);
}

/* It finds out that its part has gone to the others, and gets one again. */
static void one_that_stood_still_gets_its_part_again(void **state)
{
    struct program_rig *rig = *state;

    for (unsigned i = 0; i < 2; i++)
        rig_start_ready(rig, i, WORDS(SHARED));
    wait_shared(rig, 2, SHARES(3, 3));
    assert_true(proc_signal(rig->relays[0], SIGSTOP));
    drain_all(rig);
    assert_true(proc_signal(rig->relays[0], SIGCONT));
    wait_shared(rig, 2, SHARES(3, 3));
    drain_all(rig);
    rig_stop(rig, 0);
    rig_stop(rig, 1);
}

/* Who is to have a lane cannot: another pool of outboxes, wrong rights, a broker that it does not
 * reach. Then any standby has it, a lease's length later. */
static void what_is_wrong_with_the_sharing_holds_up_nothing(void **state)
{
    struct program_rig *rig = *state;

    rig_start_ready(rig, 0, WORDS(SHARED));
    wait_shared(rig, 1, SHARES(6));
    /* A relay that says it is there and takes nothing. */
    rig_sql(rig, "INSERT INTO outbox_relay (relay, outboxes, version, weight, expires_at) SELECT "
                 "'ghost', outboxes, '1', 1, UTC_TIMESTAMP(6) + INTERVAL 1 HOUR FROM outbox_relay");
    drain_all(rig);
    rig_sql(rig, "DELETE FROM outbox_relay WHERE relay = 'ghost'");
    wait_shared(rig, 1, SHARES(6));
    /* No table: said, and everybody stands by for everything. */
    rig_sql(rig, "RENAME TABLE outbox_relay TO outbox_relay_away");
    rig_wait_log(rig, 0, "not_known");
    assert_true(rig_metric(rig, 0, "rowpost_fleet_relays{source=\"shop\"}") == 0);
    drain_all(rig);
    rig_sql(rig, "RENAME TABLE outbox_relay_away TO outbox_relay");
    rig_stop(rig, 0);
}

static void the_next_owner_is_rung(void **state)
{
    struct program_rig *rig = *state;

    for (unsigned i = 0; i < 2; i++) {
        char address[80];

        snprintf(address, sizeof(address), "OBX_RELAY_DOORBELL_ADDRESS=127.0.0.1:%u",
                 (unsigned)rig->bell_ports[i]);
        rig_start_ready(rig, i, WORDS(SHARED, address));
    }
    wait_shared(rig, 2, SHARES(3, 3));
    assert_true(rig_metric(rig, 0, "rowpost_doorbell_passed_on_total") == 3);
    assert_true(rig_metric(rig, 1, "rowpost_doorbell_rings_total") == 3);
    rig_stop(rig, 0);
    rig_stop(rig, 1);
}

#define CASE(name) cmocka_unit_test_setup(name, program_reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(each_has_its_part),
        CASE(weights_are_parts),
        CASE(one_that_stood_still_gets_its_part_again),
        CASE(what_is_wrong_with_the_sharing_holds_up_nothing),
        CASE(the_next_owner_is_rung),
    };

    return cmocka_run_group_tests(tests, setup, program_teardown);
}
