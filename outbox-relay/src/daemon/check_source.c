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
#include "check_fix.h"
#include "sql/db.h"
#include "sql/schema.h"

enum {
    SUBJECT_MAX = 192,
    ACCOUNT_MAX = 192,
    MARIADB_MAJOR = 10,
    MARIADB_MINOR = 6,
    MYSQL_MAJOR = 8,
    MYSQL_MINOR = 0,
    DECIMAL = 10,
};

/* One right and a statement that needs it and no other one. */
struct trial {
    const char *right;
    const char *table; /* NULL: the outbox table, which stands for the %s */
    const char *sql;
};

static const struct trial outbox_trials[] = {
    {"SELECT", NULL, "SELECT id, receipt_from FROM %s WHERE id = 0"},
    {"INSERT", NULL,
     "INSERT INTO %s (id, message_id, topic, payload) SELECT 0, '', '', '' FROM DUAL WHERE FALSE"},
    {"DELETE", NULL, "DELETE FROM %s WHERE FALSE LIMIT 1"},
};
static const struct trial common_trials[] = {
    {"SELECT", "outbox_parked", "SELECT parked_id FROM outbox_parked WHERE parked_id = 0"},
    {"INSERT", "outbox_parked",
     "INSERT INTO outbox_parked (outbox, id, message_id, topic, content_type, payload, created_at,"
     " reason_code) SELECT '', 0, '', '', '', '', UTC_TIMESTAMP(6), '' FROM DUAL WHERE FALSE"},
    {"UPDATE", "outbox_parked", "UPDATE outbox_parked SET request = NULL WHERE FALSE LIMIT 1"},
    {"DELETE", "outbox_parked", "DELETE FROM outbox_parked WHERE FALSE LIMIT 1"},
    {"SELECT", "outbox_lease", "SELECT owner FROM outbox_lease WHERE outbox = ''"},
    {"INSERT", "outbox_lease", "INSERT INTO outbox_lease (outbox) SELECT '' FROM DUAL WHERE FALSE"},
    {"UPDATE", "outbox_lease", "UPDATE outbox_lease SET owner = '' WHERE FALSE LIMIT 1"},
    {"SELECT", "outbox_delayed", "SELECT id FROM outbox_delayed WHERE id = 0"},
    {"DELETE", "outbox_delayed", "DELETE FROM outbox_delayed WHERE FALSE LIMIT 1"},
    {"SELECT", "outbox_awaiting", "SELECT id FROM outbox_awaiting WHERE message_id = ''"},
    {"INSERT", "outbox_awaiting",
     "INSERT INTO outbox_awaiting (message_id, outbox, id, topic, content_type, payload, "
     "created_at,"
     " receipt_from, next_send_at) SELECT '', '', 0, '', '', '', UTC_TIMESTAMP(6), '',"
     " UTC_TIMESTAMP(6) FROM DUAL WHERE FALSE"},
    {"UPDATE", "outbox_awaiting", "UPDATE outbox_awaiting SET sends = 1 WHERE FALSE LIMIT 1"},
    {"DELETE", "outbox_awaiting", "DELETE FROM outbox_awaiting WHERE FALSE LIMIT 1"},
    {"SELECT", "outbox_receipt", "SELECT outcome FROM outbox_receipt WHERE message_id = ''"},
    {"INSERT", "outbox_receipt",
     "INSERT INTO outbox_receipt (message_id, consumer_group, outcome) SELECT '', '', 'applied'"
     " FROM DUAL WHERE FALSE"},
    {"UPDATE", "outbox_receipt", "UPDATE outbox_receipt SET reason = NULL WHERE FALSE LIMIT 1"},
    {"DELETE", "outbox_receipt", "DELETE FROM outbox_receipt WHERE FALSE LIMIT 1"},
    {"SELECT", "outbox_secret", "SELECT version FROM outbox_secret WHERE version = 0"},
    {"INSERT", "outbox_secret",
     "INSERT INTO outbox_secret (version, secret) SELECT 0, '' FROM DUAL WHERE FALSE"},
};
enum {
    OUTBOX_TRIALS = sizeof(outbox_trials) / sizeof(outbox_trials[0]),
    COMMON_TRIALS = sizeof(common_trials) / sizeof(common_trials[0]),
};

