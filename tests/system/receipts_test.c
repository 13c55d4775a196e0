/*
 * System tests of the receipts role: a message is settled when all groups it asked have applied it
 * and not before, compensated once when one has rejected it, and nothing else that comes over the
 * queue does anything. P6, P8.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "lane_rig.h"
#include "outbox/receipt_key.h"
#include "receipts/receipt_batch.h"
#include "receipts/receipts.h"
#include "wait.h"

enum { BODY_MAX = 8192 };

static char queue[96];
static struct receipts *role;

static int setup(void **state)
{
    struct lane_rig *rig = NULL;

    if (rig_setup(state) != 0)
        return -1;
    rig = *state;
    (void)snprintf(queue, sizeof(queue), "rowpost.receipts.%s", rig->exchange);
    broker_queue(rig->admin, queue, NULL, 0);
    rig->opts.receipt_queue = queue;
    rig_bind(rig, "t.undo");
    return 0;
}

static int teardown(void **state)
{
    struct lane_rig *rig = *state;

    receipts_destroy(role);
    role = NULL;
    broker_delete_queue(rig->admin, queue);
    return rig_teardown(state);
}

static struct receipts *start_role(struct lane_rig *rig)
{
    const struct receipts_opts opts = {.source = "shop",
                                       .queue = queue,
                                       .db = rig->opts.db,
                                       .bridge = rig->opts.bridge,
                                       .retention_ms = 3600000};
    struct receipts *receipts = NULL;
    struct obx_err err = {0};

    if (receipts_create(&opts, &receipts, &err) != OBX_OK)
        fail_msg("%s", err.text);
    return receipts;
}

static struct receipts_stats stats(void)
{
    struct receipts_stats out;

    receipts_get_stats(role, &out);
    return out;
}

static void insert(struct lane_rig *rig, unsigned rows, const char *from, const char *undo)
{
    struct obx_err err = {0};

    if (db_exec(rig->db,
                "INSERT INTO outbox (topic, ordering_key, payload, receipt_from, on_rejected)"
                " WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)"
                " SELECT 't', CONCAT('k', i % 7), 'body', ?, ? FROM n WHERE i < ? ORDER BY i",
                DB_ARGS(DB_TEXT(from), DB_TEXT(undo), DB_U64(rows)), NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
}

/* Publish a message with what is given between the brackets. */
static void put(struct lane_rig *rig, const char *reports)
{
    char body[BODY_MAX];

    assert_true(snprintf(body, sizeof(body), "{\"receipts\": [%s]}", reports) < BODY_MAX);
    broker_put(rig->admin, queue, "receipts", body);
}

static void report(struct lane_rig *rig, size_t seen, const char *group, const char *outcome)
{
    char text[BODY_MAX];

    (void)snprintf(text, sizeof(text),
                   "{\"message_id\": \"%s\", \"group\": \"%s\", \"outcome\": \"%s\", \"reason\": "
                   "\"because\", \"token\": \"%s\"}",
                   rig->seen[seen].message_id, group, outcome, rig->seen[seen].receipt_token);
    put(rig, text);
}

/* rows messages, confirmed, awaiting, and in rig->seen. */
static void await(struct lane_rig *rig, unsigned rows, const char *from, const char *undo)
{
    insert(rig, rows, from, undo);
    rig_start(rig);
    rig_wait_empty(rig);
    rig_collect(rig, rows);
}

static void wait_awaiting(struct lane_rig *rig, uint64_t count)
{
    rig_wait_number(rig, count, "SELECT COUNT(*) FROM outbox_awaiting");
}

static bool eight_are_noted(void *ctx)
{
    (void)ctx;
    return stats().noted >= 8;
}

