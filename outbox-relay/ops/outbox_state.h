/* How an outbox is, read from its database: rows waiting, parked messages, the lease. Counts stop
 * at a limit. */
#ifndef OPS_OUTBOX_STATE_H
#define OPS_OUTBOX_STATE_H

#include "sql/db.h"

/** Counting stops here, so that looking costs the same however large the backlog is. */
#define OUTBOX_COUNT_CAP 10000

struct outbox_state {
    uint64_t waiting;
    bool waiting_capped;
    uint64_t oldest_us; /* age of the row with the smallest id; 0 none */
    uint64_t parked;
    bool parked_capped;
    uint64_t frozen;    /* keys held by a parked message, within the same limit */
    uint64_t requested; /* parked messages with a request that stands */
    bool has_lease;     /* there is a row, of any owner */
    bool is_owned;      /* and it has not expired */
    char owner[129];
    char address[256];
    uint64_t epoch;
    int64_t lease_left_us; /* negative: expired so long ago */
};

/** OBX_E_DB_NO_TABLE and any other OBX_E_DB_*. */
OBX_NODISCARD enum obx_code outbox_state_read(struct db *db, const char *outbox,
                                              struct outbox_state *out, struct obx_err *err);
/** Only the lease part. */
OBX_NODISCARD enum obx_code outbox_lease_read(struct db *db, const char *outbox,
                                              struct outbox_state *out, struct obx_err *err);
/** The outboxes that the database knows of (by their leases; `outbox` if there is none). Free with
 * db_rows_free. */
OBX_NODISCARD enum obx_code outbox_names_read(struct db *db, struct db_rows **out,
                                              struct obx_err *err);
/**
 * The outboxes for which there are delayed messages and no relay: without a lease, or with one that
 * has expired, which an outbox has while its relays are stopped. Read by index. Free with
 * db_rows_free.
 * @param lease_is_enough  an outbox with a lease, however old, is none of them
 */
OBX_NODISCARD enum obx_code outbox_strays_read(struct db *db, bool lease_is_enough,
                                               struct db_rows **out, struct obx_err *err);
/** Its delayed messages into out->waiting, counted as those of an outbox. */
OBX_NODISCARD enum obx_code outbox_stray_count(struct db *db, const char *outbox,
                                               struct outbox_state *out, struct obx_err *err);

#endif