/* One source while it is looked at. */
struct visit {
    const struct source_config *source;
    struct check_out *out;
    struct db *db;
    char account[ACCOUNT_MAX]; /* 'user'@'host' as GRANT wants it */
};

static enum obx_code run_sql(struct db *db, const char *sql, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc;

    if (sql[0] != 'S')
        return db_exec(db, sql, DB_NO_ARGS, NULL, err);
    rc = db_query(db, sql, DB_NO_ARGS, &rows, err);
    db_rows_free(rows);
    return rc;
}

static enum obx_code run_trial(struct db *db, const struct trial *trial, const char *outbox,
                               struct obx_err *err)
{
    size_t before = strcspn(trial->sql, "%");
    struct obx_buf sql = {0};
    enum obx_code rc;

    if (trial->table != NULL)
        return run_sql(db, trial->sql, err);
    rc = buf_addf(&sql, "%.*s", (int)before, trial->sql);
    if (rc == OBX_OK)
        rc = db_add_identifier(&sql, outbox);
    if (rc == OBX_OK)
        rc = buf_add_text(&sql, trial->sql + before + 2);
    if (rc == OBX_OK)
        rc = run_sql(db, sql.data, err);
    buf_fini(&sql);
    return rc;
}

/* The account that the server took us for, which need not be the name that we gave. */
static void read_account(struct visit *visit)
{
    struct db_rows *rows = NULL;
    char account[ACCOUNT_MAX] = "";
    char *at;

    if (db_query(visit->db, "SELECT CURRENT_USER()", DB_NO_ARGS, &rows, NULL) == OBX_OK &&
        db_rows_next(rows))
        bytes_to_text(db_rows_bytes(rows, 0), account, sizeof(account));
    db_rows_free(rows);
    at = strrchr(account, '@');
    if (at != NULL)
        *at++ = '\0';
    snprintf(visit->account, sizeof(visit->account), "'%.80s'@'%.80s'",
             at == NULL ? visit->source->lane.db.user : account, at == NULL ? "%" : at);
}

static void failed(struct visit *visit, const char *subject, const struct obx_err *err)
{
    char fix[CHECK_FIX_MAX];

    check_fix_source(visit->source, err, fix);
    check_failed(visit->out, subject, err->text, fix);
}

