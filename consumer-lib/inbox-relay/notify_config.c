/*
 * What follows from several keys, whether a reload can follow, and the life of a loaded
 * configuration. Called by main.c and by a reload.
 *
 * A configuration does not change once it is loaded: a reload puts another one into the box, and
 * who uses the old one (a call in flight, a job in memory) keeps a reference until it is done.
 */
#include "notify_config.h"

#include <string.h>

enum { LOCK_WAIT_S = 3, HEARTBEAT_S = 20, WORKERS = 1, BATCH_MAX = 500 };

/* The library's options repeat the two groups, because it takes no header of ours. */
static void set_servers(const struct notify_config *config, struct obx_consumer_opts *opts)
{
    const struct bridge_opts *broker = &config->broker;
    const struct db_opts *db = &config->db;

    opts->size = sizeof(*opts);
    opts->declare_topology = config->declares;
    opts->drain_timeout_ms = config->drain_ms == 0 ? 1 : config->drain_ms;
    opts->broker_addresses = broker->addresses;
    opts->broker_vhost = broker->vhost;
    opts->broker_user = broker->user;
    opts->broker_password = broker->password;
    opts->broker_heartbeat_s = broker->heartbeat_s;
    opts->broker_tls = broker->tls.enabled;
    opts->broker_tls_ca_file = broker->tls.ca_file;
    opts->broker_tls_cert_file = broker->tls.cert_file;
    opts->broker_tls_key_file = broker->tls.key_file;
    opts->broker_tls_insecure = broker->tls.insecure;
    opts->db_host = db->host;
    opts->db_port = db->port;
    opts->db_socket = db->unix_socket;
    opts->db_user = db->user;
    opts->db_password = db->password;
    opts->db_name = db->database;
    opts->db_timeout_ms = db->read_timeout_ms;
    opts->db_tls = (enum obx_db_tls)db->tls;
    opts->db_tls_ca_file = db->tls_ca_file;
    opts->db_tls_cert_file = db->tls_cert_file;
    opts->db_tls_key_file = db->tls_key_file;
}

/* Memory comes from the configuration, whose end frees it: bindings are borrowed by the consumer for as
 * long as that runs, and an inbox is never made again by a reload. */
static enum obx_code finish_queue(struct notify_config *config, struct cfg *cfg,
                                  struct queue_config *queue)
{
    struct inbox_opts *inbox = &queue->inbox;
    struct obx_binding *bindings = cfg_take(cfg, (queue->topics.count + 1) * sizeof(*bindings));

    if (bindings == NULL)
        return OBX_E_NOMEM;
    for (size_t i = 0; i < queue->topics.count; i++)
        bindings[i] = (struct obx_binding){.exchange = queue->exchange,
                                           .exchange_type = config->declares ? "topic" : NULL,
                                           .routing_key = queue->topics.items[i]};
    inbox->queue = queue->name;
    inbox->freezes = queue->on_dead == 0;
    inbox->wake = queue->wake.items;
    inbox->wake_count = queue->wake.count;
    inbox->db = config->db;
    inbox->broker = config->broker;
    /* One name for section, queue and group is what a person expects; each can be told apart. */
    if (inbox->consumer.queue == NULL)
        inbox->consumer.queue = queue->name;
    if (inbox->consumer.group == NULL)
        inbox->consumer.group = queue->name;
    inbox->consumer.on_dead = inbox->freezes ? OBX_ON_DEAD_FREEZE : OBX_ON_DEAD_SKIP;
    inbox->consumer.bindings = bindings;
    inbox->consumer.binding_count = queue->topics.count;
    set_servers(config, &inbox->consumer);
    if (queue->to == QUEUE_TO_HTTP) {
        /* The section speaks for the endpoints, in the place of [broker] and [notify]. */
        config->group = inbox->consumer.group;
        config->exchange = queue->exchange;
        config->consumer.queue = inbox->consumer.queue;
        config->consumer.prefetch = inbox->consumer.prefetch;
        config->consumer.partitions = inbox->consumer.partitions;
    }
    return OBX_OK;
}

/* What calls use many times a second is made ready once. */
static void finish_endpoint(struct endpoint_config *endpoint)
{
    if (endpoint->sign)
        sign_parse_secrets(endpoint->secrets, &endpoint->keys);
    if (endpoint->authorization[0] == '\0')
        endpoint->authorization = NULL;
    endpoint->schedule_count = endpoint->schedule.count;
    for (size_t i = 0; i < endpoint->schedule_count; i++) {
        /* Was checked by the schema. */
        (void)keys_parse_delay(endpoint->schedule.items[i], &endpoint->schedule_ms[i]);
        endpoint->schedule_sum_ms += endpoint->schedule_ms[i];
    }
}

static bool has_binding(const struct notify_config *config, const char *routing_key)
{
    for (size_t i = 0; i < config->consumer.binding_count; i++) {
        if (strcmp(config->bindings[i].routing_key, routing_key) == 0)
            return true;
    }
    return false;
}

/* Every topic of every endpoint, once. */
static void add_bindings(struct notify_config *config)
{
    for (size_t i = 0; i < config->endpoint_count; i++) {
        const struct cfg_list *topics = &config->endpoints[i].topics;

        for (size_t k = 0; k < topics->count; k++) {
            if (has_binding(config, topics->items[k]))
                continue;
            config->bindings[config->consumer.binding_count++] =
                (struct obx_binding){.exchange = config->exchange,
                                     .exchange_type = config->declares ? "topic" : NULL,
                                     .routing_key = topics->items[k]};
        }
    }
}

