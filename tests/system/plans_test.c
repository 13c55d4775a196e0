/*
 * Plans are part of the contract: what the product's statements read does not grow with the tables,
 * whatever the server's optimiser would like. Each case runs the product's own functions over full
 * tables and bounds the rows and index entries that the server has read for it. P9.
 *
 * inbox_parked is in consumer_plan_test.c. OBX_TEST_ROWS=1000000 for large tables, by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "core/shared.h"
#include "half/checkback/check_sql.h"
#include "half/half.h"
#include "lane/park/parking.h"
#include "lane/park/requests.h"
#include "lane/read/delayed.h"
#include "lane/read/outbox_store.h"
#include "lane/settle/overdue.h"
#include "outbox/journal.h"
#include "reader_opts.h"
#include "receipts/receipt_batch.h"
#include "sql/schema.h"
#include "store/cleanup.h"
#include "test_db.h"

enum {
    ROWS = 50000, /* far above every bound */
    CAP = 1000,   /* of what is counted */
    PAGE = 500,
    FEW = 40,
    BOUND_FEW = 400 /* a step into an index, for a handful of rows */
};

static struct plans {
    struct test_db test_db;
    struct db *db;
    struct lease lease;
    uint64_t rows;
    struct outbox_store store;
    struct row_batch batch;
    struct parking parking;
    struct journal journal;
    struct awaiting awaiting;
    struct flight *flight;
    struct reader *reader;
} plans;

static struct obx_err err;

static void ok(enum obx_code rc)
{
    if (rc != OBX_OK)
        fail_msg("%s", err.text);
}

/* Afterwards `before` is what has been read by now: a look after each step of the product. */
static void within(const char *what, uint64_t *before, uint64_t bound)
{
    const uint64_t now = test_db_rows_read(plans.db);
    const uint64_t read = now - *before;

    print_message("%8" PRIu64 " of %" PRIu64 "  %s\n", read, bound, what);
    if (read > bound)
        fail_msg("%s: %" PRIu64 " rows read, %" PRIu64 " allowed", what, read, bound);
    *before = test_db_rows_read(plans.db);
}

/* ---- set-up ---- */

