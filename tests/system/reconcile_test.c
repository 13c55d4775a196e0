/*
 * Reconcile against two real databases: what is missing, extra and on the way is told apart, ids of
 * any kind, the ends of the range to the microsecond, 100,000 messages in little memory.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "outboxctl/reconcile/reconcile.h"
#include "process.h"
#include "sql/schema.h"
#include "test_db.h"

enum { SQL_MAX = 4096, WAIT_MS = 60000, URL_MAX = 600, ARGS_MAX = 24 };
#define HOUR_US (UINT64_C(3600) * 1000000)
#define TEN     1700000000000000ULL /* 2023-11-14 22:13:20 */

struct scene {
    struct test_db source_db, consumer_db;
    struct db *source, *consumer, *source_scan, *consumer_scan, *root;
    struct test_user operators[2]; /* the documented accounts at the source and the consumer */
    struct reconcile_opts opts;
    struct reconcile_result result;
    char found[RECONCILE_KINDS][64]; /* the last id of each kind */
};

__attribute__((format(printf, 2, 3))) static void run(struct db *db, const char *fmt, ...)
{
    char sql[SQL_MAX];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(sql, sizeof(sql), fmt, args);
    va_end(args);
    test_db_run(db, sql);
}

static void migrate(struct db *db, enum schema_side side)
{
    struct obx_err err = {0};

    if (schema_migrate(db, side, NULL, NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
}

static int setup(void **state)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    struct db_opts root = test_db_root_opts();

    assert_non_null(scene);
    test_db_create(&scene->source_db, "source");
    test_db_create(&scene->consumer_db, "applied");
    scene->source = test_db_open(&scene->source_db.opts);
    scene->consumer = test_db_open(&scene->consumer_db.opts);
    scene->source_scan = test_db_open(&scene->source_db.opts);
    scene->consumer_scan = test_db_open(&scene->consumer_db.opts);
    scene->root = test_db_open(&root);
    migrate(scene->source, SCHEMA_PRODUCER);
    migrate(scene->source, SCHEMA_JOURNAL);
    migrate(scene->consumer, SCHEMA_CONSUMER);
    test_user_create(&scene->operators[0], &scene->source_db, "operator");
    test_user_create(&scene->operators[1], &scene->consumer_db, "operator");
    *state = scene;
    return 0;
}

/* The databases are made once; each test finds them empty. */
static int empty(void **state)
{
    static const char *const ours[] = {"outbox", "outbox_parked", "outbox_delayed",
                                       "outbox_awaiting", "outbox_journal"};
    struct scene *scene = *state;

    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        run(scene->source, "DELETE FROM %s", ours[i]);
    run(scene->consumer, "DELETE FROM inbox_applied");
    run(scene->consumer, "DELETE FROM inbox_parked");
    scene->opts = (struct reconcile_opts){.source = scene->source,
                                          .consumer = scene->consumer,
                                          .source_scan = scene->source_scan,
                                          .consumer_scan = scene->consumer_scan,
                                          .group = "g",
                                          .from_us = TEN,
                                          .to_us = TEN + HOUR_US,
                                          .grace_us = 60000000,
                                          .outboxes = {"outbox"},
                                          .outbox_count = 1};
    return 0;
}

static int teardown(void **state)
{
    struct scene *scene = *state;

    db_close(scene->source);
    db_close(scene->consumer);
    db_close(scene->source_scan);
    db_close(scene->consumer_scan);
    db_close(scene->root);
    test_user_drop(&scene->operators[0]);
    test_user_drop(&scene->operators[1]);
    test_db_drop(&scene->source_db);
    test_db_drop(&scene->consumer_db);
    free(scene);
    return 0;
}

static void on_finding(const struct reconcile_finding *finding, void *ctx)
{
    struct scene *scene = ctx;

    (void)bytes_to_text(finding->id, scene->found[finding->kind], sizeof(scene->found[0]));
}

static void compare(struct scene *scene)
{
    struct obx_err err = {0};

    memset(scene->found, 0, sizeof(scene->found));
    scene->opts.on_finding = on_finding;
    scene->opts.ctx = scene;
    if (reconcile_run(&scene->opts, &scene->result, &err) != OBX_OK)
        fail_msg("%s", err.text);
}

static void assert_found(const struct scene *scene, enum reconcile_kind kind, uint64_t count,
                         const char *id)
{
    if (scene->result.found[kind] != count)
        fail_msg("%" PRIu64 " %s, not %" PRIu64, scene->result.found[kind],
                 reconcile_kind_name(kind), count);
    if (id != NULL)
        assert_string_equal(scene->found[kind], id);
}

static uint64_t sum_found(const struct scene *scene)
{
    uint64_t sum = 0;

    for (unsigned kind = 0; kind < RECONCILE_KINDS; kind++)
        sum += scene->result.found[kind];
    return sum;
}

/* SQL of the id that the outbox gives at TEN + an expression of microseconds, and of that time. */
#define ID_AT(us)                                                                                  \
    "CONCAT(INSERT(LPAD(LOWER(HEX((1700000000000000 + " us ") DIV 1000)), 12, '0'), 9, 0, '-'),"   \
    " '-7', LPAD(LOWER(HEX(MOD(1700000000000000 + " us ", 1000) * 4)), 3, '0'), '-a000-',"         \
    " LPAD(HEX(" us "), 12, '0'))"
#define TIME_AT(us)                                                                                \
    "TIMESTAMPADD(MICROSECOND, 1700000000000000 + " us ", '1970-01-01 00:00:00.000000')"

/* count messages, each a millisecond and a bit after the one before, published and applied. */
static void fill(struct scene *scene, unsigned count)
{
    run(scene->source,
        "INSERT INTO outbox_journal SELECT 0, " ID_AT(
            "seq * 1013") ", 'outbox', IF(seq %% 2, "
                          "'order.placed', 'order.paid'), " TIME_AT(
                              "seq * 1013") ", UTC_TIMESTAMP(6) - INTERVAL 1 "
                                            "HOUR FROM " TEST_SEQ " WHERE seq <= %u",
        count);
    run(scene->root,
        "INSERT INTO %s.inbox_applied (consumer_group, message_id) SELECT 'g', message_id FROM "
        "%s.outbox_journal",
        scene->consumer_db.name, scene->source_db.name);
    /* Another group's business. */
    run(scene->root,
        "INSERT INTO %s.inbox_applied (consumer_group, message_id) SELECT 'other', "
        "CONCAT(message_id, "
        "'x') FROM %s.outbox_journal LIMIT 10",
        scene->consumer_db.name, scene->source_db.name);
}

static void both_sides_agree(void **state)
{
    struct scene *scene = *state;

    fill(scene, 12345);
    compare(scene);
    assert_int_equal(scene->result.compared, 12345);
    assert_int_equal(scene->result.applied, 12345);
    assert_int_equal(sum_found(scene), 0);
}

static void missing_and_extra_are_named(void **state)
{
    struct scene *scene = *state;

    fill(scene, 3000);
    run(scene->consumer,
        "DELETE FROM inbox_applied WHERE consumer_group = 'g' AND message_id = " ID_AT(
            "1000 * 1013"));
    run(scene->consumer, "INSERT INTO inbox_applied (consumer_group, message_id) "
                         "VALUES ('g', " ID_AT("77777") ")");
    compare(scene);
    assert_int_equal(scene->result.compared, 3000);
    assert_int_equal(scene->result.applied, 2999);
    assert_found(scene, RECONCILE_MISSING, 1, NULL);
    assert_found(scene, RECONCILE_EXTRA, 1, NULL);
    assert_int_equal(sum_found(scene), 2);
    assert_string_equal(scene->found[RECONCILE_MISSING] + 19, "a000-0000000F7508");
    assert_string_equal(scene->found[RECONCILE_EXTRA] + 19, "a000-000000012FD1");
}

static void what_is_on_the_way_is_not_missing(void **state)
{
    struct scene *scene = *state;

    fill(scene, 100);
    run(scene->consumer,
        "DELETE FROM inbox_applied WHERE consumer_group = 'g' AND message_id IN (" ID_AT(
            "1 * 1013") ", " ID_AT("2 * 1013") ", " ID_AT("3 * 1013") ", " ID_AT("4 * 1013") ")");
    /* 1: published a moment ago. 2: awaits its receipt. 3, 4: parked at the consumer. 5: rejected.
     */
    run(scene->source,
        "UPDATE outbox_journal SET settled_at = UTC_TIMESTAMP(6) WHERE message_id = " ID_AT(
            "1 * 1013"));
    run(scene->source,
        "INSERT INTO outbox_awaiting (message_id, outbox, id, topic, content_type, payload, "
        "created_at, receipt_from, next_send_at) VALUES (" ID_AT(
            "2 * 1013") ", 'outbox', 1, 't', 'c', '', UTC_TIMESTAMP(6), 'g', UTC_TIMESTAMP(6))");
    run(scene->consumer,
        "INSERT INTO inbox_parked (consumer_group, message_id, lane, state, replay_until, queue, "
        "properties, body, size) VALUES ('g', " ID_AT(
            "3 * 1013") ", 1, 'blocked', "
                        "UTC_TIMESTAMP(6), 'q', '', '', 0), ('g', " ID_AT(
                            "4 * 1013") ", 1, 'dead', "
                                        "UTC_TIMESTAMP(6), 'q', '', '', 0)");
    run(scene->consumer,
        "UPDATE inbox_applied SET outcome = 'rejected' WHERE consumer_group = 'g' AND "
        "message_id = " ID_AT("5 * 1013"));
    /* In the outbox, parked, delayed; and one that is applied already and not settled yet. */
    run(scene->source, "INSERT INTO outbox (message_id, topic, payload, created_at) VALUES (" ID_AT("500500") ", 't', '', " TIME_AT(
                           "500500") "), (" ID_AT("600600") ", 't', '', " TIME_AT("600600") "), "
                                                                                            "('"
                                                                                            "elsewh"
                                                                                            "en', "
                                                                                            "'t', "
                                                                                            "'', "
                                                                                            "'2020-"
                                                                                            "01-01'"
                                                                                            ")");
    run(scene->consumer,
        "INSERT INTO inbox_applied (consumer_group, message_id) VALUES ('g', " ID_AT("600600") ")");
    run(scene->source, "INSERT INTO outbox_parked (outbox, id, message_id, topic, content_type, "
                       "payload, created_at, reason_code) VALUES ('outbox', 9, 'parked-one', 't', "
                       "'c', '', " TIME_AT("1") ", 'r')");
    run(scene->source, "INSERT INTO outbox_delayed (message_id, topic, payload, created_at, "
                       "deliver_at) VALUES ('later-one', 't', '', " TIME_AT("1") ", '2099-01-01')");
    compare(scene);
    assert_found(scene, RECONCILE_MISSING, 0, NULL);
    assert_found(scene, RECONCILE_EXTRA, 0, NULL);
    assert_found(scene, RECONCILE_BROKER, 1, NULL);
    assert_found(scene, RECONCILE_AWAITING, 1, NULL);
    assert_found(scene, RECONCILE_WAITING, 1, NULL);
    assert_found(scene, RECONCILE_DEAD, 1, NULL);
    assert_found(scene, RECONCILE_REJECTED, 1, NULL);
    assert_found(scene, RECONCILE_OUTBOX, 1, NULL);
    assert_found(scene, RECONCILE_PARKED, 1, "parked-one");
    assert_found(scene, RECONCILE_DELAYED, 1, "later-one");
    assert_int_equal(scene->result.unsettled, 1);
    assert_int_equal(scene->result.applied, 95);
    /* A moment ago is a matter of the grace. */
    scene->opts.grace_us = 0;
    test_db_run(scene->source, "DO SLEEP(0.01)");
    compare(scene);
    assert_found(scene, RECONCILE_MISSING, 1, NULL);
    assert_found(scene, RECONCILE_BROKER, 0, NULL);
}

static void ids_may_be_anything(void **state)
{
    struct scene *scene = *state;

    fill(scene, 50);
    run(scene->source,
        "INSERT INTO outbox_journal (is_custom, message_id, outbox, topic, created_at, settled_at) "
        "SELECT 1, CONCAT(IF(seq %% 2, 'Order-', '018bcfe5-'), seq), 'outbox', 't', " TIME_AT(
            "seq") ", '2023-12-01' FROM " TEST_SEQ " WHERE seq <= 1200");
    run(scene->root,
        "INSERT INTO %s.inbox_applied (consumer_group, message_id, applied_at) SELECT 'g', "
        "message_id, "
        "created_at FROM %s.outbox_journal WHERE is_custom = 1 AND message_id <> 'Order-77'",
        scene->consumer_db.name, scene->source_db.name);
    run(scene->consumer,
        "INSERT INTO inbox_applied (consumer_group, message_id, applied_at) VALUES "
        "('g', X'FF00C3', " TIME_AT("5") "), ('g', 'earlier', '2020-01-01')");
    compare(scene);
    assert_int_equal(scene->result.compared, 1250);
    assert_found(scene, RECONCILE_MISSING, 1, "Order-77");
    assert_found(scene, RECONCILE_EXTRA, 0, NULL);
    scene->opts.all_ids = true;
    compare(scene);
    assert_found(scene, RECONCILE_MISSING, 1, "Order-77");
    assert_found(scene, RECONCILE_EXTRA, 1, NULL);
}

/* The range is [from, to) by created_at, to the microsecond; ids within a second of it. */
static void the_ends_of_the_range_are_exact(void **state)
{
    struct scene *scene = *state;

    run(scene->source,
        "INSERT INTO outbox_journal (is_custom, message_id, outbox, topic, created_at, settled_at) "
        "VALUES (0, " ID_AT("999999") ", 'o', 't', " TIME_AT(
            "999999") ", '2023-12-01'), "
                      "(0, " ID_AT("1000000") ", 'o', 't', " TIME_AT(
                          "1000000") ", '2023-12-01'), "
                                     "(0, " ID_AT("1999999") ", 'o', 't', " TIME_AT(
                                         "1999999") ", '2023-12-01'), "
                                                    "(0, " ID_AT("2000000") ", 'o', 't', " TIME_AT(
                                                        "2000000") ", '2023-12-01')");
    /* Ids that were made 0.9 s before and after their rows. */
    run(scene->source,
        "INSERT INTO outbox_journal (is_custom, message_id, outbox, topic, created_at, settled_at) "
        "VALUES (0, " ID_AT("100001") ", 'o', 't', " TIME_AT(
            "1000001") ", '2023-12-01'), "
                       "(0, " ID_AT("2899999") ", 'o', 't', " TIME_AT("1999998") ", '2023-12-01')");
    scene->opts.from_us = TEN + 1000000;
    scene->opts.to_us = TEN + 2000000;
    compare(scene);
    assert_int_equal(scene->result.compared, 4);
    assert_found(scene, RECONCILE_MISSING, 4, NULL);
    run(scene->root,
        "INSERT INTO %s.inbox_applied (consumer_group, message_id) SELECT 'g', message_id FROM "
        "%s.outbox_journal",
        scene->consumer_db.name, scene->source_db.name);
    compare(scene);
    assert_int_equal(scene->result.applied, 4);
    assert_int_equal(sum_found(scene), 0);
    /* Unknown to the source, at the ends: the id's own time decides. */
    run(scene->consumer, "INSERT INTO inbox_applied (consumer_group, message_id) VALUES "
                         "('g', " ID_AT("998999") "), ('g', " ID_AT(
                             "1000500") "), "
                                        "('g', " ID_AT("1999500") "), ('g', " ID_AT("2000500") ")");
    compare(scene);
    assert_found(scene, RECONCILE_EXTRA, 2, NULL);
}

static void topics_narrow_what_is_expected(void **state)
{
    struct scene *scene = *state;

    fill(scene, 100);
    run(scene->consumer,
        "DELETE FROM inbox_applied WHERE consumer_group = 'g' AND message_id IN (" ID_AT(
            "1 * 1013") ", " ID_AT("2 * 1013") ", " ID_AT("4 * 1013") ")");
    scene->opts.topics[0] = "order.placed";
    scene->opts.topic_count = 1;
    compare(scene);
    assert_int_equal(scene->result.compared, 50);
    assert_found(scene, RECONCILE_MISSING, 1, NULL);
    assert_found(scene, RECONCILE_EXTRA, 0, NULL);
    scene->opts.topics[0] = "order.pa*";
    compare(scene);
    assert_found(scene, RECONCILE_MISSING, 2, NULL);
    scene->opts.topics[1] = "order.placed";
    scene->opts.topic_count = 2;
    compare(scene);
    assert_found(scene, RECONCILE_MISSING, 3, NULL);
}

/* A sanitizer keeps what is freed for a while, and shadows it. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LITTLE_KIB = 400 * 1024 };
#else
enum { LITTLE_KIB = 12 * 1024 };
#endif

static long peak_kib(void)
{
    struct rusage usage;

    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_maxrss;
}

static void many_need_little_memory(void **state)
{
    enum { MANY = 100000, EXTRA = 2000 };
    struct scene *scene = *state;
    long before_kib;

    fill(scene, MANY);
    run(scene->consumer, "DELETE FROM inbox_applied WHERE consumer_group = 'g' AND "
                         "CRC32(message_id) %% 50 = 7");
    run(scene->consumer,
        "INSERT INTO inbox_applied (consumer_group, message_id) SELECT 'g', REPLACE(" ID_AT(
            "seq * 2027 + 500") ", '-a000-', '-b000-') FROM " TEST_SEQ " WHERE seq <= %d",
        EXTRA);
    before_kib = peak_kib();
    compare(scene);
    assert_int_equal(scene->result.compared, MANY);
    assert_found(scene, RECONCILE_EXTRA, EXTRA, NULL);
    assert_in_range(scene->result.found[RECONCILE_MISSING], MANY / 70, MANY / 35);
    assert_int_equal(scene->result.applied + scene->result.found[RECONCILE_MISSING], MANY);
    /* 100,000 ids of both sides alone would be more. */
    assert_in_range(peak_kib() - before_kib, 0, LITTLE_KIB);
}

