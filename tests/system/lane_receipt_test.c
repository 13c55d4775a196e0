/*
 * System tests of what a lane does with rows that ask for receipts: kept until they were applied,
 * sent again until then, parked after the last send, compensated once. P1, P8. The receipts
 * themselves are put into their table by hand; the role that does so has receipts_test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "lane_rig.h"
#include "outbox/receipt_key.h"
#include "wait.h"

#define QUEUE "rowpost.receipts.test"

static int setup(void **state)
{
    struct lane_rig *rig = NULL;

    if (rig_setup(state) != 0)
        return -1;
    rig = *state;
    rig->opts.receipt_queue = QUEUE;
    return 0;
}

static uint64_t insert(struct lane_rig *rig, const char *key, const char *from, const char *undo)
{
    struct obx_err err = {0};

    if (db_exec(rig->db,
                "INSERT INTO outbox (topic, ordering_key, headers, payload, receipt_from,"
                " on_rejected) VALUES ('t', ?, '{\"a\": 1}', 'body', ?, ?)",
                DB_ARGS(DB_TEXT(key), DB_TEXT(from), DB_TEXT(undo)), NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
    return db_insert_id(rig->db);
}

/* As the receipts role does, for every row that awaits one. */
static void report(struct lane_rig *rig, const char *group, const char *outcome)
{
    rig_run(rig,
            "INSERT INTO outbox_receipt (message_id, consumer_group, outcome, reason)"
            " SELECT message_id, '%s', '%s', 'because' FROM outbox_awaiting",
            group, outcome);
}

static void wait_awaiting(struct lane_rig *rig, uint64_t count)
{
    rig_wait_number(rig, count, "SELECT COUNT(*) FROM outbox_awaiting");
}

static void a_confirmed_row_that_asks_is_kept(void **state)
{
    struct lane_rig *rig = *state;
    struct receipt_keys keys = {.count = 0};
    struct obx_err err = {0};

    insert(rig, "k", "stock, mail", "t.undo");
    rig_insert(rig, "t", "k", "plain");
    insert(rig, NULL, "", NULL); /* asks for nothing */
    rig_run(rig, "CREATE TABLE before_it SELECT * FROM outbox");
    rig_start(rig);
    rig_wait_empty(rig);
    rig_collect(rig, 3);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_awaiting"), 1);
    assert_int_equal(
        rig_number(rig,
                   "SELECT COUNT(*) FROM outbox_awaiting a JOIN before_it b USING (message_id,"
                   " id, topic, ordering_key, content_type, payload, created_at, receipt_from,"
                   " on_rejected) WHERE a.outbox = 'outbox' AND a.sends = 1 AND"
                   " a.headers = CAST(b.headers AS CHAR) AND a.next_send_at > UTC_TIMESTAMP(6)"),
        1);
    assert_string_equal(rig->seen[0].receipt_to, QUEUE);
    assert_string_equal(rig->seen[0].receipt_from, "stock, mail");
    assert_int_equal(receipt_keys_load(&keys, rig->db, &err), OBX_OK);
    assert_int_equal(receipt_token_check(&keys, bytes_of(rig->seen[0].message_id),
                                         bytes_of(rig->seen[0].receipt_token), bytes_of("mail")),
                     RECEIPT_TOKEN_GOOD);
    assert_string_equal(rig->seen[1].receipt_to, "");
    assert_string_equal(rig->seen[2].receipt_token, "");
    assert_int_equal(rig_stats(rig->lane).awaited, 1);
}

/* A consumer may be faster than the relay. */
static void receipts_that_were_there_first(void **state)
{
    struct lane_rig *rig = *state;

    for (int i = 0; i < 30; i++)
        insert(rig, NULL, "a,b", "t.undo");
    rig_run(rig, "INSERT INTO outbox_receipt (message_id, consumer_group, outcome)"
                 " SELECT message_id, 'a', 'applied' FROM outbox WHERE id > 5");
    rig_run(rig, "INSERT INTO outbox_receipt (message_id, consumer_group, outcome)"
                 " SELECT message_id, 'b', 'applied' FROM outbox WHERE id > 10 AND id <= 20");
    rig_run(rig, "INSERT INTO outbox_receipt (message_id, consumer_group, outcome)"
                 " SELECT message_id, 'b', 'rejected' FROM outbox WHERE id > 20 AND id <= 25");
    rig_run(rig, "INSERT INTO outbox_receipt (message_id, consumer_group, outcome)"
                 " SELECT message_id, 'stranger', 'rejected' FROM outbox WHERE id <= 5");
    rig_bind(rig, "t.undo");
    rig_start(rig);
    rig_wait_empty(rig);
    rig_collect(rig, 35);
    /* Complete: 11 to 25. */
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_awaiting WHERE id <= 10"), 10);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_awaiting WHERE id > 25"), 5);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_awaiting"), 15);
    assert_int_equal(rig_stats(rig->lane).receipts_early, 15);
    assert_int_equal(rig_stats(rig->lane).rejected, 5);
    assert_int_equal(
        rig_number(rig, "SELECT COUNT(*) FROM outbox_receipt WHERE consumer_group = ''"), 5);
}

