/*
 * What an owner does beside publishing and settling: requests of operators, messages whose receipts
 * are overdue, delayed messages, the journal, counts. A failure of one is its own: it is tried
 * again after a pause, longer each time, and the rest goes on. Used by the lane thread. Proved by
 * tests/system/lane_refused_test.c.
 */
#ifndef LANE_SIDES_H
#define LANE_SIDES_H

#include "lane/conditions.h"
#include "lane/lane.h"
#include "lane/park/requests.h"
#include "lane/read/delayed.h"
#include "lane/read/outbox_store.h"
#include "lane/settle/overdue.h"
#include "lane/settle/settle.h"
#include "outbox/journal.h"

enum lane_side {
    SIDE_REQUESTS,
    SIDE_OVERDUE,
    SIDE_DELAYED,
    SIDE_JOURNAL,
    SIDE_COUNT,
    SIDE_STRAY,
    SIDES
};

/** What it stands on; all borrowed, and outlive it. */
struct sides_parts {
    const struct lane_opts *opts;
    struct requests *requests;
    struct overdue *overdue;
    struct delayed *delayed;
    struct journal *journal; /* NULL: none is kept */
    struct outbox_store *store;
    struct settle *settle;
    struct lease *lease;
    struct lane_conditions *conditions;
};

struct sides {
    struct sides_parts parts;
    uint64_t due_ms[SIDES];   /* UINT64_MAX: never */
    unsigned failures[SIDES]; /* one after the other */
    struct outbox_counts counts;
};

void sides_init(struct sides *sides, const struct sides_parts *parts);
/** The lease was just taken: everything is due, and nothing has failed yet. */
void sides_begin(struct sides *sides);
/** Only the owner counts rows; what was counted before somebody else took over is not true any
 * more. */
void sides_forget_counts(struct sides *sides);
/** A doorbell rang: somebody may have asked for something. */
void sides_ring(struct sides *sides, uint64_t now_ms);
uint64_t sides_due_ms(const struct sides *sides);
/** Run what is due. OBX_OK also after a failure that the rest of the lane need not know of; else
 * OBX_E_LEASE_LOST, or the connection is of no more use. */
OBX_NODISCARD enum obx_code sides_run(struct sides *sides, struct db *db, struct obx_err *err);

enum { SIDES_COUNT_CAP = 10000 };

#endif
