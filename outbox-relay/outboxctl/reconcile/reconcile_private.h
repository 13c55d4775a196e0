/* What the files of reconcile share. */
#ifndef CTL_RECONCILE_PRIVATE_H
#define CTL_RECONCILE_PRIVATE_H

#include "reconcile.h"

enum { RECONCILE_BATCH = 500, RECONCILE_SUSPECTS = 50000, RECONCILE_TIME_MAX = 32 };

/** Ids that one look did not settle; looked up together. */
struct id_batch {
    struct id_text items[RECONCILE_BATCH];
    bool is_done[RECONCILE_BATCH];
    size_t count;
};

struct reconcile {
    const struct reconcile_opts *opts;
    struct reconcile_result *result;
    char from[RECONCILE_TIME_MAX], to[RECONCILE_TIME_MAX]; /* as DATETIME(6) */
    struct obx_buf wanted; /* SQL: whether a row o is of the range and the topics */
    struct obx_value wanted_args[2 + RECONCILE_TOPICS_MAX];
    size_t wanted_count;
    struct obx_buf patterns[RECONCILE_TOPICS_MAX];
    struct obx_buf sql, json; /* scratch */
    struct id_batch missing, extra, waiting;
    bool is_custom;           /* the pass that is going on */
    struct id_text *suspects; /* seem extra; sorted before they are looked for */
    bool *is_known;           /* of the suspects */
    size_t suspect_count;
};

/** Milliseconds since 1970 that an id begins with; 0 when it does not. */
uint64_t reconcile_id_ms(struct obx_bytes id);
void reconcile_report(struct reconcile *r, enum reconcile_kind kind, struct obx_bytes id,
                      struct obx_bytes topic, struct obx_bytes created);

/* ---- reconcile_look.c: second looks ---- */

/** Messages that are in the journal and not in dedup; empties the batch. */
OBX_NODISCARD enum obx_code reconcile_look_missing(struct reconcile *r, struct obx_err *err);
/** The other way round. */
OBX_NODISCARD enum obx_code reconcile_look_extra(struct reconcile *r, struct obx_err *err);
/** Which of a batch the group has applied: is_done. */
OBX_NODISCARD enum obx_code reconcile_mark_applied(struct reconcile *r, struct id_batch *batch,
                                                   struct obx_err *err);

/* ---- reconcile_tables.c: tables without an index by message id, from end to end ---- */

/** Look for the suspects in them, and report those that are nowhere. */
OBX_NODISCARD enum obx_code reconcile_flush_suspects(struct reconcile *r, struct obx_err *err);
/** Count what is on its way in them. */
OBX_NODISCARD enum obx_code reconcile_on_the_way(struct reconcile *r, struct obx_err *err);

#endif