static void settled_when_all_have_applied(void **state)
{
    struct lane_rig *rig = *state;

    await(rig, 3, "a,b", "t.undo");
    role = start_role(rig);
    report(rig, 0, "a", "applied");
    report(rig, 0, "b", "applied");
    report(rig, 1, "b", "applied");
    wait_awaiting(rig, 2);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_awaiting WHERE message_id = '%s'",
                                rig->seen[0].message_id),
                     0);
    rig_wait_number(rig, 3, "SELECT COUNT(*) FROM outbox_receipt WHERE outcome = 'applied'");
    wait_awaiting(rig, 2);
    report(rig, 1, "a", "applied");
    wait_awaiting(rig, 1);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_receipt WHERE consumer_group=''"),
                     0);
}

static void doubled_late_and_reordered(void **state)
{
    struct lane_rig *rig = *state;

    await(rig, 2, "a", "t.undo");
    role = start_role(rig);
    for (int i = 0; i < 5; i++)
        report(rig, 1, "a", "applied");
    wait_awaiting(rig, 1);
    report(rig, 0, "a", "applied");
    wait_awaiting(rig, 0);
    /* Late, and of another mind: the first report counts. */
    report(rig, 0, "a", "rejected");
    report(rig, 1, "a", "applied");
    assert_true(wait_until(RIG_WAIT_MS, eight_are_noted, NULL));
    assert_int_equal(
        rig_number(rig, "SELECT COUNT(*) FROM outbox_receipt WHERE outcome = 'applied'"), 2);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_receipt"), 2);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox"), 0);
}

static bool all_are_counted(void *ctx)
{
    struct receipts_stats now = stats();

    (void)ctx;
    return now.unasked == 1 && now.forged == 2 && now.malformed == 3 + 4 + 1 + 1;
}

/* What is wrong is dropped; what stands beside it is taken. */
static void forged_malformed_and_unasked(void **state)
{
    struct lane_rig *rig = *state;
    char text[BODY_MAX];
    const char *id = NULL;
    const char *token = NULL;

    await(rig, 2, "a,b", NULL);
    role = start_role(rig);
    id = rig->seen[0].message_id;
    token = rig->seen[0].receipt_token;
    broker_put(rig->admin, queue, "x", "no json");
    broker_put(rig->admin, queue, "x", "[]");
    broker_put(rig->admin, queue, "x", "");
    put(rig, "1, null, {}, {\"message_id\": \"m\"}");
    (void)snprintf(text, sizeof(text),
                   "{\"message_id\": \"%s\", \"group\": \"a\", \"outcome\": \"perhaps\", "
                   "\"token\": \"%s\"}, {\"message_id\": \"%s\", \"group\": \"a\", \"outcome\": "
                   "\"applied\", \"token\": \"%s\"}, {\"message_id\": \"%s\", \"group\": \"a\", "
                   "\"outcome\": \"applied\", \"token\": \"9.00\"}",
                   id, token, id, rig->seen[1].receipt_token, id);
    put(rig, text);
    report(rig, 0, "c", "rejected");
    (void)snprintf(text, sizeof(text),
                   "{\"message_id\": \"' OR 1 --\", \"group\": \"a\", \"outcome\": \"applied\", "
                   "\"token\": \"1.x\"}, {\"message_id\": \"%s\", \"group\": \"b\", \"outcome\": "
                   "\"applied\", \"token\": \"%s\"}",
                   id, token);
    put(rig, text);
    rig_wait_number(rig, 1, "SELECT COUNT(*) FROM outbox_receipt");
    assert_int_equal(
        rig_number(rig, "SELECT COUNT(*) FROM outbox_receipt WHERE consumer_group = 'b'"), 1);
    wait_awaiting(rig, 2);
    assert_true(wait_until(RIG_WAIT_MS, all_are_counted, NULL));
    report(rig, 0, "a", "applied");
    wait_awaiting(rig, 1);
}

static bool one_is_compensated(void *ctx)
{
    (void)ctx;
    return stats().compensations == 1;
}

