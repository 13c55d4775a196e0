/* An ordering key as it stands in inbox_parked: whole, or cut with a hash of the whole at its end. */
#ifndef CONSUMER_PARKED_KEY_H
#define CONSUMER_PARKED_KEY_H

#include "obx/bytes.h"

enum { PARKED_KEY_MAX = 255 };

struct parked_key {
    struct obx_bytes bytes; /* absent without a key */
    char room[PARKED_KEY_MAX + 1];
};

/** Idempotent: a key as it stands in the table stays as it is. key is borrowed until out is done
 * with. */
void parked_key_of(struct obx_bytes key, struct parked_key *out);

#endif
