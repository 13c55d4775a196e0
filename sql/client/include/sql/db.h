/*
 * One connection to MySQL or MariaDB: the only place that knows mysql.h.
 *
 * Statements carry typed values for their `?` places (prepared once per connection, found again by
 * their text), results are kept whole on the client, every network wait has a deadline, and each
 * MySQL error number is mapped once to an enum obx_code (sql/client/src/db_errors.c). A connection
 * belongs to one thread at a time.
 *
 * Session after db_open: autocommit, READ COMMITTED, time_zone '+00:00', utf8mb4, strict sql_mode,
 * and the rest of the list in sql/client/src/db_session.c, whatever the server's defaults are
 * (proved by tests/system/server_settings_test.c); rows *matched* are reported for UPDATE (so that
 * zero means "not there", never "same value"). It ends soon after its owner stands still: see
 * idle_s.
 */
#ifndef SQL_DB_H
#define SQL_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "obx/bytes.h"
#include "obx/err.h"
#include "obx/value.h"

struct db;
struct db_rows;

/*
 * Besides what each says, a password never goes out in a form that somebody on the line could read:
 * over a line without verified TLS only methods that prove knowledge of it are used
 * (mysql_native_password, ed25519, ...); caching_sha2_password and sha256_password need the
 * loopback, a socket, or a verified certificate; clear text a socket or DB_TLS_VERIFY_FULL. A
 * server that asks for more is refused. Proved by tests/unit/db_hostile_test.c.
 */
enum db_tls {
    DB_TLS_PREFERRED, /* zero default: TLS when the server offers it, certificate not verified; fits
                         loopback and sockets */
    DB_TLS_DISABLED,
    DB_TLS_REQUIRED, /* TLS, or nothing is sent; certificate chain verified when tls_ca_file is set.
                        Keeps listeners out */
    DB_TLS_VERIFY_FULL /* chain and host name verified. Keeps out those who step between, too */
};

/** Defaults of db_opts. */
enum { DB_CONNECT_MS = 5000, DB_IO_MS = 30000, DB_LOCK_WAIT_S = 10 };

struct db_opts {
    const char *host; /* "db1" or "db1, db2:3307, [fd00::1]": the one of them that takes writes is
                                used; NULL with a unix_socket */
    uint16_t port;    /* of hosts that name none; 0: 3306 */
    const char *unix_socket; /* used when set and host is NULL or "localhost" */
    const char *user;
    const char *password;
    const char *database; /* NULL: none selected */
    uint32_t
        connect_timeout_ms; /* 0: DB_CONNECT_MS. The client libraries count whole seconds: rounded up */
    uint32_t read_timeout_ms;  /* 0: DB_IO_MS */
    uint32_t write_timeout_ms; /* 0: DB_IO_MS */
    uint32_t lock_wait_s;      /* innodb_lock_wait_timeout of the session; 0: DB_LOCK_WAIT_S */
    uint32_t idle_s; /* the server ends a session that is silent for longer, and undoes what it had
                        begun: wait_timeout and the network timeouts. 0: 15 within a transaction and
                        an hour outside; MySQL cannot tell them apart: 60 */
    bool any_server; /* a server that is read-only will do: for looking at it, never for work */
    enum db_tls tls;
    const char *tls_ca_file;
    const char *tls_cert_file;
    const char *tls_key_file;
    const char
        *program_name; /* shown in performance_schema / processlist attributes; NULL: "rowpost" */
};

/* Makers of a value for a `?`. Text and bodies are bytes; they are borrowed for the call. */
#define DB_NULL()   ((struct obx_value){.type = OBX_V_NULL})
#define DB_U64(x)   ((struct obx_value){.type = OBX_V_U64, .v.u64 = (x)})
#define DB_I64(x)   ((struct obx_value){.type = OBX_V_I64, .v.i64 = (x)})
#define DB_F64(x)   ((struct obx_value){.type = OBX_V_F64, .v.f64 = (x)})
#define DB_BYTES(b) (db_value_bytes(b)) /* NULL when the bytes are absent */
#define DB_TEXT(s)  (db_value_text(s))  /* NULL when s is NULL */
struct obx_value db_value_bytes(struct obx_bytes b);
struct obx_value db_value_text(const char *text);
/** An argument list: db_exec(db, sql, DB_ARGS(DB_U64(id), DB_TEXT(name)), NULL, err); DB_NO_ARGS
 * for none. */