enum obx_code notify_config_finish(void *root, struct cfg *cfg)
{
    struct notify_config *config = root;
    size_t topics = 0;

    config->cfg = cfg;
    atomic_init(&config->refs, 1);
    config->declares = config->topology == 0;
    if (config->db.unix_socket != NULL)
        config->db.host = NULL; /* or the client library would prefer TCP */
    config->db.write_timeout_ms = config->db.read_timeout_ms;
    /* Rows are locked for the length of a statement or two: who waits longer stands behind a session that
     * is stuck, and does better to roll back and come again. */
    config->db.lock_wait_s = LOCK_WAIT_S;
    config->db.program_name = config->broker.connection_name = "inbox-relay";
    config->broker.heartbeat_s = HEARTBEAT_S;
    for (size_t i = 0; i < config->queue_count; i++) {
        if (finish_queue(config, cfg, &config->queues[i]) != OBX_OK)
            return OBX_E_NOMEM;
    }
    for (size_t i = 0; i < config->endpoint_count; i++) {
        finish_endpoint(&config->endpoints[i]);
        topics += config->endpoints[i].topics.count;
    }
    config->bindings = cfg_take(cfg, (topics + 1) * sizeof(*config->bindings));
    if (config->bindings == NULL)
        return OBX_E_NOMEM;
    set_servers(config, &config->consumer);
    config->consumer.group = config->group;
    /* One: a handler of the HTTP side writes rows and waits for nothing, and two would only take locks
     * from each other at the end of the same table. */
    config->consumer.workers = WORKERS;
    config->consumer.batch_max = BATCH_MAX;
    config->consumer.bindings = config->bindings;
    add_bindings(config);
    return OBX_OK;
}

enum obx_code notify_config_load(const struct cfg_input *input, struct notify_config **out,
                                 struct obx_buf *problems, struct obx_err *err)
{
    struct cfg *cfg = NULL;
    enum obx_code rc = cfg_load(&notify_schema, input, &cfg, problems, err);

    *out = rc == OBX_OK ? cfg_root(cfg) : NULL;
    return rc;
}

struct notify_config *notify_config_ref(struct notify_config *config)
{
    atomic_fetch_add(&config->refs, 1);
    return config;
}

void notify_config_unref(struct notify_config *config)
{
    if (config != NULL && atomic_fetch_sub(&config->refs, 1) == 1)
        cfg_destroy(config->cfg);
}

const struct endpoint_config *notify_config_endpoint(const struct notify_config *config,
                                                     const char *name)
{
    for (size_t i = 0; i < config->endpoint_count; i++) {
        if (strcmp(config->endpoints[i].name, name) == 0)
            return &config->endpoints[i];
    }
    return NULL;
}

/* The queue is bound when the consumer is opened; a topic that came later would bring nothing. */
static bool is_bound(const struct notify_config *before, const struct notify_config *after,
                     struct obx_err *err)
{
    for (size_t i = 0; i < after->consumer.binding_count && after->declares; i++) {
        if (!has_binding(before, after->bindings[i].routing_key)) {
            obx_fail(err, OBX_E_CONFIG,
                     "topic %s is new, and the queue is bound only at the start: restart",
                     after->bindings[i].routing_key);
            return false;
        }
    }
    return true;
}

/* Of the lines of a comparison, the first that stands in the way; its end is cut. */
static const char *first_fixed(struct obx_buf *lines)
{
    char *found = lines->len == 0 ? NULL : strstr(lines->data, " (needs a restart)");
    char *start = found;

    if (found == NULL)
        return "?";
    *found = '\0';
    while (start > lines->data && start[-1] != '\n')
        start--;
    return start;
}

bool notify_config_can_follow(const struct notify_config *before, const struct notify_config *after,
                              struct obx_err *err)
{
    struct cfg_changes changes = {0};
    enum obx_code rc = cfg_compare(before->cfg, after->cfg, &changes);

    if (rc != OBX_OK) {
        obx_fail(err, rc, "reload");
    } else if (changes.fixed_count > 0) {
        rc = obx_fail(err, OBX_E_CONFIG, "%u of the changes need a restart, first %s",
                      changes.fixed_count, first_fixed(&changes.lines));
    }
    buf_fini(&changes.lines);
    return rc == OBX_OK && is_bound(before, after, err);
}

void config_box_init(struct config_box *box, struct notify_config *config)
{
    pthread_mutex_init(&box->lock, NULL);
    box->config = config;
}

void config_box_fini(struct config_box *box)
{
    notify_config_unref(box->config);
    pthread_mutex_destroy(&box->lock);
}

struct notify_config *config_box_get(struct config_box *box)
{
    struct notify_config *config;

    pthread_mutex_lock(&box->lock);
    config = notify_config_ref(box->config);
    pthread_mutex_unlock(&box->lock);
    return config;
}

void config_box_set(struct config_box *box, struct notify_config *config)
{
    struct notify_config *before;

    pthread_mutex_lock(&box->lock);
    before = box->config;
    box->config = config;
    pthread_mutex_unlock(&box->lock);
    notify_config_unref(before);
}
