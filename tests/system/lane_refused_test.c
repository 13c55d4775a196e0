/*
 * System tests of tables that refuse one row: by a trigger, a date that no session of ours would
 * write, an id that came again, a right that is missing. The row ends where an operator sees it,
 * the others go on, the connection stays, and nothing is published without end. P1, P6, P7, P8.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lane_rig.h"
#include "sql/schema.h"
#include "wait.h"

#define PARKED "SELECT COUNT(*) FROM outbox_parked"
#define QUEUE  "rowpost.receipts.test"

enum { OTHERS = 50 };

static int setup(void **state)
{
    struct lane_rig *rig = NULL;
    struct obx_err err = {0};

    if (rig_setup(state) != 0)
        return -1;
    rig = *state;
    if (schema_migrate(rig->db, SCHEMA_JOURNAL, NULL, NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
    rig->opts.journal = true;
    rig->opts.receipt_queue = QUEUE;
    return 0;
}

/* `others` rows that ask for receipts, or not, and one with the message id 'bad' among them. */
static uint64_t insert_bad(struct lane_rig *rig, const char *topic, const char *from)
{
    uint64_t bad = 0;

    rig_fill(rig, OTHERS, 0, 16);
    rig_run(rig, "INSERT INTO outbox (message_id, topic, payload) VALUES ('bad', '%s', 'x')",
            topic);
    bad = db_insert_id(rig->db);
    rig_fill(rig, OTHERS, 0, 16);
    if (from != NULL)
        rig_run(rig, "UPDATE outbox SET receipt_from = '%s'", from);
    return bad;
}

/* The table refuses it, whatever is done there. */
static void refuse(struct lane_rig *rig, const char *table, const char *when)
{
    rig_run(rig,
            "CREATE TRIGGER refuse BEFORE %s ON %s FOR EACH ROW BEGIN IF %s.message_id = 'bad'"
            " THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused here'; END IF; END",
            when, table, strcmp(when, "DELETE") == 0 ? "OLD" : "NEW");
}

struct settled_wait {
    struct lane *lane;
    uint64_t count;
};

static bool has_settled(void *ctx)
{
    const struct settled_wait *wait = ctx;

    return rig_stats(wait->lane).settled >= wait->count;
}

static bool has_trouble(void *ctx)
{
    return strstr(rig_stats(ctx).trouble, "refused here") != NULL;
}

static bool is_well(void *ctx)
{
    return rig_stats(ctx).trouble[0] == '\0';
}

static void wait_well(struct lane_rig *rig)
{
    if (!wait_until(RIG_WAIT_MS, is_well, rig->lane))
        fail_msg("still: %s", rig_stats(rig->lane).trouble);
}

/* More rows to settle, until the refused one has ended as it will. */
static bool keep_busy(void *ctx)
{
    struct lane_rig *rig = ctx;

    rig_insert(rig, "t", NULL, "later");
    rig_run(rig, "INSERT INTO outbox (topic, payload, receipt_from) VALUES ('t', 'later', 'g')");
    return rig_number(rig, PARKED " WHERE message_id = 'bad'") == 1;
}

/* ---- one row ---- */

static const struct refusal {
    const char *table, *when;
    const char *from; /* the rows ask for receipts */
} refusals[] = {
    {"outbox_journal", "INSERT", NULL},
    {"outbox_journal", "INSERT", "g"},
    {"outbox_awaiting", "INSERT", "g"},
};

/* It was published and confirmed: it is parked, once others are settled and it is not. Resumed when
 * the table takes it, it is published again, and settled. */
