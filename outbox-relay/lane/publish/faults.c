/*
 * Whose fault a refusal was. See faults.h.
 */
#include "faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/bytes.h"
#include "base/random.h"

enum {
    DECIMAL = 10,
    REPLY_FIRST_SOFT = 403,
};

static const char no_route[] = "312";
static const char max_size[] = "max size ";
static const char larger[] = "larger than";

void faults_init(struct faults *faults, uint32_t window, uint32_t retry_min_ms,
                 uint32_t retry_cap_ms)
{
    memset(faults, 0, sizeof(*faults));
    faults->window = window;
    faults->retry_min_ms = retry_min_ms;
    faults->retry_cap_ms = retry_cap_ms;
    faults_reset(faults);
}

void faults_reset(struct faults *faults)
{
    faults->limit = faults->window;
    faults->broker_max_body = UINT64_MAX;
    for (size_t i = 0; i < FAULTS_MAX; i++)
        faults->exchanges[i].probe_token = UINT64_MAX;
}

void faults_connected(struct faults *faults)
{
    faults->broker_max_body = UINT64_MAX;
}

static uint64_t hash_of(struct obx_bytes exchange)
{
    return bytes_hash(exchange) | 1U;
}

/* The place of the exchange's fault; FAULTS_MAX: it has none. */
static size_t find(const struct faults *faults, struct obx_bytes exchange)
{
    uint64_t hash = hash_of(exchange);
    size_t i = 0;

    while (i < FAULTS_MAX && faults->exchanges[i].exchange_hash != hash)
        i++;
    return i;
}

enum fault_verdict faults_ask(const struct faults *faults, struct obx_bytes exchange,
                              uint64_t now_ms, const char **why)
{
    size_t at = find(faults, exchange);
    const struct exchange_fault *fault = at < FAULTS_MAX ? &faults->exchanges[at] : NULL;

    if (fault == NULL)
        return FAULT_NONE;
    *why = fault->why;
    return fault->probe_token == UINT64_MAX && now_ms >= fault->probe_due_ms ? FAULT_PROBE
                                                                             : FAULT_REFUSE;
}

void faults_probe_sent(struct faults *faults, struct obx_bytes exchange, uint64_t token)
{
    size_t at = find(faults, exchange);

    if (at < FAULTS_MAX)
        faults->exchanges[at].probe_token = token;
}

bool faults_is_of_exchange(enum pub_outcome outcome, const char *why)
{
    return outcome == PUB_RETURNED && why != NULL &&
           strncmp(why, no_route, sizeof(no_route) - 1) != 0;
}

/* A free place, or that of the fault which has failed least. */
static struct exchange_fault *place(struct faults *faults)
{
    struct exchange_fault *best = &faults->exchanges[0];

    for (size_t i = 0; i < FAULTS_MAX; i++) {
        struct exchange_fault *fault = &faults->exchanges[i];

        if (fault->exchange_hash == 0)
            return fault;
        if (fault->fails < best->fails)
            best = fault;
    }
    return best;
}

void faults_exchange_failed(struct faults *faults, struct obx_bytes exchange, uint64_t now_ms,
                            const char *why)
{
    size_t at = find(faults, exchange);
    struct exchange_fault *fault = at < FAULTS_MAX ? &faults->exchanges[at] : place(faults);

    if (at == FAULTS_MAX) {
        memset(fault, 0, sizeof(*fault));
        fault->exchange_hash = hash_of(exchange);
    } else if (now_ms < fault->probe_due_ms) {
        fault->probe_token = UINT64_MAX;
        return; /* another message of the same closing */
    }
    fault->fails++;
    fault->probe_token = UINT64_MAX;
    fault->probe_due_ms = now_ms + backoff_nth_ms(faults->retry_min_ms, faults->retry_cap_ms,
                                                  fault->fails, random_u64());
    (void)snprintf(fault->why, sizeof(fault->why), "%s", why);
}

void faults_cleared(struct faults *faults, struct obx_bytes exchange)
{
    size_t at = find(faults, exchange);

    if (at < FAULTS_MAX)
        faults->exchanges[at].exchange_hash = 0;
}

void faults_answered(struct faults *faults, struct obx_bytes exchange)
{
    if (faults->limit < faults->window)
        faults->limit = faults->limit * 2 < faults->window ? faults->limit * 2 : faults->window;
    faults_cleared(faults, exchange);
}

void faults_probe_ended(struct faults *faults, uint64_t token)
{
    for (size_t i = 0; i < FAULTS_MAX; i++) {
        if (faults->exchanges[i].probe_token == token)
            faults->exchanges[i].probe_token = UINT64_MAX;
    }
}

bool faults_is_objection(const struct obx_err *trouble)
{
    /* The reply codes of AMQP from 403 on accuse what was sent; those below (320: the broker shuts
     * down), and errno, do not. */
    return trouble->sys >= REPLY_FIRST_SOFT;
}

bool faults_isolate(struct faults *faults, uint64_t published, size_t inflight)
{
    /* Nothing was sent since the limit was set: this one went down with the others. */
    bool is_same_loss = faults->limit == 1 && faults->isolated_at == published;
    bool was_alone = faults->limit == 1 && !is_same_loss && inflight == 1;

    faults->limit = 1;
    faults->isolated_at = published;
    return was_alone;
}

bool faults_learn_size(struct faults *faults, const char *why)
{
    const char *at = why == NULL ? NULL : strstr(why, max_size);

    if (at != NULL)
        faults->broker_max_body = strtoull(at + sizeof(max_size) - 1, NULL, DECIMAL);
    return at != NULL || (why != NULL && strstr(why, larger) != NULL);
}
