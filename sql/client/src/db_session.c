/*
 * The session that every statement of ours, and a handler's, may rely on: one list, set in one
 * round trip right after the login, so that no server's defaults (my.cnf, SET GLOBAL,
 * init_connect, a role) can change what a statement means, how long it waits or how many rows it
 * touches.
 *
 * What belongs in the list: each variable that an ordinary account may set for itself and that
 * changes the effect or the end of a statement. What does not: plans (statements name their index),
 * sizes of buffers, and what needs a privilege (binlog_format: outbox-relay --check looks at it).
 * tests/system/server_settings_test.c runs the whole chain under hostile defaults.
 */
#include "db_session.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"

enum {
    DEFAULT_LOCK_WAIT_S = 10,
    DEFAULT_SILENT_S = 15, /* within a transaction */
    DEFAULT_IDLE_S = 60,   /* where that cannot be told */
    LONGEST_IDLE_S = 3600, /* outside of one */
    DECIMAL = 10,
    NUMBER_MAX = 160,
};

/* Who knows the variable. */
enum server { BOTH, MARIADB, MYSQL_ONLY };

static const struct setting {
    enum server server;
    const char *text;
} settings[] = {
    /* Effect. The sql_mode is replaced and not added to: ANSI_QUOTES, PIPES_AS_CONCAT,
     * NO_BACKSLASH_ESCAPES, PAD_CHAR_TO_FULL_LENGTH, NO_AUTO_VALUE_ON_ZERO, ... all go. */
    {BOTH, "NAMES utf8mb4"},
    {BOTH, "SESSION autocommit = 1"},
    {BOTH, "SESSION time_zone = '+00:00'"},
    {BOTH, "SESSION sql_mode = 'STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
           "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"},
    {BOTH, "SESSION completion_type = 0"}, /* CHAIN begins a transaction after each COMMIT */
    {BOTH, "SESSION sql_auto_is_null = 0"},
    {BOTH, "SESSION foreign_key_checks = 1"},
    {BOTH, "SESSION unique_checks = 1"}, /* 0 lets a duplicate into a secondary index */
    {MARIADB, "SESSION check_constraint_checks = 1"},
    {BOTH, "SESSION div_precision_increment = 4"},
    {BOTH, "SESSION group_concat_max_len = 1048576"},
    {BOTH, "SESSION sql_quote_show_create = 1"},
    {BOTH, "SESSION lc_messages = 'en_US'"}, /* one error is told from another by its text */
    {BOTH, "SESSION lc_time_names = 'en_US'"},
    /* Refusals: statements without a key, large joins, and result sets that end early in silence.
     */
    {BOTH, "SESSION sql_safe_updates = 0"},
    {BOTH, "SESSION sql_big_selects = 1"}, /* max_join_size does not count then */
    {BOTH, "SESSION sql_select_limit = 18446744073709551615"},
    /* A long IN list stays a list. */
    {MARIADB, "SESSION in_predicate_conversion_threshold = 1000"},
    /* Ends: what is to be bounded is bounded by the waits below and by the client's deadlines. */
    {MARIADB, "SESSION max_statement_time = 0"},
    {MYSQL_ONLY, "SESSION max_execution_time = 0"},
};

static bool has_setting(const struct db *db, enum server server)
{
    return server == BOTH || (server == MARIADB) == db->is_mariadb;
}

/* MariaDB has these variables under MySQL's names since 11.1, and may drop the old ones one day. */
static const char *transaction_prefix(const struct db *db)
{
    char *rest = NULL;
    const unsigned long major = strtoul(db->version, &rest, DECIMAL);
    const unsigned long minor = *rest == '.' ? strtoul(rest + 1, NULL, DECIMAL) : 0;

    return db->is_mariadb && (major < 11 || (major == 11 && minor < 1)) ? "tx" : "transaction";
}

static enum obx_code add_transaction(const struct db *db, struct obx_buf *sql)
{
    const char *prefix = transaction_prefix(db);
    char text[NUMBER_MAX];

    (void)snprintf(text, sizeof(text),
                   ", SESSION %s_isolation = 'READ-COMMITTED', SESSION %s_read_only = 0", prefix,
                   prefix);
    return buf_add_text(sql, text);
}

/*
 * How long the server waits for others on our behalf (lock_wait_timeout is for a table's
 * definition, by default a day or a year), and for us. A session ends soon after its owner stands
 * still, so that what it holds is free again: MariaDB can tell a session that is silent within a
 * transaction from an idle one, MySQL cannot. The two network times are for an owner that stops in
 * the middle of a request, or of an answer.
 */
static enum obx_code add_waits(const struct db *db, const struct db_opts *opts, struct obx_buf *sql)
{
    const unsigned lock_s = opts->lock_wait_s == 0 ? DEFAULT_LOCK_WAIT_S : opts->lock_wait_s;
    const unsigned default_s = db->is_mariadb ? DEFAULT_SILENT_S : DEFAULT_IDLE_S;
    const unsigned silent_s = opts->idle_s == 0 ? default_s : opts->idle_s;
    const unsigned idle_s = opts->idle_s == 0 && db->is_mariadb ? LONGEST_IDLE_S : silent_s;
    char text[2 * NUMBER_MAX];

    (void)snprintf(text, sizeof(text),
                   ", SESSION innodb_lock_wait_timeout = %u, SESSION lock_wait_timeout = %u, "
                   "SESSION wait_timeout = %u, SESSION net_read_timeout = %u, "
                   "SESSION net_write_timeout = %u",
                   lock_s, lock_s, idle_s, silent_s, silent_s);
    if (buf_add_text(sql, text) != OBX_OK)
        return OBX_E_NOMEM;
    if (!db->is_mariadb)
        return OBX_OK;
    /* The two finer ones would be preferred to it. */
    (void)snprintf(text, sizeof(text),
                   ", SESSION idle_transaction_timeout = %u, "
                   "SESSION idle_readonly_transaction_timeout = 0, "
                   "SESSION idle_write_transaction_timeout = 0",
                   silent_s);
    return buf_add_text(sql, text);
}

static enum obx_code build_set(const struct db *db, const struct db_opts *opts, struct obx_buf *sql)
{
    enum obx_code rc = buf_add_text(sql, "SET ");
    bool is_first = true;

    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]) && rc == OBX_OK; i++) {
        if (!has_setting(db, settings[i].server))
            continue;
        if (!is_first)
            rc = buf_add_text(sql, ", ");
        is_first = false;
        if (rc == OBX_OK)
            rc = buf_add_text(sql, settings[i].text);
    }
    if (rc == OBX_OK)
        rc = add_transaction(db, sql);
    return rc == OBX_OK ? add_waits(db, opts, sql) : rc;
}

static enum obx_code read_limits(struct db *db, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db, "SELECT @@max_allowed_packet", DB_NO_ARGS, &rows, err);

    if (rc != OBX_OK)
        return rc;
    if (db_rows_next(rows))
        db->max_packet = (size_t)db_rows_u64(rows, 0);
    db_rows_free(rows);
    return OBX_OK;
}

enum obx_code db_session_set(struct db *db, const struct db_opts *opts, struct obx_err *err)
{
    struct obx_buf sql = {0};
    enum obx_code rc = build_set(db, opts, &sql);

    if (rc == OBX_OK)
        rc = db_exec_text(db, (struct obx_bytes){sql.data, sql.len}, NULL, err);
    else
        rc = obx_fail(err, rc, "settings of the session");
    buf_fini(&sql);
    return rc == OBX_OK ? read_limits(db, err) : rc;
}
