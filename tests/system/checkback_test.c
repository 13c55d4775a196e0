/*
 * Check-back on a real database with producers that are honest, slow, dead and lying (P2, P5, P6,
 * P7).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#undef stop /* cmocka 2 has a macro of this name */

#include "base/bytes.h"
#include "endpoint.h"
#include "half/checkback/ask_barrier.h"
#include "half/checkback/check_sql.h"
#include "half/checkback/checkback.h"
#include "sql/schema.h"
#include "test_db.h"
#include "wait.h"

struct rig {
    struct test_db database;
    struct test_db business; /* with the barrier */
    struct db *db;
    struct half_store *store;
    struct checkback *cb;
};

static int setup(void **state)
{
    static struct rig rig;
    struct half_store_opts opts = {0};
    struct obx_err err = {0};

    memset(&rig, 0, sizeof(rig));
    test_db_create(&rig.database, "check");
    test_db_create(&rig.business, "business");
    rig.db = test_db_open(&rig.database.opts);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_HALF, NULL, NULL, &err), OBX_OK);
    opts.db = rig.database.opts;
    assert_int_equal(half_store_create(&opts, &rig.store, &err), OBX_OK);
    *state = &rig;
    return 0;
}

static void stop(struct rig *rig)
{
    checkback_destroy(rig->cb);
    rig->cb = NULL;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    stop(rig);
    half_store_destroy(rig->store);
    db_close(rig->db);
    test_db_drop(&rig->database);
    test_db_drop(&rig->business);
    return 0;
}

static struct checkback_opts fast_opts(struct rig *rig, const struct check_producer *producers,
                                       size_t count)
{
    return (struct checkback_opts){.db = rig->database.opts,
                                   .owner = "test",
                                   .store = rig->store,
                                   .producers = producers,
                                   .producer_count = count,
                                   .poll_ms = 20,
                                   .chores_ms = 200,
                                   .backoff_min_ms = 20,
                                   .backoff_cap_ms = 100,
                                   .max_answers = 4,
                                   .max_in_progress = 1000,
                                   .breaker_min_ms = 50,
                                   .breaker_cap_ms = 200};
}

static void start(struct rig *rig, const struct checkback_opts *opts)
{
    struct obx_err err = {0};

    assert_int_equal(checkback_create(opts, &rig->cb, &err), OBX_OK);
}

/* Half-messages straight by SQL, as any language may: `count` of them, due at once. */
static void prepare(struct rig *rig, const char *producer, const char *prefix, unsigned count)
{
    char sql[2048];

    snprintf(sql, sizeof(sql),
             "INSERT INTO half_message (gid, producer, next_check_at) "
             "SELECT CONCAT('%s-', seq - 1), '%s', UTC_TIMESTAMP(6) FROM " TEST_SEQ
             " WHERE seq <= %u",
             prefix, producer, count);
    test_db_run(rig->db, "BEGIN");
    test_db_run(rig->db, sql);
    snprintf(sql, sizeof(sql),
             "INSERT INTO half_part (gid, verdict, topic, payload) SELECT gid, 'commit', 'done', "
             "gid FROM half_message "
             "WHERE gid LIKE '%s-%%'",
             prefix);
    test_db_run(rig->db, sql);
    test_db_run(rig->db, "COMMIT");
}

struct expect {
    struct rig *rig;
    const char *sql;
    uint64_t want;
};

static bool has_come(void *ctx)
{
    struct expect *expect = ctx;

    return test_db_number(expect->rig->db, expect->sql) == expect->want;
}

static void wait_for(struct rig *rig, const char *sql, uint64_t want)
{
    struct expect expect = {rig, sql, want};

    if (!wait_until(60000, has_come, &expect))
        fail_msg("%s is %llu, not %llu", sql, (unsigned long long)test_db_number(rig->db, sql),
                 (unsigned long long)want);
}

static struct check_producer by_http(const char *name, const struct endpoint *endpoint, char *url,
                                     size_t size)
{
    snprintf(url, size, "http://127.0.0.1:%u/check?gid={gid}", (unsigned)endpoint_port(endpoint));
    return (struct check_producer){
        .name = name, .kind = CHECK_BY_HTTP, .url = url, .timeout_ms = 500};
}

