/*
 * The rows that were passed over. See skips.h.
 */
#include "skips.h"

#include <string.h>

static void part_clear(struct skips_part *part)
{
    keyset_clear(&part->keys);
    part->low = SKIPS_NONE;
    part->high = 0;
}

static void part_add(struct skips_part *part, uint64_t id, struct obx_bytes key)
{
    if (id < part->low)
        part->low = id;
    if (id > part->high)
        part->high = id;
    keyset_add(&part->keys, key);
}

enum obx_code skips_init(struct skips *skips, struct obx_err *err)
{
    memset(skips, 0, sizeof(*skips));
    skips->now.low = SKIPS_NONE;
    skips->next.low = SKIPS_NONE;
    if (keyset_init(&skips->now.keys) != OBX_OK || keyset_init(&skips->next.keys) != OBX_OK) {
        skips_fini(skips);
        return obx_fail(err, OBX_E_NOMEM, "set of keys passed over");
    }
    return OBX_OK;
}

void skips_fini(struct skips *skips)
{
    keyset_fini(&skips->now.keys);
    keyset_fini(&skips->next.keys);
}

void skips_clear(struct skips *skips)
{
    part_clear(&skips->now);
    part_clear(&skips->next);
    skips->in_pass = false;
}

bool skips_any(const struct skips *skips)
{
    return skips->now.low != SKIPS_NONE;
}

uint64_t skips_low(const struct skips *skips)
{
    return skips->now.low;
}

struct id_range skips_range(const struct skips *skips)
{
    return (struct id_range){.lo = skips->now.low, .hi = skips->now.high};
}

void skips_add(struct skips *skips, uint64_t id, struct obx_bytes key)
{
    part_add(&skips->now, id, key);
    if (skips->in_pass)
        part_add(&skips->next, id, key);
}

bool skips_blocks(const struct skips *skips, struct obx_bytes key)
{
    return keyset_has(&skips->now.keys, key);
}

void skips_rescan_begin(struct skips *skips)
{
    part_clear(&skips->next);
    skips->in_pass = true;
}

bool skips_rescan_blocks(const struct skips *skips, struct obx_bytes key)
{
    return keyset_has(&skips->next.keys, key);
}

void skips_rescan_complete(struct skips *skips)
{
    struct skips_part old = skips->now;

    skips->now = skips->next;
    skips->next = old;
    part_clear(&skips->next);
    skips->in_pass = false;
}

/* The keys of `now` stay: they cover all that was passed over from there on, and skips_add has
   added those that the rescan itself passed over. */
void skips_rescan_stop(struct skips *skips, uint64_t from)
{
    skips->now.low = skips->next.low < from ? skips->next.low : from;
    part_clear(&skips->next);
    skips->in_pass = false;
}
