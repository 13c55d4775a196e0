/*
 * The audit that ends every crash test: compares what the producer committed with what the consumer
 * applied.
 *
 * It trusts only what the databases and the broker hold: not one counter of the programs under
 * test. That it finds each kind of damage is proved by tests/crash/audit_test.c.
 */
#ifndef CRASH_AUDIT_H
#define CRASH_AUDIT_H

#include <stdbool.h>
#include <stdio.h>

#include "crash/ledger.h"

enum { AUDIT_SAMPLE_MAX = 128 };

struct audit_report {
    uint64_t committed; /* messages whose transaction committed */
    uint64_t applied;   /* transactions of a handler that committed */
    uint64_t lost;      /* committed, never applied */
    uint64_t doubled;   /* applied more than once */
    uint64_t ghosts;    /* applied, never committed */
    uint64_t disorder;  /* applied after a later message of the same key, or with another key or
                           number than was sent */
    uint64_t outbox;    /* rows left in the outbox */
    uint64_t parked;    /* rows in outbox_parked */
    uint64_t queued;    /* messages left in the queue; filled by the caller, who knows the broker */
    uint64_t dead;      /* messages in the dead-letter queue; likewise */
    char sample[AUDIT_SAMPLE_MAX]; /* one message id that shows the damage; "" if none */
};

/**
 * Fill all of *report but queued and dead, which become 0.
 *
 * The numbers are of one moment only when nothing writes meanwhile.
 * @return OBX_OK (whatever was found) or any OBX_E_DB_*
 */
OBX_NODISCARD enum obx_code audit_run(struct db *db, struct audit_report *report,
                                      struct obx_err *err);
/** Nothing lost, doubled, made up, out of order or left over. An audit of nothing at all is not
 * clean. */
bool audit_is_clean(const struct audit_report *report);
void audit_print(FILE *out, const struct audit_report *report);

#endif