/* Even numbers were committed, odd ones rolled back. */
static void honest(const char *path, struct endpoint_answer *answer, void *ctx)
{
    size_t len = strlen(path);
    bool is_even = (path[len - 1] - '0') % 2 == 0;

    (void)ctx;
    snprintf(answer->body, sizeof(answer->body), "{\"state\":\"%s\"}",
             is_even ? "committed" : "rolled_back");
}

static void silent_producers_messages_get_their_verdict(void **state)
{
    struct rig *rig = *state;
    struct endpoint *endpoint = endpoint_create(honest, NULL);
    char url[128];
    struct check_producer producer = by_http("orders", endpoint, url, sizeof(url));
    struct checkback_opts opts = fast_opts(rig, &producer, 1);

    prepare(rig, "orders", "g", 500);
    start(rig, &opts);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE state = 'prepared'", 0);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), 250);
    assert_int_equal(
        test_db_number(
            rig->db,
            "SELECT COUNT(*) FROM outbox WHERE RIGHT(payload, 1) IN ('0', '2', '4', '6', '8')"),
        250);
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_message WHERE decided_by = 'check'"),
        500);
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_history WHERE event = 'verdict'"), 500);
    stop(rig);
    endpoint_destroy(endpoint);
}

static void unknown(const char *path, struct endpoint_answer *answer, void *ctx)
{
    (void)path;
    (void)ctx;
    answer->status = 404;
}

static void not_found_is_not_rolled_back_but_parked_at_the_limit(void **state)
{
    struct rig *rig = *state;
    struct endpoint *endpoint = endpoint_create(unknown, NULL);
    char url[128];
    struct check_producer producer = by_http("orders", endpoint, url, sizeof(url));
    struct checkback_opts opts = fast_opts(rig, &producer, 1);

    prepare(rig, "orders", "g", 10);
    start(rig, &opts);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE state = 'parked'", 10);
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_message WHERE checks_answered = 4 AND "
                                "note LIKE 'parked after 4 answers%'"),
        10);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_part"), 10);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), 0);
    stop(rig);
    endpoint_destroy(endpoint);
}

/* The last digit chooses the lie. */
static void lying(const char *path, struct endpoint_answer *answer, void *ctx)
{
    (void)ctx;
    switch (path[strlen(path) - 1]) {
    case '0':
        answer->status = 500;
        snprintf(answer->body, sizeof(answer->body), "{\"state\":\"committed\"}");
        break;
    case '1':
        answer->status = 302;
        snprintf(answer->location, sizeof(answer->location), "/check?gid=x-8");
        break;
    case '2':
        snprintf(answer->body, sizeof(answer->body), "{\"state\":");
        break;
    case '3':
        answer->mode = ENDPOINT_HUGE;
        break;
    case '4':
        answer->mode = ENDPOINT_ENDLESS;
        break;
    case '5':
        answer->mode = ENDPOINT_SILENT;
        break;
    case '6':
        answer->mode = ENDPOINT_CLOSE;
        break;
    default:
        snprintf(answer->body, sizeof(answer->body), "{\"state\":\"committed\"}");
    }
}

static void lies_decide_nothing_and_use_up_no_try(void **state)
{
    struct rig *rig = *state;
    struct endpoint *endpoint = endpoint_create(lying, NULL);
    char url[128];
    struct check_producer producer = by_http("orders", endpoint, url, sizeof(url));
    struct checkback_opts opts = fast_opts(rig, &producer, 1);

    opts.breaker_failures = 1000000;
    prepare(rig, "orders", "g", 8);
    start(rig, &opts);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE checks_asked >= 6", 7);
    assert_int_equal(
        test_db_number(
            rig->db,
            "SELECT COUNT(*) FROM half_message WHERE state = 'prepared' AND checks_answered = 0"),
        7);
    assert_int_equal(
        test_db_number(
            rig->db, "SELECT COUNT(*) FROM half_message WHERE state = 'committed' AND gid = 'g-7'"),
        1);
    stop(rig);
    endpoint_destroy(endpoint);
}

