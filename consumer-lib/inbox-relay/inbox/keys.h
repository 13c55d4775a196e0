/*
 * Hashes of ordering keys: what the column key_hash has, and lists of them.
 */
#ifndef INBOX_KEYS_H
#define INBOX_KEYS_H

#include "base/bytes.h"

enum { KEY_HASH = 16 };

/** The beginning of the SHA-256. False: the library has no memory. */
bool key_hash(struct obx_bytes key, unsigned char hash[KEY_HASH]);

/* Whole hashes one after the other in a buffer. */
static inline size_t keys_count(const struct obx_buf *keys)
{
    return keys->len / KEY_HASH;
}

static inline const unsigned char *keys_at(const struct obx_buf *keys, size_t i)
{
    return (const unsigned char *)keys->data + i * KEY_HASH;
}

#endif
