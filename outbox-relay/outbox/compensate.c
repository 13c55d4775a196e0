/*
 * Compensation. See compensate.h.
 */
#include "compensate.h"

#include <string.h>

#include "tables/outbox_columns.h"

static const char sql_claim[] =
    "INSERT INTO outbox_receipt (message_id, consumer_group, outcome, reason)"
    " VALUES (?, '', 'rejected', ?)";

/* The body and the headers of the message, and who rejected it and why. An id that leaves no room
 * for the prefix is replaced by its digest. */
static enum obx_code build(struct obx_buf *sql, const char *table, const char *from,
                           const char *where)
{
    return buf_addf(
        sql,
        "INSERT INTO %s (" MESSAGE_NAME_COLUMNS ", headers, content_type, payload)"
        " SELECT CONCAT('rej-', IF(LENGTH(m.message_id) <= 60,"
        " CONVERT(m.message_id USING utf8mb4),"
        " LEFT(SHA2(m.message_id, 256), 60))), m.on_rejected, m.ordering_key,"
        " JSON_MERGE_PATCH(IF(JSON_VALID(COALESCE(m.headers, '')), m.headers, '{}'),"
        " JSON_OBJECT('rowpost-rejected-id', m.message_id, 'rowpost-rejected-topic', m.topic,"
        " 'rowpost-rejected-by', ?, 'rowpost-rejected-reason', ?)), m.content_type, m.payload"
        " FROM %s m WHERE %s AND m.on_rejected <> ''",
        table, from, where);
}

enum obx_code compensate_init(struct compensate *comp, const char *table, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    memset(comp, 0, sizeof(*comp));
    rc = build(&comp->from_outbox, table, table, "m.id = ?");
    if (rc == OBX_OK)
        rc = build(&comp->from_awaiting, table, "outbox_awaiting", "m.message_id = ?");
    if (rc != OBX_OK) {
        compensate_fini(comp);
        return obx_fail(err, rc, "statements that compensate");
    }
    return OBX_OK;
}

void compensate_fini(struct compensate *comp)
{
    buf_fini(&comp->from_outbox);
    buf_fini(&comp->from_awaiting);
}

enum obx_code compensate_run(struct compensate *comp, struct db *db,
                             const struct compensate_item *item, bool *is_first,
                             struct obx_err *err)
{
    struct obx_value where = item->in_outbox ? DB_U64(item->outbox_id) : DB_BYTES(item->message_id);
    struct obx_bytes reason = bytes_is_absent(item->reason) ? bytes_of("") : item->reason;
    uint64_t sent = 0;
    enum obx_code rc =
        db_exec(db, sql_claim, DB_ARGS(DB_BYTES(item->message_id), DB_BYTES(reason)), NULL, err);

    *is_first = rc == OBX_OK;
    if (rc == OBX_E_DB_DUPLICATE) {
        obx_err_clear(err);
        return OBX_OK;
    }
    if (rc != OBX_OK)
        return rc;
    rc = db_exec(db, item->in_outbox ? comp->from_outbox.data : comp->from_awaiting.data,
                 DB_ARGS(DB_BYTES(item->group), DB_BYTES(reason), where), &sent, err);
    comp->sent += sent;
    return rc;
}
