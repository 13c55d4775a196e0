/*
 * A connection to the primary among several servers: found wherever it stands in the list, left when
 * it becomes a replica, never a replica's, and not delayed by a server that is silent. On a pair of real
 * servers (tests/support/db_pair).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include "db_pair.h"
#include "sql/db.h"
#include "test_db.h"
#include "wait.h"

enum {
    HOST_MAX = 128,
    NOTICED_MS = 1000,    /* what is promised of a demotion */
    NOT_DELAYED_MS = 3000 /* far below the 5 s for a connection, far above what it takes */
};

static unsigned port_of(unsigned node)
{
    char name[32];

    snprintf(name, sizeof(name), "OBX_TEST_PAIR_PORT_%u", node);
    return (unsigned)atoi(test_env(name));
}

/* Root may write to a server that is read-only: the question is what keeps it away. */
static struct db_opts opts_for(const char *host)
{
    struct db_opts opts = test_db_root_opts();

    opts.host = host;
    opts.port = 0;
    opts.any_server = false;
    return opts;
}

static const char *list(char text[HOST_MAX], unsigned first, unsigned second)
{
    snprintf(text, HOST_MAX, "127.0.0.1:%u, 127.0.0.1:%u", port_of(first), port_of(second));
    return text;
}

static void expect_node(const char *host, unsigned node)
{
    const struct db_opts opts = opts_for(host);
    struct db *db = test_db_open(&opts);

    assert_int_equal(test_db_number(db, "SELECT @@port"), port_of(node));
    db_close(db);
}

static void expect_refused(const char *host, enum obx_code code, const char *text)
{
    const struct db_opts opts = opts_for(host);
    struct obx_err err = {0};
    struct db *db = NULL;

    if (db_open(&opts, &db, &err) != code || strstr(err.text, text) == NULL)
        fail_msg("%s: %s", host, db == NULL ? err.text : "opened");
    assert_null(db);
}

static int setup(void **state)
{
    (void)state;
    db_pair("start", 0);
    db_pair_take_env();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    db_pair("stop", 0);
    return 0;
}

static void the_primary_is_found_wherever_it_stands(void **state)
{
    char host[HOST_MAX];

    (void)state;
    expect_node(list(host, 1, 2), 1);
    expect_node(list(host, 2, 1), 1);
    snprintf(host, sizeof(host), "127.0.0.1:1, 127.0.0.1:%u, no.such.host.invalid", port_of(1));
    expect_node(host, 1);
}

static void a_replica_is_no_server(void **state)
{
    char host[HOST_MAX];
    struct db_opts opts;
    struct db_role role;
    struct db *db = NULL;

    (void)state;
    snprintf(host, sizeof(host), "127.0.0.1:%u", port_of(2));
    expect_refused(host, OBX_E_DB_READ_ONLY, "takes no writes");
    snprintf(host, sizeof(host), "127.0.0.1:1, 127.0.0.1:%u", port_of(2));
    expect_refused(host, OBX_E_DB_READ_ONLY, "127.0.0.1:1: cannot connect");
    expect_refused(host, OBX_E_DB_READ_ONLY, "read-only");
    /* But for somebody who wants to look at it. */
    snprintf(host, sizeof(host), "127.0.0.1:%u", port_of(2));
    opts = opts_for(host);
    opts.any_server = true;
    db = test_db_open(&opts);
    assert_int_equal(db_ask_role(db, &role, NULL), OBX_OK);
    assert_true(role.is_read_only && role.has_log && role.waits_after_sync);
    assert_false(role.is_galera || role.is_group || role.is_multi_primary);
    test_db_number(db, "SELECT 1");
    db_close(db);
}

static void nobody_answers(void **state)
{
    (void)state;
    expect_refused("127.0.0.1:1, 127.0.0.1:2", OBX_E_DB_CONNECT, "127.0.0.1:2: cannot connect");
}

static void a_wrong_password_is_said(void **state)
{
    char host[HOST_MAX];
    struct db_opts opts = opts_for(list(host, 1, 2));
    struct obx_err err = {0};
    struct db *db = NULL;

    (void)state;
    opts.password = "wrong";
    assert_int_equal(db_open(&opts, &db, &err), OBX_E_DB_AUTH);
    assert_null(strstr(err.text, "wrong"));
}

/* It takes connections and says nothing, as one that stands still does. */
static void a_silent_server_delays_nobody(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t len = sizeof(addr);
    char host[HOST_MAX];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int64_t began_ms = 0;

    (void)state;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    snprintf(host, sizeof(host), "127.0.0.1:%u, 127.0.0.1:%u", (unsigned)ntohs(addr.sin_port),
             port_of(1));
    began_ms = wait_now_ms();
    expect_node(host, 1);
    assert_true(wait_now_ms() - began_ms < NOT_DELAYED_MS);
    close(fd);
}

