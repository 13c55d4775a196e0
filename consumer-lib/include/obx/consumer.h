/*
 * Rowpost consumer library: applies each message exactly once.
 *
 * The handler's writes and the dedup row of (consumer group, message id) commit in one transaction;
 * the message is acknowledged after that commit and never before. Whatever is redelivered, replayed
 * or published twice, and whatever dies when, one message takes effect once per group. What a
 * handler does outside its transaction (a mail, a remote call) is not covered by that promise: it
 * can happen more than once.
 *
 * A consumer in five steps; examples/ has whole programs:
 *
 * - fill a struct obx_consumer_opts: size, group, queue, the broker, the database;
 * - obx_consumer_open() makes a consumer of it;
 * - obx_consumer_subscribe() gives it the handler;
 * - obx_consumer_run() works until a signal handler calls obx_consumer_stop();
 * - obx_consumer_close() frees it.
 *
 * A message that fails is not given back to the broker. It becomes a row of inbox_parked in the
 * consumer's own database, written in the transaction of the batch that met it, and is acknowledged
 * after that commit; its next attempts come out of the table. So nothing that waits stays
 * unacknowledged: neither the prefetch window, nor RabbitMQ's consumer timeout (delivery
 * acknowledgement timeout, 30 minutes by default), nor the delivery limit of a quorum queue (20 by
 * default since RabbitMQ 4), nor a restart has a say in how often and when a message is tried. The
 * consumer timeout has to be longer than the longest batch only: batch_max_ms and one handler.
 *
 * - Attempts are exact: one out of the table is counted and committed before its handler runs, so a
 *   handler that ends its process has used it. What the broker has given out twice before and heard
 *   nothing of is parked first, and tried from there.
 * - Order: while a row of an ordering key waits, the key's deliveries go behind it and are applied
 *   from there, in order; the other keys go on.
 * - In an outage, when most messages fail for causes that are not theirs, nothing is taken and no
 *   attempt is charged until one succeeds again; see outage_messages.
 * - After the last attempt, or when it is rejected, the row is dead: kept with its reason until an
 *   operator replays or discards it with `outboxctl dead`. See enum obx_on_dead, and
 *   dead_letter_queue for those who want it in a queue.
 *
 * Threads: one thread of the library's own speaks with the broker, each worker thread has its own
 * database connection and runs the handler. Names, states and crash points:
 * docs/adr/0003-consumer.md and 0005-consumer-failure.md; what to do at night:
 * docs/failure-handling.md. Proved by tests/system/consumer_*_test.c and tests/crash/.
 */
#ifndef OBX_CONSUMER_H
#define OBX_CONSUMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "obx/bytes.h"
#include "obx/err.h"
#include "obx/export.h"
#include "obx/value.h"

