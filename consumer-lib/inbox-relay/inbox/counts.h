/* What one inbox counts: written by its threads, read by the pages. */
#ifndef INBOX_COUNTS_H
#define INBOX_COUNTS_H

#include <stdatomic.h>

struct counts {
    atomic_uint_fast64_t stored, unstored;
    atomic_uint_fast64_t filed, dead, discarded;
    atomic_uint_fast64_t reported, reports_given_up;
    atomic_uint_fast64_t released, missing, wakes;
    atomic_uint_fast64_t ready, blocked, dead_rows, oldest_ready_us; /* levels */
    atomic_bool is_connected;
};

#endif
