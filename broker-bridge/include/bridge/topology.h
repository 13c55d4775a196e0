/*
 * Exchanges, queues and bindings: declared, or verified without changing anything, over a short
 * connection of its own. Declaring what exists already, the same, is success; what exists
 * differently is OBX_E_MQ_TOPOLOGY with both sides in the text.
 */
#ifndef BRIDGE_TOPOLOGY_H
#define BRIDGE_TOPOLOGY_H

#include "bridge/bridge.h"

struct topology_exchange {
    const char *name;
    const char *type; /* direct, topic, fanout, headers */
};
/** An extra argument of a queue (x-delivery-limit, x-overflow, ...): text or integer. */
struct topology_arg {
    const char *name;
    const char *text; /* NULL: use number */
    int64_t number;
    bool is_preferred; /* for a queue that is made; one that is there without it, or with another
                          value, is taken as it is, with a warning */
};
/** x-delivery-limit of every quorum queue that we declare and nobody has said otherwise of: never
 * reached. RabbitMQ 4 drops a message at its 21st return when a queue says nothing. */
#define TOPOLOGY_DELIVERY_LIMIT_ARG "x-delivery-limit"
#define TOPOLOGY_DELIVERY_LIMIT     INT64_C(2147483647)
struct topology_queue {
    const char *name;
    const char *type; /* "quorum" (default when NULL), "classic" */
    bool single_active_consumer;
    const struct topology_arg *args;
    size_t arg_count;
};
struct topology_binding {
    const char *exchange;
    const char *queue;
    const char *routing_key;
};
/** What is not as it should be and works all the same; text is borrowed for the call. */
typedef void topology_warn_fn(const char *text, void *ctx);
struct topology {
    const struct topology_exchange *exchanges;
    size_t exchange_count;
    const struct topology_queue *queues;
    size_t queue_count;
    const struct topology_binding *bindings;
    size_t binding_count;
    topology_warn_fn *on_warning; /* NULL: such things go to the log */
    void *ctx;
};
enum topology_mode {
    TOPOLOGY_DECLARE,
    TOPOLOGY_VERIFY /* passive: exchanges and queues must exist; AMQP has no passive bind, so
                       bindings are not looked at */
};

/**
 * @return OBX_OK; OBX_E_MQ_TOPOLOGY (missing or different; names it), OBX_E_MQ_DENIED,
 * OBX_E_MQ_CONNECT, OBX_E_MQ_AUTH, OBX_E_TIMEOUT
 */
OBX_NODISCARD enum obx_code bridge_topology_apply(const struct bridge_opts *opts,
                                                  const struct topology *topology,
                                                  enum topology_mode mode, struct obx_err *err);

/** What is in a queue: ready for delivery, not what consumers have and have not acknowledged. */
struct queue_depth {
    uint64_t messages, consumers;
};
/**
 * Ask how deep a queue is, by a connection of its own. A moment later it may be otherwise.
 * @return OBX_OK; OBX_E_MQ_TOPOLOGY (there is no such queue), OBX_E_CONFIG (its name is none),
 * OBX_E_MQ_DENIED, OBX_E_MQ_CONNECT, OBX_E_MQ_AUTH, OBX_E_TIMEOUT
 */
OBX_NODISCARD enum obx_code bridge_queue_depth(const struct bridge_opts *opts, const char *queue,
                                               struct queue_depth *out, struct obx_err *err);

/** Connect, log in, close: for --check. */
OBX_NODISCARD enum obx_code bridge_check(const struct bridge_opts *opts, struct obx_err *err);

#endif
