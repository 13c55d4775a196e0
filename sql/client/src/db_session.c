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

#include <stdlib.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "db_primary.h"

enum {
    DEFAULT_SILENT_S = 15, /* within a transaction */
    DEFAULT_IDLE_S = 60,   /* where the server does not know the difference */
    LONGEST_IDLE_S = 3600, /* outside of one */
    DECIMAL = 10,
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
    {BOTH, "SESSION lc_messages = 'en_US'"}, /* some errors differ by their text only */
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

/* MariaDB has these variables under MySQL's names since 11.1, and may drop the old ones one day. */
static const char *transaction_prefix(const struct db *db)
{
    char *rest = NULL;
    const unsigned long major = strtoul(db->version, &rest, DECIMAL);
    const unsigned long minor = *rest == '.' ? strtoul(rest + 1, NULL, DECIMAL) : 0;

    return db->is_mariadb && (major < 11 || (major == 11 && minor < 1)) ? "tx" : "transaction";
}

/*
 * How long the server waits for others on our behalf (lock_wait_timeout is for a table's
 * definition, by default a day or a year), and for us. A session ends soon after its owner stands
 * still, so that what it holds is free again: MariaDB knows a session that is silent within a
 * transaction from an idle one, MySQL does not. The two network times are for an owner that stops in
 * the middle of a request, or of an answer.
 */
static enum obx_code add_waits(const struct db *db, const struct db_opts *opts, struct obx_buf *sql)
{
    const unsigned lock_s = opts->lock_wait_s == 0 ? DB_LOCK_WAIT_S : opts->lock_wait_s;
    const unsigned default_s = db->is_mariadb ? DEFAULT_SILENT_S : DEFAULT_IDLE_S;
    const unsigned silent_s = opts->idle_s == 0 ? default_s : opts->idle_s;
    const unsigned idle_s = opts->idle_s == 0 && db->is_mariadb ? LONGEST_IDLE_S : silent_s;

    buf_addf(sql,
             ", SESSION innodb_lock_wait_timeout = %u, SESSION lock_wait_timeout = %u, "
             "SESSION wait_timeout = %u, SESSION net_read_timeout = %u, "
             "SESSION net_write_timeout = %u",
             lock_s, lock_s, idle_s, silent_s, silent_s);
    if (db->is_mariadb) /* the two finer ones would be preferred to it */
        buf_addf(sql,
                 ", SESSION idle_transaction_timeout = %u, "
                 "SESSION idle_readonly_transaction_timeout = 0, "
                 "SESSION idle_write_transaction_timeout = 0",
                 silent_s);
    return sql->rc;
}

static enum obx_code build_set(const struct db *db, const struct db_opts *opts, struct obx_buf *sql)
{
    const char *prefix = transaction_prefix(db);
    const char *comma = "SET ";

    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        const enum server server = settings[i].server;

        if (server != BOTH && (server == MARIADB) != db->is_mariadb)
            continue;
        buf_addf(sql, "%s%s", comma, settings[i].text);
        comma = ", ";
    }
    buf_addf(sql, ", SESSION %s_isolation = 'READ-COMMITTED', SESSION %s_read_only = 0", prefix,
             prefix);
    return add_waits(db, opts, sql);
}

/* The answer also says whether this is the primary, so that asking costs no round trip. */
static enum obx_code read_limits(struct db *db, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    bool is_read_only = false;
    enum obx_code rc = db_query(db, "SELECT " DB_READ_ONLY_COLUMNS ", @@max_allowed_packet",
                                DB_NO_ARGS, &rows, err);

    if (rc != OBX_OK)
        return rc;
    if (db_rows_next(rows)) {
        is_read_only =
            db_value_is_on(db_rows_bytes(rows, 0)) || db_value_is_on(db_rows_bytes(rows, 1));
        db->max_packet = (size_t)db_rows_u64(rows, 2);
    }
    db_rows_free(rows);
    if (is_read_only && !db->takes_any_server)
        return obx_fail(err, OBX_E_DB_READ_ONLY, "the server takes no writes");
    return OBX_OK;
}

enum obx_code db_session_set(struct db *db, const struct db_opts *opts, struct obx_err *err)
{
    struct obx_buf sql = {0};
    enum obx_code rc = build_set(db, opts, &sql);

    db->takes_any_server = opts->any_server;
    db->primary_seen_ms = clock_now_ms(); /* before the answer, so that it is never too young */

    if (rc == OBX_OK)
        rc = db_exec_text(db, (struct obx_bytes){sql.data, sql.len}, NULL, err);
    else
        rc = obx_fail(err, rc, "settings of the session");
    buf_fini(&sql);
    return rc == OBX_OK ? read_limits(db, err) : rc;
}
