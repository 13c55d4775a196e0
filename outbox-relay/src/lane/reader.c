/*
 * The reader: cursor, gaps, low water and passes. See reader.h for what it promises and who calls
 * it.
 */
#include "reader.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "gaps.h"
#include "skips.h"

enum {
    PAGE_ROWS = 1000,
    FIRST_BATCH_ROWS = 128,
    MIN_BATCH_ROWS = 16,
    PASS_ROOM = 64,        /* a pass is worth its while when so many rows may become ready */
    FIRST_GAP_IDS = 10000, /* ids below the first row that are looked at like gaps */
    GAP_AGE_MS = 10000,    /* older gaps fall below low water */
    GAP_LOOK_US = 20000,   /* gaps are looked at so often when nothing new comes */
    CHEAP_DEEP_US = 500,   /* a look below low water that costs less goes with every look */
    DEEP_SHARE = 50,       /* a dearer one takes at most 1 / DEEP_SHARE of the time */
    PASSES_SHARE = 20,     /* complete passes take at most 1 / PASSES_SHARE */
    PASS_SHARE =
        10, /* a page of a pass that finds nearly nothing to admit takes at most 1 / PASS_SHARE */
    SNAPSHOT_PAGES = 64,       /* pages of a look in one turn */
    FLOOR_INTERVAL_US = 500000 /* the lowest id in memory is looked up so often */
};

#define US_PER_MS 1000U

/* A look behind the cursor, over as many turns as it takes. */
struct scan {
    bool is_on;
    bool has_deep; /* the first range is the one below low water */
    size_t range_count;
    struct id_range ranges[GAPS_MAX + 2];
    uint64_t read_to;
    uint64_t cost_us;
};

/* A second reading of what was passed over. */
struct pass {
    bool is_on;
    bool is_complete_wanted; /* goes to the cursor, whoever is served before */
    bool needs_look;         /* rows were put back: they are as new as those of a forward read */
    uint64_t number;
    uint64_t read_to;
    uint64_t next_us; /* not before */
    uint64_t cost_us;
};

struct reader {
    struct reader_opts opts;
    struct reader_store store;
    struct flight *flight; /* borrowed: outlives the reader */
    struct gaps gaps;
    struct skips skips;
    struct scan scan;
    struct pass pass;
    struct row_batch
        batch; /* of the forward read; while is_batch_held it waits for the scan to end */
    bool is_batch_held;
    bool is_batch_full;
    struct row_batch late;      /* of a look behind */
    struct row_batch pass_rows; /* of a page of the pass */
    struct reader_stats stats;
    uint64_t cursor;
    uint64_t low_water; /* up to here no id is in memory and no gap is kept: only a look at all of
                           it finds rows */
    uint64_t row_bytes; /* of a row, as of late */
    uint64_t gap_look_us;
    uint64_t deep_look_us; /* when the next one is due at the latest */
    uint64_t deep_free_us; /* before that a dear look is not made */
    uint64_t deep_cost_us;
    uint64_t floor_us;
    uint64_t pass_us; /* a complete pass is made then though nobody asks for it */
    bool pass_wanted;
};

static uint64_t now_us(const struct reader *reader)
{
    return reader->store.now_us(reader->store.ctx);
}

enum obx_code reader_create(const struct reader_opts *opts, const struct reader_store *store,
                            struct flight *flight, struct reader **out, struct obx_err *err)
{
    struct reader *reader = obx_calloc(1, sizeof(*reader));
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (reader == NULL)
        return obx_fail(err, OBX_E_NOMEM, "reader");
    rc = skips_init(&reader->skips, err);
    if (rc != OBX_OK) {
        obx_free(reader);
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
    row_batch_fini(&reader->pass_rows);
    skips_fini(&reader->skips);
    obx_free(reader);
}

void reader_reset(struct reader *reader)
{
    gaps_clear(&reader->gaps);
    skips_clear(&reader->skips);
    reader->scan.is_on = false;
    reader->pass = (struct pass){.is_on = false};
    row_batch_clear(&reader->batch);
    reader->is_batch_held = false;
    reader->cursor = 0;
    reader->low_water = 0;
    reader->row_bytes = 0;
    reader->gap_look_us = 0;
    reader->deep_look_us = 0;
    reader->deep_free_us = 0;
    reader->deep_cost_us = 0;
    reader->floor_us = 0;
    reader->pass_us = 0;
    reader->pass_wanted = false;
}

/* ---- admission ---- */

void reader_pass_over(struct reader *reader, uint64_t id, struct obx_bytes key)
{
    skips_add(&reader->skips, id, key);
    reader->stats.passed_over++;
}

enum row_origin { OF_FORWARD, OF_LOOK, OF_PASS };

/* Whether the row has to stay out because an earlier one of its key was passed over. For rows of a
   pass only what this pass has passed over counts. */
static bool is_blocked(const struct reader *reader, const struct outbox_row *row,
                       enum row_origin origin)
{
    if (row->behind == READER_HOLD)
        return true;
    if (row->behind != 0)
        return false; /* parked behind its head, in order, whatever was passed over */
    return origin == OF_PASS ? skips_pass_blocks(&reader->skips, row->key)
                             : skips_blocks(&reader->skips, row->key);
}

/* Takes row i of the batch into the flight table or passes it over. */
static enum obx_code consider(struct reader *reader, struct row_batch *batch, size_t i,
                              enum row_origin origin, bool *admitted)
{
    struct outbox_row *row = batch->rows[i];
    enum flight_answer answer = FLIGHT_NO_ROOM;

