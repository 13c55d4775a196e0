/* Unit tests of receipts/isolate.h: what is stuck is left, everything else is done once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "receipts/isolate.h"

enum { ITEMS = 400 };

/* A database that refuses whatever has a bad item in it. */
struct fake {
    bool is_bad[ITEMS];
    unsigned done[ITEMS];
    unsigned refusals;
    unsigned gone_after; /* refusals; then the connection is lost. 0: never */
};

static enum obx_code run(void *ctx, size_t from, size_t count, struct obx_err *err)
{
    struct fake *fake = ctx;

    assert_true(count > 0 && count <= ITEMS - from);
    if (fake->gone_after > 0 && fake->refusals >= fake->gone_after)
        return obx_fail(err, OBX_E_DB_GONE, "gone");
    for (size_t i = from; i < from + count; i++) {
        if (fake->is_bad[i]) {
            fake->refusals++;
            return obx_fail(err, OBX_E_DB_LOCK_WAIT, "item %zu", i);
        }
    }
    for (size_t i = from; i < from + count; i++)
        fake->done[i]++;
    return OBX_OK;
}

static void expect_all_but_the_bad(const struct fake *fake)
{
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(fake->done[i], fake->is_bad[i] ? 0 : 1);
}

static void the_stuck_stand_alone(void **state)
{
    static const size_t bad[][3] = {{0, 0, 0}, {399, 399, 399}, {7, 7, 200}, {19, 20, 21}};
    struct obx_err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fake fake = {.refusals = 0};
        struct isolate isolate = {.run = run, .ctx = &fake, .until_ms = UINT64_MAX};
        size_t stuck = 0;

        for (size_t k = 0; k < 3; k++)
            fake.is_bad[bad[i][k]] = true;
        for (size_t k = 0; k < ITEMS; k++)
            stuck += fake.is_bad[k] ? 1 : 0;
        assert_int_equal(isolate_run(&isolate, 0, ITEMS, &err), OBX_OK);
        expect_all_but_the_bad(&fake);
        assert_int_equal(isolate.stuck, stuck);
        assert_int_equal(isolate.done, ITEMS - stuck);
        assert_true(isolate.first_stuck == bad[i][0]);
        assert_non_null(strstr(isolate.why.text, "item"));
        assert_true(fake.refusals <= 1 + 2 * stuck); /* each may be a wait of a second */
    }
}

static void every_length_is_divided_whole(void **state)
{
    struct obx_err err = {0};

    (void)state;
    for (size_t count = 0; count <= 45; count++) {
        struct fake fake = {.is_bad = {[3] = true}};
        struct isolate isolate = {.run = run, .ctx = &fake, .until_ms = UINT64_MAX};

        assert_int_equal(isolate_run(&isolate, 0, count, &err), OBX_OK);
        assert_int_equal(isolate.done + isolate.stuck, count);
        for (size_t i = 0; i < ITEMS; i++)
            assert_int_equal(fake.done[i], i < count && i != 3);
    }
}

static void when_time_is_up_nothing_is_divided(void **state)
{
    struct fake fake = {.is_bad = {[3] = true}};
    struct isolate isolate = {.run = run, .ctx = &fake, .until_ms = 0};
    struct obx_err err = {0};

    (void)state;
    assert_int_equal(isolate_run(&isolate, 0, ITEMS, &err), OBX_OK);
    assert_int_equal(isolate.stuck, ITEMS);
    assert_int_equal(fake.refusals, 1);
}

static void a_lost_connection_ends_it(void **state)
{
    struct fake fake = {.is_bad = {[399] = true}, .gone_after = 2};
    struct isolate isolate = {.run = run, .ctx = &fake, .until_ms = UINT64_MAX};
    struct obx_err err = {0};

    (void)state;
    assert_int_equal(isolate_run(&isolate, 0, ITEMS, &err), OBX_E_DB_GONE);
    assert_int_equal(isolate.stuck, 0);
    assert_int_equal(isolate.done, 380);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stuck_stand_alone),
        cmocka_unit_test(every_length_is_divided_whole),
        cmocka_unit_test(when_time_is_up_nothing_is_divided),
        cmocka_unit_test(a_lost_connection_ends_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
