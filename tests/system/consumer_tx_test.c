/*
 * Handlers that end the transaction they were given, in every way there is: alone, and in the
 * middle of a batch. Whatever they do, no other message loses or doubles its effect, and theirs is
 * committed once or dead-lettered, and reported.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "consumer_rig.h"
#include "worker/tx.h"

enum { BEFORE = 7, AFTER = 25, ATTEMPTS = 3, GATHER_US = 150000 };

/* Past the library, as a handler does that uses the native handle: errors are not seen, and ignored
 * here. */
static void run(struct obx_tx *tx, const char *sql)
{
    void *handle = obx_tx_native(tx);
    enum obx_code ignored = db_exec_text(tx->db, bytes_of(sql), NULL, NULL);

    (void)handle; /* its client is the library's, and so is what it makes of an answer */
    (void)ignored;
}

/* The statements of a body, separated by ';', after the message's own write. "!" in front: without
 * that write. */
static enum obx_verdict obey(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    char text[256];
    char *next = NULL;
    char *at = text;

    (void)ctx;
    (void)bytes_to_text(msg->body, text, sizeof(text));
    if (*at == '!')
        at++;
    else if (rig_write(msg, tx) != OBX_APPLIED)
        return OBX_RETRY;
    if (strcmp(at, "ok") == 0)
        return OBX_APPLIED;
    for (; at != NULL; at = next) {
        next = strchr(at, ';');
        if (next != NULL)
            *next++ = '\0';
        run(tx, at);
    }
    return OBX_APPLIED;
}

enum effect { COMMITTED, UNDONE };

struct way {
    const char *statements;
    enum effect effect;
    bool is_whole; /* what it writes to stock after the end of the transaction counts too */
};

static const struct way ways[] = {
    {"COMMIT", COMMITTED, false},
    {"ROLLBACK", UNDONE, false},
    {"START TRANSACTION", COMMITTED, false},
    {"COMMIT;START TRANSACTION;UPDATE stock SET n = n + 1 WHERE id = 1", COMMITTED, true},
    {"ROLLBACK;START TRANSACTION;UPDATE stock SET n = n + 1 WHERE id = 1", UNDONE, false},
    {"COMMIT;UPDATE stock SET n = n + 1 WHERE id = 1", COMMITTED, true},
    {"ROLLBACK;UPDATE stock SET n = n + 1 WHERE id = 1", UNDONE, false},
    {"CREATE TABLE IF NOT EXISTS made (id INT)", COMMITTED, false},
    {"CREATE TABLE applied (id INT)", COMMITTED, false}, /* fails, and commits nevertheless */
    {"SET autocommit = 1", COMMITTED, false},
    {"SET autocommit = 1;START TRANSACTION;UPDATE stock SET n = n + 1 WHERE id = 1", COMMITTED,
     true},
    {"SET autocommit = 1;START TRANSACTION;CREATE TABLE applied (id INT)", COMMITTED, false},
    {"ROLLBACK;SET autocommit = 1;START TRANSACTION;CREATE TABLE applied (id INT)", UNDONE, false},
    {"COMMIT;BEGIN;ROLLBACK;BEGIN", COMMITTED, false},
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static void put_around(struct rig *rig, const char *id, const char *body, int before, int after)
{
    char name[64];

    for (int i = 0; i < before; i++) {
        (void)snprintf(name, sizeof(name), "a-%s-%03d", id, i);
        rig_put(rig, name, NULL, "ok");
    }
    rig_put(rig, id, NULL, body);
    for (int i = 0; i < after; i++) {
        (void)snprintf(name, sizeof(name), "b-%s-%03d", id, i);
        rig_put(rig, name, NULL, "ok");
    }
    rig_flush(rig);
}

static void check_way(struct rig *rig, const struct way *way, int before, int after)
{
    const uint64_t others = (uint64_t)(before + after);
    struct obx_consumer *consumer = NULL;
    struct bridge_delivery *dead = NULL;
    struct obx_consumer_stats stats = {0};

    test_db_run(rig->db, "DELETE FROM applied");
    test_db_run(rig->db, "DELETE FROM inbox_applied");
    test_db_run(rig->db, "UPDATE stock SET n = 0");
    rig_declare(rig);
    put_around(rig, "culprit", way->statements, before, after);
    consumer = rig_start(rig, obey, NULL);
    RIG_WAIT_STAT(consumer, acked, others + 1);
    RIG_WAIT_STAT(consumer, dead_lettered, way->effect != COMMITTED);
    rig_wait_number(rig, "SELECT COUNT(*) FROM inbox_parked", 0);
    stats = rig_stats(consumer);
    rig_stop(consumer);

    print_message("  %s (%d before, %d after): tx_broken %" PRIu64 ", commits %" PRIu64 "\n",
                  way->statements, before, after, stats.tx_broken, stats.commits);
    assert_true(stats.tx_broken >= 1);
    rig_audit(rig, others + (way->effect == COMMITTED));
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM inbox_applied"),
                     others + (way->effect == COMMITTED));
    assert_int_equal(rig_number(rig, "SELECT n FROM stock WHERE id = 1"), way->is_whole);
    rig_assert_empty(rig, rig->queue);
    dead = rig_take(rig, rig->dead, way->effect == COMMITTED ? 0 : RIG_WAIT_MS);
    if (way->effect == COMMITTED) {
        assert_null(dead);
        return;
    }
    assert_non_null(dead);
    assert_true(bytes_is(dead->msg.message_id, "culprit"));
    assert_string_equal(rig_header(dead, "x-obx-reason-code"), "OBX_E_TX_BROKEN");
    assert_string_equal(rig_header(dead, "x-obx-attempts"), "3");
    bridge_delivery_free(dead);
}

