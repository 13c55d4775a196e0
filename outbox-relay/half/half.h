/*
 * Half-messages: what a request on one is, and the store that runs requests.
 *
 * The store owns a bounded queue and a few worker threads, each with a database connection of its
 * own. A worker takes all requests that wait, runs them in one transaction and answers each after
 * the commit (group commit): a commit costs milliseconds, a row microseconds. See
 * docs/adr/0004-half-messages.md for states and crash points.
 */
#ifndef RELAY_HALF_H
#define RELAY_HALF_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "sql/db.h"

/** States as in the column half_message.state; the text is half_state_name(). */
enum half_state { HALF_PREPARED, HALF_COMMITTED, HALF_ROLLED_BACK, HALF_PARKED };
enum half_verdict { HALF_COMMIT, HALF_ROLLBACK };

const char *half_state_name(enum half_state state);
const char *half_verdict_name(enum half_verdict verdict);
/** The state that a verdict leads to. */
enum half_state half_state_after(enum half_verdict verdict);

#define HALF_GID_MAX        128
#define HALF_PRODUCER_MAX   64
#define HALF_ACTOR_MAX      128
#define HALF_NOTE_MAX       256
#define HALF_DIGEST_LEN     32
#define HALF_MESSAGE_ID_MAX 64
#define HALF_PARTS_MAX      64 /* for one verdict */
#define HALF_PARTS_ALL      ((size_t)2 * HALF_PARTS_MAX)

/** A message to send on one of the verdicts. Absent bytes leave the column's default. */
struct half_part {
    enum half_verdict on;
    struct obx_bytes message_id;
    struct obx_bytes topic;
    struct obx_bytes ordering_key;
    struct obx_bytes headers; /* text of a JSON object */
    struct obx_bytes content_type;
    struct obx_bytes payload;
    struct obx_bytes receipt_from; /* absent: no receipts */
    struct obx_bytes on_rejected;
};

/** A half-message as the database has it. Times in microseconds since 1970 UTC by the database's
 * clock; 0: none. */
struct half_record {
    enum half_state state;
    char producer[HALF_PRODUCER_MAX + 1];
    char decided_by[HALF_ACTOR_MAX + 1];
    char note[HALF_NOTE_MAX + 1];
    uint64_t prepared_us, decided_us, next_check_us;
    uint32_t checks_asked, checks_answered;
};

/** The id under which a prepared message will be sent. */
struct half_id {
    enum half_verdict on;
    char message_id[HALF_MESSAGE_ID_MAX + 1];
};

enum half_kind { HALF_REQ_PREPARE, HALF_REQ_VERDICT, HALF_REQ_LOOKUP, HALF_REQ_LIST };

#define HALF_LIST_MAX 500 /* half-messages on one page */

/** A half-message on a page of a list. */
struct half_item {
    char gid[HALF_GID_MAX + 1];
    struct half_record rec;
};

/** Which half-messages, in the order of their gids, and the page that was found. */
struct half_list {
    bool has_state;
    enum half_state state;                /* with has_state */
    char producer[HALF_PRODUCER_MAX + 1]; /* "": any */
    char after[HALF_GID_MAX + 1];         /* gids after this one; "": from the first */
    uint32_t limit;                       /* 1 to HALF_LIST_MAX */
    struct half_item *items;              /* owned, see half_list_fini */
    size_t count;                         /* may be less than limit, 0 even, and more follow */
    char next[HALF_GID_MAX + 1];          /* the `after` of the following page; "": there is none */
};

/** Find a page. What it reads is bounded, however many half-messages there are: a page may end
 * before its limit, with list->next set. Errors as db_query, OBX_E_NOMEM; list->items is NULL then.
 */
OBX_NODISCARD enum obx_code half_list_run(struct db *db, struct half_list *list,
                                          struct obx_err *err);
void half_list_fini(struct half_list *list);

enum half_answer {
    HALF_ANS_OK, /* done, or had been done before (is_repeat); rec is what the database has now */
    HALF_ANS_NOT_FOUND, /* no such gid */
    HALF_ANS_CONFLICT,  /* decided otherwise before: rec says what, when and by whom */
    HALF_ANS_REUSED,    /* this gid was prepared with another content */
    HALF_ANS_BUSY,      /* another transaction holds its rows: nothing was done, repeat it */
    HALF_ANS_FAILED     /* err says why; OBX_E_DB_COMMIT_UNKNOWN: it may or may not have been done,
                           repeat it */
};

struct half_request;
/** Runs once for each accepted request, on a worker's thread, after the commit. May free the
 * request. */
typedef void half_done_fn(struct half_request *req, void *ctx);

