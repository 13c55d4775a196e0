/*
 * Where to look in the outbox, when, and what to do with what is there.
 *
 * Reads forward from the cursor, looks up behind it at every id that was never seen (gaps.h), and again over
 * what was passed over. Rows of a forward read that have a key are admitted to the flight table
 * only after a look at all those ids that began after the read had ended (the release rule of
 * docs/adr/0002-lane.md: without it two rows of one key can go out in the wrong order). A look that
 * costs much is waited for, and spaced; it is never left out.
 *
 * No SQL and no clock of its own: both come through struct reader_store. Owned by one lane thread.
 * Proved by tests/unit/reader_test.c, with a store that commits late and fails, and by
 * tests/unit/lane_sim_test.c.
 */
#ifndef RELAY_READER_H
#define RELAY_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "lane/flight/flight.h"
#include "outbox/outbox_row.h"

struct reader_store {
    /** Full rows with id >= from, ascending, at most limit. Appends to batch. */
    enum obx_code (*forward)(void *ctx, uint64_t from, uint32_t limit, struct row_batch *batch,
                             struct obx_err *err);
    /** Light rows within the ranges (ascending, apart, at most READER_RANGES), ascending, at most
     * limit. Appends to batch. */
    enum obx_code (*behind)(void *ctx, const struct id_range *ranges, size_t range_count,
                            uint32_t limit, struct row_batch *batch, struct obx_err *err);
    /** From true to false, every `behind` sees the table as it was at one moment. Nothing is
     * written and nothing waited for in between. */
    enum obx_code (*snapshot)(void *ctx, bool on, struct obx_err *err);
    /** Set row->blocked_by for rows whose key is frozen or is being resumed (READER_HOLD). */
    enum obx_code (*mark_frozen)(void *ctx, struct row_batch *batch, struct obx_err *err);
    /** Monotonic microseconds. */
    uint64_t (*now_us)(void *ctx);
    void *ctx;
};
/** Ranges of one statement: more would cost the server's optimiser more than a second statement. */
enum { READER_RANGES = 512 };
/** row->blocked_by: the key is being resumed: pass the row over for now. */
#define READER_HOLD UINT64_MAX

struct reader_opts {
    uint32_t batch_rows;
    uint64_t batch_bytes; /* rows a read are limited to about that many bytes, judged by those read
                             before */
    uint64_t sweep_us;    /* look at all that is below everything in memory at least that often,
                             unless that is dear */
    uint32_t page_rows; /* rows of one page of a lookup behind the cursor or of a rescan; 0: 1000 */
};

struct reader_stats {
    uint64_t rows, late, polls, passed_over, rescans;
};

struct reader;

/** store is copied, flight is borrowed and outlives the reader. On failure *out is NULL.
 * OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code reader_create(const struct reader_opts *opts,
                                          const struct reader_store *store, struct flight *flight,
                                          struct reader **out, struct obx_err *err);
void reader_destroy(struct reader *reader);
/** Start again at the beginning, knowing nothing. The flight table has been cleared. */
void reader_reset(struct reader *reader);

/** What a turn brought. */
struct reader_result {
    size_t new_rows; /* rows above the cursor */
    bool is_full;    /* there is more to do at once */
};
/**
 * Read forward, and look up behind the cursor as the rules say; admit what is found. Call when flight_room is worth a
 * read, after a ring or when the poll is due. On failure nothing is lost: the cursor has not moved
 * over rows that were not admitted.
 */
OBX_NODISCARD enum obx_code reader_poll(struct reader *reader, struct reader_result *result,
                                        struct obx_err *err);
/** Do what is due apart from polls: sweeps, and one page of a rescan of what was passed over. */
OBX_NODISCARD enum obx_code reader_service(struct reader *reader, struct obx_err *err);
/** Monotonic microseconds at which reader_service wants to run; UINT64_MAX: not before something
 * changes. */
uint64_t reader_next_due_us(const struct reader *reader);
/** A resume put this row back: it must be read again, and nothing of its key may overtake it. */
void reader_pass_over(struct reader *reader, uint64_t id, struct obx_bytes key);
/** A resume has put rows back: make the rescan now. */
void reader_want_rescan(struct reader *reader);
void reader_get_stats(const struct reader *reader, struct reader_stats *out);
/** Everything below was seen or is looked up. */
uint64_t reader_cursor(const struct reader *reader);

#endif
