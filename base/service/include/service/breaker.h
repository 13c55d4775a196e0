/*
 * A circuit breaker for one peer that is called: after several failures in a row nothing is asked
 * for a while, then one probe is let through; its success closes the breaker, its failure opens it
 * for longer. Pure logic: the caller brings the time.
 */
#ifndef SERVICE_BREAKER_H
#define SERVICE_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/backoff.h"

enum breaker_state {
    BREAKER_CLOSED, /* all may pass.                          next: OPEN after `limit` failures in a
                       row */
    BREAKER_OPEN,   /* nothing passes until due_ms.           next: PROBING when due   */
    BREAKER_PROBING /* one is in flight, nothing else passes. next: CLOSED, OPEN */
};

struct breaker {
    enum breaker_state state;
    uint32_t limit;
    uint32_t failures; /* in a row */
    uint64_t due_ms;
    struct backoff backoff;
};

void breaker_init(struct breaker *b, uint32_t limit, uint32_t min_ms, uint32_t cap_ms);
/** How many of `wanted` may pass now; a probe is taken by asking, so ask only for what is sent. */
uint32_t breaker_admit(struct breaker *b, uint32_t wanted, uint64_t now_ms);
/** Nothing came of an admission after all (there was nothing to send): a probe is given back. */
void breaker_release(struct breaker *b);
void breaker_success(struct breaker *b);
void breaker_failure(struct breaker *b, uint64_t now_ms);
const char *breaker_state_name(enum breaker_state state);

#endif
