/*
 * The processes that share the partitions of one queue, in the table inbox_member: each writes its
 * row again once a second, and reads those of the others. By the database's clock. For the thread of
 * api/partitions.c.
 */
#ifndef CONSUMER_MEMBERS_H
#define CONSUMER_MEMBERS_H

#include "base/bytes.h"
#include "core/settings.h"
#include "core/share.h"

enum {
    MEMBERS_BEAT_MS = 1000,
    MEMBERS_GONE_MS = 5000, /* a row that is older does not count */
    MEMBER_NAME_SIZE = 40
};

struct members {
    const struct settings *settings; /* borrowed */
    char name[MEMBER_NAME_SIZE];     /* ours; another one with each start */
    struct db *db;                   /* NULL: not connected */
    uint64_t cleaned_ms;

    /* Of the last beat. */
    struct share_member list[SHARE_MEMBERS_MAX]; /* with our number of partitions, we among them */
    size_t count;
    size_t others; /* that work with another number */
    struct obx_buf names;
};

void members_init(struct members *members, const struct settings *settings);
void members_fini(struct members *members);
/** Say that we are there, and read who else is; connects first where needed. On failure the list is
 * as it was. Any OBX_E_DB_*, OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code members_beat(struct members *members, struct obx_err *err);
/** We are not any more: the others need not wait until our row is old. */
void members_leave(struct members *members);
/** Close the connection; the last call of the thread that has used it. */
void members_end(struct members *members);

#endif
