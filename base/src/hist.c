/*
 * The latency histogram. Decimal bounds instead of powers of two: every bound that is shown to a
 * person or to Prometheus is one that is counted, so no cumulative count is an estimate.
 */
#include "base/hist.h"

/* Bound i in microseconds: 1..9 in the decade i / 9. */
static uint64_t bound_us(unsigned i)
{
    uint64_t unit = 1;

    for (unsigned decade = 0; decade < i / 9; decade++)
        unit *= 10;
    return unit * (i % 9 + 1);
}

/* The first bound that is not below us, or the bucket after the last bound. */
static unsigned bucket_of(uint64_t us)
{
    uint64_t unit = 1;
    unsigned first = 0;

    if (us > bound_us(HIST_BOUNDS - 1))
        return HIST_BOUNDS;
    while (us > 10 * unit) {
        unit *= 10;
        first += 9;
    }
    return us == 0 ? 0 : first + (unsigned)((us - 1) / unit);
}

void hist_record(struct hist *hist, uint64_t us)
{
    atomic_fetch_add_explicit(&hist->counts[bucket_of(us)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&hist->sum_us, us, memory_order_relaxed);
}

void hist_snapshot(const struct hist *hist, struct hist_view *view)
{
    view->total = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        view->counts[i] = atomic_load_explicit(&hist->counts[i], memory_order_relaxed);
        view->total += view->counts[i];
    }
    view->sum_us = atomic_load_explicit(&hist->sum_us, memory_order_relaxed);
}

uint64_t hist_quantile_us(const struct hist_view *view, double part)
{
    const double rank = part * (double)view->total;
    double below = 0;

    for (unsigned i = 0; i < HIST_BOUNDS; i++) {
        const double count = (double)view->counts[i];
        const double low = i > 0 ? (double)bound_us(i - 1) : 0;

        /* Inside a bucket the durations are taken to lie evenly. */
        if (count > 0 && below + count >= rank)
            return (uint64_t)(low + ((double)bound_us(i) - low) * (rank - below) / count + 0.5);
        below += count;
    }
    return view->total > 0 ? bound_us(HIST_BOUNDS - 1) : 0;
}

/* Whether bound i is a 1, 2 or 5 of its decade, or the end. */
static bool is_shown(unsigned i)
{
    return i % 9 == 0 || i % 9 == 1 || i % 9 == 4 || i == HIST_BOUNDS;
}

bool hist_walk(const struct hist_view *view, struct hist_step *step)
{
    unsigned i = step->next;

    if (i >= HIST_BUCKETS)
        return false;
    step->count += view->counts[i];
    while (!is_shown(i))
        step->count += view->counts[++i];
    step->le_us = i < HIST_BOUNDS ? bound_us(i) : UINT64_MAX;
    step->next = i + 1;
    return true;
}
