/*
 * The relays that share the lanes of a source: table outbox_relay, one row each, judged by the
 * database's clock like the leases. A row decides nothing by itself: who may work is the lease's
 * affair alone, and a relay without a row, or one whose row is wrong, is only no part of the sharing.
 */
#ifndef TABLES_RELAYS_H
#define TABLES_RELAYS_H

#include "sql/db.h"

struct relays_row {
    const char *relay; /* unique for the process: as owner in outbox_lease */
    const char *
        outboxes; /* what it drains, in order, separated by commas: those with the same list share */
    const char *version;
    const char *address; /* where it hears doorbells of other relays; NULL: nowhere */
    uint32_t weight;
    uint32_t lease_ms; /* without a renewal for so long it counts as gone */
};

/** Write the row, or renew it. Any OBX_E_DB_*. */
OBX_NODISCARD enum obx_code relays_renew(struct db *db, const struct relays_row *row,
                                         struct obx_err *err);
/** Columns relay, weight, address of at most `most` relays with this list whose rows are fresh, in the
 * order of their names. The caller frees *rows. */
OBX_NODISCARD enum obx_code relays_list(struct db *db, const char *outboxes, uint32_t most,
                                        struct db_rows **rows, struct obx_err *err);
/** Columns outbox, owner of the leases that are held. The caller frees *rows. */
OBX_NODISCARD enum obx_code relays_leases(struct db *db, struct db_rows **rows,
                                          struct obx_err *err);
/** Take the row away at once, and those of relays that have been gone for a day. */
OBX_NODISCARD enum obx_code relays_leave(struct db *db, const char *relay, struct obx_err *err);

#endif
