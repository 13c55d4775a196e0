/*
 * The reader: cursor, gaps and low water. See reader.h for what it promises and who calls it. Passes
 * over what was passed over are in reader_rescan.c.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "reader_private.h"

enum {
    PAGE_ROWS = 1000,
    FIRST_BATCH_ROWS = 128,
    MIN_BATCH_ROWS = 16,
    IDLE_MIN_US = 20000, /* when nothing new comes, looks are made so often at first, */
    IDLE_PART = 8,       /* then after this part of the time since something changed, */
    IDLE_TIMES = 4,      /* wait for so many times what the last one took, */
    IDLE_SHARE = 20,     /* and for so many times what it added to a forward read */
    CHEAP_US = 2000,     /* a look that adds less to a forward read is not spaced */
    LOOKUP_WAIT = 3,     /* the next one waits for so many times what it added */
    WAIT_MAX_US = 3000000,
    DEAR_US = 1000000,     /* added so much, */
    DEAR_LOOKUPS = 3,      /* so many times one after the other: see is_dear */
    SWEEP_SHARE = 50,      /* sweeps take at most 1 / SWEEP_SHARE of the time */
    SNAPSHOT_PAGES = 64,   /* full pages of a look in one turn */
    GAPS_FEW = 64,         /* more are joined where nothing is left between them */
    GAPS_MANY = 4096,      /* as many are kept apart while purge lags */
    PURGE_LAGS_US = 20000, /* as a sweep that adds so much says */
    TIDY_MIN_US = 20000,   /* joining them is done no more often, */
    TIDY_SHARE = 20,       /* and takes at most 1 / TIDY_SHARE of the time */
    FORWARD_PART = 8       /* weight of one forward read in what they cost on the average */
};

enum obx_code reader_create(const struct reader_opts *opts, const struct reader_store *store,
                            struct flight *flight, struct reader **out, struct obx_err *err)
{
    struct reader *reader = obx_calloc(1, sizeof(*reader));
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (reader == NULL)
        return obx_fail(err, OBX_E_NOMEM, "reader");
    rc = skips_init(&reader->skips, err);
    if (rc == OBX_OK)
        rc = gaps_init(&reader->gaps, err);
    if (rc != OBX_OK) {
        reader_destroy(reader);
        return rc;
    }
    reader->opts = *opts;
    if (reader->opts.page_rows == 0)
        reader->opts.page_rows = PAGE_ROWS;
    reader->store = *store;
    reader->flight = flight;
    reader_reset(reader);
    *out = reader;
    return OBX_OK;
}

void reader_destroy(struct reader *reader)
{
    if (reader == NULL)
        return;
    row_batch_fini(&reader->batch);
    row_batch_fini(&reader->late);
    row_batch_fini(&reader->rescan_rows);
    skips_fini(&reader->skips);
    gaps_fini(&reader->gaps);
    obx_free(reader->ranges);
    obx_free(reader);
}

void reader_reset(struct reader *reader)
{
    gaps_clear(&reader->gaps);
    skips_clear(&reader->skips);
    reader->rescan = (struct rescan){.is_on = false};
    row_batch_clear(&reader->batch);
    reader->is_batch_held = false;
    reader->has_waited = false;
    reader->has_key = false;
    reader->batch_at = 0;
    reader->cursor = 0;
    reader->read_to = 0;
    reader->row_bytes = 0;
    reader->forward_us = 0;
    reader->lookup_free_us = 0;
    reader->idle_lookup_us = 0;
    reader->change_us = 0;
    reader->sweep_us = 0;
    reader->sweep_added_us = 0;
    reader->dear_lookups = 0;
    reader->tidy_us = 0;
    reader->rescan_us = 0;
    reader->rescan_wanted = false;
}

/* ---- admission ---- */

void reader_pass_over(struct reader *reader, uint64_t id, struct obx_bytes key)
{
    skips_add(&reader->skips, id, key);
    reader->stats.passed_over++;
}

/* What the flight table had no more room for has to be read again, and nothing of its key may
 * overtake it: so it is taken note of before anything is read. */
