/*
 * The consumer library with connections that break, servers that are away, and things that are
 * missing: seen through the cutting proxy, so that the break comes at the worst place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/random.h"
#include "consumer_rig.h"
#include "cut_proxy.h"
#include "test_parts.h"
#include "wait.h"

enum { LARGE = 1048576, GATHER_US = 300000, MESSAGES = 3000, CUTS = 30, CUT_BYTES_MAX = 20000 };

/* What comes between the last handler and the COMMIT of two messages: "RELEASE SAVEPOINT " and the
 * library's name with 16 random digits, and the dedup row of the second message. Each is a packet
 * with 4 bytes of head and 1 of command; between MySQL and its own client two more, which say that
 * the statement has no attributes. */
static uint64_t bytes_before_commit(const struct rig *rig)
{
    static const char release[] = "RELEASE SAVEPOINT obx_tx_0123456789abcdef";
    static const char row[] = "INSERT INTO inbox_applied (consumer_group, message_id) VALUES "
                              "('group-a',X'7A')";
    const size_t bytes = sizeof(release) - 1 + 5 + sizeof(row) - 1 + 5;

    return db_server_is_mariadb(rig->db) ? bytes : bytes + 2 * 2;
}

struct proxied {
    struct cut_proxy *db;
    struct cut_proxy *broker;
    char address[32];
};

static struct proxied through_proxies(struct rig *rig)
{
    struct proxied proxied = {0};

    proxied.db = cut_proxy_create("127.0.0.1", rig->test_db.opts.port);
    proxied.broker = cut_proxy_create("127.0.0.1", (uint16_t)rig->broker.port);
    assert_true(proxied.db != NULL && proxied.broker != NULL);
    rig->opts.db_host = "127.0.0.1";
    rig->opts.db_port = cut_proxy_port(proxied.db);
    return proxied;
}

static void use_broker_proxy(struct rig *rig, struct proxied *proxied)
{
    (void)snprintf(proxied->address, sizeof(proxied->address), "127.0.0.1:%u",
                   cut_proxy_port(proxied->broker));
    rig->opts.broker_addresses = proxied->address;
}

static void destroy_proxies(struct proxied *proxied)
{
    cut_proxy_destroy(proxied->db);
    cut_proxy_destroy(proxied->broker);
}

/* ------------------------------------------------------------------ around the COMMIT */

struct cutter {
    struct cut_proxy *proxy;
    enum cut_dir dir;
    uint64_t pass_bytes; /* of what comes before the COMMIT, in that direction */
    int cuts_left;
};

/* Arms the proxy in the handler of the batch's last message, so that what breaks is the COMMIT or
 * its answer. */
static enum obx_verdict cut_the_commit(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct cutter *cutter = ctx;
    enum obx_verdict verdict = rig_write(msg, tx);

    if (bytes_is(msg->body, "cut") && cutter->cuts_left > 0) {
        cutter->cuts_left--;
        cut_proxy_cut_after(cutter->proxy, cutter->dir, cutter->pass_bytes);
    }
    return verdict;
}

static void check_commit_cut(struct rig *rig, enum cut_dir dir, uint64_t pass_bytes)
{
    struct proxied proxied = through_proxies(rig);
    struct cutter cutter = {proxied.db, dir, pass_bytes, 1};
    struct obx_consumer *consumer = NULL;
    struct obx_consumer_stats stats = {0};

    rig->opts.db_tls = OBX_DB_TLS_DISABLED; /* the bytes are counted */
    rig_declare(rig);
    rig_fill(rig, "m", 1, 0);
    rig_put(rig, "z", NULL, "cut");
    rig_flush(rig);
    rig->opts.batch_wait_us = GATHER_US;
    consumer = rig_start(rig, cut_the_commit, &cutter);
    RIG_WAIT_STAT(consumer, acked, 2);
    stats = rig_stats(consumer);
    assert_int_equal(stats.commit_unknown, 1);
    assert_int_equal(stats.applied, 2);
    assert_int_equal(stats.duplicates, 0);
    assert_int_equal(stats.retried, 0);
    rig_stop(consumer);
    rig_audit(rig, 2);
    rig_assert_empty(rig, rig->queue);
    destroy_proxies(&proxied);
}

