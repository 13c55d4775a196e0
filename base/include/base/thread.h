/*
 * A thread of ours: started with its signals masked, joined once, and conditions that wait by the
 * monotonic clock. Proved by tests/unit/thread_test.c.
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "obx/err.h"

/** Zero-initialise. One thread starts and joins it. */
struct thread {
    pthread_t id;
    bool is_started; /* and not joined yet */
};

/**
 * Run run(ctx) on a thread of its own, which takes no signal: handlers run on the threads of the
 * program around us, and a call that waits is not interrupted. Signals that a fault of the thread
 * itself raises (SEGV, BUS, FPE, ILL, ABRT) are not masked.
 * @param what  for the error: "thread of WHAT"
 * @return OBX_OK; OBX_E_SYSTEM: there is no thread, and thread_join does nothing
 */
OBX_NODISCARD enum obx_code thread_start(struct thread *thread, void *(*run)(void *), void *ctx,
                                         const char *what, struct obx_err *err);
/** Wait until run has returned. Does nothing when it was not started or has been joined. */
void thread_join(struct thread *thread);

/** Leave it to itself: it is joined by nobody, ends at the latest with the process, and what it uses is
 * its own or counted. Does nothing when it was not started. */
void thread_detach(struct thread *thread);

/** Make a condition for cond_wait_ms. */
void cond_init(pthread_cond_t *cond);
/** Wait under the lock, ms milliseconds at most. False when the time has passed without a signal;
 * like every wait on a condition it may also return early. */
bool cond_wait_ms(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ms);

#endif
