/*
 * Unit tests of tests/support/wait.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wait.h"

struct countdown {
    int left;
    int asked;
};

static bool reached_zero(void *ctx)
{
    struct countdown *countdown = ctx;

    countdown->asked++;
    if (countdown->left > 0)
        countdown->left--;
    return countdown->left == 0;
}

static bool never(void *ctx)
{
    int *asked = ctx;

    (*asked)++;
    return false;
}

static void returns_at_once_when_the_condition_holds(void **state)
{
    struct countdown countdown = {.left = 1, .asked = 0};

    (void)state;
    assert_true(wait_until(0, reached_zero, &countdown));
    assert_int_equal(countdown.asked, 1);
}

static void asks_again_until_the_condition_holds(void **state)
{
    struct countdown countdown = {.left = 4, .asked = 0};

    (void)state;
    assert_true(wait_until(10000, reached_zero, &countdown));
    assert_int_equal(countdown.asked, 4);
}

static void gives_up_at_the_deadline_and_not_before(void **state)
{
    const int64_t start = wait_now_ms();
    int asked = 0;

    (void)state;
    assert_false(wait_until(50, never, &asked));
    assert_true(wait_now_ms() - start >= 50);
    assert_true(asked >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(returns_at_once_when_the_condition_holds),
        cmocka_unit_test(asks_again_until_the_condition_holds),
        cmocka_unit_test(gives_up_at_the_deadline_and_not_before),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