#define DB_ARGS(...)                                                                               \
    (const struct obx_value[]){__VA_ARGS__},                                                       \
        sizeof((const struct obx_value[]){__VA_ARGS__}) / sizeof(struct obx_value)
#define DB_NO_ARGS NULL, 0

/**
 * Connect and set the session up. opts and what it points to are borrowed for the call.
 *
 * Success means a server that takes writes. One that is read-only (a replica, a primary that was
 * demoted) is left: at once when it says so, or at the first statement or transaction that begins half a
 * second after it has become so; then every call fails as on a lost connection, first with
 * OBX_E_DB_READ_ONLY. Of several hosts all are asked at once; one that is silent costs 0.2 s. Proved by
 * tests/system/db_failover_test.c.
 *
 * On failure *out is NULL. Blocks at most about connect_timeout + a few round trips. Any thread;
 * the connection then belongs to the thread that uses it.
 * @return OBX_OK; OBX_E_DB_CONNECT (unreachable, unknown database, no list of hosts, or two of them take
 * writes that are not one cluster), OBX_E_DB_READ_ONLY (nobody takes writes), OBX_E_DB_AUTH,
 * OBX_E_DB_TLS, OBX_E_TIMEOUT, OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code db_open(const struct db_opts *opts, struct db **out,
                                    struct obx_err *err);
/** Close at once; an open transaction is rolled back by the server. NULL is fine. */
void db_close(struct db *db);
/** Release what the client library keeps per thread; the last call of a thread that used a db. */
void db_thread_end(void);
/** The client library's own handle (MYSQL *), for handlers that run SQL of their own on it. Owned
 * by db. */
void *db_native(struct db *db);
/** "10.11.6-MariaDB" or "8.0.36". Owned by db. */
const char *db_server_version(const struct db *db);
bool db_server_is_mariadb(const struct db *db);
/** The server's connection id, for logs and KILL. */
uint64_t db_connection_id(const struct db *db);
/** What the server said last about an open transaction (SERVER_STATUS_IN_TRANS); no round trip. */
bool db_in_transaction(const struct db *db);
/** Statements that were run on it so far, BEGIN and COMMIT among them, failed ones too. */
uint64_t db_statements(const struct db *db);
/** The server's max_allowed_packet: no statement is larger. */
size_t db_max_packet(const struct db *db);
/** Whether an earlier call has found the connection lost; no round trip. */
bool db_is_lost(const struct db *db);
/** What a server is among others, as far as its variables say. */
struct db_role {
    bool is_read_only;
    bool has_log;          /* a binary log */
    bool is_galera;        /* wsrep_on */
    bool is_group;         /* MySQL's group replication */
    bool is_multi_primary; /* all members take writes: Galera, or a group that is set up so */
    bool is_semi_sync;     /* a COMMIT waits for a replica, if one is there */
    bool waits_after_sync; /* and nobody sees the transaction before */
    uint64_t semi_sync_ms; /* then it goes on without */
    char cluster[128];     /* name of the cluster or group; "" none */
    char identity[512];    /* the same for every address of one server */
};
/** Ask for it: one round trip. Any OBX_E_DB_*, OBX_E_TIMEOUT. */
OBX_NODISCARD enum obx_code db_ask_role(struct db *db, struct db_role *role, struct obx_err *err);
/** What a person should know of it before relying on a failover; NULL: nothing. has_several: hosts are
 * named, so there is one to fail over to. Static. */
const char *db_role_warning(const struct db_role *role, bool has_several);
/** A round trip that does nothing. */
OBX_NODISCARD enum obx_code db_ping(struct db *db, struct obx_err *err);