    *admitted = false;
    if (origin != OF_FORWARD && flight_find(reader->flight, row->id) != NULL)
        return OBX_OK;
    if (!is_blocked(reader, row, origin))
        answer = flight_admit_take(reader->flight, row);
    else if (reader->pass.is_on && origin != OF_PASS)
        flight_passed_over(reader->flight, row->key); /* this pass may be past it */
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

/* ---- looks behind the cursor ---- */

static enum obx_code read_page(struct reader *reader, const struct id_range *ranges, size_t count,
                               uint64_t after, struct row_batch *rows, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    row_batch_clear(rows);
    rc = reader->store.behind(reader->store.ctx, ranges, count, after, reader->opts.page_rows, rows,
                              err);
    if (rc == OBX_OK && rows->count > 0)
        rc = reader->store.mark_frozen(reader->store.ctx, rows, err);
    return rc;
}

/* Below low water, but not where a pass will look anyway. */
static struct id_range deep_range(const struct reader *reader)
{
    uint64_t skipped = skips_low(&reader->skips);
    uint64_t hi = skipped <= reader->low_water ? skipped - 1 : reader->low_water;

    return (struct id_range){.lo = 1, .hi = hi};
}

static void scan_start(struct reader *reader, bool with_deep)
{
    struct scan *scan = &reader->scan;
    struct id_range deep = deep_range(reader);

    scan->is_on = true;
    scan->has_deep = with_deep;
    scan->range_count = 0;
    scan->read_to = 0;
    scan->cost_us = 0;
    if (with_deep && deep.hi > 0)
        scan->ranges[scan->range_count++] = deep;
    memcpy(&scan->ranges[scan->range_count], reader->gaps.ranges,
           reader->gaps.count * sizeof(scan->ranges[0]));
    scan->range_count += reader->gaps.count;
}

static void scan_end(struct reader *reader)
{
    const struct scan *scan = &reader->scan;
    uint64_t now = now_us(reader);

    reader->scan.is_on = false;
    reader->gap_look_us = now + GAP_LOOK_US;
    if (!scan->has_deep)
        return;
    reader->deep_cost_us = scan->cost_us;
    reader->deep_free_us = now + scan->cost_us * DEEP_SHARE;
    reader->deep_look_us = now + reader->opts.sweep_us;
    if (reader->deep_look_us < reader->deep_free_us)
        reader->deep_look_us = reader->deep_free_us;
}

/* Admits what a page holds. Ids that were passed over before are not late: the pass will find them.
 */
static enum obx_code scan_admit(struct reader *reader, struct obx_err *err)
{
    uint64_t skipped = skips_low(&reader->skips);

    for (size_t i = 0; i < reader->late.count; i++) {
        uint64_t id = reader->late.rows[i]->id;
        bool admitted = false;

        if (consider(reader, &reader->late, i, OF_LOOK, &admitted) != OBX_OK)
            return obx_fail(err, OBX_E_NOMEM, "row %llu", (unsigned long long)id);
        gaps_fill(&reader->gaps, id);
        reader->scan.read_to = id;
        if (admitted && id < skipped)
            reader->stats.late++;
    }
    return OBX_OK;
}

static enum obx_code scan_page(struct reader *reader, struct obx_err *err)
{
    const struct scan *scan = &reader->scan;

