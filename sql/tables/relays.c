/* See relays.h. */
#include "relays.h"

enum { US_PER_MS = 1000 };

#define RENEW                                                                                      \
    "UPDATE outbox_relay FORCE INDEX (PRIMARY) SET outboxes = ?, version = ?, address = ?, "       \
    "weight = ?, expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND WHERE relay = ?"
#define ADD                                                                                        \
    "INSERT INTO outbox_relay (outboxes, version, address, weight, expires_at, relay) "            \
    "VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, ?)"

enum obx_code relays_renew(struct db *db, const struct relays_row *row, struct obx_err *err)
{
    const struct obx_value values[] = {DB_TEXT(row->outboxes),
                                       DB_TEXT(row->version),
                                       DB_TEXT(row->address),
                                       DB_U64(row->weight),
                                       DB_U64((uint64_t)row->lease_ms * US_PER_MS),
                                       DB_TEXT(row->relay)};
    const size_t count = sizeof(values) / sizeof(values[0]);
    uint64_t matched = 0;
    enum obx_code rc = db_exec(db, RENEW, values, count, &matched, err);

    if (rc == OBX_OK && matched == 0)
        rc = db_exec(db, ADD, values, count, NULL, err);
    return rc;
}

enum obx_code relays_list(struct db *db, const char *outboxes, uint32_t most, struct db_rows **rows,
                          struct obx_err *err)
{
    return db_query(db,
                    "SELECT relay, weight, COALESCE(address, '') FROM outbox_relay "
                    "WHERE outboxes = ? AND expires_at > UTC_TIMESTAMP(6) ORDER BY relay LIMIT ?",
                    DB_ARGS(DB_TEXT(outboxes), DB_U64(most)), rows, err);
}

enum obx_code relays_leases(struct db *db, struct db_rows **rows, struct obx_err *err)
{
    return db_query(db,
                    "SELECT outbox, owner FROM outbox_lease WHERE expires_at > UTC_TIMESTAMP(6)",
                    DB_NO_ARGS, rows, err);
}

enum obx_code relays_leave(struct db *db, const char *relay, struct obx_err *err)
{
    enum obx_code rc =
        db_exec(db, "DELETE FROM outbox_relay WHERE relay = ?", DB_ARGS(DB_TEXT(relay)), NULL, err);

    if (rc == OBX_OK)
        rc = db_exec(
            db, "DELETE FROM outbox_relay WHERE expires_at < UTC_TIMESTAMP(6) - INTERVAL 1 DAY",
            DB_NO_ARGS, NULL, err);
    return rc;
}
