/*
 * Databases of their own for tests, on the server that the OBX_TEST_DB_... variables name
 * (tests/support/servers env). A test fails, with the server's words, when something here fails.
 * Not for threads: cmocka's asserts belong to the main one.
 */
#ifndef OBX_TEST_DB_H
#define OBX_TEST_DB_H

#include <stdint.h>

#include "sql/db.h"

struct test_db {
    char name[64];
    struct db_opts opts; /* as the ordinary test user, by TCP, in this database */
};

/** The value of a variable of `tests/support/servers env`; the test fails when it is not set. */
const char *test_env(const char *name);
/** How the server's root logs in, no database selected. */
struct db_opts test_db_root_opts(void);
/** Make an empty database "obx_<word>_<pid>_<random>". */
void test_db_create(struct test_db *test, const char *word);
void test_db_drop(struct test_db *test);

/** An account with the rights that sql/schema/grants.md gives to a role, and no others. */
struct test_user {
    char name[33];
    struct db_opts opts; /* how it logs in to its database */
    unsigned granted;    /* statements of the page that were run for it */
    unsigned skipped;    /* those of blocks whose sides the database does not have */
};

/**
 * Make an account by the blocks under "## <role>" in grants.md, with the names of this database in
 * them: those for which it has all sides ("-- side: producer, half"). Each has to run as it stands.
 */
void test_user_create(struct test_user *user, const struct test_db *test, const char *role);
void test_user_drop(struct test_user *user);

/**
 * A table of the column seq, 1 to 100000, for a FROM on either product: MariaDB alone has
 * seq_1_to_N, and how deep a WITH RECURSIVE may go is limited by settings of different names.
 */
#define TEST_DIGITS                                                                                \
    "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL "           \
    "SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT "          \
    "8 UNION ALL SELECT 9) "
#define TEST_SEQ                                                                                   \
    "(SELECT 1 + e.d + 10 * d.d + 100 * c.d + 1000 * b.d + 10000 * a.d AS seq FROM"                \
    " " TEST_DIGITS "a, " TEST_DIGITS "b, " TEST_DIGITS "c, " TEST_DIGITS "d, " TEST_DIGITS        \
    "e) AS numbers"

/** Connect; never NULL. */
struct db *test_db_open(const struct db_opts *opts);
/** Run one statement without values. */
void test_db_run(struct db *db, const char *sql);
/** The first column of the first row of a query, as a number; the test fails when there is no row.
 */
uint64_t test_db_number(struct db *db, const char *sql);
/** Rows and index entries that the server has read for this session so far; asking adds about 30.
 */
uint64_t test_db_rows_read(struct db *db);

#endif
