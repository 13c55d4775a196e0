/*
 * outboxctl half on a real database (P5, P6): what is parked is listed, shown with its story, asked
 * again, and decided by an operator whose name and reason are kept.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "process.h"
#include "sql/schema.h"
#include "test_db.h"

enum { TIMEOUT_MS = 60000, WORDS_MAX = 12, OUTPUT_MAX = 8192 };

struct rig {
    struct test_db database;
    struct db *db;
    char dir[64];
    char url[256], password_file[80], log[80];
    char output[OUTPUT_MAX];
};

static void write_password(const struct rig *rig)
{
    FILE *file = fopen(rig->password_file, "w");

    assert_non_null(file);
    fprintf(file, "%s\n", rig->database.opts.password);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(rig->password_file, S_IRUSR | S_IWUSR), 0);
}

static int setup(void **state)
{
    static struct rig rig;
    struct obx_err err = {0};

    test_db_create(&rig.database, "halfctl");
    rig.db = test_db_open(&rig.database.opts);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_HALF, NULL, NULL, &err), OBX_OK);
    test_db_run(rig.db, "INSERT INTO half_message (gid, producer, state, next_check_at, "
                        "checks_answered, note) VALUES "
                        "('g-1', 'orders', 'parked', NULL, 15, 'parked after 15 answers'), "
                        "('g-2', 'orders', 'parked', NULL, 15, 'parked after 15 answers'), "
                        "('g-3', 'bank', 'parked', NULL, 15, 'parked after 15 answers'), "
                        "('g-4', 'bank', 'prepared', UTC_TIMESTAMP(6), 0, NULL)");
    test_db_run(rig.db, "INSERT INTO half_part (gid, verdict, topic, payload) VALUES "
                        "('g-1', 'commit', 'order.paid', 'one'), "
                        "('g-1', 'rollback', 'order.dropped', 'two'), "
                        "('g-2', 'commit', 'order.paid', 'three'), "
                        "('g-2', 'rollback', 'order.dropped', 'four')");
    test_db_run(rig.db, "INSERT INTO half_history (gid, event, actor, detail) "
                        "VALUES ('g-1', 'asked', 'check', 'unknown: HTTP 404')");
    snprintf(rig.dir, sizeof(rig.dir), "/tmp/obx-half-ctl-XXXXXX");
    assert_non_null(mkdtemp(rig.dir));
    snprintf(rig.password_file, sizeof(rig.password_file), "%s/password", rig.dir);
    snprintf(rig.log, sizeof(rig.log), "%s/log", rig.dir);
    snprintf(rig.url, sizeof(rig.url), "mysql://%s@%s:%u/%s", rig.database.opts.user,
             rig.database.opts.host, (unsigned)rig.database.opts.port, rig.database.name);
    write_password(&rig);
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    db_close(rig->db);
    test_db_drop(&rig->database);
    (void)remove(rig->password_file);
    (void)remove(rig->log);
    (void)rmdir(rig->dir);
    return 0;
}

/* Exit status of `outboxctl WORDS...`; what it said is in rig->output. */
static int ctl(struct rig *rig, const char *const *words)
{
    const char *argv[WORDS_MAX + 8] = {HALF_OUTBOXCTL};
    const struct proc_opts opts = {.argv = argv, .log_path = rig->log};
    struct proc_exit how = {0};
    size_t count = 1, len = 0;
    FILE *file = NULL;

    for (size_t i = 0; words[i] != NULL && i < WORDS_MAX; i++)
        argv[count++] = words[i];
    argv[count++] = "--db";
    argv[count++] = rig->url;
    argv[count++] = "--password-file";
    argv[count++] = rig->password_file;
    (void)remove(rig->log);
    assert_true(proc_run(&opts, TIMEOUT_MS, &how));
    file = fopen(rig->log, "r");
    assert_non_null(file);
    len = fread(rig->output, 1, sizeof(rig->output) - 1, file);
    rig->output[len] = '\0';
    (void)fclose(file);
    return how.code;
}
#define CTL_OF(...) ctl(rig, (const char *const[]){__VA_ARGS__, NULL})
#define CTL(...)    CTL_OF("half", __VA_ARGS__)

static void says(const struct rig *rig, const char *text)
{
    if (strstr(rig->output, text) == NULL)
        fail_msg("not said: %s\nbut: %s", text, rig->output);
}

static void says_not(const struct rig *rig, const char *text)
{
    if (strstr(rig->output, text) != NULL)
        fail_msg("said: %s\nin: %s", text, rig->output);
}