static void rejected_is_compensated_once(void **state)
{
    struct lane_rig *rig = *state;
    size_t undone = 0;

    rig->opts.receipt_timeout_ms = 200;
    await(rig, 1, "a,b", "t.undo");
    /* One without a topic for it: only noted. */
    insert(rig, 1, "a", "");
    rig_collect(rig, rig->seen_count + 1);
    role = start_role(rig);
    report(rig, 0, "b", "rejected");
    for (size_t i = 0; i < rig->seen_count; i++) {
        if (strcmp(rig->seen[i].receipt_from, "a") == 0)
            report(rig, i, "a", "rejected");
    }
    wait_awaiting(rig, 0);
    report(rig, 0, "a", "rejected");
    report(rig, 0, "a", "applied");
    report(rig, 0, "b", "rejected");
    rig_wait_number(rig, 3, "SELECT COUNT(*) FROM outbox_receipt WHERE consumer_group <> ''");
    rig_wait_empty(rig);
    rig_wait_number(rig, 2,
                    "SELECT COUNT(*) FROM outbox_receipt WHERE consumer_group = ''"
                    " AND reason = 'because'");
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    rig_collect_all(rig);
    for (size_t i = 0; i < rig->seen_count; i++)
        undone += strcmp(rig->seen[i].topic, "t.undo") == 0;
    assert_int_equal(undone, 1);
    assert_true(wait_until(RIG_WAIT_MS, one_is_compensated, NULL));
}

static bool two_are_settled(void *ctx)
{
    (void)ctx;
    return stats().settled == 2;
}

/* The row comes into outbox_awaiting after its report was written, unseen by the lane's look. */
static void a_report_that_misses_its_row(void **state)
{
    struct lane_rig *rig = *state;

    await(rig, 2, "a", NULL);
    rig_run(rig, "CREATE TABLE kept SELECT * FROM outbox_awaiting");
    rig_run(rig, "DELETE FROM outbox_awaiting");
    role = start_role(rig);
    report(rig, 0, "a", "applied");
    report(rig, 1, "a", "applied");
    rig_wait_number(rig, 2, "SELECT COUNT(*) FROM outbox_receipt");
    rig_run(rig, "INSERT INTO outbox_awaiting SELECT * FROM kept");
    wait_awaiting(rig, 0);
    assert_true(wait_until(RIG_WAIT_MS, two_are_settled, NULL));
    assert_int_equal(rig_stats(rig->lane).resent, 0);
}

static void kill_connections(struct lane_rig *rig)
{
    struct db_rows *rows = NULL;
    struct obx_err err = {0};

    assert_int_equal(db_query(rig->db,
                              "SELECT id FROM information_schema.processlist WHERE db = DATABASE()"
                              " AND id <> CONNECTION_ID()",
                              DB_NO_ARGS, &rows, &err),
                     OBX_OK);
    while (db_rows_next(rows)) {
        char sql[64];

        (void)snprintf(sql, sizeof(sql), "KILL %llu", (unsigned long long)db_rows_u64(rows, 0));
        if (db_exec(rig->db, sql, DB_NO_ARGS, NULL, &err) != OBX_OK)
            continue; /* it has ended by itself */
    }
    db_rows_free(rows);
}

/* Two of them read the queue, reports come three times and out of order, connections are killed. */
static void two_roles_and_a_bad_day(void **state)
{
    enum { ROWS = 300 };
    struct lane_rig *rig = *state;
    struct receipts *second = NULL;
    size_t undone = 0;

    await(rig, ROWS, "a,b", "t.undo");
    role = start_role(rig);
    second = start_role(rig);
    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < ROWS; i++) {
            size_t at = (i * 97 + (size_t)round * 31) % ROWS;

            report(rig, at, round == 1 ? "b" : "a",
                   round != 1 && at % 10 == 0 ? "rejected" : "applied");
            if (i % 100 == 50)
                kill_connections(rig);
        }
    }
    wait_awaiting(rig, 0);
    rig_wait_empty(rig);
    receipts_destroy(second);
    rig_drain_lane(rig->lane);
    rig->lane = NULL;
    rig_collect_all(rig);
    for (size_t i = 0; i < rig->seen_count; i++)
        undone += strncmp(rig->seen[i].message_id, "rej-", 4) == 0;
    /* The relay may publish a message twice; it was written once. */
    assert_true(undone >= ROWS / 10);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_receipt WHERE consumer_group=''"),
                     ROWS / 10);
    for (size_t i = 0; i < ROWS; i++) {
        char id[80];
        uint64_t first = 0;

        (void)snprintf(id, sizeof(id), "rej-%.60s", rig->seen[i].message_id);
        for (size_t k = 0; k < rig->seen_count; k++) {
            if (strcmp(rig->seen[k].message_id, id) != 0)
                continue;
            assert_true(first == 0 || first == rig->seen[k].id);
            first = rig->seen[k].id;
        }
        assert_int_equal(first != 0, i % 10 == 0);
    }
}