static void a_row_that_a_side_table_refuses(void **state)
{
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        const struct refusal *refusal = &refusals[i];
        struct lane_rig *rig = *state;
        struct settled_wait settled = {.count = 2 * OTHERS};
        uint64_t bad = insert_bad(rig, "t", refusal->from);

        refuse(rig, refusal->table, refusal->when);
        rig_start(rig);
        settled.lane = rig->lane;
        if (!wait_until(RIG_WAIT_MS, has_settled, &settled) ||
            !wait_until(RIG_WAIT_MS, keep_busy, rig))
            fail_msg("%s: %s", refusal->table, rig_stats(rig->lane).trouble);
        assert_int_equal(rig_number(rig, PARKED " WHERE reason_code = 'SETTLE_REFUSED' AND reason"
                                                " LIKE '%%confirmed%%refused here%%'"),
                         1);
        rig_wait_empty(rig);
        assert_int_equal(rig_stats(rig->lane).db_connects, 1);
        wait_well(rig);
        rig_collect_all(rig);
        assert_int_equal(rig_times(rig, bad), 1);
        rig_run(rig, "DROP TRIGGER refuse");
        rig_run(rig, "UPDATE outbox_parked SET request = 'resume'");
        rig_wait_number(rig, 0, PARKED);
        rig_wait_empty(rig);
        rig_drain_lane(rig->lane);
        rig->lane = NULL;
        rig_collect_all(rig);
        assert_int_equal(rig_times(rig, bad), 2);
        assert_int_equal(
            rig_number(rig, "SELECT COUNT(*) FROM outbox_journal WHERE message_id = 'bad'"), 1);
        for (size_t j = 0; j < rig->seen_count; j++)
            assert_true(rig->seen[j].id == bad || rig_times(rig, rig->seen[j].id) == 1);
        rig->seen_count = 0;
        rig_run(rig, "DELETE FROM outbox_awaiting");
        rig_run(rig, "DELETE FROM outbox_journal");
    }
}

/* What cannot be deleted cannot be parked either: it stays where it is, is published once as long
 * as the relay runs, and the lane says why. */
static void a_row_that_cannot_be_deleted(void **state)
{
    struct lane_rig *rig = *state;
    struct settled_wait settled = {.count = 2 * OTHERS};
    uint64_t bad = insert_bad(rig, "t", NULL);

    refuse(rig, "outbox", "DELETE");
    rig_start(rig);
    settled.lane = rig->lane;
    assert_true(wait_until(RIG_WAIT_MS, has_settled, &settled));
    assert_true(wait_until(RIG_WAIT_MS, has_trouble, rig->lane));
    rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox");
    for (int i = 0; i < OTHERS; i++) {
        rig_insert(rig, "t", NULL, "later");
        rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox");
    }
    assert_int_equal(rig_stats(rig->lane).db_connects, 1);
    rig_collect_all(rig);
    assert_int_equal(rig_times(rig, bad), 1);
    rig_run(rig, "DROP TRIGGER refuse");
    rig_wait_empty(rig);
    wait_well(rig);
}

/* Refused again and again while nothing else is settled, it may be the table: there are pauses. Then
 * what comes is tried, not the refused row again. */
static void a_refused_row_does_not_go_first(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t tries = 0;

    rig_run(rig, "CREATE TABLE tries (n INT) ENGINE = MyISAM"); /* no rollback takes them back */
    rig_run(rig, "CREATE TRIGGER refuse BEFORE DELETE ON outbox FOR EACH ROW BEGIN"
                 " IF OLD.message_id = 'bad' THEN INSERT INTO tries VALUES (1);"
                 " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused here'; END IF; END");
    rig_run(rig, "INSERT INTO outbox (message_id, topic, payload) VALUES ('bad', 't', 'x')");
    rig_start(rig);
    rig_wait_number(rig, 1, "SELECT COUNT(*) >= 4 FROM tries");
    tries = rig_number(rig, "SELECT COUNT(*) FROM tries");
    rig_insert(rig, "t", NULL, "later");
    rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox");
    /* Its own pauses may end meanwhile, once or twice on a slow machine; if it went first, nothing else ever went. */
    assert_in_range(rig_number(rig, "SELECT COUNT(*) FROM tries") - tries, 0, 4);
}

