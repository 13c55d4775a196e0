/*
 * The parts that a lane is made of, put together: each gets pointers to those it stands on, and
 * none knows of this file. Only turn.c drives them. See docs/adr/0002-lane.md for what each owns.
 */
#ifndef LANE_PARTS_H
#define LANE_PARTS_H

#include "lane/conditions.h"
#include "lane/flight/flight.h"
#include "lane/lane.h"
#include "lane/park/park.h"
#include "lane/park/requests.h"
#include "lane/publish/publish.h"
#include "lane/read/delayed.h"
#include "lane/read/durable.h"
#include "lane/read/outbox_store.h"
#include "lane/read/reader.h"
#include "lane/settle/overdue.h"
#include "lane/settle/settle.h"
#include "lane/sides.h"
#include "outbox/awaiting.h"
#include "outbox/journal.h"
#include "tables/lease.h"
#include "tables/row_locks.h"

struct lane_parts {
    struct lane_conditions conditions;
    struct lease lease;
    struct durable durable;
    struct outbox_store store;
    struct flight *flight;
    struct reader *reader;
    struct parking parking;
    struct row_locks locks;
    struct journal journal; /* used when the options say so */
    struct awaiting awaiting;
    struct settle settle;
    struct park park;
    struct publish publish;
    struct requests requests;
    struct overdue overdue;
    struct delayed delayed;
    struct sides sides;
};

/** What comes from outside; all borrowed, and outlive the parts. */
struct lane_outside {
    const struct lane_opts *opts; /* defaults filled in */
    const _Atomic bool *gate_is_open;
    struct hist *commit_to_confirm, *publish_to_confirm;
};

/** parts is zero. On failure parts_fini is needed all the same. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code parts_init(struct lane_parts *parts, const struct lane_outside *outside,
                                       struct obx_err *err);
void parts_fini(struct lane_parts *parts);
/** Drop everything in memory, as if the lane had just begun. The connections stay, but for a broker
 * connection with messages in flight. */
void parts_reset(struct lane_parts *parts);

#endif
