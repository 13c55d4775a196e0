/* Unit tests of receipts/receipt_json.h: what of a message is read, and what it may cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/bytes.h"
#include "counted_memory.h"
#include "receipts/receipt_json.h"

static enum obx_code read_text(struct receipt_list *list, const struct obx_buf *text)
{
    struct obx_err err = {0};
    enum obx_code rc = receipt_list_read(list, buf_bytes(text), &err);

    assert_int_equal(rc != OBX_OK, err.text[0] != '\0');
    return rc;
}

/* "{"receipts": [" and count times a unit. */
static void repeat(struct obx_buf *text, const char *unit, size_t count)
{
    buf_reset(text);
    assert_int_equal(buf_add_text(text, "{\"receipts\": ["), OBX_OK);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(buf_addf(text, "%s%s", i == 0 ? "" : ",", unit), OBX_OK);
    assert_int_equal(buf_add_text(text, "]}"), OBX_OK);
}

static void reports_are_read_and_kept(void **state)
{
    struct receipt_list list;
    struct obx_buf text = {0};

    (void)state;
    repeat(&text,
           "{\"message_id\": \"m1\", \"group\": \"stock\", \"outcome\": \"rejected\","
           " \"reason\": \"no \\u00e9\", \"token\": \"1.a\", \"more\": [1, {}]},"
           "{\"message_id\": \"m2\", \"group\": \"mail\", \"outcome\": \"applied\","
           " \"token\": \"1.b\"}, {\"message_id\": \"m3\"}",
           1);
    assert_int_equal(read_text(&list, &text), OBX_OK);
    buf_fini(&text); /* the list does not need it */
    assert_int_equal(list.count, 2);
    assert_int_equal(list.malformed, 1);
    assert_true(bytes_is(list.items[0].message_id, "m1"));
    assert_true(bytes_is(list.items[0].reason, "no \xC3\xA9"));
    assert_true(list.items[0].is_rejected);
    assert_true(bytes_is(list.items[1].token, "1.b"));
    assert_true(bytes_is(list.items[1].group, "mail"));
    assert_true(bytes_is_absent(list.items[1].reason));
    receipt_list_fini(&list);
}

/* The largest message that may come, with the longest of everything. */
static void a_thousand_of_the_longest_are_read(void **state)
{
    struct receipt_list list;
    struct obx_buf unit = {0}, text = {0};
    char id[RECEIPT_ID_MAX + 1], reason[RECEIPT_REASON_MAX + 1];

    (void)state;
    memset(id, 'i', sizeof(id));
    memset(reason, 'r', sizeof(reason));
    id[RECEIPT_ID_MAX] = reason[RECEIPT_REASON_MAX] = '\0';
    assert_int_equal(buf_addf(&unit,
                              "{\"message_id\": \"%s\", \"group\": \"%s\", \"outcome\": "
                              "\"rejected\", \"reason\": \"%s\", \"token\": \"%s%s\"}",
                              id, id, reason, id, id),
                     OBX_OK);
    repeat(&text, unit.data, RECEIPTS_IN_MESSAGE);
    assert_int_equal(read_text(&list, &text), OBX_OK);
    assert_int_equal(list.count, RECEIPTS_IN_MESSAGE);
    assert_true(list.bytes >= list.count * (RECEIPT_REASON_MAX + 4 * RECEIPT_ID_MAX));
    receipt_list_fini(&list);
    buf_fini(&unit);
    buf_fini(&text);
}

/* A message that costs many times its size is refused before it costs anything; what is read may
 * cost a few megabytes. */
static void nothing_costs_many_times_its_size(void **state)
{
    static const struct {
        const char *unit;
        size_t count;
    } floods[] = {
        {"{}", 1000000},
        {"[]", 1000000},
        {"0", 2000000},
        {"{\"a\":{}}", 400000},
        {"\"\"", 900000},
        {"[[[[[[[[[[", 100000},
        {"{}", 1000},
        {"{}", 1001},
        {"[[],[],[],[],[]]", 1000},
        {"{\"a\":{},\"b\":{},\"c\":{},\"d\":{}}", 1000},
    };
    enum { PEAK_MAX = 8 * 1024 * 1024 };
    struct receipt_list list;
    struct obx_buf text = {0};

    (void)state;
    json_set_alloc_funcs(counted_malloc, counted_free);
    for (size_t i = 0; i < sizeof(floods) / sizeof(floods[0]); i++) {
        enum obx_code rc;

        counted.peak = 0;
        repeat(&text, floods[i].unit, floods[i].count);
        rc = read_text(&list, &text);
        assert_true(rc == OBX_OK || rc == OBX_E_TOO_LARGE);
        assert_int_equal(rc == OBX_OK, floods[i].count <= RECEIPTS_IN_MESSAGE);
        assert_int_equal(list.count, 0);
        assert_true(counted.peak < PEAK_MAX);
        receipt_list_fini(&list);
    }
    json_set_alloc_funcs(malloc, free);
    assert_int_equal(counted.in_use, 0);
    buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reports_are_read_and_kept),
        cmocka_unit_test(a_thousand_of_the_longest_are_read),
        cmocka_unit_test(nothing_costs_many_times_its_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
