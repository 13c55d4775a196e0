/*
 * The topology that a configuration comes to: the exchanges and queues that have sections, the
 * exchanges that are only named elsewhere, the queues of receipts, and the bindings. Was checked
 * before (relay_checks.c), so it fails for want of memory only. Called by relay_config.c.
 */
#include "relay_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DECIMAL = 10, NUMBER_DIGITS_MAX = 18, PREFIX_MAX = 16, NO_PARTITION = -1 };

/* Lists that grow; the topology is a const view of them. */
struct build {
    struct relay_config *config;
    struct topology_exchange *exchanges;
    struct topology_queue *queues;
    struct topology_binding *bindings;
};

static bool split_at(const char *item, char separator, struct obx_bytes *before, const char **after)
{
    const char *at = strchr(item, separator);

    if (at == NULL || at == item)
        return false;
    *before = (struct obx_bytes){.p = item, .len = (size_t)(at - item)};
    *after = at + 1;
    return true;
}

bool keys_split_bind(const char *item, struct obx_bytes *exchange, const char **routing_key)
{
    return split_at(item, ':', exchange, routing_key);
}

bool keys_split_argument(const char *item, struct obx_bytes *name, const char **value)
{
    return split_at(item, '=', name, value) && **value != '\0';
}

/* A copy that lives as long as the configuration; NULL when out of memory. */
static const char *keep_text(const struct build *build, struct obx_bytes text)
{
    char *copy = cfg_take(build->config->cfg, text.len + 1);

    if (copy != NULL)
        memcpy(copy, text.p, text.len);
    return copy;
}

/* An exchange that is named without a section of its own is a topic exchange; the broker's own ones
 * are there already. */
static void add_exchange(struct build *build, const char *name, const char *type)
{
    size_t *count = &build->config->topology.exchange_count;

    if (name == NULL || strncmp(name, "amq.", strlen("amq.")) == 0)
        return;
    for (size_t i = 0; i < *count; i++) {
        if (strcmp(build->exchanges[i].name, name) == 0)
            return;
    }
    build->exchanges[(*count)++] = (struct topology_exchange){.name = name, .type = type};
}

/* A queue's arguments have types, and RabbitMQ refuses a limit that is a text: what looks like a
 * number is sent as one. With more digits than fit it is a text, and refused there with its name. */
static bool is_number(const char *text)
{
    const char *digits = text[0] == '-' ? text + 1 : text;

    return digits[0] != '\0' && strspn(digits, "0123456789") == strlen(digits) &&
           strlen(digits) <= NUMBER_DIGITS_MAX;
}

/* The arguments that were given, and no limit of deliveries for a quorum queue without one: RabbitMQ
 * 4 has a limit of its own, at which it drops messages. */
static enum obx_code add_arguments(struct build *build, struct topology_queue *queue,
                                   const struct cfg_list *given)
{
    static const struct topology_arg no_limit = {.name = TOPOLOGY_DELIVERY_LIMIT_ARG,
                                                 .number = TOPOLOGY_DELIVERY_LIMIT,
                                                 .is_preferred = true};
    struct topology_arg *args = cfg_take(build->config->cfg, (given->count + 1) * sizeof(*args));
    bool has_limit = queue->type != NULL && strcmp(queue->type, "quorum") != 0; /* needs none */

    if (args == NULL)
        return OBX_E_NOMEM;
    for (size_t i = 0; i < given->count; i++) {
        struct obx_bytes name = {0};
        const char *value = "";

        keys_split_argument(given->items[i], &name, &value);
        args[i].name = keep_text(build, name);
        if (args[i].name == NULL)
            return OBX_E_NOMEM;
        has_limit = has_limit || strcmp(args[i].name, TOPOLOGY_DELIVERY_LIMIT_ARG) == 0;
        if (is_number(value))
            args[i].number = strtoll(value, NULL, DECIMAL);
        else
            args[i].text = value;
    }
    queue->args = args;
    queue->arg_count = given->count;
    if (!has_limit)
        args[queue->arg_count++] = no_limit;
    return OBX_OK;
}

/* Two texts as one that lives as long as the configuration; NULL when out of memory. */
static const char *keep_joined(const struct build *build, const char *first, const char *second)
{
    const size_t size = strlen(first) + strlen(second) + 1;
    char *text = cfg_take(build->config->cfg, size);

    if (text != NULL)
        (void)snprintf(text, size, "%s%s", first, second);
    return text;
}

/* What is bound reads the same whether the exchange has partitions or not: the word in front of the
 * key is the queue's partition, or any of them. */