struct watch {
    struct db *db;
    const char *sql;
    enum obx_code code;
};

static bool is_refused(void *ctx)
{
    struct watch *watch = ctx;
    struct db_rows *rows = NULL;

    watch->code = db_query(watch->db, watch->sql, DB_NO_ARGS, &rows, NULL);
    db_rows_free(rows);
    return watch->code != OBX_OK;
}

static bool is_ping_refused(void *ctx)
{
    struct watch *watch = ctx;

    watch->code = db_ping(watch->db, NULL);
    return watch->code != OBX_OK;
}

/* Of a session that only reads, by an account that might write. */
static void a_session_leaves_a_server_that_becomes_a_replica(void **state)
{
    char host[HOST_MAX];
    const struct db_opts opts = opts_for(list(host, 1, 2));
    struct watch watch = {.db = test_db_open(&opts), .sql = "SELECT 1"};
    struct watch other = {.db = test_db_open(&opts)};
    int64_t began_ms = 0;

    (void)state;
    db_pair("demote", 1);
    began_ms = wait_now_ms();
    assert_true(wait_until(NOTICED_MS, is_refused, &watch));
    print_message("noticed after %lld ms\n", (long long)(wait_now_ms() - began_ms));
    assert_int_equal(watch.code, OBX_E_DB_READ_ONLY);
    assert_true(db_is_lost(watch.db));
    assert_true(is_refused(&watch)); /* and never comes back by itself */
    assert_int_equal(watch.code, OBX_E_DB_GONE);
    /* One that only pings, as an idle worker does. */
    assert_true(wait_until(NOTICED_MS, is_ping_refused, &other));
    assert_int_equal(other.code, OBX_E_DB_READ_ONLY);
    expect_refused(host, OBX_E_DB_READ_ONLY, "read-only");
    db_pair("undemote", 1);
    expect_node(host, 1);
    db_close(watch.db);
    db_close(other.db);
}

/* What was begun is undone, and its COMMIT says so: it is not unknown. */
static void a_transaction_does_not_outlive_the_demotion(void **state)
{
    char host[HOST_MAX];
    struct db_opts opts = opts_for(list(host, 1, 2));
    struct db *root = test_db_open(&opts);
    struct db *db = NULL;
    struct obx_err err = {0};

    (void)state;
    test_db_run(root, "CREATE DATABASE IF NOT EXISTS obx_failover");
    test_db_run(root, "CREATE TABLE IF NOT EXISTS obx_failover.t (id INT PRIMARY KEY)");
    opts.user = test_env("OBX_TEST_DB_USER");
    opts.password = test_env("OBX_TEST_DB_PASSWORD");
    db = test_db_open(&opts);
    test_db_run(db, "BEGIN");
    test_db_run(db, "INSERT INTO obx_failover.t VALUES (1)");
    db_pair("demote", 1);
    assert_int_equal(db_commit(db, &err), OBX_E_DB_READ_ONLY);
    assert_true(db_is_lost(db));
    db_close(db);
    db_pair("undemote", 1);
    db_close(root);
    root = test_db_open(&opts);
    assert_int_equal(test_db_number(root, "SELECT COUNT(*) FROM obx_failover.t"), 0);
    db_close(root);
}

/* Which of them has the truth cannot be known, so neither is believed. */
static void of_two_that_take_writes_none_is_used(void **state)
{
    char host[HOST_MAX];

    (void)state;
    db_pair("undemote", 2);
    expect_refused(list(host, 1, 2), OBX_E_DB_CONNECT, "both take writes");
    snprintf(host, sizeof(host), "127.0.0.1:%u, localhost:%u", port_of(1), port_of(1));
    expect_node(host, 1); /* one server by two names is one */
    db_pair("demote", 2);
    expect_node(list(host, 1, 2), 1);
}

static void after_a_switch_the_new_one_is_used(void **state)
{
    char host[HOST_MAX];

    (void)state;
    db_pair("switch", 2);
    expect_node(list(host, 1, 2), 2);
    db_pair("switch", 1);
    expect_node(list(host, 1, 2), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_primary_is_found_wherever_it_stands),
        cmocka_unit_test(a_replica_is_no_server),
        cmocka_unit_test(nobody_answers),
        cmocka_unit_test(a_wrong_password_is_said),
        cmocka_unit_test(a_silent_server_delays_nobody),
        cmocka_unit_test(a_session_leaves_a_server_that_becomes_a_replica),
        cmocka_unit_test(a_transaction_does_not_outlive_the_demotion),
        cmocka_unit_test(of_two_that_take_writes_none_is_used),
        cmocka_unit_test(after_a_switch_the_new_one_is_used),
    };

    return cmocka_run_group_tests_name("db_failover", tests, setup, teardown);
}
