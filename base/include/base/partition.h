/*
 * Which partition an ordering key belongs to: CRC-32 of its bytes, as zlib, Ethernet and MySQL's
 * CRC32() compute it, modulo the number of partitions. Published in docs/message-format.md, so that
 * any language can compute it; it can never change. Proved by tests/unit/partition_test.c.
 */
#ifndef BASE_PARTITION_H
#define BASE_PARTITION_H

#include <stdint.h>

#include "obx/bytes.h"

/** The most partitions that an exchange can have: each is a queue of its own in every group. */
#define PARTITIONS_MAX 256

/** CRC-32 (IEEE 802.3, reflected, as zlib); 0 for no bytes. */
uint32_t partition_crc(struct obx_bytes bytes);
/** From 0 to count - 1; count is at least 1. */
unsigned partition_of(struct obx_bytes key, unsigned count);

#endif
