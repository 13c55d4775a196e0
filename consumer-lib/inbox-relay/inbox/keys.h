/*
 * Hashes of ordering keys: what the column key_hash has (the beginning of the key's SHA-256), and
 * lists of them.
 */
#ifndef INBOX_KEYS_H
#define INBOX_KEYS_H

#include "base/bytes.h"

enum { KEY_HASH = 16 };

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