/* Each is run over the table numbers (n), n from 1 to the wanted rows; "ROWS" is that number. */
static const char *const fills[] = {
    "INSERT INTO outbox (id, message_id, topic, ordering_key, payload) SELECT n, CONCAT('m-', n),"
    " 't', CONCAT('k', n % 1000), 'x' FROM numbers",
    /* A head and all that has come behind it, rows without a key, another outbox's. */
    "INSERT INTO outbox_parked (outbox, id, message_id, topic, ordering_key, content_type, payload,"
    " created_at, reason_code, holds_key, blocked_by) SELECT IF(n % 4 = 3, 'other', 'outbox'),"
    " n + 10000000, CONCAT('p-', n), 't', CASE n % 4 WHEN 2 THEN NULL WHEN 3 THEN CONCAT('k', n)"
    " ELSE 'hot' END, 'c', 'x', UTC_TIMESTAMP(6), 'r', n % 4 = 3 OR n = 1, IF(n > 1 AND n % 4 < 2,"
    " 10000001, NULL) FROM numbers",
    "INSERT INTO outbox_awaiting (message_id, outbox, id, topic, content_type, payload, created_at,"
    " receipt_from, next_send_at) SELECT CONCAT('a-', n), 'outbox', n + 20000000, 't', 'c', 'x',"
    " UTC_TIMESTAMP(6), 'g', UTC_TIMESTAMP(6) + INTERVAL IF(n <= 40, -1, 1) HOUR FROM numbers",
    "INSERT INTO outbox_receipt (message_id, consumer_group, outcome) SELECT CONCAT('r-', n), 'g',"
    " 'applied' FROM numbers",
    "INSERT INTO outbox_delayed (message_id, outbox, topic, payload, deliver_at) SELECT"
    " CONCAT('d-', n), 'outbox', 't', 'x', UTC_TIMESTAMP(6) + INTERVAL IF(n <= 40, -1, 1) HOUR"
    " FROM numbers",
    "INSERT INTO outbox_journal (is_custom, message_id, outbox, topic, created_at) SELECT n % 2,"
    " IF(n % 2 = 1, CONCAT('j-', n), CONCAT(INSERT(LPAD(LOWER(HEX(UNIX_TIMESTAMP() * 1000)), 12,"
    " '0'), 9, 0, '-'), '-7000-a000-', n)), 'outbox', 't', UTC_TIMESTAMP(6) FROM numbers",
    "INSERT INTO inbox_applied (consumer_group, message_id) SELECT IF(n % 2 = 1, 'g', 'other'),"
    " CONCAT('m-', n) FROM numbers",
    "INSERT INTO half_message (gid, producer, state, next_check_at, decided_at) SELECT"
    " CONCAT('h-', n), CONCAT('p', n % 10), ELT(1 + n % 4, 'prepared', 'committed', 'rolled_back',"
    " 'parked'), IF(n % 4 = 0, UTC_TIMESTAMP(6) + INTERVAL IF(n <= 400, -1, 1) HOUR, NULL),"
    " IF(n % 4 IN (1, 2), UTC_TIMESTAMP(6), NULL) FROM numbers",
    "INSERT INTO half_part (gid, topic, payload) SELECT CONCAT('h-', n), 't', 'x' FROM numbers"
    " WHERE n % 4 = 0",
    "INSERT INTO half_history (gid, event, actor) SELECT CONCAT('h-', n), 'asked', 'check' FROM"
    " numbers",
};
static const char *const tables[] = {
    "outbox",         "outbox_parked", "outbox_awaiting", "outbox_receipt", "outbox_delayed",
    "outbox_journal", "inbox_applied", "half_message",    "half_part",      "half_history"};

static void fill(void)
{
    char sql[256];

    test_db_run(plans.db, "CREATE TABLE numbers (n BIGINT PRIMARY KEY)");
    test_db_run(plans.db, "INSERT INTO numbers VALUES (1)");
    for (uint64_t have = 1; have < plans.rows; have *= 2)
        test_db_run(plans.db, "INSERT INTO numbers SELECT n + (SELECT MAX(n) FROM (SELECT n FROM"
                              " numbers) AS m) FROM numbers");
    (void)snprintf(sql, sizeof(sql), "DELETE FROM numbers WHERE n > %" PRIu64, plans.rows);
    test_db_run(plans.db, sql);
    for (size_t i = 0; i < sizeof(fills) / sizeof(fills[0]); i++)
        test_db_run(plans.db, fills[i]);
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        (void)snprintf(sql, sizeof(sql), "ANALYZE TABLE %s", tables[i]);
        test_db_run(plans.db, sql);
    }
}

static enum obx_code no_forward(void *ctx, uint64_t from, uint32_t limit, struct row_batch *batch,
                                struct obx_err *ignored)
{
    (void)ctx, (void)from, (void)limit, (void)batch, (void)ignored;
    return OBX_OK;
}

static enum obx_code no_behind(void *ctx, const struct id_range *ranges, size_t count,
                               uint32_t limit, struct row_batch *batch, struct obx_err *ignored)
{
    (void)ctx, (void)ranges, (void)count, (void)limit, (void)batch, (void)ignored;
    return OBX_OK;
}

static enum obx_code no_snapshot(void *ctx, bool on, struct obx_err *ignored)
{
    (void)ctx, (void)on, (void)ignored;
    return OBX_OK;
}

static enum obx_code no_frozen(void *ctx, struct row_batch *batch, struct obx_err *ignored)
{
    (void)ctx, (void)batch, (void)ignored;
    return OBX_OK;
}

static uint64_t no_time(void *ctx)
{
    (void)ctx;
    return 1;
}