static void a_dead_producer_holds_up_nobody(void **state)
{
    struct rig *rig = *state;
    struct endpoint *endpoint = endpoint_create(honest, NULL);
    char url[128];
    struct check_producer producers[2] = {
        {.name = "dead", .kind = CHECK_BY_HTTP, .url = "http://127.0.0.1:1/", .timeout_ms = 500},
        by_http("healthy", endpoint, url, sizeof(url))};
    struct checkback_opts opts = fast_opts(rig, producers, 2);
    struct checkback_producer_stats dead;

    prepare(rig, "dead", "d", 100000);
    prepare(rig, "healthy", "h", 1000);
    start(rig, &opts);
    wait_for(rig,
             "SELECT COUNT(*) FROM half_message WHERE producer = 'healthy' AND state = 'prepared'",
             0);
    checkback_get_producer_stats(rig->cb, 0, &dead);
    assert_int_equal(dead.answered, 0);
    assert_true(dead.failed > 0 && dead.failed < 1000);
    assert_int_equal(
        test_db_number(
            rig->db,
            "SELECT COUNT(*) FROM half_message WHERE producer = 'dead' AND state = 'prepared'"),
        100000);
    stop(rig);
    endpoint_destroy(endpoint);
}

static void who_cannot_be_asked_is_parked_and_said(void **state)
{
    struct rig *rig = *state;
    struct check_producer producer = {.name = "mute", .kind = CHECK_NEVER};
    struct checkback_opts opts = fast_opts(rig, &producer, 1);

    prepare(rig, "mute", "m", 3);
    prepare(rig, "stranger", "s", 3);
    start(rig, &opts);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE state = 'parked'", 6);
    assert_int_equal(
        test_db_number(rig->db,
                       "SELECT COUNT(*) FROM half_message WHERE note LIKE '%configuration'"),
        3);
}

static struct check_producer by_barrier(struct rig *rig)
{
    return (struct check_producer){
        .name = "bank", .kind = CHECK_BY_BARRIER, .db = rig->business.opts};
}

static void the_barrier_decides_with_no_code_in_the_producer(void **state)
{
    struct rig *rig = *state;
    struct check_producer producer = by_barrier(rig);
    struct checkback_opts opts = fast_opts(rig, &producer, 1);
    struct db *business = test_db_open(&rig->business.opts);
    struct obx_err err = {0};

    assert_int_equal(schema_migrate(business, SCHEMA_BARRIER, NULL, NULL, &err), OBX_OK);
    test_db_run(business, "INSERT INTO half_barrier (gid) VALUES ('b-0')");
    test_db_run(business, "BEGIN");
    test_db_run(business, "INSERT INTO half_barrier (gid) VALUES ('b-1')");
    prepare(rig, "bank", "b", 3);
    start(rig, &opts);
    wait_for(rig,
             "SELECT COUNT(*) FROM half_message WHERE (gid = 'b-0' AND state = 'committed') OR "
             "(gid = 'b-2' AND state = 'rolled_back')",
             2);
    wait_for(rig, "SELECT checks_answered >= 3 FROM half_message WHERE gid = 'b-1'", 1);
    assert_int_equal(
        test_db_number(rig->db, "SELECT state = 'prepared' FROM half_message WHERE gid = 'b-1'"),
        1);
    test_db_run(business, "COMMIT");
    wait_for(
        rig,
        "SELECT state = 'committed' AND decided_by = 'barrier' FROM half_message WHERE gid = 'b-1'",
        1);
    /* The local transaction that comes after the check meets the duplicate key. */
    assert_int_equal(
        db_exec(business, "INSERT INTO half_barrier (gid) VALUES ('b-2')", DB_NO_ARGS, NULL, &err),
        OBX_E_DB_DUPLICATE);
    db_close(business);
}

/* Its barrier row may have been cleaned away: the local transaction may have committed long ago. */
static void about_an_old_one_a_missing_barrier_row_says_nothing(void **state)
{
    struct rig *rig = *state;
    struct check_producer producer = by_barrier(rig);
    struct checkback_opts opts = fast_opts(rig, &producer, 1);
    struct db *business = test_db_open(&rig->business.opts);
    struct obx_err err = {0};

    assert_int_equal(schema_migrate(business, SCHEMA_BARRIER, NULL, NULL, &err), OBX_OK);
    test_db_run(business, "INSERT INTO half_barrier (gid) VALUES ('b-0')");
    prepare(rig, "bank", "b", 3);
    test_db_run(rig->db, "UPDATE half_message SET prepared_at = UTC_TIMESTAMP(6) - INTERVAL 2 DAY "
                         "WHERE gid IN ('b-0', 'b-1')");
    opts.barrier_keep_s = 24 * 3600;
    start(rig, &opts);
    wait_for(rig,
             "SELECT COUNT(*) FROM half_message WHERE (gid = 'b-0' AND state = 'committed') OR "
             "(gid = 'b-1' AND state = 'parked') OR (gid = 'b-2' AND state = 'rolled_back')",
             3);
    assert_int_equal(
        test_db_number(business, "SELECT COUNT(*) FROM half_barrier WHERE branch = ''"), 2);
    db_close(business);
}

