/*
 * System tests of sql/db.h when things go wrong: locks, deadlines, cut connections, an unknown
 * COMMIT, bad values, missing rights, short memory. Each fault is produced for real on the server
 * or on the wire.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "cut_proxy.h"
#include "test_db.h"
#include "wait.h"

enum { DEADLINE_MS = 20000 };

static struct test_db test;
static struct cut_proxy *proxy;
static struct db *db;    /* straight to the server */
static struct db *other; /* the same, for the second party */
static struct obx_err err;

static int make_database(void **state)
{
    (void)state;
    test_db_create(&test, "fault");
    return 0;
}

static int drop_database(void **state)
{
    (void)state;
    test_db_drop(&test);
    return 0;
}

static int open_both(void **state)
{
    (void)state;
    obx_err_clear(&err);
    db = test_db_open(&test.opts);
    other = test_db_open(&test.opts);
    proxy = cut_proxy_create(test.opts.host, test.opts.port);
    assert_non_null(proxy);
    test_db_run(db, "CREATE TABLE t (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, v VARCHAR(5) NULL, "
                    "j JSON NULL, n INT NOT NULL DEFAULT 0, CHECK (n < 100)) ENGINE = InnoDB");
    test_db_run(db, "INSERT INTO t (id) VALUES (1), (2)");
    return 0;
}

static int close_both(void **state)
{
    (void)state;
    db_close(db);
    db = test_db_open(&test.opts);
    db_close(other);
    test_db_run(db, "DROP TABLE t");
    db_close(db);
    cut_proxy_destroy(proxy);
    db = NULL;
    other = NULL;
    proxy = NULL;
    return 0;
}

/* How the hasty connections are made; the faults on the wire are tried both ways. */
static enum db_tls tls;

/* Not every byte, to save time: three is prime to the four of a packet's head, so each place of it
 * is met. */
static uint64_t cut_step(void)
{
    return tls == DB_TLS_DISABLED ? 3 : 61;
}

/* Run a test of the wire without TLS and with it. */
static void both_ways(void (*run)(void))
{
    tls = DB_TLS_DISABLED;
    run();
    tls = DB_TLS_REQUIRED;
    run();
    tls = DB_TLS_PREFERRED;
}

/* One second for everything, so that a deadline can be waited for. */
static struct db_opts hasty_opts(bool through_proxy)
{
    struct db_opts opts = test.opts;

    opts.connect_timeout_ms = 1000;
    opts.read_timeout_ms = 1000;
    opts.write_timeout_ms = 1000;
    opts.lock_wait_s = 1;
    opts.tls = tls;
    if (through_proxy)
        opts.port = cut_proxy_port(proxy);
    return opts;
}

/* ---- locks ---- */

/* A statement run on a thread of its own, because it will wait. */
struct waiter {
    struct db *db;
    const char *sql;
    enum obx_code code;
    struct obx_err err;
    pthread_t thread;
};

static void *run_waiter(void *arg)
{
    struct waiter *waiter = arg;

    waiter->code = db_exec(waiter->db, waiter->sql, DB_NO_ARGS, NULL, &waiter->err);
    db_thread_end();
    return NULL;
}

static bool is_waiting(void *ctx)
{
    const uint64_t *id = ctx;
    char sql[160];

    (void)snprintf(
        sql, sizeof(sql),
        "SELECT COUNT(*) FROM information_schema.processlist WHERE id = %" PRIu64
        " AND command = 'Query' AND (state LIKE 'Updating%%' OR state LIKE 'updating%%')",
        *id);
    return test_db_number(other, sql) == 1;
}

static void start_waiter(struct waiter *waiter, struct db *on, const char *sql)
{
    *waiter = (struct waiter){.db = on, .sql = sql};
    assert_int_equal(pthread_create(&waiter->thread, NULL, run_waiter, waiter), 0);
}

