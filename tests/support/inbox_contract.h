/*
 * A worker of an inbox by the statements of sql/inbox/statements.sql, as they stand. For tests and
 * the benchmark; belongs to the thread that uses the connection.
 */
#ifndef OBX_INBOX_CONTRACT_H
#define OBX_INBOX_CONTRACT_H

#include "sql/db.h"

enum inbox_statement {
    INBOX_TAKE,
    INBOX_NEXT,
    INBOX_DONE,
    INBOX_FOLLOWING,
    INBOX_RETRY,
    INBOX_REJECT,
    INBOX_FAILED,
    INBOX_COUNT,
    INBOX_COUNTED,
    INBOX_PAYLOAD,
    INBOX_REPLAY,
    INBOX_DISCARD,
    INBOX_STATEMENTS
};

/** The statement's name in the file. */
const char *inbox_statement_name(enum inbox_statement statement);
/** Its text; read once, from any thread. Exits with a line on stderr when the file lacks it. */
const char *inbox_statement_text(enum inbox_statement statement);

enum { INBOX_HASH = 16, INBOX_KEY_MAX = 1020, INBOX_ID_MAX = 255, INBOX_DUE_MAX = 26 };
struct inbox_taken {
    uint64_t id;
    uint64_t attempt;
    uint64_t size;
    bool has_key;
    bool has_payload;
    unsigned char hash[INBOX_HASH];
    char message_id[INBOX_ID_MAX + 1];
    char key[INBOX_KEY_MAX + 1];
    char payload[256]; /* its beginning */
    char due[INBOX_DUE_MAX + 1];
};

/** Where a worker's takes begin, by the rule of docs/inbox.md: at the row that it took last, and at a
 * twentieth of its time at the start. Zero-initialise; one for each worker and queue. */
struct inbox_from {
    char due[INBOX_DUE_MAX + 1];
    uint64_t back_us; /* when to begin at the start again */
};

/** *found false: nothing to take. The transaction is the caller's. from NULL: from the start. */
OBX_NODISCARD enum obx_code inbox_take(struct db *db, const char *queue, struct inbox_from *from,
                                       struct inbox_taken *taken, bool *found, struct obx_err *err);
/** next and done; *successor (may be NULL) 0: none. OBX_E_CONFLICT: the row is not ours. */
OBX_NODISCARD enum obx_code inbox_done(struct db *db, const char *queue,
                                       const struct inbox_taken *taken, uint64_t *successor,
                                       struct obx_err *err);
/** What next has found, within the same transaction. */
OBX_NODISCARD enum obx_code inbox_following(struct db *db, uint64_t id, struct inbox_taken *taken,
                                            struct obx_err *err);
/** delay_ms below 0: by the backoff. OBX_E_CONFLICT: the row is not ours. */
OBX_NODISCARD enum obx_code inbox_retry(struct db *db, const struct inbox_taken *taken,
                                        int64_t delay_ms, const char *reason, struct obx_err *err);
OBX_NODISCARD enum obx_code inbox_reject(struct db *db, const struct inbox_taken *taken,
                                         const char *reason, struct obx_err *err);

#endif