static bool queue_is_empty(void *ctx)
{
    struct lane_rig *rig = ctx;

    return broker_count(rig->admin, queue) == 0;
}

/* It has taken something and had several tries at its database since. */
static bool has_tried(void *ctx)
{
    (void)ctx;
    return stats().messages >= 4 && stats().failures >= 5;
}

/* A body of a thousand reports of one message, with the longest reasons. */
static char *large_body(const struct lane_rig *rig)
{
    struct obx_buf body = {0};
    char reason[RECEIPT_REASON_MAX + 1];

    memset(reason, 'r', sizeof(reason));
    reason[RECEIPT_REASON_MAX] = '\0';
    assert_int_equal(buf_add_text(&body, "{\"receipts\": ["), OBX_OK);
    for (int i = 0; i < RECEIPTS_IN_MESSAGE; i++)
        assert_int_equal(buf_addf(&body,
                                  "%s{\"message_id\": \"%s\", \"group\": \"a\", \"outcome\": "
                                  "\"applied\", \"token\": \"%s\", \"reason\": \"%s\"}",
                                  i == 0 ? "" : ",", rig->seen[0].message_id,
                                  rig->seen[0].receipt_token, reason),
                         OBX_OK);
    assert_int_equal(buf_add_text(&body, "]}"), OBX_OK);
    return body.data; /* obx_free */
}

/* While the database is away it does not take in more than it may hold. */
static void a_flood_is_left_in_the_queue(void **state)
{
    enum { MESSAGES = 12, HELD_MAX = 6 };
    struct lane_rig *rig = *state;
    struct db_opts good = rig->opts.db;
    char *body = NULL;

    await(rig, 1, "a", NULL);
    body = large_body(rig);
    for (int i = 0; i < MESSAGES; i++)
        broker_put(rig->admin, queue, "x", body);
    rig->opts.db.port = 1;
    role = start_role(rig);
    assert_true(wait_until(RIG_WAIT_MS, has_tried, NULL));
    assert_true(stats().messages <= HELD_MAX);
    receipts_destroy(role);
    rig->opts.db = good;
    role = start_role(rig);
    wait_awaiting(rig, 0);
    assert_true(wait_until(RIG_WAIT_MS, queue_is_empty, rig));
    obx_free(body);
}

static uint64_t resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*u %llu", &pages), 1);
    (void)fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static bool bombs_are_counted(void *ctx)
{
    (void)ctx;
    return stats().malformed == 2;
}

/* Three megabytes of empty objects, twice: dropped, counted, and gone from the queue; the report
 * after them is taken. Parsed, one of them would take 200 MB. */
