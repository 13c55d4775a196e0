/*
 * Rendezvous hashing under a bound. Each partition asks the members in the order of a hash of the
 * two, and the first one with room gets it: so most partitions keep their owner when another member
 * comes or goes. The bound is what makes it even: hashing alone gives one of two members five of
 * eight partitions or more in two cases of three.
 */
#include "share.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/partition.h"

/* The CRC alone is linear: of two members the same one would come first at nearly every partition.
 * lea64, a published mixer, ends that. */
static uint64_t rank(struct obx_bytes member, unsigned partition)
{
    uint64_t x = (uint64_t)partition_crc(member) << 32 | partition;

    x ^= x >> 32;
    x *= UINT64_C(0xDABA0B6EB09322E3);
    x ^= x >> 32;
    x *= UINT64_C(0xDABA0B6EB09322E3);
    return x ^ x >> 32;
}

/* Two names with one CRC rank the same everywhere. */
static bool is_before(const struct share_member *a, const struct share_member *b,
                      unsigned partition)
{
    const uint64_t x = rank(a->name, partition), y = rank(b->name, partition);
    const size_t shorter = a->name.len < b->name.len ? a->name.len : b->name.len;
    const int order = memcmp(a->name.p, b->name.p, shorter);

    if (x != y)
        return x > y;
    return order != 0 ? order < 0 : a->name.len < b->name.len;
}

void share_out(struct share_member *members, size_t count, unsigned partitions, size_t *owner)
{
    const unsigned all = (unsigned)(partitions / count);
    size_t more = partitions % count; /* so many have one above the others */

    for (size_t i = 0; i < count; i++)
        members[i].load = 0;
    for (unsigned p = 0; p < partitions; p++) {
        struct share_member *best = NULL;

        for (size_t i = 0; i < count; i++) {
            const bool has_room = members[i].load < all || (members[i].load == all && more > 0);

            if (has_room && (best == NULL || is_before(&members[i], best, p)))
                best = &members[i];
        }
        /* Never none: the loads end at exactly `all` and `all` + 1. */
        more -= best->load == all;
        best->load++;
        owner[p] = (size_t)(best - members);
    }
}