static void note_evicted(struct reader *reader)
{
    struct flight_row *row = NULL;

    while ((row = flight_first_evicted(reader->flight)) != NULL) {
        reader_pass_over(reader, row->id, flight_key_name(row));
        flight_drop_evicted(reader->flight, row);
    }
}

/* Whether the row has to stay out because an earlier one of its key was passed over. For rows of a
   pass only what this rescan has passed over counts. */
static bool is_blocked(const struct reader *reader, const struct outbox_row *row,
                       enum row_origin origin)
{
    if (row->blocked_by == READER_HOLD)
        return true;
    if (row->blocked_by != 0)
        return false; /* parked after its head, in order, whatever was passed over */
    return origin == OF_RESCAN ? skips_rescan_blocks(&reader->skips, row->key)
                               : skips_blocks(&reader->skips, row->key);
}

/* Takes row i of the batch into the flight table or rescans it over. */
enum obx_code reader_consider(struct reader *reader, struct row_batch *batch, size_t i,
                              enum row_origin origin, bool *admitted)
{
    struct outbox_row *row = batch->rows[i];
    enum flight_answer answer = FLIGHT_NO_ROOM;

    *admitted = false;
    if (origin != OF_FORWARD && flight_find(reader->flight, row->id) != NULL)
        return OBX_OK;
    if (!is_blocked(reader, row, origin))
        answer = flight_admit_take(reader->flight, row);
    else if (reader->rescan.is_on && origin != OF_RESCAN)
        flight_passed_over(reader->flight, row->key); /* this rescan may be past it */
    if (answer == FLIGHT_NOMEM)
        return OBX_E_NOMEM;
    if (answer == FLIGHT_NO_ROOM)
        reader_pass_over(reader, row->id, row->key);
    if (answer == FLIGHT_ADMITTED) {
        batch->rows[i] = NULL;
        *admitted = true;
    }
    return OBX_OK;
}

/* Admits the rows of the held batch up to this id, which have to go before what a look shows above
   them. */
static enum obx_code admit_batch(struct reader *reader, uint64_t last, struct obx_err *err)
{
    struct row_batch *batch = &reader->batch;

    while (reader->batch_at < batch->count && batch->rows[reader->batch_at]->id <= last) {
        uint64_t id = batch->rows[reader->batch_at]->id;
        bool admitted = false;

        if (reader_consider(reader, batch, reader->batch_at, OF_FORWARD, &admitted) != OBX_OK)
            return obx_fail(err, OBX_E_NOMEM, "row %llu", (unsigned long long)id);
        reader->batch_at++;
        reader->cursor = reader_after(id);
        reader->stats.rows++;
    }
    return OBX_OK;
}

/* ---- looks behind the cursor ---- */

enum obx_code reader_read_page(struct reader *reader, const struct id_range *ranges, size_t count,
                               struct row_batch *rows, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    row_batch_clear(rows);
    rc = reader->store.behind(reader->store.ctx, ranges, count, reader->opts.page_rows, rows, err);
    if (rc == OBX_OK && rows->count > 0)
        rc = reader->store.mark_frozen(reader->store.ctx, rows, err);
    return rc;
}

/* What is in memory, ascending. The caller frees it. */
static enum obx_code list_ids(const struct reader *reader, uint64_t **ids, size_t *count,
                              struct obx_err *err)
{
    *count = flight_total(reader->flight);
    *ids = obx_calloc(*count + 1, sizeof(**ids));
    if (*ids == NULL)
        return obx_fail(err, OBX_E_NOMEM, "ids of %zu rows", *count);
    *count = flight_list_ids(reader->flight, *ids);
    qsort(*ids, *count, sizeof(**ids), ids_compare);
    return OBX_OK;
}

/* Ids below this one are nowhere in memory and were not passed over. */
static enum obx_code find_floor(const struct reader *reader, uint64_t *floor, struct obx_err *err)
{
    uint64_t *ids = NULL;
    size_t count = 0;
    enum obx_code rc = list_ids(reader, &ids, &count, err);

    if (rc != OBX_OK)
        return rc;
    *floor = min_u64(reader->cursor, skips_low(&reader->skips));
    if (count > 0)
        *floor = min_u64(*floor, ids[0]);
    obx_free(ids);
    return OBX_OK;
}

