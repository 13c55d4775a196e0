/* Unit tests of the splitter, and of the migrations built into the library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "sql/schema.h"
#include "sql_split.h"

static void assert_splits(const char *sql, const char *const *expected, size_t count,
                          enum sql_split_result last)
{
    struct obx_bytes rest = bytes_of(sql);
    struct obx_bytes statement = {NULL, 0};

    for (size_t i = 0; i < count; i++) {
        char text[256];

        assert_int_equal(sql_split(&rest, &statement), SQL_SPLIT_STATEMENT);
        assert_true(bytes_to_text(statement, text, sizeof(text)));
        assert_string_equal(text, expected[i]);
    }
    assert_int_equal(sql_split(&rest, &statement), last);
}

#define ASSERT_SPLITS(sql, last, ...)                                                              \
    assert_splits(sql, (const char *const[]){__VA_ARGS__},                                         \
                  sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *), last)

static void statements_end_at_semicolons(void **state)
{
    (void)state;
    ASSERT_SPLITS("SELECT 1;SELECT 2;", SQL_SPLIT_END, "SELECT 1", "SELECT 2");
    ASSERT_SPLITS("SELECT 1;\n\n  SELECT\n2  \n", SQL_SPLIT_END, "SELECT 1", "SELECT\n2");
    ASSERT_SPLITS(" ; ;;SELECT 1;;", SQL_SPLIT_END, "SELECT 1");
}

static void nothing_gives_nothing(void **state)
{
    struct obx_bytes absent = {NULL, 0};
    struct obx_bytes statement = {NULL, 0};

    (void)state;
    assert_splits("", NULL, 0, SQL_SPLIT_END);
    assert_splits(" \n\t; ;", NULL, 0, SQL_SPLIT_END);
    assert_splits("-- only words\n/* and more; */ # of them", NULL, 0, SQL_SPLIT_END);
    assert_int_equal(sql_split(&absent, &statement), SQL_SPLIT_END);
}

static void quotes_hide_semicolons_and_comments(void **state)
{
    (void)state;
    ASSERT_SPLITS("SELECT 'a;b', \"c;d\", `e;f`; X", SQL_SPLIT_END, "SELECT 'a;b', \"c;d\", `e;f`",
                  "X");
    ASSERT_SPLITS("SELECT 'it''s;', '\\';', `a``;`; X", SQL_SPLIT_END,
                  "SELECT 'it''s;', '\\';', `a``;`", "X");
    ASSERT_SPLITS("SELECT '-- no', '/* no', '# no'; X", SQL_SPLIT_END,
                  "SELECT '-- no', '/* no', '# no'", "X");
    /* A backslash is a letter like any other between backquotes. */
    ASSERT_SPLITS("SELECT `a\\`; X", SQL_SPLIT_END, "SELECT `a\\`", "X");
}

static void comments_hide_semicolons_and_quotes(void **state)
{
    (void)state;
    ASSERT_SPLITS("-- first; don't\nSELECT 1; # it's; so\nSELECT 2", SQL_SPLIT_END, "SELECT 1",
                  "SELECT 2");
    ASSERT_SPLITS("SELECT 1 /* a; 'b */ + 2; X", SQL_SPLIT_END, "SELECT 1 /* a; 'b */ + 2", "X");
    ASSERT_SPLITS("SELECT 1 -- ; one\n+ 2; X --", SQL_SPLIT_END, "SELECT 1 -- ; one\n+ 2", "X --");
    /* Two dashes without white space behind them are an operator twice. */
    ASSERT_SPLITS("SELECT 5--3; X", SQL_SPLIT_END, "SELECT 5--3", "X");
    ASSERT_SPLITS("/*!80000 SET @a = 1 */; X", SQL_SPLIT_END, "/*!80000 SET @a = 1 */", "X");
    ASSERT_SPLITS("/*M!100600 SET @a = 1 */; X", SQL_SPLIT_END, "/*M!100600 SET @a = 1 */", "X");
}

static void what_is_not_closed_is_an_error(void **state)
{
    (void)state;
    ASSERT_SPLITS("SELECT 1; SELECT 'a; SELECT 2;", SQL_SPLIT_BROKEN, "SELECT 1");
    ASSERT_SPLITS("SELECT 1; SELECT 'a\\'", SQL_SPLIT_BROKEN, "SELECT 1");
    ASSERT_SPLITS("SELECT 1; /* SELECT 2;", SQL_SPLIT_BROKEN, "SELECT 1");
    assert_splits("SELECT `a``", NULL, 0, SQL_SPLIT_BROKEN);
    assert_splits("SELECT 1 /*", NULL, 0, SQL_SPLIT_BROKEN);
    assert_splits("/*/", NULL, 0, SQL_SPLIT_BROKEN);
}

static size_t count_statements(const char *sql, size_t len)
{
    struct obx_bytes rest = {sql, len};
    struct obx_bytes statement = {NULL, 0};
    size_t count = 0;

    while (sql_split(&rest, &statement) == SQL_SPLIT_STATEMENT) {
        assert_true(statement.len > 0);
        count++;
    }
    return count;
}

static void every_cut_of_a_migration_is_handled(void **state)
{
    size_t count = 0;
    const char *sql = schema_steps(SCHEMA_PRODUCER, &count)[0].sql;
    const size_t whole = count_statements(sql, strlen(sql));

    (void)state;
    assert_true(whole > 1);
    for (size_t cut = 0; cut <= strlen(sql); cut++)
        assert_true(count_statements(sql, cut) <= whole);
}

static void check_side(enum schema_side side)
{
    size_t count = 0;
    const struct schema_step *steps = schema_steps(side, &count);

    assert_true(count >= 1);
    assert_int_equal(schema_latest(side), steps[count - 1].version);
    for (size_t i = 0; i < count; i++) {
        char start[64];
        char recorded[128];

        (void)snprintf(start, sizeof(start), "%s_%04u_", schema_side_name(side), steps[i].version);
        (void)snprintf(recorded, sizeof(recorded), "SELECT '%s', %u, '%s' FROM DUAL",
                       schema_side_name(side), steps[i].version, steps[i].name);
        assert_int_equal(steps[i].side, side);
        assert_int_equal(steps[i].version, i + 1);
        assert_int_equal(strncmp(steps[i].name, start, strlen(start)), 0);
        assert_non_null(strstr(steps[i].sql, recorded));
    }
}

static void migrations_are_numbered_and_record_themselves(void **state)
{
    (void)state;
    assert_string_equal(schema_side_name(SCHEMA_PRODUCER), "producer");
    assert_string_equal(schema_side_name(SCHEMA_CONSUMER), "consumer");
    check_side(SCHEMA_PRODUCER);
    check_side(SCHEMA_CONSUMER);
    check_side(SCHEMA_HALF);
    check_side(SCHEMA_BARRIER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statements_end_at_semicolons),
        cmocka_unit_test(nothing_gives_nothing),
        cmocka_unit_test(quotes_hide_semicolons_and_comments),
        cmocka_unit_test(comments_hide_semicolons_and_quotes),
        cmocka_unit_test(what_is_not_closed_is_an_error),
        cmocka_unit_test(every_cut_of_a_migration_is_handled),
        cmocka_unit_test(migrations_are_numbered_and_record_themselves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
