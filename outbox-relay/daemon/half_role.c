/* Composition of the half-message role. Called by daemon.c. */
#include "half_role.h"

#include <string.h>

#include "base/alloc.h"
#include "base/config.h"
#include "base/wake.h"
#include "config/relay_keys.h"

enum { MS_PER_S = 1000, TOKENS_MAX = 2 };

struct half_role {
    struct relay_config *config; /* reference */
    const struct keys_half *keys;
    struct half_store *store;
    struct half_http *front;
    struct checkback *check;
    struct check_producer *producers;
    const char **producer_names; /* texts of the configuration */
    struct checkback_producer_stats *producer_stats;
    size_t producer_count;
    struct wake ring; /* rows came into the outbox */
};

/* On a worker's thread. */
static void on_outbox_rows(void *ctx)
{
    const struct half_role *role = ctx;

    wake_up(&role->ring);
}

static enum obx_code fill_producers(struct half_role *role, const struct keys_root *root)
{
    role->producers = obx_calloc(root->producer_count + 1, sizeof(*role->producers));
    role->producer_stats = obx_calloc(root->producer_count + 1, sizeof(*role->producer_stats));
    role->producer_names = obx_calloc(root->producer_count + 1, sizeof(*role->producer_names));
    if (role->producers == NULL || role->producer_stats == NULL || role->producer_names == NULL)
        return OBX_E_NOMEM;
    role->producer_count = root->producer_count;
    for (size_t i = 0; i < root->producer_count; i++) {
        relay_config_producer(&root->producers[i], &role->producers[i]);
        role->producer_names[i] = root->producers[i].name;
    }
    return OBX_OK;
}

static enum obx_code start_store(struct half_role *role, const struct source_config *source,
                                 struct obx_err *err)
{
    const struct half_store_opts opts = {.db = source->lane.db,
                                         .outbox = role->keys->outbox,
                                         .workers = role->keys->workers,
                                         .queue_max = role->keys->queue,
                                         .batch_max = role->keys->batch,
                                         .on_outbox_rows = on_outbox_rows,
                                         .ctx = role};

    return half_store_create(&opts, &role->store, err);
}

static enum obx_code start_front(struct half_role *role, struct obx_err *err)
{
    const struct keys_half *keys = role->keys;
    const char *tokens[TOKENS_MAX] = {keys->token, keys->previous_token};
    const struct half_http_opts opts = {.producers = role->producer_names,
                                        .producer_count = role->producer_count,
                                        .hosts = keys->http_hosts.items,
                                        .host_count = keys->http_hosts.count,
                                        .tls_cert_file = keys->http_tls_cert_file,
                                        .tls_key_file = keys->http_tls_key_file,
                                        .open_lookup = keys->open_lookup,
                                        .address = keys->http_address,
                                        .port = (uint16_t)keys->http_port,
                                        .tokens = tokens,
                                        .token_count =
                                            keys->previous_token[0] == '\0' ? 1 : TOKENS_MAX,
                                        .limits = {.connections = keys->http_connections,
                                                   .per_address = keys->http_per_address,
                                                   .body_bytes = (uint32_t)keys->max_body,
                                                   .in_flight_bytes = keys->body_memory},
                                        .first_check_ms = keys->first_check,
                                        .store = role->store};

    return keys->http_port == 0 ? OBX_OK : half_http_create(&opts, &role->front, err);
}

static enum obx_code start_check(struct half_role *role, const struct source_config *source,
                                 const char *owner, struct obx_err *err)
{
    const struct keys_half *keys = role->keys;
    const struct checkback_opts opts = {.db = source->lane.db,
                                        .owner = owner,
                                        .store = role->store,
                                        .producers = role->producers,
                                        .producer_count = role->producer_count,
                                        .lease_ms = keys->lease,
                                        .backoff_min_ms = keys->retry_min,
                                        .backoff_cap_ms = keys->retry_max,
                                        .max_answers = keys->max_answers,
                                        .max_in_progress = keys->max_in_progress,
                                        .breaker_failures = keys->breaker_failures,
                                        .breaker_min_ms = keys->breaker_min,
                                        .breaker_cap_ms = keys->breaker_max,
                                        .retention_s = keys->retention / MS_PER_S,
                                        .barrier_keep_s = keys->barrier_keep / MS_PER_S};

    return keys->check_back ? checkback_create(&opts, &role->check, err) : OBX_OK;
}

static enum obx_code start(struct half_role *role, const char *owner, struct obx_err *err)
{
    const struct keys_root *root = cfg_root(role->config->cfg);
    const struct source_config *source = relay_config_source(role->config, role->keys->source);
    enum obx_code rc = wake_init(&role->ring, err);

    if (rc != OBX_OK)
        return rc;
    if (fill_producers(role, root) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "%zu producers", root->producer_count);
    rc = start_store(role, source, err);
    if (rc == OBX_OK)
        rc = start_front(role, err);
    if (rc == OBX_OK)
        rc = start_check(role, source, owner, err);
    return rc;
}

enum obx_code half_role_create(const struct half_role_opts *opts, struct half_role **out,
                               struct obx_err *err)
{
    const struct keys_root *root = cfg_root(opts->config->cfg);
    struct half_role *role;
    enum obx_code rc;

    *out = NULL;
    if (root->half.source[0] == '\0')
        return OBX_OK;
    role = obx_calloc(1, sizeof(*role));
    if (role == NULL)
        return obx_fail(err, OBX_E_NOMEM, "half-messages");
    role->config = relay_config_ref(opts->config);
    role->keys = &root->half;
    role->ring.fd = -1;
    rc = start(role, opts->owner, err);
    if (rc != OBX_OK) {
        half_role_destroy(role);
        return rc;
    }
    *out = role;
    return OBX_OK;
}

void half_role_stop(struct half_role *role)
{
    if (role != NULL && role->front != NULL)
        half_http_stop(role->front);
}

/* Who asks the store ends before it, who waits for its answers after it. */
void half_role_destroy(struct half_role *role)
{
    if (role == NULL)
        return;
    half_role_stop(role);
    checkback_destroy(role->check);
    half_store_destroy(role->store);
    half_http_destroy(role->front);
    wake_fini(&role->ring);
    obx_free(role->producers);
    obx_free(role->producer_names);
    obx_free(role->producer_stats);
    relay_config_unref(role->config);
    obx_free(role);
}

int half_role_fd(const struct half_role *role)
{
    return role->ring.fd;
}

void half_role_take_ring(struct half_role *role)
{
    (void)wake_clear(&role->ring);
}

const char *half_role_source(const struct half_role *role)
{
    return role->keys->source;
}

const char *half_role_outbox(const struct half_role *role)
{
    return role->keys->outbox;
}

void half_role_view(struct half_role *role, struct half_view *out)
{
    memset(out, 0, sizeof(*out));
    half_store_get_stats(role->store, &out->store);
    out->has_api = role->front != NULL;
    if (out->has_api)
        half_http_get_stats(role->front, &out->http);
    out->has_check = role->check != NULL;
    if (!out->has_check)
        return;
    checkback_get_stats(role->check, &out->check);
    out->producers = role->producers;
    out->producer_count = role->producer_count;
    out->producer_stats = role->producer_stats;
    for (size_t i = 0; i < role->producer_count; i++)
        checkback_get_producer_stats(role->check, i, &role->producer_stats[i]);
}
