/* The form of a dead letter: the original's properties and headers, and the x-obx- headers that say
 * what happened. */
#ifndef CONSUMER_DEAD_LETTER_H
#define CONSUMER_DEAD_LETTER_H

#include "api/settings.h"
#include "apply/item.h"
#include "bridge/bridge.h"

struct dead_letter {
    struct bridge_message msg;
    struct obx_header *headers; /* on the heap */
};

/**
 * Build the letter for an item; it borrows from the item and settings. Free with dead_letter_fini.
 * bare: leave the original's headers out, for one whose headers do not fit a frame together with
 * ours.
 */
OBX_NODISCARD enum obx_code dead_letter_init(struct dead_letter *letter, const struct item *item,
                                             const struct settings *settings, bool bare);
void dead_letter_fini(struct dead_letter *letter);

#endif
