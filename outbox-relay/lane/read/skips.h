/*
 * What the reader passed over for want of room: the lowest such id, and the set of keys. A row
 * whose key is in the set must be passed over too, or it would overtake. A pass reads again from
 * the lowest id to the cursor and builds the next set.
 *
 * Memory is fixed whatever is passed over. Pure logic; used by the reader. Proved by
 * tests/unit/skips_test.c.
 */
#ifndef RELAY_SKIPS_H
#define RELAY_SKIPS_H

#include <stdbool.h>
#include <stdint.h>

#include "keyset.h"
#include "outbox/outbox_row.h"

/** skips_low when nothing was passed over. */
#define SKIPS_NONE UINT64_MAX

struct skips_part {
    uint64_t low;
    uint64_t high; /* the highest id passed over; below low when nothing is */
    struct keyset keys;
};

struct skips {
    struct skips_part now;  /* counts for every row that is not read by the rescan */
    struct skips_part next; /* what the rescan that is in progress has passed over so far */
    bool in_pass;
};

/** OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code skips_init(struct skips *skips, struct obx_err *err);
void skips_fini(struct skips *skips);
/** Nothing is passed over. */
void skips_clear(struct skips *skips);
/** Whether anything is. */
bool skips_any(const struct skips *skips);
/** The lowest id that was passed over. */
uint64_t skips_low(const struct skips *skips);
/** From the lowest id that was passed over to the highest one; lo > hi: nothing was. */
struct id_range skips_range(const struct skips *skips);
/** The row has been passed over; key may be absent. */
void skips_add(struct skips *skips, uint64_t id, struct obx_bytes key);
/** Whether an earlier row of the key may have been passed over. False for an absent key. */
bool skips_blocks(const struct skips *skips, struct obx_bytes key);

/** A pass begins at skips_low. Rows that it reads, in id order, ask skips_rescan_blocks in place of
 * skips_blocks. */
void skips_rescan_begin(struct skips *skips);
bool skips_rescan_blocks(const struct skips *skips, struct obx_bytes key);
/** The rescan has reached the cursor: only what was passed over since it began counts from now on. */
void skips_rescan_complete(struct skips *skips);
/** The rescan ends after all ids below from: everything from there on may hold what was passed over
 * before. */
void skips_rescan_stop(struct skips *skips, uint64_t from);

#endif
