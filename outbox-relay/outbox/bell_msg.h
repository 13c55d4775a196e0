/*
 * The text of a doorbell datagram: which lanes are to look at once. Pure; any thread.
 *
 *     (empty)            all lanes
 *     OUTBOX             the lanes of every source that drain a table of this name
 *     SOURCE/OUTBOX      one lane
 *     >SOURCE/OUTBOX     the same, passed on by another relay: it is not passed on a second time
 *
 * One newline at the end is allowed, so that a shell's echo can ring. Everything else is malformed
 * and ignored.
 */
#ifndef DAEMON_BELL_MSG_H
#define DAEMON_BELL_MSG_H

#include <stdbool.h>

#include "obx/bytes.h"

/** The longest datagram that can be right; a receive buffer needs one byte more to see that one is
 * longer. */
#define BELL_MSG_MAX 160

struct bell_msg {
    bool forwarded;          /* by another relay */
    struct obx_bytes source; /* borrowed from the datagram; absent: any */
    struct obx_bytes outbox; /* borrowed from the datagram; absent: every lane */
};

/** Read a datagram. False when it is malformed; *out is then all absent. */
bool bell_msg_parse(struct obx_bytes datagram, struct bell_msg *out);
/** Whether the datagram means this lane. */
bool bell_msg_is_for(const struct bell_msg *msg, const char *source, const char *outbox);
/** Write ">SOURCE/OUTBOX" into dst; the number of bytes, or 0 when it does not fit or a name is not
 * allowed. */
size_t bell_msg_forward(char *dst, size_t dst_size, const char *source, const char *outbox);
/** Whether text may be the name of a source or an outbox in a datagram: 1 to 64 of [A-Za-z0-9_.$-].
 */
bool bell_name_is_valid(struct obx_bytes name);

#endif
