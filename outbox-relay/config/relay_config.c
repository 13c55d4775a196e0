/*
 * From the plain values of relay_keys.h to the structures that lanes, bridge and daemon take, and
 * the comparison that tells a reload which lanes to restart. Everything here was checked before
 * (relay_checks.c), so building fails for want of memory only. Called on the main thread.
 */
#include "relay_config.h"

#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "base/alloc.h"
#include "base/config.h"
#include "half/checkback/checkback.h"
#include "relay_keys.h"

enum { MS_PER_S = 1000, DECIMAL = 10, NUMBER_DIGITS_MAX = 18 };

static const char *or_null(const char *text)
{
    return text[0] == '\0' ? NULL : text;
}

static uint32_t seconds_up(uint32_t ms)
{
    return ms / MS_PER_S + (ms % MS_PER_S != 0);
}

/* A copy that lives as long as the configuration; NULL when out of memory. */
static const char *keep_text(struct relay_config *config, struct obx_bytes text)
{
    char **texts = obx_realloc(config->texts, (config->text_count + 1) * sizeof(*config->texts));
    char *copy;

    if (texts == NULL)
        return NULL;
    config->texts = texts;
    copy = bytes_dup(text);
    if (copy != NULL)
        config->texts[config->text_count++] = copy;
    return copy;
}

static void build_relay(struct relay_config *config, const struct keys_relay *keys)
{
    struct address address;

    config->name = or_null(keys->name);
    config->log_level = (enum log_level)keys->log_level;
    config->log_format = (enum log_format)keys->log_format;
    config->http = (struct http_opts){.address = keys->http_address,
                                      .port = (uint16_t)keys->http_port,
                                      .limits = {.connections = keys->http_connections},
                                      .hosts = keys->http_hosts.items,
                                      .host_count = keys->http_hosts.count,
                                      .tls_cert_file = keys->http_tls_cert_file,
                                      .tls_key_file = keys->http_tls_key_file};
    config->doorbell_socket = or_null(keys->doorbell_socket);
    config->doorbell_address = or_null(keys->doorbell_address);
    config->advertise_address = or_null(keys->advertise_address);
    if (config->advertise_address == NULL && config->doorbell_address != NULL &&
        address_parse(config->doorbell_address, &address) && !address_is_any(&address))
        config->advertise_address = config->doorbell_address;
    config->drain_ms = keys->drain;
    config->alert_url = or_null(keys->alert_url);
    config->alert_interval_ms = keys->alert_interval;
}

static void build_broker(struct relay_config *config, const struct keys_broker *keys)
{
    config->broker = (struct bridge_opts){
        .addresses = keys->addresses,
        .vhost = keys->vhost,
        .user = keys->user,
        .password = keys->password,
        .connect_timeout_ms = keys->connect_timeout,
        .rpc_timeout_ms = keys->rpc_timeout,
        .heartbeat_s = seconds_up(keys->heartbeat),
        .reconnect_min_ms = keys->reconnect_min,
        .reconnect_cap_ms = keys->reconnect_max,
        .tls = {.enabled = keys->tls,
                .ca_file = or_null(keys->tls_ca_file),
                .cert_file = or_null(keys->tls_cert_file),
                .key_file = or_null(keys->tls_key_file),
                .insecure = !keys->tls_verify},
    };
    config->topology_policy = (enum topology_policy)keys->topology;
}

static enum obx_code build_rules(struct relay_config *config, const struct keys_root *root)
{
    if (root->topic_count == 0)
        return OBX_OK;
    config->rules = obx_calloc(root->topic_count, sizeof(*config->rules));
    if (config->rules == NULL)
        return OBX_E_NOMEM;
    config->rule_count = root->topic_count;
    for (size_t i = 0; i < root->topic_count; i++) {
        const struct keys_topic *topic = &root->topics[i];

        config->rules[i] = (struct topic_rule){
            .pattern = topic->name,
            .exchange = or_null(topic->exchange),
            .routing_key = or_null(topic->routing_key),
            .on_park = (enum park_policy)topic->on_park,
            .max_attempts = topic->max_attempts,
        };
    }
    return OBX_OK;
}

static struct db_opts db_opts_of(const struct keys_source *keys)
{
    const char *socket = or_null(keys->socket);

