/* The circuit breaker: see breaker.h for the states. */
#include "service/breaker.h"

void breaker_init(struct breaker *b, uint32_t limit, uint32_t min_ms, uint32_t cap_ms)
{
    *b = (struct breaker){.state = BREAKER_CLOSED, .limit = limit};
    backoff_init(&b->backoff, min_ms, cap_ms);
}

uint32_t breaker_admit(struct breaker *b, uint32_t wanted, uint64_t now_ms)
{
    if (b->state == BREAKER_CLOSED || wanted == 0)
        return wanted;
    if (b->state == BREAKER_PROBING || now_ms < b->due_ms)
        return 0;
    b->state = BREAKER_PROBING; /* one ask finds out; a burst would be the outage's next cause */
    return 1;
}

void breaker_release(struct breaker *b)
{
    if (b->state == BREAKER_PROBING)
        b->state = BREAKER_OPEN;
}

void breaker_success(struct breaker *b)
{
    b->state = BREAKER_CLOSED;
    b->failures = 0;
    backoff_reset(&b->backoff);
}

/* Failures of asks that were in flight when the breaker opened do not open it further. */
void breaker_failure(struct breaker *b, uint64_t now_ms)
{
    b->failures++;
    if (b->state == BREAKER_OPEN || (b->state == BREAKER_CLOSED && b->failures < b->limit))
        return;
    b->state = BREAKER_OPEN;
    b->due_ms = now_ms + backoff_next_ms(&b->backoff);
}

const char *breaker_state_name(enum breaker_state state)
{
    static const char *const names[] = {"closed", "open", "probing"};

    return names[state];
}
