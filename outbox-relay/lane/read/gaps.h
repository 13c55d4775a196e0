/*
 * The ids below the cursor that were never seen: a late commit may still appear there. A sorted
 * list of ranges, apart from each other.
 *
 * Invariant: an id that was not seen is always in the list. A range is exact (no id in it was seen)
 * or wide (it may hold ids that were seen and are gone; a look there costs more). Ranges become
 * wide by joining: for nothing where no row is left between them (gaps_join_free), at the price of
 * reading known rows again when there are more than GAPS_MAX or memory has run out. Time plays no
 * part: a gap is forgotten only by being seen. Pure logic; used by the reader. Proved by
 * tests/unit/gaps_test.c.
 */
#ifndef RELAY_GAPS_H
#define RELAY_GAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "obx/err.h"
#include "outbox/outbox_row.h"

enum { GAPS_MAX = 65536 };

struct gap {
    uint64_t lo; /* both ends belong to it */
    uint64_t hi;
    bool is_wide;
};

struct gaps {
    size_t count, cap;
    struct gap *list; /* ascending, apart */
};

/** OBX_E_NOMEM; later calls need no success: without memory they join. */
OBX_NODISCARD enum obx_code gaps_init(struct gaps *gaps, struct obx_err *err);
void gaps_fini(struct gaps *gaps);
void gaps_clear(struct gaps *gaps);
/** lo to hi, above everything in the list, has not been seen. is_wide: not by us, at least. */
void gaps_add(struct gaps *gaps, uint64_t lo, uint64_t hi, bool is_wide);
/** Whether id may not have been seen. */
bool gaps_has(const struct gaps *gaps, uint64_t id);
/** id has been seen now. */
void gaps_fill(struct gaps *gaps, uint64_t id);
/** Forget everything from id on: it will be read forward again. */
void gaps_cut(struct gaps *gaps, uint64_t id);
/**
 * Join neighbours, the lowest first, between which there is none of the ids (ascending) and nothing
 * of taken, until no more than keep are left. taken.lo > taken.hi: nothing.
 */
void gaps_join_free(struct gaps *gaps, const uint64_t *ids, size_t id_count, struct id_range taken,
                    size_t keep);

#endif
