/*
 * One queue with `to = inbox`: a consumer whose handler stores messages in the table inbox (store.c),
 * and a thread that files what the service's workers have ended (filer.c). ADR 0026 has the design;
 * proved by tests/model/inbox.pml, tests/system/inbox_relay_test.c and tests/crash/inbox_crash_test.c.
 *
 * Made, stopped and destroyed by the main thread.
 */
#ifndef INBOX_INBOX_H
#define INBOX_INBOX_H

#include "bridge/bridge.h"
#include "counts.h"
#include "obx/consumer.h"
#include "sql/db.h"

/* Borrowed: outlives the inbox. */
struct inbox_opts {
    const char *queue; /* [queue NAME], 1 to 64 bytes */
    uint32_t max_attempts, retry_min_ms, retry_max_ms;
    bool freezes;          /* a dead message holds its key, unless its producer is told */
    uint32_t keep_done_ms; /* 0: removed when filed */
    /* Whom to wake after a commit: a directory with sockets, a socket, or HOST:PORT (UDP). */
    const char *const *wake;
    size_t wake_count;
    struct db_opts db;
    struct bridge_opts broker;
    struct obx_consumer_opts consumer; /* group and RabbitMQ queue, the same servers */
};

struct inbox;

#define INBOX_VIEW_MEMBER(member, metric, type, help) uint64_t member;

/* A copy of the counts. */
struct inbox_view {
    INBOX_NUMBERS(INBOX_VIEW_MEMBER)
    uint64_t oldest_ready_us; /* how long the first one has been ready */
    bool is_connected;        /* the filer's database */
    char trouble[OBX_ERR_TEXT_MAX];
};

OBX_NODISCARD enum obx_code inbox_create(const struct inbox_opts *opts, struct inbox **out,
                                         struct obx_err *err);
OBX_NODISCARD enum obx_code inbox_start(struct inbox *inbox, struct obx_err *err);
/** Begin to drain; a second time: end at once. Does not wait. */
void inbox_stop(struct inbox *inbox);
bool inbox_has_ended(struct inbox *inbox);
/** Stop at once if it runs, wait, free. NULL is fine. */
void inbox_destroy(struct inbox *inbox);

const char *inbox_queue(const struct inbox *inbox);
/** Borrowed, for its statistics. */
struct obx_consumer *inbox_consumer(struct inbox *inbox);
void inbox_get_view(struct inbox *inbox, struct inbox_view *out);

#endif