    return (struct db_opts){
        .host = socket == NULL ? keys->host : NULL,
        .port = (uint16_t)keys->port,
        .unix_socket = socket,
        .user = keys->user,
        .password = keys->password,
        .database = keys->database,
        .connect_timeout_ms = keys->connect_timeout,
        .read_timeout_ms = keys->read_timeout,
        .write_timeout_ms = keys->write_timeout,
        .lock_wait_s = seconds_up(keys->lock_wait),
        .tls = (enum db_tls)keys->tls,
        .tls_ca_file = or_null(keys->tls_ca_file),
        .tls_cert_file = or_null(keys->tls_cert_file),
        .tls_key_file = or_null(keys->tls_key_file),
        .program_name = "outbox-relay",
    };
}

static struct lane_opts lane_opts_of(const struct relay_config *config, const char *exchange,
                                     const struct keys_source *source, const struct keys_lane *keys)
{
    return (struct lane_opts){
        .source = source->name,
        .db = db_opts_of(source),
        .bridge = config->broker,
        .exchange = exchange,
        .rules = config->rules,
        .rule_count = config->rule_count,
        .window = keys->window,
        .key_window = keys->key_window,
        .batch_rows = keys->batch_rows,
        .inline_bytes = (uint32_t)keys->inline_size,
        .max_body_bytes = (uint32_t)keys->max_body,
        .settle_max_rows = keys->settle_rows,
        .settle_max_age_ms = keys->settle_age,
        .poll_min_ms = keys->poll_min,
        .poll_max_ms = keys->poll_max,
        .sweep_ms = keys->sweep,
        .lease_ms = keys->lease,
        .max_attempts = keys->max_attempts,
        .retry_min_ms = keys->retry_min,
        .retry_cap_ms = keys->retry_max,
        .confirm_timeout_ms = keys->confirm_timeout,
        .drain_ms = config->drain_ms,
        .receipt_queue = or_null(source->receipt_queue),
        .journal = source->journal,
        .journal_retention_ms = source->journal_retention,
        .receipt_timeout_ms = keys->receipt_timeout,
        .receipt_cap_ms = keys->receipt_retry_max,
        .max_sends = keys->max_sends,
        .delayed_poll_ms = keys->delayed_poll,
    };
}

static enum obx_code build_sources(struct relay_config *config, const struct keys_root *root)
{
    config->sources = obx_calloc(root->source_count, sizeof(*config->sources));
    if (config->sources == NULL)
        return OBX_E_NOMEM;
    config->source_count = root->source_count;
    for (size_t i = 0; i < root->source_count; i++) {
        const struct keys_source *source = &root->sources[i];
        const struct keys_lane lane = keys_lane_of(root, source);

        config->sources[i] = (struct source_config){
            .name = source->name,
            .outboxes = source->outboxes.items,
            .outbox_count = source->outboxes.count,
            .lane = lane_opts_of(config, root->broker.exchange, source, &lane),
            .receipt_retention_ms = source->receipt_retention,
        };
    }
    return OBX_OK;
}

/* Exchanges, queues and bindings while they are collected; handed over to the configuration's const
 * view at once. */
struct topology_build {
    struct topology_exchange *exchanges;
    struct topology_queue *queues;
    struct topology_binding *bindings;
    size_t exchange_count;
    size_t binding_count;
};

static bool has_exchange(const struct topology_build *build, const char *name)
{
    for (size_t i = 0; i < build->exchange_count; i++) {
        if (strcmp(build->exchanges[i].name, name) == 0)
            return true;
    }
    return false;
}

/* An exchange that is named without a section of its own is a topic exchange; the broker's own ones
 * are there already. */
static void add_exchange(struct topology_build *build, const char *name, const char *type)
{
    if (name[0] == '\0' || strncmp(name, "amq.", strlen("amq.")) == 0 || has_exchange(build, name))
        return;
    build->exchanges[build->exchange_count++] =
        (struct topology_exchange){.name = name, .type = type};
}

static size_t count_bindings(const struct keys_root *root)
{
    size_t count = 0;

    for (size_t i = 0; i < root->queue_count; i++)
        count += root->queues[i].bind.count;
    return count;
}

static bool is_number(const char *text)
{
    const char *digits = text[0] == '-' ? text + 1 : text;

    return digits[0] != '\0' && strspn(digits, "0123456789") == strlen(digits) &&
           strlen(digits) <= NUMBER_DIGITS_MAX;
}