static void a_deadlock_undoes_the_transaction(void **state)
{
    uint64_t waiting_id = db_connection_id(db);
    struct waiter waiter;
    enum obx_code code = OBX_OK;

    (void)state;
    assert_int_equal(db_begin(db, &err), OBX_OK);
    test_db_run(db, "UPDATE t SET n = 1 WHERE id = 1");
    assert_int_equal(db_begin(other, &err), OBX_OK);
    test_db_run(other, "UPDATE t SET n = 2 WHERE id = 2");
    start_waiter(&waiter, db, "UPDATE t SET n = 3 WHERE id = 2");
    assert_true(wait_until(DEADLINE_MS, is_waiting, &waiting_id));
    code = db_exec(other, "UPDATE t SET n = 4 WHERE id = 1", DB_NO_ARGS, NULL, &err);
    pthread_join(waiter.thread, NULL);
    /* The server chooses which of the two goes on. */
    assert_true((code == OBX_E_DB_DEADLOCK) != (waiter.code == OBX_E_DB_DEADLOCK));
    assert_int_equal(code == OBX_OK ? waiter.err.sys : err.sys, 1213);
    assert_int_equal(db_in_transaction(db), waiter.code == OBX_OK);
    assert_int_equal(db_in_transaction(other), code == OBX_OK);
    assert_int_equal(db_rollback(db, &err), OBX_OK);
    assert_int_equal(db_rollback(other, &err), OBX_OK);
}

static void a_lock_wait_undoes_the_statement_only(void **state)
{
    struct db_opts opts = hasty_opts(false);
    struct db *hasty = NULL;

    (void)state;
    opts.read_timeout_ms = 0;
    hasty = test_db_open(&opts);
    assert_int_equal(db_begin(db, &err), OBX_OK);
    test_db_run(db, "UPDATE t SET n = 1 WHERE id = 1");
    assert_int_equal(db_begin(hasty, &err), OBX_OK);
    test_db_run(hasty, "UPDATE t SET n = 2 WHERE id = 2");
    assert_int_equal(db_exec(hasty, "UPDATE t SET n = ? WHERE id = ?",
                             DB_ARGS(DB_U64(3), DB_U64(1)), NULL, &err),
                     OBX_E_DB_LOCK_WAIT);
    assert_int_equal(err.sys, 1205);
    assert_true(db_in_transaction(hasty));
    assert_int_equal(test_db_number(hasty, "SELECT n FROM t WHERE id = 2"), 2);
    assert_int_equal(db_rollback(hasty, &err), OBX_OK);
    assert_int_equal(test_db_number(hasty, "SELECT n FROM t WHERE id = 2"), 0);
    assert_int_equal(db_rollback(db, &err), OBX_OK);
    db_close(hasty);
}

static void a_definition_that_is_in_use_is_a_lock_wait(void **state)
{
    struct db_opts opts = hasty_opts(false);
    struct db *hasty = NULL;

    (void)state;
    opts.read_timeout_ms = 0;
    hasty = test_db_open(&opts);
    assert_int_equal(db_begin(db, &err), OBX_OK);
    test_db_run(db, "UPDATE t SET n = 1 WHERE id = 1");
    assert_int_equal(db_exec(hasty, "ALTER TABLE t ADD COLUMN x INT", DB_NO_ARGS, NULL, &err),
                     OBX_E_DB_LOCK_WAIT);
    assert_int_equal(db_rollback(db, &err), OBX_OK);
    db_close(hasty);
}

static void a_killed_statement_leaves_the_connection_sound(void **state)
{
    uint64_t waiting_id = db_connection_id(db);
    struct waiter waiter;
    char sql[64];

    (void)state;
    assert_int_equal(db_begin(other, &err), OBX_OK);
    test_db_run(other, "UPDATE t SET n = 2 WHERE id = 2");
    start_waiter(&waiter, db, "UPDATE t SET n = 3 WHERE id = 2");
    assert_true(wait_until(DEADLINE_MS, is_waiting, &waiting_id));
    (void)snprintf(sql, sizeof(sql), "KILL QUERY %" PRIu64, waiting_id);
    test_db_run(other, sql);
    pthread_join(waiter.thread, NULL);
    assert_int_equal(waiter.code, OBX_E_TIMEOUT);
    assert_int_equal(waiter.err.sys, 1317);
    assert_int_equal(db_ping(db, &err), OBX_OK);
    assert_int_equal(db_rollback(other, &err), OBX_OK);
}

