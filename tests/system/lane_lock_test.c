/*
 * System tests of rows that another session has locked for the whole of a test, in each table that
 * a lane works on: the others go on, with the lane's own waits and lease as they are by default,
 * nothing is sent a second time, and the row itself goes on when it is free. P7.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lane_rig.h"
#include "wait.h"

#define QUEUE "rowpost.receipts.test"
#define KEYED                                                                                      \
    "INSERT INTO outbox (topic, ordering_key, payload) SELECT 'nowhere', CONCAT('k', seq DIV 2),"  \
    " 'x' FROM " TEST_SEQ " WHERE seq < 60 ORDER BY seq"
#define AWAITING                                                                                   \
    "INSERT INTO outbox_awaiting (message_id, outbox, id, topic, content_type, payload,"           \
    " created_at, receipt_from, on_rejected, next_send_at) SELECT CONCAT('m', seq), 'outbox',"     \
    " seq, 't', 'x/y', 'x', UTC_TIMESTAMP(6), 'g', 't', UTC_TIMESTAMP(6) FROM " TEST_SEQ           \
    " WHERE seq BETWEEN 1 AND 100"
#define PARKED_ROWS                                                                                \
    "INSERT INTO outbox_parked (outbox, id, message_id, topic, ordering_key, content_type,"        \
    " payload, created_at, reason_code, holds_key, blocked_by, request) SELECT 'outbox', seq,"     \
    " CONCAT('m', seq), 't', "

static int setup(void **state)
{
    struct lane_rig *rig = NULL;

    if (rig_setup(state) != 0)
        return -1;
    rig = *state;
    rig->opts.lease_ms = 0; /* the defaults */
    rig->opts.sweep_ms = 0;
    rig->opts.receipt_queue = QUEUE;
    return 0;
}

/* ---- one row of each table ---- */