static void check_all(struct rig *rig, int before, int after)
{
    rig->opts.max_attempts = ATTEMPTS;
    rig->opts.batch_wait_us = GATHER_US;
    for (size_t i = 0; i < WAYS; i++)
        check_way(rig, &ways[i], before, after);
}

static void alone(void **state)
{
    check_all(*state, 0, 0);
}

static void first_in_a_batch(void **state)
{
    check_all(*state, 0, AFTER);
}

static void in_the_middle_of_a_batch(void **state)
{
    check_all(*state, BEFORE, AFTER);
}

static void last_in_a_batch(void **state)
{
    check_all(*state, BEFORE, 0);
}

/* Every message of the batch does it: what a data access layer that always commits makes of the
 * library. */
static void every_handler_commits(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    for (int i = 0; i < AFTER; i++) {
        char id[32];

        (void)snprintf(id, sizeof(id), "m-%03d", i);
        rig_put(rig, id, "one-key", i % 2 == 0 ? "COMMIT" : "COMMIT;START TRANSACTION");
    }
    rig_flush(rig);
    rig->opts.batch_wait_us = GATHER_US;
    consumer = rig_start(rig, obey, NULL);
    RIG_WAIT_STAT(consumer, acked, AFTER);
    assert_true(rig_stats(consumer).tx_broken >= 1);
    rig_stop(consumer);
    rig_audit(rig, AFTER);
    rig_assert_empty(rig, rig->queue);
}

/* A savepoint of the handler's own is its business. */
static void own_savepoints_are_allowed(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    put_around(rig, "m",
               "SAVEPOINT mine;UPDATE stock SET n = 9 WHERE id = 1;ROLLBACK TO mine;"
               "UPDATE stock SET n = 5 WHERE id = 2;RELEASE SAVEPOINT mine;XA START 'x'",
               BEFORE, AFTER);
    rig->opts.batch_wait_us = GATHER_US;
    consumer = rig_start(rig, obey, NULL);
    RIG_WAIT_STAT(consumer, acked, BEFORE + AFTER + 1);
    assert_int_equal(rig_stats(consumer).tx_broken, 0);
    assert_int_equal(rig_stats(consumer).reruns, 0);
    rig_stop(consumer);
    rig_audit(rig, BEFORE + AFTER + 1);
    assert_int_equal(rig_number(rig, "SELECT n FROM stock WHERE id = 1"), 0);
    assert_int_equal(rig_number(rig, "SELECT n FROM stock WHERE id = 2"), 5);
}

/* What a deadlock does to a transaction, when the handler ignores the error and goes on writing. */
static void a_swallowed_deadlock_does_not_commit_half(void **state)
{
    struct rig *rig = *state;
    struct obx_consumer *consumer = NULL;

    rig_declare(rig);
    put_around(rig, "m",
               "!ROLLBACK;INSERT INTO applied (message_id, body, attempt) VALUES ('m', '', 1)",
               BEFORE, AFTER);
    rig->opts.batch_wait_us = GATHER_US;
    rig->opts.max_attempts = ATTEMPTS;
    consumer = rig_start(rig, obey, NULL);
    RIG_WAIT_STAT(consumer, acked, BEFORE + AFTER + 1);
    rig_stop(consumer);
    rig_audit(rig, BEFORE + AFTER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(alone, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(first_in_a_batch, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(in_the_middle_of_a_batch, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(last_in_a_batch, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(every_handler_commits, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(own_savepoints_are_allowed, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_swallowed_deadlock_does_not_commit_half, rig_setup,
                                        rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