static void what_is_parked_is_listed_and_shown(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(CTL("list"), 0);
    says(rig, "g-1");
    says(rig, "g-3");
    says(rig, "parked after 15 answers");
    says_not(rig, "g-4");
    assert_int_equal(CTL("list", "--producer", "orders", "--limit", "1"), 0);
    says(rig, "more: --after g-1");
    assert_int_equal(CTL("list", "--producer", "orders", "--after", "g-1"), 0);
    says(rig, "g-2");
    says_not(rig, "g-1 ");
    says_not(rig, "g-3");
    assert_int_equal(CTL("list", "--state", "any", "--json"), 0);
    says(rig, "\"gid\": \"g-4\"");
    assert_int_equal(CTL("list", "--state", "lost"), 2);
    assert_int_equal(CTL("show", "g-1"), 0);
    says(rig, "order.dropped");
    says(rig, "unknown: HTTP 404");
    assert_int_equal(CTL("show", "g-1", "--json"), 0);
    says(rig, "\"detail\": \"unknown: HTTP 404\"");
    assert_int_equal(CTL("show", "g-9"), 1);
}

static void an_operator_decides_once_and_is_remembered(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(CTL("commit", "g-1"), 2); /* why? */
    assert_int_equal(CTL("commit", "g-1", "--note", "the order is there"), 0);
    says(rig, "g-1: committed");
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox WHERE payload = 'one'"),
                     1);
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_message WHERE gid = 'g-1' AND state = "
                                "'committed' AND decided_by LIKE 'operator:%@%' AND note = "
                                "'the order is there'"),
        1);
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_history WHERE gid = 'g-1' AND event = "
                                "'verdict' AND actor LIKE 'operator:%' AND detail LIKE "
                                "'%the order is there'"),
        1);
    assert_int_equal(CTL("commit", "g-1", "--note", "again"), 0);
    says(rig, "was committed before, by operator:");
    assert_int_equal(CTL("rollback", "g-1", "g-2", "--note", "no"), 1);
    says(rig, "g-1: refused: it was committed, by operator:");
    says(rig, "g-2: rolled back");
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), 2);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox WHERE payload = 'four'"),
                     1);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_part"), 0);
    assert_int_equal(CTL("commit", "g-9", "--note", "x", "--json"), 1);
    says(rig, "there is no such half-message");
}

static void what_is_parked_can_be_asked_about_again(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(CTL("resume", "g-3", "--note", "the bank is back"), 0);
    says(rig, "g-3: resumed");
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_message WHERE gid = 'g-3' AND state = "
                                "'prepared' AND checks_answered = 0 AND next_check_at <= "
                                "UTC_TIMESTAMP(6)"),
        1);
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_history WHERE gid = 'g-3' AND event = "
                                "'resumed' AND actor LIKE 'operator:%' AND detail = "
                                "'the bank is back'"),
        1);
    assert_int_equal(CTL("resume", "g-3", "--note", "x"), 1);
    says(rig, "it is not parked");
}

static void old_barrier_rows_go_when_they_have_ended(void **state)
{
    struct rig *rig = *state;
    struct obx_err err = {0};

    assert_int_equal(CTL_OF("barrier", "clean"), 1); /* the table is not there */
    assert_int_equal(schema_migrate(rig->db, SCHEMA_BARRIER, NULL, NULL, &err), OBX_OK);
    test_db_run(rig->db,
                "INSERT INTO half_barrier (gid) SELECT CONCAT('m-', seq - 1) FROM " TEST_SEQ
                " WHERE seq <= 2500");
    test_db_run(rig->db, "INSERT INTO half_barrier (gid, op, reason) VALUES "
                         "('a', 'try', 'try'), ('a', 'end', 'confirm'), ('b', 'try', 'try'), "
                         "('c', 'try', 'cancel'), ('n', 'try', 'try'), ('n', 'end', 'cancel')");
    test_db_run(rig->db, "UPDATE half_barrier SET created_at = UTC_TIMESTAMP(6) - INTERVAL 40 DAY "
                         "WHERE gid NOT LIKE '%9' AND NOT (gid = 'n' AND op = 'end')");
    assert_int_equal(CTL_OF("barrier", "clean", "--keep", "0"), 2);
    assert_int_equal(CTL_OF("barrier", "clean", "--keep", "50"), 0);
    says(rig, "0 barrier rows removed");
    assert_int_equal(CTL_OF("barrier", "clean"), 0);
    says(rig, "2253 barrier rows removed");
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_barrier WHERE op = 'msg'"),
                     250);
    /* A Try that waits, however old, and one that ended lately. */
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_barrier WHERE gid IN ('b', 'n')"), 3);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_barrier"), 253);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_parked_is_listed_and_shown, setup, teardown),
        cmocka_unit_test_setup_teardown(an_operator_decides_once_and_is_remembered, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_parked_can_be_asked_about_again, setup, teardown),
        cmocka_unit_test_setup_teardown(old_barrier_rows_go_when_they_have_ended, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
