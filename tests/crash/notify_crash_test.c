/*
 * inbox-relay killed at each of its crash points, two of it side by side, one that was stopped
 * past its lease, and a host whose clock is wrong: every message is called at least once, none is
 * lost, and who has lost the lease changes nothing.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "notify_rig.h"
#include "wait.h"

#define SECRET    "a-secret-of-the-test-01"
#define ENDPOINT  "[endpoint to]\nurl = http://127.0.0.1:%u/hook\ntopics = #\nsecrets = " SECRET "\n"
#define DELIVERED "SELECT COUNT(*) FROM inbox_call WHERE state = 'delivered'"

static void assert_all_called(struct receiver *to, const char *prefix, int count)
{
    char id[80];

    for (int i = 0; i < count; i++) {
        snprintf(id, sizeof(id), "%s-%d", prefix, i);
        if (receiver_times(to, id) == 0)
            fail_msg("%s was never called", id);
    }
}

static void killed_at_each_point_it_loses_nothing(void **state)
{
    static const char *const points[] = {"notify-read:1", "notify-called:9",
                                         "notify-record-before-commit:1", "notify-recorded:1"};
    enum { MESSAGES = 40, POINTS = sizeof(points) / sizeof(points[0]) };
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(NULL);
    char env[80], prefix[16];

    notify_rig_config(rig, "", ENDPOINT "concurrency = 4\n", receiver_port(to));
    for (size_t i = 0; i < POINTS; i++) {
        struct proc_exit how = {0};

        snprintf(env, sizeof(env), "OBX_CRASH=%s", points[i]);
        snprintf(prefix, sizeof(prefix), "p%zu", i);
        notify_rig_start(rig, 0, env);
        notify_rig_wait_owner(rig);
        notify_rig_fill(rig, prefix, MESSAGES, "t");
        if (!proc_wait(rig->procs[0], RIG_WAIT_MS, &how) || how.signal != SIGKILL)
            fail_msg("%s was not met", points[i]);
        notify_rig_start(rig, 0, NULL);
        notify_rig_wait_number(rig, (i + 1) * MESSAGES, DELIVERED);
        notify_rig_stop(rig, 0);
        assert_all_called(to, prefix, MESSAGES);
    }
    /* Repeated is at most what was in flight or not yet written at each kill. */
    assert_in_range(receiver_count(to), MESSAGES * POINTS, MESSAGES * POINTS + POINTS * MESSAGES);
    assert_int_equal(notify_rig_number(rig, "SELECT MAX(attempts) FROM inbox_call"), 1);
    receiver_destroy(to);
}

static void slow(const struct rig_call *call, size_t n, struct endpoint_answer *answer)
{
    (void)call;
    (void)n;
    answer->delay_ms = 20;
}

static void another_process_takes_over(void **state)
{
    enum { MESSAGES = 400, CONCURRENCY = 4 };
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(slow);

    notify_rig_config(rig, "", ENDPOINT "concurrency = 4\n", receiver_port(to));
    notify_rig_start(rig, 0, NULL);
    notify_rig_wait_owner(rig);
    notify_rig_start(rig, 1, NULL);
    notify_rig_fill(rig, "m", MESSAGES, "t");
    receiver_wait(to, MESSAGES / 4);
    /* Side by side nothing is called twice. */
    for (size_t i = 0; i < MESSAGES / 4; i++)
        assert_int_equal(receiver_times(to, receiver_call(to, i).id), 1);
    notify_rig_kill(rig, 0);
    notify_rig_wait_number(rig, MESSAGES, DELIVERED);
    assert_all_called(to, "m", MESSAGES);
    /* Called again is what was in flight, or answered and not yet written. */
    assert_in_range(receiver_count(to), MESSAGES, MESSAGES + 8 * CONCURRENCY);
    notify_rig_stop(rig, 1);
    receiver_destroy(to);
}

static void who_wakes_up_too_late_changes_nothing(void **state)
{
    enum { MESSAGES = 200 };
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(slow);

    notify_rig_config(rig, "", ENDPOINT "concurrency = 4\n", receiver_port(to));
    notify_rig_start(rig, 0, NULL);
    notify_rig_wait_owner(rig);
    notify_rig_start(rig, 1, NULL);
    notify_rig_fill(rig, "m", MESSAGES, "t");
    receiver_wait(to, MESSAGES / 4);
    assert_true(proc_signal(rig->procs[0], SIGSTOP));
    notify_rig_wait_number(rig, 2, "SELECT epoch FROM inbox_lease");
    assert_true(proc_signal(rig->procs[0], SIGCONT));
    notify_rig_wait_log(rig, "from=owner to=standby");
    notify_rig_wait_number(rig, MESSAGES, DELIVERED " AND attempts = 1");
    assert_int_equal(notify_rig_number(rig, "SELECT epoch FROM inbox_lease"), 2);
    assert_all_called(to, "m", MESSAGES);
    notify_rig_stop(rig, 1);
    notify_rig_stop(rig, 0);
    receiver_destroy(to);
}

