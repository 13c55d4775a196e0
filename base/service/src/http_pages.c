/*
 * Pages on the HTTP server: a table of paths, each answered at once on the loop's thread. A path or
 * a method that is not in it is refused at the head, before any of a body is read.
 */
#include "service/http_pages.h"

#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/fail.h"

struct http_pages {
    struct http_ops ops;
    const struct http_route *routes; /* borrowed */
    size_t route_count;
    char *token; /* owned; NULL: none is needed */
    size_t open_count;
    void *ctx;
    struct http_server *server;
    uint64_t refused;
};

static const struct http_route *find_route(const struct http_pages *pages,
                                           const struct http_exchange *x)
{
    for (size_t i = 0; i < pages->route_count; i++) {
        if (bytes_is(http_path(x), pages->routes[i].path))
            return &pages->routes[i];
    }
    return NULL;
}

static void refuse(struct http_pages *pages, struct http_exchange *x, int status, const char *text,
                   const char *fields)
{
    const struct http_response answer = {
        .status = status, .fields = fields, .body = bytes_of(text)};

    pages->refused++;
    http_respond(x, &answer);
}

static bool has_token(const struct http_pages *pages, const struct http_exchange *x)
{
    static const char scheme[] = "Bearer ";
    const char *given = http_field(x, "Authorization");

    return given != NULL && strncasecmp(given, scheme, strlen(scheme)) == 0 &&
           bytes_equal_constant_time(bytes_of(given + strlen(scheme)), bytes_of(pages->token));
}

static bool on_head(struct http_exchange *x, void *ctx)
{
    struct http_pages *pages = ctx;
    const struct http_route *route = find_route(pages, x);

    if (route == NULL) {
        refuse(pages, x, 404, "no such page\n", NULL);
        return false;
    }
    if (strcmp(http_method(x), "GET") != 0) {
        refuse(pages, x, 405, "only GET and HEAD are allowed here\n", "Allow: GET, HEAD\r\n");
        return false;
    }
    if (pages->token != NULL && route >= pages->routes + pages->open_count &&
        !has_token(pages, x)) {
        refuse(pages, x, 401, "send Authorization: Bearer with the token of this port\n",
               "WWW-Authenticate: Bearer\r\n");
        return false;
    }
    return true;
}

static void on_request(struct http_exchange *x, void *ctx)
{
    struct http_pages *pages = ctx;
    struct http_reply reply = {.status = 200, .content_type = "text/plain; charset=utf-8"};
    enum obx_code rc = find_route(pages, x)->handle(&reply, pages->ctx);
    struct http_response answer;

    /* Half a page would be taken for a whole one: nothing of it goes out. */
    if (rc != OBX_OK) {
        buf_reset(&reply.body);
        reply.status = 500;
        reply.content_type = "text/plain; charset=utf-8";
        if (buf_add_text(&reply.body, obx_code_name(rc)) != OBX_OK)
            buf_reset(&reply.body);
    }
    answer = (struct http_response){
        .status = reply.status, .content_type = reply.content_type, .body = buf_bytes(&reply.body)};
    http_respond(x, &answer);
    buf_fini(&reply.body);
}

enum obx_code http_pages_create(const struct http_pages_opts *opts, struct http_pages **out,
                                struct obx_err *err)
{
    struct http_pages *pages = obx_calloc(1, sizeof(*pages));
    struct http_opts http = opts->http;
    enum obx_code rc;

    *out = NULL;
    if (pages == NULL)
        return obx_fail(err, OBX_E_NOMEM, "HTTP pages");
    pages->ops = (struct http_ops){.on_head = on_head, .on_request = on_request};
    pages->routes = opts->routes;
    pages->route_count = opts->route_count;
    pages->ctx = opts->ctx;
    pages->open_count = opts->open_count;
    if (opts->token != NULL && opts->token[0] != '\0') {
        pages->token = obx_strdup(opts->token);
        if (pages->token == NULL) {
            obx_free(pages);
            return obx_fail(err, OBX_E_NOMEM, "HTTP pages");
        }
    }
    http.ops = &pages->ops;
    http.ctx = pages;
    rc = http_server_create(&http, &pages->server, err);
    if (rc != OBX_OK) {
        obx_free(pages->token);
        obx_free(pages);
        return rc;
    }
    *out = pages;
    return OBX_OK;
}

void http_pages_destroy(struct http_pages *pages)
{
    if (pages == NULL)
        return;
    http_server_destroy(pages->server);
    obx_free(pages->token);
    obx_free(pages);
}

void http_pages_get_stats(const struct http_pages *pages, struct http_stats *out)
{
    http_server_get_stats(pages->server, out);
    out->refused += pages->refused;
}
