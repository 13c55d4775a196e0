/*
 * Check-back: asks silent producers for the verdict of their half-messages, by HTTP or through the
 * barrier. One thread; works only while it holds the lease `half:check`, so that of many relays one
 * asks. See docs/adr/0004-half-messages.md.
 */
#ifndef RELAY_HALF_CHECKBACK_H
#define RELAY_HALF_CHECKBACK_H

#include "half/half.h"
#include "service/breaker.h"

/** Counts go no further than this: a count for a page must not read a whole table. */
#define CHECK_COUNT_CAP 10000

enum check_kind {
    CHECK_BY_HTTP,
    CHECK_BY_BARRIER,
    CHECK_NEVER /* cannot be asked: due half-messages are parked for an operator */
};

/** Defaults of checkback_opts and check_producer. */
enum {
    CHECK_ASK_MS = 5000,
    CHECK_LEASE_MS = 10000,
    CHECK_BACKOFF_MIN_MS = 10000,
    CHECK_BACKOFF_CAP_MS = 600000,
    CHECK_MAX_ANSWERS = 15,
    CHECK_MAX_IN_PROGRESS = 200,
    CHECK_BREAKER_FAILURES = 5,
    CHECK_BREAKER_MIN_MS = 1000,
    CHECK_BREAKER_CAP_MS = 60000,
    CHECK_RETENTION_S = 7 * 24 * 3600,
    CHECK_BARRIER_KEEP_S = 30 * 24 * 3600
};

/** A producer as configuration names it. Only these are ever asked. Borrowed: outlives the
 * check-back. */
struct check_producer {
    const char *name;
    enum check_kind kind;
    const char *url;      /* CHECK_BY_HTTP, see ask_http.h */
    const char *token;    /* NULL: none */
    const char *ca_file;  /* NULL: the system's */
    struct db_opts db;    /* CHECK_BY_BARRIER */
    uint32_t concurrency; /* asks in flight at most; 0: 16 over HTTP, 4 through the barrier */
    uint32_t timeout_ms;  /* of one ask; 0: CHECK_ASK_MS */
};

/** Zero means the default, CHECK_... or that in brackets. Texts and producers are borrowed and outlive the check-back. */
struct checkback_opts {
    struct db_opts db;        /* where the half-messages are */
    const char *owner;        /* of the lease: this relay's unique name */
    struct half_store *store; /* runs the verdicts */
    const struct check_producer *producers;
    size_t producer_count;
    uint32_t lease_ms;
    uint32_t poll_ms;        /* pause between scans for due ones; 0: 200 */
    uint32_t chores_ms;      /* between counts, parking of who cannot be asked, cleanup [5000] */
    uint32_t backoff_min_ms; /* between two asks about one half-message */
    uint32_t backoff_cap_ms;
    uint32_t max_answers;      /* answers that decide nothing before it is parked */
    uint32_t max_in_progress;  /* the same while the producer says in_progress */
    uint32_t breaker_failures; /* in a row */
    uint32_t breaker_min_ms;
    uint32_t breaker_cap_ms;
    uint32_t retention_s;    /* decided ones are kept this long */
    uint32_t barrier_keep_s; /* about older ones a missing barrier row says nothing */
};

struct checkback_stats {
    bool is_owner;
    char trouble[OBX_ERR_TEXT_MAX]; /* why it is not asking; "" when all is well */
    uint64_t asked, answered, failed, parked, cleaned;
    uint64_t verdicts_by_operator;     /* seen in the history while this relay held the lease */
    uint64_t prepared_now, parked_now; /* counted up to CHECK_COUNT_CAP, every few seconds */
    uint64_t oldest_prepared_us;       /* age of the oldest of those; 0 none */
};
/** Of one producer. */
struct checkback_producer_stats {
    enum breaker_state breaker;
    uint32_t in_flight;
    uint64_t asked, answered, failed;
};

struct checkback;

/** Makes it and starts its thread. OBX_E_NOMEM, OBX_E_SYSTEM. */
OBX_NODISCARD enum obx_code checkback_create(const struct checkback_opts *opts,
                                             struct checkback **out, struct obx_err *err);
/** Stops asking, gives the lease back, joins the thread. Before the store is destroyed. NULL is
 * fine. */
void checkback_destroy(struct checkback *cb);
void checkback_get_stats(struct checkback *cb, struct checkback_stats *out);
/** index: as in opts.producers. */
void checkback_get_producer_stats(struct checkback *cb, size_t index,
                                  struct checkback_producer_stats *out);

#endif
