/*
 * The inbox contract: the statements of docs/inbox.md as they stand, with the rights of the role
 * "inbox worker", at READ COMMITTED and REPEATABLE READ, autocommit on and off (P3, P4, P6, P7).
 * Rows are put in as inbox-relay puts them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "inbox_contract.h"
#include "sql/schema.h"
#include "test_db.h"

enum { PAGE_MAX = 65536, WORKERS = 3, REASON_MAX = 1024 };

struct rig {
    struct test_db database;
    struct test_user user;
    struct db *admin;
    struct db *worker[WORKERS];
};

static struct obx_err err;

static void make(struct rig *rig, const char *session)
{
    test_db_create(&rig->database, "inboxsql");
    rig->admin = test_db_open(&rig->database.opts);
    assert_int_equal(schema_migrate(rig->admin, SCHEMA_INBOX, NULL, NULL, &err), OBX_OK);
    test_db_run(rig->admin, "CREATE TABLE effect (message_id VARBINARY(255) PRIMARY KEY)");
    test_user_create(&rig->user, &rig->database, "inbox worker");
    for (int i = 0; i < WORKERS; i++) {
        rig->worker[i] = test_db_open(&rig->user.opts);
        test_db_run(rig->worker[i], session);
    }
}

static int read_committed(void **state)
{
    static struct rig rig;

    make(&rig, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED");
    *state = &rig;
    return 0;
}

static int repeatable_read(void **state)
{
    static struct rig rig;

    make(&rig, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ");
    *state = &rig;
    return 0;
}

static int autocommit_on(void **state)
{
    static struct rig rig;

    make(&rig, "SET SESSION autocommit = 1");
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    for (int i = 0; i < WORKERS; i++)
        db_close(rig->worker[i]);
    db_close(rig->admin);
    test_user_drop(&rig->user);
    test_db_drop(&rig->database);
    return 0;
}

/* A row as inbox-relay stores it: after the last one of its key, ready when there is none. */
static void store(struct rig *rig, const char *message_id, const char *key)
{
    static const char insert[] =
        "INSERT INTO inbox (queue, state, due_at, key_hash, after_id, message_id, topic, "
        "ordering_key, size, payload, max_attempts, retry_min_ms) VALUES ('q', ?, IF(?, "
        "UTC_TIMESTAMP(6), NULL), UNHEX(LEFT(SHA2(?, 256), 32)), ?, ?, 't', ?, 1, 'p', 3, 50)";
    uint64_t tail = 0;
    struct db_rows *rows = NULL;

    assert_int_equal(db_query(rig->admin,
                              "SELECT id FROM inbox WHERE queue = 'q' AND key_hash = "
                              "UNHEX(LEFT(SHA2(?, 256), 32)) ORDER BY after_id DESC LIMIT 1",
                              DB_ARGS(DB_TEXT(key)), &rows, &err),
                     OBX_OK);
    if (db_rows_next(rows))
        tail = db_rows_u64(rows, 0);
    db_rows_free(rows);
    if (db_exec(rig->admin, insert,
                DB_ARGS(DB_TEXT(tail == 0 ? "ready" : "blocked"), DB_U64(tail == 0), DB_TEXT(key),
                        DB_U64(tail), DB_TEXT(message_id), DB_TEXT(key)),
                NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
}

static struct inbox_taken take(struct db *db, const char *expected)
{
    struct inbox_taken taken = {0};
    bool found = false;

    if (inbox_take(db, "q", NULL, &taken, &found, &err) != OBX_OK)
        fail_msg("%s", err.text);
    assert_string_equal(found ? taken.message_id : "nothing", expected);
    return taken;
}

static void begin(struct db *db)
{
    assert_int_equal(db_begin(db, &err), OBX_OK);
}

static void done(struct db *db, const struct inbox_taken *taken)
{
    if (inbox_done(db, "q", taken, NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
}

static void commit(struct db *db)
{
    assert_int_equal(db_commit(db, &err), OBX_OK);
}

static void rollback(struct db *db)
{
    assert_int_equal(db_rollback(db, &err), OBX_OK);
}

static uint64_t count(struct rig *rig, const char *state)
{
    char sql[128];

    (void)snprintf(sql, sizeof(sql), "SELECT COUNT(*) FROM inbox WHERE state = '%s'", state);
    return test_db_number(rig->admin, sql);
}

/* The page and the file have the same statements. */
static void the_page_has_the_statements(void **state)
{
    static char page[PAGE_MAX], block[8192];
    FILE *file = fopen(INBOX_PAGE, "r");

    (void)state;
    assert_non_null(file);
    page[fread(page, 1, sizeof(page) - 1, file)] = '\0';
    (void)fclose(file);
    for (int i = 0; i < INBOX_STATEMENTS; i++) {
        const char *heading;

        (void)snprintf(block, sizeof(block), "\n### %s\n",
                       inbox_statement_name((enum inbox_statement)i));
        heading = strstr(page, block);
        assert_non_null(heading);
        (void)snprintf(block, sizeof(block), "```sql\n%s;\n```",
                       inbox_statement_text((enum inbox_statement)i));
        heading = strstr(heading, "```sql\n");
        assert_non_null(heading);
        if (strncmp(heading, block, strlen(block)) != 0)
            fail_msg("the page differs from the file in %s",
                     inbox_statement_name((enum inbox_statement)i));
    }
}

static void order_of_a_key_and_freedom_of_the_others(void **state)
{
    struct rig *rig = *state;
    struct inbox_taken first, other;

    store(rig, "a1", "A");
    store(rig, "a2", "A");
    store(rig, "b1", "B");
    store(rig, "n1", NULL);
    for (int i = 0; i < WORKERS; i++)
        begin(rig->worker[i]);
    first = take(rig->worker[0], "a1");
    other = take(rig->worker[1], "b1");
    done(rig->worker[1], &other);
    commit(rig->worker[1]);
    other = take(rig->worker[2], "n1");
    done(rig->worker[2], &other);
    commit(rig->worker[2]);
    begin(rig->worker[1]);
    (void)take(rig->worker[1], "nothing"); /* a2 waits for a1 */
    rollback(rig->worker[1]);
    done(rig->worker[0], &first);
    begin(rig->worker[1]);
    (void)take(rig->worker[1], "nothing"); /* not committed yet */
    rollback(rig->worker[1]);
    commit(rig->worker[0]);
    begin(rig->worker[1]);
    other = take(rig->worker[1], "a2");
    done(rig->worker[1], &other);
    commit(rig->worker[1]);
    assert_int_equal(count(rig, "done"), 4);
}

/* What a crash comes to for the database. */
static void a_rollback_leaves_it_where_it_was(void **state)
{
    struct rig *rig = *state;
    struct inbox_taken taken;

    store(rig, "a1", "A");
    store(rig, "a2", "A");
    begin(rig->worker[0]);
    taken = take(rig->worker[0], "a1");
    done(rig->worker[0], &taken);
    db_close(rig->worker[0]);
    rig->worker[0] = test_db_open(&rig->user.opts);
    begin(rig->worker[1]);
    while (true) { /* until the server has seen the end of the session */
        struct inbox_taken again = {0};
        bool found = false;

        assert_int_equal(inbox_take(rig->worker[1], "q", NULL, &again, &found, &err), OBX_OK);
        if (found) {
            assert_string_equal(again.message_id, "a1");
            assert_int_equal(again.attempt, 1);
            break;
        }
    }
    rollback(rig->worker[1]);
    assert_int_equal(count(rig, "blocked"), 1);
}

static void run_key_to_the_end(struct rig *rig, const char *first)
{
    struct inbox_taken taken;
    uint64_t next = 0;
    unsigned rows = 0;

    begin(rig->worker[0]);
    taken = take(rig->worker[0], first);
    do {
        assert_int_equal(inbox_done(rig->worker[0], "q", &taken, &next, &err), OBX_OK);
        rows++;
        if (next != 0)
            assert_int_equal(inbox_following(rig->worker[0], next, &taken, &err), OBX_OK);
    } while (next != 0);
    commit(rig->worker[0]);
    assert_int_equal(count(rig, "done"), rows);
}

static void a_key_in_one_transaction(void **state)
{
    struct rig *rig = *state;

    store(rig, "a1", "A");
    store(rig, "a2", "A");
    store(rig, "a3", "A");
    run_key_to_the_end(rig, "a1");
    assert_int_equal(count(rig, "done"), 3);
}

static void fail_once(struct db *db, const char *expected, int64_t delay_ms)
{
    struct inbox_taken taken;

    begin(db);
    taken = take(db, expected);
    test_db_run(db, "SAVEPOINT work");
    test_db_run(db, "ROLLBACK TO SAVEPOINT work");
    if (inbox_retry(db, &taken, delay_ms, "no stock", &err) != OBX_OK)
        fail_msg("%s", err.text);
    commit(db);
}

static void attempts_come_to_an_end(void **state)
{
    struct rig *rig = *state;

    store(rig, "a1", "A");
    store(rig, "a2", "A");
    store(rig, "b1", "B");
    fail_once(rig->worker[0], "a1", 3600000);
    fail_once(rig->worker[0], "b1", 0); /* a1 waits for its hour, a2 for a1 */
    assert_int_equal(test_db_number(rig->admin,
                                    "SELECT COUNT(*) FROM inbox WHERE message_id = 'a1' AND "
                                    "due_at > UTC_TIMESTAMP(6) + INTERVAL 59 MINUTE"),
                     1);
    test_db_run(rig->admin, "UPDATE inbox SET due_at = UTC_TIMESTAMP(6) WHERE message_id = 'a1'");
    fail_once(rig->worker[0], "b1", 0);
    fail_once(rig->worker[0], "a1", -1);
    assert_int_equal(test_db_number(rig->admin,
                                    "SELECT COUNT(*) FROM inbox WHERE message_id = 'a1' AND due_at"
                                    " BETWEEN UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE AND "
                                    "UTC_TIMESTAMP(6) + INTERVAL 100000 MICROSECOND"),
                     1);
    fail_once(rig->worker[0], "b1", 0);
    assert_int_equal(test_db_number(rig->admin,
                                    "SELECT attempts FROM inbox WHERE message_id = 'b1' AND "
                                    "state = 'dead' AND reason = 'no stock'"),
                     3);
    assert_int_equal(count(rig, "blocked"), 1);
}

static void run(struct db *db, enum inbox_statement statement, uint64_t id, uint64_t expected)
{
    uint64_t changed = 0;

    if (db_exec(db, inbox_statement_text(statement), DB_ARGS(DB_U64(id)), &changed, &err) != OBX_OK)
        fail_msg("%s", err.text);
    assert_int_equal(changed, expected);
}

static void a_rejected_one_holds_its_key_until_an_operator_decides(void **state)
{
    struct rig *rig = *state;
    struct inbox_taken taken;

    store(rig, "a1", "A");
    store(rig, "a2", "A");
    begin(rig->worker[0]);
    taken = take(rig->worker[0], "a1");
    assert_int_equal(inbox_reject(rig->worker[0], &taken, "unknown order", &err), OBX_OK);
    commit(rig->worker[0]);
    begin(rig->worker[0]);
    (void)take(rig->worker[0], "nothing");
    rollback(rig->worker[0]);
    run(rig->worker[0], INBOX_REPLAY, taken.id, 1);
    run(rig->worker[0], INBOX_REPLAY, taken.id, 0);
    begin(rig->worker[0]);
    taken = take(rig->worker[0], "a1");
    assert_int_equal(taken.attempt, 1);
    assert_int_equal(inbox_reject(rig->worker[0], &taken, "unknown order", &err), OBX_OK);
    commit(rig->worker[0]);
    run(rig->worker[0], INBOX_DISCARD, taken.id, 1);
    run(rig->worker[0], INBOX_DISCARD, taken.id, 0);
    assert_int_equal(count(rig, "discarded"), 1);
}

/* For those without savepoints. */
static void failed_takes_only_what_nobody_else_has(void **state)
{
    struct rig *rig = *state;
    struct inbox_taken taken;
    struct db_rows *rows = NULL;
    const char *failed = inbox_statement_text(INBOX_FAILED);

    store(rig, "a1", "A");
    begin(rig->worker[0]);
    taken = take(rig->worker[0], "a1");
    rollback(rig->worker[0]);
    begin(rig->worker[1]);
    (void)take(rig->worker[1], "a1");
    begin(rig->worker[0]);
    assert_int_equal(
        db_query(rig->worker[0], failed, DB_ARGS(DB_U64(taken.id), DB_U64(1)), &rows, &err),
        OBX_OK);
    assert_false(db_rows_next(rows));
    db_rows_free(rows);
    rollback(rig->worker[0]);
    rollback(rig->worker[1]);
    begin(rig->worker[0]);
    assert_int_equal(
        db_query(rig->worker[0], failed, DB_ARGS(DB_U64(taken.id), DB_U64(1)), &rows, &err),
        OBX_OK);
    assert_true(db_rows_next(rows));
    db_rows_free(rows);
    assert_int_equal(inbox_retry(rig->worker[0], &taken, 0, "x", &err), OBX_OK);
    commit(rig->worker[0]);
    begin(rig->worker[0]);
    assert_int_equal(take(rig->worker[0], "a1").attempt, 2);
    rollback(rig->worker[0]);
}

static void counted_attempts_survive_the_worker(void **state)
{
    struct rig *rig = *state;
    struct inbox_taken taken = {0};
    uint64_t changed = 0;

    store(rig, "a1", "A");
    for (unsigned attempt = 1; attempt <= 4; attempt++) {
        begin(rig->worker[0]);
        taken = take(rig->worker[0], "a1");
        assert_int_equal(taken.attempt, attempt);
        run(rig->worker[0], INBOX_COUNT, taken.id, 1);
        commit(rig->worker[0]);
        begin(rig->worker[0]);
        assert_int_equal(db_exec(rig->worker[0], inbox_statement_text(INBOX_COUNTED),
                                 DB_ARGS(DB_U64(taken.id), DB_U64(taken.attempt)), &changed, &err),
                         OBX_OK);
        assert_int_equal(changed, attempt < 4 ? 1 : 0);
        rollback(rig->worker[0]); /* it ends here */
        test_db_run(rig->admin, "UPDATE inbox SET due_at = UTC_TIMESTAMP(6)");
    }
    assert_int_equal(count(rig, "dead"), 1);
    run(rig->worker[0], INBOX_REPLAY, taken.id, 1);
    begin(rig->worker[0]);
    taken = take(rig->worker[0], "a1");
    run(rig->worker[0], INBOX_COUNT, taken.id, 1);
    commit(rig->worker[0]);
    begin(rig->worker[0]);
    assert_int_equal(db_exec(rig->worker[0], inbox_statement_text(INBOX_COUNTED),
                             DB_ARGS(DB_U64(taken.id), DB_U64(taken.attempt)), &changed, &err),
                     OBX_OK);
    done(rig->worker[0], &taken);
    commit(rig->worker[0]);
    assert_int_equal(test_db_number(rig->admin, "SELECT attempts FROM inbox WHERE state = 'done'"),
                     0);
}

/* The beginning of a reason that is kept: so many bytes, as they were given. */
static void expect_reason(struct rig *rig, const char *reason)
{
    const size_t len = reason == NULL ? 0 : strlen(reason);
    const size_t kept = len < REASON_MAX ? len : REASON_MAX;
    struct db_rows *rows = NULL;

    assert_int_equal(db_query(rig->admin, "SELECT reason FROM inbox", DB_NO_ARGS, &rows, &err),
                     OBX_OK);
    assert_true(db_rows_next(rows));
    assert_int_equal(db_rows_bytes(rows, 0).len, kept);
    assert_memory_equal(db_rows_bytes(rows, 0).p, reason == NULL ? "" : reason, kept);
    db_rows_free(rows);
}

static void note_reason(struct rig *rig, const char *reason, bool is_rejected)
{
    struct inbox_taken taken;

    begin(rig->worker[0]);
    taken = take(rig->worker[0], "a1");
    if ((is_rejected ? inbox_reject(rig->worker[0], &taken, reason, &err)
                     : inbox_retry(rig->worker[0], &taken, 0, reason, &err)) != OBX_OK)
        fail_msg("%s", err.text);
    commit(rig->worker[0]);
    expect_reason(rig, reason);
    test_db_run(rig->admin, "UPDATE inbox SET attempts = 0, state = 'ready', due_at ="
                            " UTC_TIMESTAMP(6)");
}

/* so often the same text */
static char *repeated(const char *unit, size_t times)
{
    const size_t len = strlen(unit);
    char *text = calloc(times, len + 1);

    assert_non_null(text);
    for (size_t i = 0; i < times; i++)
        memcpy(text + i * len, unit, len);
    return text;
}

/* A reason may be any bytes, or none, and of any length that the packet lets through: noting a
 * failure must never fail by it. Bytes are counted, whatever characters they make. */
static void any_reason_can_be_noted(void **state)
{
    char *reasons[] = {repeated("\xff\xfe cut \xe2\x82", 1),
                       repeated("\xff\xfe cut \xe2\x82", 500),
                       repeated("\xE2", 4095),            /* each a broken character */
                       repeated("\xF0\x9F\x94\x91", 256), /* four bytes each: 1024 of them */
                       repeated("\xF0\x9F\x94\x91", 5000),
                       repeated("\xC3\xA9 ' \\ %", 700),
                       repeated("12", 4),                        /* a number is a text, too */
                       repeated("0123456789abcdef", 600 * 1024), /* twice that is no packet */
                       NULL};
    struct rig *rig = *state;

    store(rig, "a1", "A");
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        note_reason(rig, reasons[i], false);
        note_reason(rig, reasons[i], true);
        free(reasons[i]);
    }
}

/* Half a thousand years later is not a time that the row could keep. */
static void a_delay_beyond_all_bounds_is_cut(void **state)
{
    struct rig *rig = *state;
    struct inbox_taken taken;

    store(rig, "a1", "A");
    begin(rig->worker[0]);
    taken = take(rig->worker[0], "a1");
    if (inbox_retry(rig->worker[0], &taken, INT64_MAX / 2, "later", &err) != OBX_OK)
        fail_msg("%s", err.text);
    commit(rig->worker[0]);
    assert_int_equal(test_db_number(rig->admin, "SELECT COUNT(*) FROM inbox WHERE due_at BETWEEN "
                                                "UTC_TIMESTAMP() + INTERVAL 364 DAY AND "
                                                "UTC_TIMESTAMP() + INTERVAL 366 DAY"),
                     1);
}

static void a_payload_larger_than_the_session_takes(void **state)
{
    struct rig *rig = *state;
    struct inbox_taken taken;
    struct db_rows *rows = NULL;

    store(rig, "a1", "A");
    test_db_run(rig->admin, "UPDATE inbox SET payload = CONCAT('head', REPEAT('x', 2000000), "
                            "'tail'), size = 2000008");
    begin(rig->worker[0]);
    taken = take(rig->worker[0], "a1");
    assert_true(taken.has_payload);
    rollback(rig->worker[0]);
    test_db_run(rig->admin, "UPDATE inbox SET size = 1 << 62"); /* as if it were larger than that */
    begin(rig->worker[0]);
    taken = take(rig->worker[0], "a1");
    assert_false(taken.has_payload);
    assert_int_equal(db_query(rig->worker[0], inbox_statement_text(INBOX_PAYLOAD),
                              DB_ARGS(DB_U64(2000004), DB_U64(100), DB_U64(taken.id)), &rows, &err),
                     OBX_OK);
    assert_true(db_rows_next(rows));
    assert_true(bytes_is(db_rows_bytes(rows, 0), "tail"));
    db_rows_free(rows);
    rollback(rig->worker[0]);
}

/* inbox-relay has stored it and not committed: nobody waits, and nobody is overtaken. */
static void what_is_not_committed_is_passed_over(void **state)
{
    struct rig *rig = *state;
    struct inbox_taken taken;

    store(rig, "a1", "A");
    begin(rig->admin);
    store(rig, "a2", "A");
    store(rig, "n1", NULL);
    begin(rig->worker[0]);
    taken = take(rig->worker[0], "a1");
    done(rig->worker[0], &taken);
    commit(rig->worker[0]);
    begin(rig->worker[0]);
    (void)take(rig->worker[0], "nothing");
    rollback(rig->worker[0]);
    commit(rig->admin);
    begin(rig->worker[0]);
    (void)take(rig->worker[0], "n1");
    rollback(rig->worker[0]);
    assert_int_equal(count(rig, "blocked"), 1); /* for inbox-relay to find, which files a1 */
}

/* What the page requires READ COMMITTED for: the handler of one queue holds nothing of another. */
static void queues_share_a_table(void **state)
{
    struct rig *rig = *state;
    struct inbox_taken other, taken;
    bool found = false;

    test_db_run(rig->worker[1], "SET SESSION innodb_lock_wait_timeout = 1");
    store(rig, "b1", NULL);
    store(rig, "a1", NULL);
    test_db_run(rig->admin, "UPDATE inbox SET queue = 'p' WHERE message_id = 'a1'");
    begin(rig->worker[0]);
    other = take(rig->worker[0], "b1");
    begin(rig->worker[1]);
    assert_int_equal(inbox_take(rig->worker[1], "p", NULL, &taken, &found, &err), OBX_OK);
    assert_true(found);
    done(rig->worker[1], &taken);
    commit(rig->worker[1]);
    store(rig, "b2", NULL);
    done(rig->worker[0], &other);
    commit(rig->worker[0]);
    assert_int_equal(count(rig, "done"), 2);
}

#define EACH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, read_committed, teardown),                               \
        cmocka_unit_test_setup_teardown(test, repeatable_read, teardown),                          \
        cmocka_unit_test_setup_teardown(test, autocommit_on, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_has_the_statements),
        EACH(order_of_a_key_and_freedom_of_the_others),
        EACH(a_rollback_leaves_it_where_it_was),
        EACH(a_key_in_one_transaction),
        EACH(attempts_come_to_an_end),
        EACH(a_rejected_one_holds_its_key_until_an_operator_decides),
        EACH(failed_takes_only_what_nobody_else_has),
        EACH(counted_attempts_survive_the_worker),
        EACH(any_reason_can_be_noted),
        EACH(a_delay_beyond_all_bounds_is_cut),
        EACH(a_payload_larger_than_the_session_takes),
        EACH(what_is_not_committed_is_passed_over),
        cmocka_unit_test_setup_teardown(queues_share_a_table, read_committed, teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    db_thread_end();
    return failed;
}
