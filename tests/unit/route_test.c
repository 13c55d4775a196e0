/*
 * Unit test of topic rules: which one a topic gets, and what it then says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns),
        cmocka_unit_test(the_first_match_wins),
        cmocka_unit_test(defaults_fill_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
