/*
 * The two clocks of the machine. BOOTTIME instead of MONOTONIC: after a suspended laptop or virtual
 * machine wakes up, deadlines and local ideas of a lease have to be over, not to start where they
 * stopped.
 */
#include "base/clock.h"

#include <limits.h>
#include <time.h>

#include "base/crash.h"

static uint64_t read_us(clockid_t id)
{
    struct timespec now;

    OBX_ASSERT(clock_gettime(id, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

uint64_t clock_now_us(void)
{
    return read_us(CLOCK_BOOTTIME);
}

uint64_t clock_now_ms(void)
{
    return clock_now_us() / 1000u;
}

uint64_t clock_wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

int clock_left_ms(uint64_t due_ms)
{
    uint64_t now = clock_now_ms();

    /* Compared before they are subtracted: a time that has passed would be one of ages to come. */
    if (due_ms <= now)
        return 0;
    return due_ms - now < INT_MAX ? (int)(due_ms - now) : INT_MAX;
}
