/*
 * Several relays beside one database, and several sources and outbox tables in one relay: one owner
 * at a time, a dead or stopped owner is replaced, a broken table holds up nobody, and a doorbell
 * reaches the owner whichever relay it rings at.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "obx/doorbell.h"
#include "program_rig.h"
#include "wait.h"

enum { KEYS = 7, BODIES_MAX = 8192 };

/* ---------------------------------------------------------------- what came out */

/* Rows are numbered in their bodies; number n has the key n % KEYS. */
static void number_rows(struct program_rig *rig, unsigned first, unsigned count)
{
    struct obx_err err = {0};
    char key[16], body[16];

    assert_int_equal(db_begin(rig->app, &err), OBX_OK);
    for (unsigned i = first; i < first + count; i++) {
        snprintf(key, sizeof(key), "k%u", i % KEYS);
        snprintf(body, sizeof(body), "%u", i);
        rig_insert(rig, "outbox", "t.x", key, body);
    }
    assert_int_equal(db_commit(rig->app, &err), OBX_OK);
}

/* Takes everything off the queue: every number once at least, and the first copies of each key in
 * order. Returns how many messages there were. */
static unsigned assert_all_in_order(struct program_rig *rig, unsigned count)
{
    static bool seen[BODIES_MAX];
    unsigned long next[KEYS];
    unsigned messages = 0, distinct = 0;
    struct broker_message msg;

    memset(seen, 0, sizeof(seen));
    for (unsigned k = 0; k < KEYS; k++)
        next[k] = k;
    for (; broker_get(rig->admin, rig->queue, &msg); messages++) {
        unsigned long number = strtoul(msg.body, NULL, 10);

        assert_true(number < count && count <= BODIES_MAX);
        if (seen[number])
            continue;
        seen[number] = true;
        distinct++;
        assert_int_equal(number, next[number % KEYS]); /* no earlier one of its key is missing */
        next[number % KEYS] += KEYS;
    }
    assert_int_equal(distinct, count);
    return messages;
}

/* ---------------------------------------------------------------- many relays */

/* The relay that owns shop/outbox; RIG_RELAYS: none does now. */
static unsigned owner_of(struct program_rig *rig, unsigned count)
{
    unsigned owner = RIG_RELAYS;

    for (unsigned i = 0; i < count; i++) {
        if (rig->relays[i] != NULL && rig_lane_metric(rig, i, "rowpost_lease_held") == 1)
            owner = i;
    }
    return owner;
}

struct ownership {
    struct program_rig *rig;
    unsigned count;
    unsigned owner;
    unsigned not_this;
};

static bool has_owner(void *ctx)
{
    struct ownership *ownership = ctx;

    ownership->owner = owner_of(ownership->rig, ownership->count);
    return ownership->owner != RIG_RELAYS && ownership->owner != ownership->not_this;
}

static unsigned wait_owner(struct program_rig *rig, unsigned count, unsigned not_this)
{
    struct ownership ownership = {.rig = rig, .count = count, .not_this = not_this};

    if (!wait_until(RIG_WAIT_MS, has_owner, &ownership))
        fail_msg("no relay owns the outbox");
    return ownership.owner;
}

/* For tests that wait until one is over. */
#define SHORT_LEASE WORDS("OBX_LANE_LEASE=3s")

static void start_many(struct program_rig *rig, unsigned count, const char *const *env)
{
    for (unsigned i = 0; i < count; i++)
        rig_start(rig, i, env);
    for (unsigned i = 0; i < count; i++)
        rig_wait_ready(rig, i);
}