/* Dates that an application's session lets in and ours would not: they are carried as they are. */
static void dates_that_are_none(void **state)
{
    struct lane_rig *rig = *state;

    rig_run(rig, "SET sql_mode = 'ALLOW_INVALID_DATES'");
    rig_run(rig, "INSERT INTO outbox (topic, payload, created_at, receipt_from) VALUES"
                 " ('t', 'x', '0000-00-00', NULL), ('t', 'x', '2026-00-07', 'g'),"
                 " ('t', 'x', '2026-02-31', 'g'), ('nowhere', 'x', '0000-00-00', NULL),"
                 " ('t', 'x', '0000-00-00', 'g')");
    rig_fill(rig, OTHERS, 0, 16);
    rig->opts.max_attempts = 1;
    rig_start(rig);
    rig_wait_empty(rig);
    assert_int_equal(rig_stats(rig->lane).db_connects, 1);
    assert_int_equal(rig_number(rig, PARKED " WHERE created_at = '0000-00-00'"), 1);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_awaiting"), 3);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_journal"), OTHERS + 4);
    rig_bind(rig, "nowhere");
    rig_run(rig, "UPDATE outbox_parked SET request = 'resume'");
    rig_wait_number(rig, 0, PARKED);
    rig_wait_empty(rig);
    rig_collect(rig, OTHERS + 5);
}

/* An id of 0, from a dump or a session with NO_AUTO_VALUE_ON_ZERO, is an id like any other. */
static void a_row_with_id_0(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.max_attempts = 1;
    rig_run(rig, "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'");
    rig_run(rig, "INSERT INTO outbox (id, topic, payload, receipt_from) VALUES (0, 't', 'x', 'g')");
    rig_start(rig);
    rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox_awaiting WHERE id = 0");
    rig_wait_empty(rig);
    rig_run(rig, "INSERT INTO outbox (id, topic, payload) VALUES (0, 'nowhere', 'x')");
    rig_wait_number(rig, 1, PARKED " WHERE id = 0");
    rig_bind(rig, "nowhere");
    rig_run(rig, "UPDATE outbox_parked SET request = 'resume'");
    rig_wait_number(rig, 0, PARKED);
    rig_wait_empty(rig);
    rig_collect(rig, 2);
}

/* ---- messages that wait: for receipts, for their time ---- */

/* After a restore, or a truncate, ids come again: two messages of one id. */
static void two_awaiting_rows_of_one_id(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.receipt_timeout_ms = 200;
    rig_run(rig,
            "INSERT INTO outbox_awaiting (message_id, outbox, id, topic, content_type, payload,"
            " created_at, receipt_from, next_send_at) VALUES"
            " ('old', 'outbox', 7, 't', 'x/y', 'old', UTC_TIMESTAMP(6), 'g', UTC_TIMESTAMP(6)),"
            " ('new', 'outbox', 7, 't', 'x/y', 'new', UTC_TIMESTAMP(6), 'g', UTC_TIMESTAMP(6))");
    rig_start(rig);
    rig_wait_number(rig, 2, "SELECT COUNT(*) FROM outbox_awaiting WHERE sends >= 2");
    assert_int_equal(rig_number(rig, "SELECT COUNT(DISTINCT id) FROM outbox_awaiting"), 2);
    /* And one whose id another message has that is parked, or in the outbox. */
    rig_run(rig, "INSERT INTO outbox_parked (outbox, id, message_id, topic, content_type, payload,"
                 " created_at, reason_code) SELECT outbox, id, 'another', topic, content_type,"
                 " payload, created_at, 'X' FROM outbox_awaiting WHERE message_id = 'old'");
    rig_wait_number(rig, 2, "SELECT COUNT(*) FROM outbox_awaiting WHERE sends >= 3");
    assert_int_equal(rig_stats(rig->lane).db_connects, 1);
    rig_run(rig, "INSERT INTO outbox_receipt (message_id, consumer_group, outcome)"
                 " VALUES ('old', 'g', 'applied'), ('new', 'g', 'applied')");
    rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox_awaiting");
    rig_wait_empty(rig);
}

