/*
 * Waiting for a condition with a deadline, for tests.
 *
 * A test never sleeps for a guessed time: it says what it waits for and how long at most.
 */
#ifndef OBX_TEST_WAIT_H
#define OBX_TEST_WAIT_H

#include <stdbool.h>
#include <stdint.h>

/** A condition; called again and again on the waiting thread until it is true. */
typedef bool (*wait_fn)(void *ctx);

/** Milliseconds of the monotonic clock. */
int64_t wait_now_ms(void);

/**
 * Poll a condition every few milliseconds until it holds or the time is over.
 *
 * The condition is asked at least once, and once more at the deadline.
 * @param timeout_ms  how long to wait at most, from now
 * @return true when the condition held, false when the time was over
 */
bool wait_until(int64_t timeout_ms, wait_fn condition, void *ctx);

#endif
