/*
 * What a source has committed against what a consumer group has applied, for a range of time: see
 * docs/adr/0007-reconcile.md. Bounded memory, small reads by primary key, no locks.
 */
#ifndef CTL_RECONCILE_H
#define CTL_RECONCILE_H

#include "id_stream.h"

enum { RECONCILE_TOPICS_MAX = 16, RECONCILE_TABLES_MAX = 64 };

/** What became of a message that is not simply applied. */
enum reconcile_kind {
    RECONCILE_MISSING,  /* published, not applied, nowhere */
    RECONCILE_EXTRA,    /* applied, unknown to the source */
    RECONCILE_REJECTED, /* the consumer rejected it for good */
    RECONCILE_OUTBOX,   /* on the way: in an outbox */
    RECONCILE_PARKED,   /* in outbox_parked */
    RECONCILE_DELAYED,  /* in outbox_delayed */
    RECONCILE_AWAITING, /* in outbox_awaiting */
    RECONCILE_BROKER,   /* settled a moment ago: in a queue, presumably */
    RECONCILE_WAITING,  /* in the consumer's inbox_parked, to be tried again */
    RECONCILE_DEAD,     /* in the consumer's inbox_parked, until an operator decides */
    RECONCILE_KINDS
};
/** "missing", ... for output. */
const char *reconcile_kind_name(enum reconcile_kind kind);

/** id is borrowed; topic and created are absent for what is unknown to the source. */
struct reconcile_finding {
    enum reconcile_kind kind;
    struct obx_bytes id, topic, created;
};

struct reconcile_opts {
    struct db *source, *consumer;
    /* Two more connections to the same, for the long scans: threads of their own read them. */
    struct db *source_scan, *consumer_scan;
    const char *group;
    uint64_t from_us, to_us; /* created_at, half-open, since 1970 */
    uint64_t grace_us;
    const char *topics[RECONCILE_TOPICS_MAX]; /* a '*' at the end stands for the rest; none: all */
    size_t topic_count;
    const char *outboxes[RECONCILE_TABLES_MAX];
    size_t outbox_count;
    bool all_ids;
    void (*on_finding)(const struct reconcile_finding *finding, void *ctx);
    void (*on_progress)(uint64_t at_us, void *ctx); /* so far in the range */
    void *ctx;
};

struct reconcile_result {
    uint64_t compared; /* messages of the range that the source has published */
    uint64_t applied;  /* of these */
    uint64_t rows;     /* read on both sides */
    uint64_t
        unsettled; /* applied, and still in an outbox: the next look of the relay settles them */
    uint64_t found[RECONCILE_KINDS];
};

/** OBX_E_DB_...: nothing is known. err says on which side. */
OBX_NODISCARD enum obx_code reconcile_run(const struct reconcile_opts *opts,
                                          struct reconcile_result *result, struct obx_err *err);

#endif