/* The worst place to be stopped: inside the transaction, with the lease's row locked. */
static void an_owner_that_stands_still_in_its_transaction_is_ended(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(NULL);
    struct db *stopped = test_db_open(&rig->account.opts);

    test_db_run(stopped, "INSERT INTO inbox_lease (consumer_group, owner, epoch, "
                         "connection_id) VALUES ('notify', 'stopped', 7, CONNECTION_ID())");
    test_db_run(stopped, "START TRANSACTION");
    test_db_run(stopped, "UPDATE inbox_lease SET expires_at = UTC_TIMESTAMP(6)");
    notify_rig_config(rig, "", ENDPOINT, receiver_port(to));
    notify_rig_start(rig, 0, NULL);
    notify_rig_wait_owner(rig);
    assert_int_equal(notify_rig_number(rig, "SELECT epoch FROM inbox_lease"), 8);
    notify_rig_publish(rig, "m", "t", "x");
    notify_rig_wait_number(rig, 1, DELIVERED);
    notify_rig_stop(rig, 0);
    db_close(stopped);
    receiver_destroy(to);
}

/* End every session in the database but the test's own. */
static void cut_sessions(struct notify_rig *rig, struct db *root)
{
    struct db_rows *rows = NULL;
    char sql[256];

    snprintf(sql, sizeof(sql),
             "SELECT id FROM information_schema.processlist WHERE db = '%s' AND id <> %llu",
             rig->test_db.name, (unsigned long long)db_connection_id(rig->db));
    assert_int_equal(db_query(root, sql, DB_NO_ARGS, &rows, NULL), OBX_OK);
    while (db_rows_next(rows)) {
        snprintf(sql, sizeof(sql), "KILL %llu", (unsigned long long)db_rows_u64(rows, 0));
        (void)!db_exec_text(root, bytes_of(sql), NULL, NULL); /* it may be gone */
    }
    db_rows_free(rows);
}

static void a_database_that_goes_and_comes_loses_nothing(void **state)
{
    enum { MESSAGES = 300, CUTS = 6 };
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(slow);
    struct db_opts opts = test_db_root_opts();
    struct db *root = test_db_open(&opts);

    notify_rig_config(rig, "", ENDPOINT "concurrency = 4\n", receiver_port(to));
    notify_rig_start(rig, 0, NULL);
    notify_rig_wait_owner(rig);
    notify_rig_fill(rig, "m", MESSAGES, "t");
    for (size_t cut = 1; cut <= CUTS; cut++) {
        receiver_wait(to, cut * MESSAGES / (CUTS + 2));
        cut_sessions(rig, root);
    }
    notify_rig_wait_number(rig, MESSAGES, DELIVERED " AND attempts = 1");
    assert_all_called(to, "m", MESSAGES);
    /* The lease was kept, and results that could not be written were written later: nothing is
     * called twice. */
    assert_int_equal(notify_rig_number(rig, "SELECT epoch FROM inbox_lease"), 1);
    assert_int_equal(receiver_count(to), MESSAGES);
    notify_rig_stop(rig, 0);
    db_close(root);
    receiver_destroy(to);
}

static void fails_at_first(const struct rig_call *call, size_t n, struct endpoint_answer *answer)
{
    (void)call;
    answer->status = n == 0 ? 500 : 200;
}

/* That the program believes its host: its log has the wrong day. */
static void wait_for_the_wrong_day(struct notify_rig *rig)
{
    const time_t then = time(NULL) - (time_t)3 * 24 * 3600;
    struct tm tm;
    char day[32];

    assert_non_null(gmtime_r(&then, &tm));
    assert_true(strftime(day, sizeof(day), "%Y-%m-%dT", &tm) > 0);
    notify_rig_wait_log(rig, day);
}

static void the_clock_of_the_host_does_not_matter(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(fails_at_first);
    uint64_t now_s;

    to->secrets[0] = SECRET;
    notify_rig_config(rig, "", ENDPOINT "schedule = 0s, 300ms\n", receiver_port(to));
    notify_rig_start(rig, 0, "LD_PRELOAD=" NOTIFY_WRONG_CLOCK);
    notify_rig_wait_owner(rig);
    wait_for_the_wrong_day(rig);
    notify_rig_publish(rig, "m", "t", "x");
    notify_rig_wait_number(rig, 1, DELIVERED " AND attempts = 2");
    now_s = notify_rig_number(rig, "SELECT UNIX_TIMESTAMP()");
    assert_true(receiver_call(to, 1).at_ms - receiver_call(to, 0).at_ms >= 300);
    for (size_t i = 0; i < 2; i++) {
        assert_in_range(receiver_call(to, i).timestamp_s, now_s - 60, now_s + 1);
        assert_true(receiver_call(to, i).verified[0]);
    }
    notify_rig_stop(rig, 0);
    receiver_destroy(to);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, notify_rig_setup, notify_rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(killed_at_each_point_it_loses_nothing),
        TEST(another_process_takes_over),
        TEST(who_wakes_up_too_late_changes_nothing),
        TEST(an_owner_that_stands_still_in_its_transaction_is_ended),
        TEST(a_database_that_goes_and_comes_loses_nothing),
        TEST(the_clock_of_the_host_does_not_matter),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    db_thread_end();
    return failed;
}
