/* Unit tests of core/json.h: what consumers write of receipts is what the relay reads, whatever the
 * bytes of a reason are, and one odd receipt costs no other one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/bytes.h"
#include "core/json.h"
#include "receipts/receipt_json.h"

static void add(struct obx_buf *body, const char *id, const void *reason, size_t len)
{
    const struct receipt_line line = {.message_id = bytes_of(id),
                                      .group = bytes_of("stock"),
                                      .token = bytes_of("1.a\"\\"),
                                      .reason = {.p = reason, .len = len},
                                      .is_rejected = reason != NULL};

    assert_int_equal(receipt_body_add(body, &line), OBX_OK);
}

static void read_back(struct obx_buf *body, struct receipt_list *list)
{
    struct obx_err err = {0};

    assert_int_equal(receipt_body_end(body), OBX_OK);
    if (receipt_list_read(list, buf_bytes(body), &err) != OBX_OK)
        fail_msg("%s: %s", err.text, body->data);
}

static void what_is_written_is_read(void **state)
{
    struct receipt_list list = {0};
    struct obx_buf body = {0};

    (void)state;
    add(&body, "m1", NULL, 0);
    add(&body, "m2", "no \"such\" \xC3\xA9 \xF0\x9F\x94\x91\n",
        strlen("no \"such\" \xC3\xA9 \xF0\x9F\x94\x91\n"));
    read_back(&body, &list);
    assert_int_equal(list.count, 2);
    assert_false(list.items[0].is_rejected);
    assert_true(bytes_is(list.items[0].token, "1.a\"\\"));
    assert_true(list.items[1].is_rejected);
    assert_true(bytes_is(list.items[1].reason, "no \"such\" \xC3\xA9 \xF0\x9F\x94\x91\n"));
    receipt_list_fini(&list);
    buf_fini(&body);
}

/* Every byte there is, also NUL, which the relay's reader refuses with the whole message. */
static void a_reason_of_any_bytes_takes_no_other_receipt_with_it(void **state)
{
    struct receipt_list list = {0};
    struct obx_buf body = {0};
    unsigned char bytes[256];

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)i;
    add(&body, "m1", NULL, 0);
    add(&body, "m2", bytes, sizeof(bytes));
    add(&body, "m3", "a\0b", 3);
    read_back(&body, &list);
    assert_int_equal(list.count, 3);
    assert_int_equal(list.malformed, 0);
    assert_true(bytes_is(list.items[0].message_id, "m1"));
    assert_true(bytes_is(list.items[2].reason, "a b"));
    receipt_list_fini(&list);
    buf_fini(&body);
}

static void strings_keep_what_json_can_say(void **state)
{
    struct obx_buf out = {0};

    (void)state;
    json_add_string(&out, (struct obx_bytes){.p = "a\0\x1f\xff/", .len = 5});
    assert_string_equal(out.data, "\"a\\u0000\\u001f\xEF\xBF\xBD/\"");
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(a_reason_of_any_bytes_takes_no_other_receipt_with_it),
        cmocka_unit_test(strings_keep_what_json_can_say),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
