/*
 * Opening and closing of a connection: the client library's options (the two libraries name TLS
 * differently), the deadlines, and the session that db.h promises, in two round trips behind the
 * login. Called by whoever needs a database.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "db_errors.h"
#include "db_pipe.h"
#include "db_private.h"

enum {
    DEFAULT_PORT = 3306,
    DEFAULT_CONNECT_MS = 5000,
    DEFAULT_IO_MS = 30000,
    DEFAULT_LOCK_WAIT_S = 10,
    MS_PER_S = 1000,
    CLIENT_PACKET_MAX =
        1
        << 30, /* the protocol's own limit: the server's is asked for and is the one that counts */
    DECIMAL = 10,
    SET_TEXT_MAX = 1024,
    IDLE_TEXT_MAX = 48,
};

static const char *none_if_empty(const char *text)
{
    return text != NULL && *text != '\0' ? text : NULL;
}

static unsigned whole_seconds(uint32_t ms, uint32_t default_ms)
{
    const uint32_t wanted = ms == 0 ? default_ms : ms;

    return wanted / MS_PER_S + (wanted % MS_PER_S != 0);
}

static void library_init(void)
{
    (void)mysql_library_init(0, NULL, NULL);
}

static void set_timeouts(MYSQL *mysql, const struct db_opts *opts)
{
    const unsigned connect_s = whole_seconds(opts->connect_timeout_ms, DEFAULT_CONNECT_MS);
    const unsigned read_s = whole_seconds(opts->read_timeout_ms, DEFAULT_IO_MS);
    const unsigned write_s = whole_seconds(opts->write_timeout_ms, DEFAULT_IO_MS);

    mysql_options(mysql, MYSQL_OPT_CONNECT_TIMEOUT, &connect_s);
    mysql_options(mysql, MYSQL_OPT_READ_TIMEOUT, &read_s);
    mysql_options(mysql, MYSQL_OPT_WRITE_TIMEOUT, &write_s);
}

static void set_tls_files(MYSQL *mysql, const struct db_opts *opts)
{
    if (none_if_empty(opts->tls_ca_file) != NULL)
        mysql_options(mysql, MYSQL_OPT_SSL_CA, opts->tls_ca_file);
    if (none_if_empty(opts->tls_cert_file) != NULL)
        mysql_options(mysql, MYSQL_OPT_SSL_CERT, opts->tls_cert_file);
    if (none_if_empty(opts->tls_key_file) != NULL)
        mysql_options(mysql, MYSQL_OPT_SSL_KEY, opts->tls_key_file);
}

#if DB_CLIENT_IS_MARIADB
/* With a CA file the library verifies the chain; the host name only when told to. Enforcing is
 * checked after the login. */
