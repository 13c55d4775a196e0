/* Unit tests of base/json_bounds.h: where each bound lies, and that it holds a parser's memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/bytes.h"
#include "base/json_bounds.h"
#include "counted_memory.h"

static const struct json_bounds small = {.bytes = 100, .depth = 3, .values = 8};

static bool passes(const char *text)
{
    struct obx_err err = {0};
    enum obx_code rc = json_bounds_check(bytes_of(text), &small, &err);

    assert_true(rc == OBX_OK || rc == OBX_E_TOO_LARGE);
    assert_int_equal(rc != OBX_OK, err.text[0] != '\0');
    return rc == OBX_OK;
}

static void each_bound_lies_where_it_should(void **state)
{
    char longest[102];

    (void)state;
    assert_true(passes("[[[1]]]"));
    assert_false(passes("[[[[1]]]]"));
    assert_true(passes("[[[]],[[]],1]"));
    assert_true(passes("[1,2,3,4,5,6,7]"));
    assert_false(passes("[1,2,3,4,5,6,7,8]"));
    assert_true(passes("{\"a\":1,\"b\":2,\"c\":3}"));
    assert_false(passes("{\"a\":1,\"b\":2,\"c\":3,\"d\":4}"));
    memset(longest, ' ', sizeof(longest));
    longest[100] = '\0';
    assert_true(passes(longest));
    longest[100] = ' ';
    longest[101] = '\0';
    assert_false(passes(longest));
}

/* What stands in a string counts for nothing, however it is escaped. */
static void strings_are_passed_over(void **state)
{
    (void)state;
    assert_true(passes("[\"[[[[[[[[,,,,,,,,{{{{::::\"]"));
    assert_true(passes("[\"\\\"[[[[,,,,,,,,,\"]"));
    assert_false(passes("[\"\\\\\",[[[[]]]]]"));
    assert_true(passes("\"never ended [[[[[,,,,,,,,,,"));
    assert_true(passes("]]]]]]]]]"));
    assert_true(passes(""));
}

static void parse(const char *unit, size_t count, const char *end)
{
    struct obx_buf text = {0};
    json_error_t why;

    assert_int_equal(buf_add_text(&text, "["), OBX_OK);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(buf_addf(&text, "%s%s", i == 0 ? "" : ",", unit), OBX_OK);
    assert_int_equal(buf_add_text(&text, end), OBX_OK);
    counted.peak = counted.in_use;
    json_decref(json_loadb(text.data, text.len, 0, &why));
    buf_fini(&text);
}

/* So a bound on values is a bound on memory: no form of JSON costs more for each of them. */
static void a_value_costs_so_much(void **state)
{
    static const char *const units[] = {"{}",         "[]",   "0",   "\"\"",
                                        "{\"a\":{}}", "[[]]", "1.5", "null"};
    enum { COUNT = 1000, COST = 400 };

    (void)state;
    json_set_alloc_funcs(counted_malloc, counted_free);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        parse(units[i], COUNT, "]");
        assert_true(counted.peak > 0 && counted.peak < (size_t)COUNT * COST * 2);
        parse(units[i], COUNT, "");
    }
    json_set_alloc_funcs(malloc, free);
    assert_int_equal(counted.in_use, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_bound_lies_where_it_should),
        cmocka_unit_test(strings_are_passed_over),
        cmocka_unit_test(a_value_costs_so_much),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