static void a_row_that_cannot_be_sent_again(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.receipt_timeout_ms = 200;
    rig_run(rig,
            "INSERT INTO outbox_awaiting (message_id, outbox, id, topic, content_type, payload,"
            " created_at, receipt_from, next_send_at) SELECT IF(seq = 40, 'bad',"
            " CONCAT('m', seq)), 'outbox', seq, 't', 'x/y', 'x', UTC_TIMESTAMP(6), 'g',"
            " UTC_TIMESTAMP(6) FROM " TEST_SEQ " WHERE seq BETWEEN 1 AND 100");
    rig_run(rig, "ALTER TABLE outbox AUTO_INCREMENT = 1000");
    refuse(rig, "outbox", "INSERT");
    rig_start(rig);
    rig_wait_number(rig, 99, "SELECT COUNT(*) FROM outbox_awaiting WHERE sends >= 2");
    assert_true(wait_until(RIG_WAIT_MS, has_trouble, rig->lane));
    assert_int_equal(rig_stats(rig->lane).db_connects, 1);
    rig_run(rig, "DROP TRIGGER refuse");
    rig_wait_number(rig, 100, "SELECT COUNT(*) FROM outbox_awaiting WHERE sends >= 2");
}

static void a_delayed_row_that_is_refused(void **state)
{
    struct lane_rig *rig = *state;

    rig_run(rig, "INSERT INTO outbox_delayed (message_id, topic, payload, deliver_at)"
                 " SELECT IF(seq = 40, 'bad', CONCAT('m', seq)), 't', 'x', UTC_TIMESTAMP(6)"
                 " FROM " TEST_SEQ " WHERE seq BETWEEN 1 AND 100");
    refuse(rig, "outbox", "INSERT");
    rig_start(rig);
    rig_collect(rig, 99);
    assert_true(wait_until(RIG_WAIT_MS, has_trouble, rig->lane));
    assert_int_equal(rig_stats(rig->lane).db_connects, 1);
    rig_run(rig, "DROP TRIGGER refuse");
    rig_collect(rig, 100);
    rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox_delayed");
    wait_well(rig);
}

/* More rows than are kept in mind as refused stand before one that is well. */
static void a_crowd_of_refused_delayed_rows(void **state)
{
    struct lane_rig *rig = *state;

    rig_run(rig, "CREATE TRIGGER refuse BEFORE INSERT ON outbox FOR EACH ROW BEGIN"
                 " IF NEW.message_id LIKE 'bad%%' THEN"
                 " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused here'; END IF; END");
    rig_run(rig, "INSERT INTO outbox_delayed (message_id, topic, payload, deliver_at)"
                 " SELECT IF(seq > 70, CONCAT('m', seq), CONCAT('bad', seq)), 't', 'x',"
                 " UTC_TIMESTAMP(6) - INTERVAL 1 HOUR + INTERVAL seq SECOND FROM " TEST_SEQ
                 " WHERE seq BETWEEN 1 AND 80");
    rig->opts.delayed_poll_ms = 50; /* so that six steps past a row take no seconds */
    rig_start(rig);
    rig_collect(rig, 10);
    assert_int_equal(rig_stats(rig->lane).db_connects, 1);
    rig_run(rig, "DROP TRIGGER refuse");
    rig_collect(rig, 80);
    wait_well(rig);
}

static bool says_stray(void *ctx)
{
    return strstr(rig_stats(ctx).trouble, "'Outbox'") != NULL;
}

/* A delayed message for an outbox that there is not would wait for ever. */
static void a_delayed_row_of_no_outbox_is_told_of(void **state)
{
    struct lane_rig *rig = *state;

    rig_run(rig, "INSERT INTO outbox_delayed (outbox, topic, payload, deliver_at)"
                 " VALUES ('Outbox', 't', 'x', UTC_TIMESTAMP(6) + INTERVAL 1 SECOND)");
    rig_start(rig);
    assert_true(wait_until(RIG_WAIT_MS, says_stray, rig->lane));
    assert_int_equal(rig_stats(rig->lane).delayed_stray, 1);
    rig_run(rig, "UPDATE outbox_delayed SET outbox = 'outbox'");
    rig_collect(rig, 1);
    wait_well(rig);
}

/* Somebody has it locked for a while, then a table refuses it, once: that is one refusal, and not
 * one too many. */
