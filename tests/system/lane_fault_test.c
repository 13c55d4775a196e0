/*
 * System tests of lost connections and of a database that is unfit: confirms that never come, a
 * database that goes away, a schema that is missing, older or newer, a table that is gone. Work
 * goes on by itself when the cause is gone, and what was confirmed to nobody comes again under its
 * own message id. P1, P4, P7.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "cut_proxy.h"
#include "lane_rig.h"
#include "wait.h"

/* ---- the broker's connection ---- */

struct proxied {
    struct cut_proxy *proxy;
    char address[32];
};

static void through_proxy(struct lane_rig *rig, struct proxied *to)
{
    to->proxy = cut_proxy_create("127.0.0.1", (uint16_t)rig->broker.port);
    assert_non_null(to->proxy);
    (void)snprintf(to->address, sizeof(to->address), "127.0.0.1:%u", cut_proxy_port(to->proxy));
    rig->opts.bridge.addresses = to->address;
}

struct published_wait {
    struct lane *lane;
    uint64_t count;
};

static bool was_published(void *ctx)
{
    const struct published_wait *wait = ctx;

    return rig_stats(wait->lane).published >= wait->count;
}

static int by_id(const void *a, const void *b)
{
    const struct rig_message *x = a;
    const struct rig_message *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* Copies of one row have one message id, and no two rows have the same. */
static void assert_same_message_ids(struct lane_rig *rig)
{
    qsort(rig->seen, rig->seen_count, sizeof(rig->seen[0]), by_id);
    for (size_t i = 1; i < rig->seen_count; i++) {
        bool is_copy = rig->seen[i].id == rig->seen[i - 1].id;

        assert_int_equal(strcmp(rig->seen[i].message_id, rig->seen[i - 1].message_id) == 0,
                         is_copy);
    }
}

/* The broker has them and the confirms are lost on the way back. */
static void confirms_that_are_lost(void **state)
{
    struct lane_rig *rig = *state;
    struct proxied to;
    struct published_wait wait = {.count = 500};

    through_proxy(rig, &to);
    rig->opts.window = 600;
    rig_start(rig);
    rig_insert(rig, "t", NULL, "x");
    rig_wait_empty(rig); /* connected */
    cut_proxy_set_flow(to.proxy, CUT_TO_CLIENT, CUT_SWALLOW);
    rig_fill(rig, 500, 0, 64);
    wait.lane = rig->lane;
    wait.count++;
    assert_true(wait_until(RIG_WAIT_MS, was_published, &wait));
    rig_collect(rig, 501); /* stored, every one */
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox"), 500);
    cut_proxy_set_flow(to.proxy, CUT_TO_CLIENT, CUT_PASS);
    cut_proxy_cut_all(to.proxy);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 1001);
    assert_int_equal(rig_stats(rig->lane).unknown, 500);
    assert_same_message_ids(rig);
    rig_end_lane(rig->lane);
    rig->lane = NULL;
    cut_proxy_destroy(to.proxy);
}

static void a_connection_that_is_cut_again_and_again(void **state)
{
    struct lane_rig *rig = *state;
    struct proxied to;

    through_proxy(rig, &to);
    rig->opts.window = 50;
    rig_fill(rig, 2000, 40, 64);
    rig_start(rig);
    for (int i = 0; i < 8; i++) {
        rig_wait_confirmed(rig->lane, 100 + (uint64_t)i * 150);
        cut_proxy_cut_after(to.proxy, i % 2 == 0 ? CUT_TO_SERVER : CUT_TO_CLIENT, (uint64_t)i * 37);
    }
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_in_range(rig->seen_count, 2000, 2000 + 8 * 50);
    rig_assert_order(rig);
    assert_same_message_ids(rig);
    rig_end_lane(rig->lane);
    rig->lane = NULL;
    cut_proxy_destroy(to.proxy);
}

/* ---- the database's connection ---- */

static void a_database_that_is_lost(void **state)
{
    struct lane_rig *rig = *state;
    struct cut_proxy *proxy = cut_proxy_create(rig->opts.db.host, rig->opts.db.port);
    struct lane_stats stats;

    assert_non_null(proxy);
    rig->opts.db.port = cut_proxy_port(proxy);
    rig_fill(rig, 3000, 60, 64);
    rig_start(rig);
    for (int i = 0; i < 6; i++) {
        rig_wait_confirmed(rig->lane, (uint64_t)i * 300 + 1);
        cut_proxy_cut_after(proxy, i % 2 == 0 ? CUT_TO_SERVER : CUT_TO_CLIENT, (uint64_t)i * 100);
    }
    rig_wait_confirmed(rig->lane, 2500);
    cut_proxy_set_refuse(proxy, true);
    cut_proxy_cut_all(proxy);
    rig_wait_state(rig->lane, LANE_DB_DOWN);
    stats = rig_stats(rig->lane);
    assert_true(stats.trouble[0] != '\0');
    assert_int_equal(stats.inflight, 0); /* nothing is left in memory */
    cut_proxy_set_refuse(proxy, false);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_true(rig->seen_count >= 3000);
    rig_assert_order(rig);
    assert_same_message_ids(rig);
    assert_string_equal(rig_stats(rig->lane).trouble, "");
    rig_end_lane(rig->lane);
    rig->lane = NULL;
    cut_proxy_destroy(proxy);
}

