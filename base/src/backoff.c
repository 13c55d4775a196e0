/*
 * Waits between tries. Jitter is over the whole range, so that clients which failed together do not
 * come back together.
 */
#include "base/backoff.h"

#include "base/random.h"

/* A counter in equal steps, put through the published mixer lea64: well spread numbers from one
 * word of state. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0xD1342543DE82EF95);

    x ^= x >> 32;
    x *= UINT64_C(0xDABA0B6EB09322E3);
    x ^= x >> 32;
    x *= UINT64_C(0xDABA0B6EB09322E3);
    return x ^ (x >> 32);
}

uint32_t backoff_nth_ms(uint32_t min_ms, uint32_t cap_ms, uint32_t tries, uint64_t random)
{
    uint64_t upper = min_ms > 0 ? min_ms : 1;
    uint64_t lower = 0;

    /* Ends at the cap and not after tries rounds: a count that has grown for days would shift the
     * number out of its width, and the wait would begin at nothing again. */
    for (uint32_t i = 0; i < tries && upper < cap_ms; i++)
        upper *= 2;
    upper = upper < cap_ms ? upper : cap_ms;
    lower = min_ms < upper ? min_ms : upper;
    return (uint32_t)(lower + random % (upper - lower + 1));
}

void backoff_init(struct backoff *b, uint32_t min_ms, uint32_t cap_ms)
{
    *b = (struct backoff){.min_ms = min_ms, .cap_ms = cap_ms};
}

uint32_t backoff_next_ms(struct backoff *b)
{
    if (b->seed == 0)
        b->seed = random_u64();
    if (b->tries < UINT32_MAX) /* an outage of months must not begin again at the shortest wait */
        b->tries++;
    return backoff_nth_ms(b->min_ms, b->cap_ms, b->tries, next_random(&b->seed));
}

void backoff_reset(struct backoff *b)
{
    b->tries = 0;
}
