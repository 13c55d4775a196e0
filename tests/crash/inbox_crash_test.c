/*
 * The inbox under kills: inbox-relay at each of its points, workers between any two of their
 * statements, and all of them with both servers at random. What is audited: every message has its
 * effect once, in the order of its key; who asked for a receipt gets one; nothing is left behind
 * (P3, P4, P7, P8).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/random.h"
#include "inbox_rig.h"
#include "wait.h"

static const char receipts[] = "rowpost.receipts.inbox-crash";
enum { PROGRESS_MS = 60000 };

static const char all_rows[] = "SELECT COUNT(*) FROM inbox";

static int setup(void **state)
{
    const int rc = inbox_rig_setup(state);

    if (rc == 0)
        broker_queue(((struct inbox_rig *)*state)->rig->admin, receipts, NULL, 0);
    return rc;
}

static int teardown(void **state)
{
    broker_delete_queue(((struct inbox_rig *)*state)->rig->admin, receipts);
    return inbox_rig_teardown(state);
}

static void describe(struct inbox_rig *rig)
{
    static const char *const counts[] = {
        "SELECT COUNT(*) FROM inbox WHERE state = 'ready'",
        "SELECT COUNT(*) FROM inbox WHERE state = 'ready' AND due_at <= UTC_TIMESTAMP(6)",
        "SELECT COUNT(*) FROM inbox WHERE state = 'blocked'",
        "SELECT COUNT(*) FROM inbox WHERE state IN ('done', 'dead')",
        "SELECT COUNT(*) FROM inbox_applied",
        "SELECT COUNT(*) FROM inbox_parked WHERE state = 'waiting'",
        "SELECT COUNT(*) FROM inbox_parked WHERE state = 'blocked'",
        "SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead'",
    };

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        print_message("%s: %" PRIu64 "\n", counts[i], rig_number(rig->rig, counts[i]));
}

/* As rig_wait_applied, as long as there is progress. */
static void wait_applied(struct inbox_rig *rig, uint64_t rows)
{
    uint64_t before = UINT64_MAX, now = 0;

    while ((now = rig_number(rig->rig, "SELECT COUNT(*) FROM applied")) < rows) {
        if (now == before) {
            describe(rig);
            fail_msg("%" PRIu64 " of %" PRIu64 " rows applied", now, rows);
        }
        before = now;
        for (int i = 0; i < PROGRESS_MS / 100; i++) {
            (void)poll(NULL, 0, 100);
            if (rig_number(rig->rig, "SELECT COUNT(*) FROM applied") >= rows)
                return;
        }
    }
}

/* Every third one asks for a receipt. */
static void fill(struct inbox_rig *rig, const char *prefix, int count, int keys)
{
    for (int i = 0; i < count; i++) {
        char id[40], key[40];

        (void)snprintf(id, sizeof(id), "%s-%06d", prefix, i);
        (void)snprintf(key, sizeof(key), "%s-key-%d", prefix, i % keys);
        if (i % 3 == 0)
            inbox_rig_put_asking(rig, id, key, "ok", receipts);
        else
            rig_put(rig->rig, id, key, "ok");
    }
    rig_flush(rig->rig);
}

static size_t occurrences(struct obx_bytes text, const char *word)
{
    size_t count = 0;

    for (size_t i = 0; i + strlen(word) <= text.len; i++)
        count += memcmp((const char *)text.p + i, word, strlen(word)) == 0;
    return count;
}

/* Each has one at least; some are published twice. */
static void expect_receipts(struct inbox_rig *rig, size_t wanted)
{
    size_t count = 0;

    while (count < wanted) {
        struct bridge_delivery *delivery = rig_take(rig->rig, receipts, RIG_WAIT_MS);

        if (delivery == NULL)
            fail_msg("%zu receipts, %zu wanted", count, wanted);
        count += occurrences(delivery->msg.body, "\"outcome\":\"applied\"");
        bridge_delivery_free(delivery);
    }
    rig_wait_number(rig->rig, "SELECT COUNT(*) FROM inbox_applied WHERE outcome IS NOT NULL", 0);
}

struct half_way {
    struct inbox_rig *rig;
    uint64_t applied;
};

static bool is_through_or_dead(void *ctx)
{
    const struct half_way *way = ctx;

    return !proc_is_alive(way->rig->relay[0]) ||
           (rig_number(way->rig->rig, "SELECT COUNT(*) FROM applied") >= way->applied &&
            rig_number(way->rig->rig, all_rows) == 0);
}

/* What is met at the second time is met: the first half has gone all the way before the second one
 * comes. Both at once may be one batch at each step. */