/* ---- the program ---- */

static int ctl(struct scene *scene, const char *const *args)
{
    char url[2][URL_MAX];
    const char *argv[ARGS_MAX] = {RECONCILE_OUTBOXCTL,
                                  "--db",
                                  url[0],
                                  "reconcile",
                                  "--group",
                                  "g",
                                  "--consumer-db",
                                  url[1],
                                  "--from",
                                  "2023-11-14T22:13:20Z",
                                  "--to",
                                  "2023-11-14 23:13:20.5"};
    const struct proc_opts opts = {.argv = argv, .log_path = "reconcile.out"};
    struct proc_exit how = {0};
    size_t count = 12;

    for (int i = 0; i < 2; i++)
        snprintf(url[i], URL_MAX, "mysql://%s:%s@%s:%u/%s", scene->operators[i].opts.user,
                 scene->operators[i].opts.password, scene->operators[i].opts.host,
                 scene->operators[i].opts.port, scene->operators[i].opts.database);
    for (; *args != NULL && count + 1 < ARGS_MAX; args++)
        argv[count++] = *args;
    (void)remove("reconcile.out");
    assert_true(proc_run(&opts, WAIT_MS, &how));
    return how.code;
}
#define CTL(scene, ...) ctl(scene, (const char *const[]){__VA_ARGS__, NULL})

