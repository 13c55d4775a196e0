/* Unit tests of base/backoff.h and base/clock.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <time.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/random.h"

static void waits_double_up_to_the_cap(void **state)
{
    (void)state;
    /* The greatest remainder gives the upper end of the range, zero the lower one. */
    assert_int_equal(backoff_nth_ms(100, 1000, 1, 0), 100);
    assert_int_equal(backoff_nth_ms(100, 1000, 1, 100), 200);
    assert_int_equal(backoff_nth_ms(100, 1000, 2, 300), 400);
    assert_int_equal(backoff_nth_ms(100, 1000, 3, 700), 800);
    assert_int_equal(backoff_nth_ms(100, 1000, 4, 900), 1000);
    assert_int_equal(backoff_nth_ms(100, 1000, UINT32_MAX, 900), 1000);
    assert_int_equal(backoff_nth_ms(100, 1000, 4, 901), 100);
}

static void odd_limits_do_no_harm(void **state)
{
    (void)state;
    for (uint64_t random = 0; random < 50; random++) {
        assert_int_equal(backoff_nth_ms(100, 50, 3, random), 50);
        assert_int_equal(backoff_nth_ms(7, 7, 3, random), 7);
        assert_int_equal(backoff_nth_ms(0, 0, 3, random), 0);
        assert_in_range(backoff_nth_ms(0, 100, 3, random), 0, 8);
        assert_int_equal(backoff_nth_ms(UINT32_MAX, UINT32_MAX, 3, random), UINT32_MAX);
    }
    assert_int_equal(backoff_nth_ms(0, UINT32_MAX, 99, UINT32_MAX), UINT32_MAX);
}

static void keeps_its_limits_and_starts_again_after_a_reset(void **state)
{
    struct backoff b;
    uint32_t longest = 0;

    (void)state;
    backoff_init(&b, 10, 500);
    for (int i = 0; i < 1000; i++) {
        uint32_t wait = backoff_next_ms(&b);

        assert_in_range(wait, 10, 500);
        longest = wait > longest ? wait : longest;
    }
    assert_in_range(longest, 400, 500);
    assert_int_equal(b.tries, 1000);
    backoff_reset(&b);
    assert_in_range(backoff_next_ms(&b), 10, 20);
}

static void the_same_seed_gives_the_same_waits_another_seed_others(void **state)
{
    struct backoff a, b, c;
    int same = 0;

    (void)state;
    backoff_init(&a, 1, 1000000);
    b = a;
    c = a;
    a.seed = b.seed = 42;
    for (int i = 0; i < 40; i++) {
        uint32_t wait = backoff_next_ms(&a);

        assert_int_equal(wait, backoff_next_ms(&b));
        same += wait == backoff_next_ms(&c);
    }
    assert_in_range(same, 0, 20);
    assert_true(c.seed != 0);
}

static void jitter_covers_the_range_evenly(void **state)
{
    struct backoff b;
    unsigned low = 0;

    (void)state;
    backoff_init(&b, 0, 999);
    b.seed = 1;
    b.tries = 30;
    for (int i = 0; i < 2000; i++)
        low += backoff_next_ms(&b) < 500;
    assert_in_range(low, 900, 1100);
}

static void random_numbers_differ(void **state)
{
    (void)state;
    assert_true(random_u64() != random_u64());
}

static void clocks_go_on_and_agree(void **state)
{
    uint64_t us = clock_now_us();
    uint64_t ms = clock_now_ms();

    (void)state;
    assert_true(ms >= us / 1000);
    assert_true(clock_now_us() >= us);
    assert_in_range(clock_wall_us() / 1000000, (uint64_t)time(NULL) - 5, (uint64_t)time(NULL) + 5);
}

static void time_left_is_what_poll_wants(void **state)
{
    uint64_t now = clock_now_ms();

    (void)state;
    assert_int_equal(clock_left_ms(0), 0);
    assert_int_equal(clock_left_ms(now), 0);
    assert_in_range(clock_left_ms(now + 60000), 50000, 60000);
    assert_int_equal(clock_left_ms(UINT64_MAX), INT_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_double_up_to_the_cap),
        cmocka_unit_test(odd_limits_do_no_harm),
        cmocka_unit_test(keeps_its_limits_and_starts_again_after_a_reset),
        cmocka_unit_test(the_same_seed_gives_the_same_waits_another_seed_others),
        cmocka_unit_test(jitter_covers_the_range_evenly),
        cmocka_unit_test(random_numbers_differ),
        cmocka_unit_test(clocks_go_on_and_agree),
        cmocka_unit_test(time_left_is_what_poll_wants),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