static void an_open_transaction_that_rolls_back_is_seen_as_such(void **state)
{
    struct rig *rig = *state;
    struct check_producer producer = by_barrier(rig);
    struct checkback_opts opts = fast_opts(rig, &producer, 1);
    struct db *business = test_db_open(&rig->business.opts);
    struct obx_err err = {0};

    assert_int_equal(schema_migrate(business, SCHEMA_BARRIER, NULL, NULL, &err), OBX_OK);
    test_db_run(business, "BEGIN");
    test_db_run(business, "INSERT INTO half_barrier (gid) VALUES ('b-0')");
    prepare(rig, "bank", "b", 1);
    start(rig, &opts);
    wait_for(rig, "SELECT checks_answered >= 2 FROM half_message WHERE gid = 'b-0'", 1);
    test_db_run(business, "ROLLBACK");
    wait_for(rig, "SELECT state = 'rolled_back' FROM half_message WHERE gid = 'b-0'", 1);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), 0);
    db_close(business);
}

static void of_two_relays_one_asks_and_the_other_takes_over(void **state)
{
    struct rig *rig = *state;
    struct endpoint *endpoint = endpoint_create(honest, NULL);
    char url[128];
    struct check_producer producer = by_http("orders", endpoint, url, sizeof(url));
    struct checkback_opts opts = fast_opts(rig, &producer, 1);
    struct checkback *second = NULL;
    struct checkback_stats stats;
    struct obx_err err = {0};

    opts.backoff_min_ms = opts.backoff_cap_ms = 60000; /* nobody is asked about one thing twice */
    start(rig, &opts);
    prepare(rig, "orders", "a", 10);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE state = 'prepared'", 0);
    opts.owner = "another";
    assert_int_equal(checkback_create(&opts, &second, &err), OBX_OK);
    prepare(rig, "orders", "b", 50);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE state = 'prepared'", 0);
    checkback_get_stats(second, &stats);
    assert_int_equal(stats.asked, 0);
    stop(rig);
    prepare(rig, "orders", "c", 50);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE state = 'prepared'", 0);
    checkback_get_stats(second, &stats);
    assert_int_equal(stats.asked, 50);
    checkback_destroy(second);
    endpoint_destroy(endpoint);
}

static bool has_seen_operators(void *ctx)
{
    struct rig *rig = ctx;
    struct checkback_stats stats;

    checkback_get_stats(rig->cb, &stats);
    return stats.verdicts_by_operator == 2;
}

static bool is_counting(void *ctx)
{
    struct rig *rig = ctx;
    struct checkback_stats stats;

    checkback_get_stats(rig->cb, &stats);
    return stats.parked_now > 0;
}

static void verdicts_of_operators_are_counted_by_any_relay(void **state)
{
    struct rig *rig = *state;
    struct check_producer producer = {.name = "mute", .kind = CHECK_NEVER};
    struct checkback_opts opts = fast_opts(rig, &producer, 1);

    prepare(rig, "mute", "m", 1);
    test_db_run(rig->db, "INSERT INTO half_history (gid, event, actor) "
                         "VALUES ('before', 'verdict', 'operator:anna')");
    start(rig, &opts);
    assert_true(wait_until(20000, is_counting, rig));
    test_db_run(rig->db, "INSERT INTO half_history (gid, event, actor) VALUES "
                         "('a', 'verdict', 'operator:anna'), ('b', 'verdict', 'check'), "
                         "('c', 'resumed', 'operator:anna'), ('d', 'verdict', 'operator:bob')");
    assert_true(wait_until(20000, has_seen_operators, rig));
}

