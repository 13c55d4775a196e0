/* SIGPIPE blocked around the client library's writes; see db_pipe.h. Called by db.c around each
 * call into the library. */
#include "db_pipe.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <time.h>

static bool is_pending(void)
{
    sigset_t pending;

    sigemptyset(&pending);
    sigpending(&pending);
    return sigismember(&pending, SIGPIPE) == 1;
}

static void only_pipe(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGPIPE);
}

void db_pipe_enter(struct db_pipe_guard *guard)
{
    sigset_t pipe_set;

    only_pipe(&pipe_set);
    guard->was_pending = is_pending();
    pthread_sigmask(SIG_BLOCK, &pipe_set, &guard->before);
}

void db_pipe_leave(const struct db_pipe_guard *guard)
{
    const struct timespec at_once = {0, 0};
    sigset_t pipe_set;

    only_pipe(&pipe_set);
    /* A SIGPIPE from a write is sent to the writing thread, so the one taken back here is ours. */
    if (!guard->was_pending && is_pending()) {
        while (sigtimedwait(&pipe_set, NULL, &at_once) < 0 && errno == EINTR) {
        }
    }
    pthread_sigmask(SIG_SETMASK, &guard->before, NULL);
}
