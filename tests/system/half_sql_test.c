/*
 * The SQL of docs/half-messages.md, as it stands there, from the account half-producer: a producer
 * in any language needs no HTTP (P2, P5). What SQL prepared, the relay's own code may decide, and
 * the other way round.
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
#include "half/half.h"
#include "sql/schema.h"
#include "test_db.h"

enum { PAGE_MAX = 65536, BLOCK_MAX = 4096 };

struct rig {
    struct test_db database;
    struct test_user producer;
    struct db *admin, *db;
};

static int setup(void **state)
{
    static struct rig rig;
    struct obx_err err = {0};

    test_db_create(&rig.database, "halfsql");
    rig.admin = test_db_open(&rig.database.opts);
    assert_int_equal(schema_migrate(rig.admin, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(rig.admin, SCHEMA_HALF, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(rig.admin, SCHEMA_BARRIER, NULL, NULL, &err), OBX_OK);
    test_user_create(&rig.producer, &rig.database, "half-producer");
    rig.db = test_db_open(&rig.producer.opts);
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    db_close(rig->db);
    db_close(rig->admin);
    test_user_drop(&rig->producer);
    test_db_drop(&rig->database);
    return 0;
}

/* The SQL block below a heading of the page. */
static void read_block(const char *heading, char *block)
{
    static char page[PAGE_MAX];
    FILE *file = fopen(HALF_PAGE, "r");
    char *begin, *end;

    assert_non_null(file);
    page[fread(page, 1, sizeof(page) - 1, file)] = '\0';
    (void)fclose(file);
    begin = strstr(page, heading);
    begin = begin == NULL ? NULL : strstr(begin, "```sql\n");
    end = begin == NULL ? NULL : strstr(begin, "\n```");
    if (begin == NULL || end == NULL)
        fail_msg("the page has no SQL below \"%s\"", heading);
    begin += strlen("```sql\n");
    assert_true((size_t)(end - begin) < BLOCK_MAX);
    memcpy(block, begin, (size_t)(end - begin));
    block[end - begin] = '\0';
}

/* Up to its ';' that ends a line or has a comment behind it. */
static char *next_statement(char **at)
{
    char *begin = *at;
    char *end = begin;

    while ((end = strchr(end, ';')) != NULL && end[1] != '\0' && end[1] != '\n' &&
           strncmp(end + 1, " --", 3) != 0)
        end++;
    if (end == NULL)
        return NULL;
    *end = '\0';
    *at = end + 1;
    return begin;
}

/* Returns the first error, at which the block is given up with ROLLBACK; *changed: rows of the
 * first UPDATE. */
static enum obx_code run_block(struct db *db, const char *heading, const char *gid,
                               uint64_t *changed)
{
    char block[BLOCK_MAX], set[256];
    char *at = block, *statement;
    struct obx_err err = {0};

    read_block(heading, block);
    snprintf(set, sizeof(set), "SET @gid = '%s'", gid);
    test_db_run(db, set);
    while ((statement = next_statement(&at)) != NULL) {
        uint64_t affected = 0;
        enum obx_code rc = db_exec_text(db, bytes_of(statement), &affected, &err);

        if (strstr(statement, "UPDATE half_message") != NULL) {
            *changed = affected;
            if (affected == 0)
                return db_rollback(db, &err);
        }
        if (rc != OBX_OK) {
            if (rc != OBX_E_DB_DUPLICATE)
                print_error("%s: %s\n", statement, err.text);
            (void)db_rollback(db, NULL);
            return rc;
        }
    }
    return OBX_OK;
}

static void run_ok(struct db *db, const char *heading, const char *gid, uint64_t wanted)
{
    uint64_t changed = 0;

    assert_int_equal(run_block(db, heading, gid, &changed), OBX_OK);
    assert_int_equal(changed, wanted);
}

static uint64_t count(struct rig *rig, const char *sql)
{
    return test_db_number(rig->admin, sql);
}

static void a_half_message_by_sql_alone(void **state)
{
    struct rig *rig = *state;
    uint64_t changed = 0;

    run_ok(rig->db, "### prepare by SQL", "s-1", 0);
    assert_int_equal(count(rig, "SELECT COUNT(*) FROM outbox"), 0);
    assert_int_equal(run_block(rig->db, "### prepare by SQL", "s-1", &changed), OBX_E_DB_DUPLICATE);
    run_ok(rig->db, "### commit by SQL", "s-1", 1);
    assert_int_equal(count(rig, "SELECT COUNT(*) FROM outbox WHERE topic = 'order.paid'"), 1);
    run_ok(rig->db, "### commit by SQL", "s-1", 0);
    run_ok(rig->db, "### rollback by SQL", "s-1", 0);
    assert_int_equal(count(rig, "SELECT COUNT(*) FROM outbox"), 1);
    run_ok(rig->db, "### prepare by SQL", "s-2", 0);
    run_ok(rig->db, "### rollback by SQL", "s-2", 1);
    assert_int_equal(count(rig, "SELECT COUNT(*) FROM outbox WHERE topic = 'order.dropped'"), 1);
    assert_int_equal(count(rig, "SELECT COUNT(*) FROM half_part"), 0);
}

static enum half_answer decide(struct rig *rig, const char *gid, enum half_verdict verdict)
{
    struct half_request req = {
        .kind = HALF_REQ_VERDICT, .gid = bytes_of(gid), .verdict = verdict, .actor = "producer"};
    struct half_request *reqs[] = {&req};
    bool outbox_rows = false;

    assert_int_equal(half_batch_run(rig->admin, "outbox", reqs, 1, &outbox_rows, NULL), OBX_OK);
    return req.answer;
}

static void sql_and_the_relay_understand_each_other(void **state)
{
    struct rig *rig = *state;

    run_ok(rig->db, "### prepare by SQL", "m-1", 0);
    assert_int_equal(decide(rig, "m-1", HALF_COMMIT), HALF_ANS_OK);
    run_ok(rig->db, "### rollback by SQL", "m-1", 0);
    run_ok(rig->db, "### prepare by SQL", "m-2", 0);
    run_ok(rig->db, "### commit by SQL", "m-2", 1);
    assert_int_equal(decide(rig, "m-2", HALF_ROLLBACK), HALF_ANS_CONFLICT);
    assert_int_equal(decide(rig, "m-2", HALF_COMMIT), HALF_ANS_OK);
    assert_int_equal(count(rig, "SELECT COUNT(*) FROM outbox"), 2);
}

static void the_barrier_by_sql(void **state)
{
    struct rig *rig = *state;
    uint64_t changed = 0;

    run_ok(rig->admin, "### barrier: the local transaction", "b-1", 0);
    assert_int_equal(run_block(rig->admin, "### barrier: what a check does", "b-1", &changed),
                     OBX_E_DB_DUPLICATE);
    (void)run_block(rig->admin, "### barrier: what a check does", "b-2", &changed);
    assert_int_equal(count(rig, "SELECT COUNT(*) FROM half_barrier WHERE gid = 'b-2' AND reason = "
                                "'rollback' AND branch = '' AND op = 'msg'"),
                     1);
    assert_int_equal(run_block(rig->admin, "### barrier: the local transaction", "b-2", &changed),
                     OBX_E_DB_DUPLICATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_half_message_by_sql_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(sql_and_the_relay_understand_each_other, setup, teardown),
        cmocka_unit_test_setup_teardown(the_barrier_by_sql, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
