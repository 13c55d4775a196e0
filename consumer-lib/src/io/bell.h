/*
 * An eventfd that wakes one thread. Ringing is async-signal-safe and never blocks; rings that have
 * not been heard add up to one.
 */
#ifndef CONSUMER_BELL_H
#define CONSUMER_BELL_H

#include <stdbool.h>

#include "obx/err.h"

struct bell {
    int fd; /* for poll(2) with POLLIN; -1 when not made */
};

OBX_NODISCARD enum obx_code bell_init(struct bell *bell, struct obx_err *err);
void bell_fini(struct bell *bell);
/** Any thread, any signal handler; errno is kept. */
void bell_ring(struct bell *bell);
/** Forget the rings so far. Returns whether there were any, and how many in *rings (may be NULL).
 */
bool bell_clear(struct bell *bell, unsigned long long *rings);
/** Wait for a ring, timeout_ms at most (negative: without end). The rings stay. A signal can end it
 * early. */
void bell_wait(const struct bell *bell, int timeout_ms);

#endif
