/*
 * The checks of one database: reachable, new enough, schema, tables, and every right that a lane
 * uses. The rights are tried with statements that touch no row, inside a transaction that is rolled
 * back: the server checks them all the same.
 */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "sql/db.h"
#include "sql/schema.h"

enum {
    SUBJECT_MAX = 192,
    MARIADB_MAJOR = 10,
    MARIADB_MINOR = 6,
    MYSQL_MAJOR = 8,
    MYSQL_MINOR = 0,
    DECIMAL = 10,
};

/* %s is the quoted outbox table in those that have one. */
static const char *const outbox_trials[] = {
    "SELECT id, receipt_from FROM %s WHERE id = 0",
    "DELETE FROM %s WHERE id = 0",
    "INSERT INTO %s (id, message_id, topic, payload) SELECT 0, '', '', '' FROM DUAL WHERE FALSE",
};
static const char *const common_trials[] = {
    "SELECT parked_id FROM outbox_parked WHERE parked_id = 0",
    "INSERT INTO outbox_parked (outbox, id, message_id, topic, content_type, payload, created_at,"
    " reason_code) SELECT '', 0, '', '', '', '', UTC_TIMESTAMP(6), '' FROM DUAL WHERE FALSE",
    "UPDATE outbox_parked SET request = NULL WHERE parked_id = 0",
    "DELETE FROM outbox_parked WHERE parked_id = 0",
    "SELECT owner FROM outbox_lease WHERE outbox = ''",
    "INSERT INTO outbox_lease (outbox) SELECT '' FROM DUAL WHERE FALSE",
    "UPDATE outbox_lease SET owner = '' WHERE outbox = ''",
    "SELECT id FROM outbox_delayed WHERE id = 0",
    "DELETE FROM outbox_delayed WHERE id = 0",
    "SELECT id FROM outbox_awaiting WHERE message_id = ''",
    "INSERT INTO outbox_awaiting (message_id, outbox, id, topic, content_type, payload, created_at,"
    " receipt_from, next_send_at) SELECT '', '', 0, '', '', '', UTC_TIMESTAMP(6), '',"
    " UTC_TIMESTAMP(6) FROM DUAL WHERE FALSE",
    "UPDATE outbox_awaiting SET sends = 1 WHERE message_id = ''",
    "DELETE FROM outbox_awaiting WHERE message_id = ''",
    "SELECT outcome FROM outbox_receipt WHERE message_id = ''",
    "INSERT INTO outbox_receipt (message_id, consumer_group, outcome) SELECT '', '', 'applied'"
    " FROM DUAL WHERE FALSE",
    "DELETE FROM outbox_receipt WHERE message_id = ''",
    "SELECT version FROM outbox_secret WHERE version = 0",
    "INSERT INTO outbox_secret (version, secret) SELECT 0, '' FROM DUAL WHERE FALSE",
};

static enum obx_code run_trial(struct db *db, const char *sql, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc;

    if (sql[0] != 'S')
        return db_exec(db, sql, DB_NO_ARGS, NULL, err);
    rc = db_query(db, sql, DB_NO_ARGS, &rows, err);
    db_rows_free(rows);
    return rc;
}

static enum obx_code try_outbox(struct db *db, const char *outbox, struct obx_err *err)
{
    struct obx_buf name = {0}, sql = {0};
    enum obx_code rc = db_add_identifier(&name, outbox);

    for (size_t i = 0; i < sizeof(outbox_trials) / sizeof(outbox_trials[0]) && rc == OBX_OK; i++) {
        const char *before = outbox_trials[i];
        size_t at = strcspn(before, "%");

        buf_reset(&sql);
        rc = buf_addf(&sql, "%.*s%s%s", (int)at, before, name.data, before + at + 2);
        if (rc == OBX_OK)
            rc = run_trial(db, sql.data, err);
    }
    buf_fini(&name);
    buf_fini(&sql);
    return rc;
}

static enum obx_code try_common(struct db *db, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < sizeof(common_trials) / sizeof(common_trials[0]) && rc == OBX_OK; i++)
        rc = run_trial(db, common_trials[i], err);
    return rc;
}

/* "10.11.6-MariaDB" is 10.11. */
static bool is_new_enough(const struct db *db)
{
    const char *version = db_server_version(db);
    char *rest = NULL;
    long major = strtol(version, &rest, DECIMAL);
    long minor = *rest == '.' ? strtol(rest + 1, NULL, DECIMAL) : 0;
    long wanted_major = db_server_is_mariadb(db) ? MARIADB_MAJOR : MYSQL_MAJOR;
    long wanted_minor = db_server_is_mariadb(db) ? MARIADB_MINOR : MYSQL_MINOR;

    return major > wanted_major || (major == wanted_major && minor >= wanted_minor);
}

static void check_server(struct db *db, const char *subject, struct check_out *out)
{
    if (is_new_enough(db))
        check_ok(out, subject, "connected, server %s", db_server_version(db));
    else
        check_failed_fix(out, subject, db_server_version(db),
                         "use MariaDB 10.6 or newer, or MySQL 8.0 or newer");
}

static bool check_schema(struct db *db, const char *name, struct check_out *out)
{
    char subject[SUBJECT_MAX];
    struct obx_err err = {0};

    snprintf(subject, sizeof(subject), "schema %s", name);
    if (schema_check(db, SCHEMA_PRODUCER, &err) != OBX_OK) {
        check_failed(out, subject, &err);
        return false;
    }
    check_ok(out, subject, "producer version %u", (unsigned)schema_latest(SCHEMA_PRODUCER));
    return true;
}

static void check_outbox(struct db *db, const char *name, const char *outbox, struct check_out *out)
{
    char subject[SUBJECT_MAX], fix[SUBJECT_MAX];
    struct obx_err err = {0};
    enum obx_code rc;

    snprintf(subject, sizeof(subject), "outbox %s/%s", name, outbox);
    rc = try_outbox(db, outbox, &err);
    if (rc == OBX_OK) {
        check_ok(out, subject, "there, with the rights to read, delete and resume");
    } else if (rc == OBX_E_DB_NO_TABLE) {
        snprintf(fix, sizeof(fix), "run: outboxctl migrate --outbox %s", outbox);
        check_failed_fix(out, subject, err.text, fix);
    } else {
        check_failed(out, subject, &err);
    }
}

static void check_grants(struct db *db, const struct source_config *source, struct check_out *out)
{
    char subject[SUBJECT_MAX];
    struct obx_err err = {0};

    for (size_t i = 0; i < source->outbox_count; i++)
        check_outbox(db, source->name, source->outboxes[i], out);
    snprintf(subject, sizeof(subject), "grants %s", source->name);
    if (try_common(db, &err) != OBX_OK)
        check_failed(out, subject, &err);
    else
        check_ok(out, subject,
                 "lease, parked, awaiting and delayed messages can be read and written");
}

void check_source(const struct source_config *source, struct check_out *out)
{
    char subject[SUBJECT_MAX];
    struct obx_err err = {0};
    struct db *db = NULL;

    snprintf(subject, sizeof(subject), "database %s", source->name);
    if (db_open(&source->lane.db, &db, &err) != OBX_OK) {
        check_failed(out, subject, &err);
        return;
    }
    check_server(db, subject, out);
    if (check_schema(db, source->name, out)) {
        if (db_begin(db, &err) != OBX_OK)
            check_failed(out, subject, &err);
        else
            check_grants(db, source, out);
        (void)db_rollback(db, NULL);
    }
    db_close(db);
}
