/* Turns the settings into the bridge's description of a topology. */
#include "topology.h"

#include "base/alloc.h"

#define QUEUES 2 /* the queue and its dead-letter queue, where one is named */

struct plan {
    struct topology_arg limit;
    struct topology_queue queues[QUEUES];
    struct topology_exchange *exchanges; /* of the bindings, and of the dead letters */
    struct topology_binding *bindings;   /* ours and the dead letters' */
    struct topology topology;
};

static void plan_queues(struct plan *plan, const struct settings *s)
{
    const char *type = s->classic_queue ? "classic" : "quorum";
    bool has_limit = !s->classic_queue && s->delivery_limit >= 0;

    plan->limit =
        (struct topology_arg){.name = TOPOLOGY_DELIVERY_LIMIT_ARG,
                              .number = s->delivery_limit,
                              .is_preferred = s->delivery_limit == TOPOLOGY_DELIVERY_LIMIT};
    plan->queues[0] = (struct topology_queue){.name = s->queue,
                                              .type = type,
                                              .single_active_consumer = s->single_active_consumer,
                                              .args = &plan->limit,
                                              .arg_count = has_limit ? 1 : 0};
    if (s->dead_letter_queue != NULL)
        plan->queues[1] = (struct topology_queue){.name = s->dead_letter_queue,
                                                  .type = type,
                                                  .args = &plan->limit,
                                                  .arg_count = has_limit ? 1 : 0};
    plan->topology.queues = plan->queues;
    plan->topology.queue_count = s->dead_letter_queue != NULL ? QUEUES : 1;
}

static void plan_bindings(struct plan *plan, const struct settings *s)
{
    struct topology *to = &plan->topology;

    for (size_t i = 0; i < s->binding_count; i++) {
        const struct obx_binding *from = &s->bindings[i];

        plan->bindings[to->binding_count++] = (struct topology_binding){
            .exchange = from->exchange, .queue = s->queue, .routing_key = from->routing_key};
        if (from->exchange_type != NULL)
            plan->exchanges[to->exchange_count++] =
                (struct topology_exchange){.name = from->exchange, .type = from->exchange_type};
    }
    if (s->dead_letter_queue != NULL && s->dead_letter_exchange[0] != '\0') {
        plan->exchanges[to->exchange_count++] =
            (struct topology_exchange){.name = s->dead_letter_exchange, .type = "direct"};
        plan->bindings[to->binding_count++] =
            (struct topology_binding){.exchange = s->dead_letter_exchange,
                                      .queue = s->dead_letter_queue,
                                      .routing_key = s->dead_letter_queue};
    }
    to->exchanges = plan->exchanges;
    to->bindings = plan->bindings;
}

enum obx_code topology_prepare(const struct settings *settings, struct obx_err *err)
{
    struct plan plan = {0};
    enum obx_code rc = OBX_OK;

    plan.exchanges = obx_calloc(settings->binding_count + 1, sizeof(*plan.exchanges));
    plan.bindings = obx_calloc(settings->binding_count + 1, sizeof(*plan.bindings));
    if (plan.exchanges == NULL || plan.bindings == NULL) {
        rc = obx_fail(err, OBX_E_NOMEM, "topology");
        goto out;
    }
    plan_queues(&plan, settings);
    plan_bindings(&plan, settings);
    rc =
        bridge_topology_apply(&settings->bridge, &plan.topology,
                              settings->declare_topology ? TOPOLOGY_DECLARE : TOPOLOGY_VERIFY, err);
out:
    obx_free(plan.exchanges);
    obx_free(plan.bindings);
    return rc;
}
