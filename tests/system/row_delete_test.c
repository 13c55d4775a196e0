/*
 * System test of deleting by id: exactly those rows, whatever the ids; never a wait for somebody
 * else's row; never a plan that reads the table.
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
#include "tables/row_delete.h"
#include "test_db.h"

enum { IDS_MAX = 1500 };

struct bench {
    struct test_db test_db;
    struct db *db, *other;
    struct row_delete del;
};

static int setup(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    struct db_opts opts;

    if (bench == NULL)
        return -1;
    test_db_create(&bench->test_db, "del");
    opts = bench->test_db.opts;
    opts.lock_wait_s = 1;
    bench->db = test_db_open(&opts);
    bench->other = test_db_open(&opts);
    test_db_run(bench->db, "CREATE TABLE t (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,"
                           " payload LONGBLOB NOT NULL) ENGINE = InnoDB");
    *state = bench;
    return row_delete_init(&bench->del, "`t`", "id", NULL) == OBX_OK ? 0 : -1;
}

static int teardown(void **state)
{
    struct bench *bench = *state;

    row_delete_fini(&bench->del);
    db_close(bench->other);
    db_close(bench->db);
    test_db_drop(&bench->test_db);
    free(bench);
    return 0;
}

static void insert_ids(struct db *db, const uint64_t *ids, size_t count)
{
    struct obx_buf sql = {0};

    assert_int_equal(buf_add_text(&sql, "INSERT INTO t (id, payload) VALUES "), OBX_OK);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(
            buf_addf(&sql, "%s(%llu, 'x')", i == 0 ? "" : ",", (unsigned long long)ids[i]), OBX_OK);
    test_db_run(db, sql.data);
    buf_fini(&sql);
}

static uint64_t delete_ids(struct bench *bench, const uint64_t *ids, size_t count)
{
    uint64_t deleted = 0;
    struct obx_err err = {0};

    test_db_run(bench->db, "START TRANSACTION");
    if (row_delete_run(&bench->del, bench->db, ids, count, &deleted, &err) != OBX_OK)
        fail_msg("%s", err.text);
    test_db_run(bench->db, "COMMIT");
    return deleted;
}

static void deletes_exactly_these(void **state)
{
    struct bench *bench = *state;
    unsigned random = 7;

    for (int round = 0; round < 12; round++) {
        uint64_t all[IDS_MAX];
        uint64_t some[IDS_MAX];
        size_t count = 0;
        uint64_t id = 1 + (uint64_t)rand_r(&random) % 100;
        int run = 1 + (round % 4) * 20;

        for (int i = 0; i < 600; i++) {
            bool is_wanted = i / run % 2 == 0;

            id += 1 + (rand_r(&random) % 50 == 0 ? (uint64_t)rand_r(&random) % 1000 : 0);
            all[i] = id;
            if (is_wanted)
                some[count++] = id;
        }
        insert_ids(bench->db, all, 600);
        assert_int_equal(delete_ids(bench, some, count), count);
        assert_int_equal(test_db_number(bench->db, "SELECT COUNT(*) FROM t"), 600 - count);
        assert_int_equal(delete_ids(bench, some, count), 0); /* not there any more */
        test_db_run(bench->db, "DELETE FROM t");
    }
}

static void the_largest_ids(void **state)
{
    struct bench *bench = *state;
    const uint64_t ids[] = {1,
                            9007199254740993U, /* above what a double holds */
                            INT64_MAX,
                            (uint64_t)INT64_MAX + 1,
                            UINT64_MAX - 12,
                            UINT64_MAX - 11,
                            UINT64_MAX - 10,
                            UINT64_MAX - 9,
                            UINT64_MAX - 8,
                            UINT64_MAX - 7,
                            UINT64_MAX - 6,
                            UINT64_MAX - 5,
                            UINT64_MAX - 4,
                            UINT64_MAX - 3};
    const uint64_t spared[] = {9007199254740992U, UINT64_MAX - 13, UINT64_MAX - 2};
    size_t count = sizeof(ids) / sizeof(ids[0]);

    insert_ids(bench->db, ids, count);
    insert_ids(bench->db, spared, 3);
    assert_int_equal(delete_ids(bench, ids, count), count);
    assert_int_equal(test_db_number(bench->db, "SELECT COUNT(*) FROM t"), 3);
}

/* Producers hold rows of theirs, not committed, before, between and behind. */
static void waits_for_nobody(void **state)
{
    struct bench *bench = *state;
    uint64_t ours[IDS_MAX];
    uint64_t theirs[IDS_MAX];
    size_t our_count = 0;
    size_t their_count = 0;

    for (uint64_t id = 10; id < 600; id++) {
        if (id % 40 == 0 || (id > 300 && id % 3 == 0))
            theirs[their_count++] = id;
        else
            ours[our_count++] = id;
    }
    theirs[their_count++] = 600;
    theirs[their_count++] = 5;
    insert_ids(bench->db, ours, our_count);
    test_db_run(bench->other, "START TRANSACTION");
    insert_ids(bench->other, theirs, their_count);
    assert_int_equal(delete_ids(bench, ours, our_count), our_count);
    test_db_run(bench->other, "COMMIT");
    assert_int_equal(test_db_number(bench->db, "SELECT COUNT(*) FROM t"), their_count);
}