    return read_page(reader, scan->ranges, scan->range_count, scan->read_to, &reader->late, err);
}

/* Pages that are read one after the other would show a row of the second page, and not one of the
   first that was committed before it, meanwhile. So they are read as of one moment, from the first
   one on. */
static enum obx_code scan_snapshot(struct reader *reader, bool *is_last, struct obx_err *err)
{
    enum obx_code end_rc = OBX_OK;
    enum obx_code rc = reader->store.snapshot(reader->store.ctx, true, err);

    if (rc != OBX_OK)
        return rc;
    for (int page = 0; page < SNAPSHOT_PAGES && !*is_last && rc == OBX_OK; page++) {
        rc = scan_page(reader, err);
        *is_last = reader->late.count < reader->opts.page_rows;
        if (rc == OBX_OK)
            rc = scan_admit(reader, err);
    }
    end_rc = reader->store.snapshot(reader->store.ctx, false, rc == OBX_OK ? err : NULL);
    return rc == OBX_OK ? end_rc : rc;
}

/* Goes on with the scan for a turn; it may still be on afterwards. */
static enum obx_code scan_run(struct reader *reader, struct obx_err *err)
{
    struct scan *scan = &reader->scan;
    uint64_t start_us = now_us(reader);
    enum obx_code rc = OBX_OK;
    bool is_last = scan->range_count == 0;

    if (!is_last && scan->read_to == 0) {
        rc = scan_page(reader, err);
        is_last = reader->late.count < reader->opts.page_rows;
        if (rc == OBX_OK && is_last)
            rc = scan_admit(reader, err);
    }
    if (rc == OBX_OK && !is_last)
        rc = scan_snapshot(reader, &is_last, err);
    scan->cost_us += now_us(reader) - start_us;
    if (rc == OBX_OK && is_last)
        scan_end(reader);
    return rc;
}

static bool may_look_deep(const struct reader *reader)
{
    return reader->deep_cost_us <= CHEAP_DEEP_US || now_us(reader) >= reader->deep_free_us;
}

/* ---- the forward read ---- */

/* When the ids before a row were given out: when we noticed, or earlier if the row itself is older.
 */
static uint64_t born_ms(const struct reader *reader, uint64_t created_us)
{
    uint64_t now_ms = now_us(reader) / US_PER_MS;
    uint64_t db_now_us = reader->store.db_now_us(reader->store.ctx);
    uint64_t age_ms = 0;

    if (db_now_us > created_us)
        age_ms = (db_now_us - created_us) / US_PER_MS;
    return age_ms < now_ms ? now_ms - age_ms : 0;
}

static void note_gap(struct reader *reader, uint64_t id, uint64_t created_us)
{
    uint64_t lo = reader->cursor + 1;
    uint64_t hi = id - 1;

    if (id <= lo)
        return;
    if (reader->cursor == 0 && hi > FIRST_GAP_IDS) {
        lo = hi - FIRST_GAP_IDS + 1;
        reader->low_water = lo - 1;
    }
    /* Before the first row everything may be young: transactions that were open when we started. */
    gaps_add(&reader->gaps, lo, hi,
             reader->cursor == 0 ? now_us(reader) / US_PER_MS : born_ms(reader, created_us));
}

static enum obx_code admit_batch(struct reader *reader, struct obx_err *err)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < reader->batch.count; i++) {
        struct outbox_row *row = reader->batch.rows[i];
        uint64_t id = row->id;
        uint64_t created_us = row->created_us;
        bool admitted = false;

