/*
 * Unit test of the ids not seen below the cursor: the list against a plain bitmap, at its limit,
 * without memory, and at both ends of the numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "lane/read/gaps.h"

enum { IDS = 4000, ROUNDS = 200 };

static const struct id_range nothing = {.lo = 1, .hi = 0};

static int setup(void **state)
{
    static struct gaps gaps;

    *state = &gaps;
    return gaps_init(&gaps, NULL) == OBX_OK ? 0 : -1;
}

static int teardown(void **state)
{
    gaps_fini(*state);
    return 0;
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return *state >> 33;
}

static void assert_sane(const struct gaps *gaps)
{
    assert_in_range(gaps->count, 0, GAPS_MAX);
    for (size_t i = 0; i < gaps->count; i++) {
        assert_true(gaps->list[i].lo <= gaps->list[i].hi);
        if (i > 0)
            assert_true(gaps->list[i - 1].hi < gaps->list[i].lo);
    }
}

/* Below its limit it is the bitmap, to the id. */
static void is_what_was_not_seen(void **state)
{
    struct gaps *gaps = *state;

    for (uint64_t round = 1; round <= ROUNDS; round++) {
        bool unseen[IDS + 1] = {false};
        uint64_t random = round;
        uint64_t id = next_random(&random) % 5;
        uint64_t length_max = round % 2 == 0 ? 4 : 60;

        gaps_clear(gaps);
        while (id < IDS - 100) {
            uint64_t hi = id + next_random(&random) % length_max;

            gaps_add(gaps, id, hi, false);
            for (uint64_t i = id; i <= hi; i++)
                unseen[i] = true;
            id = hi + 2 + next_random(&random) % length_max;
            for (int fills = (int)(next_random(&random) % 3); fills > 0; fills--) {
                uint64_t seen = next_random(&random) % IDS;

                gaps_fill(gaps, seen);
                unseen[seen] = false;
            }
            assert_sane(gaps);
        }
        for (uint64_t i = 0; i <= IDS; i++)
            assert_int_equal(gaps_has(gaps, i), unseen[i]);
        gaps_cut(gaps, IDS / 2);
        for (uint64_t i = 0; i <= IDS; i++)
            assert_int_equal(gaps_has(gaps, i), unseen[i] && i < IDS / 2);
    }
}

/* Where a row is left between two, they stay apart. */
static void joins_over_what_is_gone(void **state)
{
    const uint64_t ids[] = {5, 45};
    const struct id_range taken = {.lo = 60, .hi = 70};
    struct gaps *gaps = *state;

    for (uint64_t i = 1; i <= 9; i++) /* 10, 20 to 90 */
        gaps_add(gaps, i * 10, i * 10, false);
    gaps_join_free(gaps, ids, 2, taken, 9);
    assert_int_equal(gaps->count, 9); /* as few as that already */
    gaps_join_free(gaps, ids, 2, taken, 7);
    assert_int_equal(gaps->count, 7); /* the lowest first */
    assert_int_equal(gaps->list[0].hi, 30);
    assert_true(gaps->list[0].is_wide);
    assert_false(gaps->list[1].is_wide);
    gaps_join_free(gaps, ids, 2, taken, 1);
    /* 10 to 40; 50 and 60; 70 to 90: the id 45 and what is from 60 to 70 are between. */
    assert_int_equal(gaps->count, 3);
    assert_int_equal(gaps->list[0].hi, 40);
    assert_int_equal(gaps->list[1].lo, 50);
    assert_int_equal(gaps->list[1].hi, 60);
    assert_int_equal(gaps->list[2].lo, 70);
    assert_int_equal(gaps->list[2].hi, 90);
    gaps_join_free(gaps, NULL, 0, nothing, 1);
    assert_int_equal(gaps->count, 1);
    assert_true(gaps_has(gaps, 45));
}

/* At the limit the closest are joined, and nothing is missed. */
static void at_its_limit_it_covers_too_much_never_too_little(void **state)
{
    struct gaps *gaps = *state;

    for (uint64_t i = 0; i < UINT64_C(2) * GAPS_MAX; i++)
        gaps_add(gaps, i * 100 + 1, i * 100 + (i % 3 == 0 ? 98 : 10), false);
    assert_sane(gaps);
    for (uint64_t i = 0; i < UINT64_C(2) * GAPS_MAX; i += 7) {
        gaps_fill(gaps, i * 100 + 5); /* a range that is split in two, too */
        assert_true(gaps_has(gaps, i * 100 + 1));
        assert_true(gaps_has(gaps, i * 100 + 10));
    }
    assert_sane(gaps);
    /* Far apart and late, they are as they were added. */
    assert_false(gaps_has(gaps, (2 * GAPS_MAX - 1) * UINT64_C(100) + 50));
}

/* ---- without memory ---- */

static bool nothing_is_left(void *ctx)
{
    (void)ctx;
    return false;
}

static void without_memory_it_joins(void **state)
{
    struct gaps *gaps = *state;

    obx_alloc_set_hook(nothing_is_left, NULL);
    for (uint64_t i = 1; i <= 1000; i++)
        gaps_add(gaps, i * 10, i * 10 + 5, false);
    gaps_fill(gaps, 12);
    obx_alloc_set_hook(NULL, NULL);
    assert_sane(gaps);
    assert_true(gaps->count < 1000);
    for (uint64_t i = 1; i <= 1000; i++) {
        assert_true(gaps_has(gaps, i * 10));
        assert_true(gaps_has(gaps, i * 10 + 5));
    }
}

static void stands_the_largest_numbers(void **state)
{
    struct gaps *gaps = *state;

    gaps_add(gaps, 0, 1, true);
    gaps_add(gaps, 3, UINT64_MAX - 1, false);
    gaps_fill(gaps, UINT64_MAX);
    gaps_fill(gaps, UINT64_MAX - 1);
    gaps_fill(gaps, INT64_MAX);
    gaps_fill(gaps, 0);
    assert_int_equal(gaps->count, 3);
    assert_false(gaps_has(gaps, 0));
    assert_true(gaps_has(gaps, 1));
    assert_true(gaps_has(gaps, UINT64_MAX - 2));
    assert_false(gaps_has(gaps, UINT64_MAX - 1));
    assert_false(gaps_has(gaps, INT64_MAX));
    gaps_cut(gaps, INT64_MAX);
    assert_false(gaps_has(gaps, UINT64_MAX - 2));
    gaps_cut(gaps, 0);
    assert_int_equal(gaps->count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(is_what_was_not_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(joins_over_what_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(at_its_limit_it_covers_too_much_never_too_little, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(without_memory_it_joins, setup, teardown),
        cmocka_unit_test_setup_teardown(stands_the_largest_numbers, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