/* What the statements tell of their rows; it reads nothing here. */
static void make_reader(void)
{
    const struct reader_store store = {.forward = no_forward,
                                       .behind = no_behind,
                                       .snapshot = no_snapshot,
                                       .mark_frozen = no_frozen,
                                       .now_us = no_time};

    ok(flight_create(&default_flight_opts, &plans.flight, &err));
    ok(reader_create(&default_reader_opts, &store, plans.flight, &plans.reader, &err));
}

static void make_lane(void)
{
    const struct lease_opts lease = {.name = "outbox", .owner = "test", .lease_ms = 3600000};
    const struct journal_opts journal = {
        .outbox = "outbox", .table = "`outbox`", .lease = &plans.lease, .retention_ms = 3600000};
    const struct awaiting_opts awaiting = {.outbox = "outbox",
                                           .table = "`outbox`",
                                           .lease = &plans.lease,
                                           .journal = &plans.journal,
                                           .timeout_ms = 60000,
                                           .cap_ms = 60000,
                                           .max_sends = 10};
    bool acquired = false;

    lease_init(&plans.lease, &lease);
    ok(lease_try(&plans.lease, plans.db, &acquired, &err));
    assert_true(acquired);
    ok(outbox_store_init(&plans.store, "outbox", 1000, &err));
    plans.store.db = plans.db;
    ok(parking_init(&plans.parking, "outbox", "`outbox`", &plans.lease, &err));
    ok(journal_init(&plans.journal, &journal, &err));
    ok(awaiting_init(&plans.awaiting, &awaiting, &err));
    make_reader();
}

static int setup(void **state)
{
    const enum schema_side sides[] = {SCHEMA_PRODUCER, SCHEMA_JOURNAL, SCHEMA_HALF,
                                      SCHEMA_CONSUMER};
    const char *wanted = getenv("OBX_TEST_ROWS");

    (void)state;
    plans.rows = wanted == NULL ? ROWS : strtoull(wanted, NULL, 10);
    test_db_create(&plans.test_db, "plans");
    plans.test_db.opts.read_timeout_ms = 600000; /* a million rows are filled by one statement */
    plans.db = test_db_open(&plans.test_db.opts);
    for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++)
        ok(schema_migrate(plans.db, sides[i], NULL, NULL, &err));
    fill();
    make_lane();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    reader_destroy(plans.reader);
    flight_destroy(plans.flight);
    awaiting_fini(&plans.awaiting);
    journal_fini(&plans.journal);
    parking_fini(&plans.parking);
    row_batch_fini(&plans.batch);
    outbox_store_fini(&plans.store);
    db_close(plans.db);
    test_db_drop(&plans.test_db);
    return 0;
}

/* ---- the lane ---- */

static void reading_an_outbox(void **state)
{
    const uint64_t middle = plans.rows / 2;
    const struct id_range ranges[] = {{1, 100}, {middle, middle + 99}};
    struct outbox_counts counts;
    uint64_t ids[FEW];
    uint64_t before = 0;

    (void)state;
    for (size_t i = 0; i < FEW; i++)
        ids[i] = 1 + i * (plans.rows / FEW);
    before = test_db_rows_read(plans.db);
    ok(outbox_store_forward(&plans.store, middle, PAGE, &plans.batch, &err));
    within("a batch", &before, 2 * PAGE + BOUND_FEW);
    row_batch_clear(&plans.batch);
    ok(outbox_store_behind(&plans.store, ranges, 2, PAGE, &plans.batch, &err));
    within("a look behind", &before, 2 * PAGE + BOUND_FEW);
    row_batch_clear(&plans.batch);
    ok(outbox_store_fetch(&plans.store, ids, FEW, &plans.batch, &err));
    within("rows by id", &before, BOUND_FEW);
    row_batch_clear(&plans.batch);
    ok(outbox_store_count(&plans.store, "outbox", CAP, &counts, &err));
    /* Five counts, each of them read once and once more as a derived table. */
    within("the counts", &before, 5 * 2 * CAP + BOUND_FEW);
    assert_int_equal(counts.waiting, CAP);
    assert_int_equal(counts.frozen, 1);
}

