/*
 * Producers for the crash tests: threads that write orders with their outbox rows, roll some back,
 * hold some open.
 *
 * They stand for an application: when the database goes away they reconnect and go on, and they
 * never write a message twice themselves (a transaction whose fate is unknown is not tried again;
 * `orders` knows what became of it).
 */
#ifndef CRASH_LOAD_H
#define CRASH_LOAD_H

#include "sql/db.h"

/** Zero means the default. */
struct load_opts {
    struct db_opts db;         /* with LEDGER_PRODUCER_DB as database */
    uint32_t producers;        /* threads; 0: 4 */
    uint32_t rows_max;         /* messages in one transaction, 1 to this; 0: 4 */
    uint32_t keyless_percent;  /* messages without an ordering key; 0: none */
    uint32_t rollback_percent; /* transactions rolled back on purpose; 0: none */
    uint32_t hold_percent;     /* transactions held open before they end; 0: none */
    uint32_t hold_max_ms;      /* how long at most */
    uint32_t pause_max_ms;     /* pause between two transactions of one producer; 0: none */
    uint32_t big_percent;      /* messages with a body above the relay's inline limit; 0: none */
    const char *topic;
    const char *receipt_from; /* consumer groups that are to report; NULL: none */
    uint32_t receipt_percent; /* messages that ask them to; 0: all */
    uint64_t seed;
};

struct load_counts {
    uint64_t committed;   /* transactions */
    uint64_t messages;    /* in them */
    uint64_t doubtful;    /* messages in those that are unknown */
    uint64_t rolled_back; /* on purpose */
    uint64_t failed;      /* undone by an error */
    uint64_t unknown;     /* connection lost during COMMIT */
};

/**
 * Write one message and its order into the open transaction: body is the message's number within
 * its key, a blank and the filling. key NULL: without an ordering key, number 0. receipt_from NULL:
 * none.
 */
OBX_NODISCARD enum obx_code load_write(struct db *db, const char *topic, const char *key,
                                       const char *receipt_from, struct obx_bytes filling,
                                       struct obx_err *err);

struct load;

/** Start the producers. opts and its strings are borrowed until load_stop. OBX_E_NOMEM,
 * OBX_E_SYSTEM. */
OBX_NODISCARD enum obx_code load_start(const struct load_opts *opts, struct load **out,
                                       struct obx_err *err);
/** What was done so far; any thread. */
void load_get_counts(struct load *load, struct load_counts *out);
/** Wait until so many more transactions are committed; false when they are not by then. */
bool load_wait(struct load *load, uint64_t transactions, int64_t timeout_ms);
/** End the transactions at hand, wait for the threads, free. counts may be NULL. NULL is fine. */
void load_stop(struct load *load, struct load_counts *counts);

#endif