static const struct held {
    const char *name;
    const char *rows;    /* what there is */
    const char *also;    /* and what else; NULL: nothing */
    const char *lock;    /* what the other session does and does not end */
    const char *others;  /* is 0 when all the others have gone on */
    const char *at_last; /* is 0 when the locked one has, too */
    uint64_t max_sends;  /* messages in all; 0: not counted */
} cases[] = {
    {.name = "a row to be settled",
     .rows =
         "INSERT INTO outbox (topic, payload) SELECT 't', 'x' FROM " TEST_SEQ " WHERE seq < 300",
     .lock = "SELECT id FROM outbox WHERE id = 150 FOR UPDATE",
     .others = "SELECT COUNT(*) FROM outbox WHERE id <> 150",
     .at_last = "SELECT COUNT(*) FROM outbox",
     .max_sends = 300},
    {.name = "a row to be parked",
     .rows = "INSERT INTO outbox (topic, payload) SELECT 'nowhere', 'x' FROM " TEST_SEQ
             " WHERE seq < 300",
     .lock = "SELECT id FROM outbox WHERE id = 150 FOR UPDATE",
     .others = "SELECT COUNT(*) FROM outbox WHERE id <> 150",
     .at_last = "SELECT COUNT(*) FROM outbox"},
    {.name = "the head of a key to be parked",
     .rows = KEYED,
     .lock = "SELECT id FROM outbox WHERE ordering_key = 'k7' ORDER BY id LIMIT 1 FOR UPDATE",
     .others = "SELECT COUNT(*) FROM outbox WHERE ordering_key <> 'k7'",
     .at_last = "SELECT COUNT(*) FROM outbox"},
    {.name = "a message that awaits receipts, overdue",
     .rows = AWAITING,
     .lock = "SELECT id FROM outbox_awaiting WHERE message_id = 'm50' FOR UPDATE",
     .others = "SELECT COUNT(*) FROM outbox_awaiting WHERE sends < 2 AND message_id <> 'm50'",
     .at_last = "SELECT COUNT(*) FROM outbox_awaiting WHERE sends < 2"},
    {.name = "a message that awaits receipts, its copy confirmed",
     .rows = "INSERT INTO outbox (message_id, topic, payload, receipt_from) SELECT"
             " CONCAT('m', seq), 't', 'x', 'g' FROM " TEST_SEQ " WHERE seq BETWEEN 1 AND 300",
     .also = "INSERT INTO outbox_awaiting (message_id, outbox, id, topic, content_type, payload,"
             " created_at, receipt_from, next_send_at) SELECT message_id, 'outbox', id, topic, '',"
             " '', created_at, receipt_from, UTC_TIMESTAMP(6) + INTERVAL 1 HOUR FROM outbox",
     .lock = "SELECT id FROM outbox_awaiting WHERE message_id = 'm50' FOR UPDATE",
     .others = "SELECT COUNT(*) FROM outbox WHERE message_id <> 'm50'",
     .at_last = "SELECT COUNT(*) FROM outbox",
     .max_sends = 300},
    {.name = "what a rejected message has set off",
     .rows = AWAITING " AND seq BETWEEN 48 AND 52", /* few: each halving costs a lock wait */
     .lock = "INSERT INTO outbox_receipt (message_id, consumer_group, outcome)"
             " VALUES ('m50', '', 'rejected')",
     .others = "SELECT COUNT(*) FROM outbox_awaiting WHERE sends < 2 AND message_id <> 'm50'",
     .at_last = "SELECT COUNT(*) FROM outbox_awaiting WHERE message_id = 'm50'"},
    {.name = "a delayed message's whole page",
     .rows = "INSERT INTO outbox_delayed (topic, payload, deliver_at) SELECT 't', 'x',"
             " UTC_TIMESTAMP(6) - INTERVAL 1 DAY + INTERVAL seq SECOND FROM " TEST_SEQ
             " WHERE seq <= 600 ORDER BY seq",
     .lock = "SELECT COUNT(*) FROM (SELECT id FROM outbox_delayed FORCE INDEX (PRIMARY)"
             " WHERE id <= 500 FOR UPDATE) d",
     .others = "SELECT COUNT(*) FROM outbox_delayed WHERE id > 500",
     .at_last = "SELECT COUNT(*) FROM outbox_delayed",
     .max_sends = 600},
    {.name = "a parked row without a key, to be resumed",
     .rows = PARKED_ROWS "NULL, 'x', 'x', UTC_TIMESTAMP(6), 'X', 0, NULL, IF(seq < 50, 'resume',"
                         " 'discard') FROM " TEST_SEQ " WHERE seq BETWEEN 1 AND 100",
     .lock = "SELECT id FROM outbox_parked WHERE outbox = 'outbox' AND id IN (1, 50) FOR UPDATE",
     .others = "SELECT COUNT(*) FROM outbox_parked WHERE id NOT IN (1, 50)",
     .at_last = "SELECT COUNT(*) FROM outbox_parked",
     .max_sends = 49},
    {.name = "a parked head, and a parked follower, of keys to be resumed",
     .rows = PARKED_ROWS "CONCAT('k', (seq - 1) DIV 4), 'x', 'x', UTC_TIMESTAMP(6), 'X',"
                         " MOD(seq, 4) = 1, IF(MOD(seq, 4) = 1, NULL, (seq - 1) DIV 4 * 4 + 1),"
                         " IF(MOD(seq, 4) = 1, 'resume', NULL) FROM " TEST_SEQ
                         " WHERE seq BETWEEN 1 AND 40",
     .lock = "SELECT id FROM outbox_parked WHERE outbox = 'outbox' AND id IN (1, 7) FOR UPDATE",
     .others = "SELECT COUNT(*) FROM outbox_parked WHERE id > 8",
     .at_last = "SELECT COUNT(*) FROM outbox_parked",
     .max_sends = 40},
    {.name = "a follower that is resumed by its head",
     .rows = PARKED_ROWS "CONCAT('k', (seq - 1) DIV 4), 'x', 'x', UTC_TIMESTAMP(6), 'X',"
                         " MOD(seq, 4) = 1, IF(MOD(seq, 4) = 1, NULL, (seq - 1) DIV 4 * 4 + 1),"
                         " IF(MOD(seq, 4) = 2, 'resume', NULL) FROM " TEST_SEQ
                         " WHERE seq BETWEEN 1 AND 12",
     .lock = "SELECT id FROM outbox_parked WHERE outbox = 'outbox' AND id = 1 FOR UPDATE",
     .others = "SELECT COUNT(*) FROM outbox_parked WHERE id > 4",
     .at_last = "SELECT COUNT(*) FROM outbox_parked",
     .max_sends = 12},
};

