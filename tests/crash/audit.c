/*
 * The audit: see audit.h. Each check is one query over both databases that counts the damage and
 * names an example.
 */
#include "crash/audit.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

#define ORDERS  LEDGER_PRODUCER_DB ".orders"
#define APPLIED LEDGER_CONSUMER_DB ".applied"

static const char lost_sql[] =
    "SELECT COUNT(*), MIN(o.message_id) FROM " ORDERS " o "
    "LEFT JOIN " APPLIED " a ON a.message_id = o.message_id WHERE a.message_id IS NULL";
static const char doubled_sql[] =
    "SELECT COUNT(*), MIN(message_id) FROM "
    "(SELECT message_id FROM " APPLIED " GROUP BY message_id HAVING COUNT(*) > 1) twice";
static const char ghosts_sql[] =
    "SELECT COUNT(*), MIN(a.message_id) FROM " APPLIED " a "
    "LEFT JOIN " ORDERS " o ON o.message_id = a.message_id WHERE o.message_id IS NULL";
/* The number of a message within its key falls somewhere if and only if it falls from one row to
 * the next. */
static const char disorder_sql[] =
    "SELECT COUNT(*), MIN(message_id) FROM (SELECT message_id, key_seq, "
    "LAG(key_seq) OVER (PARTITION BY okey ORDER BY seq) AS before_it "
    "FROM " APPLIED " WHERE okey IS NOT NULL) steps WHERE before_it > key_seq";
static const char altered_sql[] = "SELECT COUNT(*), MIN(a.message_id) FROM " APPLIED " a "
                                  "JOIN " ORDERS " o ON o.message_id = a.message_id "
                                  "WHERE NOT (o.okey <=> a.okey) OR o.key_seq <> a.key_seq";

static enum obx_code check(struct db *db, const char *sql, uint64_t *count, char *sample,
                           struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query_text(db, bytes_of(sql), &rows, err);

    if (rc == OBX_OK && db_rows_next(rows)) {
        *count = db_rows_u64(rows, 0);
        if (*count > 0 && sample[0] == '\0')
            bytes_to_text(db_rows_bytes(rows, 1), sample, AUDIT_SAMPLE_MAX);
    }
    db_rows_free(rows);
    return rc;
}

static enum obx_code count_all(struct db *db, struct audit_report *report, struct obx_err *err)
{
    enum obx_code rc = ledger_number(db, "SELECT COUNT(*) FROM " ORDERS, &report->committed, err);

    if (rc == OBX_OK)
        rc = ledger_number(db, "SELECT COUNT(*) FROM " APPLIED, &report->applied, err);
    if (rc == OBX_OK)
        rc = ledger_number(db, "SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB ".outbox",
                           &report->outbox, err);
    if (rc == OBX_OK)
        rc = ledger_number(db, "SELECT COUNT(*) FROM " LEDGER_PRODUCER_DB ".outbox_parked",
                           &report->parked, err);
    return rc;
}

enum obx_code audit_run(struct db *db, struct audit_report *report, struct obx_err *err)
{
    uint64_t altered = 0;
    enum obx_code rc = OBX_OK;

    memset(report, 0, sizeof(*report));
    rc = count_all(db, report, err);
    if (rc == OBX_OK)
        rc = check(db, lost_sql, &report->lost, report->sample, err);
    if (rc == OBX_OK)
        rc = check(db, doubled_sql, &report->doubled, report->sample, err);
    if (rc == OBX_OK)
        rc = check(db, ghosts_sql, &report->ghosts, report->sample, err);
    if (rc == OBX_OK)
        rc = check(db, disorder_sql, &report->disorder, report->sample, err);
    if (rc == OBX_OK)
        rc = check(db, altered_sql, &altered, report->sample, err);
    report->disorder += altered;
    return rc;
}

bool audit_is_clean(const struct audit_report *report)
{
    bool is_complete = report->committed > 0 && report->applied == report->committed;
    bool is_true = report->lost + report->doubled + report->ghosts + report->disorder == 0;
    bool is_quiet = report->outbox + report->parked + report->queued + report->dead == 0;

    return is_complete && is_true && is_quiet;
}

void audit_print(FILE *out, const struct audit_report *report)
{
    fprintf(out,
            "audit: committed=%" PRIu64 " applied=%" PRIu64 " lost=%" PRIu64 " doubled=%" PRIu64
            " ghosts=%" PRIu64 " disorder=%" PRIu64 " outbox=%" PRIu64 " parked=%" PRIu64
            " queued=%" PRIu64 " dead=%" PRIu64 "%s%s: %s\n",
            report->committed, report->applied, report->lost, report->doubled, report->ghosts,
            report->disorder, report->outbox, report->parked, report->queued, report->dead,
            report->sample[0] != '\0' ? " example=" : "", report->sample,
            audit_is_clean(report) ? "clean" : "DAMAGE");
}
