/*
 * Writing requests and waiting for them, in portions of bounded size. Called by cmd_request.c.
 */
#include "request_run.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "outboxctl/outbox_state.h"

enum { PORTION = 500, MS_PER_S = 1000, NS_PER_MS = 1000000, LOOK_MIN_MS = 20, LOOK_MAX_MS = 500 };

static enum obx_code make_room(struct request_run *run)
{
    size_t room = run->room == 0 ? PORTION : run->room * 2;
    struct request_item *items;

    if (run->count < run->room)
        return OBX_OK;
    items = obx_realloc(run->items, room * sizeof(*items));
    if (items == NULL)
        return OBX_E_NOMEM;
    run->items = items;
    run->room = room;
    return OBX_OK;
}

enum obx_code request_add(struct request_run *run, struct db_rows *rows)
{
    while (db_rows_next(rows)) {
        struct request_item *item;

        if (make_room(run) != OBX_OK)
            return OBX_E_NOMEM;
        item = &run->items[run->count++];
        memset(item, 0, sizeof(*item));
        item->parked_id = db_rows_u64(rows, PARKED_ID);
        item->is_behind = !db_rows_is_null(rows, PARKED_BEHIND_ID);
        bytes_to_text(db_rows_bytes(rows, PARKED_OUTBOX), item->outbox, sizeof(item->outbox));
    }
    return OBX_OK;
}

void request_run_fini(struct request_run *run)
{
    obx_free(run->items);
    run->items = NULL;
    run->count = run->room = 0;
}

size_t request_count(const struct request_run *run, enum request_fate fate)
{
    size_t count = 0;

    for (size_t i = 0; i < run->count; i++)
        count += run->items[i].fate == fate;
    return count;
}

static bool is_pending(const struct request_run *run, size_t index, bool is_behind)
{
    return run->items[index].fate == REQUEST_WAITING && run->items[index].is_behind == is_behind;
}

/* The ids of the next pending items from *at on, as "1,2,3"; empty when there are no more. */
static enum obx_code next_portion(const struct request_run *run, bool is_behind, size_t *at,
                                  struct obx_buf *ids)
{
    enum obx_code rc = OBX_OK;
    unsigned count = 0;

    buf_reset(ids);
    for (; *at < run->count && count < PORTION && rc == OBX_OK; (*at)++) {
        if (!is_pending(run, *at, is_behind))
            continue;
        rc = buf_addf(ids, "%s%" PRIu64, count == 0 ? "" : ",", run->items[*at].parked_id);
        count++;
    }
    return rc;
}

static enum obx_code mark_all(struct request_run *run, bool is_behind, struct obx_err *err)
{
    struct obx_buf ids = {0};
    enum obx_code rc = OBX_OK;
    uint64_t marked = 0;

    for (size_t at = 0; rc == OBX_OK;) {
        rc = next_portion(run, is_behind, &at, &ids);
        if (rc != OBX_OK)
            rc = obx_fail(err, rc, "ids");
        if (rc != OBX_OK || ids.len == 0)
            break;
        rc = parked_mark(run->db, ids.data, &run->request, &marked, err);
    }
    buf_fini(&ids);
    return rc;
}

/* Each outbox is rung once. */
static void ring_owners(const struct request_run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        struct outbox_state lease = {0};
        bool is_first = true;

        for (size_t k = 0; k < i && is_first; k++)
            is_first = strcmp(run->items[k].outbox, run->items[i].outbox) != 0;
        if (is_first && outbox_lease_read(run->db, run->items[i].outbox, &lease, NULL) == OBX_OK)
            target_ring(run->targets, run->target, run->items[i].outbox, lease.address);
    }
}

static void judge(const struct request_run *run, struct request_item *item,
                  const struct db_rows *row)
{
    struct obx_bytes request = db_rows_bytes(row, PARKED_REQUEST);

    bytes_to_text(db_rows_bytes(row, PARKED_REQUEST_NOTE), item->note, sizeof(item->note));
    if (bytes_is(request, run->request.action))
        return;
    if (!bytes_is_absent(request)) {
        item->fate = REQUEST_OTHER;
        return;
    }
    /* A follower's wish was passed to the head of its key: it goes when the head goes. */
    if (item->is_behind && strcmp(run->request.action, "resume") == 0)
        return;
    item->fate = REQUEST_REFUSED;
}

