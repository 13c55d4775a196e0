/*
 * A worker's database: connected when it is needed, given up when it is of no more use, and why it
 * does not work at the moment. Everything but the last error belongs to the worker's thread.
 */
#ifndef CONSUMER_WORKER_LINK_H
#define CONSUMER_WORKER_LINK_H

#include "base/backoff.h"
#include "core/shared.h"
#include "store/store.h"

struct worker_link {
    struct shared *shared; /* borrowed */
    unsigned worker;
    store_open_fn *open;
    struct store store;          /* ops NULL: not connected */
    struct backoff connect_wait; /* between failed connects */
    uint64_t used_ms;            /* when the connection was used last */
    struct last_error error;     /* read by others */
    bool has_error;
};

OBX_NODISCARD enum obx_code worker_link_init(struct worker_link *link, struct shared *shared,
                                             unsigned worker, store_open_fn *open,
                                             struct obx_err *err);
void worker_link_fini(struct worker_link *link);
bool worker_link_is_up(const struct worker_link *link);
/** Connect; returns 0, or how long to wait before the next try. is_undoing: batches are being undone,
 * so that the reason stays visible until one has committed. */
uint32_t worker_link_connect(struct worker_link *link, bool is_undoing);
void worker_link_disconnect(struct worker_link *link);
/** The connection has just been used. */
void worker_link_used(struct worker_link *link);
/** A connection that nothing is sent over for long can be dead without a sign, and is ended by the
 * server: asked in time, when worker_link_ping_due_ms has come. */
void worker_link_ping_when_idle(struct worker_link *link);
uint64_t worker_link_ping_due_ms(const struct worker_link *link);
/** Why it does not work; NULL: it does. */
void worker_link_set_error(struct worker_link *link, const struct obx_err *err);

#endif
