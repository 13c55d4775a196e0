/*
 * Databases of their own for tests; see test_db.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/bytes.h"
#include "test_db.h"

const char *test_env(const char *name)
{
    const char *value = getenv(name);

    if (value == NULL)
        fail_msg("%s is not set; run: eval \"$(tests/support/servers env)\"", name);
    return value;
}

static struct db_opts opts_of(const char *user, const char *password)
{
    return (struct db_opts){
        .host = test_env("OBX_TEST_DB_HOST"),
        .port = (uint16_t)atoi(test_env("OBX_TEST_DB_PORT")),
        .user = user,
        .password = password,
        .program_name = "oncebox-test",
    };
}

struct db_opts test_db_root_opts(void)
{
    return opts_of("root", test_env("OBX_TEST_DB_ROOT_PASSWORD"));
}

struct db *test_db_open(const struct db_opts *opts)
{
    struct obx_err err = {.code = OBX_OK};
    struct db *db = NULL;

    if (db_open(opts, &db, &err) != OBX_OK)
        fail_msg("db_open: %s", err.text);
    return db;
}

void test_db_run(struct db *db, const char *sql)
{
    struct obx_err err = {.code = OBX_OK};

    if (db_exec(db, sql, DB_NO_ARGS, NULL, &err) != OBX_OK)
        fail_msg("%s: %s", sql, err.text);
}

uint64_t test_db_number(struct db *db, const char *sql)
{
    struct obx_err err = {.code = OBX_OK};
    struct db_rows *rows = NULL;
    uint64_t number = 0;

    if (db_query(db, sql, DB_NO_ARGS, &rows, &err) != OBX_OK)
        fail_msg("%s: %s", sql, err.text);
    if (!db_rows_next(rows)) {
        db_rows_free(rows);
        fail_msg("%s: no row", sql);
    }
    number = db_rows_u64(rows, 0);
    db_rows_free(rows);
    return number;
}

static void as_root(const char *verb, const char *name)
{
    struct db_opts opts = test_db_root_opts();
    struct db *db = test_db_open(&opts);
    char sql[128];

    (void)snprintf(sql, sizeof(sql), "%s `%s`", verb, name);
    test_db_run(db, sql);
    db_close(db);
}

void test_db_create(struct test_db *test, const char *word)
{
    (void)snprintf(test->name, sizeof(test->name), "obx_%s_%ld_%" PRIx32, word, (long)getpid(),
                   (uint32_t)random_u64());
    as_root("CREATE DATABASE", test->name);
    test->opts = opts_of(test_env("OBX_TEST_DB_USER"), test_env("OBX_TEST_DB_PASSWORD"));
    test->opts.database = test->name;
}

void test_db_drop(struct test_db *test)
{
    as_root("DROP DATABASE IF EXISTS", test->name);
}
