/*
 * Unit test of the ids not seen below the cursor: the list against a plain bitmap, at its limit,
 * and at both ends of the numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lane/gaps.h"

enum { IDS = 4000, ROUNDS = 200 };

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return *state >> 33;
}

static void assert_sane(const struct gaps *gaps)
{
    assert_in_range(gaps->count, 0, GAPS_MAX);
    for (size_t i = 0; i < gaps->count; i++) {
        assert_true(gaps->ranges[i].lo <= gaps->ranges[i].hi);
        if (i > 0)
            assert_true(gaps->ranges[i - 1].hi < gaps->ranges[i].lo);
    }
}

/* Never an id missed; and as long as nothing had to be joined, none too many. */
static void covers_all_that_was_not_seen(void **state)
{
    (void)state;
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        struct gaps gaps = {.count = 0};
        bool unseen[IDS + 1] = {false};
        uint64_t random = round;
        uint64_t id = 1 + next_random(&random) % 5;
        uint64_t length_max = round % 2 == 0 ? 4 : 60;

        while (id < IDS - 100) {
            uint64_t hi = id + next_random(&random) % length_max;

            gaps_add(&gaps, id, hi, round);
            for (uint64_t i = id; i <= hi; i++)
                unseen[i] = true;
            id = hi + 2 + next_random(&random) % length_max;
            for (int fills = (int)(next_random(&random) % 3); fills > 0; fills--) {
                uint64_t seen = 1 + next_random(&random) % IDS;

                gaps_fill(&gaps, seen);
                unseen[seen] = false;
            }
            assert_sane(&gaps);
        }
        for (uint64_t i = 1; i <= IDS; i++)
            assert_true(gaps_has(&gaps, i) || !unseen[i]);
    }
}

static void is_exact_below_its_limit(void **state)
{
    struct gaps gaps = {.count = 0};

    (void)state;
    gaps_add(&gaps, 10, 20, 1);
    gaps_add(&gaps, 30, 30, 1);
    gaps_fill(&gaps, 10);
    gaps_fill(&gaps, 20);
    gaps_fill(&gaps, 15);
    gaps_fill(&gaps, 25);
    assert_int_equal(gaps.count, 3);
    for (uint64_t id = 0; id < 40; id++)
        assert_int_equal(gaps_has(&gaps, id), (id > 10 && id < 20 && id != 15) || id == 30);
    gaps_fill(&gaps, 30);
    assert_int_equal(gaps.count, 2);
    assert_false(gaps_has(&gaps, 30));
}

/* The two that are closest are joined, and the younger birth counts for both. */
static void joins_the_closest(void **state)
{
    struct gaps gaps = {.count = 0};

    (void)state;
    for (uint64_t i = 0; i < GAPS_MAX; i++)
        gaps_add(&gaps, i * 100 + 1, i * 100 + 10, 5);
    gaps_add(&gaps, (GAPS_MAX - 1) * 100 + 15, (GAPS_MAX - 1) * 100 + 16, 9);
    assert_int_equal(gaps.count, GAPS_MAX);
    assert_true(gaps_has(&gaps, (GAPS_MAX - 1) * 100 + 12));
    assert_false(gaps_has(&gaps, 50));
    assert_int_equal(gaps.born_ms[GAPS_MAX - 1], 9);
    /* A range that is split in two at the limit, too. */
    gaps_fill(&gaps, 5);
    assert_int_equal(gaps.count, GAPS_MAX);
    assert_sane(&gaps);
}

static void expires_the_old_ones_below_the_floor(void **state)
{
    struct gaps gaps = {.count = 0};

    (void)state;
    gaps_add(&gaps, 10, 19, 100);
    gaps_add(&gaps, 30, 39, 200);
    gaps_add(&gaps, 50, 59, 100);
    assert_int_equal(gaps_expire(&gaps, 100, 1000), 0); /* not before its time */
    assert_int_equal(gaps_expire(&gaps, 150, 19), 0);   /* something below is in memory */
    assert_int_equal(gaps_expire(&gaps, 150, 20), 19);
    assert_int_equal(gaps.count, 2);
    /* One that is old stays behind one that is not: what is forgotten is a beginning. */
    assert_int_equal(gaps_expire(&gaps, 150, 1000), 0);
    assert_int_equal(gaps_expire(&gaps, 201, UINT64_MAX), 59);
    assert_int_equal(gaps.count, 0);
}

static void stands_the_largest_numbers(void **state)
{
    struct gaps gaps = {.count = 0};

    (void)state;
    gaps_add(&gaps, 1, 1, 1);
    gaps_add(&gaps, 3, UINT64_MAX - 1, 1);
    gaps_fill(&gaps, UINT64_MAX);
    gaps_fill(&gaps, UINT64_MAX - 1);
    gaps_fill(&gaps, INT64_MAX);
    gaps_fill(&gaps, 0);
    assert_int_equal(gaps.count, 3);
    assert_true(gaps_has(&gaps, UINT64_MAX - 2));
    assert_false(gaps_has(&gaps, UINT64_MAX - 1));
    assert_false(gaps_has(&gaps, INT64_MAX));
    for (uint64_t i = 0; i < GAPS_MAX; i++)
        gaps_fill(&gaps, 1000 + 2 * i);
    assert_sane(&gaps);
    assert_true(gaps_has(&gaps, UINT64_MAX - 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(covers_all_that_was_not_seen),
        cmocka_unit_test(is_exact_below_its_limit),
        cmocka_unit_test(joins_the_closest),
        cmocka_unit_test(expires_the_old_ones_below_the_floor),
        cmocka_unit_test(stands_the_largest_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
