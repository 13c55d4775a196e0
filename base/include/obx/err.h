/*
 * The one error type of Rowpost.
 *
 * Every call that can fail returns an enum obx_code and takes a struct obx_err * as its last
 * argument, owned by the caller, which may be NULL. Codes, texts and what to do about each come
 * from one list, OBX_CODES; callers branch on the action, not on forty codes. No heap, no
 * thread-local state. Proved by tests/unit/err_test.c.
 */
#ifndef OBX_ERR_H
#define OBX_ERR_H

#include <stdarg.h>

#include "obx/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What a caller does about an error. */
enum obx_action {
    OBX_DO_NOTHING,   /**< success, or an answer rather than a failure */
    OBX_DO_RETRY,     /**< the same unit of work again, after a backoff; the connection is sound */
    OBX_DO_RECONNECT, /**< close the connection, open another one, then the same unit of work again
                       */
    OBX_DO_PARK, /**< this message will not succeed by being tried again: park it with the text as
                    reason */
    OBX_DO_STOP  /**< a person has to fix something: configuration, grants, schema, a programming
                    error */
};

/* code, value, action, text. Values are stable: they appear in logs and in the parked table. */
#define OBX_CODES(X)                                                                               \
    X(OBX_OK, 0, OBX_DO_NOTHING, "success")                                                        \
    X(OBX_E_NOMEM, 1, OBX_DO_RETRY, "out of memory")                                               \
    X(OBX_E_INVALID, 2, OBX_DO_STOP, "invalid argument")                                           \
    X(OBX_E_SYSTEM, 3, OBX_DO_RETRY, "operating system call failed")                               \
    X(OBX_E_TIMEOUT, 4, OBX_DO_RETRY, "deadline passed")                                           \
    X(OBX_E_CLOSED, 5, OBX_DO_STOP, "already closed or closing")                                   \
    X(OBX_E_FULL, 6, OBX_DO_RETRY, "no room left for now")                                         \
    X(OBX_E_NOT_FOUND, 7, OBX_DO_NOTHING, "not found")                                             \
    X(OBX_E_FORMAT, 8, OBX_DO_PARK, "malformed data")                                              \
    X(OBX_E_TOO_LARGE, 9, OBX_DO_PARK, "larger than the limit")                                    \
    X(OBX_E_CONFLICT, 10, OBX_DO_NOTHING, "already decided otherwise")                             \
    X(OBX_E_CONFIG, 101, OBX_DO_STOP, "invalid configuration")                                     \
    X(OBX_E_DB_CONNECT, 201, OBX_DO_RECONNECT, "cannot connect to the database")                   \
    X(OBX_E_DB_GONE, 202, OBX_DO_RECONNECT, "database connection lost")                            \
    X(OBX_E_DB_AUTH, 203, OBX_DO_RECONNECT, "database refused user or password")                   \
    X(OBX_E_DB_DENIED, 204, OBX_DO_STOP, "database privilege missing")                             \
    X(OBX_E_DB_READ_ONLY, 205, OBX_DO_RECONNECT, "database is read-only (not the primary?)")       \
    X(OBX_E_DB_DEADLOCK, 206, OBX_DO_RETRY, "deadlock, transaction undone")                        \
    X(OBX_E_DB_LOCK_WAIT, 207, OBX_DO_RETRY, "lock wait timeout, statement undone")                \
    X(OBX_E_DB_DUPLICATE, 208, OBX_DO_NOTHING, "duplicate key")                                    \
    X(OBX_E_DB_NO_TABLE, 209, OBX_DO_STOP, "table or column missing")                              \
    X(OBX_E_DB_SCHEMA, 210, OBX_DO_STOP, "schema version does not fit this program")               \
    X(OBX_E_DB_DATA, 211, OBX_DO_PARK, "value does not fit its column")                            \
    X(OBX_E_DB_NO_SAVEPOINT, 212, OBX_DO_NOTHING, "savepoint does not exist")                      \
    X(OBX_E_DB_FULL, 213, OBX_DO_RETRY, "database has no room left")                               \
    X(OBX_E_DB_QUERY, 214, OBX_DO_STOP, "statement failed")                                        \
    X(OBX_E_DB_COMMIT_UNKNOWN, 215, OBX_DO_RECONNECT, "connection lost during COMMIT")             \
    X(OBX_E_DB_TLS, 216, OBX_DO_RECONNECT, "TLS with the database failed")                         \
    X(OBX_E_LEASE_LOST, 251, OBX_DO_NOTHING, "lease is another owner's")                           \
    X(OBX_E_MQ_CONNECT, 301, OBX_DO_RECONNECT, "cannot connect to the broker")                     \
    X(OBX_E_MQ_GONE, 302, OBX_DO_RECONNECT, "broker connection lost")                              \
    X(OBX_E_MQ_AUTH, 303, OBX_DO_RECONNECT, "broker refused user, password or virtual host")       \
    X(OBX_E_MQ_TLS, 304, OBX_DO_RECONNECT, "TLS with the broker failed")                           \
    X(OBX_E_MQ_CHANNEL, 305, OBX_DO_RECONNECT, "broker closed the channel")                        \
    X(OBX_E_MQ_BLOCKED, 306, OBX_DO_RETRY, "broker has blocked publishers (alarm)")                \
    X(OBX_E_MQ_NACKED, 307, OBX_DO_RETRY, "broker refused the message")                            \
    X(OBX_E_MQ_UNROUTABLE, 308, OBX_DO_RETRY, "no queue is bound for the routing key")             \
    X(OBX_E_MQ_TOPOLOGY, 309, OBX_DO_STOP, "exchange, queue or binding differs or is missing")     \
    X(OBX_E_MQ_DENIED, 310, OBX_DO_STOP, "broker permission missing")                              \
    X(OBX_E_MQ_CANCELLED, 311, OBX_DO_RECONNECT, "broker cancelled the consumer")                  \
    X(OBX_E_MQ_PROTOCOL, 312, OBX_DO_RECONNECT, "unexpected answer from the broker")               \
    X(OBX_E_TX_BROKEN, 401, OBX_DO_PARK, "handler ended the transaction it was given")             \
    X(OBX_E_HANDLER, 402, OBX_DO_RETRY, "handler asked for a retry")                               \
    X(OBX_E_REJECTED, 403, OBX_DO_PARK, "handler rejected the message")

