/*
 * Who owns which partition: a pure function of the members that are there, the same in every
 * process, so that all of them agree without a word. No member has more than one above another. A
 * member that comes or goes moves its own share, and little else. Proved by
 * tests/unit/consumer_share_test.c.
 */
#ifndef CONSUMER_SHARE_H
#define CONSUMER_SHARE_H

#include <stddef.h>

#include "obx/bytes.h"

/** Members that are counted, at most; more than there can be partitions have nothing to do. */
enum { SHARE_MEMBERS_MAX = 1024 };

struct share_member {
    struct obx_bytes name; /* borrowed; no two are the same */
    unsigned load;         /* out: how many it owns */
};

/** Fill owner[0 .. partitions - 1] with indexes of members. count is from 1 to SHARE_MEMBERS_MAX, in
 * whatever order. */
void share_out(struct share_member *members, size_t count, unsigned partitions, size_t *owner);

#endif
