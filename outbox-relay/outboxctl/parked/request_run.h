/*
 * One request (resume or discard) for a set of parked messages: write it, wake the owner, wait
 * until the owner has carried it out. The rows themselves are changed by the lane that owns the
 * lease, never from here.
 */
#ifndef CTL_REQUEST_RUN_H
#define CTL_REQUEST_RUN_H

#include "outboxctl/print/progress.h"
#include "outboxctl/target.h"
#include "parked_store.h"

enum request_fate {
    REQUEST_WAITING, /* stands, nobody has carried it out yet */
    REQUEST_DONE,    /* the row has left outbox_parked */
    REQUEST_REFUSED, /* the owner took it back; note says why */
    REQUEST_OTHER    /* somebody else's request, another one, stands on the row */
};

struct request_item {
    uint64_t parked_id;
    char outbox[65];
    bool is_behind; /* waits behind the head of its key */
    enum request_fate fate;
    char note[OBX_ERR_TEXT_MAX];
};

struct request_run {
    const struct targets *targets;
    const struct target *target;
    struct db *db;
    struct parked_request request;
    uint32_t wait_s;
    struct progress progress;   /* of request_carry_out */
    struct request_item *items; /* owned */
    size_t count;
    size_t room;
};

/** Take up the rows of the query (of parked_find) as items. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code request_add(struct request_run *run, struct db_rows *rows);
/**
 * Write the requests and wait up to wait_s. Followers of a frozen key come before their heads, and
 * are waited for before a head is discarded: discarding a head puts what is still behind it back.
 * On success every item has its fate.
 */
OBX_NODISCARD enum obx_code request_carry_out(struct request_run *run, struct obx_err *err);
void request_run_fini(struct request_run *run);
size_t request_count(const struct request_run *run, enum request_fate fate);

#endif