static const struct topology_arg no_limit = {
    .name = TOPOLOGY_DELIVERY_LIMIT_ARG, .number = TOPOLOGY_DELIVERY_LIMIT, .is_preferred = true};

/* Room for count arguments and one of our own; the queue owns them. */
static struct topology_arg *alloc_args(struct topology_queue *queue, size_t count)
{
    struct topology_arg *args = obx_calloc(count + 1, sizeof(*args));

    queue->args = args;
    return args;
}

static enum obx_code build_arguments(struct relay_config *config, const struct keys_queue *keys,
                                     struct topology_queue *queue)
{
    struct topology_arg *args = alloc_args(queue, keys->arguments.count);
    bool has_limit = strcmp(queue->type, "quorum") != 0; /* or needs none */

    if (args == NULL)
        return OBX_E_NOMEM;
    for (size_t i = 0; i < keys->arguments.count; i++) {
        struct obx_bytes name = {0};
        const char *value = "";

        keys_split_argument(keys->arguments.items[i], &name, &value);
        args[i].name = keep_text(config, name);
        if (args[i].name == NULL)
            return OBX_E_NOMEM;
        has_limit = has_limit || strcmp(args[i].name, TOPOLOGY_DELIVERY_LIMIT_ARG) == 0;
        if (is_number(value))
            args[i].number = strtoll(value, NULL, DECIMAL);
        else
            args[i].text = value;
    }
    queue->arg_count = keys->arguments.count;
    if (!has_limit)
        args[queue->arg_count++] = no_limit;
    return OBX_OK;
}

static enum obx_code build_bindings(struct relay_config *config, const struct keys_queue *keys,
                                    struct topology_build *build)
{
    for (size_t i = 0; i < keys->bind.count; i++) {
        struct obx_bytes exchange = {0};
        const char *routing_key = "";
        const char *name;

        keys_split_bind(keys->bind.items[i], &exchange, &routing_key);
        name = keep_text(config, exchange);
        if (name == NULL)
            return OBX_E_NOMEM;
        add_exchange(build, name, "topic");
        build->bindings[build->binding_count++] = (struct topology_binding){
            .exchange = name, .queue = keys->name, .routing_key = routing_key};
    }
    return OBX_OK;
}

static enum obx_code build_queue(struct relay_config *config, const struct keys_queue *keys,
                                 struct topology_build *build, struct topology_queue *queue)
{
    enum obx_code rc;

    *queue = (struct topology_queue){
        .name = keys->name,
        .type = keys_queue_types[keys->type],
        .single_active_consumer = keys->single_active_consumer,
    };
    rc = build_arguments(config, keys, queue);
    return rc == OBX_OK ? build_bindings(config, keys, build) : rc;
}

/* One more of each than needed, so that none is an allocation of nothing. */
static enum obx_code alloc_topology(struct relay_config *config, const struct keys_root *root,
                                    struct topology_build *build)
{
    size_t bindings = count_bindings(root);
    size_t exchanges = root->exchange_count + root->topic_count + bindings;

    build->exchanges = obx_calloc(exchanges + 1, sizeof(*build->exchanges));
    build->queues = obx_calloc(root->queue_count + root->source_count + 1, sizeof(*build->queues));
    build->bindings = obx_calloc(bindings + 1, sizeof(*build->bindings));
    config->topology.exchanges = build->exchanges;
    config->topology.queues = build->queues;
    config->topology.bindings = build->bindings;
    return build->exchanges == NULL || build->queues == NULL || build->bindings == NULL
               ? OBX_E_NOMEM
               : OBX_OK;
}

/* Those that have no [queue] section of their own. */
static enum obx_code add_receipt_queues(struct relay_config *config, const struct keys_root *root,
                                        struct topology_build *build)
{
    for (size_t i = 0; i < root->source_count; i++) {
        const char *name = root->sources[i].receipt_queue;
        struct topology_arg *args;
        bool is_there = name[0] == '\0';

        for (size_t k = 0; k < config->topology.queue_count && !is_there; k++)
            is_there = strcmp(build->queues[k].name, name) == 0;
        if (is_there)
            continue;
        build->queues[config->topology.queue_count] = (struct topology_queue){.name = name};
        args = alloc_args(&build->queues[config->topology.queue_count++], 0);
        if (args == NULL)
            return OBX_E_NOMEM;
        args[0] = no_limit;
        build->queues[config->topology.queue_count - 1].arg_count = 1;
    }
    return OBX_OK;
}

