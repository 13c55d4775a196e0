/*
 * Unit test of topic rules: which one a topic gets, and what it then says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/bytes.h"
#include "lane/publish/route.h"

static const struct topic_rule rules[] = {
    {.pattern = "order.created", .exchange = "orders", .routing_key = "new", .max_attempts = 3},
    {.pattern = "order.*", .on_park = PARK_SKIP},
    {.pattern = "*", .exchange = "rest"},
};
static const struct lane_opts opts = {
    .exchange = "main", .rules = rules, .rule_count = 2, .max_attempts = 9};

static void patterns(void **state)
{
    static const char with_nul[] = "order.created\0x";

    (void)state;
    assert_true(route_matches("a", bytes_of("a")));
    assert_false(route_matches("a", bytes_of("ab")));
    assert_false(route_matches("ab", bytes_of("a")));
    assert_true(route_matches("a*", bytes_of("a")));
    assert_true(route_matches("a*", bytes_of("abc")));
    assert_false(route_matches("ab*", bytes_of("a")));
    assert_true(route_matches("*", bytes_of("")));
    assert_true(route_matches("*", (struct obx_bytes){.p = NULL, .len = 0}));
    assert_false(route_matches("", bytes_of("a")));
    assert_true(route_matches("a*b", bytes_of("a*b"))); /* only at the end it is special */
    assert_false(route_matches("a*b", bytes_of("axb")));
    assert_false(route_matches("order.created",
                               (struct obx_bytes){.p = with_nul, .len = sizeof(with_nul) - 1}));
}

static void the_first_match_wins(void **state)
{
    const struct lane_opts all = {.exchange = "main", .rules = rules, .rule_count = 3};

    (void)state;
    assert_int_equal(route_find(&opts, bytes_of("order.created")), 0);
    assert_int_equal(route_find(&opts, bytes_of("order.created2")), 1);
    assert_int_equal(route_find(&opts, bytes_of("invoice")), ROUTE_DEFAULT);
    assert_int_equal(route_find(&all, bytes_of("invoice")), 2);
    assert_int_equal(route_find(&all, bytes_of("")), 2);
}

static void defaults_fill_in(void **state)
{
    struct route route = route_of(&opts, 0);

    (void)state;
    assert_true(bytes_is(route.exchange, "orders"));
    assert_true(bytes_is(route.routing_key, "new"));
    assert_int_equal(route.on_park, PARK_FREEZE);
    assert_int_equal(route.max_attempts, 3);
    route = route_of(&opts, 1);
    assert_true(bytes_is(route.exchange, "main"));
    assert_true(bytes_is_absent(route.routing_key));
    assert_int_equal(route.on_park, PARK_SKIP);
    assert_int_equal(route.max_attempts, 9);
    route = route_of(&opts, ROUTE_DEFAULT);
    assert_true(bytes_is(route.exchange, "main"));
    assert_int_equal(route.on_park, PARK_FREEZE);
    route = route_of(&opts, 7); /* a rule that a reload has taken away */
    assert_true(bytes_is(route.exchange, "main"));
}

static void a_partition_goes_before_the_key(void **state)
{
    static char longest[255];
    const struct topic_rule shared[] = {{.pattern = "a", .exchange = "orders", .partitions = 8},
                                        {.pattern = "b", .exchange = "plain"},
                                        {.pattern = "c", .routing_key = "new"}};
    const struct lane_opts lane = {
        .exchange = "main", .partitions = 12, .rules = shared, .rule_count = 3};
    struct outbox_row row = {.topic = bytes_of("a"), .message_id = bytes_of("123456789")};
    char text[ROUTE_KEY_SIZE];
    struct route route = route_of(&lane, 0);

    (void)state;
    /* Without a key by the message's id. */
    assert_true(bytes_is(route_key(&route, &row, text), "6.a"));
    row.key = bytes_of("customer-42");
    assert_true(bytes_is(route_key(&route, &row, text), "5.a"));
    route = route_of(&lane, 1);
    assert_true(bytes_is(route_key(&route, &row, text), "a"));
    route = route_of(&lane, 2);
    assert_true(bytes_is(route_key(&route, &row, text), "5.new"));
    route = route_of(&lane, ROUTE_DEFAULT);
    /* A key that is there and empty is a key. */
    row.key = bytes_of("");
    assert_true(bytes_is(route_key(&route, &row, text), "0.a"));
    /* Not cut to one that would be taken for another topic's. */
    memset(longest, 'x', sizeof(longest));
    row.topic = (struct obx_bytes){.p = longest, .len = sizeof(longest)};
    assert_int_equal(route_key(&route, &row, text).len, sizeof(longest) + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns),
        cmocka_unit_test(the_first_match_wins),
        cmocka_unit_test(defaults_fill_in),
        cmocka_unit_test(a_partition_goes_before_the_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
