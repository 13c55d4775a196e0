/*
 * One database under a check; see check_db.h. A right is tried with a statement that touches no
 * row: the server checks it all the same.
 */
#include "check_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "sql/db_hosts.h"

enum { DECIMAL = 10 };

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

enum obx_code check_db_trial(struct db *db, const struct check_trial *trial, const char *table,
                             struct obx_err *err)
{
    size_t before = strcspn(trial->sql, "%");
    struct obx_buf sql = {0};
    enum obx_code rc;

    if (trial->table != NULL)
        return run_sql(db, trial->sql, err);
    rc = buf_addf(&sql, "%.*s", (int)before, trial->sql);
    if (rc == OBX_OK)
        rc = db_add_identifier(&sql, table);
    if (rc == OBX_OK)
        rc = buf_add_text(&sql, trial->sql + before + 2);
    if (rc == OBX_OK)
        rc = run_sql(db, sql.data, err);
    buf_fini(&sql);
    return rc;
}

/* The account that the server took us for, which need not be the name that we gave. */
void check_db_account(struct check_visit *visit)
{
    struct db_rows *rows = NULL;
    char account[CHECK_ACCOUNT_MAX] = "";
    char *at;

    if (db_query(visit->db, "SELECT CURRENT_USER()", DB_NO_ARGS, &rows, NULL) == OBX_OK &&
        db_rows_next(rows))
        bytes_to_text(db_rows_bytes(rows, 0), account, sizeof(account));
    db_rows_free(rows);
    at = strrchr(account, '@');
    if (at != NULL)
        *at++ = '\0';
    snprintf(visit->account, sizeof(visit->account), "'%.80s'@'%.80s'",
             at == NULL ? visit->where.db->user : account, at == NULL ? "%" : at);
}

void check_db_failed(struct check_visit *visit, const char *subject, const struct obx_err *err)
{
    char fix[CHECK_FIX_MAX];

    check_fix_database(&visit->where, err, fix);
    check_failed(visit->out, subject, err->text, fix);
}

void check_db_failed_grant(struct check_visit *visit, const char *subject, const char *rights,
                           const char *table, const struct obx_err *err)
{
    char fix[CHECK_FIX_MAX];

    snprintf(fix, sizeof(fix), "%s%s%sGRANT %s ON `%s`.`%s` TO %s",
             visit->is_unproved ? "if the table is missing: " : "",
             visit->is_unproved ? visit->where.migrate : "", visit->is_unproved ? "; then " : "",
             rights, visit->where.db->database, table, visit->account);
    check_failed(visit->out, subject, err->text, fix);
}

/* "10.11.6-MariaDB" is at least 10.6.0, "8.0.12" is not at least 8.0.13. */
static bool is_at_least(const char *version, const long wanted[3])
{
    for (size_t i = 0; i < 3; i++) {
        char *rest = NULL;
        const long part = strtol(version, &rest, DECIMAL);

        if (part != wanted[i])
            return part > wanted[i];
        version = *rest == '.' ? rest + 1 : rest;
    }
    return true;
}

static void check_server(struct check_visit *visit, const char *subject)
{
    static const long mariadb[3] = {10, 6, 0};
    static const long mysql[3] = {8, 0, 13}; /* defaults that are expressions */
    const char *version = db_server_version(visit->db);

    if (is_at_least(version, db_server_is_mariadb(visit->db) ? mariadb : mysql))
        check_ok(visit->out, subject, "connected, server %s", version);
    else
        check_failed(visit->out, subject, version,
                     "use MariaDB 10.6 or newer, or MySQL 8.0.13 or newer");
}

/* Our sessions are READ COMMITTED, which a binary log of statements cannot hold. */
static void check_binlog(struct check_visit *visit, const char *subject)
{
    struct db_rows *rows = NULL;
    bool is_statement = false;

    if (db_query(visit->db, "SELECT @@log_bin = 1 AND @@binlog_format = 'STATEMENT'", DB_NO_ARGS,
                 &rows, NULL) == OBX_OK &&
        db_rows_next(rows))
        is_statement = db_rows_u64(rows, 0) != 0;
    db_rows_free(rows);
    if (is_statement)
        check_failed(visit->out, subject, "binlog_format is STATEMENT",
                     "set binlog_format = ROW (or MIXED) on the server");
}