/* Two OK packets without anything special: 4 bytes of head, 7 of content. */
static void a_commit_whose_answer_is_lost_is_found(void **state)
{
    struct rig *rig = *state;

    check_commit_cut(rig, CUT_TO_CLIENT, 2 * 11);
    assert_int_equal(rig_number(rig, "SELECT MAX(seq) FROM applied"), 2); /* no handler ran twice */
}

static void a_commit_that_is_lost_itself_is_run_again(void **state)
{
    struct rig *rig = *state;

    check_commit_cut(rig, CUT_TO_SERVER, bytes_before_commit(rig));
    assert_true(rig_number(rig, "SELECT MAX(seq) FROM applied") > 2);
}

/* ------------------------------------------------------------------ anywhere */

struct cutting {
    struct rig *rig;
    struct cut_proxy *proxy;
    enum cut_dir dir;
};

/* Or there is no traffic left that could be cut. */
static bool is_cut(void *ctx)
{
    struct cutting *cutting = ctx;

    return !cut_proxy_cut_is_pending(cutting->proxy, cutting->dir) ||
           rig_number(cutting->rig, "SELECT COUNT(*) FROM applied") >= MESSAGES;
}

/* After some bytes more, wherever in a packet that is. */
static void cut_somewhere(struct rig *rig, struct cut_proxy *proxy)
{
    struct cutting cutting = {rig, proxy, random_u64() % 2 == 0 ? CUT_TO_SERVER : CUT_TO_CLIENT};

    cut_proxy_cut_after(proxy, cutting.dir, random_u64() % CUT_BYTES_MAX);
    assert_true(wait_until(RIG_WAIT_MS, is_cut, &cutting));
}

/* One message in ten fails once, another one twice: so rows are written, claimed and removed while
 * connections break. */
static uint32_t attempts_needed(struct obx_bytes id)
{
    const char *text = id.p;

    return text[id.len - 1] == '0' ? 3 : text[id.len - 1] == '5' ? 2 : 1;
}

static enum obx_verdict fail_first(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    enum obx_verdict verdict = rig_write(msg, tx);

    (void)ctx;
    return msg->attempt < attempts_needed(msg->message_id) ? OBX_RETRY : verdict;
}

/* No attempt is forgotten; one more may be charged when the answer to its COMMIT was lost. */
static void check_attempts(struct rig *rig)
{
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied WHERE attempt < "
                                     "CASE RIGHT(message_id, 1) WHEN '0' THEN 3 "
                                     "WHEN '5' THEN 2 ELSE 1 END"),
                     0);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_parked"), 0);
}

static void cut_again_and_again(struct rig *rig, struct cut_proxy *first, struct cut_proxy *second)
{
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig_fill(rig, "m", MESSAGES, 17);
    rig->opts.workers = 3;
    rig->opts.batch_max = 20;
    rig->opts.prefetch = 300;
    consumer = rig_start(rig, fail_first, NULL);
    for (int i = 0; i < CUTS; i++)
        cut_somewhere(rig, i % 2 == 0 ? first : second);
    rig_wait_applied(rig, MESSAGES);
    rig_stop(consumer);
    rig_audit(rig, MESSAGES);
    check_attempts(rig);
    rig_assert_empty(rig, rig->queue);
    rig_assert_empty(rig, rig->dead);
}

static void database_connections_break_again_and_again(void **state)
{
    struct rig *rig = *state;
    struct proxied proxied = through_proxies(rig);

    cut_again_and_again(rig, proxied.db, proxied.db);
    destroy_proxies(&proxied);
}

static void broker_connections_break_again_and_again(void **state)
{
    struct rig *rig = *state;
    struct proxied proxied = through_proxies(rig);

    use_broker_proxy(rig, &proxied);
    cut_again_and_again(rig, proxied.broker, proxied.broker);
    destroy_proxies(&proxied);
}

