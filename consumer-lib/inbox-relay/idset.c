/*
 * Linear probing; a removal moves back what follows, so that there are no tombs: a set that lives as
 * long as the process and sees millions of ids come and go stays as fast as at its start.
 */
#include "idset.h"

#include <string.h>

#include "base/alloc.h"

enum { ROOM_MIN = 64 };
#define SPREAD UINT64_C(0x9E3779B97F4A7C15)

static size_t find(const struct idset *set, uint64_t id)
{
    /* Ids come in runs; multiplied they lie apart, so that a run does not become one long probe. */
    size_t at = (size_t)(id * SPREAD >> 32) & (set->room - 1);

    while (set->slots[at] != 0 && set->slots[at] != id)
        at = (at + 1) & (set->room - 1);
    return at;
}

/* Never more than half full, or probes get long; never smaller again, since what was held once will be
 * again. */
static enum obx_code grow(struct idset *set)
{
    struct idset bigger = {.room = set->room == 0 ? ROOM_MIN : set->room * 2};

    bigger.slots = obx_calloc(bigger.room, sizeof(*bigger.slots));
    if (bigger.slots == NULL)
        return OBX_E_NOMEM;
    for (size_t i = 0; i < set->room; i++) {
        if (set->slots[i] != 0) {
            bigger.slots[find(&bigger, set->slots[i])] = set->slots[i];
            bigger.count++;
        }
    }
    obx_free(set->slots);
    *set = bigger;
    return OBX_OK;
}

void idset_fini(struct idset *set)
{
    obx_free(set->slots);
    memset(set, 0, sizeof(*set));
}

enum obx_code idset_add(struct idset *set, uint64_t id)
{
    size_t at;

    if ((set->count + 1) * 2 > set->room && grow(set) != OBX_OK)
        return OBX_E_NOMEM;
    at = find(set, id);
    if (set->slots[at] == 0)
        set->count++;
    set->slots[at] = id;
    return OBX_OK;
}

bool idset_has(const struct idset *set, uint64_t id)
{
    return set->room > 0 && set->slots[find(set, id)] == id;
}

void idset_remove(struct idset *set, uint64_t id)
{
    size_t hole;

    if (!idset_has(set, id))
        return;
    hole = find(set, id);
    set->slots[hole] = 0;
    set->count--;
    for (size_t at = (hole + 1) & (set->room - 1); set->slots[at] != 0;
         at = (at + 1) & (set->room - 1)) {
        uint64_t moved = set->slots[at];

        set->slots[at] = 0;
        set->slots[find(set, moved)] = moved;
    }
}

void idset_clear(struct idset *set)
{
    if (set->room > 0)
        memset(set->slots, 0, set->room * sizeof(*set->slots));
    set->count = 0;
}
