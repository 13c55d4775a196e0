/*
 * From the keys to what the program works with. Called by main.c and by a reload.
 */
#include "notify_config.h"

#include <string.h>

#include "base/alloc.h"

enum { LOCK_WAIT_S = 3, HEARTBEAT_S = 20, WORKERS = 1, BATCH_MAX = 500 };

static const char *or_null(const char *text)
{
    return text[0] == '\0' ? NULL : text;
}

static void build_notify(struct notify_config *config, const struct keys_notify *keys)
{
    config->name = or_null(keys->name);
    config->group = keys->group;
    config->log_level = (enum log_level)keys->log_level;
    config->log_format = (enum log_format)keys->log_format;
    config->http = (struct http_opts){.address = keys->http_address,
                                      .port = (uint16_t)keys->http_port,
                                      .hosts = keys->http_hosts.items,
                                      .host_count = keys->http_hosts.count,
                                      .tls_cert_file = keys->http_tls_cert_file,
                                      .tls_key_file = keys->http_tls_key_file};
    config->drain_ms = keys->drain;
    config->lease_ms = keys->lease;
    config->max_calls = keys->max_calls;
    config->max_memory = keys->max_memory;
    config->keep_delivered_ms = keys->keep_delivered;
    config->keep_given_up_ms = keys->keep_given_up;
}

static void build_database(struct notify_config *config, const struct keys_notify_database *keys)
{
    struct db_opts *db = &config->db;

    db->unix_socket = or_null(keys->socket);
    db->host = db->unix_socket != NULL ? NULL : keys->host;
    db->port = (uint16_t)keys->port;
    db->user = keys->user;
    db->password = keys->password;
    db->database = keys->database;
    db->read_timeout_ms = db->write_timeout_ms = keys->timeout;
    db->tls = (enum db_tls)keys->tls;
    db->tls_ca_file = or_null(keys->tls_ca_file);
    db->tls_cert_file = or_null(keys->tls_cert_file);
    db->tls_key_file = or_null(keys->tls_key_file);
    db->lock_wait_s = LOCK_WAIT_S;
    db->program_name = "inbox-relay";
}

static void build_broker(struct notify_config *config, const struct keys_notify_broker *keys)
{
    config->declares = keys->topology == 0;
    config->broker = (struct bridge_opts){
        .addresses = keys->addresses,
        .vhost = keys->vhost,
        .user = keys->user,
        .password = keys->password,
        .connection_name = "inbox-relay",
        .heartbeat_s = HEARTBEAT_S,
        .tls = {.enabled = keys->tls,
                .ca_file = or_null(keys->tls_ca_file),
                .cert_file = or_null(keys->tls_cert_file),
                .key_file = or_null(keys->tls_key_file),
                .insecure = !keys->tls_verify},
    };
}

static void build_consumer(struct notify_config *config, const struct keys_notify_broker *keys)
{
    const struct bridge_opts *broker = &config->broker;
    const struct db_opts *db = &config->db;
    struct obx_consumer_opts *opts = &config->consumer;

    opts->size = sizeof(*opts);
    opts->group = config->group;
    opts->queue = keys->queue;
    opts->prefetch = (uint16_t)keys->prefetch;
    opts->workers = WORKERS;
    opts->batch_max = BATCH_MAX;
    opts->declare_topology = config->declares;
    opts->bindings = config->bindings;
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

static void build_endpoint(struct endpoint_config *to, const struct keys_endpoint *keys)
{
    to->name = keys->name;
    to->url = keys->url;
    to->topics = keys->topics;
    if (keys->sign)
        sign_parse_secrets(keys->secrets, &to->keys);
    to->authorization = or_null(keys->authorization);
    for (size_t i = 0; i < keys->schedule.count; i++) {
        /* Was checked by the schema. */
        (void)keys_parse_delay(keys->schedule.items[i], &to->schedule_ms[i]);
        to->schedule_sum_ms += to->schedule_ms[i];
    }
    to->schedule_count = keys->schedule.count;
    to->connect_timeout_ms = keys->connect_timeout;
    to->timeout_ms = keys->timeout;
    to->max_response = (size_t)keys->max_response;
    to->concurrency = keys->concurrency;
    to->breaker_failures = keys->breaker_failures;
    to->breaker_min_ms = keys->breaker_min;
    to->breaker_max_ms = keys->breaker_max;
    to->retry_after_max_ms = keys->retry_after_max;
    to->tls_verify = keys->tls_verify;
    to->tls_ca_file = or_null(keys->tls_ca_file);
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
static void build_bindings(struct notify_config *config, const char *exchange)
{
    for (size_t i = 0; i < config->endpoint_count; i++) {
        const struct cfg_list *topics = &config->endpoints[i].topics;

        for (size_t k = 0; k < topics->count; k++) {
            if (has_binding(config, topics->items[k]))
                continue;
            config->bindings[config->consumer.binding_count++] =
                (struct obx_binding){.exchange = exchange,
                                     .exchange_type = config->declares ? "topic" : NULL,
                                     .routing_key = topics->items[k]};
        }
    }
}

static enum obx_code build(struct notify_config *config, const struct keys_notify_root *root)
{
    size_t topics = 0;

    for (size_t i = 0; i < root->endpoint_count; i++)
        topics += root->endpoints[i].topics.count;
    config->endpoints = obx_calloc(root->endpoint_count + 1, sizeof(*config->endpoints));
    config->bindings = obx_calloc(topics + 1, sizeof(*config->bindings));
    if (config->endpoints == NULL || config->bindings == NULL)
        return OBX_E_NOMEM;
    build_notify(config, &root->notify);
    build_database(config, &root->database);
    build_broker(config, &root->broker);
    for (size_t i = 0; i < root->endpoint_count; i++)
        build_endpoint(&config->endpoints[i], &root->endpoints[i]);
    config->endpoint_count = root->endpoint_count;
    build_consumer(config, &root->broker);
    build_bindings(config, root->broker.exchange);
    return OBX_OK;
}

enum obx_code notify_config_load(const struct cfg_input *input, struct notify_config **out,
                                 struct obx_buf *problems, struct obx_err *err)
{
    struct notify_config *config = obx_calloc(1, sizeof(*config));
    enum obx_code rc;

    *out = NULL;
    if (config == NULL)
        return obx_fail(err, OBX_E_NOMEM, "configuration");
    atomic_init(&config->refs, 1);
    rc = cfg_load(&notify_schema, input, &config->cfg, problems, err);
    if (rc == OBX_OK && build(config, cfg_root(config->cfg)) != OBX_OK)
        rc = obx_fail(err, OBX_E_NOMEM, "configuration");
    if (rc != OBX_OK) {
        notify_config_unref(config);
        return rc;
    }
    *out = config;
    return OBX_OK;
}

struct notify_config *notify_config_ref(struct notify_config *config)
{
    atomic_fetch_add(&config->refs, 1);
    return config;
}

void notify_config_unref(struct notify_config *config)
{
    if (config == NULL || atomic_fetch_sub(&config->refs, 1) > 1)
        return;
    obx_free(config->bindings);
    obx_free(config->endpoints);
    cfg_destroy(config->cfg);
    obx_free(config);
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