/*
 * A look that is dear each time adds a second and more to a read: the left edge of the index is
 * full of millions of rows that purge cannot remove, because of a reader elsewhere. Then the ranges
 * that may hold such rows are left to the sweeps, and only there is the release rule weaker than
 * stated. One such look says nothing: the server may have stood still.
 */
static bool is_dear(const struct reader *reader)
{
    return reader->dear_lookups >= DEAR_LOOKUPS;
}

static enum obx_code need_ranges(struct reader *reader, size_t count, struct obx_err *err)
{
    struct id_range *more = NULL;

    if (count <= reader->range_cap)
        return OBX_OK;
    more = obx_realloc(reader->ranges, count * sizeof(more[0]));
    if (more == NULL)
        return obx_fail(err, OBX_E_NOMEM, "look at %zu ranges", count);
    reader->ranges = more;
    reader->range_cap = count;
    return OBX_OK;
}

static void add_range(struct reader *reader, uint64_t lo, uint64_t hi)
{
    reader->ranges[reader->range_count++] = (struct id_range){.lo = lo, .hi = hi};
}

/* Where the look is to be made: reader->ranges. */
static enum obx_code plan_lookup(struct reader *reader, enum lookup kind, struct obx_err *err)
{
    uint64_t top = kind == LOOKUP_RELEASE ? reader->read_to : reader->cursor;
    uint64_t floor = 0;
    enum obx_code rc = need_ranges(reader, reader->gaps.count + 1, err);

    if (rc == OBX_OK && kind == LOOKUP_SWEEP)
        rc = find_floor(reader, &floor, err);
    if (rc != OBX_OK)
        return rc;
    reader->range_count = 0;
    if (floor > 0)
        add_range(reader, 0, floor - 1);
    for (size_t i = 0; i < reader->gaps.count; i++) {
        const struct gap *gap = &reader->gaps.list[i];
        bool is_left_out = gap->is_wide && is_dear(reader) && kind != LOOKUP_SWEEP;

        if (gap->lo >= top)
            break;
        if (gap->hi >= floor && !is_left_out)
            add_range(reader, max_u64(gap->lo, floor), min_u64(gap->hi, top - 1));
    }
    return OBX_OK;
}

/* Admits what a page holds, and what of the held batch comes before. Ids that were passed over
   before are not late: the rescan will find them. */
static enum obx_code admit_late(struct reader *reader, enum lookup kind, struct obx_err *err)
{
    uint64_t skipped = skips_low(&reader->skips);
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < reader->late.count && rc == OBX_OK; i++) {
        uint64_t id = reader->late.rows[i]->id;
        bool admitted = false;

        if (kind == LOOKUP_RELEASE)
            rc = admit_batch(reader, id, err);
        if (rc == OBX_OK &&
            reader_consider(reader, &reader->late, i, OF_LOOKUP, &admitted) != OBX_OK)
            rc = obx_fail(err, OBX_E_NOMEM, "row %llu", (unsigned long long)id);
        if (rc != OBX_OK)
            break;
        gaps_fill(&reader->gaps, id);
        reader->cursor = max_u64(reader->cursor, reader_after(id));
        if (admitted)
            reader->change_us = reader_now_us(reader);
        if (admitted && id < skipped)
            reader->stats.late++;
    }
    return rc;
}

/* The first range that is not read yet, after a page from ranges i on. */
static size_t next_range(struct reader *reader, size_t i, size_t read)
{
    bool is_page_full = reader->late.count >= reader->opts.page_rows;
    uint64_t from = 0;

    if (!is_page_full)
        return i + read;
    from = reader_after(reader->late.rows[reader->late.count - 1]->id);
    while (i < reader->range_count && reader->ranges[i].hi < from)
        i++;
    if (i < reader->range_count && reader->ranges[i].lo < from)
        reader->ranges[i].lo = from;
    return i;
}

/* The pages of a look; as many as a turn may have. */
static enum obx_code read_pages(struct reader *reader, enum lookup kind, bool *is_complete,
                                struct obx_err *err)
{
    enum obx_code rc = OBX_OK;
    int full_pages = 0;
    size_t i = 0;