/* ---- lost connections ---- */

static void use_killed(void)
{
    const struct db_opts opts = hasty_opts(false);
    struct db *victim = test_db_open(&opts);
    struct db_rows *rows = NULL;
    enum obx_code code = OBX_OK;
    char sql[64];

    assert_int_equal(db_begin(victim, &err), OBX_OK);
    test_db_run(victim, "UPDATE t SET n = 9 WHERE id = 1");
    (void)snprintf(sql, sizeof(sql), "KILL %" PRIu64, db_connection_id(victim));
    test_db_run(other, sql);
    code = db_query(victim, "SELECT n FROM t WHERE id = ?", DB_ARGS(DB_U64(1)), &rows, &err);
    assert_int_equal(code, OBX_E_DB_GONE);
    assert_null(rows);
    assert_false(db_in_transaction(victim));
    assert_int_equal(db_ping(victim, &err), OBX_E_DB_GONE);
    assert_int_equal(db_exec(victim, "UPDATE t SET n = 8", DB_NO_ARGS, NULL, &err), OBX_E_DB_GONE);
    assert_int_equal(db_begin(victim, &err), OBX_E_DB_GONE);
    /* It was lost before COMMIT was sent, so there is no doubt. */
    assert_int_equal(db_commit(victim, &err), OBX_E_DB_GONE);
    assert_int_equal(test_db_number(other, "SELECT n FROM t WHERE id = 1"), 0);
    assert_int_equal(db_exec(other, "KILL 4000000000", DB_NO_ARGS, NULL, &err), OBX_E_NOT_FOUND);
    db_close(victim);
}

static void a_killed_connection_is_gone_for_good(void **state)
{
    (void)state;
    both_ways(use_killed);
}

static void no_answer(void)
{
    struct db_opts opts = hasty_opts(false);
    struct db *hasty = test_db_open(&opts);
    const uint64_t started_ms = clock_now_ms();
    struct db_rows *rows = NULL;

    assert_int_equal(db_query(hasty, "SELECT SLEEP(15)", DB_NO_ARGS, &rows, &err), OBX_E_TIMEOUT);
    assert_null(rows);
    assert_true(clock_now_ms() - started_ms < 5000);
    assert_int_equal(db_ping(hasty, &err), OBX_E_DB_GONE);
    db_close(hasty);
    hasty = test_db_open(&opts);
    assert_int_equal(db_query(hasty, "SELECT SLEEP(?)", DB_ARGS(DB_U64(15)), &rows, &err),
                     OBX_E_TIMEOUT);
    assert_null(rows);
    db_close(hasty);
}

static void no_answer_within_the_deadline(void **state)
{
    (void)state;
    both_ways(no_answer);
}

static void a_mute_server_does_not_hold_up_a_connect(void **state)
{
    struct db_opts opts = hasty_opts(true);
    const uint64_t started_ms = clock_now_ms();
    struct db *mute = NULL;

    (void)state;
    /* Long afterwards, so that it can be told which of the deadlines counts. */
    opts.read_timeout_ms = 60000;
    cut_proxy_set_flow(proxy, CUT_TO_CLIENT, CUT_HOLD);
    assert_int_equal(db_open(&opts, &mute, &err), OBX_E_TIMEOUT);
    assert_null(mute);
    assert_true(clock_now_ms() - started_ms < 5000);
    cut_proxy_set_refuse(proxy, true);
    assert_int_equal(db_open(&opts, &mute, &err), OBX_E_DB_CONNECT);
    assert_null(mute);
}

/* How many bytes the server has sent through the proxy so far. */
static uint64_t answered(void)
{
    struct cut_stats stats;

    cut_proxy_get_stats(proxy, &stats);
    return stats.passed[CUT_TO_CLIENT];
}

