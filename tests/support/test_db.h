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
};

/**
 * Make an account by the blocks under "## <role>" in grants.md, with the names of this database in
 * them. Rights on tables that are not there are left out.
 */
void test_user_create(struct test_user *user, const struct test_db *test, const char *role);
void test_user_drop(struct test_user *user);

/** Connect; never NULL. */
struct db *test_db_open(const struct db_opts *opts);
/** Run one statement without values. */
void test_db_run(struct db *db, const char *sql);
/** The first column of the first row of a query, as a number; the test fails when there is no row.
 */
uint64_t test_db_number(struct db *db, const char *sql);

#endif
