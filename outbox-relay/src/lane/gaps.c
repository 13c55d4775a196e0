/*
 * Ranges of ids not seen below the cursor. See gaps.h.
 */
#include "gaps.h"

#include <string.h>

void gaps_clear(struct gaps *gaps)
{
    gaps->count = 0;
}

static void remove_at(struct gaps *gaps, size_t i)
{
    size_t behind = gaps->count - i - 1;

    memmove(&gaps->ranges[i], &gaps->ranges[i + 1], behind * sizeof(gaps->ranges[0]));
    memmove(&gaps->born_ms[i], &gaps->born_ms[i + 1], behind * sizeof(gaps->born_ms[0]));
    gaps->count--;
}

/* Joins the two neighbours with the fewest ids between them. The younger birth counts, so that
 * neither is forgotten early. */
static void join_closest(struct gaps *gaps)
{
    size_t best = 0;
    uint64_t best_span = UINT64_MAX;

    for (size_t i = 0; i + 1 < gaps->count; i++) {
        uint64_t span = gaps->ranges[i + 1].lo - gaps->ranges[i].hi;

        if (span < best_span) {
            best = i;
            best_span = span;
        }
    }
    gaps->ranges[best].hi = gaps->ranges[best + 1].hi;
    if (gaps->born_ms[best] < gaps->born_ms[best + 1])
        gaps->born_ms[best] = gaps->born_ms[best + 1];
    remove_at(gaps, best + 1);
}

void gaps_add(struct gaps *gaps, uint64_t lo, uint64_t hi, uint64_t born_ms)
{
    gaps->ranges[gaps->count] = (struct id_range){.lo = lo, .hi = hi};
    gaps->born_ms[gaps->count] = born_ms;
    gaps->count++;
    if (gaps->count > GAPS_MAX)
        join_closest(gaps);
}

/* The range that holds id, or count. */
static size_t find(const struct gaps *gaps, uint64_t id)
{
    size_t low = 0;
    size_t high = gaps->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (gaps->ranges[mid].hi < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < gaps->count && gaps->ranges[low].lo <= id ? low : gaps->count;
}

bool gaps_has(const struct gaps *gaps, uint64_t id)
{
    return find(gaps, id) < gaps->count;
}

static void split(struct gaps *gaps, size_t i, uint64_t id)
{
    size_t behind = gaps->count - i;

    memmove(&gaps->ranges[i + 1], &gaps->ranges[i], behind * sizeof(gaps->ranges[0]));
    memmove(&gaps->born_ms[i + 1], &gaps->born_ms[i], behind * sizeof(gaps->born_ms[0]));
    gaps->count++;
    gaps->ranges[i].hi = id - 1;
    gaps->ranges[i + 1].lo = id + 1;
    if (gaps->count > GAPS_MAX)
        join_closest(gaps);
}

void gaps_fill(struct gaps *gaps, uint64_t id)
{
    size_t i = find(gaps, id);

    if (i == gaps->count)
        return;
    if (gaps->ranges[i].lo == gaps->ranges[i].hi)
        remove_at(gaps, i);
    else if (gaps->ranges[i].lo == id)
        gaps->ranges[i].lo++;
    else if (gaps->ranges[i].hi == id)
        gaps->ranges[i].hi--;
    else
        split(gaps, i, id);
}

uint64_t gaps_expire(struct gaps *gaps, uint64_t old_ms, uint64_t floor)
{
    uint64_t highest = 0;
    size_t gone = 0;

    while (gone < gaps->count && gaps->born_ms[gone] < old_ms && gaps->ranges[gone].hi < floor) {
        highest = gaps->ranges[gone].hi;
        gone++;
    }
    if (gone > 0) {
        gaps->count -= gone;
        memmove(gaps->ranges, &gaps->ranges[gone], gaps->count * sizeof(gaps->ranges[0]));
        memmove(gaps->born_ms, &gaps->born_ms[gone], gaps->count * sizeof(gaps->born_ms[0]));
    }
    return highest;
}
