/*
 * Waiting for a condition with a deadline. Called by every test that crosses a thread or a process.
 */
#include "wait.h"

#include <time.h>

enum {
    POLL_MS = 5,
    NS_PER_MS = 1000000,
    MS_PER_S = 1000,
};

int64_t wait_now_ms(void)
{
    struct timespec now = {0};

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * MS_PER_S + now.tv_nsec / NS_PER_MS;
}

bool wait_until(int64_t timeout_ms, wait_fn condition, void *ctx)
{
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = (long)POLL_MS * NS_PER_MS};
    const int64_t deadline = wait_now_ms() + timeout_ms;

    for (;;) {
        bool over = wait_now_ms() >= deadline;

        if (condition(ctx))
            return true;
        if (over)
            return false;
        nanosleep(&pause, NULL);
    }
}
