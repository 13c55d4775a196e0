/*
 * System tests of who owns an outbox: one at a time; the next one when it is given back, over, or
 * held by a process that stands still; and who has lost it settles nothing. P1, P7.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "cut_proxy.h"
#include "lane_rig.h"
#include "wait.h"

static bool has_standby_look(void *ctx)
{
    struct lane_stats stats;

    lane_get_stats(ctx, &stats);
    return stats.state == LANE_STANDBY && strcmp(stats.lease_owner, "first") == 0;
}

static void one_owner_at_a_time(void **state)
{
    struct lane_rig *rig = *state;
    struct lane *second = NULL;

    rig_start(rig);
    rig_wait_state(rig->lane, LANE_OWNER);
    second = rig_start_another(rig, "second");
    assert_true(wait_until(RIG_WAIT_MS, has_standby_look, second));
    assert_true(rig_stats(second).is_served);
    rig_fill(rig, 500, 20, 64);
    rig_wait_empty(rig);
    assert_int_equal(rig_stats(second).published, 0);
    /* Given back, it goes over at once. */
    rig_drain_lane(rig->lane);
    rig->lane = second;
    rig_wait_state(second, LANE_OWNER);
    rig_fill(rig, 500, 20, 64);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 1000);
    rig_assert_order(rig);
}

static bool stands_by(void *ctx)
{
    return rig_stats(ctx).state == LANE_STANDBY && rig_stats(ctx).lease_owner[0] != '\0';
}

/* A lease under our own name that we do not hold, because nobody knows whether its COMMIT was done:
 * a standby, but for nobody, until it has run out. */
static void a_lease_in_doubt_is_nobodys(void **state)
{
    struct lane_rig *rig = *state;

    rig_run(rig, "INSERT INTO outbox_lease (outbox, owner, epoch, expires_at)"
                 " VALUES ('outbox', 'first', 7, UTC_TIMESTAMP(6) + INTERVAL 4 SECOND)");
    rig_start(rig);
    assert_true(wait_until(RIG_WAIT_MS, stands_by, rig->lane));
    assert_false(rig_stats(rig->lane).is_served);
    rig_wait_state(rig->lane, LANE_OWNER);
    assert_true(rig_stats(rig->lane).is_served);
}

static void is_taken_over_when_it_is_over(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.settle_max_age_ms = 60 * 1000; /* confirmed, and still in the table */
    rig_start(rig);
    rig_wait_state(rig->lane, LANE_OWNER);
    rig_fill(rig, 20, 5, 64);
    rig_wait_confirmed(rig->lane, 20);
    rig_end_lane(rig->lane); /* dead, its lease runs on */
    rig->opts.settle_max_age_ms = 0;
    rig->lane = rig_start_another(rig, "second");
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_in_range(rig->seen_count, 20, 40);
    rig_assert_order(rig);
    assert_int_equal(rig_stats(rig->lane).lease_epoch, 2);
}

/* The database's clock has stepped back by an hour, and the owner is dead: its lease would run on
 * for as long. Nobody renews it, and that is what counts. */
static void a_clock_that_steps_back_keeps_nobody_out(void **state)
{
    struct lane_rig *rig = *state;

    rig_run(rig, "INSERT INTO outbox_lease (outbox, owner, epoch, expires_at)"
                 " VALUES ('outbox', 'gone', 7, UTC_TIMESTAMP(6) + INTERVAL 1 HOUR)");
    rig->opts.lease_ms = 500; /* the default would make the test wait for 20 s */
    rig_insert(rig, "t", "k", "x");
    rig_start(rig);
    rig_wait_empty(rig);
    assert_int_equal(rig_stats(rig->lane).lease_epoch, 8);
}

/* A relay with a short lease of its own beside an owner whose lease is long: it is renewed all
 * along, if seldom. */