static void decided_ones_go_after_the_retention_and_open_ones_stay(void **state)
{
    struct rig *rig = *state;
    struct check_producer producer = {.name = "mute", .kind = CHECK_NEVER};
    struct checkback_opts opts = fast_opts(rig, &producer, 1);

    opts.retention_s = 3600;
    prepare(rig, "mute", "m", 1200);
    test_db_run(rig->db,
                "UPDATE half_message SET next_check_at = UTC_TIMESTAMP(6) + INTERVAL 1 DAY");
    test_db_run(rig->db,
                "UPDATE half_message SET state = 'committed', next_check_at = NULL, decided_at = "
                "UTC_TIMESTAMP(6) - INTERVAL 2 HOUR WHERE gid LIKE '%0'");
    test_db_run(rig->db,
                "UPDATE half_message SET state = 'committed', next_check_at = NULL, decided_at = "
                "UTC_TIMESTAMP(6) WHERE gid LIKE '%1'");
    start(rig, &opts);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE gid LIKE '%0'", 0);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_message"), 1080);
}

/* ---- what cannot be asked about, and what somebody holds ---- */

/* By SQL a gid may have any character. That is not the failure of the producer, who is asked about
 * the others as ever. */
static void a_gid_that_cannot_stand_in_a_url_is_parked_at_once(void **state)
{
    struct rig *rig = *state;
    struct endpoint *endpoint = endpoint_create(honest, NULL);
    char url[128];
    struct check_producer producer = by_http("orders", endpoint, url, sizeof(url));
    struct checkback_opts opts = {.db = rig->database.opts,
                                  .owner = "test",
                                  .store = rig->store,
                                  .producers = &producer,
                                  .producer_count = 1};
    struct checkback_producer_stats stats;

    prepare(rig, "orders", "no url/", 30);
    prepare(rig, "orders", "g", 20);
    start(rig, &opts);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE state = 'prepared'", 0);
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_message WHERE state = 'parked' AND gid "
                                "LIKE 'no url/%' AND note LIKE '%cannot stand in a URL%'"),
        30);
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_history WHERE event = 'parked'"), 30);
    checkback_get_producer_stats(rig->cb, 0, &stats);
    assert_int_equal(stats.failed, 0);
    assert_int_equal(stats.breaker, BREAKER_CLOSED);
    assert_int_equal(stats.asked, 20);
    stop(rig);
    endpoint_destroy(endpoint);
}

static void a_half_message_that_is_held_holds_up_no_check(void **state)
{
    struct rig *rig = *state;
    struct endpoint *endpoint = endpoint_create(honest, NULL);
    char urls[2][128];
    struct check_producer producers[] = {
        by_http("orders", endpoint, urls[0], sizeof(urls[0])),
        by_http("payments", endpoint, urls[1], sizeof(urls[1])),
        {.name = "mute", .kind = CHECK_NEVER},
    };
    struct checkback_opts opts = fast_opts(rig, producers, 3);
    struct db *other = test_db_open(&rig->database.opts);

    opts.retention_s = 3600;
    prepare(rig, "orders", "held", 1);
    prepare(rig, "mute", "heldmute", 1);
    prepare(rig, "mute", "heldold", 1);
    test_db_run(rig->db, "UPDATE half_message SET state = 'committed', next_check_at = NULL, "
                         "decided_at = '2001-01-01' WHERE gid LIKE 'heldold-%'");
    test_db_run(other, "START TRANSACTION");
    test_db_run(other, "UPDATE half_message SET note = 'hangs'");
    prepare(rig, "orders", "g", 20);
    prepare(rig, "payments", "p", 20);
    prepare(rig, "mute", "m", 5);
    prepare(rig, "mute", "old", 5);
    test_db_run(rig->db, "UPDATE half_message SET state = 'committed', next_check_at = NULL, "
                         "decided_at = '2001-01-01' WHERE gid LIKE 'old-%'");
    start(rig, &opts);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE state = 'prepared'", 2);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE gid LIKE '%old-%'", 1);
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_message WHERE state = 'parked'"), 5);
    db_close(other);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE state = 'prepared'", 0);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE gid LIKE '%old-%'", 0);
    stop(rig);
    endpoint_destroy(endpoint);
}

/* With the options as they come: one that says nothing, one that drips, one whose database is held.
 * The others are asked on time, and all of the bad ones' asks are still in flight or failed. */