static void set_tls(MYSQL *mysql, const struct db_opts *opts)
{
    const db_bool use = (db_bool)(opts->tls != DB_TLS_DISABLED);
    const db_bool verify = (db_bool)(opts->tls == DB_TLS_VERIFY_FULL);

    if (opts->tls == DB_TLS_REQUIRED || opts->tls == DB_TLS_VERIFY_FULL)
        set_tls_files(mysql, opts);
    mysql_options(mysql, MYSQL_OPT_SSL_ENFORCE, &use);
    mysql_options(mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
}
#else
static unsigned tls_mode(const struct db_opts *opts)
{
    switch (opts->tls) {
    case DB_TLS_DISABLED:
        return SSL_MODE_DISABLED;
    case DB_TLS_REQUIRED:
        return none_if_empty(opts->tls_ca_file) != NULL ? SSL_MODE_VERIFY_CA : SSL_MODE_REQUIRED;
    case DB_TLS_VERIFY_FULL:
        return SSL_MODE_VERIFY_IDENTITY;
    case DB_TLS_PREFERRED:
        break;
    }
    return SSL_MODE_PREFERRED;
}

static void set_tls(MYSQL *mysql, const struct db_opts *opts)
{
    const unsigned mode = tls_mode(opts);
    /* Without TLS caching_sha2_password sends the password under the server's own key, which has to
     * be fetched. */
    const db_bool get_key = mode == SSL_MODE_DISABLED;

    if (opts->tls == DB_TLS_REQUIRED || opts->tls == DB_TLS_VERIFY_FULL)
        set_tls_files(mysql, opts);
    mysql_options(mysql, MYSQL_OPT_SSL_MODE, &mode);
    mysql_options(mysql, MYSQL_OPT_GET_SERVER_PUBLIC_KEY, &get_key);
}
#endif

/*
 * A server, or whoever plays one, may ask for the password in clear text, and MariaDB's library
 * gives it even without TLS. Ours goes out so only where nobody can listen or step between.
 */
static void set_password_rules(MYSQL *mysql, bool is_safe)
{
#if !DB_CLIENT_IS_MARIADB
    const db_bool clear = is_safe;

    mysql_options(mysql, MYSQL_ENABLE_CLEARTEXT_PLUGIN, &clear);
#elif MARIADB_PACKAGE_VERSION_ID >= 30300
    if (!is_safe)
        mysql_options(mysql, MARIADB_OPT_RESTRICTED_AUTH,
                      "mysql_native_password,client_ed25519,parsec,caching_sha2_password,"
                      "sha256_password,auth_gssapi_client");
#else
    (void)mysql;
    (void)is_safe;
#endif
}

static void set_options(MYSQL *mysql, const struct db_opts *opts, bool use_socket)
{
    const unsigned protocol = use_socket ? MYSQL_PROTOCOL_SOCKET : MYSQL_PROTOCOL_TCP;
    const unsigned no = 0;
    const unsigned long packet_max = CLIENT_PACKET_MAX;
    const char *program = none_if_empty(opts->program_name);

    set_timeouts(mysql, opts);
    set_tls(mysql, opts);
    set_password_rules(mysql, use_socket || opts->tls == DB_TLS_VERIFY_FULL);
    /* Without this the libraries take "localhost" for a socket of their own choice. */
    mysql_options(mysql, MYSQL_OPT_PROTOCOL, &protocol);
    mysql_options(mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    mysql_options(mysql, MYSQL_OPT_MAX_ALLOWED_PACKET, &packet_max);
    /* Else a server could ask for the files of this machine. */
    mysql_options(mysql, MYSQL_OPT_LOCAL_INFILE, &no);
    mysql_options4(mysql, MYSQL_OPT_CONNECT_ATTR_ADD, "program_name",
                   program == NULL ? "oncebox" : program);
}

/* While connecting, what a statement would call a missing table is a wrong option, and so on. */
static enum obx_code connect_code(enum obx_code code)
{
    switch ((int)code) {
    case OBX_E_DB_AUTH:
    case OBX_E_DB_TLS:
    case OBX_E_TIMEOUT:
    case OBX_E_NOMEM:
        return code;
    case OBX_E_DB_DENIED:
        return OBX_E_DB_AUTH;
    default:
        return OBX_E_DB_CONNECT;
    }
}

static enum obx_code connect_failed(struct db *db, const struct db_opts *opts, uint64_t started_ms,
                                    struct obx_err *err)
{
    const unsigned number = mysql_errno(db->mysql);
    const uint64_t limit_ms =
        (uint64_t)MS_PER_S * whole_seconds(opts->connect_timeout_ms, DEFAULT_CONNECT_MS);
    enum obx_code code = connect_code(db_code_of(number, mysql_error(db->mysql)));

    if (code == OBX_E_DB_CONNECT && clock_now_ms() - started_ms >= limit_ms)
        code = OBX_E_TIMEOUT;
    return obx_fail_sys(err, code, (int)number, "%s (%u)", mysql_error(db->mysql), number);
}

static enum obx_code log_in(struct db *db, const struct db_opts *opts, struct obx_err *err)
{
    const uint64_t started_ms = clock_now_ms();
    const char *host = none_if_empty(opts->host);
    const char *unix_socket = none_if_empty(opts->unix_socket);
    const bool use_socket = unix_socket != NULL && (host == NULL || strcmp(host, "localhost") == 0);

    set_options(db->mysql, opts, use_socket);
    if (host == NULL)
        host = use_socket ? "localhost" : "127.0.0.1";
    if (mysql_real_connect(db->mysql, host, none_if_empty(opts->user),
                           none_if_empty(opts->password), none_if_empty(opts->database),
                           opts->port == 0 ? DEFAULT_PORT : opts->port,
                           use_socket ? unix_socket : NULL, CLIENT_FOUND_ROWS) == NULL)
        return connect_failed(db, opts, started_ms, err);
    if ((opts->tls == DB_TLS_REQUIRED || opts->tls == DB_TLS_VERIFY_FULL) &&
        mysql_get_ssl_cipher(db->mysql) == NULL)
        return obx_fail(err, OBX_E_DB_TLS, "the server does not offer TLS, and tls is required");
    return OBX_OK;
}

/* MariaDB puts "5.5.5-" before its version for old replicas; its own library takes that off,
 * Oracle's does not. */
static void read_version(struct db *db)
{
    static const char disguise[] = "5.5.5-";
    const char *version = mysql_get_server_info(db->mysql);

    db->is_mariadb = strstr(version, "MariaDB") != NULL;
    if (db->is_mariadb && strncmp(version, disguise, sizeof(disguise) - 1) == 0)
        version += sizeof(disguise) - 1;
    (void)snprintf(db->version, sizeof(db->version), "%s", version);
    db->connection_id = mysql_thread_id(db->mysql);
}

/* MariaDB has the isolation level's variable under MySQL's name since 11.1, and may drop the old
 * name one day. */
static const char *isolation_variable(const struct db *db)
{
    char *rest = NULL;
    const unsigned long major = strtoul(db->version, &rest, DECIMAL);
    const unsigned long minor = *rest == '.' ? strtoul(rest + 1, NULL, DECIMAL) : 0;

    return db->is_mariadb && (major < 11 || (major == 11 && minor < 1)) ? "tx_isolation"
                                                                        : "transaction_isolation";
}

/*
 * One SET for the whole session. The sql_mode is replaced and not added to, so that whatever the
 * server's default is (ANSI_QUOTES, NO_BACKSLASH_ESCAPES, PAD_CHAR_TO_FULL_LENGTH, ...) our
 * statements and a handler's mean the same everywhere. lock_wait_timeout is the wait for a table's
 * definition, by default a day or a year.
 */
static enum obx_code set_session(struct db *db, const struct db_opts *opts, struct obx_err *err)
{
    const unsigned lock_wait_s = opts->lock_wait_s == 0 ? DEFAULT_LOCK_WAIT_S : opts->lock_wait_s;
    char sql[SET_TEXT_MAX];
    char idle[IDLE_TEXT_MAX] = "";

    if (opts->idle_s > 0)
        (void)snprintf(idle, sizeof(idle), ", SESSION wait_timeout = %u", opts->idle_s);
    (void)snprintf(sql, sizeof(sql),
                   "SET NAMES utf8mb4, SESSION autocommit = 1, SESSION %s = 'READ-COMMITTED', "
                   "SESSION time_zone = '+00:00', SESSION sql_mode = "
                   "'STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
                   "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', "
                   "SESSION innodb_lock_wait_timeout = %u, SESSION lock_wait_timeout = %u%s",
                   isolation_variable(db), lock_wait_s, lock_wait_s, idle);
    return db_exec(db, sql, DB_NO_ARGS, NULL, err);
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

static enum obx_code set_up(struct db *db, const struct db_opts *opts, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    read_version(db);
    db->read_timeout_ms = MS_PER_S * whole_seconds(opts->read_timeout_ms, DEFAULT_IO_MS);
    rc = set_session(db, opts, err);
    if (rc == OBX_OK)
        rc = read_limits(db, err);
    if (rc == OBX_OK)
        return OBX_OK;
    rc = connect_code(rc);
    if (err != NULL)
        err->code = rc;
    obx_err_context(err, "setting the session up");
    return rc;
}

enum obx_code db_open(const struct db_opts *opts, struct db **out, struct obx_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct db_pipe_guard guard;
    enum obx_code rc = OBX_OK;
    struct db *db = obx_calloc(1, sizeof(*db));

    *out = NULL;
    if (db == NULL)
        return obx_fail(err, OBX_E_NOMEM, "database connection");
    pthread_once(&once, library_init);
    db_pipe_enter(&guard);
    db->mysql = mysql_init(NULL);
    rc = db->mysql == NULL ? obx_fail(err, OBX_E_NOMEM, "database connection")
                           : log_in(db, opts, err);
    db_pipe_leave(&guard);
    if (rc == OBX_OK)
        rc = set_up(db, opts, err);
    if (rc == OBX_OK) {
        *out = db;
        db = NULL; /* moved to the caller */
    }
    db_close(db);
    return rc;
}

void db_close(struct db *db)
{
    struct db_pipe_guard guard;

    if (db == NULL)
        return;
    db_pipe_enter(&guard);
    /* The connection first: the server frees its statements with it, so closing them sends nothing.
     */
    if (db->mysql != NULL)
        mysql_close(db->mysql);
    db_pipe_leave(&guard);
    db_stmts_close(db);
    obx_free(db);
}

void db_thread_end(void)
{
    mysql_thread_end();
}

void *db_native(struct db *db)
{
    return db->mysql;
}

const char *db_server_version(const struct db *db)
{
    return db->version;
}

bool db_server_is_mariadb(const struct db *db)
{
    return db->is_mariadb;
}

uint64_t db_connection_id(const struct db *db)
{
    return db->connection_id;
}
