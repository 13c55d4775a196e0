/*
 * Who owns an outbox (outbox_lease) or the calls of a consumer group (inbox_lease): one row each,
 * judged by the database's clock.
 *
 * Invariants: the epoch held here was given by one statement that the database judged; locally the
 * lease counts as held no longer than (monotonic time before the last successful renewal was sent)
 * + lease - margin; a transaction that writes begins with lease_begin, which locks the lease row
 * under owner and epoch, so a taker waits until it has ended. A lease that is not renewed for twice
 * its length, as this process counts, has expired too: the database's clock may have stepped back,
 * and its owner be dead for an hour to come.
 *
 * The lock of lease_begin is also a danger: an owner that stands still inside its transaction
 * (stopped, or cut off without the server's knowing) would hold the row for as long as the server
 * lets a silent session live, by default eight hours. Two safeguards, because each has its gap:
 * the owner's session ends itself soon after the lease (lease_limit_session), and a taker that
 * waits for the row of an expired lease ends the session that the row names, if it is idle.
 *
 * Used by one thread, on its connection. Proved by tests/system/lane_lease_test.c,
 * tests/crash/notify_crash_test.c and tests/unit/lane_sim_test.c.
 */
#ifndef TABLES_LEASE_H
#define TABLES_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "sql/db.h"

enum lease_kind {
    LEASE_OUTBOX, /* outbox_lease */
    LEASE_GROUP   /* inbox_lease */
};

struct lease_opts {
    enum lease_kind kind;
    const char *name;    /* of the outbox, or of the consumer group */
    const char *owner;   /* unique for this process */
    const char *address; /* NULL: none advertised */
    uint32_t lease_ms;
};

struct lease {
    struct lease_opts opts; /* strings borrowed: outlive the lease */
    uint64_t epoch;         /* held now; 0: not held */
    uint64_t last_epoch; /* given to us last: with it our own lease can be taken back before it is
                            over */
    uint64_t held_until_ms; /* monotonic */
    uint64_t renew_due_ms;
    uint64_t fenced_at_ms;  /* when the open transaction renewed the lease */
    uint64_t free_in_ms;    /* as last seen: how long another's lease still runs */
    uint32_t patience_ms;   /* a lease that nobody holds is left to others for so long; set by the
                              caller at any time */
    uint64_t free_since_ms; /* monotonic: when it was seen first that nobody holds it; 0: somebody
                               does, or it is not known */
    char seen_owner[129];   /* who holds it, as last seen; "" nobody */
    char seen_address[256];
    /* Another's lease, as it was when it was seen first. */
    uint64_t seen_epoch, seen_expires_us;
    uint64_t seen_since_ms; /* monotonic */
    uint64_t seen_connection_id;
    uint64_t seen_lease_ms; /* its length, as far as its renewals have shown */
    uint64_t db_at_us;      /* the database's clock when ours said clock_at_us; 0: never seen */
    uint64_t clock_at_us;
};

void lease_init(struct lease *lease, const struct lease_opts *opts);
/** For db_open: the session waits for no lock longer than a lease allows, and ends soon after one,
 * whatever the source's settings are. */
void lease_limit_session(struct db_opts *db, uint32_t lease_ms);
/**
 * See who holds it; take it if nobody does, if it has expired, or if it is our own from before.
 * *acquired says whether we hold it now. OBX_E_DB_LOCK_WAIT: the row of an expired lease is locked;
 * if its owner's session is idle it has been ended, and the next try succeeds.
 */
OBX_NODISCARD enum obx_code lease_try(struct lease *lease, struct db *db, bool *acquired,
                                      struct obx_err *err);
/** Renew. OBX_E_LEASE_LOST: it is another's; any OBX_E_DB_*. */
OBX_NODISCARD enum obx_code lease_renew(struct lease *lease, struct db *db, struct obx_err *err);
/** Whether something may be published now. */
bool lease_holds(const struct lease *lease, uint64_t now_ms);
/** Give it back, so that the next owner need not wait. OBX_OK also when it was lost already. */
OBX_NODISCARD enum obx_code lease_release(struct lease *lease, struct db *db, struct obx_err *err);
/** Forget it here; the row stays as it is. */
void lease_drop(struct lease *lease);

/** BEGIN, and renew and lock the lease row. On failure there is no transaction. OBX_E_LEASE_LOST as
 * above. */
OBX_NODISCARD enum obx_code lease_begin(struct lease *lease, struct db *db, struct obx_err *err);
/** COMMIT; the renewal counts then. On failure there is no transaction (OBX_E_DB_COMMIT_UNKNOWN:
 * see db_commit). */
OBX_NODISCARD enum obx_code lease_commit(struct lease *lease, struct db *db, struct obx_err *err);
/** ROLLBACK after a failed statement. */
void lease_rollback(struct db *db);

/** The database's clock now, microseconds since 1970, as far as known; 0: not known. */
uint64_t lease_db_now_us(const struct lease *lease);
/** How far the database's clock is ahead of clock_now_us; 0: not known. */
int64_t lease_db_offset_us(const struct lease *lease);
/** The database's clock was seen. */
void lease_note_db_clock(struct lease *lease, uint64_t db_us);

#endif