/*
 * The answer is cut at every one of its bytes, while logging in and setting the session up. With
 * TLS its length differs by a few bytes from time to time (signatures), so the last ones are left
 * out.
 */
static void cut_connect(void)
{
    const uint64_t spare = tls == DB_TLS_DISABLED ? 0 : 64;
    const struct db_opts opts = hasty_opts(true);
    const uint64_t before = answered();
    struct db *got = test_db_open(&opts);
    const uint64_t whole = answered() - before;

    assert_true(whole > 100 + spare);
    db_close(got);
    for (uint64_t bytes = 0; bytes < whole - spare; bytes += cut_step()) {
        enum obx_code code = OBX_OK;

        cut_proxy_cut_after(proxy, CUT_TO_CLIENT, bytes);
        code = db_open(&opts, &got, &err);
        assert_true(code == OBX_E_DB_CONNECT || (tls != DB_TLS_DISABLED && code == OBX_E_DB_TLS));
        assert_null(got);
    }
}

static void a_connect_cut_anywhere_is_an_error(void **state)
{
    (void)state;
    both_ways(cut_connect);
}

static void make_numbers(struct db *on, unsigned count)
{
    test_db_run(on, "DELETE FROM t");
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(db_exec(on, "INSERT INTO t (id, v) VALUES (?, ?)",
                                 DB_ARGS(DB_U64(i), DB_TEXT("abc")), NULL, &err),
                         OBX_OK);
    }
}

/* A result is all there or an error: the answer is cut at every one of its bytes. */
static void check_cut_result(const char *sql, const struct obx_value *args, size_t arg_count)
{
    const struct db_opts opts = hasty_opts(true);
    uint64_t whole = 0;
    struct db_rows *rows = NULL;
    struct db *got = test_db_open(&opts);

    whole = answered();
    assert_int_equal(db_query(got, sql, args, arg_count, &rows, &err), OBX_OK);
    assert_int_equal(db_rows_count(rows), 5);
    db_rows_free(rows);
    whole = answered() - whole;
    db_close(got);
    for (uint64_t at = 0; at < whole; at += cut_step()) {
        got = test_db_open(&opts);
        cut_proxy_cut_after(proxy, CUT_TO_CLIENT, at);
        assert_int_equal(db_query(got, sql, args, arg_count, &rows, &err), OBX_E_DB_GONE);
        assert_null(rows);
        db_close(got);
    }
}

static void cut_results(void)
{
    make_numbers(db, 5);
    check_cut_result("SELECT id, v FROM t", DB_NO_ARGS);
    check_cut_result("SELECT id, v FROM t WHERE id >= ?", DB_ARGS(DB_U64(0)));
}

static void a_cut_result_is_an_error(void **state)
{
    (void)state;
    both_ways(cut_results);
}

/* ---- COMMIT ---- */

static uint64_t last_id = 100;

static struct db *begin_through_proxy(uint64_t id)
{
    const struct db_opts opts = hasty_opts(true);
    struct db *got = test_db_open(&opts);

    assert_int_equal(db_begin(got, &err), OBX_OK);
    assert_int_equal(db_exec(got, "INSERT INTO t (id) VALUES (?)", DB_ARGS(DB_U64(id)), NULL, &err),
                     OBX_OK);
    return got;
}

static bool is_there(void *ctx)
{
    const uint64_t *id = ctx;
    struct db_rows *rows = NULL;
    bool found = false;

    assert_int_equal(
        db_query(other, "SELECT id FROM t WHERE id = ?", DB_ARGS(DB_U64(*id)), &rows, &err),
        OBX_OK);
    found = db_rows_next(rows);
    db_rows_free(rows);
    return found;
}

/* Nobody but us and the checker is connected: the server has ended the session, and with it its
 * transaction. */
static bool is_alone(void *ctx)
{
    (void)ctx;
    return test_db_number(other, "SELECT COUNT(*) FROM information_schema.processlist "
                                 "WHERE db = DATABASE()") == 2;
}