static void a_longer_lease_is_respected(void **state)
{
    struct lane_rig *rig = *state;
    struct lane *second = NULL;

    rig->opts.lease_ms = 3000;
    rig_start(rig);
    rig_wait_state(rig->lane, LANE_OWNER);
    rig->opts.lease_ms = 700;
    second = rig_start_another(rig, "second");
    for (int i = 0; i < 3; i++) { /* it has seen three renewals */
        char sql[120];
        uint64_t was =
            rig_number(rig, "SELECT UNIX_TIMESTAMP(expires_at) * 1000 FROM outbox_lease");

        (void)snprintf(sql, sizeof(sql),
                       "SELECT UNIX_TIMESTAMP(expires_at) * 1000 > %llu FROM outbox_lease",
                       (unsigned long long)was);
        rig_wait_number(rig, 1, sql);
    }
    assert_int_equal(rig_number(rig, "SELECT epoch FROM outbox_lease"), 1);
    assert_int_equal(rig_stats(rig->lane).lease_lost, 0);
    rig_end_lane(second);
}

/* The leases of other lanes are rows of the same table, and locked by them for as long as they
 * settle: nobody waits for that. */
static void waits_for_no_other_lanes_lease(void **state)
{
    struct lane_rig *rig = *state;
    struct db *other = test_db_open(&rig->test_db.opts);

    rig_run(rig, "INSERT INTO outbox_lease (outbox, owner) VALUES ('aaa', 'x'), ('zzz', 'y')");
    test_db_run(other, "START TRANSACTION");
    test_db_run(other, "UPDATE outbox_lease SET epoch = 1 WHERE outbox = 'aaa'");
    test_db_run(other, "UPDATE outbox_lease SET epoch = 1 WHERE outbox = 'zzz'");
    rig_start(rig);
    rig_fill(rig, 300, 10, 64);
    rig_wait_empty(rig);
    assert_int_equal(rig_stats(rig->lane).db_connects, 1);
    test_db_run(other, "ROLLBACK");
    db_close(other);
}

/* What it had confirmed it may not delete any more, nor publish what comes. */
static void who_has_lost_it_writes_nothing(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t late = 0;

    rig->opts.settle_max_age_ms = 60 * 1000;
    rig_start(rig);
    rig_wait_state(rig->lane, LANE_OWNER);
    rig_fill(rig, 20, 5, 64);
    rig_wait_confirmed(rig->lane, 20);
    rig_run(rig, "UPDATE outbox_lease SET owner = 'thief', epoch = epoch + 1,"
                 " expires_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR");
    rig_wait_state(rig->lane, LANE_STANDBY);
    late = rig_insert(rig, "t", "late", "x");
    assert_int_equal(rig_stats(rig->lane).lease_lost, 1);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox"), 21);
    assert_int_equal(rig_stats(rig->lane).settled, 0);
    rig_run(rig, "UPDATE outbox_lease SET expires_at = UTC_TIMESTAMP(6)");
    rig_wait_state(rig->lane, LANE_OWNER);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    rig->opts.settle_max_age_ms = 0;
    rig_start(rig);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    rig_assert_order(rig);
    assert_true(rig_place(rig, late) != SIZE_MAX);
}

/* A statement that takes longer than the lease costs nothing as long as nobody else has come: what
 * it brought still counts, or it would be run again for ever. */