struct zero_wait {
    struct lane_rig *rig;
    const char *sql;
};

static bool is_zero(void *ctx)
{
    const struct zero_wait *wait = ctx;

    return rig_number(wait->rig, "%s", wait->sql) == 0;
}

static void wait_zero(struct lane_rig *rig, const struct held *held, const char *sql)
{
    struct zero_wait wait = {.rig = rig, .sql = sql};

    if (!wait_until(RIG_WAIT_MS, is_zero, &wait))
        fail_msg("%s: %s: %llu; the lane says: %s", held->name, sql,
                 (unsigned long long)rig_number(rig, "%s", sql), rig_stats(rig->lane).trouble);
}

static void hold_one(struct lane_rig *rig, const struct held *held)
{
    struct db *other = test_db_open(&rig->test_db.opts);
    struct obx_err err = {0};

    rig->opts.max_attempts = 1;
    rig_run(rig, "ALTER TABLE outbox AUTO_INCREMENT = 1");
    rig_run(rig, "%s", held->rows);
    if (held->also != NULL)
        rig_run(rig, "%s", held->also);
    test_db_run(other, "START TRANSACTION");
    if (strncmp(held->lock, "SELECT", 6) == 0)
        (void)test_db_number(other, held->lock);
    else if (db_exec(other, held->lock, DB_NO_ARGS, NULL, &err) != OBX_OK)
        fail_msg("%s: %s", held->name, err.text);
    rig_start(rig);
    if (strstr(held->lock, "INTO outbox_receipt") != NULL)
        rig_run(rig, "INSERT INTO outbox_receipt (message_id, consumer_group, outcome)"
                     " VALUES ('m50', 'g', 'rejected')");
    wait_zero(rig, held, held->others);
    assert_int_not_equal(rig_number(rig, "%s", held->at_last), 0);
    test_db_run(other, "ROLLBACK");
    db_close(other);
    wait_zero(rig, held, held->at_last);
    rig_wait_empty(rig);
    if (rig_stats(rig->lane).db_connects != 1 || rig_stats(rig->lane).lease_lost != 0)
        fail_msg("%s: the connection or the lease was lost", held->name);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    rig_collect_all(rig);
    if (held->max_sends != 0 && rig->seen_count > held->max_sends)
        fail_msg("%s: %zu messages", held->name, rig->seen_count);
    rig_assert_order(rig);
}

static void one_row_held(void **state)
{
    struct lane_rig *rig = *state;
    const char *tables[] = {"outbox", "outbox_awaiting", "outbox_receipt", "outbox_delayed",
                            "outbox_parked"};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        hold_one(rig, &cases[i]);
        rig->seen_count = 0;
        for (size_t j = 0; j < sizeof(tables) / sizeof(tables[0]); j++)
            rig_run(rig, "TRUNCATE TABLE %s", tables[j]);
    }
}

/* ---- a whole table ---- */

/* A backup has locked outbox_awaiting: rows of the same topic that ask for nothing go on, however
 * many wait that do. */
static void a_locked_table_stops_only_those_who_need_it(void **state)
{
    struct lane_rig *rig = *state;
    struct db *other = test_db_open(&rig->test_db.opts);

    rig->opts.settle_max_rows = 50; /* four times as many may be confirmed and not settled */
    test_db_run(other, "LOCK TABLES outbox_awaiting READ, outbox_awaiting a READ");
    rig_run(rig,
            "INSERT INTO outbox (topic, payload, receipt_from) SELECT 't', 'x', 'g' FROM " TEST_SEQ
            " WHERE seq <= 300");
    rig_start(rig);
    rig_wait_confirmed(rig->lane, 200);
    for (int i = 0; i < 2; i++) {
        rig_fill(rig, 100, 0, 16);
        rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox WHERE receipt_from IS NULL");
    }
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox"), 300);
    test_db_run(other, "UNLOCK TABLES");
    db_close(other);
    rig_wait_empty(rig);
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 500);
    assert_int_equal(rig_stats(rig->lane).db_connects, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_row_held),
        TEST(a_locked_table_stops_only_those_who_need_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