static void lose_answer_to_commit(void)
{
    uint64_t id = ++last_id;
    struct db *got = begin_through_proxy(id);

    cut_proxy_cut_after(proxy, CUT_TO_CLIENT, 0);
    assert_int_equal(db_commit(got, &err), OBX_E_DB_COMMIT_UNKNOWN);
    assert_int_equal(obx_code_action(err.code), OBX_DO_RECONNECT);
    assert_false(db_in_transaction(got));
    assert_int_equal(db_ping(got, &err), OBX_E_DB_GONE);
    assert_true(wait_until(DEADLINE_MS, is_there, &id)); /* it did take effect */
    db_close(got);
}

static void the_answer_to_commit_is_lost(void **state)
{
    (void)state;
    both_ways(lose_answer_to_commit);
}

static void lose_commit(void)
{
    uint64_t id = ++last_id;
    struct db *got = begin_through_proxy(id);

    cut_proxy_cut_after(proxy, CUT_TO_SERVER, 0);
    assert_int_equal(db_commit(got, &err), OBX_E_DB_COMMIT_UNKNOWN);
    db_close(got);
    assert_true(wait_until(DEADLINE_MS, is_alone, NULL));
    assert_false(is_there(&id));
}

static void commit_itself_is_lost(void **state)
{
    (void)state;
    both_ways(lose_commit);
}

static void commit_after_cut(void)
{
    uint64_t id = ++last_id;
    struct db *got = begin_through_proxy(id);

    cut_proxy_cut_all(proxy);
    assert_int_equal(db_commit(got, &err), OBX_E_DB_COMMIT_UNKNOWN);
    db_close(got);
    assert_true(wait_until(DEADLINE_MS, is_alone, NULL));
    assert_false(is_there(&id));
}

static void commit_on_a_connection_that_was_cut_before(void **state)
{
    (void)state;
    both_ways(commit_after_cut);
}

static void mute_commit(void)
{
    uint64_t id = ++last_id;
    struct db *got = begin_through_proxy(id);

    cut_proxy_set_flow(proxy, CUT_TO_CLIENT, CUT_SWALLOW);
    assert_int_equal(db_commit(got, &err), OBX_E_DB_COMMIT_UNKNOWN);
    assert_int_equal(db_ping(got, &err), OBX_E_DB_GONE);
    assert_true(wait_until(DEADLINE_MS, is_there, &id));
    db_close(got);
    cut_proxy_set_flow(proxy, CUT_TO_CLIENT, CUT_PASS);
}

static void commit_is_never_answered(void **state)
{
    (void)state;
    both_ways(mute_commit);
}

/* ---- refusals ---- */

static enum obx_code run(const char *sql)
{
    return db_exec(db, sql, DB_NO_ARGS, NULL, &err);
}

static void values_that_do_not_fit(void **state)
{
    (void)state;
    assert_int_equal(run("INSERT INTO t (id, v) VALUES (10, 'sixsix')"), OBX_E_DB_DATA);
    assert_int_equal(run("INSERT INTO t (id) VALUES (-1)"), OBX_E_DB_DATA);
    assert_int_equal(run("INSERT INTO t (id) VALUES (NULL)"), OBX_E_DB_DATA);
    assert_int_equal(run("INSERT INTO t (v) VALUES ('a')"), OBX_E_DB_DATA);
    assert_int_equal(run("INSERT INTO t (id) VALUES ('x')"), OBX_E_DB_DATA);
    assert_int_equal(run("INSERT INTO t (id, j) VALUES (10, '{')"), OBX_E_DB_DATA);
    assert_int_equal(run("INSERT INTO t (id, n) VALUES (10, 100)"), OBX_E_DB_DATA);
    assert_int_equal(run("INSERT INTO t (id, v) VALUES (10, x'FF')"), OBX_E_DB_DATA);
    assert_int_equal(obx_code_action(err.code), OBX_DO_PARK);
    assert_int_equal(db_ping(db, &err), OBX_OK);
    assert_int_equal(test_db_number(db, "SELECT COUNT(*) FROM t"), 2);
}

