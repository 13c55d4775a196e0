/*
 * Loaded into a program with LD_PRELOAD: its host's wall clock is three days behind. Clocks for
 * waiting are as they are.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <sys/time.h>
#include <time.h>

#include "obx/export.h"

enum { BEHIND_S = 3 * 24 * 3600 };

OBX_API int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    int rc;

    if (real == NULL)
        *(void **)(&real) = dlsym(RTLD_NEXT, "clock_gettime");
    rc = real(clock, now);
    if (rc == 0 && clock == CLOCK_REALTIME)
        now->tv_sec -= BEHIND_S;
    return rc;
}

OBX_API int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;

    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

OBX_API time_t time(time_t *now)
{
    struct timespec exact = {0};

    (void)clock_gettime(CLOCK_REALTIME, &exact);
    if (now != NULL)
        *now = exact.tv_sec;
    return exact.tv_sec;
}
