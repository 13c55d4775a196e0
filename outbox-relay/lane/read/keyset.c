/*
 * A set of ordering keys in fixed memory. See keyset.h.
 */
#include "keyset.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/random.h"

enum { WORD_BITS = 64 };

enum obx_code keyset_init(struct keyset *set)
{
    set->bits = obx_calloc(KEYSET_BITS / WORD_BITS, sizeof(uint64_t));
    set->seed = random_u64();
    set->is_dirty = false;
    return set->bits == NULL ? OBX_E_NOMEM : OBX_OK;
}

void keyset_fini(struct keyset *set)
{
    obx_free(set->bits);
    set->bits = NULL;
}

void keyset_clear(struct keyset *set)
{
    if (set->is_dirty)
        memset(set->bits, 0, KEYSET_BITS / 8);
    set->is_dirty = false;
    set->seed = random_u64();
}

/* The hash is good by itself; the seed has to be mixed in. */
static uint64_t bit_of(const struct keyset *set, struct obx_bytes key)
{
    uint64_t h = bytes_hash(key) ^ set->seed;

    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdU;
    h ^= h >> 33;
    return h % KEYSET_BITS;
}

void keyset_add(struct keyset *set, struct obx_bytes key)
{
    uint64_t bit = 0;

    if (key.p == NULL)
        return;
    bit = bit_of(set, key);
    set->bits[bit / WORD_BITS] |= (uint64_t)1 << (bit % WORD_BITS);
    set->is_dirty = true;
}

bool keyset_has(const struct keyset *set, struct obx_bytes key)
{
    uint64_t bit = 0;

    if (!set->is_dirty || key.p == NULL)
        return false;
    bit = bit_of(set, key);
    return (set->bits[bit / WORD_BITS] >> (bit % WORD_BITS) & 1U) != 0;
}
