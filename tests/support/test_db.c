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

#include "base/bytes.h"
#include "base/random.h"
#include "test_db.h"

enum { PATIENT_S = 3600 };

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
        .program_name = "rowpost-test",
    };
}

struct db_opts test_db_root_opts(void)
{
    struct db_opts opts = opts_of("root", test_env("OBX_TEST_DB_ROOT_PASSWORD"));

    opts.any_server = true; /* root makes it read-only, and must be able to take that back */
    return opts;
}

struct db *test_db_open(const struct db_opts *opts)
{
    struct obx_err err = {.code = OBX_OK};
    struct db_opts patient = *opts;
    struct db *db = NULL;

    /* A test may hold a transaction for as long as it takes. */
    if (patient.idle_s == 0)
        patient.idle_s = PATIENT_S;
    if (db_open(&patient, &db, &err) != OBX_OK)
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

uint64_t test_db_rows_read(struct db *db)
{
    struct obx_err err = {.code = OBX_OK};
    struct db_rows *rows = NULL;
    uint64_t sum = 0;

    if (db_query_text(db, bytes_of("SHOW SESSION STATUS LIKE 'Handler_read%'"), &rows, &err) !=
        OBX_OK)
        fail_msg("%s", err.text);
    while (db_rows_next(rows))
        sum += db_rows_u64(rows, 1);
    db_rows_free(rows);
    return sum;
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

enum { LINE_MAX_LEN = 512, STATEMENT_MAX = 1024 };

#define USER_PASSWORD "Test-1-Password"

/* Append the line to out with every `from` in it replaced. */
static void replace(struct obx_buf *out, const char *line, const char *from, const char *to)
{
    const char *found = NULL;

    while ((found = strstr(line, from)) != NULL) {
        assert_int_equal(buf_add(out, line, (size_t)(found - line)), OBX_OK);
        assert_int_equal(buf_add_text(out, to), OBX_OK);
        line = found + strlen(from);
    }
    assert_int_equal(buf_add_text(out, line), OBX_OK);
}

/* The name that a statement of grants.md gives or creates for: what stands between ' and '@. */
static void find_user(const char *line, char *name, size_t size)
{
    const char *end = strstr(line, "'@'");
    const char *start = end;

    assert_non_null(end);
    while (start > line && start[-1] != '\'')
        start--;
    assert_true(bytes_to_text((struct obx_bytes){start, (size_t)(end - start)}, name, size));
}

static void run_grant(struct db *root, const struct test_user *user, const struct test_db *test,
                      const char *line)
{
    struct obx_buf with_database = {0};
    struct obx_buf with_user = {0};
    struct obx_buf sql = {0};
    struct obx_err err = {.code = OBX_OK};
    char written[64];
    enum obx_code code = OBX_OK;

    find_user(line, written, sizeof(written));
    replace(&with_database, line, "`shop`", test->name);
    replace(&with_user, with_database.data, written, user->name);
    replace(&sql, with_user.data, "'password'", "'" USER_PASSWORD "'");
    code = db_exec(root, sql.data, DB_NO_ARGS, NULL, &err);
    if (code != OBX_OK)
        fail_msg("%s: %s", sql.data, err.text);
    buf_fini(&with_database);
    buf_fini(&with_user);
    buf_fini(&sql);
}

/* Whether the database has each side of "producer, half"; "none" asks for none. */
static bool has_sides(struct db *root, const struct test_db *test, const char *list)
{
    char sides[LINE_MAX_LEN];
    char sql[LINE_MAX_LEN];
    char *rest = NULL;

    (void)snprintf(sides, sizeof(sides), "%s", list);
    for (char *side = strtok_r(sides, ", ", &rest); side != NULL;
         side = strtok_r(NULL, ", ", &rest)) {
        if (strcmp(side, "none") == 0)
            continue;
        (void)snprintf(sql, sizeof(sql),
                       "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '%s' "
                       "AND table_name = 'rowpost_schema'",
                       test->name);
        if (test_db_number(root, sql) == 0)
            return false;
        (void)snprintf(sql, sizeof(sql),
                       "SELECT COUNT(*) FROM `%s`.rowpost_schema WHERE side = '%s'", test->name,
                       side);
        if (test_db_number(root, sql) == 0)
            return false;
    }
    return true;
}

/* A statement, which ends with a line that ends in ';'. False at the end of the block. */
static bool next_statement(FILE *page, char statement[STATEMENT_MAX])
{
    char line[LINE_MAX_LEN];
    size_t len = 0;

    while (fgets(line, sizeof(line), page) != NULL && strncmp(line, "```", 3) != 0) {
        line[strcspn(line, "\n")] = '\0';
        len += (size_t)snprintf(statement + len, STATEMENT_MAX - len, "%s%s", len > 0 ? "\n" : "",
                                line);
        assert_true(len < STATEMENT_MAX);
        if (statement[len - 1] == ';')
            return true;
    }
    assert_int_equal(len, 0);
    return false;
}

static void walk_block(FILE *page, struct db *root, struct test_user *user,
                       const struct test_db *test)
{
    static const char head[] = "-- side: ";
    char line[LINE_MAX_LEN];
    char statement[STATEMENT_MAX];
    bool is_wanted = false;

    assert_non_null(fgets(line, sizeof(line), page));
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, head, sizeof(head) - 1) != 0)
        fail_msg("%s: a block without its sides: %s", OBX_TEST_GRANTS, line);
    is_wanted = has_sides(root, test, line + sizeof(head) - 1);
    while (next_statement(page, statement)) {
        if (is_wanted)
            run_grant(root, user, test, statement);
        user->granted += is_wanted;
        user->skipped += !is_wanted;
    }
}

/* Walk the role's part of the page. */
static void run_grants(struct db *root, struct test_user *user, const struct test_db *test,
                       const char *role)
{
    FILE *page = fopen(OBX_TEST_GRANTS, "r");
    char line[LINE_MAX_LEN];
    char heading[LINE_MAX_LEN];
    bool in_role = false;

    assert_non_null(page);
    (void)snprintf(heading, sizeof(heading), "## %s", role);
    while (fgets(line, sizeof(line), page) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "## ", 3) == 0)
            in_role = strcmp(line, heading) == 0;
        else if (in_role && strcmp(line, "```sql") == 0)
            walk_block(page, root, user, test);
    }
    (void)fclose(page);
}

void test_user_create(struct test_user *user, const struct test_db *test, const char *role)
{
    struct db_opts opts = test_db_root_opts();
    struct db *root = test_db_open(&opts);

    *user = (struct test_user){.granted = 0};
    (void)snprintf(user->name, sizeof(user->name), "%.8s_%ld_%" PRIx32, role, (long)getpid(),
                   (uint32_t)random_u64());
    user->opts = opts_of(user->name, USER_PASSWORD);
    user->opts.database = test->name;
    run_grants(root, user, test, role);
    if (user->granted == 0)
        fail_msg("%s has nothing for %s", OBX_TEST_GRANTS, role);
    db_close(root);
}

void test_user_drop(struct test_user *user)
{
    struct db_opts opts = test_db_root_opts();
    struct db *root = test_db_open(&opts);
    char sql[128];

    (void)snprintf(sql, sizeof(sql), "DROP USER '%s'@'%%'", user->name);
    test_db_run(root, sql);
    db_close(root);
}
