/*
 * Unit test of the values of a JSON text as bytes: what is a JSON text and what is not, that a
 * value stays the bytes that it is, and what strings stand for.
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
#include "base/json_span.h"

static struct json_span_fault fault;

static bool check(const char *text, struct obx_bytes *value)
{
    return json_span_check(bytes_of(text), value, &fault);
}

static void a_value_is_found_without_the_blanks_around_it(void **state)
{
    static const char *const values[] = {
        "0",
        "-0",
        "12.50",
        "1E+400",
        "0.1e-7",
        "123456789012345678901234567890",
        "true",
        "false",
        "null",
        "\"\"",
        "[]",
        "{}",
        "[ [ ] , 1 ]",
        "{ \"a\" : [ 1.10 , { } ] }",
        "\"\\ud800 \\/\\u00e4\xc3\xa4\"",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char text[100];
        struct obx_bytes value;

        (void)snprintf(text, sizeof(text), " \t%s\r\n", values[i]);
        if (!check(text, &value))
            fail_msg("%s: %s at %zu", values[i], fault.what, fault.at);
        assert_true(bytes_is(value, values[i]));
    }
}

static void what_is_no_json_is_refused_where_it_goes_wrong(void **state)
{
    static const struct {
        const char *text;
        size_t at;
    } cases[] = {
        {"", 0},           {" ", 1},
        {"{", 1},          {"[", 1},
        {"]", 0},          {"[1,]", 3},
        {"[,1]", 1},       {"[1 2]", 3},
        {"{\"a\"}", 4},    {"{\"a\":}", 5},
        {"{\"a\":1,}", 7}, {"{a:1}", 1},
        {"{'a':1}", 1},    {"01", 1},
        {"-", 1},          {"+1", 0},
        {".5", 0},         {"1.", 2},
        {"1e", 2},         {"1e+", 3},
        {"0x10", 1},       {"NaN", 0},
        {"Infinity", 0},   {"tru", 0},
        {"nulll", 4},      {"\"", 1},
        {"\"a", 2},        {"\"\\", 2},
        {"\"\\x\"", 2},    {"\"\\u12g4\"", 5},
        {"\"\n\"", 1},     {"1 1", 2},
        {"{} x", 3},       {"\xef\xbb\xbf{}", 0},
        {"\"\xff\"", 1},   {"\"\xed\xa0\x80\"", 1},
        {"{]", 1},         {"[}", 1},
        {"[[1}", 3},       {"// x\n1", 0},
    };
    struct obx_bytes value;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (check(cases[i].text, &value) || fault.at != cases[i].at || fault.what == NULL)
            fail_msg("%s: %s at %zu", cases[i].text, fault.what, fault.at);
        assert_true(bytes_is_absent(value));
    }
    assert_false(json_span_check((struct obx_bytes){"[\0]", 3}, &value, &fault));
}

static void nesting_is_bounded(void **state)
{
    static char text[2 * JSON_SPAN_DEPTH_MAX + 3];
    struct obx_bytes value;

    (void)state;
    memset(text, '[', JSON_SPAN_DEPTH_MAX);
    memset(text + JSON_SPAN_DEPTH_MAX, ']', JSON_SPAN_DEPTH_MAX);
    assert_true(check(text, &value));
    memset(text, '[', JSON_SPAN_DEPTH_MAX + 1);
    memset(text + JSON_SPAN_DEPTH_MAX + 1, ']', JSON_SPAN_DEPTH_MAX + 1);
    assert_false(check(text, &value));
    assert_int_equal(fault.at, JSON_SPAN_DEPTH_MAX);
}

static void members_and_elements_come_in_order_as_they_are(void **state)
{
    static const char *const names[] = {"\"n\"", "\"a,b\"", "\"o\"", "\"\"", "\"l\"", "\"t\""};
    static const char *const values[] = {"12.50",   "\"x\\\"}\"",    "{ \"a\":[1 , {}] }",
                                         "-1.0e+2", "[1,\"]\",[] ]", "true"};
    struct obx_bytes object, name, value;
    struct json_span_rest rest;
    size_t i = 0;

    (void)state;
    assert_true(check("{\"n\":12.50,\"a,b\" :\"x\\\"}\" , \"o\": { \"a\":[1 , {}] },\"\":-1.0e+2 ,"
                      "\n\"l\":[1,\"]\",[] ],\"t\":true}",
                      &object));
    rest = json_span_enter(object);
    while (json_span_next_member(&rest, &name, &value)) {
        assert_true(i < 6 && bytes_is(name, names[i]) && bytes_is(value, values[i]));
        if (i++ != 4)
            continue;
        struct json_span_rest inner = json_span_enter(value);

        assert_true(json_span_next_element(&inner, &value) && bytes_is(value, "1"));
        assert_true(json_span_next_element(&inner, &value) && bytes_is(value, "\"]\""));
        assert_true(json_span_next_element(&inner, &value) && bytes_is(value, "[]"));
        assert_false(json_span_next_element(&inner, &value));
    }
    assert_int_equal(i, 6);
    assert_true(check("{ }", &object));
    rest = json_span_enter(object);
    assert_false(json_span_next_member(&rest, &name, &value));
}

static void strings_are_decoded_where_they_stand(void **state)
{
    static const struct {
        const char *string, *text; /* NULL: stands for no text */
    } cases[] = {
        {"\"plain\"", "plain"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u0041\\u00e4\\u20ac\\ud83d\\ude00\"", "A\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\"\\uDBFF\\uDFFF\"", "\xf4\x8f\xbf\xbf"},
        {"\"\\ud800\"", NULL},
        {"\"\\udc00\\ud800\"", NULL},
        {"\"\\ud800\\u0041\"", NULL},
        {"\"\\ud800x\"", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char place[64];
        size_t len = 0;
        struct obx_bytes value, inner;

        (void)snprintf(place, sizeof(place), "%s", cases[i].string);
        assert_true(check(place, &value));
        assert_int_equal(json_span_is_plain(value, &inner), i == 0);
        assert_int_equal(json_span_decode(value, place, &len), cases[i].text != NULL);
        if (cases[i].text != NULL)
            assert_true(bytes_is((struct obx_bytes){place, len}, cases[i].text));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_found_without_the_blanks_around_it),
        cmocka_unit_test(what_is_no_json_is_refused_where_it_goes_wrong),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(members_and_elements_come_in_order_as_they_are),
        cmocka_unit_test(strings_are_decoded_where_they_stand),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