static void a_bomb_is_dropped(void **state)
{
    enum { OBJECTS = 1000000, GROWTH_MAX = 64 * 1024 * 1024 };
    struct lane_rig *rig = *state;
    struct obx_buf body = {0};
    uint64_t before;

    await(rig, 1, "a", NULL);
    assert_int_equal(buf_add_text(&body, "{\"receipts\": [{}"), OBX_OK);
    for (int i = 0; i < OBJECTS; i++)
        assert_int_equal(buf_add_text(&body, ",{}"), OBX_OK);
    assert_int_equal(buf_add_text(&body, "]}"), OBX_OK);
    for (int i = 0; i < 2; i++)
        broker_put(rig->admin, queue, "x", body.data);
    report(rig, 0, "a", "applied");
    before = resident_bytes();
    role = start_role(rig);
    wait_awaiting(rig, 0);
    assert_true(wait_until(RIG_WAIT_MS, bombs_are_counted, NULL));
    assert_true(wait_until(RIG_WAIT_MS, queue_is_empty, rig));
    assert_true(resident_bytes() < before + GROWTH_MAX);
    buf_fini(&body);
}

/* ---- one row that somebody holds, or that is refused ---- */

/* Somebody who began a transaction and stands still. */
static struct db *hold(struct lane_rig *rig, const char *sql, const char *message_id)
{
    struct db *other = test_db_open(&rig->test_db.opts);
    struct db_rows *rows = NULL;
    struct obx_err err = {0};

    assert_int_equal(db_begin(other, &err), OBX_OK);
    if (strncmp(sql, "SELECT", 6) == 0) {
        if (db_query(other, sql, DB_ARGS(DB_TEXT(message_id)), &rows, &err) != OBX_OK)
            fail_msg("%s", err.text);
        assert_int_equal(db_rows_count(rows), 1);
        db_rows_free(rows);
    } else if (db_exec(other, sql, DB_ARGS(DB_TEXT(message_id)), NULL, &err) != OBX_OK) {
        fail_msg("%s", err.text);
    }
    return other;
}

static void report_all(struct lane_rig *rig, size_t count)
{
    for (size_t i = 0; i < count; i++)
        report(rig, i, "a", "applied");
}

static void a_locked_row_stops_no_other(void **state)
{
    struct lane_rig *rig = *state;
    struct db *other = NULL;

    await(rig, 30, "a", NULL);
    other = hold(rig, "SELECT id FROM outbox_awaiting WHERE message_id = ? FOR UPDATE",
                 rig->seen[7].message_id);
    role = start_role(rig);
    report_all(rig, 30);
    wait_awaiting(rig, 1);
    assert_int_equal(stats().failures, 0);
    assert_int_equal(db_rollback(other, NULL), OBX_OK);
    wait_awaiting(rig, 0); /* by itself: its report is written */
    db_close(other);
}

static bool one_is_deferred(void *ctx)
{
    (void)ctx;
    return stats().deferred >= 1;
}

/* As a relay that was stopped between its INSERT and its COMMIT. */
static void an_unfinished_report_stops_no_other(void **state)
{
    struct lane_rig *rig = *state;
    struct db *other = NULL;

    await(rig, 30, "a", NULL);
    other = hold(rig,
                 "INSERT INTO outbox_receipt (message_id, consumer_group, outcome)"
                 " VALUES (?, 'a', 'applied')",
                 rig->seen[7].message_id);
    for (size_t i = 0; i < 30; i++) /* in one flush, or the one alone would be tried for ever */
        report(rig, i, "a", "applied");
    role = start_role(rig);
    wait_awaiting(rig, 1);
    assert_true(wait_until(RIG_WAIT_MS, one_is_deferred, NULL));
    assert_true(wait_until(RIG_WAIT_MS, queue_is_empty, rig));
    assert_int_equal(db_rollback(other, NULL), OBX_OK);
    report(rig, 7, "a", "applied"); /* as the consumer does when the message is sent again */
    wait_awaiting(rig, 0);
    db_close(other);
}