static bool was_sent_again(void *ctx)
{
    struct lane_rig *rig = ctx;

    return rig_number(rig, "SELECT COUNT(*) FROM outbox_awaiting WHERE sends >= 3") == 20;
}

static void sent_again_until_applied(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.receipt_timeout_ms = 100;
    for (int i = 0; i < 20; i++)
        insert(rig, i % 2 == 0 ? "k" : NULL, "g", NULL);
    rig_start(rig);
    if (!wait_until(RIG_WAIT_MS, was_sent_again, rig))
        fail_msg("not sent again: %s", rig_stats(rig->lane).trouble);
    report(rig, "g", "applied");
    wait_awaiting(rig, 0);
    rig_wait_empty(rig);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    rig_collect_all(rig);
    for (uint64_t id = 1; id <= 20; id++)
        assert_true(rig_times(rig, id) >= 3);
    for (size_t i = 0; i < rig->seen_count; i++)
        assert_true(rig->seen[i].receipt_token[0] != '\0');
    rig_assert_order(rig);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_parked"), 0);
}

/* 60, 120 and then 200 seconds, each up to a quarter more. */
static void the_waits_grow(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.receipt_timeout_ms = 60000;
    rig->opts.receipt_cap_ms = 200000;
    insert(rig, NULL, "g", NULL);
    rig_start(rig);
    for (unsigned sends = 1; sends <= 4; sends++) {
        uint64_t wait_s = sends == 1 ? 60 : sends == 2 ? 120 : 200;

        if (sends > 1)
            rig_run(rig, "UPDATE outbox_awaiting SET next_send_at = UTC_TIMESTAMP(6)");
        rig_wait_number(rig, 1,
                        sends == 1   ? "SELECT COUNT(*) FROM outbox_awaiting WHERE sends=1"
                        : sends == 2 ? "SELECT COUNT(*) FROM outbox_awaiting WHERE sends=2"
                        : sends == 3 ? "SELECT COUNT(*) FROM outbox_awaiting WHERE sends=3"
                                     : "SELECT COUNT(*) FROM outbox_awaiting WHERE sends=4");
        assert_in_range(rig_number(rig, "SELECT TIMESTAMPDIFF(SECOND, sent_at, next_send_at)"
                                        " FROM outbox_awaiting"),
                        wait_s - 1, wait_s * 5 / 4);
    }
}

static void parked_after_the_last_send_and_resumed(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.receipt_timeout_ms = 50;
    rig->opts.max_sends = 2;
    insert(rig, "k", "g", "t.undo");
    rig_start(rig);
    rig_wait_number(rig, 1,
                    "SELECT COUNT(*) FROM outbox_parked WHERE reason_code = 'RECEIPT_MISSING'"
                    " AND attempts = 2 AND holds_key = 0 AND receipt_from = 'g' AND"
                    " on_rejected = 't.undo' AND ordering_key = 'k'");
    wait_awaiting(rig, 0);
    rig_wait_empty(rig);
    /* Its key goes on meanwhile. */
    rig_insert(rig, "t", "k", "later");
    rig_wait_empty(rig);
    rig_run(rig, "INSERT INTO outbox_receipt (message_id, consumer_group, outcome)"
                 " SELECT message_id, 'g', 'applied' FROM outbox_parked");
    rig_run(rig, "UPDATE outbox_parked SET request = 'resume'");
    rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox_parked");
    rig_wait_empty(rig);
    wait_awaiting(rig, 0);
    assert_int_equal(rig_stats(rig->lane).receipts_missing, 1);
    rig_collect(rig, 4);
}

/* Whichever part settles it, and however often the message goes around. */
static void compensated_once(void **state)
{
    struct lane_rig *rig = *state;
    size_t undone = 0;

    rig_bind(rig, "t.undo");
    rig->opts.receipt_timeout_ms = 100;
    insert(rig, "k", "a,b", "t.undo");
    insert(rig, NULL, "a,b", NULL);
    rig_run(rig, "CREATE TABLE copies SELECT * FROM outbox");
    rig_start(rig);
    rig_wait_empty(rig);
    report(rig, "a", "rejected");
    report(rig, "b", "rejected");
    wait_awaiting(rig, 0);
    /* The copies that were sent again come back after it was settled. */
    for (int i = 0; i < 3; i++) {
        rig_run(rig, "INSERT INTO outbox SELECT * FROM copies");
        rig_wait_empty(rig);
        wait_awaiting(rig, 0);
    }
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    rig_collect_all(rig);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_receipt"
                                     " WHERE consumer_group = '' AND outcome = 'rejected'"),
                     2);
    for (size_t i = 0; i < rig->seen_count; i++) {
        if (strcmp(rig->seen[i].topic, "t.undo") != 0)
            continue;
        undone++;
        assert_memory_equal(rig->seen[i].message_id, "rej-", 4);
        assert_string_equal(rig->seen[i].key, "k");
        assert_string_equal(rig->seen[i].receipt_to, "");
    }
    assert_int_equal(undone, 1);
}