static void misbehave(const char *path, struct endpoint_answer *answer, void *ctx)
{
    if (strstr(path, "gid=silent") != NULL)
        answer->mode = ENDPOINT_SILENT;
    else if (strstr(path, "gid=drip") != NULL)
        answer->mode = ENDPOINT_ENDLESS;
    else
        honest(path, answer, ctx);
}

static void a_hung_producer_holds_up_nobody_with_the_defaults(void **state)
{
    enum { PRODUCERS = 200, GOOD = 197 };
    struct rig *rig = *state;
    static struct check_producer producers[PRODUCERS];
    static char names[PRODUCERS][16];
    struct endpoint *endpoint = endpoint_create(misbehave, NULL);
    char url[128];
    struct checkback_opts opts = {.db = rig->database.opts,
                                  .owner = "test",
                                  .store = rig->store,
                                  .producers = producers,
                                  .producer_count = PRODUCERS};
    struct checkback_producer_stats stats;
    struct db *business = test_db_open(&rig->business.opts);
    struct obx_err err = {0};

    assert_int_equal(schema_migrate(business, SCHEMA_BARRIER, NULL, NULL, &err), OBX_OK);
    test_db_run(business, "LOCK TABLES half_barrier WRITE");
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/check", (unsigned)endpoint_port(endpoint));
    for (unsigned i = 0; i < PRODUCERS; i++) {
        snprintf(names[i], sizeof(names[i]), "p%03u", i);
        producers[i] = (struct check_producer){.name = names[i], .kind = CHECK_BY_HTTP, .url = url};
    }
    producers[2] = by_barrier(rig);
    producers[2].name = names[2];
    prepare(rig, "p000", "silent", 40);
    prepare(rig, "p001", "drip", 40);
    prepare(rig, "p002", "held", 40);
    test_db_run(rig->db, "INSERT INTO half_message (gid, producer, next_check_at) SELECT "
                         "CONCAT('g-', seq, '-0'), CONCAT('p', LPAD(seq + 2, 3, '0')), "
                         "UTC_TIMESTAMP(6) FROM " TEST_SEQ " WHERE seq <= 197");
    start(rig, &opts);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE state = 'committed'", 197);
    for (size_t i = 0; i < 3; i++) {
        checkback_get_producer_stats(rig->cb, i, &stats);
        assert_true(stats.asked > 0 && stats.answered == 0);
    }
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_message WHERE state = 'prepared'"), 120);
    test_db_run(business, "UNLOCK TABLES");
    stop(rig);
    db_close(business);
    endpoint_destroy(endpoint);
}

/* ---- the statements ---- */

static void hold_lease(struct rig *rig, struct lease *lease, const char *owner)
{
    const struct lease_opts opts = {.name = "half:check", .owner = owner, .lease_ms = 600000};
    struct obx_err err = {0};
    bool acquired = false;

    lease_init(lease, &opts);
    assert_int_equal(lease_try(lease, rig->db, &acquired, &err), OBX_OK);
    assert_true(acquired);
}

/* However many half-messages wait, finding out which producers have one that is due reads a row of
 * each producer; more producers than one look passes over are found as well. */
static void due_producers_are_found_by_dives(void **state)
{
    enum { MANY = 6000, DUE = 270 };
    struct rig *rig = *state;
    uint64_t before;
    char name[HALF_PRODUCER_MAX + 1] = "";
    bool is_due = false;
    struct obx_err err = {0};
    struct checkback_opts opts = fast_opts(rig, NULL, 0);

    prepare(rig, "a", "a", MANY);
    prepare(rig, "b", "b", MANY);
    test_db_run(rig->db,
                "UPDATE half_message SET next_check_at = next_check_at + INTERVAL 1 DAY WHERE "
                "producer = 'a' OR gid > 'b-1'");
    before = test_db_rows_read(rig->db);
    assert_int_equal(check_next_producer(rig->db, "", name, &is_due, &err), OBX_OK);
    assert_string_equal(name, "a");
    assert_false(is_due);
    assert_int_equal(check_next_producer(rig->db, "a", name, &is_due, &err), OBX_OK);
    assert_string_equal(name, "b");
    assert_true(is_due);
    assert_int_equal(check_next_producer(rig->db, "b", name, &is_due, &err), OBX_OK);
    assert_string_equal(name, "");
    assert_true(test_db_rows_read(rig->db) - before < 500);
    test_db_run(rig->db, "INSERT INTO half_message (gid, producer, next_check_at) SELECT "
                         "CONCAT('s-', seq), CONCAT('stranger', seq), UTC_TIMESTAMP(6) FROM "
                         "" TEST_SEQ " WHERE seq <= 270");
    start(rig, &opts);
    wait_for(rig, "SELECT COUNT(*) FROM half_message WHERE state = 'parked' AND producer LIKE 's%'",
             DUE);
}