/* One head with a quarter of the table behind it, and 1000 keys in a batch. */
static void frozen_keys(void **state)
{
    struct park_item items[FEW];
    uint64_t before = 0;

    (void)state;
    before = test_db_rows_read(plans.db);
    ok(parking_load(&plans.parking, plans.db, &err));
    within("frozen keys at a take-over", &before, BOUND_FEW);
    test_db_run(plans.db, "UPDATE outbox SET ordering_key = 'hot' WHERE id <= 10");
    before = test_db_rows_read(plans.db);
    ok(outbox_store_forward(&plans.store, 1, PAGE, &plans.batch, &err));
    assert_false(plans.parking.has_more);
    before = test_db_rows_read(plans.db);
    plans.parking.has_more = true;
    ok(parking_mark(&plans.parking, plans.db, &plans.batch, &err));
    within("the keys of a batch", &before, 2 * PAGE + BOUND_FEW);
    row_batch_clear(&plans.batch);
    for (size_t i = 0; i < FEW; i++)
        items[i] =
            (struct park_item){.id = 100 + i, .reason_code = "R", .blocked_by = i < 20 ? 99 : 0};
    ok(parking_park(&plans.parking, plans.db, items, FEW, &err));
    within("parking", &before, 10 * FEW + BOUND_FEW);
}

static void operators_requests(void **state)
{
    struct requests requests;
    uint64_t before = 0;

    (void)state;
    ok(requests_init(&requests, &plans.parking, plans.reader, plans.flight, "`outbox`", &err));
    before = test_db_rows_read(plans.db);
    ok(requests_find(&requests, plans.db, &err));
    within("no request", &before, BOUND_FEW);
    assert_false(requests_busy(&requests));
    test_db_run(plans.db, "UPDATE outbox_parked SET request = 'resume' WHERE outbox = 'outbox' AND"
                          " ordering_key IS NULL AND parked_id <= 160");
    before = test_db_rows_read(plans.db);
    for (int i = 0; i < 4; i++) {
        ok(requests_find(&requests, plans.db, &err));
        if (requests_busy(&requests))
            ok(requests_step(&requests, plans.db, &err));
    }
    within("rows without a key resumed", &before, 20 * FEW + BOUND_FEW);
    assert_int_equal(
        test_db_number(plans.db, "SELECT COUNT(*) FROM outbox_parked WHERE request = 'resume'"), 0);
    /* The head, and a step of what is behind it. */
    test_db_run(plans.db, "UPDATE outbox_parked SET request = 'resume' WHERE id = 10000001");
    before = test_db_rows_read(plans.db);
    ok(requests_find(&requests, plans.db, &err));
    assert_true(requests_busy(&requests));
    ok(requests_step(&requests, plans.db, &err));
    within("a step of a frozen key", &before, 10 * PAGE + BOUND_FEW);
    requests_fini(&requests);
}

static void messages_for_later(void **state)
{
    struct delayed delayed;
    bool has_more = false;
    uint64_t before = 0;

    (void)state;
    ok(delayed_init(&delayed, "outbox", "`outbox`", &plans.lease, &err));
    before = test_db_rows_read(plans.db);
    ok(delayed_move(&delayed, plans.db, &has_more, &err));
    within("due messages moved", &before, 10 * FEW + BOUND_FEW);
    assert_int_equal(delayed.moved, FEW);
    ok(delayed_move(&delayed, plans.db, &has_more, &err));
    within("nothing is due", &before, BOUND_FEW);
    ok(delayed_find_stray(&delayed, plans.db, &err));
    within("outboxes without a lane", &before, BOUND_FEW);
    delayed_fini(&delayed);
}

