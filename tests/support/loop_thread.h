/* An event loop on a thread of its own, until it is stopped. For tests of what lives on a loop. */
#ifndef SUPPORT_LOOP_THREAD_H
#define SUPPORT_LOOP_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <event2/event.h>

#include <cmocka.h>

struct loop_thread {
    struct event_base *base; /* the owner's, who frees it after the stop */
    pthread_t thread;
    atomic_bool is_stopping;
};

static inline void loop_thread_check(evutil_socket_t fd, short what, void *ctx)
{
    struct loop_thread *loop = ctx;

    (void)fd, (void)what;
    if (atomic_load(&loop->is_stopping))
        event_base_loopbreak(loop->base);
}

static inline void *loop_thread_main(void *ctx)
{
    struct loop_thread *loop = ctx;
    const struct timeval tick = {.tv_usec = 5000};
    struct event *timer = event_new(loop->base, -1, EV_PERSIST, loop_thread_check, loop);

    event_add(timer, &tick);
    event_base_dispatch(loop->base);
    event_free(timer);
    return NULL;
}

/** base is set before. */
static inline void loop_thread_start(struct loop_thread *loop)
{
    assert_int_equal(pthread_create(&loop->thread, NULL, loop_thread_main, loop), 0);
}

static inline void loop_thread_stop(struct loop_thread *loop)
{
    atomic_store(&loop->is_stopping, true);
    pthread_join(loop->thread, NULL);
}

#endif
