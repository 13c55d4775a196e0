/*
 * CRC-32, a nibble at a time: a key has some twenty bytes, so a table of sixteen words that stays in
 * the cache is worth more than one of 256, and zlib is not worth being linked for it.
 */
#include "base/partition.h"

#include <stddef.h>

static const uint32_t nibbles[] = {
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
};

uint32_t partition_crc(struct obx_bytes bytes)
{
    const unsigned char *at = bytes.p;
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < bytes.len; i++) {
        crc ^= at[i];
        crc = crc >> 4 ^ nibbles[crc & 0xf];
        crc = crc >> 4 ^ nibbles[crc & 0xf];
    }
    return ~crc;
}

unsigned partition_of(struct obx_bytes key, unsigned count)
{
    return partition_crc(key) % count;
}
