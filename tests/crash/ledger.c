/*
 * The application's tables of the crash tests: see ledger.h. Called by the scene, by the audit and
 * by the audit's test.
 */
#include "crash/ledger.h"

#include "base/bytes.h"
#include "sql/schema.h"

static const char *const create_statements[] = {
    "DROP DATABASE IF EXISTS " LEDGER_PRODUCER_DB,
    "DROP DATABASE IF EXISTS " LEDGER_CONSUMER_DB,
    "CREATE DATABASE " LEDGER_PRODUCER_DB " CHARACTER SET utf8mb4",
    "CREATE DATABASE " LEDGER_CONSUMER_DB " CHARACTER SET utf8mb4",
    "CREATE TABLE " LEDGER_PRODUCER_DB ".orders ("
    "message_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY,"
    "okey VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL,"
    "key_seq BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE " LEDGER_PRODUCER_DB ".key_seq ("
    "okey VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY,"
    "last BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE " LEDGER_CONSUMER_DB ".applied ("
    "seq BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY,"
    "message_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,"
    "okey VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL,"
    "key_seq BIGINT UNSIGNED NOT NULL,"
    "KEY (message_id)) ENGINE=InnoDB",
};

static enum obx_code migrate(struct db *db, const char *use, enum schema_side side,
                             struct obx_err *err)
{
    enum obx_code rc = db_exec_text(db, bytes_of(use), NULL, err);

    return rc != OBX_OK ? rc : schema_migrate(db, side, NULL, NULL, err);
}

enum obx_code ledger_create(struct db *db, struct obx_err *err)
{
    const size_t count = sizeof(create_statements) / sizeof(create_statements[0]);
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; rc == OBX_OK && i < count; i++)
        rc = db_exec_text(db, bytes_of(create_statements[i]), NULL, err);
    if (rc == OBX_OK)
        rc = migrate(db, "USE " LEDGER_PRODUCER_DB, SCHEMA_PRODUCER, err);
    if (rc == OBX_OK)
        rc = migrate(db, "USE " LEDGER_CONSUMER_DB, SCHEMA_CONSUMER, err);
    for (uint64_t key = 0; rc == OBX_OK && key < LEDGER_KEYS; key++)
        rc = db_exec(db, "INSERT INTO " LEDGER_PRODUCER_DB ".key_seq VALUES (CONCAT('key-', ?), 0)",
                     DB_ARGS(DB_U64(key)), NULL, err);
    return rc;
}

enum obx_code ledger_number(struct db *db, const char *sql, uint64_t *out, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query_text(db, bytes_of(sql), &rows, err);

    *out = rc == OBX_OK && db_rows_next(rows) ? db_rows_u64(rows, 0) : 0;
    db_rows_free(rows);
    return rc;
}