#ifdef __cplusplus
extern "C" {
#endif

struct obx_consumer;
struct obx_tx;
struct obx_rows;

/* ------------------------------------------------------------------ messages and verdicts */

/** What a handler made of a message. */
enum obx_verdict {
    OBX_APPLIED, /**< done: commit my writes with the dedup row */
    OBX_RETRY,   /**< not now: undo my writes, give me the message again after a backoff */
    OBX_REJECT   /**< never: undo my writes, keep the message as dead, with my reason */
};

/** A message as the handler sees it. Everything is borrowed for the call. Absent values have p ==
 * NULL. */
struct obx_message {
    struct obx_bytes message_id;
    struct obx_bytes topic;
    struct obx_bytes ordering_key;
    struct obx_bytes content_type;
    struct obx_bytes source;      /**< CloudEvents source: the outbox it comes from */
    struct obx_bytes traceparent; /**< W3C trace context, passed through from the producer */
    struct obx_bytes body;
    uint64_t outbox_id;  /**< the row's id in its outbox; 0 if the message comes from elsewhere */
    uint64_t created_us; /**< when the producer's database took the row, microseconds since 1970
                            UTC; 0 unknown */
    uint32_t attempt;    /**< 1 for the first try, 2 for the second, in whichever process */
    bool redelivered;    /**< the broker's flag, true when it is tried again: a hint only */
    const struct obx_header *headers; /**< all headers as they came, those named above included */
    size_t header_count;
};

/**
 * Find a header by its name (case matters); NULL when it is not there.
 *
 * The result is borrowed from msg. @thread any that may read msg.
 */
OBX_API const struct obx_header *obx_message_header(const struct obx_message *msg,
                                                    const char *name);

/**
 * Apply one message: write through tx, then answer.
 *
 * Runs on a worker thread with a transaction open, whose COMMIT has the dedup row of this message
 * too. Other messages may share the transaction, so a handler must not end it: no COMMIT, ROLLBACK,
 * BEGIN, DDL, SET autocommit, no rollback to a savepoint that it has not set itself. obx_tx_exec and
 * obx_tx_query refuse these. One that does it by the native handle or a procedure is found out and
 * reported (obx_consumer_stats.tx_broken, log event tx.broken). Its message and those before it in
 * the batch get their dedup rows in the next statement when they were committed, and run again when
 * they were undone; its own as a failed attempt, also when it has not answered OBX_APPLIED. The first
 * time, exactly-once has a gap there: what such a handler has committed can be applied again if the
 * process or the database dies before that statement, or if another message of the batch fails. From
 * then on the worker writes each dedup row before its handler. Where a handler begins another
 * transaction at once, its end may not be seen: then effects of its batch can be lost too, if another
 * handler rolls back or its own transaction meets a deadlock (docs/adr/0027-dedup-by-batch.md). The
 * transaction can be undone and the handler called again with the same
 * message: memory of the application must not be changed on the assumption that APPLIED is final.
 * With several workers it runs on several threads at once, but never at once for two messages of one
 * ordering key. It must return (no longjmp, no exception through it), should be done in
 * milliseconds, and must not call obx_consumer_drain or _close.
 * @return what to do with the message; see enum obx_verdict. A value outside it counts as
 * OBX_RETRY. Whatever is answered, a deadlock, a lock wait timeout or a lost connection in
 * obx_tx_exec / obx_tx_query makes the message run again.
 */
typedef enum obx_verdict obx_handler_fn(const struct obx_message *msg, struct obx_tx *tx,
                                        void *ctx);

/**
 * Apply several messages at once: write all of them through tx, with one statement if possible, then
 * answer for all.
 *
 * Gets up to batch_max messages of one transaction, those of one ordering key in their order; count
 * is at least 1, and is 1 for what was delivered before and once a handler has ended a transaction.
 * Everything said of obx_handler_fn holds here too. It answers for each message by itself
 * (obx_tx_answer, obx_tx_blame), or for all of them by what it returns. When any is not applied, the
 * writes of this call are undone, and the handler is called again: without the messages that have an
 * answer of their own (a failed attempt, or a rejection); when none has, in halves, until one message
 * is left that it is about. So poison messages cost the others second calls and nothing else.
 * @return the answer for the messages that have none of their own
 */
typedef enum obx_verdict obx_batch_fn(const struct obx_message *const *messages, size_t count,
                                      struct obx_tx *tx, void *ctx);

/* ------------------------------------------------------------------ a handler's transaction */

/** SQL NULL. These makers are functions rather than macros so that they work from C++ as well. Any
 * thread. */
OBX_API struct obx_value obx_null(void);
/** An unsigned number. */
OBX_API struct obx_value obx_u64(uint64_t number);
/** A signed number. */
OBX_API struct obx_value obx_i64(int64_t number);
/** A floating point number. */
OBX_API struct obx_value obx_f64(double number);
/** Text up to its NUL; SQL NULL for a NULL pointer. Borrowed until the statement has run. */
OBX_API struct obx_value obx_text(const char *text);
/** Bytes of any content; SQL NULL when absent. Borrowed until the statement has run. */
OBX_API struct obx_value obx_data(struct obx_bytes bytes);

/** Arguments of a statement: obx_tx_exec(tx, sql, OBX_ARGS(obx_u64(id), obx_text(name)), NULL,
 * &err); C only. */
#define OBX_ARGS(...)                                                                              \
    (const struct obx_value[]){__VA_ARGS__},                                                       \
        sizeof((const struct obx_value[]){__VA_ARGS__}) / sizeof(struct obx_value)
#define OBX_NO_ARGS NULL, 0

/**
 * Run one statement without a result set inside the handler's transaction.
 *
 * The statement is prepared once per connection and found again by its text: pass the same text
 * each time and the values as args. affected (may be NULL) gets the rows matched. Success means
 * done inside the transaction; it counts when that commits. After OBX_E_DB_DEADLOCK,
 * OBX_E_DB_LOCK_WAIT, OBX_E_DB_GONE, OBX_E_TIMEOUT, OBX_E_DB_READ_ONLY, OBX_E_DB_FULL or
 * OBX_E_NOMEM the transaction will be undone and the message run again whatever the handler
 * answers, and every further statement of this call fails at once with the same error. After any
 * other error only the statement is undone and the handler decides. A statement whose text shows that
 * it begins or ends a transaction (COMMIT, ROLLBACK without TO, BEGIN, DDL, SET autocommit...) is not
 * sent, and OBX_APPLIED counts as OBX_RETRY then.
 * @thread  the handler's, during its call
 * @return  OBX_OK; OBX_E_INVALID - it would end the transaction; OBX_E_DB_DUPLICATE, OBX_E_DB_DATA, OBX_E_DB_NO_TABLE, OBX_E_DB_DENIED,
 * OBX_E_DB_QUERY - the statement failed, the transaction goes on; or one of the codes above
 */
OBX_NODISCARD OBX_API enum obx_code obx_tx_exec(struct obx_tx *tx, const char *sql,
                                                const struct obx_value *args, size_t arg_count,
                                                uint64_t *affected, struct obx_err *err);

/**
 * Run one statement with a result set inside the handler's transaction and keep the result whole on
 * the client.
 *
 * On success *rows is positioned before the first row; it is freed when the handler returns, or
 * earlier by obx_rows_free. On failure *rows is NULL. Errors and their meaning as obx_tx_exec.
 * @thread the handler's, during its call.
 */
OBX_NODISCARD OBX_API enum obx_code obx_tx_query(struct obx_tx *tx, const char *sql,
                                                 const struct obx_value *args, size_t arg_count,
                                                 struct obx_rows **rows, struct obx_err *err);

/** Go to the next (first: the first) row; false after the last. @thread the handler's */
OBX_API bool obx_rows_next(struct obx_rows *rows);
/** How many rows there are in all. @thread the handler's */
OBX_API size_t obx_rows_count(const struct obx_rows *rows);
/** Column of the current row, from 0, as bytes; absent for NULL. Borrowed until the next row or the
 * free. @thread the handler's */
OBX_API struct obx_bytes obx_rows_bytes(const struct obx_rows *rows, unsigned column);
/** Column of the current row as an unsigned number; 0 for NULL and for what is not a number.
 * @thread the handler's */
OBX_API uint64_t obx_rows_u64(const struct obx_rows *rows, unsigned column);
/** Column of the current row as a signed number; 0 for NULL and for what is not a number. @thread
 * the handler's */
OBX_API int64_t obx_rows_i64(const struct obx_rows *rows, unsigned column);
/** Whether a column of the current row is NULL. @thread the handler's */
OBX_API bool obx_rows_is_null(const struct obx_rows *rows, unsigned column);
/** Free a result before the handler returns. NULL is fine. @thread the handler's */
OBX_API void obx_rows_free(struct obx_rows *rows);

/**
 * Say why the answer is OBX_RETRY or OBX_REJECT; printf-like, cut at 255 bytes, the last call
 * counts.
 *
 * It appears in the log, in inbox_parked and, on a dead letter, in the header x-obx-reason. @thread
 * the handler's, during its call.
 */
OBX_API void obx_tx_reason(struct obx_tx *tx, const char *fmt, ...) OBX_PRINTF(2, 3);

/**
 * In a batch handler: the answer for messages[index] alone, and why; printf-like, cut at 255 bytes,
 * NULL for none; the last call for an index counts. Nothing when index is not below count.
 *
 * What the handler returns is for those without an answer of their own. When any message is not
 * applied, all writes of the call are undone, and the handler is called again for the others: so as
 * many poison messages as there are cost one more call. @thread the handler's, during its call.
 */
OBX_API void obx_tx_answer(struct obx_tx *tx, size_t index, enum obx_verdict verdict,
                           const char *fmt, ...) OBX_PRINTF(4, 5);

/**
 * In a batch handler: what it returns, and the reason, are about messages[index] alone; the last call
 * counts. Short for obx_tx_answer with them. @thread the handler's, during its call.
 */
OBX_API void obx_tx_blame(struct obx_tx *tx, size_t index);

/**
 * The client library's own handle (a MYSQL *), for code that runs SQL by itself.
 *
 * Valid during the call of the handler; owned by the library: do not close it, do not change its
 * user, read every result to its end. Errors on it are not seen by the library: answer OBX_RETRY
 * after a deadlock or a lock wait timeout.
 * @thread the handler's, during its call
 */
OBX_API void *obx_tx_native(struct obx_tx *tx);

/* ------------------------------------------------------------------ options */

/** TLS with the database. */
enum obx_db_tls {
    OBX_DB_TLS_PREFERRED, /**< when the server offers it, not verified; fits loopback and sockets */
    OBX_DB_TLS_DISABLED,  /**< never */
    OBX_DB_TLS_REQUIRED,  /**< TLS or no connection; chain verified when a CA file is set */
    OBX_DB_TLS_VERIFY_FULL /**< chain and host name verified */
};

/** What a dead message does to the later ones of its ordering key. */
enum obx_on_dead {
    /** They wait behind it, in inbox_parked, until an operator replays or discards it, or until the
     * dead-letter queue has it where one is named. Nothing of a key is ever applied out of order.
     */
    OBX_ON_DEAD_FREEZE,
    OBX_ON_DEAD_SKIP /**< they go on without it; a replay comes late */
};

/** One binding of the queue. */
struct obx_binding {
    const char *exchange;
    /** direct, topic, fanout, headers: declared so; NULL: it must exist */
    const char *exchange_type;
    const char *routing_key; /**< NULL: "" */
};

/**
 * Options of a consumer. Zero the struct, set size and what is needed; zero means the default.
 * Everything is copied. group, queue, db_user and db_name must be set.
 */
struct obx_consumer_opts {
    size_t size; /**< sizeof(struct obx_consumer_opts) of the program, so that old programs run with
                    newer libraries */

    const char *group; /**< consumer group: the name under which a message takes effect once; 1 to
                          64 bytes */
    const char *queue; /**< the queue to consume from, 1 to 240 bytes */

    /* The broker. */
    const char *broker_addresses; /**< "host[:port][,host[:port]...]"; NULL: "127.0.0.1:5672" */
    const char *broker_vhost;     /**< NULL: "/" */
    const char *broker_user;      /**< NULL: "guest" */
    const char *broker_password;  /**< NULL: "guest" */
    uint32_t broker_heartbeat_s;  /**< 0: 20 */
    bool broker_tls;
    bool broker_tls_insecure;       /**< verify nothing; for tests only */
    const char *broker_tls_ca_file; /**< NULL: the system's store */
    const char *broker_tls_cert_file;
    const char *broker_tls_key_file;

    /* The database that has the dedup table and the handler's own tables. */
    const char
        *db_host; /**< "db1" or "db1, db2:3307": of several the one that takes writes is used,
                            and another one after a failover. NULL: 127.0.0.1, or the socket when
                            db_socket is set */
    const char *db_socket;
    const char *db_user;
    const char *db_password;
    const char *db_name;
    uint32_t db_timeout_ms;  /**< longest wait for the answer to one statement; 0: 30000 */
    uint32_t db_lock_wait_s; /**< innodb_lock_wait_timeout of the workers' sessions; 0: 3. A worker
                                that waits for a lock applies nothing else meanwhile */
    enum obx_db_tls db_tls;
    uint16_t db_port; /**< 0: 3306 */
    const char *db_tls_ca_file;
    const char *db_tls_cert_file;
    const char *db_tls_key_file;

    /* Work. */
    uint16_t prefetch;       /**< deliveries held by this process at most; 0: 1000 */
    size_t max_memory_bytes; /**< bytes of deliveries held at most before reading pauses; 0: 64 MiB.
                                One may exceed it */
    uint32_t workers;   /**< handler threads, each with a database connection; 0: 1; at most 256 */
    uint32_t batch_max; /**< messages that share a commit at most; 0: 200; 1: a commit for each */
    uint32_t batch_wait_us; /**< how long the oldest may wait for more to share its commit; 0: not
                               at all. Max-age */
    uint32_t batch_max_ms; /**< a batch commits what it has when its handlers have run this long, or
                               longer where the round trips before them took a fifth of it; 0: 100 */

    /* Failures. */
    uint32_t max_attempts;    /**< attempts before a message is dead; 0: 30, which take about five
                                 hours with the waits below */
    uint32_t retry_min_ms;    /**< first wait before the next attempt; doubles, jittered; 0: 200 */
    uint32_t retry_cap_ms;    /**< longest wait; 0: 1800000, half an hour */
    enum obx_on_dead on_dead; /**< default: freeze the key */
    /**
     * A queue that dead messages are published to, with confirms, after which their rows are
     * removed; NULL: none, they stay in inbox_parked where `outboxctl dead` works on them. Also the
     * routing key used. A letter can come twice, and never not at all. It has the original's
     * properties and headers and x-obx-reason, -reason-code, -attempts, -first-failed-at,
     * -failed-at, -original-exchange, -original-routing-key, -original-queue, -consumer-group.
     */
    const char *dead_letter_queue;
    const char *dead_letter_exchange; /**< NULL: the default exchange, straight to the queue */

    /* Topology. */
    bool declare_topology; /**< declare queue, bindings, dead-letter queue; false: they exist */
    bool single_active_consumer; /**< x-single-active-consumer: order per key across processes needs
                                    it */
    bool classic_queue;          /**< declare a classic queue instead of a quorum queue */
    const struct obx_binding *bindings;
    size_t binding_count;
    /**
     * x-delivery-limit of a quorum queue that is declared. 0: 2147483647, so that RabbitMQ 4 does
     * not drop a message after 20 redeliveries: a redelivery is a lost connection or process, never
     * an attempt that failed (this library counts those itself). Negative: not set, the broker's
     * default. A queue that somebody else declares should have a high limit as well, or a
     * dead-letter exchange that is looked after.
     */
    int64_t delivery_limit;

    /* Dedup rows. */
    uint32_t dedup_retention_s;   /**< rows younger than this are never removed; 0: 7 days */
    uint32_t cleanup_interval_ms; /**< pause between rounds of removal; 0: 10000 */
    bool no_cleanup;              /**< another process of the group does it */
    /**
     * A message that arrives with a CloudEvents time older than the retention is dead at once (its
     * dedup row may be gone, so applying it could apply it twice). True: apply it
     * nevertheless, for a replay known to be right.
     */
    bool accept_older_than_retention;

    /* Life. */
    uint32_t drain_timeout_ms; /**< after the first obx_consumer_stop; 0: 30000 */
    bool fail_fast; /**< obx_consumer_start fails when database, schema, broker or topology do not
                       answer well */

    /**
     * A session of ours that the database has heard nothing of for so long is ended by it, and what
     * it had begun is undone (wait_timeout): so a process that stands still, or whose host is gone,
     * does not keep its messages locked for hours. It counts the silence between two statements, so
     * it has to be longer than the longest time that a handler computes, or waits for somebody
     * else, without one; a handler that takes longer runs again, as after a lost connection, and is
     * given up after max_attempts. 0: 60, at most 86400.
     */
    uint32_t db_idle_s;

    /**
     * When so many different messages have failed, and they are most of those tried of late, for
     * causes that need not be theirs (the handler answers OBX_RETRY, deadlocks, lock waits, lost
     * connections), it is an outage: the worker takes nothing for a pause that grows, tries a few
     * messages, and charges no attempt for them until one is applied. A message that fails again and
     * again counts once, so a few poison messages are isolated and die as ever. See
     * docs/adr/0031-consumer-circuit.md. 0: 5. A number that is never reached switches it off.
     */
    uint32_t outage_messages;
    uint32_t outage_pause_max_ms; /**< longest pause; the first is a second; 0: 30000 */

    /**
     * Consume queue.0, queue.1 and so on, so many, in place of the queue: each with a single active
     * consumer, and shared out evenly among the processes of the group. So each ordering key keeps its
     * order, and several processes work at once. bindings are those of the exchange with its
     * partitions, without the number in front. workers, prefetch and max_memory_bytes are for each
     * partition. At most 256; 0: one queue. See docs/partitions.md; proved by
     * tests/system/consumer_partitions_test.c.
     */
    uint32_t partitions;
};

/* ------------------------------------------------------------------ life */

/**
 * Make a consumer. Connects to nothing yet.
 *
 * On success *out is the caller's, to be given to obx_consumer_close. On failure *out is NULL. opts
 * and what it points to are copied. @thread any
 * @return OBX_OK; OBX_E_INVALID - a required option is missing or one is out of range, the text
 * names it; OBX_E_CONFIG - broker_addresses cannot be read; OBX_E_NOMEM; OBX_E_SYSTEM - no eventfd
 */
OBX_NODISCARD OBX_API enum obx_code obx_consumer_open(const struct obx_consumer_opts *opts,
                                                      struct obx_consumer **out,
                                                      struct obx_err *err);

/**
 * Set the handler; once, before the start.
 *
 * ctx is passed to each call and stays the caller's; it must live until obx_consumer_close. @thread
 * the one that starts
 * @return OBX_OK; OBX_E_INVALID - no handler, or the consumer has one or has been started
 */
OBX_NODISCARD OBX_API enum obx_code obx_consumer_subscribe(struct obx_consumer *consumer,
                                                           obx_handler_fn *handler, void *ctx,
                                                           struct obx_err *err);

/**
 * Set a handler that applies several messages at once, in place of obx_consumer_subscribe.
 *
 * The rest as there. Proved by tests/unit/consumer_worker_test.c and
 * tests/system/consumer_batch_test.c.
 * @thread the one that starts
 * @return OBX_OK; OBX_E_INVALID - no handler, or the consumer has one or has been started
 */
OBX_NODISCARD OBX_API enum obx_code obx_consumer_subscribe_batch(struct obx_consumer *consumer,
                                                                 obx_batch_fn *handler, void *ctx,
                                                                 struct obx_err *err);

/**
 * Start the threads and return.
 *
 * Success means that the threads run; connections are made by them. While the database or the
 * broker is away, the schema missing or the queue not there, they try again under a backoff and say
 * so (obx_consumer_get_last_errors, log); with fail_fast that is checked first and is an error of
 * this call. A consumer is started once. @thread any one
 * @return OBX_OK; OBX_E_INVALID - no handler, or started before; OBX_E_NOMEM; OBX_E_SYSTEM - no
 * thread; with fail_fast any OBX_E_DB_*, OBX_E_MQ_*, OBX_E_TIMEOUT
 */
OBX_NODISCARD OBX_API enum obx_code obx_consumer_start(struct obx_consumer *consumer,
                                                       struct obx_err *err);

/**
 * obx_consumer_start, then wait until the consumer has stopped.
 *
 * Returns after obx_consumer_stop or obx_consumer_drain of another thread or a signal handler, when
 * all threads have ended.
 * @thread any one; it only waits
 * @return OBX_OK - everything begun was finished; OBX_E_TIMEOUT - the drain time was over and
 * deliveries were given back to the broker (nothing is lost); the codes of obx_consumer_start
 */
OBX_NODISCARD OBX_API enum obx_code obx_consumer_run(struct obx_consumer *consumer,
                                                     struct obx_err *err);

/**
 * Ask the consumer to end. Returns at once; async-signal-safe: it only writes to an eventfd.
 *
 * The first call begins a drain (no new deliveries; what has been delivered is applied and
 * acknowledged; what waits for a retry has its row and stays there) of at most drain_timeout_ms.
 * The second call ends at once: the batches in work are finished, since a handler cannot be
 * interrupted, everything else goes back to the broker. NULL is fine.
 * @thread any, signal handlers included
 */
OBX_API void obx_consumer_stop(struct obx_consumer *consumer);

/**
 * Stop new deliveries, apply and acknowledge what has been delivered, end the threads, and wait for
 * that.
 *
 * What waits for a retry has its row in inbox_parked and stays there. A consumer that was not
 * started is drained at once.
 * @thread any but a handler's
 * @param timeout_ms  after it everything but the batches in work is given back to the broker; 0:
 * opts.drain_timeout_ms
 * @return OBX_OK - all that could be finished was; OBX_E_TIMEOUT - given back to the broker,
 * nothing is lost
 */
OBX_NODISCARD OBX_API enum obx_code obx_consumer_drain(struct obx_consumer *consumer,
                                                       uint32_t timeout_ms, struct obx_err *err);

/**
 * End at once if it runs (as two obx_consumer_stop), wait for the threads and free everything. NULL
 * is fine.
 *
 * @thread any but a handler's; nobody else may use the consumer any more
 */
OBX_API void obx_consumer_close(struct obx_consumer *consumer);

/* ------------------------------------------------------------------ what it is doing */

/** Phases of a consumer's life; each only goes on to a later one. */
enum obx_consumer_state {
    OBX_CONSUMER_NEW,      /**< opened, not started */
    OBX_CONSUMER_RUNNING,  /**< threads run; whether both sides are connected say the stats */
    OBX_CONSUMER_DRAINING, /**< takes no new deliveries, finishes what it has */
    OBX_CONSUMER_STOPPING, /**< finishes the batches in work only */
    OBX_CONSUMER_STOPPED   /**< all threads have ended */
};
/** "new", "running", ... for logs. Never NULL. Any thread. */
OBX_API const char *obx_consumer_state_name(enum obx_consumer_state state);

/** Counters since the open, and levels. Each is exact by itself; together they are not one
 * instant's picture. */
struct obx_consumer_stats {
    enum obx_consumer_state state;
    bool broker_up;        /**< consuming */
    uint32_t databases_up; /**< worker connections that work, of workers */
    uint32_t workers;
    uint64_t delivered;     /**< deliveries received, redeliveries included; a pack is one */
    uint64_t applied;       /**< messages whose effect this process committed */
    uint64_t duplicates;    /**< messages skipped because the dedup row was there */
    uint64_t retried;       /**< attempts that failed and are followed by another */
    uint64_t rejected;      /**< verdicts OBX_REJECT, and messages refused without the handler */
    uint64_t parked;        /**< deliveries that got a row in inbox_parked: failed, or behind one */
    uint64_t taken_up;      /**< rows of inbox_parked taken up for an attempt */
    uint64_t dead;          /**< messages that became dead */
    uint64_t replayed;      /**< dead ones that an operator had replayed */
    uint64_t discarded;     /**< and discarded */
    uint64_t dead_lettered; /**< confirmed by the dead-letter queue */
    uint64_t dead_letter_failed; /**< tries that were refused, unroutable or unconfirmed */
    uint64_t tx_broken;          /**< times a handler was found to have ended its transaction */
    uint64_t reruns;             /**< batches run again: deadlock, lock wait, lost connection */
    uint64_t commits;            /**< successful COMMITs of batches */
    uint64_t commit_unknown;     /**< connections lost in a COMMIT; settled from the dedup table */
    uint64_t batches;            /**< transactions begun */
    uint64_t acked;              /**< deliveries acknowledged */
    uint64_t dropped;            /**< deliveries forgotten with their broker connection */
    uint64_t broker_connects;    /**< times the broker connection came up */
    uint64_t database_connects;  /**< times a worker's database connection came up */
    uint64_t dedup_removed;      /**< dedup rows removed by the cleanup */
    uint64_t in_flight;          /**< messages held now */
    uint64_t in_flight_bytes;    /**< what they cost in memory */
    uint64_t parked_rows; /**< rows the group has in inbox_parked, dead ones included, counted
                                       about once a second and up to 1000 */
    uint64_t dead_letter_pending; /**< dead letters on their way */
    uint64_t receipts;            /**< confirmed by the producers' queues */
    uint64_t receipts_given_up;   /**< whose queue was not there, or took none for too long */
    uint64_t workers_pausing;     /**< workers that take nothing for now, since most attempts fail:
                                   opts.outage_messages. obx_consumer_get_last_errors says why */
    uint64_t outages;             /**< times that a worker began to pause */
    uint64_t attempts_kept;       /**< attempts that failed in an outage and were not charged */
    uint32_t partitions; /**< with opts.partitions: how many this process has open; broker_up and
                            workers are about these */
};

/**
 * Read the counters.
 *
 * @param size  sizeof(struct obx_consumer_stats) of the program; no more than that is written
 * @thread any, until obx_consumer_close
 */
OBX_API void obx_consumer_get_stats(const struct obx_consumer *consumer,
                                    struct obx_consumer_stats *stats, size_t size);

/**
 * Why a side does not work at the moment; code OBX_OK and an empty text when it does. Either
 * pointer may be NULL. The database's side is that of the handlers too: OBX_E_HANDLER with the last
 * reason while a worker pauses since they ask for a retry (workers_pausing).
 *
 * @thread any, until obx_consumer_close
 */
OBX_API void obx_consumer_get_last_errors(struct obx_consumer *consumer, struct obx_err *broker,
                                          struct obx_err *database);

/* ------------------------------------------------------------------ log */

enum obx_log_level { OBX_LOG_DEBUG, OBX_LOG_INFO, OBX_LOG_WARN, OBX_LOG_ERROR };

/** Gets one whole line ("key=value" pairs, no newline, NUL at line[len]). Runs on any thread of the
 * library; must not call it. */
typedef void obx_log_fn(enum obx_log_level level, const char *line, size_t len, void *ctx);

/**
 * Where the library's log lines go; without this call it is silent. For the whole process, before
 * the first open.
 *
 * Message bodies and passwords are never logged. fn NULL makes it silent again. @thread one, while
 * no consumer is open
 */
OBX_API void obx_log_set(enum obx_log_level min_level, obx_log_fn *fn, void *ctx);

#ifdef __cplusplus
}
#endif

#endif
