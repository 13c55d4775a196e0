/*
 * Fills an outbox with rows for the benchmarks, as fast as the server takes them.
 *
 * usage: bench_fill --rows N [--table NAME] [--body BYTES] [--keys N] [--fresh 1]
 * With --fresh 1 the table is emptied first. Without keys the rows have no ordering key. Ends when
 * the table has exactly that many rows; a table that has more is an error.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/bytes.h"
#include "bench/numbers.h"

enum {
    ROWS_AT_ONCE = 10000 /* in one statement and one transaction */
};

struct filling {
    const char *table;
    uint64_t rows;
    uint64_t body;
    uint64_t keys;
};

static void run(struct db *db, const char *sql)
{
    struct obx_err err = {0};

    if (db_exec_text(db, bytes_of(sql), NULL, &err) != OBX_OK)
        bench_die(sql, &err);
}

static uint64_t count(struct db *db, const char *table)
{
    char sql[128];
    struct db_rows *rows = NULL;
    struct obx_err err = {0};
    uint64_t value = 0;

    snprintf(sql, sizeof(sql), "SELECT COUNT(*) FROM `%s`", table);
    if (db_query_text(db, bytes_of(sql), &rows, &err) != OBX_OK)
        bench_die(sql, &err);
    if (db_rows_next(rows))
        value = db_rows_u64(rows, 0);
    db_rows_free(rows);
    return value;
}

static void add_rows(struct db *db, const struct filling *filling, uint64_t rows)
{
    char key[64] = "NULL";
    char sql[512];

    if (filling->keys > 0)
        snprintf(key, sizeof(key), "CONCAT('key-', i %% %" PRIu64 ")", filling->keys);
    snprintf(sql, sizeof(sql),
             "INSERT INTO `%s` (topic, ordering_key, payload) SELECT 'bench', %s, "
             "RPAD(CONCAT(i, ' '), %" PRIu64 ", 'x') FROM bench_numbers WHERE i < %" PRIu64,
             filling->table, key, filling->body, rows);
    run(db, sql);
}

static void make_numbers(struct db *db)
{
    run(db, "CREATE TABLE IF NOT EXISTS bench_numbers (i INT UNSIGNED PRIMARY KEY)");
    if (count(db, "bench_numbers") == ROWS_AT_ONCE)
        return;
    run(db, "INSERT INTO bench_numbers "
            "WITH d (i) AS (SELECT 0 UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 "
            "UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) "
            "SELECT a.i + 10 * b.i + 100 * c.i + 1000 * e.i FROM d a, d b, d c, d e");
}

int main(int argc, char **argv)
{
    const struct filling filling = {
        .table = text_option(argc, argv, "--table", "outbox"),
        .rows = number_option(argc, argv, "--rows", 0),
        .body = number_option(argc, argv, "--body", 256),
        .keys = number_option(argc, argv, "--keys", 0),
    };
    struct db *db = bench_open_db("obx_bench");
    uint64_t have = 0;
    char sql[128];

    if (number_option(argc, argv, "--fresh", 0) != 0) {
        snprintf(sql, sizeof(sql), "TRUNCATE TABLE `%s`", filling.table);
        run(db, sql);
    }
    make_numbers(db);
    have = count(db, filling.table);
    if (have > filling.rows)
        bench_die("the outbox has more rows than asked for", NULL);
    while (have < filling.rows) {
        uint64_t part = filling.rows - have < ROWS_AT_ONCE ? filling.rows - have : ROWS_AT_ONCE;

        add_rows(db, &filling, part);
        have += part;
    }
    db_close(db);
    return 0;
}
