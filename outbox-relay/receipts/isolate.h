/*
 * Work in batches of which one item may be stuck: somebody holds its row, a trigger refuses it. A
 * batch that fails is done in parts, and a part in parts, until what is stuck stands alone; the
 * others are done.
 *
 * A part that waits for a lock waits a second or so, so parts are a twentieth and not a half: three
 * waits find one item in 400. When the time is up, a part that fails is given up whole. Pure but
 * for the clock. Proved by tests/unit/isolate_test.c.
 */
#ifndef RELAY_ISOLATE_H
#define RELAY_ISOLATE_H

#include <stddef.h>
#include <stdint.h>

#include "obx/err.h"

struct isolate {
    /** Do items [from, from + count), all or none of them. */
    enum obx_code (*run)(void *ctx, size_t from, size_t count, struct obx_err *err);
    void *ctx;
    uint64_t until_ms;  /* obx clock: after it nothing is divided any more */
    size_t done;        /* items */
    size_t stuck;       /* items */
    struct obx_err why; /* of the first that is stuck */
    size_t first_stuck;
};

/** Adds to done, stuck and why. Not OBX_OK: what failed is not about the items (connection, memory,
 * disk), and the rest was not tried. */
OBX_NODISCARD enum obx_code isolate_run(struct isolate *isolate, size_t from, size_t count,
                                        struct obx_err *err);

#endif
