/*
 * Packing: which rows go into one message of the broker, and which rows such a message in flight
 * stands for. See docs/adr/0029-packing.md and bridge/pack.h.
 *
 * A pack begins with the first row that may go and takes those with it that may go as well, of the
 * same route; and, because the order within a pack is that of its rows, the followers of each, which
 * otherwise would have to wait for its confirm. So of one key there is either one message in flight
 * (key_window of them) or one pack. Its rows keep their own states in the flight table. Sends
 * nothing: publish.c does. Owned by the lane thread. Proved by tests/unit/lane_sim_test.c and
 * tests/system/lane_pack_test.c.
 */
#ifndef LANE_PACKING_H
#define LANE_PACKING_H

#include "bridge/pack.h"
#include "faults.h"
#include "lane/flight/flight.h"
#include "lane/lane.h"
#include "lane/settle/settle.h"
#include "outbox/envelope.h"
#include "route.h"

/** A pack in flight: the tokens of its rows, in its order. */
struct sent_pack {
    uint64_t token;
    size_t count;
    uint64_t rows[];
};

/** Borrowed; all but opts are the publisher's own. */
struct packing_parts {
    const struct lane_opts *opts;
    const struct faults *faults;
    const struct settle *settle;
};

/** The pack that is being put together. */
struct packing_work {
    struct pack_writer writer;
    char key[ROUTE_KEY_SIZE];
    struct flight_row *rows[PACK_EVENTS_MAX];
};

struct packing {
    struct packing_parts parts;
    struct packing_work *work; /* NULL: no rule asks for packs, and such a lane pays nothing */
    struct obx_bytes key;      /* the routing key of the pack */
    struct flight_row **rows;  /* its rows; in work */
    size_t count;
    struct sent_pack **sent; /* by the lower half of their tokens; NULL: the place is free */
    size_t sent_cap;
    size_t free_hint;    /* no free place is below */
    uint64_t generation; /* the upper half of the last token */
};

/** OBX_E_NOMEM; packing_fini is fine all the same. */
OBX_NODISCARD enum obx_code packing_init(struct packing *packing, const struct packing_parts *parts,
                                         struct obx_err *err);
void packing_fini(struct packing *packing);

/** Whether the row, which is the first that may go, can be sent in a pack of at most room rows; if
 * not, it is sent alone. */
bool packing_can(const struct flight_row *row, const struct route *route, size_t room);
/**
 * Put a pack together that begins with row. *msg is filled; packing->rows has its packing->count rows, until the next call. With count below 2 there is no
 * pack: the row has no company, or has to go alone (then it is marked so). OBX_E_NOMEM.
 */
OBX_NODISCARD enum obx_code packing_build(struct packing *packing, struct envelope *envelope,
                                          struct flight_row *row, const struct route *route,
                                          size_t room, struct bridge_message *msg,
                                          struct obx_err *err);

/** A token for the pack that was put together, under which it may be sent; packing_take takes it
 * back. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code packing_keep(struct packing *packing, uint64_t *token,
                                         struct obx_err *err);
/** The pack of that token, the caller's to free (obx_free); NULL: it is a row's. */
struct sent_pack *packing_take(struct packing *packing, uint64_t token);

#endif
