/* Unit tests of the map from MySQL's error numbers to codes: in order, without doubles, and what
 * matters most by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "db_errors.h"

static void table_is_in_order_and_each_number_has_its_code(void **state)
{
    size_t count = 0;
    const struct db_error *table = db_error_table(&count);

    (void)state;
    assert_true(count > 100);
    for (size_t i = 0; i < count; i++) {
        assert_true(i == 0 || table[i].number > table[i - 1].number);
        assert_int_not_equal(table[i].code, OBX_OK);
        assert_string_not_equal(obx_code_text(table[i].code), "unknown error");
        assert_int_equal(db_code_of(table[i].number, NULL), table[i].code);
    }
}

static void numbers_that_decide_what_happens_next(void **state)
{
    static const struct db_error expected[] = {
        {1205, OBX_E_DB_LOCK_WAIT}, {1213, OBX_E_DB_DEADLOCK},  {1062, OBX_E_DB_DUPLICATE},
        {1586, OBX_E_DB_DUPLICATE}, {2002, OBX_E_DB_CONNECT},   {2003, OBX_E_DB_CONNECT},
        {2006, OBX_E_DB_GONE},      {2013, OBX_E_DB_GONE},      {2055, OBX_E_DB_GONE},
        {4031, OBX_E_DB_GONE},      {1053, OBX_E_DB_GONE},      {1927, OBX_E_DB_GONE},
        {1290, OBX_E_DB_READ_ONLY}, {1792, OBX_E_DB_READ_ONLY}, {1836, OBX_E_DB_READ_ONLY},
        {1045, OBX_E_DB_AUTH},      {1044, OBX_E_DB_DENIED},    {1142, OBX_E_DB_DENIED},
        {1143, OBX_E_DB_DENIED},    {1227, OBX_E_DB_DENIED},    {1370, OBX_E_DB_DENIED},
        {1049, OBX_E_DB_NO_TABLE},  {1146, OBX_E_DB_NO_TABLE},  {1054, OBX_E_DB_NO_TABLE},
        {1406, OBX_E_DB_DATA},      {1264, OBX_E_DB_DATA},      {1366, OBX_E_DB_DATA},
        {1292, OBX_E_DB_DATA},      {1265, OBX_E_DB_DATA},      {1048, OBX_E_DB_DATA},
        {1364, OBX_E_DB_DATA},      {3819, OBX_E_DB_DATA},      {4025, OBX_E_DB_DATA},
        {3140, OBX_E_DB_DATA},      {1021, OBX_E_DB_FULL},      {1114, OBX_E_DB_FULL},
        {28, OBX_E_DB_FULL},        {1040, OBX_E_DB_CONNECT},   {1203, OBX_E_DB_CONNECT},
        {1226, OBX_E_DB_CONNECT},   {1317, OBX_E_TIMEOUT},      {3024, OBX_E_TIMEOUT},
        {1969, OBX_E_TIMEOUT},      {1094, OBX_E_NOT_FOUND},    {2026, OBX_E_DB_TLS},
        {1153, OBX_E_TOO_LARGE},    {2020, OBX_E_TOO_LARGE},    {2008, OBX_E_NOMEM},
        {1461, OBX_E_DB_FULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        assert_int_equal(db_code_of(expected[i].number, NULL), expected[i].code);
}

static void numbers_outside_the_table(void **state)
{
    (void)state;
    assert_int_equal(db_code_of(0, NULL), OBX_OK);
    assert_int_equal(db_code_of(1064, "syntax"), OBX_E_DB_QUERY);
    /* One number for every option that stands in the way. */
    assert_int_equal(db_code_of(1290, "The MariaDB server is running with the --read-only option"),
                     OBX_E_DB_READ_ONLY);
    assert_int_equal(db_code_of(1290, "The MySQL server is running with the --super-read-only "
                                      "option"),
                     OBX_E_DB_READ_ONLY);
    assert_int_equal(db_code_of(1290, "The MySQL server is running with the --secure-file-priv "
                                      "option"),
                     OBX_E_DB_QUERY);
    assert_int_equal(db_code_of(9999, NULL), OBX_E_DB_QUERY);
    assert_int_equal(db_code_of(2999, NULL), OBX_E_DB_GONE);
    assert_int_equal(db_code_of(5013, NULL), OBX_E_DB_GONE);
}

/* 1305 says "SAVEPOINT x does not exist" and "FUNCTION db.x does not exist"; an answer and a
 * mistake. */
static void a_missing_function_is_no_missing_savepoint(void **state)
{
    (void)state;
    assert_int_equal(db_code_of(1305, "SAVEPOINT obx_1 does not exist"), OBX_E_DB_NO_SAVEPOINT);
    assert_int_equal(db_code_of(1305, "FUNCTION shop.f does not exist"), OBX_E_DB_NO_TABLE);
}

static void which_numbers_end_the_connection(void **state)
{
    static const unsigned fatal[] = {2006, 2013, 2014, 2055, 4031, 1053, 1927, 1153, 2027};
    static const unsigned sound[] = {1062, 1205, 1213, 1317, 1406, 1146, 1142, 1290, 1064, 3024};

    (void)state;
    for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
        assert_true(db_error_is_fatal(fatal[i]));
    for (size_t i = 0; i < sizeof(sound) / sizeof(sound[0]); i++)
        assert_false(db_error_is_fatal(sound[i]));
}

static void only_a_clear_refusal_undoes_a_commit(void **state)
{
    static const unsigned undone[] = {1213, 1205, 1290, 1792, 1836, 3101};
    static const unsigned open[] = {2006, 2013, 1053, 1317, 1180, 1927, 1969, 1105, 3024};

    (void)state;
    for (size_t i = 0; i < sizeof(undone) / sizeof(undone[0]); i++)
        assert_true(db_error_undoes_commit(undone[i]));
    for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
        assert_false(db_error_undoes_commit(open[i]));
}

static void which_numbers_want_the_statement_prepared_again(void **state)
{
    (void)state;
    assert_true(db_error_wants_prepare(1615));
    assert_true(db_error_wants_prepare(1243));
    assert_true(db_error_wants_prepare(2057));
    assert_false(db_error_wants_prepare(1213));
    assert_false(db_error_wants_prepare(2013));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_in_order_and_each_number_has_its_code),
        cmocka_unit_test(numbers_that_decide_what_happens_next),
        cmocka_unit_test(numbers_outside_the_table),
        cmocka_unit_test(a_missing_function_is_no_missing_savepoint),
        cmocka_unit_test(which_numbers_end_the_connection),
        cmocka_unit_test(only_a_clear_refusal_undoes_a_commit),
        cmocka_unit_test(which_numbers_want_the_statement_prepared_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
