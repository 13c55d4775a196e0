/*
 * What the process knows of an endpoint while it runs, by its name, for as long as the process
 * lives: numbers that any thread may read, and the state of the two threads that work on it, each
 * in a part of its own.
 */
#ifndef NOTIFY_OUTLET_H
#define NOTIFY_OUTLET_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/hist.h"
#include "idset.h"
#include "notify_keys.h"
#include "service/breaker.h"

struct job;

struct job_list {
    struct job *first, *last;
    size_t count;
};

/** Any thread reads; each has one writer. */
struct outlet_stats {
    atomic_uint_fast64_t
        recorded; /* rows that handlers wrote; a batch that is undone counts twice */
    atomic_uint_fast64_t delivered; /* rows whose success was written */
    atomic_uint_fast64_t failed;    /* calls that failed */
    atomic_uint_fast64_t given_up;
    atomic_uint_fast64_t gone;      /* answers 410 */
    atomic_uint_fast64_t in_flight; /* calls in flight */
    atomic_uint_fast64_t ready;     /* rows in memory that wait for their call */
    atomic_uint_fast64_t waiting;   /* rows in the table, counted up to a limit from time to time */
    atomic_uint_fast64_t given_up_rows; /* the same of those given up */
    atomic_uint_fast64_t oldest_due_us; /* how long the first due row has been due */
    atomic_uint breaker;                /* enum breaker_state */
    atomic_bool is_paused;
    struct hist call_us;
};

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

struct outlet {
    char name[NOTIFY_NAME_MAX + 1];
    struct outlet_stats stats;
    struct { /* the caller's thread */
        struct job_list ready;
        uint32_t in_flight;
        struct breaker breaker;
        bool has_breaker;
        uint64_t hold_until_ms; /* no call before (Retry-After) */
        atomic_bool recall;     /* set by any thread: give back what waits */
    } caller;
    struct {                 /* the keeper's thread */
        struct idset held;   /* rows handed to the caller and not recorded yet */
        uint64_t held_bytes; /* of their bodies */
        bool is_paused;
        bool seen_pause;       /* by the reading of pauses that is going on */
        uint64_t next_look_ms; /* for due rows */
        uint32_t idle_ms;      /* between two looks that find nothing */
    } keeper;
    struct reach reach; /* the caller writes, the keeper reads */
    atomic_bool look;   /* set by any thread: there may be due rows now */
};

struct outlets {
    pthread_mutex_t lock;
    struct outlet *items[4 * NOTIFY_ENDPOINTS_MAX]; /* reloads may bring new names */
    atomic_size_t count;
};

void outlets_init(struct outlets *outlets);
/** Nobody uses them any more. */
void outlets_fini(struct outlets *outlets);
/** The outlet of that name, made when there is none; NULL: no memory, or too many names. Any
 * thread. It stays until outlets_fini. */
struct outlet *outlets_get(struct outlets *outlets, const char *name);

#endif