        bytes += row->size > row->payload_len ? row->size : row->payload_len;
        if (consider(reader, &reader->batch, i, OF_FORWARD, &admitted) != OBX_OK)
            return obx_fail(err, OBX_E_NOMEM, "row %llu", (unsigned long long)id);
        note_gap(reader, id, created_us);
        reader->cursor = id;
        reader->stats.rows++;
    }
    if (reader->batch.count > 0)
        reader->row_bytes = (reader->row_bytes + bytes / reader->batch.count) / 2 + 1;
    return OBX_OK;
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

/* The low-water mark stays below everything in memory and below the gaps that are not old yet. */
static void raise_low_water(struct reader *reader)
{
    uint64_t now = now_us(reader);
    uint64_t now_ms = now / US_PER_MS;
    uint64_t floor_id = 0;
    uint64_t mark = reader->cursor;

    if (now < reader->floor_us)
        return;
    reader->floor_us = now + FLOOR_INTERVAL_US;
    floor_id = flight_lowest_id(reader->flight);
    if (now_ms > GAP_AGE_MS)
        (void)gaps_expire(&reader->gaps, now_ms - GAP_AGE_MS, floor_id);
    if (floor_id <= mark)
        mark = floor_id - 1;
    if (reader->gaps.count > 0 && reader->gaps.ranges[0].lo <= mark)
        mark = reader->gaps.ranges[0].lo - 1;
    if (mark > reader->low_water)
        reader->low_water = mark;
}

/* Reads ahead and holds the rows; the scan that has to come before their release begins now. */
static enum obx_code read_ahead(struct reader *reader, struct obx_err *err)
{
    uint32_t limit = batch_limit(reader);
    enum obx_code rc = OBX_OK;

    if (limit == 0)
        return OBX_OK;
    reader->stats.polls++;
    row_batch_clear(&reader->batch);
    rc = reader->store.forward(reader->store.ctx, reader->cursor, limit, &reader->batch, err);
    if (rc != OBX_OK || reader->batch.count == 0)
        return rc;
    reader->is_batch_held = true;
    reader->is_batch_full = reader->batch.count >= limit;
    scan_start(reader, may_look_deep(reader));
    return OBX_OK;
}

static enum obx_code release_batch(struct reader *reader, struct reader_result *result,
                                   struct obx_err *err)
{
    enum obx_code rc = reader->store.mark_frozen(reader->store.ctx, &reader->batch, err);

    if (rc == OBX_OK)
        rc = admit_batch(reader, err);
    result->new_rows = reader->batch.count;
    result->is_full = reader->is_batch_full;
    row_batch_clear(&reader->batch);
    reader->is_batch_held = false;
    return rc;
}

enum obx_code reader_poll(struct reader *reader, struct reader_result *result, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    *result = (struct reader_result){.new_rows = 0, .is_full = false};
    if (!reader->is_batch_held)
        rc = read_ahead(reader, err);
    if (rc != OBX_OK || !reader->is_batch_held)
        return rc;
    rc = scan_run(reader, err);
    if (rc == OBX_OK && !reader->scan.is_on)
        rc = release_batch(reader, result, err);
    else
        result->is_full = true;
    raise_low_water(reader);
    return rc;
}

/* ---- passes ---- */

static void pass_start(struct reader *reader)
{
    bool is_asked = reader->pass_wanted;
    bool is_hungry = flight_is_hungry(reader->flight);

    reader->pass = (struct pass){.is_on = true,
                                 .is_complete_wanted =
                                     is_asked || !is_hungry || now_us(reader) >= reader->pass_us,
                                 .needs_look = is_asked,
                                 .number = flight_pass_begin(reader->flight),
                                 .read_to = skips_low(&reader->skips) - 1};
    reader->pass_wanted = false;
    reader->stats.passes++;
    skips_pass_begin(&reader->skips);
}

static void pass_end(struct reader *reader, bool is_complete)
{
    uint64_t pause_us = reader->pass.cost_us * PASSES_SHARE;

    reader->pass.is_on = false;
    if (!is_complete) {
        skips_pass_stop(&reader->skips, reader->pass.read_to);
        return;
    }
    skips_pass_complete(&reader->skips);
    flight_pass_complete(reader->flight, reader->pass.number);
    if (pause_us < reader->opts.sweep_us)
        pause_us = reader->opts.sweep_us;
    reader->pass_us = now_us(reader) + pause_us;
}

/* A page may show a row that no look has seen. It is as new as one of a forward read, and is
   released after a look as that is. */
static enum obx_code pass_look(struct reader *reader, struct obx_err *err)
{
    bool is_due = reader->pass.needs_look;
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < reader->pass_rows.count && !is_due; i++)
        is_due = gaps_has(&reader->gaps, reader->pass_rows.rows[i]->id);
    if (!is_due)
        return OBX_OK;
    scan_start(reader, may_look_deep(reader));
    rc = scan_run(reader, err);
    if (rc == OBX_OK)
        reader->pass.needs_look = false;
    return rc;
}

