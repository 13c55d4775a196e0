/* Unit tests of base/hist.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "base/hist.h"

/* How many of the durations recorded are not longer than le_us, by the walk. */
static uint64_t walk_count(const struct hist_view *view, uint64_t le_us)
{
    struct hist_step step = {0};

    while (hist_walk(view, &step)) {
        if (step.le_us == le_us)
            return step.count;
    }
    fail_msg("no bound %llu", (unsigned long long)le_us);
    return 0;
}

static void walk_has_the_1_2_5_bounds_up_to_100_seconds(void **state)
{
    static const struct hist hist;
    struct hist_view view;
    struct hist_step step = {0};
    uint64_t unit = 1;

    (void)state;
    hist_snapshot(&hist, &view);
    for (; unit < 100000000; unit *= 10) {
        assert_true(hist_walk(&view, &step) && step.le_us == unit);
        assert_true(hist_walk(&view, &step) && step.le_us == 2 * unit);
        assert_true(hist_walk(&view, &step) && step.le_us == 5 * unit);
    }
    assert_true(hist_walk(&view, &step) && step.le_us == 100000000);
    assert_true(hist_walk(&view, &step) && step.le_us == UINT64_MAX);
    assert_int_equal(step.count, 0);
    assert_false(hist_walk(&view, &step));
    assert_false(hist_walk(&view, &step));
}

/* Each bound counts what is equal to it and not what is one microsecond longer. */
static void bounds_are_inclusive(void **state)
{
    static const struct hist none;
    struct hist_view empty, view;
    struct hist_step step = {0};

    (void)state;
    hist_snapshot(&none, &empty);
    for (hist_walk(&empty, &step); step.le_us != UINT64_MAX; hist_walk(&empty, &step)) {
        struct hist hist;

        memset(&hist, 0, sizeof(hist));
        hist_record(&hist, step.le_us);
        hist_record(&hist, step.le_us + 1);
        hist_snapshot(&hist, &view);
        assert_int_equal(walk_count(&view, step.le_us), 1);
        assert_int_equal(walk_count(&view, UINT64_MAX), 2);
        assert_int_equal(view.total, 2);
        assert_int_equal(view.sum_us, 2 * step.le_us + 1);
    }
}

static void cumulative_counts_are_exact(void **state)
{
    struct hist hist;
    struct hist_view view;

    (void)state;
    memset(&hist, 0, sizeof(hist));
    for (uint64_t us = 0; us <= 3000; us++)
        hist_record(&hist, us);
    hist_snapshot(&hist, &view);
    assert_int_equal(walk_count(&view, 1), 2);
    assert_int_equal(walk_count(&view, 2), 3);
    assert_int_equal(walk_count(&view, 5), 6);
    assert_int_equal(walk_count(&view, 50), 51);
    assert_int_equal(walk_count(&view, 2000), 2001);
    assert_int_equal(walk_count(&view, 5000), 3001);
    assert_int_equal(walk_count(&view, UINT64_MAX), 3001);
    assert_int_equal(view.sum_us, 3000 * 3001 / 2);
}

static void quantiles_are_close(void **state)
{
    static const double parts[] = {0.1, 0.5, 0.9, 0.99, 1};
    struct hist hist;
    struct hist_view view;

    (void)state;
    memset(&hist, 0, sizeof(hist));
    for (uint64_t us = 1; us <= 90000; us++)
        hist_record(&hist, us);
    hist_snapshot(&hist, &view);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        const uint64_t exact = (uint64_t)(parts[i] * 90000);

        assert_in_range(hist_quantile_us(&view, parts[i]), exact - exact / 100,
                        exact + exact / 100);
    }
}

/* One single duration: the estimate stays inside its bucket. */
static void a_single_duration_is_found_again(void **state)
{
    (void)state;
    for (uint64_t us = 1; us <= 100000000; us += us / 7 + 1) {
        struct hist hist;
        struct hist_view view;

        memset(&hist, 0, sizeof(hist));
        hist_record(&hist, us);
        hist_snapshot(&hist, &view);
        assert_in_range(hist_quantile_us(&view, 0.5), us / 2, us + us / 2 + 1);
        assert_true(hist_quantile_us(&view, 1) >= us);
    }
}

static void extremes_do_no_harm(void **state)
{
    struct hist hist;
    struct hist_view view;

    (void)state;
    memset(&hist, 0, sizeof(hist));
    hist_snapshot(&hist, &view);
    assert_int_equal(hist_quantile_us(&view, 0.99), 0);
    hist_record(&hist, 0);
    hist_snapshot(&hist, &view);
    assert_in_range(hist_quantile_us(&view, 0.99), 0, 1);
    hist_record(&hist, UINT64_MAX);
    hist_record(&hist, 100000001);
    hist_snapshot(&hist, &view);
    assert_int_equal(walk_count(&view, 100000000), 1);
    assert_int_equal(walk_count(&view, UINT64_MAX), 3);
    assert_int_equal(hist_quantile_us(&view, 0.99), 100000000);
    assert_in_range(hist_quantile_us(&view, 0), 0, 1);
}

enum { RECORDED = 200000 };

static void *record_all(void *ctx)
{
    for (uint64_t i = 0; i < RECORDED; i++)
        hist_record(ctx, i);
    return NULL;
}

static void one_thread_records_while_another_reads(void **state)
{
    static struct hist hist;
    struct hist_view view = {.total = 0};
    pthread_t writers[2];

    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, record_all, &hist), 0);
    while (view.total < RECORDED) {
        const uint64_t before = view.total;

        hist_snapshot(&hist, &view);
        assert_true(view.total >= before);
        assert_int_equal(walk_count(&view, UINT64_MAX), view.total);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(writers[i], NULL), 0);
    hist_snapshot(&hist, &view);
    assert_int_equal(view.total, 2 * RECORDED);
    assert_true(view.sum_us == (uint64_t)RECORDED * (RECORDED - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(walk_has_the_1_2_5_bounds_up_to_100_seconds),
        cmocka_unit_test(bounds_are_inclusive),
        cmocka_unit_test(cumulative_counts_are_exact),
        cmocka_unit_test(quantiles_are_close),
        cmocka_unit_test(a_single_duration_is_found_again),
        cmocka_unit_test(extremes_do_no_harm),
        cmocka_unit_test(one_thread_records_while_another_reads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