static void both_break_again_and_again(void **state)
{
    struct rig *rig = *state;
    struct proxied proxied = through_proxies(rig);

    use_broker_proxy(rig, &proxied);
    cut_again_and_again(rig, proxied.broker, proxied.db);
    destroy_proxies(&proxied);
}

/* ------------------------------------------------------------------ away at the start */

struct trouble_wanted {
    struct obx_consumer *consumer;
    bool of_broker;
    enum obx_code code;
    struct obx_err seen;
};

static bool has_trouble(void *ctx)
{
    struct trouble_wanted *wanted = ctx;

    if (wanted->of_broker)
        obx_consumer_get_last_errors(wanted->consumer, &wanted->seen, NULL);
    else
        obx_consumer_get_last_errors(wanted->consumer, NULL, &wanted->seen);
    return wanted->seen.code == wanted->code;
}

static void wait_trouble(struct obx_consumer *consumer, bool of_broker, enum obx_code code,
                         const char *text)
{
    struct trouble_wanted wanted = {.consumer = consumer, .of_broker = of_broker, .code = code};

    if (!wait_until(RIG_WAIT_MS, has_trouble, &wanted))
        fail_msg("trouble %s wanted, %s: %s", obx_code_name(code), obx_code_name(wanted.seen.code),
                 wanted.seen.text);
    if (text != NULL && strstr(wanted.seen.text, text) == NULL)
        fail_msg("'%s' does not say '%s'", wanted.seen.text, text);
}

static void both_servers_away_at_the_start(void **state)
{
    struct rig *rig = *state;
    struct proxied proxied = through_proxies(rig);
    struct obx_consumer *consumer = NULL;

    use_broker_proxy(rig, &proxied);
    rig_declare(rig);
    rig_fill(rig, "m", 10, 0);
    cut_proxy_set_refuse(proxied.db, true);
    cut_proxy_set_refuse(proxied.broker, true);
    consumer = rig_start(rig, rig_apply, NULL);
    wait_trouble(consumer, true, OBX_E_MQ_CONNECT, NULL);
    wait_trouble(consumer, false, OBX_E_DB_CONNECT, NULL);
    assert_false(rig_stats(consumer).broker_up);
    assert_int_equal(rig_stats(consumer).databases_up, 0);
    cut_proxy_set_refuse(proxied.broker, false);
    RIG_WAIT_STAT(consumer, delivered, 10);
    cut_proxy_set_refuse(proxied.db, false);
    rig_wait_applied(rig, 10);
    wait_trouble(consumer, true, OBX_OK, NULL);
    wait_trouble(consumer, false, OBX_OK, NULL);
    rig_stop(consumer);
    rig_audit(rig, 10);
    destroy_proxies(&proxied);
}

static void a_missing_schema_is_said_and_waited_for(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    test_db_run(rig->db, "RENAME TABLE inbox_applied TO put_away, rowpost_schema TO put_away_too");
    rig_declare(rig);
    rig_fill(rig, "m", 10, 0);
    consumer = rig_start(rig, rig_apply, NULL);
    wait_trouble(consumer, false, OBX_E_DB_NO_TABLE, "outboxctl migrate");
    test_db_run(rig->db, "RENAME TABLE put_away TO inbox_applied, put_away_too TO rowpost_schema");
    rig_wait_applied(rig, 10);
    wait_trouble(consumer, false, OBX_OK, NULL);
    /* And gone while it runs: what was delivered waits. */
    test_db_run(rig->db, "RENAME TABLE inbox_applied TO put_away");
    rig_fill(rig, "n", 10, 0);
    wait_trouble(consumer, false, OBX_E_DB_NO_TABLE, NULL);
    test_db_run(rig->db, "RENAME TABLE put_away TO inbox_applied");
    rig_wait_applied(rig, 20);
    wait_trouble(consumer, false, OBX_OK, NULL);
    rig_stop(consumer);
    rig_audit(rig, 20);
}

