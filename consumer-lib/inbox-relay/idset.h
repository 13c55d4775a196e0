/* A set of row ids, open addressing; 0 is no id. One thread. */
#ifndef NOTIFY_IDSET_H
#define NOTIFY_IDSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "obx/err.h"

/** Zero-initialise. */
struct idset {
    uint64_t *slots;
    size_t room; /* a power of two */
    size_t count;
};

void idset_fini(struct idset *set);
/** OBX_E_NOMEM; the set is as it was then. */
OBX_NODISCARD enum obx_code idset_add(struct idset *set, uint64_t id);
bool idset_has(const struct idset *set, uint64_t id);
/** Nothing when it is not in. */
void idset_remove(struct idset *set, uint64_t id);
void idset_clear(struct idset *set);

#endif