static void what_is_not_there(void **state)
{
    (void)state;
    assert_int_equal(run("SELECT 1 FROM nosuch"), OBX_E_DB_NO_TABLE);
    assert_int_equal(run("SELECT nosuch FROM t"), OBX_E_DB_NO_TABLE);
    assert_int_equal(run("SELECT 1 FROM obx_nosuch.t"), OBX_E_DB_NO_TABLE);
    assert_int_equal(run("SELECT nosuch(1)"), OBX_E_DB_NO_TABLE);
    assert_int_equal(run("SELEKT 1"), OBX_E_DB_QUERY);
    assert_int_equal(db_begin(db, &err), OBX_OK);
    assert_int_equal(run("SAVEPOINT a"), OBX_OK);
    assert_int_equal(run("ROLLBACK TO SAVEPOINT a"), OBX_OK);
    assert_int_equal(run("ROLLBACK TO SAVEPOINT b"), OBX_E_DB_NO_SAVEPOINT);
    assert_true(db_in_transaction(db));
    assert_int_equal(run("COMMIT"), OBX_OK);
    assert_int_equal(run("ROLLBACK TO SAVEPOINT a"), OBX_E_DB_NO_SAVEPOINT);
}

static void a_transaction_that_may_only_read(void **state)
{
    (void)state;
    assert_int_equal(run("START TRANSACTION READ ONLY"), OBX_OK);
    assert_int_equal(run("UPDATE t SET n = 1"), OBX_E_DB_READ_ONLY);
    assert_int_equal(obx_code_action(err.code), OBX_DO_RECONNECT);
    assert_int_equal(db_rollback(db, &err), OBX_OK);
}

static void rights_that_are_missing(void **state)
{
    struct db_opts opts = test_db_root_opts();
    struct db *root = test_db_open(&opts);
    struct db *poor = NULL;
    char sql[256];

    (void)state;
    (void)snprintf(sql, sizeof(sql), "CREATE USER '%s'@'%%' IDENTIFIED BY 'Poor-1-Password'",
                   test.name);
    test_db_run(root, sql);
    (void)snprintf(sql, sizeof(sql), "GRANT SELECT (id) ON `%s`.t TO '%s'@'%%'", test.name,
                   test.name);
    test_db_run(root, sql);
    opts.user = test.name;
    opts.password = "Poor-1-Password";
    opts.database = test.name;
    poor = test_db_open(&opts);
    assert_int_equal(db_exec(poor, "SELECT id FROM t", DB_NO_ARGS, NULL, &err), OBX_OK);
    assert_int_equal(db_exec(poor, "SELECT v FROM t", DB_NO_ARGS, NULL, &err), OBX_E_DB_DENIED);
    assert_int_equal(db_exec(poor, "DELETE FROM t", DB_NO_ARGS, NULL, &err), OBX_E_DB_DENIED);
    assert_int_equal(db_exec(poor, "SET GLOBAL max_connections = 500", DB_NO_ARGS, NULL, &err),
                     OBX_E_DB_DENIED);
    db_close(poor);
    opts.database = "mysql";
    assert_int_equal(db_open(&opts, &poor, &err),
                     OBX_E_DB_CONNECT); /* user and password are right */
    (void)snprintf(sql, sizeof(sql), "DROP USER '%s'@'%%'", test.name);
    test_db_run(root, sql);
    db_close(root);
}

static void options_that_are_wrong(void **state)
{
    struct db_opts opts = test.opts;
    struct db *got = NULL;

    (void)state;
    opts.password = "wrong-Secret-77";
    assert_int_equal(db_open(&opts, &got, &err), OBX_E_DB_AUTH);
    assert_null(got);
    assert_null(strstr(err.text, "Secret"));
    opts = test.opts;
    opts.user = "nobody_of_that_name";
    assert_int_equal(db_open(&opts, &got, &err), OBX_E_DB_AUTH);
    opts = test.opts;
    opts.database = "obx_no_such_database";
    assert_int_equal(db_open(&opts, &got, &err), OBX_E_DB_CONNECT);
    assert_int_equal(err.sys, 1049);
    opts = test.opts;
    opts.host = "host.invalid";
    assert_int_equal(db_open(&opts, &got, &err), OBX_E_DB_CONNECT);
    opts = test.opts;
    opts.host = "localhost";
    opts.unix_socket = "/nonexistent/socket";
    assert_int_equal(db_open(&opts, &got, &err), OBX_E_DB_CONNECT);
    assert_null(got);
}

