/*
 * A set of ordering keys in fixed memory, as a bitmap of hashes: it may say yes for a key that was
 * never added, never no for one that was. Each clearing draws a new seed, so that two keys that
 * share a bit do not share it for ever. One thread.
 */
#ifndef RELAY_KEYSET_H
#define RELAY_KEYSET_H

#include <stdbool.h>
#include <stdint.h>

#include "obx/bytes.h"
#include "obx/err.h"

enum { KEYSET_BITS = 1 << 20 };

struct keyset {
    uint64_t *bits; /* KEYSET_BITS of them */
    uint64_t seed;
    bool is_dirty;
};

/** OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code keyset_init(struct keyset *set);
void keyset_fini(struct keyset *set);
void keyset_clear(struct keyset *set);
/** An absent key is not added. */
void keyset_add(struct keyset *set, struct obx_bytes key);
/** False for an absent key. */
bool keyset_has(const struct keyset *set, struct obx_bytes key);

#endif
