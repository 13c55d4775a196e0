/* See parked_key.h. Called for every key that goes into a statement on inbox_parked. */
#include "parked_key.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define HASHES_LEN 33 /* "~" and two times 16 digits */
#define BASIS_A    UINT64_C(14695981039346656037)
#define BASIS_B    UINT64_C(0x9E3779B97F4A7C15)
#define PRIME      UINT64_C(1099511628211)

static uint64_t hash(struct obx_bytes bytes, uint64_t basis)
{
    const unsigned char *p = bytes.p;

    for (size_t i = 0; i < bytes.len; i++)
        basis = (basis ^ p[i]) * PRIME;
    return basis;
}

void parked_key_of(struct obx_bytes key, struct parked_key *out)
{
    const size_t kept = PARKED_KEY_MAX - HASHES_LEN;

    out->bytes = key;
    if (key.len <= PARKED_KEY_MAX)
        return;
    memcpy(out->room, key.p, kept);
    (void)snprintf(out->room + kept, HASHES_LEN + 1, "~%016" PRIx64 "%016" PRIx64,
                   hash(key, BASIS_A), hash(key, BASIS_B));
    out->bytes = (struct obx_bytes){out->room, PARKED_KEY_MAX};
}