static void messages_that_await_receipts(void **state)
{
    struct overdue overdue;
    bool has_more = false;
    uint64_t ids[FEW];
    uint64_t before = 0;

    (void)state;
    ok(overdue_init(&overdue, &plans.awaiting, plans.reader, &err));
    before = test_db_rows_read(plans.db);
    ok(overdue_scan(&overdue, plans.db, &has_more, &err));
    within("overdue ones sent again", &before, 10 * FEW + BOUND_FEW);
    assert_int_equal(overdue.resends, FEW);
    ok(overdue_scan(&overdue, plans.db, &has_more, &err));
    within("nothing is overdue", &before, BOUND_FEW);
    overdue_fini(&overdue);
    test_db_run(plans.db, "UPDATE outbox SET receipt_from = 'g' WHERE id BETWEEN 1000 AND 1039");
    for (size_t i = 0; i < FEW; i++)
        ids[i] = 1000 + i;
    before = test_db_rows_read(plans.db);
    ok(awaiting_move(&plans.awaiting, plans.db, ids, FEW, &err));
    within("settled ones moved", &before, 10 * FEW + BOUND_FEW);
}

static void the_journal(void **state)
{
    uint64_t ids[FEW];
    bool has_more = false;
    uint64_t before = 0;

    (void)state;
    for (size_t i = 0; i < FEW; i++)
        ids[i] = 2000 + i;
    before = test_db_rows_read(plans.db);
    ok(journal_write(&plans.journal, plans.db, ids, FEW, &err));
    within("journal lines", &before, 10 * FEW + BOUND_FEW);
    for (int i = 0; i < 3; i++) {
        ok(journal_clean(&plans.journal, plans.db, &has_more, &err));
        within("a page of the journal's cleaning", &before, 3 * 1000 + BOUND_FEW);
    }
}

/* ---- receipts ---- */

static void receipts(void **state)
{
    struct receipt_batch batch = {0};
    struct receipt_counts counts;
    struct receipt reports[FEW];
    struct obx_bytes ids[FEW];
    char texts[FEW][32];
    char cursor[65] = "";
    bool is_end = false;
    uint64_t removed = 0, before = 0;

    (void)state;
    for (size_t i = 0; i < FEW; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "a-%" PRIu64, plans.rows - FEW + i);
        ids[i] = bytes_of(texts[i]);
        reports[i] = (struct receipt){.message_id = ids[i], .group = bytes_of("g")};
    }
    before = test_db_rows_read(plans.db);
    ok(receipt_batch_run(&batch, plans.db, reports, FEW, &counts, &err));
    within("reports", &before, 10 * FEW + BOUND_FEW);
    assert_int_equal(counts.settled, FEW);
    ok(receipt_batch_again(&batch, plans.db, ids, FEW, &counts, &err));
    within("another check of reports", &before, 10 * FEW + BOUND_FEW);
    for (int i = 0; i < 3; i++) {
        ok(receipt_batch_clean(&batch, plans.db, cursor, i == 1 ? 0 : 3600000, &removed, &is_end,
                               &err));
        /* Seven reads for each line where all go. */
        within("a page of the receipts' cleaning", &before, 8 * PAGE + BOUND_FEW);
    }
    receipt_batch_fini(&batch);
}

/* ---- half-messages ---- */

static void run_half(struct half_request *req)
{
    bool has_rows = false;

    ok(half_batch_run(plans.db, "outbox", &req, 1, &has_rows, &err));
    if (req->answer != HALF_ANS_OK)
        fail_msg("%s", req->err.text);
}