/* Two relays: each row goes out once, by the owner alone. */
static void two_relays_and_no_row_twice(void **state)
{
    struct program_rig *rig = *state;
    unsigned owner;

    /* A lease that no loaded machine loses by being slow. */
    start_many(rig, 2, WORDS("OBX_LANE_LEASE=5m"));
    owner = wait_owner(rig, 2, RIG_RELAYS);
    number_rows(rig, 0, 2000);
    rig_wait_empty(rig, "outbox");
    assert_int_equal(assert_all_in_order(rig, 2000), 2000);
    rig_wait_lane_metric(rig, owner, "rowpost_confirmed_total", 2000);
    assert_true(rig_lane_metric(rig, 1 - owner, "rowpost_published_total") == 0);
    assert_true(rig_lane_metric(rig, 1 - owner, "rowpost_lease_held") == 0);
    /* A good stop hands over at once, without waiting for the lease to be over. */
    rig_stop(rig, owner);
    number_rows(rig, 2000, 10);
    rig_wait_empty(rig, "outbox");
    assert_int_equal(wait_owner(rig, 2, RIG_RELAYS), 1 - owner);
}

/* Five relays, and each owner in turn is killed under load. */
static void five_relays_and_owners_are_killed(void **state)
{
    struct program_rig *rig = *state;
    unsigned owner = RIG_RELAYS;

    start_many(rig, RIG_RELAYS, SHORT_LEASE);
    for (unsigned round = 0; round < RIG_RELAYS - 1; round++) {
        owner = wait_owner(rig, RIG_RELAYS, RIG_RELAYS);
        number_rows(rig, round * 400, 400);
        rig_kill(rig, owner);
    }
    rig_wait_empty(rig, "outbox");
    owner = wait_owner(rig, RIG_RELAYS, RIG_RELAYS);
    (void)assert_all_in_order(rig, (RIG_RELAYS - 1) * 400);
    assert_true(rig_number(rig, "SELECT epoch FROM outbox_lease") >= RIG_RELAYS);
    rig_stop(rig, owner);
}

/* An owner is stopped past its lease and continued: it finds out, stands by, and does no harm. What
 * it counted as owner is not shown any more. */
static void stopped_past_its_lease(void **state)
{
    struct program_rig *rig = *state;
    unsigned owner, next;

    start_many(rig, 2, SHORT_LEASE);
    owner = wait_owner(rig, 2, RIG_RELAYS);
    number_rows(rig, 0, 500);
    rig_sql(rig, "INSERT INTO outbox (topic, payload, headers) VALUES ('t.x', '', '[]')");
    rig_wait_lane_metric(rig, owner, "rowpost_parked_rows", 1);
    assert_true(proc_signal(rig->relays[owner], SIGSTOP));
    next = 1 - owner;
    number_rows(rig, 500, 500);
    rig_wait_empty(rig, "outbox"); /* by the other one */
    assert_true(proc_signal(rig->relays[owner], SIGCONT));
    rig_wait_lane_metric(rig, owner, "rowpost_lease_lost_total", 1);
    number_rows(rig, 1000, 500);
    rig_wait_empty(rig, "outbox");
    rig_wait_ready(rig, owner);
    assert_int_equal(owner_of(rig, 2), next);
    assert_true(rig_lane_metric(rig, owner, "rowpost_parked_rows") == 0);
    rig_wait_lane_metric(rig, next, "rowpost_parked_rows", 1);
    (void)assert_all_in_order(rig, 1500);
    rig_stop(rig, owner);
    rig_stop(rig, next);
}

/* ---------------------------------------------------------------- many tables, many sources */

