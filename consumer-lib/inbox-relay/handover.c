/* The two lists and their lock. See handover.h. */
#include "handover.h"

#include <string.h>
#include <time.h>

#include "job.h"

enum { MS_PER_S = 1000, NS_PER_MS = 1000000, NS_PER_S = 1000000000 };

void handover_init(struct handover *handover)
{
    pthread_condattr_t attr;

    memset(handover, 0, sizeof(*handover));
    pthread_mutex_init(&handover->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&handover->wake, &attr);
    pthread_condattr_destroy(&attr);
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
    struct timespec until;
    struct job_list taken;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / MS_PER_S;
    until.tv_nsec += (long)(wait_ms % MS_PER_S) * NS_PER_MS;
    if (until.tv_nsec >= NS_PER_S) {
        until.tv_sec++;
        until.tv_nsec -= NS_PER_S;
    }
    pthread_mutex_lock(&handover->lock);
    while (handover->to_keeper.count == 0 && !handover->kicked) {
        if (pthread_cond_timedwait(&handover->wake, &handover->lock, &until) != 0)
            break;
    }
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