    while (rc == OBX_OK && i < reader->range_count && full_pages < SNAPSHOT_PAGES) {
        size_t count = reader->range_count - i;
        size_t next = 0;

        count = count < READER_RANGES ? count : READER_RANGES;
        rc = reader_read_page(reader, &reader->ranges[i], count, &reader->late, err);
        if (rc != OBX_OK)
            break;
        full_pages += reader->late.count >= reader->opts.page_rows;
        next = next_range(reader, i, count);
        rc = admit_late(reader, kind, err);
        i = next;
    }
    *is_complete = i >= reader->range_count;
    return rc;
}

/* Pages that are read one after the other would show a row of the second page, and not one of the
   first that was committed before it, meanwhile. So they are read as of one moment. */
static enum obx_code read_snapshot(struct reader *reader, enum lookup kind, bool *is_complete,
                                   struct obx_err *err)
{
    enum obx_code end_rc = OBX_OK;
    enum obx_code rc = reader->store.snapshot(reader->store.ctx, true, err);

    if (rc != OBX_OK)
        return rc;
    rc = read_pages(reader, kind, is_complete, err);
    end_rc = reader->store.snapshot(reader->store.ctx, false, rc == OBX_OK ? err : NULL);
    return rc == OBX_OK ? end_rc : rc;
}

static enum obx_code read_ranges(struct reader *reader, enum lookup kind, bool *is_complete,
                                 struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    *is_complete = reader->range_count == 0;
    if (*is_complete)
        return OBX_OK;
    if (reader->range_count > READER_RANGES)
        return read_snapshot(reader, kind, is_complete, err);
    rc = reader_read_page(reader, reader->ranges, reader->range_count, &reader->late, err);
    if (rc != OBX_OK)
        return rc;
    if (reader->late.count >= reader->opts.page_rows)
        return read_snapshot(reader, kind, is_complete, err);
    *is_complete = true;
    return admit_late(reader, kind, err);
}

/* What a look added to the work of a forward read decides when the next ones are made. */
static void space_lookups(struct reader *reader, enum lookup kind, uint64_t began_us)
{
    uint64_t now = reader_now_us(reader);
    uint64_t took_us = now - began_us;
    uint64_t added_us = took_us > reader->forward_us ? took_us - reader->forward_us : 0;
    uint64_t idle_us = (now - reader->change_us) / IDLE_PART;

    if (kind == LOOKUP_SWEEP || !is_dear(reader))
        reader->dear_lookups = added_us > DEAR_US ? reader->dear_lookups + 1 : 0;
    reader->lookup_free_us =
        added_us > CHEAP_US ? now + min_u64(added_us * LOOKUP_WAIT, WAIT_MAX_US) : now;
    idle_us = max_u64(min_u64(idle_us, reader->opts.sweep_us), IDLE_MIN_US);
    idle_us = max_u64(idle_us, took_us * IDLE_TIMES);
    reader->idle_lookup_us = now + max_u64(idle_us, added_us * IDLE_SHARE);
    if (kind != LOOKUP_SWEEP)
        return;
    reader->sweep_added_us = added_us;
    reader->sweep_us = now + max_u64(reader->opts.sweep_us, added_us * SWEEP_SHARE);
}

/* False in *is_complete: more was found than a turn may hold. What was found is admitted and in no
   gap any more; the next look begins at the beginning, because it is of another moment. */
enum obx_code reader_lookup(struct reader *reader, enum lookup kind, bool *is_complete,
                            struct obx_err *err)
{
    uint64_t began_us = reader_now_us(reader);
    enum obx_code rc = plan_lookup(reader, kind, err);

    if (rc == OBX_OK)
        rc = read_ranges(reader, kind, is_complete, err);
    if (rc == OBX_OK)
        space_lookups(reader, kind, began_us);
    return rc;
}

/* ---- the forward read ---- */

/* What lies between the rows of the batch from i on, and before them. Before the first row of all,
   a predecessor has seen and settled who knows what. */
