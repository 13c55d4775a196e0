/*
 * Passes: a second reading of what was passed over for want of room, from the lowest such id to the
 * cursor, a page at a time. See docs/adr/0002-lane.md, "What is not admitted". Called by reader.c.
 */
#include "reader_private.h"

enum {
    PASS_ROOM = 64,    /* a pass is worth its while when so many rows may become ready */
    PASSES_SHARE = 20, /* complete passes take at most 1 / PASSES_SHARE of the time */
    PASS_SHARE = 10    /* a page that finds nearly nothing to admit takes at most 1 / PASS_SHARE */
};

static void pass_start(struct reader *reader)
{
    bool is_asked = reader->pass_wanted;
    bool is_hungry = flight_is_hungry(reader->flight);

    reader->pass = (struct pass){.is_on = true,
                                 .is_complete_wanted = is_asked || !is_hungry ||
                                                       reader_now_us(reader) >= reader->pass_us,
                                 .needs_look = is_asked,
                                 .number = flight_pass_begin(reader->flight),
                                 .from = skips_low(&reader->skips)};
    reader->pass_wanted = false;
    reader->stats.passes++;
    skips_pass_begin(&reader->skips);
}

static void pass_end(struct reader *reader, bool is_complete)
{
    uint64_t pause_us = reader->pass.cost_us * PASSES_SHARE;

    reader->pass.is_on = false;
    if (!is_complete) {
        skips_pass_stop(&reader->skips, reader->pass.from);
        return;
    }
    skips_pass_complete(&reader->skips);
    flight_pass_complete(reader->flight, reader->pass.number);
    if (pause_us < reader->opts.sweep_us)
        pause_us = reader->opts.sweep_us;
    reader->pass_us = reader_now_us(reader) + pause_us;
}

/* A page may show a row that no look has seen. It is as new as one of a forward read, and is
   released after a look as that is. */
static enum obx_code pass_look(struct reader *reader, struct obx_err *err)
{
    bool is_due = reader->pass.needs_look;
    bool is_complete = true;
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < reader->pass_rows.count && !is_due; i++)
        is_due = gaps_has(&reader->gaps, reader->pass_rows.rows[i]->id);
    if (!is_due)
        return OBX_OK;
    rc = reader_look(reader, LOOK_BEHIND, &is_complete, err);
    if (rc == OBX_OK && !is_complete)
        row_batch_clear(&reader->pass_rows); /* not yet */
    reader->pass.needs_look = rc != OBX_OK || !is_complete;
    return rc;
}

static enum obx_code pass_admit(struct reader *reader, size_t *admitted_rows, struct obx_err *err)
{
    for (size_t i = 0; i < reader->pass_rows.count; i++) {
        uint64_t id = reader->pass_rows.rows[i]->id;
        bool admitted = false;

        if (reader_consider(reader, &reader->pass_rows, i, OF_PASS, &admitted) != OBX_OK)
            return obx_fail(err, OBX_E_NOMEM, "row %llu", (unsigned long long)id);
        gaps_fill(&reader->gaps, id);
        reader->pass.from = reader_after(id);
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
    struct id_range range = {.lo = reader->pass.from, .hi = reader->cursor - 1};
    uint64_t start_us = reader_now_us(reader);
    uint64_t cost_us = 0;
    size_t admitted = 0;
    bool is_last = false;
    enum obx_code rc = OBX_OK;

    row_batch_clear(&reader->pass_rows);
    if (range.lo < reader->cursor)
        rc = reader_read_page(reader, &range, 1, &reader->pass_rows, err);
    is_last = reader->pass_rows.count < reader->opts.page_rows;
    if (rc == OBX_OK)
        rc = pass_look(reader, err);
    if (rc == OBX_OK)
        rc = pass_admit(reader, &admitted, err);
    if (rc != OBX_OK)
        return rc;
    cost_us = reader_now_us(reader) - start_us;
    reader->pass.cost_us += cost_us;
    is_last = is_last && !reader->pass.needs_look;
    if (is_last || !(reader->pass.needs_look || reader->pass.is_complete_wanted ||
                     flight_is_hungry(reader->flight)))
        pass_end(reader, is_last);
    else
        reader->pass.next_us = start_us + cost_us + pass_pause_us(reader, admitted, cost_us);
    return OBX_OK;
}

/* Microseconds at which the pass has something to do; UINT64_MAX: not before something changes. A
   row at or above the cursor is the forward read's (a resume may put one there); it will be passed
   over then, for its key is in the set. */
uint64_t reader_pass_due_us(const struct reader *reader)
{
    uint32_t worth = reader->opts.batch_rows < PASS_ROOM ? reader->opts.batch_rows : PASS_ROOM;

    if (flight_room(reader->flight) < worth)
        return UINT64_MAX;
    if (reader->pass.is_on)
        return reader->pass.next_us;
    if (!skips_any(&reader->skips) || skips_low(&reader->skips) >= reader->cursor)
        return UINT64_MAX;
    return reader->pass_wanted || flight_is_hungry(reader->flight) ? 0 : reader->pass_us;
}

enum obx_code reader_pass_run(struct reader *reader, struct obx_err *err)
{
    if (!reader->pass.is_on)
        pass_start(reader);
    return pass_page(reader, err);
}
