/*
 * Ranges of ids not seen below the cursor. See gaps.h.
 */
#include "gaps.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

enum {
    FIRST_CAP = 64,
    JOIN_PART = 4 /* when there are too many, one in so many goes */
};

enum obx_code gaps_init(struct gaps *gaps, struct obx_err *err)
{
    gaps->count = 0;
    gaps->cap = FIRST_CAP;
    gaps->list = obx_calloc(FIRST_CAP, sizeof(gaps->list[0]));
    return gaps->list == NULL ? obx_fail(err, OBX_E_NOMEM, "list of gaps") : OBX_OK;
}

void gaps_fini(struct gaps *gaps)
{
    obx_free(gaps->list);
    gaps->list = NULL;
    gaps->count = 0;
}

void gaps_clear(struct gaps *gaps)
{
    gaps->count = 0;
}

/* The distance that one in JOIN_PART of the neighbours does not exceed. UINT64_MAX, which joins
   any, when there is no memory to find it. */
static uint64_t close_distance(const struct gaps *gaps)
{
    uint64_t *all = obx_calloc(gaps->count, sizeof(*all));
    uint64_t found = UINT64_MAX;

    if (all == NULL)
        return found;
    for (size_t i = 0; i + 1 < gaps->count; i++)
        all[i] = gaps->list[i + 1].lo - gaps->list[i].hi;
    qsort(all, gaps->count - 1, sizeof(*all), ids_compare);
    found = all[gaps->count / JOIN_PART];
    obx_free(all);
    return found;
}

static void join(struct gap *to, const struct gap *next)
{
    to->hi = next->hi;
    to->is_wide = true;
}

/* Joins a part of the neighbours, the closest ones: there the fewest rows lie between. */
static void join_closest(struct gaps *gaps)
{
    uint64_t close = close_distance(gaps);
    size_t left = gaps->count / JOIN_PART + 1;
    size_t kept = 0;

    for (size_t i = 1; i < gaps->count; i++) {
        struct gap *last = &gaps->list[kept];

        if (left > 0 && gaps->list[i].lo - last->hi <= close) {
            join(last, &gaps->list[i]);
            left--;
        } else {
            gaps->list[++kept] = gaps->list[i];
        }
    }
    gaps->count = kept + 1;
}

/* Room for one more; false: the caller has to do without. */
static bool has_room(struct gaps *gaps)
{
    struct gap *more = NULL;
    size_t cap = gaps->cap * 2;

    if (gaps->count == GAPS_MAX)
        join_closest(gaps);
    if (gaps->count < gaps->cap)
        return true;
    more = obx_realloc(gaps->list, cap * sizeof(more[0]));
    if (more == NULL)
        return false;
    gaps->list = more;
    gaps->cap = cap;
    return true;
}

void gaps_add(struct gaps *gaps, uint64_t lo, uint64_t hi, bool is_wide)
{
    const struct gap gap = {.lo = lo, .hi = hi, .is_wide = is_wide};

    if (has_room(gaps))
        gaps->list[gaps->count++] = gap;
    else
        join(&gaps->list[gaps->count - 1], &gap);
}

/* The range that holds id, or the next one above it, or count. */
static size_t find(const struct gaps *gaps, uint64_t id)
{
    size_t low = 0;
    size_t high = gaps->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (gaps->list[mid].hi < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool gaps_has(const struct gaps *gaps, uint64_t id)
{
    size_t i = find(gaps, id);

    return i < gaps->count && gaps->list[i].lo <= id;
}

/* Without room the range stays as it is: it covers too much then, never too little. A wide one does
   so anyway, and leaves the room to the others. */
static void split(struct gaps *gaps, size_t i, uint64_t id)
{
    struct gap *gap = &gaps->list[i];

    if (gap->is_wide && gaps->count >= GAPS_MAX / 2)
        return;
    if (!has_room(gaps)) {
        gap->is_wide = true;
        return;
    }
    i = find(gaps, id); /* everything may have moved */
    gap = &gaps->list[i];
    memmove(gap + 1, gap, (gaps->count - i) * sizeof(*gap));
    gaps->count++;
    gap[0].hi = id - 1;
    gap[1].lo = id + 1;
}

void gaps_fill(struct gaps *gaps, uint64_t id)
{
    size_t i = find(gaps, id);
    struct gap *gap = &gaps->list[i];

    if (i == gaps->count || gap->lo > id)
        return;
    if (gap->lo == gap->hi) {
        gaps->count--;
        memmove(gap, gap + 1, (gaps->count - i) * sizeof(*gap));
    } else if (gap->lo == id) {
        gap->lo++;
    } else if (gap->hi == id) {
        gap->hi--;
    } else {
        split(gaps, i, id);
    }
}

void gaps_cut(struct gaps *gaps, uint64_t id)
{
    while (gaps->count > 0 && gaps->list[gaps->count - 1].lo >= id)
        gaps->count--;
    if (gaps->count > 0 && gaps->list[gaps->count - 1].hi >= id)
        gaps->list[gaps->count - 1].hi = id - 1;
}

void gaps_join_free(struct gaps *gaps, const uint64_t *ids, size_t id_count, struct id_range taken,
                    size_t keep)
{
    size_t surplus = gaps->count > keep ? gaps->count - keep : 0;
    size_t kept = 0;
    size_t at = 0;

    for (size_t i = 1; i < gaps->count; i++) {
        struct gap *last = &gaps->list[kept];
        uint64_t lo = last->hi + 1; /* what lies between them */
        uint64_t hi = gaps->list[i].lo - 1;

        while (at < id_count && ids[at] < lo)
            at++;
        if (surplus > 0 && (at == id_count || ids[at] > hi) && (taken.lo > hi || taken.hi < lo)) {
            join(last, &gaps->list[i]);
            surplus--;
        } else {
            gaps->list[++kept] = gaps->list[i];
        }
    }
    if (gaps->count > 0)
        gaps->count = kept + 1;
}