static void half_messages(void **state)
{
    const struct half_part part = {
        .on = HALF_COMMIT, .topic = bytes_of("t"), .payload = bytes_of("x")};
    struct half_request prepare = {.kind = HALF_REQ_PREPARE,
                                   .gid = bytes_of("h-500-new"),
                                   .producer = bytes_of("p1"),
                                   .first_check_ms = 60000,
                                   .parts = &part,
                                   .part_count = 1};
    struct half_request commit = {.kind = HALF_REQ_VERDICT,
                                  .gid = bytes_of("h-500-new"),
                                  .verdict = HALF_COMMIT,
                                  .actor = "producer"};
    struct half_request lookup = {.kind = HALF_REQ_LOOKUP, .gid = bytes_of("h-500-new")};
    struct half_list list = {.limit = 100};
    uint64_t before = test_db_rows_read(plans.db);

    (void)state;
    run_half(&prepare);
    within("prepare", &before, BOUND_FEW);
    run_half(&commit);
    within("commit", &before, BOUND_FEW);
    run_half(&lookup);
    within("lookup", &before, BOUND_FEW);
    ok(half_list_run(plans.db, &list, &err));
    within("a page of a list", &before, 2 * 100 + BOUND_FEW);
    half_list_fini(&list);
}

/* Every page is bounded, whether many match, few or none; and the pages together are the list. */
static void half_messages_are_listed(void **state)
{
    static const struct {
        const char *what;
        bool has_state;
        enum half_state state;
        const char *producer;
        unsigned one_in; /* 0: nobody */
    } lists[] = {
        {"all", false, HALF_PREPARED, "", 1},
        {"a state of many", true, HALF_ROLLED_BACK, "", 4},
        {"a producer of many", false, HALF_PREPARED, "p1", 10},
        {"a state and a producer of few", true, HALF_PARKED, "p1", 20},
        {"a producer of none", false, HALF_PREPARED, "p-none", 0},
        {"an open state and a producer of none", true, HALF_PREPARED, "p-none", 0},
        {"a decided state and a producer of none", true, HALF_COMMITTED, "p-none", 0},
    };
    const uint64_t scan = 5000; /* LIST_SCAN_MAX */

    (void)state;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct half_list list = {
            .has_state = lists[i].has_state, .state = lists[i].state, .limit = HALF_LIST_MAX};
        uint64_t found = 0, before = test_db_rows_read(plans.db);

        memcpy(list.producer, lists[i].producer, strlen(lists[i].producer) + 1);
        do {
            ok(half_list_run(plans.db, &list, &err));
            within(lists[i].what, &before, 4 * scan + BOUND_FEW);
            found += list.count;
            memcpy(list.after, list.next, sizeof(list.after));
        } while (list.next[0] != '\0' && found <= plans.rows);
        half_list_fini(&list);
        if (plans.rows == ROWS) /* by hand there may be others */
            assert_int_equal(found, lists[i].one_in == 0 ? 0 : ROWS / lists[i].one_in);
    }
}

static void check_back(void **state)
{
    const struct lease_opts lease_opts = {.name = "half:check", .owner = "t", .lease_ms = 600000};
    const struct check_take take = {"p0", 10, 1000, 1000};
    struct lease lease;
    struct due due[10];
    uint32_t taken = 0;
    struct check_counts counts;
    char name[HALF_PRODUCER_MAX + 1] = "";
    bool is_due = false, acquired = false;
    uint64_t parked = 0, seen = UINT64_MAX, operators = 0;
    uint64_t before = 0;

    (void)state;
    lease_init(&lease, &lease_opts);
    ok(lease_try(&lease, plans.db, &acquired, &err));
    before = test_db_rows_read(plans.db);
    ok(check_next_producer(plans.db, "", name, &is_due, &err));
    within("a producer that is due", &before, BOUND_FEW);
    assert_true(is_due);
    ok(check_take_due(plans.db, &lease, &take, due, &taken, &err));
    within("due half-messages", &before, BOUND_FEW);
    assert_int_equal(taken, 10);
    ok(check_park(plans.db, &lease, due, taken, "n", &parked, &err));
    within("parking half-messages", &before, BOUND_FEW);
    ok(check_count(plans.db, CAP, &counts, &err));
    within("counting half-messages", &before, 2 * 2 * CAP + BOUND_FEW);
    for (int i = 0; i < 2; i++)
        ok(check_count_operators(plans.db, &seen, &operators, &err));
    within("counting verdicts", &before, BOUND_FEW);
}