static void a_lock_is_no_refusal(void **state)
{
    struct lane_rig *rig = *state;
    struct settled_wait settled = {.count = 2 * OTHERS};
    struct db *other = test_db_open(&rig->test_db.opts);

    rig->opts.journal = true;
    rig_run(rig, "CREATE TABLE tries (n INT) ENGINE = MyISAM"); /* no rollback takes them back */
    (void)insert_bad(rig, "t", NULL);
    test_db_run(other, "START TRANSACTION");
    test_db_run(other, "SELECT 1 FROM outbox WHERE message_id = 'bad' FOR UPDATE INTO @x");
    rig_start(rig);
    settled.lane = rig->lane;
    assert_true(wait_until(RIG_WAIT_MS, has_settled, &settled));
    /* Now it waits by itself; some more looks at its lock. */
    for (int i = 0; i < 20; i++) {
        rig_insert(rig, "t", NULL, "other");
        rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox");
    }
    rig_run(rig, "CREATE TRIGGER refuse BEFORE INSERT ON outbox_journal FOR EACH ROW BEGIN"
                 " IF NEW.message_id = 'bad' THEN INSERT INTO tries VALUES (1);"
                 " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused here'; END IF; END");
    test_db_run(other, "COMMIT");
    assert_true(wait_until(RIG_WAIT_MS, keep_busy, rig));
    assert_in_range(rig_number(rig, "SELECT COUNT(*) FROM tries"), 3, 10);
    db_close(other);
}

/* ---- rows that are to be parked ---- */

/* It could not be parked, and then it could be published: nothing is wrong any more. */
static void a_head_that_is_published_after_all(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.max_attempts = 2;
    rig->opts.retry_min_ms = 20;
    rig->opts.retry_cap_ms = 200; /* so that what is shown ends within the test's patience */
    refuse(rig, "outbox_parked", "INSERT");
    rig_run(rig, "INSERT INTO outbox (message_id, topic, payload) VALUES ('bad', 'nowhere', 'x')");
    rig_start(rig);
    assert_true(wait_until(RIG_WAIT_MS, has_trouble, rig->lane));
    rig_bind(rig, "nowhere");
    rig_wait_empty(rig);
    wait_well(rig);
}

/* Requests for rows that a trigger fails on: the others are not kept from their turn. */
static void a_request_that_fails_keeps_no_other(void **state)
{
    struct lane_rig *rig = *state;

    rig_run(rig, "INSERT INTO outbox_parked (outbox, id, message_id, topic, ordering_key,"
                 " content_type, payload, created_at, reason_code, holds_key, request)"
                 " SELECT 'outbox', seq, CONCAT('m', seq), IF(seq %% 5 = 1, 'odd', 't'),"
                 " IF(seq <= 5, CONCAT('k', seq), NULL), 'x/y', 'x', UTC_TIMESTAMP(6), 'TEST',"
                 " seq <= 5, 'resume' FROM " TEST_SEQ " WHERE seq BETWEEN 1 AND 20");
    rig_run(rig, "ALTER TABLE outbox AUTO_INCREMENT = 1000");
    rig_run(rig, "CREATE TRIGGER refuse BEFORE INSERT ON outbox FOR EACH ROW BEGIN"
                 " IF NEW.topic = 'odd' THEN INSERT INTO no_such_table VALUES (1); END IF; END");
    rig_bind(rig, "odd");
    rig_start(rig);
    rig_collect(rig, 16);
    rig_wait_number(rig, 4, PARKED);
    assert_int_equal(rig_number(rig, PARKED " WHERE request = 'resume'"), 4);
    assert_int_equal(rig_stats(rig->lane).db_connects, 1);
    rig_run(rig, "DROP TRIGGER refuse");
    rig_wait_number(rig, 0, PARKED);
    rig_collect(rig, 20);
}

