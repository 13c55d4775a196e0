/*
 * Threads: how one starts, how it waits (by the monotonic clock), and how it is woken out of poll(2).
 * The mask is set around pthread_create and not by the new thread, which could take a signal before
 * it comes to that.
 */
#include "base/thread.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/wake.h"

enum { MS_PER_S = 1000, NS_PER_MS = 1000000, NS_PER_S = 1000000000 };

enum obx_code thread_start(struct thread *thread, void *(*run)(void *), void *ctx, const char *what,
                           struct obx_err *err)
{
    static const int own_faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    sigset_t masked, before;
    int failed = 0;

    sigfillset(&masked);
    for (size_t i = 0; i < sizeof(own_faults) / sizeof(own_faults[0]); i++)
        sigdelset(&masked, own_faults[i]);
    pthread_sigmask(SIG_SETMASK, &masked, &before);
    failed = pthread_create(&thread->id, NULL, run, ctx);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    /* Set by the one that starts and joins it, not by the thread: nobody else looks at it. */
    thread->is_started = failed == 0;
    return failed == 0 ? OBX_OK : obx_fail_errno(err, OBX_E_SYSTEM, failed, "thread of %s", what);
}

void thread_join(struct thread *thread)
{
    if (thread->is_started)
        pthread_join(thread->id, NULL);
    thread->is_started = false;
}

void thread_detach(struct thread *thread)
{
    if (thread->is_started)
        pthread_detach(thread->id);
    thread->is_started = false;
}

void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

bool cond_wait_ms(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ms)
{
    struct timespec until;

    /* CLOCK_MONOTONIC, because a condition knows no BOOTTIME: after a suspended machine wakes up, a
     * wait lasts longer by that time, and who has a deadline asks base/clock.h again. */
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms % MS_PER_S) * NS_PER_MS;
    until.tv_sec += (time_t)(ms / MS_PER_S) + until.tv_nsec / NS_PER_S;
    until.tv_nsec %= NS_PER_S;
    return pthread_cond_timedwait(cond, lock, &until) == 0;
}

/* ---- wake.h ---- */

/* Writes do not block: one can only fail when the counter is full, and then the sleeper wakes
 * anyway. */

enum obx_code wake_init(struct wake *wake, struct obx_err *err)
{
    wake->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return wake->fd >= 0 ? OBX_OK : obx_fail_errno(err, OBX_E_SYSTEM, errno, "eventfd");
}

void wake_fini(struct wake *wake)
{
    if (wake->fd >= 0)
        close(wake->fd);
    wake->fd = -1;
}

void wake_up(const struct wake *wake)
{
    const uint64_t one = 1;
    int saved = errno; /* a handler must not change what it has interrupted */

    (void)!write(wake->fd, &one, sizeof(one));
    errno = saved;
}

uint64_t wake_clear(const struct wake *wake)
{
    uint64_t count = 0;

    return read(wake->fd, &count, sizeof(count)) == (ssize_t)sizeof(count) ? count : 0;
}

void wake_wait(const struct wake *wake, int timeout_ms)
{
    struct pollfd waiting = {.fd = wake->fd, .events = POLLIN};

    poll(&waiting, 1, timeout_ms);
}