static void a_slow_database_does_not_cost_the_lease(void **state)
{
    struct lane_rig *rig = *state;
    struct cut_proxy *proxy = cut_proxy_create(rig->opts.db.host, rig->opts.db.port);

    assert_non_null(proxy);
    rig->opts.db.port = cut_proxy_port(proxy);
    rig->opts.db.read_timeout_ms = RIG_WAIT_MS;
    rig->opts.lease_ms = 1000;
    rig_start(rig);
    rig_wait_state(rig->lane, LANE_OWNER);
    cut_proxy_set_flow(proxy, CUT_TO_CLIENT, CUT_HOLD);
    rig_fill(rig, 100, 10, 64);
    rig_wait_number(rig, 0,
                    "SELECT COUNT(*) FROM outbox_lease WHERE expires_at > UTC_TIMESTAMP(6)");
    cut_proxy_set_flow(proxy, CUT_TO_CLIENT, CUT_PASS);
    rig_wait_empty(rig);
    assert_int_equal(rig_stats(rig->lane).lease_lost, 0);
    assert_int_equal(rig_number(rig, "SELECT epoch FROM outbox_lease"), 1);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 100);
    rig_end_lane(rig->lane);
    rig->lane = NULL;
    cut_proxy_destroy(proxy);
}

struct lock_wait {
    struct db *root;
    char query[256];
};

static bool is_waiting(void *ctx)
{
    const struct lock_wait *wait = ctx;

    return test_db_number(wait->root, wait->query) > 0;
}

/*
 * An owner that stands still within its transaction (stopped, or cut off and the server does not
 * know) keeps the lease's row locked. It has to end by itself, or nobody ever takes over.
 */
static void an_owner_that_stands_still_does_not_stop_the_next(void **state)
{
    struct lane_rig *rig = *state;
    struct cut_proxy *proxy = cut_proxy_create(rig->opts.db.host, rig->opts.db.port);
    struct db_opts root_opts = test_db_root_opts();
    struct lock_wait wait = {.root = test_db_open(&root_opts)};
    struct db_opts direct = rig->opts.db;
    uint64_t id = rig_insert(rig, "t", "k", "x");
    struct obx_buf sql = {0};

    assert_non_null(proxy);
    rig->opts.db.port = cut_proxy_port(proxy);
    rig->opts.db.lock_wait_s = 20;
    /* The delete of the lane waits for this lock, with the lease's row in its hand. */
    rig_run(rig, "START TRANSACTION");
    rig_run(rig, "SELECT 1 FROM outbox WHERE id = %llu FOR UPDATE INTO @x", (unsigned long long)id);
    rig_start(rig);
    assert_int_equal(buf_addf(&sql,
                              "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '%s'"
                              " AND info LIKE 'DELETE%%'",
                              rig->test_db.name),
                     OBX_OK);
    (void)bytes_to_text(buf_bytes(&sql), wait.query, sizeof(wait.query));
    assert_true(wait_until(RIG_WAIT_MS, is_waiting, &wait));
    cut_proxy_set_flow(proxy, CUT_TO_SERVER, CUT_HOLD);
    cut_proxy_set_flow(proxy, CUT_TO_CLIENT, CUT_HOLD);
    rig_run(rig, "COMMIT");
    rig->opts.db = direct;
    {
        struct lane *second = rig_start_another(rig, "second");

        rig_wait_state(second, LANE_OWNER);
        rig_wait_empty(rig);
        rig_end_lane(second);
    }
    cut_proxy_destroy(proxy);
    rig_end_lane(rig->lane);
    rig->lane = NULL;
    db_close(wait.root);
    buf_fini(&sql);
}

/* The lease has expired, and an idle session of the relay's own account holds its row: it is ended
 * at once, whatever the server's wait_timeout is. */
static void a_silent_session_that_holds_the_lease_is_ended(void **state)
{
    struct lane_rig *rig = *state;
    struct db *stopped = test_db_open(&rig->opts.db); /* no limit on silence, as test_db does it */

    test_db_run(stopped, "INSERT INTO outbox_lease (outbox, owner, epoch, connection_id)"
                         " VALUES ('outbox', 'stopped', 7, CONNECTION_ID())");
    test_db_run(stopped, "START TRANSACTION");
    test_db_run(stopped, "UPDATE outbox_lease SET expires_at = UTC_TIMESTAMP(6)");
    rig_start(rig);
    rig_wait_state(rig->lane, LANE_OWNER);
    assert_int_equal(rig_stats(rig->lane).lease_epoch, 8);
    assert_int_equal(rig_stats(rig->lane).db_connects, 1);
    db_close(stopped);
}

