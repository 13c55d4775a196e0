/* Capped exponential backoff with full jitter: the nth wait is a random value in [min, min(cap, min
 * * 2^n)]. */
#ifndef BASE_BACKOFF_H
#define BASE_BACKOFF_H

#include <stdint.h>

struct backoff {
    uint32_t min_ms;
    uint32_t cap_ms;
    uint32_t tries; /* waits handed out since the last reset */
    uint64_t seed;  /* state of the generator; 0 is replaced by a random one */
};

void backoff_init(struct backoff *b, uint32_t min_ms, uint32_t cap_ms);
/** The next wait in milliseconds; never below min_ms, never above cap_ms. */
uint32_t backoff_next_ms(struct backoff *b);
/** After a success: the next wait starts from min_ms again. */
void backoff_reset(struct backoff *b);
/** The wait for the nth try (1-based) without keeping state; for work items that carry their own
 * count. */
uint32_t backoff_nth_ms(uint32_t min_ms, uint32_t cap_ms, uint32_t tries, uint64_t random);

#endif
