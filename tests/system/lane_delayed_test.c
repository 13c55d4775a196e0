/*
 * System tests of delayed messages: sent when due and not before, in order, once; cancelled until
 * then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lane_rig.h"
#include "wait.h"

static int setup(void **state)
{
    struct lane_rig *rig = NULL;

    if (rig_setup(state) != 0)
        return -1;
    rig = *state;
    rig->opts.delayed_poll_ms = 20;
    return 0;
}

static void sent_when_due_in_that_order(void **state)
{
    struct lane_rig *rig = *state;

    rig_run(rig, "INSERT INTO outbox_delayed (message_id, topic, ordering_key, headers, payload,"
                 " content_type, created_at, deliver_at) VALUES"
                 " ('third', 't', 'k', '{\"a\": 1}', 'x', 'text/plain', '2001-01-01',"
                 " UTC_TIMESTAMP(6) + INTERVAL 1 SECOND),"
                 " ('second', 't', 'k', NULL, 'x', 'c', '2001-01-01', UTC_TIMESTAMP(6)),"
                 " ('first', 't', 'k', NULL, 'x', 'c', '2001-01-01', '2002-01-01'),"
                 " ('never', 't', 'k', NULL, 'x', 'c', '2001-01-01', '2999-01-01')");
    rig_start(rig);
    rig_collect(rig, 2);
    assert_true(rig_number(rig, "SELECT COUNT(*) FROM outbox_delayed WHERE message_id = 'third'"
                                " OR deliver_at <= UTC_TIMESTAMP(6)") <= 1);
    rig_collect(rig, 3);
    assert_string_equal(rig->seen[0].message_id, "first");
    assert_string_equal(rig->seen[1].message_id, "second");
    assert_string_equal(rig->seen[2].message_id, "third");
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_delayed"), 1);
    assert_int_equal(rig_number(rig, "SELECT deliver_at > '2990-01-01' FROM outbox_delayed"), 1);
    rig_wait_empty(rig);
    assert_int_equal(rig_stats(rig->lane).delayed_moved, 3);
    assert_int_equal(rig_stats(rig->lane).delayed_backdated, 0);
}

/* The event's time is when it became due, or consumers would take it for a message older than what
 * they remember. */
static void moved_as_it_is_but_for_its_time(void **state)
{
    struct lane_rig *rig = *state;

    rig_run(rig, "INSERT INTO outbox_delayed (topic, ordering_key, headers, payload, content_type,"
                 " created_at, receipt_from, on_rejected, deliver_at) VALUES ('unbound', 'k',"
                 " '{\"a\": 1}', 'x', 'text/plain', '2001-01-01', 'g', 'u', UTC_TIMESTAMP(6))");
    rig_run(rig, "CREATE TABLE before_it SELECT * FROM outbox_delayed");
    rig->opts.receipt_queue = "rowpost.receipts.test";
    rig_start(rig);
    rig_wait_number(rig, 1,
                    "SELECT COUNT(*) FROM outbox o JOIN before_it b USING (message_id, topic,"
                    " ordering_key, headers, payload, content_type, receipt_from, on_rejected)"
                    " WHERE o.created_at >= b.deliver_at");
}

/* Local time where UTC belongs: what is written west of Greenwich is sent at once. It is, and it is
 * noticed. */
static void a_time_that_was_over_when_it_was_written_is_noticed(void **state)
{
    struct lane_rig *rig = *state;

    rig_run(rig, "INSERT INTO outbox_delayed (message_id, topic, payload, deliver_at) VALUES"
                 " ('local', 't', 'x', UTC_TIMESTAMP(6) + INTERVAL 1 HOUR - INTERVAL 5 HOUR),"
                 " ('now', 't', 'x', UTC_TIMESTAMP(6))");
    rig_start(rig);
    rig_collect(rig, 2);
    rig_wait_empty(rig);
    assert_int_equal(rig_stats(rig->lane).delayed_moved, 2);
    assert_int_equal(rig_stats(rig->lane).delayed_backdated, 1);
}

