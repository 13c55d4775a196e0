/*
 * The pages and what each is made of. Called by daemon.c.
 */
#include "admin.h"

#include "base/alloc.h"
#include "metrics.h"
#include "readiness.h"
#include "service/http_pages.h"
#include "service/prometheus.h"
#include "status.h"

enum { STATUS_OK = 200, STATUS_UNAVAILABLE = 503 };

struct admin {
    struct admin_opts opts;
    struct http_pages *pages;
};

/* The main loop answers, so the process is alive; whether it can work is /readyz's question. */
static enum obx_code get_healthz(struct http_reply *reply, void *ctx)
{
    (void)ctx;
    return buf_add_text(&reply->body, "ok\n");
}

static enum obx_code get_readyz(struct http_reply *reply, void *ctx)
{
    const struct admin *admin = ctx;
    struct relay_view view = {0};

    admin->opts.get_view(&view, admin->opts.ctx);
    reply->status = relay_view_is_ready(&view) ? STATUS_OK : STATUS_UNAVAILABLE;
    reply->content_type = "application/json";
    return status_write_readiness(&view, &reply->body);
}

static enum obx_code get_metrics(struct http_reply *reply, void *ctx)
{
    const struct admin *admin = ctx;
    struct relay_view view = {0};

    admin->opts.get_view(&view, admin->opts.ctx);
    reply->content_type = PROM_CONTENT_TYPE;
    return metrics_write(&view, &reply->body);
}

static enum obx_code get_status(struct http_reply *reply, void *ctx)
{
    const struct admin *admin = ctx;
    struct relay_view view = {0};

    admin->opts.get_view(&view, admin->opts.ctx);
    reply->content_type = "application/json";
    return status_write(&view, &reply->body);
}

/* The first two tell nothing but whether the relay works, and are asked by what starts it. */
enum { OPEN_COUNT = 2 };
static const struct http_route routes[] = {
    {"/healthz", get_healthz},
    {"/readyz", get_readyz},
    {"/metrics", get_metrics},
    {"/status", get_status},
};

enum obx_code admin_create(const struct admin_opts *opts, struct admin **out, struct obx_err *err)
{
    struct admin *admin = obx_calloc(1, sizeof(*admin));
    struct http_pages_opts http = {.http = opts->http,
                                   .routes = routes,
                                   .route_count = sizeof(routes) / sizeof(routes[0]),
                                   .token = opts->token,
                                   .open_count = OPEN_COUNT,
                                   .ctx = admin};
    enum obx_code rc;

    *out = NULL;
    if (admin == NULL)
        return obx_fail(err, OBX_E_NOMEM, "HTTP pages");
    admin->opts = *opts;
    rc = http_pages_create(&http, &admin->pages, err);
    if (rc != OBX_OK) {
        admin_destroy(admin);
        return rc;
    }
    *out = admin;
    return OBX_OK;
}

void admin_destroy(struct admin *admin)
{
    if (admin == NULL)
        return;
    http_pages_destroy(admin->pages);
    obx_free(admin);
}

void admin_get_stats(const struct admin *admin, struct http_stats *out)
{
    http_pages_get_stats(admin->pages, out);
}
