/*
 * What operators ask for in outbox_parked.request. Only the owner of the lease runs it, one
 * bounded transaction a turn.
 *
 * Resume: the row goes back into the outbox under its old id. If its key is frozen, everything that
 * is parked after the same head goes back with it: the followers first, the head last; as long as
 * the head is parked the key stays frozen and new rows are passed over, so nothing overtakes, and a
 * crash in between leaves the request standing. Discard: the row is deleted; with a head its
 * followers go back first. Rows without a key are resumed, or discarded, many in one transaction.
 * Used by the lane thread. Proved by tests/system/lane_resume_test.c.
 */
#ifndef RELAY_REQUESTS_H
#define RELAY_REQUESTS_H

#include "held_rows.h"
#include "lane/read/reader.h"
#include "parking.h"

/** The request that is being run. Zero-initialise. */
struct request_task {
    bool is_on;
    bool is_discard;
    uint64_t parked_id; /* of the row that was asked for */
    bool has_head;      /* a frozen key: followers, then head_id */
    uint64_t id; /* the row that is resumed or discarded itself; without a key the first of them */
    struct obx_buf key;
    bool has_key;
};

struct requests {
    struct parking *parking; /* borrowed */
    struct reader *reader;   /* borrowed */
    struct flight *flight;   /* borrowed */
    const char *outbox;      /* borrowed */
    struct request_task task;
    struct obx_buf put_back; /* the beginning of a statement */
    struct row_delete del;   /* from outbox_parked, by parked_id */
    struct id_list list;     /* scratch */
    size_t portion;          /* rows without a key in one transaction; less after a failure */
    /* Requests that somebody has locked are passed over: the next one is looked for after it. */
    uint64_t after[2];     /* by kind: resume, discard; parked_id */
    struct held_rows held; /* the rows that are locked */
    uint64_t resumed, discarded, refused;
};

/** table is the quoted name of the outbox. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code requests_init(struct requests *requests, struct parking *parking,
                                          struct reader *reader, struct flight *flight,
                                          const char *table, struct obx_err *err);
void requests_fini(struct requests *requests);
/** Forget the task; the requests stand in the table. */
void requests_reset(struct requests *requests);
/** Take up the next request, if there is one. */
OBX_NODISCARD enum obx_code requests_find(struct requests *requests, struct db *db,
                                          struct obx_err *err);
/** Whether one is in progress: then requests_step has something to do. */
bool requests_busy(const struct requests *requests);
/** One transaction. On failure nothing was changed; a request that can never be run is
 * refused in the table and logged. */
OBX_NODISCARD enum obx_code requests_step(struct requests *requests, struct db *db,
                                          struct obx_err *err);

#endif