/* The compensation of one is refused by the outbox; the others are settled. */
static void a_refused_compensation_stops_no_other(void **state)
{
    struct lane_rig *rig = *state;

    await(rig, 30, "a", "t.undo");
    rig_run(rig, "CREATE TRIGGER no_undo BEFORE INSERT ON outbox FOR EACH ROW"
                 " IF NEW.topic = 't.undo' THEN SIGNAL SQLSTATE '45000'; END IF");
    report(rig, 0, "a", "rejected");
    for (size_t i = 1; i < 30; i++)
        report(rig, i, "a", "applied");
    role = start_role(rig);
    wait_awaiting(rig, 1);
    assert_true(wait_until(RIG_WAIT_MS, one_is_deferred, NULL));
    rig_run(rig, "DROP TRIGGER no_undo");
    report(rig, 0, "a", "rejected");
    wait_awaiting(rig, 0);
    assert_true(wait_until(RIG_WAIT_MS, one_is_compensated, NULL));
}

/* Nothing can be written: nothing is given up, and when it can all of them are settled. */
static void a_fault_of_all_gives_up_nothing(void **state)
{
    struct lane_rig *rig = *state;

    await(rig, 30, "a", NULL);
    rig_run(rig, "CREATE TRIGGER no_receipt BEFORE INSERT ON outbox_receipt FOR EACH ROW"
                 " SIGNAL SQLSTATE '45000'");
    report_all(rig, 30);
    role = start_role(rig);
    assert_true(wait_until(RIG_WAIT_MS, has_tried, NULL));
    assert_int_equal(stats().deferred, 0);
    rig_run(rig, "DROP TRIGGER no_receipt");
    wait_awaiting(rig, 0);
}

/* A source may have any number of outbox tables. */
static void messages_of_many_outboxes(void **state)
{
    enum { ROWS = 70 };
    struct lane_rig *rig = *state;

    await(rig, ROWS, "a", NULL);
    rig_run(rig, "UPDATE outbox_awaiting SET outbox = CONCAT('outbox_', id)");
    role = start_role(rig);
    for (size_t i = 0; i < ROWS; i++)
        report(rig, i, "a", i % 2 == 0 ? "rejected" : "applied");
    wait_awaiting(rig, ROWS / 2); /* their outboxes do not exist, so there is no compensation */
    for (unsigned i = 0; i < ROWS; i++)
        rig_run(rig, "CREATE TABLE IF NOT EXISTS outbox_%u LIKE outbox", i + 1);
    for (size_t i = 0; i < ROWS; i++)
        report(rig, i, "a", i % 2 == 0 ? "rejected" : "applied");
    wait_awaiting(rig, 0);
}

static bool five_are_unasked(void *ctx)
{
    (void)ctx;
    return stats().unasked == 5;
}

/* A token is good for the groups that were asked, also when the message is settled. */
static void invented_groups_write_nothing(void **state)
{
    struct lane_rig *rig = *state;

    await(rig, 1, "a", NULL);
    role = start_role(rig);
    report(rig, 0, "a", "applied");
    wait_awaiting(rig, 0);
    for (char group[] = "x0"; group[1] < '5'; group[1]++)
        report(rig, 0, group, "applied");
    assert_true(wait_until(RIG_WAIT_MS, five_are_unasked, NULL));
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_receipt"), 1);
}

static bool one_is_unasked(void *ctx)
{
    (void)ctx;
    return stats().unasked == 1;
}

static bool has_failed(void *ctx)
{
    (void)ctx;
    return stats().failures >= 1;
}

/* The token is of a secret that is newer than what the role has read, and the secrets cannot be
 * read now: that is no forgery. */