static void a_request_over_the_servers_limit_is_not_sent(void **state)
{
    const size_t limit = (size_t)test_db_number(db, "SELECT @@max_allowed_packet");
    char *big = obx_calloc(1, limit);
    const struct obx_bytes body = {big, limit};

    (void)state;
    assert_non_null(big);
    assert_int_equal(db_exec(db, "SELECT LENGTH(?)", DB_ARGS(DB_BYTES(body)), NULL, &err),
                     OBX_E_TOO_LARGE);
    assert_int_equal(obx_code_action(err.code), OBX_DO_PARK);
    assert_int_equal(db_exec_text(db, body, NULL, &err), OBX_E_TOO_LARGE);
    assert_int_equal(db_ping(db, &err), OBX_OK);
    obx_free(big);
}

/* ---- short memory ---- */

/* Fails the allocation with this number, once. */
struct failing {
    unsigned at;
    unsigned seen;
};

static bool allow(void *ctx)
{
    struct failing *failing = ctx;

    return ++failing->seen != failing->at;
}

static enum obx_code open_and_ask(void)
{
    struct db *got = NULL;
    struct db_rows *rows = NULL;
    enum obx_code code = db_open(&test.opts, &got, &err);

    if (code == OBX_OK)
        code = db_query(got, "SELECT id, v, REPEAT('x', 9000) FROM t WHERE id >= ?",
                        DB_ARGS(DB_U64(0)), &rows, &err);
    if (code == OBX_OK)
        assert_int_equal(db_rows_count(rows), 2);
    db_rows_free(rows);
    rows = NULL;
    if (code == OBX_OK)
        code = db_query(got, "SELECT id, REPEAT('x', 9000) FROM t", DB_NO_ARGS, &rows, &err);
    db_rows_free(rows);
    /* Short memory of ours breaks no connection. */
    if (got != NULL)
        assert_int_equal(db_ping(got, NULL), OBX_OK);
    db_close(got);
    return code;
}

static void every_allocation_may_fail(void **state)
{
    struct failing failing = {.at = 0};
    enum obx_code code = OBX_E_NOMEM;

    (void)state;
    while (code != OBX_OK) {
        failing.at++;
        failing.seen = 0;
        obx_alloc_set_hook(allow, &failing);
        code = open_and_ask();
        obx_alloc_set_hook(NULL, NULL);
        if (failing.seen < failing.at)
            assert_int_equal(code, OBX_OK);
        else
            assert_int_equal(code, OBX_E_NOMEM);
    }
    assert_true(failing.at > 10);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_both, close_both)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_deadlock_undoes_the_transaction),
        TEST(a_lock_wait_undoes_the_statement_only),
        TEST(a_definition_that_is_in_use_is_a_lock_wait),
        TEST(a_killed_statement_leaves_the_connection_sound),
        TEST(a_killed_connection_is_gone_for_good),
        TEST(no_answer_within_the_deadline),
        TEST(a_mute_server_does_not_hold_up_a_connect),
        TEST(a_connect_cut_anywhere_is_an_error),
        TEST(a_cut_result_is_an_error),
        TEST(the_answer_to_commit_is_lost),
        TEST(commit_itself_is_lost),
        TEST(commit_on_a_connection_that_was_cut_before),
        TEST(commit_is_never_answered),
        TEST(values_that_do_not_fit),
        TEST(what_is_not_there),
        TEST(a_transaction_that_may_only_read),
        TEST(rights_that_are_missing),
        TEST(options_that_are_wrong),
        TEST(a_request_over_the_servers_limit_is_not_sent),
        TEST(every_allocation_may_fail),
    };
    int failed = cmocka_run_group_tests(tests, make_database, drop_database);

    db_thread_end();
    return failed;
}
