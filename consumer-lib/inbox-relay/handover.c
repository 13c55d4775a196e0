/*
 * The two lists and their lock. See handover.h. The caller sleeps in poll(2) of its HTTP client and
 * is woken through that; the keeper has nothing to poll and waits for the condition.
 */
#include "handover.h"

#include <string.h>

#include "base/clock.h"
#include "base/thread.h"
#include "job.h"

void handover_init(struct handover *handover)
{
    memset(handover, 0, sizeof(*handover));
    pthread_mutex_init(&handover->lock, NULL);
    cond_init(&handover->wake);
}

static void free_all(struct job_list *list)
{
    struct job *job;

    while ((job = job_list_take(list)) != NULL)
        job_destroy(job);
}

void handover_fini(struct handover *handover)
{
    free_all(&handover->to_caller);
    free_all(&handover->to_keeper);
    pthread_cond_destroy(&handover->wake);
    pthread_mutex_destroy(&handover->lock);
}

/* All at once, so that the lock is held for two assignments however many there are. */
static struct job_list take_all(struct job_list *list)
{
    struct job_list taken = *list;

    *list = (struct job_list){.count = 0};
    return taken;
}

void handover_give(struct handover *handover, struct job_list *jobs)
{
    struct job *job;

    pthread_mutex_lock(&handover->lock);
    while ((job = job_list_take(jobs)) != NULL)
        job_list_add(&handover->to_caller, job);
    pthread_mutex_unlock(&handover->lock);
    /* Outside of the lock, which the caller takes first thing when it wakes. */
    handover->wake_caller(handover->wake_ctx);
}

struct job_list handover_take(struct handover *handover)
{
    struct job_list taken;

    pthread_mutex_lock(&handover->lock);
    taken = take_all(&handover->to_caller);
    pthread_mutex_unlock(&handover->lock);
    return taken;
}

void handover_return(struct handover *handover, struct job *job)
{
    pthread_mutex_lock(&handover->lock);
    job_list_add(&handover->to_keeper, job);
    pthread_cond_signal(&handover->wake);
    pthread_mutex_unlock(&handover->lock);
}

struct job_list handover_collect(struct handover *handover, uint32_t wait_ms)
{
    uint64_t until_ms = clock_now_ms() + wait_ms;
    struct job_list taken;

    pthread_mutex_lock(&handover->lock);
    while (handover->to_keeper.count == 0 && !handover->kicked) {
        if (!cond_wait_ms(&handover->wake, &handover->lock, (uint64_t)clock_left_ms(until_ms)))
            break;
    }
    /* A kick that comes from now on is for the next wait; what it is about this turn may see. */
    handover->kicked = false;
    taken = take_all(&handover->to_keeper);
    pthread_mutex_unlock(&handover->lock);
    return taken;
}

void handover_kick(struct handover *handover)
{
    pthread_mutex_lock(&handover->lock);
    handover->kicked = true;
    pthread_cond_signal(&handover->wake);
    pthread_mutex_unlock(&handover->lock);
}