static enum obx_code pass_admit(struct reader *reader, size_t *admitted_rows, struct obx_err *err)
{
    for (size_t i = 0; i < reader->pass_rows.count; i++) {
        uint64_t id = reader->pass_rows.rows[i]->id;
        bool admitted = false;

        if (consider(reader, &reader->pass_rows, i, OF_PASS, &admitted) != OBX_OK)
            return obx_fail(err, OBX_E_NOMEM, "row %llu", (unsigned long long)id);
        gaps_fill(&reader->gaps, id);
        reader->pass.read_to = id;
        *admitted_rows += admitted;
    }
    return OBX_OK;
}

/* How long to leave the database alone after a page: not at all if it was worth it. */
static uint64_t pass_pause_us(const struct reader *reader, size_t admitted, uint64_t cost_us)
{
    if (admitted > reader->opts.page_rows / PASS_SHARE)
        return 0;
    return reader->pass.is_complete_wanted ? cost_us : cost_us * PASS_SHARE;
}

/* One page of the pass. It ends at the cursor, or when nobody is left for whom there is room. */
static enum obx_code pass_page(struct reader *reader, struct obx_err *err)
{
    struct id_range range = {.lo = reader->pass.read_to + 1, .hi = reader->cursor};
    uint64_t start_us = now_us(reader);
    uint64_t cost_us = 0;
    size_t admitted = 0;
    bool is_last = false;
    enum obx_code rc = OBX_OK;

    row_batch_clear(&reader->pass_rows);
    if (range.lo <= range.hi)
        rc = read_page(reader, &range, 1, reader->pass.read_to, &reader->pass_rows, err);
    if (rc == OBX_OK)
        rc = pass_look(reader, err);
    if (rc == OBX_OK)
        rc = pass_admit(reader, &admitted, err);
    if (rc != OBX_OK)
        return rc;
    cost_us = now_us(reader) - start_us;
    reader->pass.cost_us += cost_us;
    is_last = reader->pass_rows.count < reader->opts.page_rows;
    if (is_last || !(reader->pass.is_complete_wanted || flight_is_hungry(reader->flight)))
        pass_end(reader, is_last);
    else
        reader->pass.next_us = start_us + cost_us + pass_pause_us(reader, admitted, cost_us);
    return OBX_OK;
}

/* Microseconds at which the pass has something to do; UINT64_MAX: not before something changes. A
   row above the cursor is the forward read's (a resume may put one there); it will be passed over
   then, for its key is in the set. */
static uint64_t pass_due_us(const struct reader *reader)
{
    uint32_t worth = reader->opts.batch_rows < PASS_ROOM ? reader->opts.batch_rows : PASS_ROOM;

    if (flight_room(reader->flight) < worth)
        return UINT64_MAX;
    if (reader->pass.is_on)
        return reader->pass.next_us;
    if (!skips_any(&reader->skips) || skips_low(&reader->skips) > reader->cursor)
        return UINT64_MAX;
    return reader->pass_wanted || flight_is_hungry(reader->flight) ? 0 : reader->pass_us;
}

/* A look at the gaps, or below low water, that no forward read asks for. */
static enum obx_code look_if_due(struct reader *reader, uint64_t now, struct obx_err *err)
{
    bool is_deep_due = now >= reader->deep_look_us;

    if (reader->is_batch_held)
        return OBX_OK;
    if (!reader->scan.is_on &&
        (is_deep_due || (reader->gaps.count > 0 && now >= reader->gap_look_us)))
        scan_start(reader, is_deep_due);
    return reader->scan.is_on ? scan_run(reader, err) : OBX_OK;
}

enum obx_code reader_service(struct reader *reader, struct obx_err *err)
{
    uint64_t now = now_us(reader);
    enum obx_code rc = look_if_due(reader, now, err);

    raise_low_water(reader);
    if (rc != OBX_OK || now < pass_due_us(reader))
        return rc;
    if (!reader->pass.is_on)
        pass_start(reader);
    return pass_page(reader, err);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t reader_next_due_us(const struct reader *reader)
{
    uint64_t due = reader->deep_look_us;

    if (reader->scan.is_on || reader->is_batch_held)
        return 0;
    if (reader->gaps.count > 0)
        due = min_u64(due, reader->gap_look_us);
    return min_u64(due, pass_due_us(reader));
}

void reader_want_pass(struct reader *reader)
{
    reader->pass_wanted = true;
}

void reader_get_stats(const struct reader *reader, struct reader_stats *out)
{
    *out = reader->stats;
}

uint64_t reader_cursor(const struct reader *reader)
{
    return reader->cursor;
}
