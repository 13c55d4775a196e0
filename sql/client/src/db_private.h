/* What the files of sql/client share: the connection, its statement cache and the building of
 * results. */
#ifndef SQL_DB_PRIVATE_H
#define SQL_DB_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "db_mysql.h"
#include "sql/db.h"

enum {
    DB_STMT_CACHE_MAX = 64, /* prepared statements kept open per connection */
    DB_VERSION_MAX = 64,
    DB_MS_PER_S = 1000,
};

struct db_stmt;

struct db {
    MYSQL *mysql;
    /* Set when the connection was lost: from then on nothing is sent and every call fails with
     * OBX_E_DB_GONE. */
    bool dead;
    bool is_mariadb;
    bool takes_any_server;    /* a replica will do */
    uint64_t primary_seen_ms; /* when it said last that it takes writes */
    char version[DB_VERSION_MAX];
    uint64_t connection_id;
    uint64_t insert_id; /* of the last statement, as `affected` */
    uint64_t affected;
    bool takes_many;          /* several statements at once */
    uint64_t statements;      /* run by its user */
    size_t max_packet;        /* the server's max_allowed_packet */
    uint32_t read_timeout_ms; /* as the client library has it, in whole seconds */
    struct db_stmt *stmts[DB_STMT_CACHE_MAX];
    size_t stmt_count;
    uint64_t stmt_clock; /* counts uses, so that the least recently used statement is known */
};

/* ---- db_open.c ---- */

/** A time of struct db_opts (0: the default) as the client libraries count: whole seconds, rounded
 * up. */
unsigned db_whole_seconds(uint32_t ms, uint32_t default_ms);

/* ---- db.c ---- */

/** Refuse work on a lost connection, and texts or values that the server would answer by closing
 * the connection. */
OBX_NODISCARD enum obx_code db_ready(const struct db *db, size_t request_len, struct obx_err *err);
/**
 * Turn the number and text of a failed call into a code, and latch `dead` when the connection went
 * with it. started_ms: when the call began (clock_now_ms), to tell a deadline that passed from a
 * connection that was cut.
 */
enum obx_code db_failed(struct db *db, unsigned number, const char *text, uint64_t started_ms,
                        struct obx_err *err);
/** The same for the last call on the connection itself. */
enum obx_code db_failed_last(struct db *db, uint64_t started_ms, struct obx_err *err);

/* ---- db_text.c: statements without places ---- */

/** Run text and set db->affected. rows NULL: result sets are dropped; else *rows gets the first
 * one. */
OBX_NODISCARD enum obx_code db_text_run(struct db *db, struct obx_bytes sql, struct db_rows **rows,
                                        struct obx_err *err);

/** As db_run_steps. */
OBX_NODISCARD enum obx_code db_text_run_steps(struct db *db, struct obx_bytes sql,
                                              struct db_step *steps, size_t count, size_t *done,
                                              struct obx_err *err);

/* ---- db_stmt.c: prepared statements ---- */

/** A statement with values for its places. */
struct db_call {
    const char *sql;
    const struct obx_value *args;
    size_t arg_count;
    uint64_t started_ms; /* set by db_stmt_run */
};
/** As db_text_run. */
OBX_NODISCARD enum obx_code db_stmt_run(struct db *db, struct db_call *call, struct db_rows **rows,
                                        struct obx_err *err);
/** Close all; on a lost connection this only frees. */
void db_stmts_close(struct db *db);

/* ---- db_rows.c ---- */

/** An empty result of so many columns; NULL when out of memory. */
struct db_rows *db_rows_create(unsigned columns);
/** Append one row from a text result. */
OBX_NODISCARD bool db_rows_add_text(struct db_rows *rows, MYSQL_ROW row,
                                    const unsigned long *lengths);
/**
 * Append a row whose columns have these lengths (DB_LEN_NULL for NULL), bytes to be filled in by
 * the caller through db_rows_slot. NULL lengths are not allowed. False when out of memory; then
 * nothing was appended.
 */
OBX_NODISCARD bool db_rows_add(struct db_rows *rows, const uint64_t *lengths);
/** Where the bytes of one column of the row added last belong. Walk the columns in order: *at
 * starts at 0. */
char *db_rows_slot(struct db_rows *rows, const uint64_t *lengths, unsigned column, size_t *at);
#define DB_LEN_NULL UINT64_MAX

/** What says that a server takes no writes; the second is that of Aurora's readers, and of a server
 * started so. On MySQL super_read_only brings read_only with it. */
#define DB_READ_ONLY_COLUMNS "@@global.read_only, @@global.innodb_read_only"

#endif