static void several_outboxes_one_broken(void **state)
{
    struct program_rig *rig = *state;
    const char *const env[] = {"OBX_SOURCE_SHOP_OUTBOXES=outbox,outbox_b,outbox_gone,outbox_bad",
                               NULL};

    rig_add_outbox(rig, "outbox_b");
    rig_add_outbox(rig, "outbox_bad");
    rig_sql(rig, "ALTER TABLE outbox_bad DROP COLUMN headers");
    rig_start(rig, 0, env);
    rig_insert(rig, "outbox", "t.x", NULL, "a");
    rig_insert(rig, "outbox_b", "t.x", NULL, "b");
    rig_wait_empty(rig, "outbox");
    rig_wait_empty(rig, "outbox_b");
    /* The broken ones are named, each with its reason; the sound ones are ready. */
    rig_wait_unready(rig, 0, "\"outbox\":\"outbox_gone\",\"ready\":false");
    rig_wait_unready(rig, 0, "\"outbox\":\"outbox_bad\",\"ready\":false");
    rig_wait_unready(rig, 0, "\"outbox\":\"outbox_b\",\"ready\":true");
    rig_insert(rig, "outbox", "t.x", NULL, "a");
    rig_wait_empty(rig, "outbox");
    /* Fixed while it runs. */
    rig_add_outbox(rig, "outbox_gone");
    rig_sql(rig, "ALTER TABLE outbox_bad ADD COLUMN headers JSON NULL");
    rig_insert(rig, "outbox_gone", "t.x", NULL, "c");
    rig_insert(rig, "outbox_bad", "t.x", NULL, "d");
    rig_wait_empty(rig, "outbox_gone");
    rig_wait_empty(rig, "outbox_bad");
    rig_wait_ready(rig, 0);
    assert_int_equal(broker_count(rig->admin, rig->queue), 5);
    rig_stop(rig, 0);
}

/* Two sources of which one is away for good: the other one works, and the pages say which. */
static void several_sources_one_away(void **state)
{
    struct program_rig *rig = *state;

    rig_start(rig, 0,
              WORDS("OBX_SOURCES=mall", "OBX_SOURCE_MALL_HOST=127.0.0.1", "OBX_SOURCE_MALL_PORT=1",
                    "OBX_SOURCE_MALL_USER=u", "OBX_SOURCE_MALL_DATABASE=d"));
    rig_insert(rig, "outbox", "t.x", NULL, "a");
    rig_wait_empty(rig, "outbox");
    rig_wait_unready(rig, 0, "1 of 2 lanes ready; mall/outbox: ");
    rig_wait_unready(rig, 0, "\"source\":\"shop\",\"outbox\":\"outbox\",\"ready\":true");
    rig_stop(rig, 0);
}

/* ---------------------------------------------------------------- doorbells */

/* A table that is looked at so rarely that a row before that came by the bell alone. */
#define RARELY "OBX_LANE_POLL_MAX=10m", "OBX_LANE_SWEEP=10m"

/* The looks after the start have to be over before it counts. */
static void settle_down(struct program_rig *rig, unsigned i)
{
    rig_insert(rig, "outbox", "t.x", NULL, "first");
    rig_wait_empty(rig, "outbox");
    rig_wait_lane_metric(rig, i, "rowpost_settled_total", 1);
}

struct quiet {
    struct program_rig *rig;
    unsigned i;
    double polls;
    unsigned same;
};

/* Whether the lane has stopped looking: its count stays the same over several asks. */
static bool is_quiet(void *ctx)
{
    struct quiet *quiet = ctx;
    double polls = rig_lane_metric(quiet->rig, quiet->i, "rowpost_polls_total");

    quiet->same = polls == quiet->polls ? quiet->same + 1 : 0;
    quiet->polls = polls;
    return quiet->same >= 20;
}

static void wait_quiet(struct program_rig *rig, unsigned i)
{
    struct quiet quiet = {.rig = rig, .i = i, .polls = -1};

    assert_true(wait_until(RIG_WAIT_MS, is_quiet, &quiet));
}

static void socket_setting(const struct program_rig *rig, unsigned i, char path[160],
                           char setting[200])
{
    snprintf(path, 160, "%s/bell-%u", rig->dir, i);
    snprintf(setting, 200, "OBX_RELAY_DOORBELL_SOCKET=%.159s", path);
}