/**
 * Run one statement without a result set. affected (may be NULL) gets rows matched.
 * After OBX_E_DB_GONE / OBX_E_TIMEOUT the connection is dead: whether the statement took effect is
 * unknown; db_close it. After OBX_E_DB_LOCK_WAIT only the statement is undone, after
 * OBX_E_DB_DEADLOCK the transaction: db_rollback on both.
 * @return OBX_OK or any OBX_E_DB_*, OBX_E_TIMEOUT, OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code db_exec(struct db *db, const char *sql, const struct obx_value *args,
                                    size_t arg_count, uint64_t *affected, struct obx_err *err);
/** As db_exec, without preparing and without places: for built texts such as long IN lists, and for
 * DDL. */
OBX_NODISCARD enum obx_code db_exec_text(struct db *db, struct obx_bytes sql, uint64_t *affected,
                                         struct obx_err *err);
/** What one of several statements has given. */
struct db_step {
    struct db_rows *rows; /* of a statement with a result set, the caller's to free; else NULL */
    uint64_t affected;
};
/**
 * Run count statements, with ';' between them, in one round trip. The server stops at the first one
 * that fails: *done of them were run, and their steps are filled in, also on failure. Their values
 * must stand in the text by db_add_literal. Errors as db_exec, of the one that failed.
 */
OBX_NODISCARD enum obx_code db_run_steps(struct db *db, struct obx_bytes sql, struct db_step *steps,
                                         size_t count, size_t *done, struct obx_err *err);
/** Id given by AUTO_INCREMENT in the last statement. */
uint64_t db_insert_id(const struct db *db);

/**
 * Run one statement with a result set and keep it whole on the client. On success the caller owns
 * *rows (db_rows_free) and may run other statements meanwhile. On failure *rows is NULL. Errors as
 * db_exec.
 */
OBX_NODISCARD enum obx_code db_query(struct db *db, const char *sql, const struct obx_value *args,
                                     size_t arg_count, struct db_rows **rows, struct obx_err *err);
OBX_NODISCARD enum obx_code db_query_text(struct db *db, struct obx_bytes sql,
                                          struct db_rows **rows, struct obx_err *err);
/** Go to the next (first: the first) row; false after the last. */
bool db_rows_next(struct db_rows *rows);
size_t db_rows_count(const struct db_rows *rows);
/** Column of the current row, from 0. Bytes are borrowed until the next db_rows_next /
 * db_rows_free; absent for NULL. */
struct obx_bytes db_rows_bytes(const struct db_rows *rows, unsigned column);
/** As a number; 0 for NULL or for what is not a number. */
uint64_t db_rows_u64(const struct db_rows *rows, unsigned column);
int64_t db_rows_i64(const struct db_rows *rows, unsigned column);
bool db_rows_is_null(const struct db_rows *rows, unsigned column);
void db_rows_free(struct db_rows *rows);

OBX_NODISCARD enum obx_code db_begin(struct db *db, struct obx_err *err);
/**
 * COMMIT. OBX_E_DB_COMMIT_UNKNOWN: the connection was lost before the answer came, so the
 * transaction may or may not be there: look, do not guess; the connection is dead. Any other error:
 * the transaction is not committed.
 */
OBX_NODISCARD enum obx_code db_commit(struct db *db, struct obx_err *err);
/** ROLLBACK. On failure the connection is of no more use (the server rolls back when it closes). */
enum obx_code db_rollback(struct db *db, struct obx_err *err);

/** Append `name` as an identifier in backquotes, quotes inside doubled. A failure sticks to buf. */
struct obx_buf;
enum obx_code db_add_identifier(struct obx_buf *buf, const char *name);
/** Append a string literal, escaped for this connection. A failure sticks to buf. */
enum obx_code db_add_literal(struct db *db, struct obx_buf *buf, struct obx_bytes text);
/** The same as one more item of a list: after a comma, unless the list is empty. */
enum obx_code db_add_to_list(struct db *db, struct obx_buf *list, struct obx_bytes text);

#endif
