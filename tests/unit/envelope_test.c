/*
 * Unit test of a row as a message: the CloudEvents attributes, an application's headers of every
 * JSON type, and each thing that can never be a message.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "message_header.h"
#include "outbox/envelope.h"

static struct envelope *envelope;
static struct bridge_message msg;
static struct obx_err err;

static int setup(void **state)
{
    (void)state;
    return envelope_create("shop", "outbox", &envelope, NULL) == OBX_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    envelope_destroy(envelope);
    envelope = NULL;
    return 0;
}

static struct outbox_row plain(void)
{
    return (struct outbox_row){.id = 81,
                               .created_us = UINT64_C(1785024000123456),
                               .is_full = true,
                               .message_id = bytes_of("id-1"),
                               .topic = bytes_of("order.placed"),
                               .key = bytes_of("customer-42"),
                               .content_type = bytes_of("application/json"),
                               .payload = bytes_of("{}")};
}

static enum obx_code build(const struct outbox_row *row)
{
    obx_err_clear(&err);
    return envelope_build(envelope, row, &msg, &err);
}

static enum obx_code build_headers(const char *headers)
{
    struct outbox_row row = plain();

    row.headers = bytes_of(headers);
    return build(&row);
}

static void assert_text(const char *name, const char *wanted)
{
    const struct obx_header *header = message_header(&msg, name);

    if (header == NULL || header->type != OBX_H_TEXT || !bytes_is(header->v.text, wanted))
        fail_msg("header %s is not '%s'", name, wanted);
}

static void assert_refused(const struct outbox_row *row, const char *word)
{
    assert_int_equal(build(row), OBX_E_FORMAT);
    if (strstr(err.text, word) == NULL)
        fail_msg("'%s' does not say '%s'", err.text, word);
}

static void attributes(void **state)
{
    struct outbox_row row = plain();

    (void)state;
    assert_int_equal(build(&row), OBX_OK);
    assert_text("cloudEvents_specversion", "1.0");
    assert_text("cloudEvents_id", "id-1");
    assert_text("cloudEvents_source", "/shop/outbox");
    assert_text("cloudEvents_type", "order.placed");
    assert_text("cloudEvents_time", "2026-07-26T00:00:00.123456Z");
    assert_text("cloudEvents_partitionkey", "customer-42");
    assert_int_equal(message_header(&msg, "x-obx-outbox-id")->v.i64, 81);
    assert_true(bytes_is(msg.message_id, "id-1"));
    assert_true(bytes_is(msg.type, "order.placed"));
    assert_true(bytes_is(msg.content_type, "application/json"));
    assert_true(bytes_is(msg.body, "{}"));
    assert_int_equal(msg.timestamp_s, 1785024000);
    row.key = (struct obx_bytes){.p = NULL, .len = 0};
    row.content_type = bytes_of("");
    assert_int_equal(build(&row), OBX_OK);
    assert_null(message_header(&msg, "cloudEvents_partitionkey"));
    assert_true(bytes_is_absent(msg.content_type));
}

static void dates(void **state)
{
    static const struct {
        uint64_t s;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000000Z"},          {951782399, "2000-02-28T23:59:59.000000Z"},
        {951782400, "2000-02-29T00:00:00.000000Z"},  {4107542400, "2100-03-01T00:00:00.000000Z"},
        {1709251199, "2024-02-29T23:59:59.000000Z"}, {253402300799, "9999-12-31T23:59:59.000000Z"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct outbox_row row = plain();

        row.created_us = cases[i].s * 1000000;
        assert_int_equal(build(&row), OBX_OK);
        assert_text("cloudEvents_time", cases[i].text);
    }
}

static void headers_of_every_type(void **state)
{
    (void)state;
    assert_int_equal(build_headers("{\"traceparent\": \"00-aa-bb-01\", \"n\": -7, \"f\": 1.5,"
                                   " \"yes\": true, \"no\": false, \"nil\": null, \"o\": {\"a\":"
                                   " [1, \"\xc3\xa4\"]}, \"\": \"\", \"e\": \"\"}"),
                     OBX_E_FORMAT); /* the empty name */
    assert_int_equal(build_headers("{\"traceparent\": \"00-aa-bb-01\", \"n\": -7, \"f\": 1.5,"
                                   " \"yes\": true, \"no\": false, \"nil\": null, \"o\": {\"a\":"
                                   " [1, \"\xc3\xa4\"]}, \"l\": [], \"e\": \"\"}"),
                     OBX_OK);
    assert_text("traceparent", "00-aa-bb-01");
    assert_int_equal(message_header(&msg, "n")->v.i64, -7);
    assert_true(message_header(&msg, "f")->v.f64 == 1.5);
    assert_true(message_header(&msg, "yes")->v.yes);
    assert_int_equal(message_header(&msg, "no")->type, OBX_H_BOOL);
    assert_false(message_header(&msg, "no")->v.yes);
    assert_int_equal(message_header(&msg, "nil")->type, OBX_H_NULL);
    assert_text("o", "{\"a\": [1, \"\xc3\xa4\"]}");
    assert_text("l", "[]");
    assert_text("e", "");
    /* Nothing of one row is left over for the next. */
    assert_int_equal(build_headers("{}"), OBX_OK);
    assert_null(message_header(&msg, "n"));
    assert_int_equal(build_headers("null"), OBX_OK);
}