/* A head is tried again; a follower of a frozen key is not published while its head is parked. */
static void a_follower_that_cannot_be_parked(void **state)
{
    struct lane_rig *rig = *state;
    uint64_t follower = 0;
    uint64_t later = 0;

    rig->opts.max_attempts = 1;
    rig_insert(rig, "nowhere", "k", "head");
    rig_start(rig);
    rig_wait_number(rig, 1, PARKED " WHERE holds_key = 1");
    refuse(rig, "outbox_parked", "INSERT");
    rig_run(rig, "INSERT INTO outbox (message_id, topic, ordering_key, payload)"
                 " VALUES ('bad', 't', 'k', 'x')");
    follower = db_insert_id(rig->db);
    assert_true(wait_until(RIG_WAIT_MS, has_trouble, rig->lane));
    later = rig_insert(rig, "t", "k", "later");
    rig_wait_number(rig, 2, PARKED);
    for (int i = 0; i < OTHERS; i++) { /* a few times more, while others go on */
        rig_insert(rig, "t", NULL, "other");
        rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox");
    }
    assert_int_equal(rig_number(rig, "SELECT id FROM outbox"), follower);
    rig_collect_all(rig);
    assert_int_equal(rig_times(rig, follower), 0);
    rig_run(rig, "DROP TRIGGER refuse");
    rig_wait_number(rig, 3, PARKED);
    rig_bind(rig, "nowhere");
    rig_run(rig, "UPDATE outbox_parked SET request = 'resume' WHERE holds_key = 1");
    rig_wait_number(rig, 0, PARKED);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    rig_assert_order(rig);
    assert_int_equal(rig_times(rig, follower), 1);
    assert_int_equal(rig_times(rig, later), 1);
}

