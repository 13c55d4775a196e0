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
#include "reach.h"
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

void job_list_add(struct job_list *list, struct job *job);
/** Takes the first; NULL when it is empty. */
struct job *job_list_take(struct job_list *list);

#endif