struct slow_session {
    struct db *db;
    enum obx_code rc;
};

static void *work_slowly(void *arg)
{
    struct slow_session *slow = arg;

    slow->rc = db_exec_text(slow->db, bytes_of("DO SLEEP(4)"), NULL, NULL);
    db_thread_end();
    return NULL;
}

/* One whose statement takes longer than its lease is at work: to end it would have the next owner
 * begin the same statement, and be ended by a third. */
static void a_session_at_work_is_left_alone(void **state)
{
    struct lane_rig *rig = *state;
    struct slow_session slow = {.db = test_db_open(&rig->opts.db)};
    pthread_t thread;

    test_db_run(slow.db, "INSERT INTO outbox_lease (outbox, owner, epoch, connection_id)"
                         " VALUES ('outbox', 'slow', 7, CONNECTION_ID())");
    test_db_run(slow.db, "START TRANSACTION");
    test_db_run(slow.db, "UPDATE outbox_lease SET expires_at = UTC_TIMESTAMP(6)");
    assert_int_equal(pthread_create(&thread, NULL, work_slowly, &slow), 0);
    rig->opts.lease_ms = 1000; /* lock waits of a second: some within the statement's time */
    rig_start(rig);
    (void)pthread_join(thread, NULL);
    assert_int_equal(slow.rc, OBX_OK);
    test_db_run(slow.db, "COMMIT");
    rig_wait_state(rig->lane, LANE_OWNER);
    db_close(slow.db);
}

/* So is a transaction of many short statements to somebody far away: between any two of them the session waits for its
 * client, but never for long. */
static void *work_in_pieces(void *arg)
{
    struct slow_session *slow = arg;
    const int64_t end_ms = wait_now_ms() + 4000;

    slow->rc = OBX_OK;
    while (slow->rc == OBX_OK && wait_now_ms() < end_ms) {
        const struct timespec far = {.tv_nsec = 100L * 1000 * 1000};

        nanosleep(&far, NULL);
        slow->rc = db_exec_text(slow->db, bytes_of("DO 1"), NULL, NULL);
    }
    db_thread_end();
    return NULL;
}

static void a_transaction_of_many_statements_is_left_alone(void **state)
{
    struct lane_rig *rig = *state;
    struct slow_session slow = {.db = test_db_open(&rig->opts.db)};
    pthread_t thread;

    test_db_run(slow.db, "INSERT INTO outbox_lease (outbox, owner, epoch, connection_id)"
                         " VALUES ('outbox', 'far', 7, CONNECTION_ID())");
    test_db_run(slow.db, "START TRANSACTION");
    test_db_run(slow.db, "UPDATE outbox_lease SET expires_at = UTC_TIMESTAMP(6)");
    assert_int_equal(pthread_create(&thread, NULL, work_in_pieces, &slow), 0);
    rig->opts.lease_ms = 1000; /* lock waits of a second: some within the transaction's time */
    rig_start(rig);
    (void)pthread_join(thread, NULL);
    assert_int_equal(slow.rc, OBX_OK);
    test_db_run(slow.db, "COMMIT");
    rig_wait_state(rig->lane, LANE_OWNER);
    db_close(slow.db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_owner_at_a_time, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_lease_in_doubt_is_nobodys, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(is_taken_over_when_it_is_over, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_clock_that_steps_back_keeps_nobody_out, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_longer_lease_is_respected, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(waits_for_no_other_lanes_lease, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(who_has_lost_it_writes_nothing, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_slow_database_does_not_cost_the_lease, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_silent_session_that_holds_the_lease_is_ended, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_session_at_work_is_left_alone, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_transaction_of_many_statements_is_left_alone, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(an_owner_that_stands_still_does_not_stop_the_next,
                                        rig_setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