static void as_root(const char *sql)
{
    struct db_opts opts = test_db_root_opts();
    struct db *root = test_db_open(&opts);

    test_db_run(root, sql);
    db_close(root);
}

/* A server that is left read-only would fail every test after this one. */
static int end_writable(void **state)
{
    as_root("SET GLOBAL read_only = 0");
    return rig_teardown(state);
}

static void a_read_only_database_is_waited_for(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig->opts.max_attempts = 2;
    consumer = rig_start(rig, rig_apply, NULL);
    RIG_WAIT_STAT(consumer, database_connects, 1);
    as_root("SET GLOBAL read_only = 1");
    rig_fill(rig, "m", 10, 0);
    wait_trouble(consumer, false, OBX_E_DB_READ_ONLY, NULL);
    as_root("SET GLOBAL read_only = 0");
    rig_wait_applied(rig, 10);
    rig_stop(consumer);
    rig_audit(rig, 10);
    rig_assert_empty(rig, rig->dead);
}

/* Its own bytes, each at its place. */
static void fill_body(unsigned char *body, size_t len)
{
    for (size_t i = 0; i < len; i++)
        body[i] = (unsigned char)(i * 31 + i / 251);
}

static bool is_whole(struct obx_bytes body)
{
    unsigned char *wanted = malloc(LARGE);
    bool whole = false;

    assert_non_null(wanted);
    fill_body(wanted, LARGE);
    whole = body.len == LARGE && memcmp(body.p, wanted, LARGE) == 0;
    free(wanted);
    return whole;
}

static enum obx_verdict refuse_large(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    const _Atomic bool *is_refused = ctx;
    struct obx_message small = *msg;

    if (msg->body.len < LARGE / 2)
        return rig_write(msg, tx);
    if (atomic_load(is_refused))
        return OBX_RETRY;
    small.body = bytes_of(is_whole(msg->body) ? "whole" : "altered");
    return rig_write(&small, tx);
}

/* Rows for them would be larger than the server takes at once: they wait in pieces, and neither
 * hold up the others nor fill the window. */
static void messages_too_large_for_the_database_wait_in_pieces(void **state)
{
    enum { COUNT = 12, OTHERS = 10 };
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;
    _Atomic bool is_refused = true;
    unsigned char *body = malloc(LARGE);

    assert_non_null(body);
    fill_body(body, LARGE);
    rig->opts.prefetch = COUNT; /* by default 1000 */
    rig->opts.retry_cap_ms = 500;
    rig->opts.max_attempts = 1000;
    rig_declare(rig);
    for (int i = 0; i < COUNT; i++) {
        char id[32];
        struct bridge_message large = {.body = {body, LARGE}};

        (void)snprintf(id, sizeof(id), "large-%06d", i);
        large.message_id = bytes_of(id);
        rig_put_message(rig, &large);
    }
    rig_fill(rig, "b", OTHERS, 0);
    as_root("SET GLOBAL max_allowed_packet = 1048576");
    consumer = rig_start(rig, refuse_large, &is_refused);
    RIG_WAIT_STAT(consumer, acked, COUNT + OTHERS);
    RIG_WAIT_STAT(consumer, taken_up, 2 * COUNT);
    assert_true(rig_number(rig, "SELECT MIN(pieces) FROM inbox_parked") >= 2);
    assert_int_equal(rig_stats(consumer).dropped, 0);
    atomic_store(&is_refused, false);
    rig_wait_applied(rig, COUNT + OTHERS);
    rig_wait_number(rig, "SELECT COUNT(*) FROM inbox_parked", 0);
    as_root("SET GLOBAL max_allowed_packet = DEFAULT");
    rig_stop(consumer);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_parked_piece"), 0);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied WHERE body = 'whole'"), COUNT);
    rig_audit(rig, COUNT + OTHERS);
    free(body);
}

/* ------------------------------------------------------------------ the queue */

