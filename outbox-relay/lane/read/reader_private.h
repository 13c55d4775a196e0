/*
 * What reader.c and reader_rescan.c share. Nobody else includes it.
 */
#ifndef LANE_READER_PRIVATE_H
#define LANE_READER_PRIVATE_H

#include "gaps.h"
#include "reader.h"
#include "skips.h"

/* A second reading of what was passed over. */
struct rescan {
    bool is_on;
    bool is_complete_wanted; /* goes to the cursor, whatever is served before */
    bool needs_lookup;       /* rows were put back: they are as new as those of a forward read */
    uint64_t number;
    uint64_t from;    /* everything below was read */
    uint64_t next_us; /* not before */
    uint64_t cost_us;
};

struct reader {
    struct reader_opts opts;
    struct reader_store store;
    struct flight *flight; /* borrowed: outlives the reader */
    struct gaps gaps;
    struct skips skips;
    struct rescan rescan;
    /* Of the forward read. While is_batch_held it waits for its look; rows before batch_at are
       admitted, gaps between its rows are in the list. */
    struct row_batch batch;
    size_t batch_at;
    bool is_batch_held;
    bool is_batch_full;
    bool has_waited;
    bool has_key;                 /* one of its rows, at least */
    struct row_batch late;        /* of a lookup */
    struct row_batch rescan_rows; /* of a page of the rescan */
    struct id_range *ranges;      /* of a look */
    size_t range_count, range_cap;
    struct reader_stats stats;
    uint64_t cursor;         /* every row below was admitted or passed over, or is in a gap */
    uint64_t read_to;        /* the same with what is held: the next forward read begins here */
    uint64_t row_bytes;      /* of a row, as of late */
    uint64_t forward_us;     /* what a forward read takes on the average */
    uint64_t lookup_free_us; /* before that no batch is released, */
    uint64_t idle_lookup_us; /* and no look is made that none asks for */
    uint64_t change_us;      /* when a gap or a late row turned up last */
    uint64_t sweep_us;       /* when the next sweep is due */
    uint64_t sweep_added_us;
    unsigned dear_lookups;
    uint64_t tidy_us;   /* gaps are not joined before */
    uint64_t rescan_us; /* a complete rescan is made then though nobody asks for it */
    bool rescan_wanted;
};

static inline uint64_t reader_now_us(const struct reader *reader)
{
    return reader->store.now_us(reader->store.ctx);
}

static inline uint64_t reader_after(uint64_t id)
{
    return id == UINT64_MAX ? id : id + 1;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

enum row_origin { OF_FORWARD, OF_LOOKUP, OF_RESCAN };

enum lookup {
    LOOKUP_RELEASE, /* before the held batch goes: at every gap there is */
    LOOKUP_BEHIND,  /* at those below the cursor */
    LOOKUP_SWEEP    /* and at all that is below everything in memory, seen or not */
};

/* reader.c */

/** Take row i of the batch into the flight table, or pass it over. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code reader_consider(struct reader *reader, struct row_batch *batch,
                                            size_t i, enum row_origin origin, bool *admitted);
/** A page of light rows within the ranges, those of frozen keys marked. */
OBX_NODISCARD enum obx_code reader_read_page(struct reader *reader, const struct id_range *ranges,
                                             size_t count, struct row_batch *rows,
                                             struct obx_err *err);
/** See the comment at its definition. */
OBX_NODISCARD enum obx_code reader_lookup(struct reader *reader, enum lookup kind,
                                          bool *is_complete, struct obx_err *err);

/* reader_rescan.c */

/** Begin a rescan if none is on, and do one page of it. */
OBX_NODISCARD enum obx_code reader_rescan_run(struct reader *reader, struct obx_err *err);
/** Microseconds at which it has something to do; UINT64_MAX: not before something changes. */
uint64_t reader_rescan_due_us(const struct reader *reader);

#endif