static void failed_grant(struct visit *visit, const char *subject, const char *rights,
                         const char *table, const struct obx_err *err)
{
    char fix[CHECK_FIX_MAX];

    snprintf(fix, sizeof(fix), "GRANT %s ON `%s`.`%s` TO %s", rights,
             visit->source->lane.db.database, table, visit->account);
    check_failed(visit->out, subject, err->text, fix);
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

static void check_server(struct visit *visit, const char *subject)
{
    if (is_new_enough(visit->db))
        check_ok(visit->out, subject, "connected, server %s", db_server_version(visit->db));
    else
        check_failed(visit->out, subject, db_server_version(visit->db),
                     "use MariaDB 10.6 or newer, or MySQL 8.0 or newer");
}

/* Whether it makes sense to look at the tables. */
static bool check_schema(struct visit *visit)
{
    char subject[SUBJECT_MAX];
    struct obx_err err = {0};
    enum obx_code rc = schema_check(visit->db, SCHEMA_PRODUCER, &err);

    snprintf(subject, sizeof(subject), "schema %s", visit->source->name);
    if (rc == OBX_OK && visit->source->lane.journal)
        rc = schema_check(visit->db, SCHEMA_JOURNAL, &err);
    if (rc == OBX_OK)
        check_ok(visit->out, subject, "producer version %u",
                 (unsigned)schema_latest(SCHEMA_PRODUCER));
    else if (rc == OBX_E_DB_DENIED)
        failed_grant(visit, subject, "SELECT", "oncebox_schema", &err);
    else
        failed(visit, subject, &err);
    return rc == OBX_OK || rc == OBX_E_DB_DENIED;
}

/* Nothing at all is allowed: the server says so of a table that is not there, too. */
static void failed_outbox_denied(struct visit *visit, const char *subject, const char *outbox,
                                 const struct obx_err *err)
{
    char fix[CHECK_FIX_MAX];

    snprintf(fix, sizeof(fix),
             "if the table is missing: outboxctl migrate --outbox %s; then GRANT SELECT, INSERT, "
             "DELETE ON `%s`.`%s` TO %s",
             outbox, visit->source->lane.db.database, outbox, visit->account);
    check_failed(visit->out, subject, err->text, fix);
}

static void failed_outbox(struct visit *visit, const char *subject, const char *outbox,
                          const struct obx_err *err)
{
    char fix[CHECK_FIX_MAX];

    if (err->code != OBX_E_DB_NO_TABLE) {
        failed(visit, subject, err);
        return;
    }
    snprintf(fix, sizeof(fix), "run: outboxctl migrate --outbox %s", outbox);
    check_failed(visit->out, subject, err->text, fix);
}

static void check_outbox(struct visit *visit, const char *outbox)
{
    char subject[SUBJECT_MAX];
    struct obx_err errs[OUTBOX_TRIALS] = {{0}};
    size_t denied = 0, other = OUTBOX_TRIALS;

    snprintf(subject, sizeof(subject), "outbox %s/%s", visit->source->name, outbox);
    for (size_t i = 0; i < OUTBOX_TRIALS; i++) {
        enum obx_code rc = run_trial(visit->db, &outbox_trials[i], outbox, &errs[i]);

        denied += rc == OBX_E_DB_DENIED;
        if (rc != OBX_OK && rc != OBX_E_DB_DENIED)
            other = i;
    }
    if (other < OUTBOX_TRIALS)
        failed_outbox(visit, subject, outbox, &errs[other]);
    else if (denied == OUTBOX_TRIALS)
        failed_outbox_denied(visit, subject, outbox, &errs[0]);
    else if (denied == 0)
        check_ok(visit->out, subject, "there, with the rights to read, delete and resume");
    for (size_t i = 0; i < OUTBOX_TRIALS && denied < OUTBOX_TRIALS; i++) {
        if (errs[i].code == OBX_E_DB_DENIED)
            failed_grant(visit, subject, outbox_trials[i].right, outbox, &errs[i]);
    }
}

static void check_common(struct visit *visit)
{
    const unsigned before = visit->out->failed;
    char subject[SUBJECT_MAX];

    snprintf(subject, sizeof(subject), "grants %s", visit->source->name);
    for (size_t i = 0; i < COMMON_TRIALS; i++) {
        const struct trial *trial = &common_trials[i];
        struct obx_err err = {0};
        enum obx_code rc = run_trial(visit->db, trial, NULL, &err);

        if (rc == OBX_E_DB_DENIED)
            failed_grant(visit, subject, trial->right, trial->table, &err);
        else if (rc != OBX_OK) {
            failed(visit, subject, &err);
            return;
        }
    }
    if (visit->out->failed == before)
        check_ok(visit->out, subject,
                 "lease, parked, awaiting and delayed messages can be read and written");
}

static void check_tables(struct visit *visit, const char *subject)
{
    struct obx_err err = {0};

    if (db_begin(visit->db, &err) != OBX_OK) {
        failed(visit, subject, &err);
        return;
    }
    for (size_t i = 0; i < visit->source->outbox_count; i++)
        check_outbox(visit, visit->source->outboxes[i]);
    check_common(visit);
    (void)db_rollback(visit->db, NULL);
}

void check_source(const struct source_config *source, struct check_out *out)
{
    struct visit visit = {.source = source, .out = out};
    char subject[SUBJECT_MAX];
    struct obx_err err = {0};

    snprintf(subject, sizeof(subject), "database %s", source->name);
    if (db_open(&source->lane.db, &visit.db, &err) != OBX_OK) {
        failed(&visit, subject, &err);
        return;
    }
    read_account(&visit);
    check_server(&visit, subject);
    if (check_schema(&visit))
        check_tables(&visit, subject);
    db_close(visit.db);
}