/* Rows of the key that come before the one that is given up do not wait for it. */
static void what_comes_before_a_head_goes_on(void **state)
{
    struct lane_rig *rig = *state;
    struct db *other = test_db_open(&rig->test_db.opts);
    struct obx_err err = {0};
    uint64_t early = 0;

    rig->opts.max_attempts = 1;
    test_db_run(other, "START TRANSACTION");
    if (db_exec(other, "INSERT INTO outbox (topic, ordering_key, payload) VALUES ('t', 'k', 'x')",
                DB_NO_ARGS, NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
    early = db_insert_id(other);
    rig_insert(rig, "nowhere", "k", "head");
    rig_start(rig);
    rig_wait_number(rig, 1, PARKED " WHERE holds_key = 1");
    rig_insert(rig, "t", "k", "follower");
    rig_wait_number(rig, 2, PARKED);
    test_db_run(other, "COMMIT");
    rig_collect(rig, 1);
    assert_int_equal(rig->seen[0].id, early);
    rig_wait_empty(rig);
    assert_int_equal(rig_number(rig, PARKED), 2);
    db_close(other);
}

/* ---- copies of messages that await receipts ---- */

/* The queue is gone when a copy is sent again: its followers were sent long ago, so its key is not
 * frozen. Discarded, it is not sent again. */
static void a_copy_does_not_freeze_its_key(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.receipt_timeout_ms = 300;
    rig->opts.max_attempts = 1;
    rig_run(rig, "INSERT INTO outbox (topic, ordering_key, payload, receipt_from)"
                 " VALUES ('t', 'k', 'x', 'g')");
    rig_start(rig);
    rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox_awaiting");
    broker_delete_queue(rig->admin, rig->queue);
    rig_wait_number(rig, 1, PARKED);
    assert_int_equal(rig_number(rig, "SELECT holds_key FROM outbox_parked"), 0);
    broker_queue(rig->admin, rig->queue, NULL, 0);
    rig_bind(rig, "t");
    rig_insert(rig, "t", "k", "later");
    rig_collect(rig, 1);
    rig_run(rig, "UPDATE outbox_parked SET request = 'discard'");
    rig_wait_number(rig, 0, PARKED);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_awaiting"), 0);
    rig_wait_empty(rig);
}

/* The first of its key that asks is a head like any other. */
static void a_row_that_asks_freezes_its_key(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.max_attempts = 1;
    rig_run(rig, "INSERT INTO outbox (topic, ordering_key, payload, receipt_from)"
                 " VALUES ('nowhere', 'k', 'x', 'g'), ('t', 'k', 'x', 'g'), ('t', 'o', 'x', 'g')");
    rig_start(rig);
    rig_wait_number(rig, 2, PARKED);
    rig_wait_empty(rig);
    assert_int_equal(rig_number(rig, PARKED " WHERE holds_key = 1 AND topic = 'nowhere'"), 1);
    assert_int_equal(rig_number(rig, PARKED " WHERE blocked_by IS NOT NULL AND topic = 't'"), 1);
    rig_collect(rig, 1);
}

/* ---- rights ---- */

static const struct right {
    const char *right, *table;
} rights[] = {
    {"DELETE", "outbox"},          {"INSERT", "outbox_parked"},   {"INSERT", "outbox_journal"},
    {"INSERT", "outbox_awaiting"}, {"UPDATE", "outbox_awaiting"},
};

enum { RIGHTS = sizeof(rights) / sizeof(rights[0]) };

static void set_right(struct lane_rig *rig, const struct test_user *user, const struct right *right,
                      bool is_given)
{
    struct db_opts opts = test_db_root_opts();
    struct db *root = test_db_open(&opts);
    char sql[512];

    (void)snprintf(sql, sizeof(sql), "%s %s ON `%s`.%s %s '%s'@'%%'", is_given ? "GRANT" : "REVOKE",
                   right->right, rig->test_db.name, right->table, is_given ? "TO" : "FROM",
                   user->name);
    test_db_run(root, sql);
    db_close(root);
}

static bool is_denied(void *ctx)
{
    return strstr(rig_stats(ctx).trouble, "denied") != NULL;
}

/* A new owner looks before it publishes. */
static void without_a_right_nothing_is_published(void **state)
{
    struct lane_rig *rig = *state;
    struct test_user user;

    test_user_create(&user, &rig->test_db, "relay");
    rig->opts.db = user.opts;
    for (int i = 0; i < RIGHTS; i++) {
        rig_insert(rig, "t", NULL, "x");
        set_right(rig, &user, &rights[i], false);
        rig_start(rig);
        if (!wait_until(RIG_WAIT_MS, is_denied, rig->lane))
            fail_msg("%s on %s: %s", rights[i].right, rights[i].table,
                     rig_stats(rig->lane).trouble);
        assert_int_equal(rig_stats(rig->lane).published, 0);
        set_right(rig, &user, &rights[i], true);
        rig_wait_empty(rig);
        rig_end_lane(rig->lane);
        rig->lane = NULL;
    }
    rig_collect(rig, RIGHTS);
    test_user_drop(&user);
}

/* Taken from an owner at work, it costs no copies: what was published waits for it. */
static void a_right_that_is_taken(void **state)
{
    struct lane_rig *rig = *state;
    struct test_user user;
    uint64_t sent = 0;

    test_user_create(&user, &rig->test_db, "relay");
    rig->opts.db = user.opts;
    rig->opts.settle_max_rows = 20; /* four times as many may be confirmed and not settled */
    rig_start(rig);
    rig_insert(rig, "t", NULL, "x");
    rig_wait_empty(rig);
    set_right(rig, &user, &rights[0], false);
    rig_fill(rig, 1000, 0, 16);
    if (!wait_until(RIG_WAIT_MS, is_denied, rig->lane))
        fail_msg("%s", rig_stats(rig->lane).trouble);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox"), 1000);
    set_right(rig, &user, &rights[0], true);
    rig_wait_empty(rig);
    wait_well(rig);
    assert_int_equal(rig_stats(rig->lane).db_connects, 1);
    sent = rig_stats(rig->lane).published;
    assert_int_equal(sent, 1001);
    rig_collect(rig, 1001);
    rig_end_lane(rig->lane);
    rig->lane = NULL;
    assert_int_equal(rig_number(rig, PARKED), 0);
    test_user_drop(&user);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_row_that_a_side_table_refuses),
        TEST(a_row_that_cannot_be_deleted),
        TEST(a_refused_row_does_not_go_first),
        TEST(dates_that_are_none),
        TEST(a_row_with_id_0),
        TEST(two_awaiting_rows_of_one_id),
        TEST(a_row_that_cannot_be_sent_again),
        TEST(a_delayed_row_that_is_refused),
        TEST(a_crowd_of_refused_delayed_rows),
        TEST(a_delayed_row_of_no_outbox_is_told_of),
        TEST(a_lock_is_no_refusal),
        TEST(a_head_that_is_published_after_all),
        TEST(a_request_that_fails_keeps_no_other),
        TEST(a_follower_that_cannot_be_parked),
        TEST(what_comes_before_a_head_goes_on),
        TEST(a_copy_does_not_freeze_its_key),
        TEST(a_row_that_asks_freezes_its_key),
        TEST(without_a_right_nothing_is_published),
        TEST(a_right_that_is_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