enum obx_code {
#define OBX_X(name, value, action, text) name = (value),
    OBX_CODES(OBX_X)
#undef OBX_X
};

/** Room for one sentence with its context; longer texts are cut, never overrun. */
#define OBX_ERR_TEXT_MAX 256

struct obx_err {
    enum obx_code code;
    int sys; /**< errno, MySQL error number or AMQP reply code that caused it; 0 if none */
    char text[OBX_ERR_TEXT_MAX];
};

/** The list's text for a code; "unknown error" for a value outside the list. Any thread. Never
 * NULL. */
OBX_API const char *obx_code_text(enum obx_code code);

/** The code's own name, "OBX_E_DB_GONE", for logs and the parked table. Any thread. Never NULL. */
OBX_API const char *obx_code_name(enum obx_code code);

/** What to do about a code; OBX_DO_STOP for a value outside the list. Any thread. */
OBX_API enum obx_action obx_code_action(enum obx_code code);

/**
 * Fill err (which may be NULL) with code and "<the code's text>: <formatted context>", and return
 * code, so that a failing function can end with `return obx_fail(err, OBX_E_NOMEM, "batch of %zu
 * rows", n);`. Any thread.
 */
OBX_API enum obx_code obx_fail(struct obx_err *err, enum obx_code code, const char *fmt, ...)
    OBX_PRINTF(3, 4);

/** As obx_fail, and records the foreign error number (errno, MySQL, AMQP) in err->sys. Any thread.
 */
OBX_API enum obx_code obx_fail_sys(struct obx_err *err, enum obx_code code, int sys,
                                   const char *fmt, ...) OBX_PRINTF(4, 5);

/** Put "<formatted context>: " before the text that err already has; for a caller that knows more.
 * err may be NULL. */
OBX_API void obx_err_context(struct obx_err *err, const char *fmt, ...) OBX_PRINTF(2, 3);

/** Back to OBX_OK with an empty text. err may be NULL. */
OBX_API void obx_err_clear(struct obx_err *err);

#ifdef __cplusplus
}
#endif

#endif