/** Borrowed by the store, whole, from a successful half_store_submit until its done call. */
struct half_request {
    enum half_kind kind;
    enum half_verdict verdict; /* HALF_REQ_VERDICT */
    struct obx_bytes gid;      /* 1 to HALF_GID_MAX ASCII bytes; absent in a list */
    /* HALF_REQ_PREPARE */
    struct obx_bytes producer;
    unsigned char digest[HALF_DIGEST_LEN];
    uint32_t first_check_ms;
    const struct half_part *parts;
    size_t part_count;
    /* HALF_REQ_VERDICT */
    const char *actor; /* producer, check, barrier, operator:NAME */
    const char *note;  /* NULL: none */
    /* HALF_REQ_LIST; the page found in it is the caller's to free */
    struct half_list *list;
    bool wants_ids;
    half_done_fn *done;
    void *ctx;
    /** Runs after the done calls of a batch, with after_ctx, once for all requests that have the same
     * two: to wake somebody once. May be NULL. On the same thread; the store is destroyed after it. */
    void (*after)(void *after_ctx);
    void *after_ctx;
    /* the answer */
    enum half_answer answer;
    bool is_repeat;
    bool is_answered; /* the store's own, like the next */
    bool is_known_conflict;
    struct half_record rec;
    /** With wants_ids, of a prepare or a look-up: the messages while there is no verdict, in their
     * order. Owned by the caller that made the request: obx_free. NULL without any. */
    struct half_id *ids;
    size_t id_count;
    struct obx_err err;
    /* the store's own */
    TAILQ_ENTRY(half_request) in_queue;
    uint64_t gid_hash;
    size_t cost;
    uint64_t busy_since_ms; /* 0: its rows have been free so far */
    uint64_t due_ms;        /* not before, while they are not */
    uint32_t busy_wait_ms;
};

/** Defaults of half_store_opts. */
enum { HALF_WORKERS = 2, HALF_QUEUE_MAX = 1024, HALF_BATCH_MAX = 128 };

struct half_store_opts {
    struct db_opts db;  /* borrowed; the texts must outlive the store. Its idle_s, 0: 10: what a
                           worker that stands still may hold up others for */
    const char *outbox; /* where the messages go; NULL: "outbox" */
    uint32_t workers;   /* 0: HALF_WORKERS */
    uint32_t queue_max; /* requests that may wait; 0: HALF_QUEUE_MAX */
    uint32_t batch_max; /* requests in one transaction; 0: HALF_BATCH_MAX */
    uint32_t batch_max_bytes; /* of their messages; 0: 1 MiB; a single larger one goes alone */
    uint32_t busy_ms;         /* a request whose rows somebody holds is tried again for so long
                                 before it is answered HALF_ANS_BUSY; 0: 1000 */
    /** Runs on a worker's thread after a commit that put rows into the outbox. May be NULL. */
    void (*on_outbox_rows)(void *ctx);
    void *ctx;
};

struct half_store_stats {
    bool is_up;                     /* at least one worker is connected and the schema fits */
    uint32_t workers_up;            /* so many are */
    char trouble[OBX_ERR_TEXT_MAX]; /* why not */
    uint64_t prepared, committed, rolled_back, repeats, conflicts, reused, not_found, failed;
    uint64_t verdicts_by_producer, verdicts_by_check, verdicts_by_barrier;
    uint64_t batches, overloads, waiting, busy;
};

struct half_store;

/** Makes the store and starts its workers, which connect by themselves and keep trying.
 * OBX_E_NOMEM, OBX_E_SYSTEM. */
OBX_NODISCARD enum obx_code half_store_create(const struct half_store_opts *opts,
                                              struct half_store **out, struct obx_err *err);
/** Answers what waits (HALF_ANS_FAILED, OBX_E_CLOSED), lets running batches end, joins the workers.
 * NULL is fine. */
void half_store_destroy(struct half_store *store);
/**
 * Queue a request; done will be called. Any thread, never blocks on I/O.
 * @return OBX_OK; OBX_E_FULL - overload, done will not be called; OBX_E_CLOSED
 */
OBX_NODISCARD enum obx_code half_store_submit(struct half_store *store, struct half_request *req,
                                              struct obx_err *err);
void half_store_get_stats(struct half_store *store, struct half_store_stats *out);

/**
 * Run requests (distinct gids) in one transaction on db and fill in their answers, without
 * calling done. One bad request costs the others nothing, and one whose rows somebody else holds
 * does not hold them up: it is answered HALF_ANS_BUSY. May reorder reqs. The unit under the
 * workers; also for callers with a connection of their own (outboxctl).
 * @return OBX_OK: all are answered; otherwise the connection is of no more use and every request is
 * HALF_ANS_FAILED. *outbox_rows tells whether rows were put into the outbox.
 */
OBX_NODISCARD enum obx_code half_batch_run(struct db *db, const char *outbox,
                                           struct half_request **reqs, size_t count,
                                           bool *outbox_rows, struct obx_err *err);

#endif