/* What cannot be asked for is parked with a reason, not sent without. */
static void what_cannot_be_asked_for(void **state)
{
    struct lane_rig *rig = *state;

    insert(rig, NULL, "a,,b", NULL);
    insert(rig, NULL, "a, a", NULL);
    insert(rig, NULL, "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", NULL);
    rig_start(rig);
    rig_wait_number(rig, 3,
                    "SELECT COUNT(*) FROM outbox_parked WHERE reason_code = 'OBX_E_FORMAT'"
                    " AND reason LIKE '%receipt_from%'");
    rig_run(rig, "INSERT INTO outbox (message_id, topic, payload, receipt_from)"
                 " VALUES ('x ', 't', 'x', 'a')");
    rig_wait_number(rig, 1,
                    "SELECT COUNT(*) FROM outbox_parked WHERE reason_code = 'OBX_E_FORMAT'"
                    " AND reason LIKE '%ends in a space%'");
    rig_drain_lane(rig->lane);
    rig->opts.receipt_queue = NULL;
    insert(rig, NULL, "a", NULL);
    rig_start(rig);
    rig_wait_number(rig, 1,
                    "SELECT COUNT(*) FROM outbox_parked WHERE reason_code = 'OBX_E_CONFIG'"
                    " AND reason LIKE '%receipt_queue%'");
    rig_collect_all(rig);
    assert_int_equal(rig->seen_count, 0);
}

/* A copy that was parked because its key is frozen is not made a second time. */
static void a_copy_behind_a_frozen_key(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.receipt_timeout_ms = 100;
    rig_run(rig, "ALTER TABLE outbox AUTO_INCREMENT = 1000");
    insert(rig, "k", "g", NULL);
    rig_run(rig, "INSERT INTO outbox_parked (outbox, id, message_id, topic, ordering_key,"
                 " content_type, payload, created_at, reason_code, holds_key) VALUES"
                 " ('outbox', 999, 'head', 't', 'k', 'c', 'p', UTC_TIMESTAMP(6), 'r', 0)");
    rig_start(rig);
    rig_wait_empty(rig);
    wait_awaiting(rig, 1);
    rig_drain_lane(rig->lane);
    rig_run(rig, "UPDATE outbox_parked SET holds_key = 1");
    rig_start(rig);
    rig_wait_number(rig, 1,
                    "SELECT COUNT(*) FROM outbox_parked WHERE id = 1000 AND blocked_by = 999");
    /* Overdue a few times more: put off each time. */
    for (int i = 0; i < 3; i++) {
        rig_run(rig, "UPDATE outbox_awaiting SET next_send_at = UTC_TIMESTAMP(6)");
        rig_wait_number(
            rig, 1, "SELECT COUNT(*) FROM outbox_awaiting WHERE next_send_at > UTC_TIMESTAMP(6)");
    }
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox"), 0);
    rig_run(rig, "UPDATE outbox_parked SET request = 'resume' WHERE id = 999");
    rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox_parked");
    report(rig, "g", "applied");
    wait_awaiting(rig, 0);
}

/* A receipts role that hangs with locks in its hand holds up nobody else. */
static void locks_on_awaiting_rows(void **state)
{
    struct lane_rig *rig = *state;
    struct db *other = test_db_open(&rig->test_db.opts);

    rig->opts.db.lock_wait_s = 1;
    insert(rig, NULL, "g", NULL);
    rig_start(rig);
    rig_wait_empty(rig);
    wait_awaiting(rig, 1);
    test_db_run(other, "START TRANSACTION");
    assert_int_equal(test_db_number(other, "SELECT id FROM outbox_awaiting FOR UPDATE"), 1);
    /* A copy that is sent again and cannot be moved. */
    rig_run(rig, "INSERT INTO outbox (id, message_id, topic, payload, receipt_from) SELECT id,"
                 " message_id, topic, payload, receipt_from FROM outbox_awaiting");
    rig_collect(rig, 2);
    for (int i = 0; i < 3; i++) {
        rig_fill(rig, 500, 5, 16);
        rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox WHERE receipt_from IS NULL");
    }
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox"), 1);
    test_db_run(other, "ROLLBACK");
    rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox_awaiting WHERE sends > 1");
    rig_wait_empty(rig);
    db_close(other);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_confirmed_row_that_asks_is_kept),
        TEST(receipts_that_were_there_first),
        TEST(sent_again_until_applied),
        TEST(the_waits_grow),
        TEST(parked_after_the_last_send_and_resumed),
        TEST(compensated_once),
        TEST(what_cannot_be_asked_for),
        TEST(a_copy_behind_a_frozen_key),
        TEST(locks_on_awaiting_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
