/*
 * An eventfd that wakes one thread out of poll(2). Calls that were not noticed yet add up to one.
 * Proved by tests/unit/thread_test.c.
 */
#ifndef BASE_WAKE_H
#define BASE_WAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "obx/err.h"

struct wake {
    int fd; /* readable from wake_up until wake_clear; -1: not made (0 is a file of the program) */
};

/** OBX_E_SYSTEM: no descriptor left; wake->fd is -1 then. */
OBX_NODISCARD enum obx_code wake_init(struct wake *wake, struct obx_err *err);
/** Does nothing when fd is -1. Nobody may call wake_up any more: the number may be another file's by
 * then, and eight bytes would be written to it. */
void wake_fini(struct wake *wake);
/** Any thread, any signal handler; never waits, and errno is kept. */
void wake_up(const struct wake *wake);
/** Forget the calls so far; how many there were. Only the thread that is woken. */
uint64_t wake_clear(const struct wake *wake);
/** Wait for a call, timeout_ms at most (negative: without end). The calls stay. A signal can end it
 * early. */
void wake_wait(const struct wake *wake, int timeout_ms);

#endif
