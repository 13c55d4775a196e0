/*
 * The set of lanes of this process: made from a configuration, changed by a reload, rung, drained.
 * A lane that ends by itself is reported and started again; the others do not notice.
 *
 * Belongs to the main thread. Nothing here waits: the owner calls relay_turn from time to time, at
 * the latest when the call before said so.
 */
#ifndef DAEMON_RELAY_H
#define DAEMON_RELAY_H

#include "config/relay_config.h"
#include "outbox/bell_msg.h"
#include "relay_view.h"

struct relay;

struct relay_opts {
    const char *owner; /* borrowed: outlives the relay. Unique name of this process */
    /** Pass a ring on to the relay at this address. False when it could not be sent. Must not
     * block. */
    bool (*pass_on)(const char *address, const char *source, const char *outbox, void *ctx);
    void *ctx;
};

/** No lanes yet. On failure *out is NULL. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code relay_create(const struct relay_opts *opts, struct relay **out,
                                         struct obx_err *err);
/** Only when relay_is_idle, or if no lane was ever started. NULL is fine. */
void relay_destroy(struct relay *relay);

/**
 * From now on the lanes are to be those of config: missing ones start, others drain and end,
 * changed ones drain and start again, lanes made from the same values go on untouched. It happens
 * in relay_turn. Takes references of its own. OBX_E_NOMEM: nothing has changed.
 */
OBX_NODISCARD enum obx_code relay_apply(struct relay *relay, struct relay_config *config,
                                        struct obx_err *err);
/** Whether lanes may publish. Opening lets those go on that wait; closing holds for lanes that
 * start from now on. */
void relay_set_gate(struct relay *relay, bool is_open);
/** Start, drain, end and reap what is due. Returns how many milliseconds it may wait to be called
 * again. */
uint32_t relay_turn(struct relay *relay);

/** Note a ring; relay_flush_rings acts on it, so that a burst costs one poll. False: no lane of
 * that name. */
bool relay_ring(struct relay *relay, const struct bell_msg *msg);
/**
 * Ring the lanes that were noted, or pass the ring on to their owner elsewhere; each lane at most
 * once a millisecond. Returns after how many milliseconds to call again, UINT32_MAX: nothing is
 * left.
 */
uint32_t relay_flush_rings(struct relay *relay);

/** Whether another relay is to have a lane, and where that one hears doorbells ("": nowhere). */
typedef bool relay_elsewhere(const char *source, const char *outbox, char address[64], void *ctx);
/** Ask it for every lane: owners of such lanes drain them and give them away, with a ring to who is to
 * have them. */
void relay_share(struct relay *relay, relay_elsewhere *ask, void *ctx);
/** Lanes given away so far. */
uint64_t relay_given(const struct relay *relay);

/** Drain every lane and start none any more. */
void relay_drain(struct relay *relay);
/** End every lane as soon as possible; what is unconfirmed is published again by the next owner. */
void relay_stop(struct relay *relay);
/** Whether no thread of a lane is left. */
bool relay_is_idle(const struct relay *relay);

/** The lanes as they are now; good until the next call of relay_turn or relay_apply. */
const struct lane_view *relay_lane_views(struct relay *relay, size_t *count);
/** What all lanes, also those that are gone, know of the broker. When a number grows, exchanges and
 * queues may be missing. */
struct broker_counts {
    uint64_t connects;        /* the broker may be another one than before */
    uint64_t exchange_faults; /* messages that came back because of their exchange */
};
void relay_broker_counts(struct relay *relay, struct broker_counts *out);
/** Rings passed on, and those that could not be. */
void relay_pass_counts(const struct relay *relay, uint64_t *passed_on, uint64_t *failed);

#endif