static void a_deleted_queue_is_declared_again(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = rig_start(rig, rig_apply, NULL);

    RIG_WAIT_STAT(consumer, broker_connects, 1);
    rig_fill(rig, "m", 10, 0);
    rig_wait_applied(rig, 10);
    broker_delete_queue(rig->admin, rig->queue);
    RIG_WAIT_STAT(consumer, broker_connects, 2);
    rig_fill(rig, "n", 10, 0);
    rig_wait_applied(rig, 20);
    rig_stop(consumer);
    rig_audit(rig, 20);
}

static void a_missing_queue_is_said_and_waited_for(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig->opts.declare_topology = false;
    consumer = rig_start(rig, rig_apply, NULL);
    wait_trouble(consumer, true, OBX_E_MQ_TOPOLOGY, rig->queue);
    rig_declare(rig);
    RIG_WAIT_STAT(consumer, broker_connects, 1);
    rig_fill(rig, "m", 10, 0);
    rig_wait_applied(rig, 10);
    broker_delete_queue(rig->admin, rig->queue);
    wait_trouble(consumer, true, OBX_E_MQ_TOPOLOGY, rig->queue);
    rig_declare(rig);
    RIG_WAIT_STAT(consumer, broker_connects, 2);
    rig_fill(rig, "n", 10, 0);
    rig_wait_applied(rig, 20);
    rig_stop(consumer);
    rig_audit(rig, 20);
}

static void a_queue_that_differs_is_said(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    rig->opts.single_active_consumer = true;
    consumer = rig_start(rig, rig_apply, NULL);
    wait_trouble(consumer, true, OBX_E_MQ_TOPOLOGY, rig->queue);
    obx_consumer_close(consumer);
}

/* ------------------------------------------------------------------ fail fast */

static void expect_refused(struct rig *rig, enum obx_code code)
{
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};

    rig->opts.fail_fast = true;
    assert_int_equal(obx_consumer_open(&rig->opts, &consumer, &err), OBX_OK);
    assert_int_equal(obx_consumer_subscribe(consumer, rig_apply, NULL, &err), OBX_OK);
    assert_int_equal(obx_consumer_run(consumer, &err), code);
    assert_int_equal(err.code, code);
    assert_true(err.text[0] != '\0');
    obx_consumer_close(consumer);
}

static void fail_fast_refuses_to_start(void **state)
{
    struct rig *rig = *state;
    const struct obx_consumer_opts good = rig->opts;

    rig->opts.db_password = "wrong";
    expect_refused(rig, OBX_E_DB_AUTH);
    rig->opts = good;
    rig->opts.db_name = "no_such_database";
    expect_refused(rig, OBX_E_DB_CONNECT); /* user and password were right */
    rig->opts = good;
    rig->opts.broker_password = "wrong";
    expect_refused(rig, OBX_E_MQ_AUTH);
    rig->opts = good;
    rig->opts.broker_addresses = "127.0.0.1:1";
    expect_refused(rig, OBX_E_MQ_CONNECT);
    rig->opts = good;
    rig->opts.declare_topology = false;
    expect_refused(rig, OBX_E_MQ_TOPOLOGY);
}

int main(int argc, char **argv)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest shared[] = {
        CASE(a_commit_whose_answer_is_lost_is_found),
        CASE(a_commit_that_is_lost_itself_is_run_again),
        CASE(database_connections_break_again_and_again),
        CASE(broker_connections_break_again_and_again),
        CASE(both_break_again_and_again),
        CASE(both_servers_away_at_the_start),
        CASE(a_missing_schema_is_said_and_waited_for),
        CASE(a_deleted_queue_is_declared_again),
        CASE(a_missing_queue_is_said_and_waited_for),
        CASE(a_queue_that_differs_is_said),
        CASE(fail_fast_refuses_to_start),
    };
    const struct CMUnitTest alone[] = {
        cmocka_unit_test_setup_teardown(a_read_only_database_is_waited_for, rig_setup,
                                        end_writable),
        CASE(messages_too_large_for_the_database_wait_in_pieces),
    };

    return TEST_RUN_PARTS(argc, argv, shared, alone);
}
