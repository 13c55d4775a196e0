/*
 * The ids below the cursor that were never seen: a late commit may still appear there. A sorted
 * list of at most GAPS_MAX ranges; when there would be more, the two that are closest are joined,
 * so that the list may cover ids that were seen (a look there costs a little more) but never misses
 * one that was not. Pure logic; used by the reader. Proved by tests/unit/gaps_test.c.
 */
#ifndef RELAY_GAPS_H
#define RELAY_GAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "outbox_row.h"

enum { GAPS_MAX = 256 };

struct gaps {
    size_t count;
    struct id_range ranges[GAPS_MAX + 1]; /* ascending, apart; one place more than the limit, for
                                             the moment of joining */
    uint64_t born_ms[GAPS_MAX + 1];       /* when it was noticed, or as much earlier as is known */
};

void gaps_clear(struct gaps *gaps);
/** lo to hi, above everything in the list, has not been seen. */
void gaps_add(struct gaps *gaps, uint64_t lo, uint64_t hi, uint64_t born_ms);
/** Whether id may not have been seen. */
bool gaps_has(const struct gaps *gaps, uint64_t id);
/** id has been seen now. */
void gaps_fill(struct gaps *gaps, uint64_t id);
/** Forget ranges from the front that were born before old_ms and lie below floor. Returns the
 * highest id forgotten, 0 if none. */
uint64_t gaps_expire(struct gaps *gaps, uint64_t old_ms, uint64_t floor);

#endif