static void killed_at_each_point_it_loses_nothing(void **state)
{
    static const char *const points[] = {"inbox-stored:1",   "inbox-stored:2", "inbox-claimed:1",
                                         "inbox-reported:1", "inbox-filed:1",  "inbox-filed:2",
                                         "inbox-settled:1",  "inbox-settled:2"};
    enum { MESSAGES = 150, POINTS = sizeof(points) / sizeof(points[0]) };
    struct inbox_rig *rig = *state;
    struct inbox_workers *workers = inbox_workers_start(rig, 3, NULL);
    struct half_way half = {.rig = rig};

    for (size_t i = 0; i < POINTS; i++) {
        struct proc_exit how = {0};
        char env[80], prefix[16];

        (void)snprintf(env, sizeof(env), "OBX_CRASH=%s", points[i]);
        (void)snprintf(prefix, sizeof(prefix), "p%zu", i);
        inbox_rig_start(rig, 0, env);
        fill(rig, prefix, MESSAGES / 2, 5);
        half.applied = i * MESSAGES + MESSAGES / 2;
        if (!wait_until(RIG_WAIT_MS, is_through_or_dead, &half)) {
            describe(rig);
            fail_msg("%s: the first half is not through", points[i]);
        }
        (void)snprintf(prefix, sizeof(prefix), "q%zu", i);
        fill(rig, prefix, MESSAGES / 2, 5);
        if (!proc_wait(rig->relay[0], RIG_WAIT_MS, &how) || how.signal != SIGKILL)
            fail_msg("%s was not met", points[i]);
        inbox_rig_start(rig, 0, NULL);
        wait_applied(rig, (i + 1) * MESSAGES);
        rig_wait_number(rig->rig, all_rows, 0);
        inbox_rig_stop(rig, 0);
    }
    (void)inbox_workers_stop(workers);
    rig_audit(rig->rig, POINTS * MESSAGES);
    expect_receipts(rig, POINTS * MESSAGES / 3);
}

/* ------------------------------------------------------------------ workers */

enum stage { BEGUN, TAKEN, WRITTEN, FOUND_NEXT, DONE, COMMITTED, STAGES };

static void die_at(enum stage now, enum stage wanted)
{
    if (now == wanted)
        (void)raise(SIGKILL);
}

/* In a process of its own: a message with its session, which ends at the stage. */
static void work_and_die(const struct db_opts *opts, enum stage stage)
{
    struct inbox_taken taken = {0};
    struct obx_err err = {0};
    struct db *db = NULL;
    bool found = false;

    if (db_open(opts, &db, &err) != OBX_OK || db_begin(db, &err) != OBX_OK)
        _exit(1);
    die_at(BEGUN, stage);
    if (inbox_take(db, "orders", NULL, &taken, &found, &err) != OBX_OK || !found)
        _exit(2);
    die_at(TAKEN, stage);
    if (db_exec(db,
                "INSERT INTO applied (message_id, ordering_key, body, attempt) VALUES (?, ?, ?, ?)",
                DB_ARGS(DB_TEXT(taken.message_id), DB_TEXT(taken.key), DB_TEXT(taken.payload),
                        DB_U64(taken.attempt)),
                NULL, &err) != OBX_OK)
        _exit(3);
    die_at(WRITTEN, stage);
    if (stage == FOUND_NEXT) {
        struct db_rows *rows = NULL;
        const struct obx_bytes hash = {.p = taken.hash, .len = INBOX_HASH};

        if (db_query(db, inbox_statement_text(INBOX_NEXT),
                     DB_ARGS(DB_TEXT("orders"), DB_BYTES(hash), DB_U64(taken.id)), &rows,
                     &err) != OBX_OK)
            _exit(4);
    }
    die_at(FOUND_NEXT, stage);
    if (inbox_done(db, "orders", &taken, NULL, &err) != OBX_OK)
        _exit(5);
    die_at(DONE, stage);
    if (db_commit(db, &err) != OBX_OK)
        _exit(6);
    die_at(COMMITTED, stage);
    _exit(7);
}

static void expect_death(const struct db_opts *opts, enum stage stage)
{
    const pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0)
        work_and_die(opts, stage);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status))
        fail_msg("stage %d: status %d", (int)stage, WEXITSTATUS(status));
}

static void a_worker_killed_between_any_two_statements(void **state)
{
    struct inbox_rig *rig = *state;
    struct inbox_workers *workers;

    inbox_rig_start(rig, 0, NULL);
    fill(rig, "w", 90, 3);
    rig_wait_number(rig->rig, all_rows, 90);
    for (int round = 0; round < 3; round++) {
        for (int stage = BEGUN; stage < STAGES; stage++)
            expect_death(&rig->worker_opts, (enum stage)stage);
    }
    assert_int_equal(rig_number(rig->rig, "SELECT COUNT(*) FROM applied"), 3);
    assert_int_equal(rig_number(rig->rig, "SELECT MAX(attempt) FROM applied"), 1);
    workers = inbox_workers_start(rig, 2, NULL);
    wait_applied(rig, 90);
    rig_wait_number(rig->rig, all_rows, 0);
    (void)inbox_workers_stop(workers);
    inbox_rig_stop(rig, 0);
    rig_audit(rig->rig, 90);
    expect_receipts(rig, 30);
}

/* ------------------------------------------------------------------ large messages */