/* Rows and the items from first to last are both in the order of parked_id, when the items came
 * from one query or many. */
static void match_rows(struct request_run *run, size_t first, size_t last, bool is_behind,
                       struct db_rows *rows)
{
    bool has_row = db_rows_next(rows);

    for (size_t i = first; i < last; i++) {
        struct request_item *item = &run->items[i];

        if (!is_pending(run, i, is_behind))
            continue;
        while (has_row && db_rows_u64(rows, PARKED_ID) < item->parked_id)
            has_row = db_rows_next(rows);
        if (has_row && db_rows_u64(rows, PARKED_ID) == item->parked_id)
            judge(run, item, rows);
        else
            item->fate = REQUEST_DONE;
    }
}

/* What has become of the pending ones. */
static enum obx_code look(struct request_run *run, bool is_behind, size_t *left,
                          struct obx_err *err)
{
    struct obx_buf ids = {0};
    enum obx_code rc = OBX_OK;

    *left = 0;
    for (size_t at = 0; rc == OBX_OK;) {
        size_t first = at;
        struct parked_filter filter = {.limit = PORTION};
        struct db_rows *rows = NULL;

        rc = next_portion(run, is_behind, &at, &ids);
        if (rc != OBX_OK)
            rc = obx_fail(err, rc, "ids");
        if (rc != OBX_OK || ids.len == 0)
            break;
        filter.ids = ids.data;
        rc = parked_find(run->db, &filter, &rows, err);
        if (rc == OBX_OK)
            match_rows(run, first, at, is_behind, rows);
        db_rows_free(rows);
    }
    buf_fini(&ids);
    for (size_t i = 0; i < run->count; i++)
        *left += is_pending(run, i, is_behind);
    return rc;
}

static void pause_ms(uint32_t ms)
{
    const struct timespec pause = {.tv_sec = ms / MS_PER_S,
                                   .tv_nsec = (long)(ms % MS_PER_S) * NS_PER_MS};

    nanosleep(&pause, NULL);
}

/* Looks at growing intervals until nothing is pending or the time is over. */
static enum obx_code await(struct request_run *run, bool is_behind, uint64_t due_ms,
                           struct obx_err *err)
{
    uint32_t interval_ms = LOOK_MIN_MS;

    for (;;) {
        bool is_last = clock_now_ms() >= due_ms;
        size_t left = 0;
        enum obx_code rc = look(run, is_behind, &left, err);

        progress_set(&run->progress, run->count - request_count(run, REQUEST_WAITING));
        if (rc != OBX_OK || left == 0 || is_last)
            return rc;
        pause_ms(interval_ms);
        if (interval_ms < LOOK_MAX_MS)
            interval_ms *= 2;
    }
}

static enum obx_code run_half(struct request_run *run, bool is_behind, uint64_t due_ms,
                              struct obx_err *err)
{
    enum obx_code rc = mark_all(run, is_behind, err);

    if (rc != OBX_OK)
        return rc;
    ring_owners(run);
    return await(run, is_behind, due_ms, err);
}

static size_t pending(const struct request_run *run, bool is_behind)
{
    size_t count = 0;

    for (size_t i = 0; i < run->count; i++)
        count += is_pending(run, i, is_behind);
    return count;
}

static enum obx_code carry_out(struct request_run *run, struct obx_err *err)
{
    const uint64_t due_ms = clock_now_ms() + (uint64_t)run->wait_s * MS_PER_S;
    const bool is_discard = strcmp(run->request.action, "discard") == 0;
    enum obx_code rc = OBX_OK;

    if (pending(run, true) > 0)
        rc = run_half(run, true, due_ms, err);
    if (rc != OBX_OK || pending(run, false) == 0)
        return rc;
    if (is_discard && pending(run, true) > 0)
        return obx_fail(
            err, OBX_E_TIMEOUT,
            "the messages behind frozen keys are not discarded yet, so their heads were left "
            "alone; run the command again, or give it a longer --wait");
    return run_half(run, false, due_ms, err);
}

enum obx_code request_carry_out(struct request_run *run, struct obx_err *err)
{
    const bool is_discard = strcmp(run->request.action, "discard") == 0;
    enum obx_code rc;

    progress_begin(&run->progress, is_discard ? "discarded" : "resumed", run->count);
    rc = carry_out(run, err);
    progress_end(&run->progress);
    return rc;
}
