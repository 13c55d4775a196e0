/*
 * How long an endpoint has not answered, and how often it was asked since: what decides when rows
 * that never had their turn are given up.
 *
 * Invariant: a row is given up unasked only when it has been due for a whole schedule and half of
 * it more, none of it paused; when all that time the endpoint failed; and when it was asked in
 * vain, since the row was due, as often as the row would have asked. Time alone is no reason: a row
 * may have waited because of a pause, a backlog, or because no process ran.
 *
 * The caller's thread writes, the keeper's reads. Proved by tests/unit/notify_parts_test.c and
 * tests/system/notify_calls_test.c.
 */
#ifndef NOTIFY_REACH_H
#define NOTIFY_REACH_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "notify_keys.h"

struct reach {
    pthread_mutex_t lock;
    uint64_t failing_since_ms;              /* 0: its last call was answered, or there was none */
    uint64_t probe_ms[NOTIFY_SCHEDULE_MAX]; /* a ring: when the last probes failed */
    size_t probes;                          /* that failed since failing_since_ms */
};

void reach_init(struct reach *reach);
void reach_fini(struct reach *reach);
/** It answered; or what it did before does not count (a pause has ended, a new owner). */
void reach_clear(struct reach *reach);
/** A call has failed; is_probe: with the breaker open, for all rows that wait. */
void reach_failed(struct reach *reach, bool is_probe, uint64_t now_ms);
/**
 * Whether rows may be given up unasked: those that have been due for *overdue_ms or longer. calls
 * and age_ms are those of the schedule.
 */
bool reach_is_hopeless(struct reach *reach, size_t calls, uint64_t age_ms, uint64_t now_ms,
                       uint64_t *overdue_ms);

#endif