static void headers_that_are_none(void **state)
{
    static const char *const cases[] = {
        "",
        " ",
        "[1]",
        "1",
        "\"text\"",
        "true",
        "{",
        "{\"a\": 1,}",
        "{\"a\": 1} x",
        "{\"a\": 1, \"a\": 2}",
        "{\"a\": \"\xff\"}",
        "{\"a\": \"\\u0000\"}",
        "{\"a\\u0000b\": 1}",
        "{\"a\": \"\\ud800\"}",
        "{\"cloudEvents_id\": \"x\"}",
        "{\"CloudEvents_ID\": \"x\"}",
        "{\"x-obx-anything\": \"x\"}",
        "{\"X-OBX-outbox-id\": \"x\"}",
        "{\"CC\": []}",
        "{\"bcc\": []}",
        "{\"x-death\": 1}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (build_headers(cases[i]) != OBX_E_FORMAT)
            fail_msg("%s is taken for headers", cases[i]);
        assert_true(err.text[0] != '\0');
    }
}

static void assert_f64(const char *name, double wanted)
{
    const struct obx_header *header = message_header(&msg, name);

    if (header == NULL || header->type != OBX_H_F64 || header->v.f64 != wanted)
        fail_msg("header %s is not the double %g", name, wanted);
}

/* A number goes as a number where nothing of it is lost, otherwise as the text that it is; what is
 * nested goes as the bytes that stand in the column. */
static void no_digit_of_a_number_is_lost(void **state)
{
    (void)state;
    assert_int_equal(
        build_headers(
            "{\"i\": 9223372036854775807, \"j\": -9223372036854775808,"
            " \"big\": 9223372036854775808, \"f\": 12.50, \"tenth\": 0.1, \"e\": 1.5E+3,"
            " \"z\": 0.000, \"d17\": 0.30000000000000004, \"long\": 0.12345678901234567890,"
            " \"round\": 9007199254740993.0, \"huge\": 1e400, \"power\": 13e309223372036854775807, "
            "\"tiny\": 1e-400,"
            " \"small\": 4.94e-324, \"whole\": 100000000000000000000.0,"
            " \"o\": {\"b\": 12.50,  \"a\": [0.1, 1E400, \"\\u00e4\\/\"], \"b\": 1}}"),
        OBX_OK);
    assert_int_equal(message_header(&msg, "i")->v.i64, INT64_MAX);
    assert_int_equal(message_header(&msg, "j")->v.i64, INT64_MIN);
    assert_text("big", "9223372036854775808");
    assert_f64("f", 12.5);
    assert_f64("tenth", 0.1);
    assert_f64("e", 1500);
    assert_f64("z", 0);
    assert_f64("d17", 0.30000000000000004);
    assert_text("long", "0.12345678901234567890");
    assert_text("round", "9007199254740993.0");
    assert_text("huge", "1e400");
    assert_text("tiny", "1e-400");
    assert_f64("small", 4.94e-324);
    assert_f64("whole", 1e20);
    assert_text("o", "{\"b\": 12.50,  \"a\": [0.1, 1E400, \"\\u00e4\\/\"], \"b\": 1}");
}

static void escapes_stand_for_what_they_are(void **state)
{
    (void)state;
    assert_int_equal(build_headers("{\"\\u0061b\": \"x\\ty\", \"c\": \"\\ud83d\\ude00\", \"d\":"
                                   " \"plain\", \"tr\\u00e4\": 1}"),
                     OBX_OK);
    assert_text("ab", "x\ty");
    assert_text("c", "\xf0\x9f\x98\x80");
    assert_text("d", "plain");
    assert_int_equal(message_header(&msg, "tr\xc3\xa4")->v.i64, 1);
    assert_int_equal(build_headers("{\"a\": 1, \"\\u0061\": 2}"), OBX_E_FORMAT);
    assert_int_equal(build_headers("{\"x\\u002dobx-a\": 2}"), OBX_E_FORMAT);
    assert_int_equal(build_headers("{\"\\ud800\": 2}"), OBX_E_FORMAT);
}

/* One byte less fits, and both sides say the same of either. */
static void headers_that_fit_no_frame(void **state)
{
    static char headers[ENVELOPE_HEADERS_MAX + 64];
    struct outbox_row row = plain();
    const size_t most = ENVELOPE_HEADERS_MAX - 8 - 1;

    (void)state;
    for (size_t len = most; len <= most + 1; len++) {
        enum obx_code wanted = len == most ? OBX_OK : OBX_E_FORMAT;

        memcpy(headers, "{\"a\":\"", 6);
        memset(headers + 6, 'x', len);
        (void)snprintf(headers + 6 + len, sizeof(headers) - 6 - len, "\"}");
        row.headers = bytes_of(headers);
        assert_int_equal(build(&row), wanted);
        assert_int_equal(envelope_check(&row, &err), wanted);
    }
}