static void a_bell_makes_it_look_at_once(void **state)
{
    struct program_rig *rig = *state;
    char path[160], setting[200];

    socket_setting(rig, 0, path, setting);
    rig_start_ready(rig, 0, WORDS(setting, RARELY));
    settle_down(rig, 0);
    wait_quiet(rig, 0);
    for (unsigned i = 0; i < 5; i++) {
        rig_insert(rig, "outbox", "t.x", NULL, "rung");
        assert_int_equal(obx_doorbell_ring(path, i % 2 == 0 ? "outbox" : NULL, NULL), OBX_OK);
        rig_wait_empty(rig, "outbox"); /* the next look by itself is ten minutes away */
    }
    /* The tool rings too, and rings that mean nothing are counted and do no harm. */
    rig_insert(rig, "outbox", "t.x", NULL, "rung");
    assert_int_equal(rig_run_ctl(rig, WORDS(setting), WORDS("ring", "outbox")), 0);
    rig_wait_empty(rig, "outbox");
    assert_int_equal(obx_doorbell_ring(path, "outbox_of_nobody", NULL), OBX_OK);
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("ring")), 2);
    rig_said(rig, "doorbell_socket");
    rig_stop(rig, 0);
    assert_int_equal(rig_run_ctl(rig, WORDS(setting), WORDS("ring")), 1);
}

/* A ring at a relay that only stands by goes on to the owner, by the address that it advertises. */
static void a_bell_at_the_wrong_relay_reaches_the_owner(void **state)
{
    struct program_rig *rig = *state;
    char paths[2][160], settings[2][200], addresses[2][80];
    unsigned owner, other;

    for (unsigned i = 0; i < 2; i++) {
        socket_setting(rig, i, paths[i], settings[i]);
        snprintf(addresses[i], sizeof(addresses[i]), "OBX_RELAY_DOORBELL_ADDRESS=127.0.0.1:%u",
                 (unsigned)rig->bell_ports[i]);
        rig_start(rig, i, WORDS(settings[i], addresses[i], RARELY));
        rig_wait_ready(rig, i);
    }
    owner = wait_owner(rig, 2, RIG_RELAYS);
    other = 1 - owner;
    settle_down(rig, owner);
    wait_quiet(rig, owner);
    for (unsigned i = 0; i < 5; i++) {
        rig_insert(rig, "outbox", "t.x", NULL, "rung");
        assert_int_equal(obx_doorbell_ring(paths[other], "shop/outbox", NULL), OBX_OK);
        rig_wait_empty(rig, "outbox");
    }
    assert_true(rig_metric(rig, other, "rowpost_doorbell_passed_on_total") >= 5);
    assert_true(rig_metric(rig, owner, "rowpost_doorbell_rings_total") >= 5);
    rig_stop(rig, owner);
    rig_stop(rig, other);
}

/* A socket file that a killed relay left is taken over; one that is in use is not. */
static void socket_files_of_the_dead(void **state)
{
    struct program_rig *rig = *state;
    char path[160], setting[200];

    socket_setting(rig, 0, path, setting);
    rig_start_ready(rig, 0, WORDS(setting));
    rig_start(rig, 1, WORDS(setting));
    assert_int_equal(rig_wait_end(rig, 1), 2);
    assert_true(rig_has_logged(rig, 1, "is another process's"));
    rig_kill(rig, 0);
    rig_start_ready(rig, 0, WORDS(setting));
    rig_stop(rig, 0);
    assert_int_not_equal(obx_doorbell_ring(path, NULL, NULL), OBX_OK);
}

#define CASE(name) cmocka_unit_test_setup(name, program_reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(two_relays_and_no_row_twice),
        CASE(five_relays_and_owners_are_killed),
        CASE(stopped_past_its_lease),
        CASE(several_outboxes_one_broken),
        CASE(several_sources_one_away),
        CASE(a_bell_makes_it_look_at_once),
        CASE(a_bell_at_the_wrong_relay_reaches_the_owner),
        CASE(socket_files_of_the_dead),
    };

    return cmocka_run_group_tests(tests, program_setup, program_teardown);
}