static void note_gaps(struct reader *reader, size_t i)
{
    for (; i < reader->batch.count; i++) {
        uint64_t id = reader->batch.rows[i]->id;

        if (id > reader->read_to) {
            gaps_add(&reader->gaps, reader->read_to, id - 1, reader->read_to == 0);
            reader->change_us = reader_now_us(reader);
            reader->idle_lookup_us =
                min_u64(reader->idle_lookup_us, reader->change_us + IDLE_MIN_US);
        }
        reader->read_to = reader_after(id);
        reader->has_key = reader->has_key || reader->batch.rows[i]->key.p != NULL;
    }
}

static void note_size(struct reader *reader)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < reader->batch.count; i++) {
        const struct outbox_row *row = reader->batch.rows[i];

        bytes += row->size > row->payload_len ? row->size : row->payload_len;
    }
    if (reader->batch.count > 0)
        reader->row_bytes = (reader->row_bytes + bytes / reader->batch.count) / 2 + 1;
}

static uint32_t batch_limit(const struct reader *reader)
{
    uint64_t limit = reader->opts.batch_rows;
    uint64_t room = flight_room(reader->flight);

    if (reader->row_bytes == 0)
        limit = limit < FIRST_BATCH_ROWS ? limit : FIRST_BATCH_ROWS;
    else if (limit * reader->row_bytes > reader->opts.batch_bytes)
        limit = reader->opts.batch_bytes / reader->row_bytes;
    if (limit < MIN_BATCH_ROWS)
        limit = MIN_BATCH_ROWS;
    return (uint32_t)(limit < room ? limit : room);
}

/* Reads ahead, after what is held already; the lookup that has to come before its release begins
   afterwards. */
static enum obx_code read_ahead(struct reader *reader, struct obx_err *err)
{
    uint32_t limit = batch_limit(reader);
    size_t had = reader->batch.count;
    uint64_t began_us = reader_now_us(reader);
    uint64_t took_us = 0;
    enum obx_code rc = OBX_OK;

    if (limit <= had)
        return OBX_OK;
    reader->stats.polls++;
    rc = reader->store.forward(reader->store.ctx, reader->read_to, limit - (uint32_t)had,
                               &reader->batch, err);
    if (rc != OBX_OK)
        return rc;
    took_us = reader_now_us(reader) - began_us;
    if (reader->forward_us == 0)
        reader->forward_us = took_us;
    reader->forward_us += took_us / FORWARD_PART - reader->forward_us / FORWARD_PART;
    note_gaps(reader, had);
    note_size(reader);
    reader->is_batch_held = reader->batch.count > 0;
    reader->is_batch_full = reader->batch.count >= limit;
    return OBX_OK;
}

/* Without keys there is no order to keep. */
static bool needs_lookup(const struct reader *reader)
{
    return reader->has_key && reader->gaps.count > 0;
}

static void drop_batch(struct reader *reader)
{
    row_batch_clear(&reader->batch);
    reader->is_batch_held = false;
    reader->has_waited = false;
    reader->has_key = false;
    reader->batch_at = 0;
    gaps_cut(&reader->gaps, reader->cursor);
    reader->read_to = reader->cursor;
}

/* The rows that were admitted leave the batch; the others stay for another look. */
static void keep_rest(struct reader *reader)
{
    struct row_batch *batch = &reader->batch;
    size_t kept = 0;

    for (size_t i = 0; i < batch->count; i++) {
        if (i < reader->batch_at)
            obx_free(batch->rows[i]);
        else
            batch->rows[kept++] = batch->rows[i];
    }
    batch->count = kept;
    reader->batch_at = 0;
    if (kept == 0)
        drop_batch(reader);
}

static enum obx_code release(struct reader *reader, bool *is_full, struct obx_err *err)
{
    bool is_complete = true;
    enum obx_code rc = reader->store.mark_frozen(reader->store.ctx, &reader->batch, err);

    if (rc == OBX_OK && needs_lookup(reader))
        rc = reader_lookup(reader, LOOKUP_RELEASE, &is_complete, err);
    if (rc == OBX_OK && is_complete)
        rc = admit_batch(reader, UINT64_MAX, err);
    if (rc != OBX_OK) {
        drop_batch(reader);
        return rc;
    }
    *is_full = reader->is_batch_full || !is_complete;
    keep_rest(reader);
    return OBX_OK;
}