static void said(const char *text)
{
    char out[8192];
    FILE *file = fopen("reconcile.out", "r");
    size_t len;

    assert_non_null(file);
    len = fread(out, 1, sizeof(out) - 1, file);
    out[len] = '\0';
    (void)fclose(file);
    if (strstr(out, text) == NULL)
        fail_msg("not said: %s\n%s", text, out);
}

static void the_exit_status_tells(void **state)
{
    struct scene *scene = *state;

    fill(scene, 1234);
    assert_int_equal(CTL(scene, "--topic", "order.*"), 0);
    said("published              1,234");
    run(scene->source, "INSERT INTO outbox (message_id, topic, payload, created_at) VALUES "
                       "('on-its-way', 't', '', " TIME_AT("1") ")");
    assert_int_equal(CTL(scene, "--limit", "5"), 4);
    said("in an outbox           on-its-way");
    run(scene->consumer, "DELETE FROM inbox_applied WHERE consumer_group = 'g' LIMIT 1");
    assert_int_equal(CTL(scene, "--limit", "5"), 3);
    said("in a queue whose consumers do not take it, or lost");
    assert_int_equal(CTL(scene, "--json"), 3);
    said("\"missing\": 1");
    said("\"kind\": \"missing\"");
    assert_int_equal(CTL(scene, "--grace", "soon"), 2);
    assert_int_equal(CTL(scene, "--from", "5m", "--to", "1h"), 2);
    run(scene->source, "DROP TABLE outbox_journal");
    run(scene->source, "DELETE FROM rowpost_schema WHERE side = 'journal'");
    assert_int_equal(CTL(scene, "--limit", "5"), 1);
    said("journal = yes");
    (void)remove("reconcile.out");
}

#define TEST(f) cmocka_unit_test_setup(f, empty)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(both_sides_agree),
        TEST(missing_and_extra_are_named),
        TEST(what_is_on_the_way_is_not_missing),
        TEST(ids_may_be_anything),
        TEST(the_ends_of_the_range_are_exact),
        TEST(topics_narrow_what_is_expected),
        TEST(many_need_little_memory),
        TEST(the_exit_status_tells),
    };
    int failed = cmocka_run_group_tests(tests, setup, teardown);

    db_thread_end();
    return failed;
}
