/*
 * What keeper and caller hand to each other: jobs to be called one way, finished ones the other.
 * Everything in it is under one lock that is held for a few instructions.
 */
#ifndef NOTIFY_HANDOVER_H
#define NOTIFY_HANDOVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "outlet.h"

struct handover {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* the keeper waits on it, by the monotonic clock */
    struct job_list to_caller, to_keeper;
    bool kicked;
    void (*wake_caller)(void *ctx);
    void *wake_ctx;
};

void handover_init(struct handover *handover);
/** Frees jobs that are still in it. */
void handover_fini(struct handover *handover);

/** Keeper to caller; empties the list. */
void handover_give(struct handover *handover, struct job_list *jobs);
/** What was given. */
struct job_list handover_take(struct handover *handover);
/** Caller to keeper. */
void handover_return(struct handover *handover, struct job *job);
/** What was returned, or waits for it or for a kick at most wait_ms. */
struct job_list handover_collect(struct handover *handover, uint32_t wait_ms);
/** End the keeper's wait: there may be something to look at. Any thread. */
void handover_kick(struct handover *handover);

#endif
