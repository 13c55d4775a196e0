/* Composition of the half-message role. Called by daemon.c. */
#include "half_role.h"

#include <string.h>

#include "base/alloc.h"
#include "base/wake.h"

struct half_role {
    struct relay_config *config;    /* reference */
    const struct half_config *half; /* of config */
    struct half_store *store;
    struct half_http *front;
    struct checkback *check;
    const char **producer_names; /* texts of the configuration */
    struct checkback_producer_stats *producer_stats;
    struct wake ring; /* rows came into the outbox */
};

/* On a worker's thread. */
static void on_outbox_rows(void *ctx)
{
    const struct half_role *role = ctx;

    wake_up(&role->ring);
}

static enum obx_code list_producers(struct half_role *role, struct obx_err *err)
{
    const size_t count = role->config->producer_count;

    role->producer_stats = obx_calloc(count + 1, sizeof(*role->producer_stats));
    role->producer_names = obx_calloc(count + 1, sizeof(*role->producer_names));
    if (role->producer_stats == NULL || role->producer_names == NULL)
        return obx_fail(err, OBX_E_NOMEM, "%zu producers", count);
    for (size_t i = 0; i < count; i++)
        role->producer_names[i] = role->config->producers[i].name;
    return OBX_OK;
}

static enum obx_code start_store(struct half_role *role, const struct db_opts *db,
                                 struct obx_err *err)
{
    struct half_store_opts opts = role->half->store;

    opts.db = *db;
    opts.on_outbox_rows = on_outbox_rows;
    opts.ctx = role;
    return half_store_create(&opts, &role->store, err);
}

static enum obx_code start_front(struct half_role *role, struct obx_err *err)
{
    const char *tokens[] = {role->half->token, role->half->previous_token};
    struct half_http_opts opts = role->half->api;

    opts.tokens = tokens;
    opts.token_count = role->half->previous_token[0] == '\0' ? 1 : 2;
    opts.producers = role->producer_names;
    opts.producer_count = role->config->producer_count;
    opts.store = role->store;
    opts.takes_async = role->half->check_back; /* it finds out about a verdict that is lost */
    return opts.port == 0 ? OBX_OK : half_http_create(&opts, &role->front, err);
}

static enum obx_code start_check(struct half_role *role, const struct db_opts *db,
                                 const char *owner, struct obx_err *err)
{
    struct checkback_opts opts = role->half->check;

    opts.db = *db;
    opts.owner = owner;
    opts.store = role->store;
    opts.producers = role->config->producers;
    opts.producer_count = role->config->producer_count;
    return role->half->check_back ? checkback_create(&opts, &role->check, err) : OBX_OK;
}

static enum obx_code start(struct half_role *role, const char *owner, struct obx_err *err)
{
    const struct db_opts *db = &relay_config_source(role->config, role->half->source)->lane.db;
    enum obx_code rc = wake_init(&role->ring, err);

    if (rc == OBX_OK)
        rc = list_producers(role, err);
    if (rc == OBX_OK)
        rc = start_store(role, db, err);
    if (rc == OBX_OK)
        rc = start_front(role, err);
    if (rc == OBX_OK)
        rc = start_check(role, db, owner, err);
    return rc;
}

enum obx_code half_role_create(const struct half_role_opts *opts, struct half_role **out,
                               struct obx_err *err)
{
    struct half_role *role;
    enum obx_code rc;

    *out = NULL;
    if (opts->config->half.source[0] == '\0')
        return OBX_OK;
    role = obx_calloc(1, sizeof(*role));
    if (role == NULL)
        return obx_fail(err, OBX_E_NOMEM, "half-messages");
    role->config = relay_config_ref(opts->config);
    role->half = &role->config->half;
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
    return role->half->source;
}

const char *half_role_outbox(const struct half_role *role)
{
    return role->half->store.outbox;
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
    out->producers = role->config->producers;
    out->producer_count = role->config->producer_count;
    out->producer_stats = role->producer_stats;
    for (size_t i = 0; i < role->config->producer_count; i++)
        checkback_get_producer_stats(role->check, i, &role->producer_stats[i]);
}
