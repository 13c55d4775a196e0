/*
 * Unit tests of outbox-relay/outbox/bell_msg: which datagrams are understood and which are
 * refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/bytes.h"
#include "outbox/bell_msg.h"

static bool parse(const char *text, struct bell_msg *msg)
{
    return bell_msg_parse(bytes_of(text), msg);
}

static void empty_means_every_lane(void **state)
{
    static const char *const forms[] = {"", "\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct bell_msg msg;

        assert_true(parse(forms[i], &msg));
        assert_false(msg.forwarded);
        assert_true(bell_msg_is_for(&msg, "shop", "outbox"));
        assert_true(bell_msg_is_for(&msg, "other", "outbox_2"));
    }
}

static void an_outbox_means_it_in_every_source(void **state)
{
    struct bell_msg msg;

    (void)state;
    assert_true(parse("outbox_orders\n", &msg));
    assert_true(bell_msg_is_for(&msg, "shop", "outbox_orders"));
    assert_true(bell_msg_is_for(&msg, "mall", "outbox_orders"));
    assert_false(bell_msg_is_for(&msg, "shop", "outbox"));
    assert_false(bell_msg_is_for(&msg, "shop", "outbox_orders2"));
}

static void source_and_outbox_mean_one_lane(void **state)
{
    struct bell_msg msg;

    (void)state;
    assert_true(parse("shop/outbox", &msg));
    assert_false(msg.forwarded);
    assert_true(bell_msg_is_for(&msg, "shop", "outbox"));
    assert_false(bell_msg_is_for(&msg, "mall", "outbox"));
}

static void a_forwarded_ring_is_marked(void **state)
{
    char text[BELL_MSG_MAX];
    struct bell_msg msg;
    size_t len;

    (void)state;
    len = bell_msg_forward(text, sizeof(text), "shop", "outbox");
    assert_int_equal(len, strlen(">shop/outbox"));
    assert_true(bell_msg_parse((struct obx_bytes){.p = text, .len = len}, &msg));
    assert_true(msg.forwarded);
    assert_true(bell_msg_is_for(&msg, "shop", "outbox"));
    assert_false(bell_msg_is_for(&msg, "shop", "outbox2"));
}

static void malformed_ones_are_refused(void **state)
{
    static const char *const forms[] = {
        "/",       "/outbox",  "shop/",      "a/b/c",       ">",        ">outbox", ">/",
        ">shop/",  "out box",  "outbox\n\n", "out\nbox",    "outbox\r", "out;box", ">>shop/outbox",
        "shop//x", "\xff\xfe", "out\tbox",   "shop/out*ox", " outbox",  "outbox ", "{\"outbox\":1}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct bell_msg msg;

        if (parse(forms[i], &msg))
            fail_msg("\"%s\" was taken", forms[i]);
        assert_null(msg.outbox.p);
        assert_false(msg.forwarded);
    }
}

static void nul_bytes_and_long_ones_are_refused(void **state)
{
    char text[BELL_MSG_MAX + 2];
    struct bell_msg msg;

    (void)state;
    assert_false(bell_msg_parse((struct obx_bytes){.p = "out\0box", .len = 7}, &msg));
    memset(text, 'a', sizeof(text));
    assert_true(bell_msg_parse((struct obx_bytes){.p = text, .len = 64}, &msg));
    assert_false(bell_msg_parse((struct obx_bytes){.p = text, .len = 65}, &msg));
    assert_false(bell_msg_parse((struct obx_bytes){.p = text, .len = sizeof(text)}, &msg));
}

static void forwarding_refuses_what_could_not_be_read(void **state)
{
    char text[BELL_MSG_MAX];

    (void)state;
    assert_int_equal(bell_msg_forward(text, sizeof(text), "a/b", "outbox"), 0);
    assert_int_equal(bell_msg_forward(text, sizeof(text), "", "outbox"), 0);
    assert_int_equal(bell_msg_forward(text, sizeof(text), "shop", "out box"), 0);
    assert_int_equal(bell_msg_forward(text, 8, "shop", "outbox"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_means_every_lane),
        cmocka_unit_test(an_outbox_means_it_in_every_source),
        cmocka_unit_test(source_and_outbox_mean_one_lane),
        cmocka_unit_test(a_forwarded_ring_is_marked),
        cmocka_unit_test(malformed_ones_are_refused),
        cmocka_unit_test(nul_bytes_and_long_ones_are_refused),
        cmocka_unit_test(forwarding_refuses_what_could_not_be_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