/* What came of an ask is written down whatever the peer said, and by the owner of the lease only.
 */
static void a_write_is_text_and_under_the_lease(void **state)
{
    static const struct check_limits limits = {2, 100};
    static const struct check_take take = {"orders", 1, 1000, 1000};
    struct rig *rig = *state;
    struct outcome outcome = {.gid = "g-0", .answer = CHECK_UNKNOWN, .why = "said \xff\xc3)"};
    struct lease first, second;
    struct due due;
    uint32_t count = 0;
    uint64_t parked = 0, cleaned = 0, after_id = 0;
    char after[HALF_GID_MAX + 1] = "";
    struct obx_err err = {0};

    prepare(rig, "orders", "g", 1);
    hold_lease(rig, &first, "one");
    assert_int_equal(check_write_outcomes(rig->db, &first, &outcome, 1, limits, &parked, &err),
                     OBX_OK);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_history WHERE detail = "
                                             "'unknown: said ?"
                                             "?)'"),
                     1);
    assert_int_equal(test_db_number(rig->db, "SELECT checks_answered FROM half_message"), 1);
    /* It stood still, and another has taken over. */
    test_db_run(rig->db, "UPDATE outbox_lease SET expires_at = UTC_TIMESTAMP(6)");
    hold_lease(rig, &second, "two");
    assert_int_equal(check_write_outcomes(rig->db, &first, &outcome, 1, limits, &parked, &err),
                     OBX_E_LEASE_LOST);
    assert_int_equal(check_take_due(rig->db, &first, &take, &due, &count, &err), OBX_E_LEASE_LOST);
    assert_int_equal(check_park_due(rig->db, &first, "orders", "n", 1, &parked, &err),
                     OBX_E_LEASE_LOST);
    snprintf(due.gid, sizeof(due.gid), "g-0");
    assert_int_equal(check_park(rig->db, &first, &due, 1, "n", &parked, &err), OBX_E_LEASE_LOST);
    assert_int_equal(check_clean(rig->db, &first, after, 10, 0, &cleaned, &err), OBX_E_LEASE_LOST);
    assert_int_equal(count + parked + cleaned, 0);
    test_db_run(rig->db, "UPDATE half_history SET gid = 'gone', at = '2001-01-01'");
    assert_int_equal(check_clean_history(rig->db, &first, &after_id, 10, 1, &cleaned, &err),
                     OBX_E_LEASE_LOST);
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_message WHERE state = 'prepared' AND "
                                "checks_answered = 1 AND checks_asked = 0"),
        1);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_history"), 1);
    assert_int_equal(check_write_outcomes(rig->db, &second, &outcome, 1, limits, &parked, &err),
                     OBX_OK);
    assert_int_equal(parked, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(silent_producers_messages_get_their_verdict, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(not_found_is_not_rolled_back_but_parked_at_the_limit, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(lies_decide_nothing_and_use_up_no_try, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dead_producer_holds_up_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(a_gid_that_cannot_stand_in_a_url_is_parked_at_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_half_message_that_is_held_holds_up_no_check, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_hung_producer_holds_up_nobody_with_the_defaults, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(due_producers_are_found_by_dives, setup, teardown),
        cmocka_unit_test_setup_teardown(a_write_is_text_and_under_the_lease, setup, teardown),
        cmocka_unit_test_setup_teardown(who_cannot_be_asked_is_parked_and_said, setup, teardown),
        cmocka_unit_test_setup_teardown(the_barrier_decides_with_no_code_in_the_producer, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(about_an_old_one_a_missing_barrier_row_says_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_open_transaction_that_rolls_back_is_seen_as_such, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(of_two_relays_one_asks_and_the_other_takes_over, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(verdicts_of_operators_are_counted_by_any_relay, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(decided_ones_go_after_the_retention_and_open_ones_stay,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
