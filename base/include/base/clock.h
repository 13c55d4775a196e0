/*
 * Time. Waits and timers use the monotonic clock; leases, due times and everything stored use the
 * database's clock, never this one. Wall-clock time is for log lines and message timestamps of
 * foreign origin only.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/** Microseconds since an arbitrary start; goes on while the machine is suspended (CLOCK_BOOTTIME),
 * never back. */
uint64_t clock_now_us(void);
/** The same in milliseconds. */
uint64_t clock_now_ms(void);
/** Microseconds since 1970 UTC by this machine's clock. */
uint64_t clock_wall_us(void);
/** Milliseconds from now until due_ms (monotonic), 0 when it has passed, at most INT_MAX: what
 * poll(2) wants. */
int clock_left_ms(uint64_t due_ms);

#endif