static void set_packet(uint64_t bytes)
{
    struct db_opts root = test_db_root_opts();
    struct db *db = test_db_open(&root);
    char sql[80];

    (void)snprintf(sql, sizeof(sql), "SET GLOBAL max_allowed_packet = %" PRIu64, bytes);
    test_db_run(db, sql);
    db_close(db);
}

static void put_large(struct inbox_rig *rig, const char *id, size_t size)
{
    char *body = calloc(1, size + 1);

    assert_non_null(body);
    memset(body, 'x', size);
    rig_put(rig->rig, id, NULL, body);
    rig_flush(rig->rig);
    free(body);
}

/* One that the session cannot write is dead and holds up nobody; one that the worker's session
 * cannot read comes in pieces. */
static void larger_than_the_sessions_packets(void **state)
{
    enum { MIB = 1048576 };
    struct inbox_rig *rig = *state;
    struct inbox_taken taken = {0};
    struct obx_err err = {0};
    struct db_rows *rows = NULL;
    struct db *db = NULL;
    bool found = false;

    set_packet(2 * MIB);
    inbox_rig_start(rig, 0, NULL);
    put_large(rig, "a", 3 * MIB);
    put_large(rig, "b", 3 * MIB / 2);
    rig_wait_number(rig->rig, all_rows, 1);
    rig_wait_number(rig->rig,
                    "SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead' AND "
                    "reason_code = 'OBX_E_REJECTED' AND reason LIKE '%max_allowed%'",
                    1);
    set_packet(MIB);
    db = test_db_open(&rig->worker_opts);
    assert_int_equal(db_begin(db, &err), OBX_OK);
    assert_int_equal(inbox_take(db, "orders", NULL, &taken, &found, &err), OBX_OK);
    assert_true(found && !taken.has_payload);
    assert_int_equal(db_query(db, inbox_statement_text(INBOX_PAYLOAD),
                              DB_ARGS(DB_U64(MIB), DB_U64(MIB / 2), DB_U64(taken.id)), &rows, &err),
                     OBX_OK);
    assert_true(db_rows_next(rows) && db_rows_bytes(rows, 0).len == MIB / 2);
    db_rows_free(rows);
    assert_int_equal(db_rollback(db, &err), OBX_OK);
    db_close(db);
    set_packet(16 * MIB);
    inbox_rig_stop(rig, 0);
}

/* ------------------------------------------------------------------ everything */

static enum inbox_act now_and_then_not(const struct inbox_taken *taken)
{
    return taken->attempt < 3 && random_u64() % 10 == 0 ? INBOX_ACT_RETRY : INBOX_ACT_DONE;
}

static void servers(const char *command, const char *server)
{
    const char *const argv[] = {test_env("OBX_TEST_SERVERS"), command, server, NULL};
    const struct proc_opts opts = {.argv = argv};
    struct proc_exit how = {0};

    if (!proc_run(&opts, 2 * RIG_WAIT_MS, &how) || how.code != 0)
        fail_msg("servers %s %s: status %d", command, server, how.code);
}

static void everything_is_killed_at_random(void **state)
{
    enum { ROUNDS = 6, MESSAGES = 120 };
    struct inbox_rig *rig = *state;
    struct inbox_workers *workers = inbox_workers_start(rig, 4, now_and_then_not);

    inbox_rig_start(rig, 0, NULL);
    inbox_rig_start(rig, 1, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        const int which = (int)(random_u64() % 2);
        char prefix[16];

        (void)snprintf(prefix, sizeof(prefix), "x%d", i);
        fill(rig, prefix, MESSAGES, 7);
        (void)poll(NULL, 0, (int)(random_u64() % 200));
        if (i == 2) {
            servers("kill", "database");
            servers("start", "database");
            db_close(rig->rig->db);
            rig->rig->db = test_db_open(&rig->rig->test_db.opts);
        } else if (i == 4) {
            rig_broker_away(rig->rig);
            servers("kill", "rabbitmq");
            servers("start", "rabbitmq");
            rig_broker_back(rig->rig);
        }
        proc_kill(rig->relay[which]);
        inbox_rig_start(rig, which, NULL);
        (void)proc_signal(rig->relay[1 - which], SIGSTOP);
        (void)poll(NULL, 0, (int)(random_u64() % 200));
        (void)proc_signal(rig->relay[1 - which], SIGCONT);
    }
    wait_applied(rig, ROUNDS * MESSAGES);
    rig_wait_number(rig->rig, all_rows, 0);
    (void)inbox_workers_stop(workers);
    inbox_rig_stop(rig, 0);
    inbox_rig_stop(rig, 1);
    rig_audit(rig->rig, ROUNDS * MESSAGES);
    expect_receipts(rig, ROUNDS * MESSAGES / 3);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(killed_at_each_point_it_loses_nothing),
        TEST(a_worker_killed_between_any_two_statements),
        TEST(larger_than_the_sessions_packets),
        TEST(everything_is_killed_at_random),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    db_thread_end();
    return failed;
}