/* All is young, and then all is old. */
static void half_messages_are_cleaned(void **state)
{
    const struct lease_opts lease_opts = {.name = "half:clean", .owner = "t", .lease_ms = 600000};
    struct lease lease;
    char after[HALF_GID_MAX + 1] = "";
    uint64_t after_id = 0, cleaned = 0, lines = 0, before = 0;
    bool acquired = false;

    (void)state;
    lease_init(&lease, &lease_opts);
    ok(lease_try(&lease, plans.db, &acquired, &err));
    before = test_db_rows_read(plans.db);
    for (uint32_t retention_s = 3600; retention_s > 0; retention_s -= 1800) {
        ok(check_clean(plans.db, &lease, after, PAGE, retention_s, &cleaned, &err));
        within("a page of the half-messages' cleaning", &before, 4 * PAGE + BOUND_FEW);
        ok(check_clean_history(plans.db, &lease, &after_id, PAGE, retention_s, &lines, &err));
        within("a page of the history's cleaning", &before, 5 * PAGE + BOUND_FEW);
    }
    assert_int_equal(cleaned, 0);
    test_db_run(plans.db, "UPDATE half_message SET decided_at = '2001-01-01' WHERE state ="
                          " 'committed' AND gid < 'h-2'");
    test_db_run(plans.db, "UPDATE half_history SET at = '2001-01-01' WHERE id > 5000");
    before = test_db_rows_read(plans.db);
    for (int i = 0; i < 3; i++) {
        ok(check_clean(plans.db, &lease, after, PAGE, 1, &cleaned, &err));
        within("a page of the half-messages' cleaning", &before, 4 * PAGE + BOUND_FEW);
        ok(check_clean_history(plans.db, &lease, &after_id, PAGE, 1, &lines, &err));
        within("a page of the history's cleaning", &before, 5 * PAGE + BOUND_FEW);
    }
    assert_true(cleaned > 0);
}

/* ---- the consumer ---- */

static void dedup_is_cleaned(void **state)
{
    struct shared shared = {.settings = {.group = "g", .dedup_retention_s = 3600}};
    struct cleanup cleanup;
    struct cleanup_page page;
    uint64_t before = 0;

    (void)state;
    ok(cleanup_init(&cleanup, &shared, &err));
    cleanup.db = plans.db;
    before = test_db_rows_read(plans.db);
    for (int i = 0; i < 2; i++) {
        ok(cleanup_page(&cleanup, &page, &err));
        within("a page of young dedup rows", &before, 2 * PAGE + BOUND_FEW);
        assert_int_equal(page.old, 0);
    }
    test_db_run(plans.db,
                "UPDATE inbox_applied SET applied_at = '2001-01-01' WHERE consumer_group ="
                " 'g' AND message_id > 'm-3'");
    before = test_db_rows_read(plans.db);
    buf_reset(&cleanup.position);
    ok(buf_add_text(&cleanup.position, "m-3"));
    ok(cleanup_page(&cleanup, &page, &err));
    within("a page of old dedup rows", &before, 4 * PAGE + BOUND_FEW);
    assert_int_equal(page.removed, PAGE);
    cleanup.db = NULL;
    cleanup_fini(&cleanup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading_an_outbox),
        cmocka_unit_test(frozen_keys),
        cmocka_unit_test(operators_requests),
        cmocka_unit_test(messages_for_later),
        cmocka_unit_test(messages_that_await_receipts),
        cmocka_unit_test(the_journal),
        cmocka_unit_test(receipts),
        cmocka_unit_test(half_messages_are_listed),
        cmocka_unit_test(half_messages),
        cmocka_unit_test(check_back),
        cmocka_unit_test(half_messages_are_cleaned),
        cmocka_unit_test(dedup_is_cleaned),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