/* A range over most of the table is no reason to read all of it, up to a producer's open row. */
static void a_range_over_most_of_the_table(void **state)
{
    struct bench *bench = *state;
    const uint64_t theirs = 5000;
    uint64_t ours[IDS_MAX];

    for (uint64_t i = 0; i < IDS_MAX; i++)
        ours[i] = i + 1;
    insert_ids(bench->db, ours, IDS_MAX);
    test_db_run(bench->db, "ANALYZE TABLE t");
    test_db_run(bench->other, "START TRANSACTION");
    insert_ids(bench->other, &theirs, 1);
    assert_int_equal(delete_ids(bench, ours, IDS_MAX), IDS_MAX);
    test_db_run(bench->other, "COMMIT");
    assert_int_equal(test_db_number(bench->db, "SELECT id FROM t"), theirs);
}

/* The plan of a statement over one row: by the primary key. */
static void assert_by_key(struct bench *bench, const struct obx_buf *statement)
{
    struct obx_buf sql = {0};
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    unsigned type = db_server_is_mariadb(bench->db) ? 3 : 4;

    assert_int_equal(buf_addf(&sql, "EXPLAIN FORMAT=TRADITIONAL %s", statement->data), OBX_OK);
    if (db_query(bench->db, sql.data, DB_ARGS(DB_U64(1)), &rows, &err) != OBX_OK)
        fail_msg("%s", err.text);
    assert_true(db_rows_next(rows));
    if (!bytes_is(db_rows_bytes(rows, type), "range") &&
        !bytes_is(db_rows_bytes(rows, type), "const"))
        fail_msg("%s: its plan reads the table", statement->data);
    db_rows_free(rows);
    buf_fini(&sql);
}

static void a_single_row_is_looked_up(void **state)
{
    struct bench *bench = *state;

    for (int round = 0; round < 2; round++) {
        for (uint64_t id = 1; id <= 900; id += 100)
            insert_ids(bench->db, &id, 1);
        test_db_run(bench->db, "ANALYZE TABLE t");
        assert_by_key(bench, &bench->del.one);
        test_db_run(bench->db, "DELETE FROM t");
    }
}

/* And nobody waits for it: with its deletes not committed, rows go in beside them. */
static void nobody_waits_for_it(void **state)
{
    struct bench *bench = *state;
    uint64_t ours[100];
    uint64_t deleted = 0;
    uint64_t before = 9;
    uint64_t between = 61;

    for (uint64_t i = 0; i < 100; i++)
        ours[i] = i < 50 ? 10 + i : 12 + i;
    insert_ids(bench->db, ours, 100);
    test_db_run(bench->db, "START TRANSACTION");
    assert_int_equal(row_delete_run(&bench->del, bench->db, ours, 100, &deleted, NULL), OBX_OK);
    test_db_run(bench->other, "INSERT INTO t (payload) VALUES ('x')");
    insert_ids(bench->other, &before, 1);
    insert_ids(bench->other, &between, 1);
    test_db_run(bench->db, "COMMIT");
    assert_int_equal(test_db_number(bench->db, "SELECT COUNT(*) FROM t"), 3);
}

/* Whatever the table's size, single rows are looked up. */
static void its_plan_never_reads_the_table(void **state)
{
    struct bench *bench = *state;
    struct obx_buf sql = {0};
    struct obx_buf list = {0};

    for (uint64_t i = 1; i <= 500; i++)
        assert_int_equal(buf_addf(&list, "%s%llu", i == 1 ? "[" : ",", (unsigned long long)i * 2),
                         OBX_OK);
    assert_int_equal(buf_add_text(&list, "]"), OBX_OK);
    assert_int_equal(buf_addf(&sql, "EXPLAIN FORMAT=TRADITIONAL %s", bench->del.list.data), OBX_OK);
    for (int size = 0; size < 3; size++) {
        struct db_rows *rows = NULL;
        struct obx_err err = {0};
        bool has_lookup = false;

        if (size > 0)
            test_db_run(bench->db,
                        size == 1
                            ? "INSERT INTO t (payload) VALUES ('x'), ('x'), ('x')"
                            : "INSERT INTO t (payload) WITH RECURSIVE n (i) AS (SELECT 1 UNION"
                              " ALL SELECT i + 1 FROM n WHERE i < 900) SELECT 'x' FROM n");
        test_db_run(bench->db, "ANALYZE TABLE t");
        if (db_query(bench->db, sql.data, DB_ARGS(DB_BYTES(buf_bytes(&list))), &rows, &err) !=
            OBX_OK)
            fail_msg("%s", err.text);
        while (db_rows_next(rows)) {
            unsigned type = db_server_is_mariadb(bench->db) ? 3 : 4;

            if (bytes_is(db_rows_bytes(rows, 2), "o") &&
                bytes_is(db_rows_bytes(rows, type), "eq_ref"))
                has_lookup = true;
        }
        db_rows_free(rows);
        if (!has_lookup)
            fail_msg("the plan with table size %d does not look rows up", size);
    }
    buf_fini(&sql);
    buf_fini(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(deletes_exactly_these, setup, teardown),
        cmocka_unit_test_setup_teardown(the_largest_ids, setup, teardown),
        cmocka_unit_test_setup_teardown(waits_for_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(a_range_over_most_of_the_table, setup, teardown),
        cmocka_unit_test_setup_teardown(a_single_row_is_looked_up, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_waits_for_it, setup, teardown),
        cmocka_unit_test_setup_teardown(its_plan_never_reads_the_table, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