/* The database's session is killed by somebody; among others in the middle of a settle. */
static void a_session_that_is_killed(void **state)
{
    struct lane_rig *rig = *state;
    struct db_opts root_opts = test_db_root_opts();
    struct db *root = test_db_open(&root_opts);

    rig->opts.db.program_name = "lane-to-kill";
    rig_fill(rig, 2000, 0, 64);
    rig_start(rig);
    for (int i = 0; i < 5; i++) {
        char sql[200];
        struct db_rows *rows = NULL;

        rig_wait_confirmed(rig->lane, (uint64_t)i * 300 + 1);
        (void)snprintf(sql, sizeof(sql),
                       "SELECT id FROM information_schema.processlist WHERE db = '%s' AND id <>"
                       " %llu",
                       rig->test_db.name, (unsigned long long)db_connection_id(rig->db));
        assert_int_equal(db_query(root, sql, DB_NO_ARGS, &rows, NULL), OBX_OK);
        while (db_rows_next(rows)) {
            (void)snprintf(sql, sizeof(sql), "KILL %llu", (unsigned long long)db_rows_u64(rows, 0));
            (void)!db_exec(root, sql, DB_NO_ARGS, NULL, NULL); /* it may be gone */
        }
        db_rows_free(rows);
    }
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_true(rig->seen_count >= 2000);
    assert_same_message_ids(rig);
    db_close(root);
}

/* ---- a schema that does not fit ---- */

static bool says_so(void *ctx)
{
    struct lane_stats stats;

    lane_get_stats(ctx, &stats);
    return stats.state == LANE_DB_DOWN && stats.trouble[0] != '\0';
}

static void assert_says(struct lane *lane, const char *word)
{
    if (!wait_until(RIG_WAIT_MS, says_so, lane))
        fail_msg("the lane does not say what is wrong");
    if (strstr(rig_stats(lane).trouble, word) == NULL)
        fail_msg("'%s' does not say '%s'", rig_stats(lane).trouble, word);
}

static void a_schema_that_does_not_fit(void **state)
{
    struct lane_rig *rig = *state;

    rig_insert(rig, "t", "k", "x");
    rig_run(rig, "RENAME TABLE rowpost_schema TO away");
    rig_start(rig);
    assert_says(rig->lane, "migrate");
    rig_run(rig, "RENAME TABLE away TO rowpost_schema");
    rig_wait_empty(rig);
    rig_drain_lane(rig->lane);
    /* Newer than this program knows. */
    rig_run(rig, "INSERT INTO rowpost_schema (side, version, name) VALUES ('producer', 99, 'new')");
    rig_insert(rig, "t", "k", "x");
    rig_start(rig);
    assert_says(rig->lane, "99");
    assert_int_equal(rig_stats(rig->lane).published, 0);
    rig_run(rig, "DELETE FROM rowpost_schema WHERE version = 99");
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 2);
}

/* The lease can be had and the table not be read: tried again, and not ten times a second. */
static void a_table_that_is_gone(void **state)
{
    struct lane_rig *rig = *state;
    int64_t began_ms = 0;
    uint64_t connects = 0;

    rig_start(rig);
    rig_insert(rig, "t", "k", "x");
    rig_wait_empty(rig);
    rig_run(rig, "RENAME TABLE outbox TO away");
    assert_says(rig->lane, "outbox");
    began_ms = wait_now_ms();
    connects = rig_stats(rig->lane).db_connects;
    while (rig_stats(rig->lane).db_connects < connects + 4 &&
           wait_now_ms() < began_ms + RIG_WAIT_MS)
        (void)wait_until(20, says_so, rig->lane);
    assert_true(wait_now_ms() - began_ms >= 400); /* at least the lower bounds of four waits */
    rig_run(rig, "RENAME TABLE away TO outbox");
    rig_insert(rig, "t", "k", "x");
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(confirms_that_are_lost, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_connection_that_is_cut_again_and_again, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_database_that_is_lost, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_session_that_is_killed, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_schema_that_does_not_fit, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_table_that_is_gone, rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
