/*
 * Rescans: a second reading of what was passed over for want of room, from the lowest such id to the
 * cursor, a page at a time. See docs/adr/0002-lane.md, "What is not admitted". Called by reader.c.
 */
#include "reader_private.h"

enum {
    RESCAN_ROOM = 64,   /* a rescan is worth its while when so many rows may become ready */
    RESCANS_SHARE = 20, /* complete rescans take at most 1 / RESCANS_SHARE of the time */
    RESCAN_SHARE = 10 /* a page that finds nearly nothing to admit takes at most 1 / RESCAN_SHARE */
};

static void rescan_start(struct reader *reader)
{
    bool is_asked = reader->rescan_wanted;
    bool wants_rescan = flight_wants_rescan(reader->flight);

    reader->rescan =
        (struct rescan){.is_on = true,
                        .is_complete_wanted =
                            is_asked || !wants_rescan || reader_now_us(reader) >= reader->rescan_us,
                        .needs_lookup = is_asked,
                        .number = flight_rescan_begin(reader->flight),
                        .from = skips_low(&reader->skips)};
    reader->rescan_wanted = false;
    reader->stats.rescans++;
    skips_rescan_begin(&reader->skips);
}

static void rescan_end(struct reader *reader, bool is_complete)
{
    uint64_t pause_us = reader->rescan.cost_us * RESCANS_SHARE;

    reader->rescan.is_on = false;
    if (!is_complete) {
        skips_rescan_stop(&reader->skips, reader->rescan.from);
        return;
    }
    skips_rescan_complete(&reader->skips);
    flight_rescan_complete(reader->flight, reader->rescan.number);
    if (pause_us < reader->opts.sweep_us)
        pause_us = reader->opts.sweep_us;
    reader->rescan_us = reader_now_us(reader) + pause_us;
}

/* A page may show a row that no look has seen. It is as new as one of a forward read, and is
   released after a look as that is. */
static enum obx_code rescan_lookup(struct reader *reader, struct obx_err *err)
{
    bool is_due = reader->rescan.needs_lookup;
    bool is_complete = true;
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < reader->rescan_rows.count && !is_due; i++)
        is_due = gaps_has(&reader->gaps, reader->rescan_rows.rows[i]->id);
    if (!is_due)
        return OBX_OK;
    rc = reader_lookup(reader, LOOKUP_BEHIND, &is_complete, err);
    if (rc == OBX_OK && !is_complete)
        row_batch_clear(&reader->rescan_rows); /* not yet */
    reader->rescan.needs_lookup = rc != OBX_OK || !is_complete;
    return rc;
}

static enum obx_code rescan_admit(struct reader *reader, size_t *admitted_rows, struct obx_err *err)
{
    for (size_t i = 0; i < reader->rescan_rows.count; i++) {
        uint64_t id = reader->rescan_rows.rows[i]->id;
        bool admitted = false;

        if (reader_consider(reader, &reader->rescan_rows, i, OF_RESCAN, &admitted) != OBX_OK)
            return obx_fail(err, OBX_E_NOMEM, "row %llu", (unsigned long long)id);
        gaps_fill(&reader->gaps, id);
        reader->rescan.from = reader_after(id);
        *admitted_rows += admitted;
    }
    return OBX_OK;
}

/* How long to leave the database alone after a page: not at all if it was worth it. */
static uint64_t rescan_pause_us(const struct reader *reader, size_t admitted, uint64_t cost_us)
{
    if (admitted > reader->opts.page_rows / RESCAN_SHARE)
        return 0;
    return reader->rescan.is_complete_wanted ? cost_us : cost_us * RESCAN_SHARE;
}

/* One page of the rescan. It ends at the cursor, or when nobody is left for whom there is room. */
static enum obx_code rescan_page(struct reader *reader, struct obx_err *err)
{
    struct id_range range = {.lo = reader->rescan.from, .hi = reader->cursor - 1};
    uint64_t start_us = reader_now_us(reader);
    uint64_t cost_us = 0;
    size_t admitted = 0;
    bool is_last = false;
    enum obx_code rc = OBX_OK;

    row_batch_clear(&reader->rescan_rows);
    if (range.lo < reader->cursor)
        rc = reader_read_page(reader, &range, 1, &reader->rescan_rows, err);
    is_last = reader->rescan_rows.count < reader->opts.page_rows;
    if (rc == OBX_OK)
        rc = rescan_lookup(reader, err);
    if (rc == OBX_OK)
        rc = rescan_admit(reader, &admitted, err);
    if (rc != OBX_OK)
        return rc;
    cost_us = reader_now_us(reader) - start_us;
    reader->rescan.cost_us += cost_us;
    is_last = is_last && !reader->rescan.needs_lookup;
    if (is_last || !(reader->rescan.needs_lookup || reader->rescan.is_complete_wanted ||
                     flight_wants_rescan(reader->flight)))
        rescan_end(reader, is_last);
    else
        reader->rescan.next_us = start_us + cost_us + rescan_pause_us(reader, admitted, cost_us);
    return OBX_OK;
}

/* Microseconds at which the rescan has something to do; UINT64_MAX: not before something changes. A
   row at or above the cursor is the forward read's (a resume may put one there); it will be passed
   over then, for its key is in the set. */
uint64_t reader_rescan_due_us(const struct reader *reader)
{
    uint32_t worth = reader->opts.batch_rows < RESCAN_ROOM ? reader->opts.batch_rows : RESCAN_ROOM;

    if (flight_room(reader->flight) < worth)
        return UINT64_MAX;
    if (reader->rescan.is_on)
        return reader->rescan.next_us;
    if (!skips_any(&reader->skips) || skips_low(&reader->skips) >= reader->cursor)
        return UINT64_MAX;
    return reader->rescan_wanted || flight_wants_rescan(reader->flight) ? 0 : reader->rescan_us;
}

enum obx_code reader_rescan_run(struct reader *reader, struct obx_err *err)
{
    if (!reader->rescan.is_on)
        rescan_start(reader);
    return rescan_page(reader, err);
}