/* Each of them, before it is needed: a replica that refuses the account, or has other tables, shows
 * itself otherwise on the day of the failover. One that is away is no reason not to start. */
static void check_hosts(struct check_visit *visit, const char *subject,
                        const struct db_hosts *hosts)
{
    for (size_t i = 0; i < hosts->count; i++) {
        struct db_opts one = *visit->where.db;
        struct db_role role = {.is_read_only = false};
        struct obx_err err = {0};
        struct db *db = NULL;
        char shown[DB_HOST_SHOWN_MAX];

        one.host = hosts->at[i].name;
        one.port = hosts->at[i].port;
        one.any_server = true;
        (void)db_host_show(&hosts->at[i], shown);
        if (db_open(&one, &db, &err) == OBX_OK && db_ask_role(db, &role, &err) == OBX_OK)
            check_ok(visit->out, subject, "%s %s", shown,
                     role.is_read_only ? "is read-only: a replica" : "takes writes: the primary");
        else
            check_ok(visit->out, subject, "WARNING: %s: %s", shown, err.text);
        db_close(db);
    }
}

/* How far a failover can be relied on. */
static void check_role(struct check_visit *visit, const char *subject, bool has_several)
{
    struct db_role role = {.is_read_only = false};
    const char *warning = NULL;

    if (db_ask_role(visit->db, &role, NULL) != OBX_OK)
        return; /* only advice is missing */
    warning = db_role_warning(&role, has_several);
    if (warning != NULL)
        check_ok(visit->out, subject, "WARNING: %s (docs/failover.md)", warning);
    else if (role.is_group)
        check_ok(visit->out, subject, "group replication with one primary, group %s", role.cluster);
}

bool check_db_open(struct check_visit *visit, const char *subject)
{
    const struct db_opts *opts = visit->where.db;
    struct db_hosts hosts = {.count = 0};
    struct obx_err err = {0};

    if (opts->unix_socket == NULL &&
        db_hosts_parse(opts->host, opts->port, &hosts, NULL) == OBX_OK && hosts.count > 1)
        check_hosts(visit, subject, &hosts);

    if (db_open(visit->where.db, &visit->db, &err) != OBX_OK) {
        check_db_failed(visit, subject, &err);
        return false;
    }
    check_db_account(visit);
    check_server(visit, subject);
    check_binlog(visit, subject);
    check_role(visit, subject, hosts.count > 1);
    return true;
}

bool check_db_side(struct check_visit *visit, const char *subject, enum schema_side side)
{
    struct obx_err err = {0};
    enum obx_code rc = schema_check(visit->db, side, &err);

    if (rc == OBX_OK)
        check_ok(visit->out, subject, "%s version %u", schema_side_name(side),
                 (unsigned)schema_latest(side));
    else if (rc == OBX_E_DB_DENIED)
        check_db_failed_grant(visit, subject, "SELECT", "rowpost_schema", &err);
    else
        check_db_failed(visit, subject, &err);
    return rc == OBX_OK || rc == OBX_E_DB_DENIED;
}

void check_db_trials(struct check_visit *visit, const char *subject,
                     const struct check_trial *trials, size_t count, const char *ok)
{
    const unsigned before = visit->out->failed;

    for (size_t i = 0; i < count; i++) {
        struct obx_err err = {0};
        enum obx_code rc = check_db_trial(visit->db, &trials[i], NULL, &err);

        if (rc == OBX_E_DB_DENIED)
            check_db_failed_grant(visit, subject, trials[i].right, trials[i].table, &err);
        else if (rc != OBX_OK) {
            check_db_failed(visit, subject, &err);
            return;
        }
    }
    if (visit->out->failed == before)
        check_ok(visit->out, subject, "%s", ok);
}