/* Releases the held batch if it need not wait for its look. When it had to, it takes with it what
   has come meanwhile: what a look costs is shared by as many rows as there are. */
static enum obx_code release_if_free(struct reader *reader, bool *is_full, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (needs_lookup(reader) && reader_now_us(reader) < reader->lookup_free_us) {
        reader->has_waited = true;
        return OBX_OK;
    }
    if (reader->has_waited)
        rc = read_ahead(reader, err);
    if (rc != OBX_OK) {
        drop_batch(reader);
        return rc;
    }
    return release(reader, is_full, err);
}

enum obx_code reader_poll(struct reader *reader, struct reader_result *result, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    *result = (struct reader_result){.new_rows = 0, .is_full = false};
    note_evicted(reader);
    if (!reader->is_batch_held)
        rc = read_ahead(reader, err);
    if (rc != OBX_OK || !reader->is_batch_held) {
        row_batch_clear(&reader->batch);
        return rc;
    }
    result->new_rows = reader->batch.count;
    return release_if_free(reader, &result->is_full, err);
}

/* ---- what is due by itself ---- */

/* A look that no batch asks for. */
static enum obx_code lookup_if_due(struct reader *reader, uint64_t now, struct obx_err *err)
{
    bool is_complete = true;
    enum obx_code rc = OBX_OK;

    if (now >= reader->sweep_us)
        rc = reader_lookup(reader, LOOKUP_SWEEP, &is_complete, err);
    else if (reader->gaps.count > 0 && now >= reader->idle_lookup_us)
        rc = reader_lookup(reader, LOOKUP_BEHIND, &is_complete, err);
    if (!is_complete)
        reader->idle_lookup_us = 0;
    return rc;
}

/* Joins gaps where all that was between them is settled: one range instead of many costs less, but
   while purge lags it would hold what is not purged. */
static enum obx_code tidy_gaps(struct reader *reader, uint64_t now, struct obx_err *err)
{
    size_t limit = reader->sweep_added_us > PURGE_LAGS_US ? GAPS_MANY : GAPS_FEW;
    uint64_t *ids = NULL;
    size_t count = 0;
    enum obx_code rc = OBX_OK;

    if (reader->gaps.count <= limit || now < reader->tidy_us || reader->is_batch_held)
        return OBX_OK;
    rc = list_ids(reader, &ids, &count, err);
    if (rc == OBX_OK)
        gaps_join_free(&reader->gaps, ids, count, skips_range(&reader->skips), limit / 2);
    obx_free(ids);
    reader->tidy_us = now + TIDY_MIN_US + (reader_now_us(reader) - now) * TIDY_SHARE;
    return rc;
}

enum obx_code reader_service(struct reader *reader, struct obx_err *err)
{
    uint64_t now = reader_now_us(reader);
    bool is_full = false;
    enum obx_code rc = OBX_OK;

    note_evicted(reader);
    rc = reader->is_batch_held ? release_if_free(reader, &is_full, err)
                               : lookup_if_due(reader, now, err);
    if (rc == OBX_OK)
        rc = tidy_gaps(reader, now, err);
    if (rc != OBX_OK || now < reader_rescan_due_us(reader))
        return rc;
    return reader_rescan_run(reader, err);
}

uint64_t reader_next_due_us(const struct reader *reader)
{
    uint64_t due = reader->sweep_us;

    if (reader->is_batch_held)
        due = needs_lookup(reader) ? reader->lookup_free_us : 0;
    else if (reader->gaps.count > 0)
        due = min_u64(due, reader->idle_lookup_us);
    return min_u64(due, reader_rescan_due_us(reader));
}

void reader_want_rescan(struct reader *reader)
{
    reader->rescan_wanted = true;
}

void reader_get_stats(const struct reader *reader, struct reader_stats *out)
{
    *out = reader->stats;
}

uint64_t reader_cursor(const struct reader *reader)
{
    return reader->cursor;
}