static void names_at_their_limit(void **state)
{
    char headers[600];
    char name[300];

    (void)state;
    memset(name, 'n', sizeof(name));
    (void)snprintf(headers, sizeof(headers), "{\"%.255s\": 1}", name);
    assert_int_equal(build_headers(headers), OBX_OK);
    (void)snprintf(headers, sizeof(headers), "{\"%.256s\": 1}", name);
    assert_int_equal(build_headers(headers), OBX_E_FORMAT);
}

static void deep_and_many_headers(void **state)
{
    enum { DEEP = 100000, MANY = 5000 };
    static const char start[] = "{\"a\":";
    char *text = calloc(2, DEEP + 16);
    size_t at = sizeof(start) - 1;

    (void)state;
    assert_non_null(text);
    memcpy(text, start, at);
    memset(text + at, '[', DEEP);
    memset(text + at + DEEP, ']', DEEP);
    text[at + DEEP + DEEP] = '}';
    assert_int_equal(build_headers(text), OBX_E_FORMAT);
    at = 0;
    for (int i = 0; i < MANY; i++)
        at += (size_t)snprintf(text + at, 32, "%s\"h%d\":[%d]", i == 0 ? "{" : ",", i, i);
    (void)snprintf(text + at, 2, "}");
    assert_int_equal(build_headers(text), OBX_OK);
    assert_text("h4999", "[4999]");
    free(text);
}

static void rows_that_are_no_message(void **state)
{
    static const char nul[] = "a\0b";
    const struct obx_bytes with_nul = {.p = nul, .len = 3};
    char longer[257];
    struct outbox_row row = plain();

    (void)state;
    memset(longer, 'x', 256);
    longer[256] = '\0';
    row.topic = bytes_of("");
    assert_refused(&row, "topic");
    row.topic = bytes_of(longer);
    assert_refused(&row, "256 bytes");
    row.topic = with_nul;
    assert_refused(&row, "NUL");
    row.topic = bytes_of(longer + 1);
    assert_int_equal(build(&row), OBX_OK);
    row.message_id = bytes_of("");
    assert_refused(&row, "message_id");
    row.message_id = with_nul;
    assert_refused(&row, "message_id");
    row = plain();
    row.content_type = with_nul;
    assert_refused(&row, "content_type");
    row = plain();
    row.id = INT64_MAX;
    assert_int_equal(build(&row), OBX_OK);
    row.id = (uint64_t)INT64_MAX + 1;
    assert_refused(&row, "9223372036854775808");
    row = plain();
    row.key = with_nul; /* a header's value may have one */
    assert_int_equal(build(&row), OBX_OK);
}

struct countdown {
    int left;
};

static bool allow(void *ctx)
{
    struct countdown *countdown = ctx;

    return countdown->left-- > 0;
}

static void any_allocation_may_fail(void **state)
{
    struct countdown countdown = {.left = 0};
    struct outbox_row row = plain();
    enum obx_code rc = OBX_E_NOMEM;

    (void)state;
    row.headers = bytes_of("{\"a\": [1], \"\\u0062\": [2], \"c\": 3, \"d\": 4, \"e\": 5, \"f\": 6,"
                           " \"g\": 7, \"h\": 8, \"i\": 9, \"j\": 10, \"k\": {}, \"l\": \"x\"}");
    for (int n = 0; rc != OBX_OK && n < 1000; n++) {
        struct envelope *other = NULL;

        countdown.left = n;
        obx_alloc_set_hook(allow, &countdown);
        rc = envelope_create("shop", "outbox", &other, &err);
        if (rc == OBX_OK)
            rc = envelope_build(other, &row, &msg, &err);
        obx_alloc_set_hook(NULL, NULL);
        envelope_destroy(other);
        assert_true(rc == OBX_OK || rc == OBX_E_NOMEM);
    }
    assert_int_equal(rc, OBX_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(attributes, setup, teardown),
        cmocka_unit_test_setup_teardown(dates, setup, teardown),
        cmocka_unit_test_setup_teardown(headers_of_every_type, setup, teardown),
        cmocka_unit_test_setup_teardown(headers_that_are_none, setup, teardown),
        cmocka_unit_test_setup_teardown(no_digit_of_a_number_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(escapes_stand_for_what_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(headers_that_fit_no_frame, setup, teardown),
        cmocka_unit_test_setup_teardown(names_at_their_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(deep_and_many_headers, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_that_are_no_message, setup, teardown),
        cmocka_unit_test_setup_teardown(any_allocation_may_fail, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