static enum obx_code build_topology(struct relay_config *config, const struct keys_root *root)
{
    struct topology_build build = {0};
    enum obx_code rc = alloc_topology(config, root, &build);

    if (rc != OBX_OK)
        return rc;
    for (size_t i = 0; i < root->exchange_count; i++)
        add_exchange(&build, root->exchanges[i].name, keys_exchange_types[root->exchanges[i].type]);
    add_exchange(&build, root->broker.exchange, "topic");
    for (size_t i = 0; i < root->topic_count; i++)
        add_exchange(&build, root->topics[i].exchange, "topic");
    for (size_t i = 0; i < root->queue_count && rc == OBX_OK; i++) {
        rc = build_queue(config, &root->queues[i], &build, &build.queues[i]);
        config->topology.queue_count = i + 1;
    }
    if (rc == OBX_OK)
        rc = add_receipt_queues(config, root, &build);
    config->topology.exchange_count = build.exchange_count;
    config->topology.binding_count = build.binding_count;
    return rc;
}

static enum obx_code build(struct relay_config *config)
{
    const struct keys_root *root = cfg_root(config->cfg);
    enum obx_code rc;

    build_relay(config, &root->relay);
    build_broker(config, &root->broker);
    rc = build_rules(config, root);
    if (rc == OBX_OK)
        rc = build_sources(config, root);
    if (rc == OBX_OK)
        rc = build_topology(config, root);
    return rc;
}

enum obx_code relay_config_load(const struct cfg_input *input, struct relay_config **out,
                                struct obx_buf *problems, struct obx_err *err)
{
    struct relay_config *config = obx_calloc(1, sizeof(*config));
    enum obx_code rc;

    *out = NULL;
    if (config == NULL)
        return obx_fail(err, OBX_E_NOMEM, "configuration");
    config->refs = 1;
    rc = cfg_load(&relay_schema, input, &config->cfg, problems, err);
    if (rc == OBX_OK && build(config) != OBX_OK)
        rc = obx_fail(err, OBX_E_NOMEM, "configuration");
    if (rc != OBX_OK) {
        relay_config_unref(config);
        return rc;
    }
    *out = config;
    return OBX_OK;
}

struct relay_config *relay_config_ref(struct relay_config *config)
{
    config->refs++;
    return config;
}

/* The lists of the topology are const for its readers; they were allocated here. */
static void free_const(const void *p)
{
    void *mutable_p;

    memcpy(&mutable_p, &p, sizeof(p));
    obx_free(mutable_p);
}

void relay_config_unref(struct relay_config *config)
{
    if (config == NULL || --config->refs > 0)
        return;
    for (size_t i = 0; i < config->topology.queue_count; i++)
        free_const(config->topology.queues[i].args);
    free_const(config->topology.exchanges);
    free_const(config->topology.queues);
    free_const(config->topology.bindings);
    for (size_t i = 0; i < config->text_count; i++)
        obx_free(config->texts[i]);
    obx_free(config->texts);
    obx_free(config->rules);
    obx_free(config->sources);
    cfg_destroy(config->cfg);
    obx_free(config);
}

const struct source_config *relay_config_source(const struct relay_config *config, const char *name)
{
    for (size_t i = 0; i < config->source_count; i++) {
        if (strcmp(config->sources[i].name, name) == 0)
            return &config->sources[i];
    }
    return NULL;
}

size_t relay_config_lane_count(const struct relay_config *config)
{
    size_t count = 0;

    for (size_t i = 0; i < config->source_count; i++)
        count += config->sources[i].outbox_count;
    return count;
}

void relay_config_producer(const struct keys_producer *keys, struct check_producer *out)
{
    const char *socket = or_null(keys->socket);

    *out = (struct check_producer){
        .name = keys->name,
        .kind = (enum check_kind)keys->check,
        .url = or_null(keys->url),
        .token = or_null(keys->token),
        .ca_file = or_null(keys->tls_ca_file),
        .concurrency = keys->concurrency,
        .timeout_ms = keys->timeout,
        .db = {.host = socket == NULL ? keys->host : NULL,
               .port = (uint16_t)keys->port,
               .unix_socket = socket,
               .user = keys->user,
               .password = keys->password,
               .database = keys->database,
               .tls = (enum db_tls)keys->tls,
               .tls_ca_file = or_null(keys->tls_ca_file),
               .program_name = "outbox-relay"},
    };
}