static void secrets_that_cannot_be_read(void **state)
{
    struct lane_rig *rig = *state;
    struct receipt_keys keys = {.count = 0};
    struct receipt_groups groups;
    char token[RECEIPT_TOKEN_SIZE], text[BODY_MAX];
    struct obx_err err = {0};

    await(rig, 1, "a", NULL);
    role = start_role(rig);
    report(rig, 0, "b", "applied"); /* the role has its secrets when this is counted */
    assert_true(wait_until(RIG_WAIT_MS, one_is_unasked, NULL));
    rig_run(rig, "INSERT INTO outbox_secret (version, secret) VALUES (2, REPEAT('s', 32))");
    assert_int_equal(receipt_keys_load(&keys, rig->db, &err), OBX_OK);
    rig_run(rig, "RENAME TABLE outbox_secret TO hidden");
    assert_true(receipt_groups_parse(bytes_of("a"), &groups));
    assert_true(receipt_token_make(&keys, bytes_of(rig->seen[0].message_id), &groups, token));
    assert_memory_equal(token, "2.", 2);
    (void)snprintf(text, sizeof(text),
                   "{\"message_id\": \"%s\", \"group\": \"a\", \"outcome\": \"applied\", "
                   "\"token\": \"%s\"}",
                   rig->seen[0].message_id, token);
    put(rig, text);
    assert_true(wait_until(RIG_WAIT_MS, has_failed, NULL));
    rig_run(rig, "RENAME TABLE hidden TO outbox_secret");
    wait_awaiting(rig, 0);
    assert_int_equal(stats().forged, 0);
}

static bool has_taken_all(void *ctx)
{
    (void)ctx;
    return stats().messages >= 20;
}

static void a_stop_finishes_what_was_taken(void **state)
{
    struct lane_rig *rig = *state;

    await(rig, 20, "a", NULL);
    for (size_t i = 0; i < 20; i++)
        report(rig, i, "a", "applied");
    role = start_role(rig);
    assert_true(wait_until(RIG_WAIT_MS, has_taken_all, NULL));
    receipts_destroy(role);
    role = NULL;
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_awaiting"), 0);
    assert_int_equal(broker_count(rig->admin, queue), 0);
}

/* Old reports go, but for those of messages that are still awaited. */
static void retention(void **state)
{
    struct lane_rig *rig = *state;
    struct receipt_batch batch = {.outbox_count = 0};
    char cursor[RECEIPT_ID_MAX + 1] = "";
    struct obx_err err = {0};
    bool is_end = false;
    uint64_t removed = 0, removed_in_all = 0;
    int pages = 0;

    await(rig, 1, "a,b", NULL);
    rig_run(rig, "INSERT INTO outbox_receipt (message_id, consumer_group, outcome, received_at)"
                 " SELECT message_id, 'a', 'applied', '2001-01-01' FROM outbox_awaiting");
    rig_run(rig, "INSERT INTO outbox_receipt (message_id, consumer_group, outcome, received_at)"
                 " WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)"
                 " SELECT CONCAT(a.i, '-', b.i), g.g, 'applied', IF(b.i %% 2, '2001-01-01',"
                 " UTC_TIMESTAMP(6)) FROM n a JOIN n b JOIN (SELECT 'a' AS g UNION SELECT '') g"
                 " WHERE a.i < 3 AND b.i < 500");
    while (!is_end) {
        assert_int_equal(
            receipt_batch_clean(&batch, rig->db, cursor, 60000, &removed, &is_end, &err), OBX_OK);
        removed_in_all += removed;
        pages++;
    }
    assert_true(pages >= 3);
    assert_int_equal(removed_in_all, 1500);
    assert_string_equal(cursor, "");
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_receipt"), 1500 + 1);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM outbox_receipt WHERE received_at <"
                                     " '2002-01-01'"),
                     1);
    receipt_batch_fini(&batch);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(settled_when_all_have_applied),
        TEST(doubled_late_and_reordered),
        TEST(forged_malformed_and_unasked),
        TEST(rejected_is_compensated_once),
        TEST(a_report_that_misses_its_row),
        TEST(two_roles_and_a_bad_day),
        TEST(a_stop_finishes_what_was_taken),
        TEST(retention),
        TEST(a_flood_is_left_in_the_queue),
        TEST(a_bomb_is_dropped),
        TEST(a_locked_row_stops_no_other),
        TEST(an_unfinished_report_stops_no_other),
        TEST(a_refused_compensation_stops_no_other),
        TEST(a_fault_of_all_gives_up_nothing),
        TEST(messages_of_many_outboxes),
        TEST(invented_groups_write_nothing),
        TEST(secrets_that_cannot_be_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