static const char *partition_key(const struct build *build, const char *exchange, int partition,
                                 const char *routing_key)
{
    char prefix[PREFIX_MAX] = "*.";

    if (relay_config_partitions(build->config, exchange) == 0)
        return routing_key;
    if (partition != NO_PARTITION)
        (void)snprintf(prefix, sizeof(prefix), "%d.", partition);
    return keep_joined(build, prefix, routing_key);
}

static enum obx_code add_bindings(struct build *build, const struct queue_config *given,
                                  const char *queue, int partition)
{
    for (size_t i = 0; i < given->bind.count; i++) {
        struct topology_binding *binding =
            &build->bindings[build->config->topology.binding_count++];
        struct obx_bytes exchange = {0};
        const char *routing_key = "";

        keys_split_bind(given->bind.items[i], &exchange, &routing_key);
        binding->queue = queue;
        binding->exchange = keep_text(build, exchange);
        if (binding->exchange == NULL)
            return OBX_E_NOMEM;
        binding->routing_key = partition_key(build, binding->exchange, partition, routing_key);
        if (binding->routing_key == NULL)
            return OBX_E_NOMEM;
        add_exchange(build, binding->exchange, "topic");
    }
    return OBX_OK;
}

static enum obx_code add_queue(struct build *build, const struct queue_config *given,
                               const char *name, int partition)
{
    struct topology_queue *queue = &build->queues[build->config->topology.queue_count++];
    const bool is_single = given->single_active_consumer || partition != NO_PARTITION;
    enum obx_code rc = OBX_OK;

    *queue = (struct topology_queue){
        .name = name, .type = keys_queue_types[given->type], .single_active_consumer = is_single};
    rc = add_arguments(build, queue, &given->arguments);
    return rc == OBX_OK ? add_bindings(build, given, name, partition) : rc;
}

static enum obx_code add_queues(struct build *build, const struct queue_config *given)
{
    enum obx_code rc = OBX_OK;

    if (given->partitions == 0)
        return add_queue(build, given, given->name, NO_PARTITION);
    for (unsigned i = 0; i < given->partitions && rc == OBX_OK; i++) {
        char suffix[PREFIX_MAX];
        const char *name = NULL;

        (void)snprintf(suffix, sizeof(suffix), ".%u", i);
        name = keep_joined(build, given->name, suffix);
        rc = name == NULL ? OBX_E_NOMEM : add_queue(build, given, name, (int)i);
    }
    return rc;
}

/* Unless it has a [queue] section of its own. */
static enum obx_code add_receipt_queue(struct build *build, const char *name)
{
    struct topology *topology = &build->config->topology;

    if (name == NULL)
        return OBX_OK;
    for (size_t i = 0; i < topology->queue_count; i++) {
        if (strcmp(build->queues[i].name, name) == 0)
            return OBX_OK;
    }
    build->queues[topology->queue_count] = (struct topology_queue){.name = name};
    return add_arguments(build, &build->queues[topology->queue_count++], &(struct cfg_list){0});
}

/* Room for all that can come. */
static enum obx_code begin(struct build *build)
{
    struct relay_config *config = build->config;
    size_t bindings = 0, queues = config->source_count;
    size_t exchanges = config->exchange_count + config->rule_count + 1;

    for (size_t i = 0; i < config->queue_count; i++) {
        const struct queue_config *queue = &config->queues[i];
        const size_t count = queue->partitions > 0 ? queue->partitions : 1;

        queues += count;
        bindings += count * queue->bind.count;
        exchanges += queue->bind.count;
    }
    build->exchanges = cfg_take(config->cfg, exchanges * sizeof(*build->exchanges));
    build->queues = cfg_take(config->cfg, queues * sizeof(*build->queues));
    build->bindings = cfg_take(config->cfg, bindings * sizeof(*build->bindings));
    config->topology.exchanges = build->exchanges;
    config->topology.queues = build->queues;
    config->topology.bindings = build->bindings;
    return build->exchanges == NULL || build->queues == NULL || build->bindings == NULL
               ? OBX_E_NOMEM
               : OBX_OK;
}

enum obx_code relay_topology_build(struct relay_config *config)
{
    struct build build = {.config = config};
    enum obx_code rc = begin(&build);

    if (rc != OBX_OK)
        return rc;
    for (size_t i = 0; i < config->exchange_count; i++)
        add_exchange(&build, config->exchanges[i].name,
                     keys_exchange_types[config->exchanges[i].type]);
    add_exchange(&build, config->exchange, "topic");
    for (size_t i = 0; i < config->rule_count; i++)
        add_exchange(&build, config->rules[i].exchange, "topic");
    for (size_t i = 0; i < config->queue_count && rc == OBX_OK; i++)
        rc = add_queues(&build, &config->queues[i]);
    for (size_t i = 0; i < config->source_count && rc == OBX_OK; i++)
        rc = add_receipt_queue(&build, config->sources[i].lane.receipt_queue);
    return rc;
}