static void cancelled_until_it_is_moved(void **state)
{
    struct lane_rig *rig = *state;
    struct db *app = test_db_open(&rig->test_db.opts);

    rig_run(rig, "INSERT INTO outbox_delayed (message_id, topic, payload, deliver_at) VALUES"
                 " ('gone', 't', 'x', UTC_TIMESTAMP(6) + INTERVAL 1 HOUR),"
                 " ('gone-late', 't', 'x', UTC_TIMESTAMP(6)),"
                 " ('kept', 't', 'x', UTC_TIMESTAMP(6)),"
                 " ('other', 't', 'x', UTC_TIMESTAMP(6))");
    rig_run(rig, "DELETE FROM outbox_delayed WHERE message_id = 'gone'");
    /* Not yet committed while they are due: neither is sent, and what is not concerned is. */
    test_db_run(app, "START TRANSACTION");
    test_db_run(app, "DELETE FROM outbox_delayed WHERE message_id IN ('gone-late', 'kept')");
    rig_start(rig);
    rig_collect(rig, 1);
    assert_string_equal(rig->seen[0].message_id, "other");
    test_db_run(app, "ROLLBACK");
    test_db_run(app, "START TRANSACTION");
    /* The first to come has it: then the DELETE finds none or one, and it is sent or not. */
    {
        uint64_t cancelled = 0;
        struct obx_err err = {0};

        /* It comes by message_id, and the lane by id: one of them may be a deadlock's victim. */
        while (db_exec(app, "DELETE FROM outbox_delayed WHERE message_id = 'gone-late'", DB_NO_ARGS,
                       &cancelled, &err) != OBX_OK) {
            assert_int_equal(err.code, OBX_E_DB_DEADLOCK);
            test_db_run(app, "ROLLBACK");
            test_db_run(app, "START TRANSACTION");
        }
        test_db_run(app, "COMMIT");
        rig_collect(rig, cancelled == 1 ? 2 : 3);
        rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox_delayed");
        rig_wait_empty(rig);
        rig_drain_lane(rig->lane);
        rig->lane = NULL;
        rig_collect_all(rig);
        assert_int_equal(rig->seen_count, cancelled == 1 ? 2 : 3);
    }
    db_close(app);
}

static void many_at_once(void **state)
{
    struct lane_rig *rig = *state;

    rig_run(rig, "INSERT INTO outbox_delayed (topic, ordering_key, payload, deliver_at)"
                 " WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99)"
                 " SELECT 't', CONCAT('k', b.i %% 10), REPEAT('x', 100),"
                 " UTC_TIMESTAMP(6) - INTERVAL 1 HOUR + INTERVAL a.i * 100 + b.i SECOND"
                 " FROM n a JOIN n b WHERE a.i < 35 ORDER BY a.i, b.i");
    rig_start(rig);
    rig_collect(rig, 3500);
    rig_assert_order(rig);
    rig_wait_empty(rig);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 3500);
    /* The order of the outbox is that of the due times. */
    for (size_t i = 1; i < rig->seen_count; i++)
        assert_true(rig->seen[i].id != rig->seen[i - 1].id);
}

/* A message that is being scheduled in a transaction still open holds up none that is due, nor does
 * one whose receipt is just being written hold up the others that are settled. */
static void an_open_transaction_beside_them(void **state)
{
    struct lane_rig *rig = *state;
    struct db *app = test_db_open(&rig->test_db.opts);

    test_db_run(app, "START TRANSACTION");
    rig_run(rig, "INSERT INTO outbox_delayed (topic, payload, deliver_at)"
                 " SELECT 't', 'x', UTC_TIMESTAMP(6) FROM " TEST_SEQ " WHERE seq <= 400");
    test_db_run(app, "INSERT INTO outbox_delayed (topic, payload, deliver_at)"
                     " VALUES ('t', 'x', UTC_TIMESTAMP(6))");
    rig_run(rig,
            "INSERT INTO outbox_awaiting (message_id, outbox, id, topic, content_type, payload,"
            " created_at, receipt_from, next_send_at) SELECT CONCAT('m', seq), 'outbox', seq,"
            " 't', '', '', UTC_TIMESTAMP(6), 'g', UTC_TIMESTAMP(6) FROM " TEST_SEQ
            " WHERE seq <= 100");
    rig_run(rig, "INSERT INTO outbox_receipt (message_id, consumer_group, outcome)"
                 " SELECT message_id, 'g', 'applied' FROM outbox_awaiting");
    (void)test_db_number(app, "SELECT id FROM outbox_awaiting WHERE message_id = 'm7' FOR UPDATE");
    rig->opts.receipt_queue = "rowpost.receipts.test";
    rig_start(rig);
    rig_collect(rig, 400);
    rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox_awaiting");
    rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox_delayed");
    assert_string_equal(rig_stats(rig->lane).trouble, "");
    test_db_run(app, "COMMIT");
    db_close(app);
    rig_collect(rig, 401);
    rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox_awaiting");
}

/* Rows of another outbox are its own lane's business. */
static void only_those_of_its_outbox(void **state)
{
    struct lane_rig *rig = *state;

    rig_run(rig,
            "INSERT INTO outbox_delayed (outbox, message_id, topic, payload, deliver_at) VALUES"
            " ('elsewhere', 'a', 't', 'x', UTC_TIMESTAMP(6)),"
            " ('outbox', 'b', 't', 'x', UTC_TIMESTAMP(6))");
    rig_start(rig);
    rig_collect(rig, 1);
    rig_wait_empty(rig);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_delayed WHERE message_id = 'a'"),
                     1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sent_when_due_in_that_order),
        TEST(moved_as_it_is_but_for_its_time),
        TEST(a_time_that_was_over_when_it_was_written_is_noticed),
        TEST(cancelled_until_it_is_moved),
        TEST(many_at_once),
        TEST(an_open_transaction_beside_them),
        TEST(only_those_of_its_outbox),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
