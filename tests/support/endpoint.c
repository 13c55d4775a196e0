/* The endpoint on libevent's evhttp. */
#include "endpoint.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>

struct endpoint {
    struct event_base *base;
    struct evhttp *http;
    struct event *tick;
    endpoint_fn *decide;
    endpoint_request_fn *decide_full; /* one of the two */
    void *ctx;
    uint16_t port;
    pthread_t thread;
    atomic_ullong requests;
    atomic_bool is_ending;
    struct evhttp_request *endless;
    struct evhttp_request **unanswered; /* all that got no whole answer */
    size_t unanswered_count;
};

/*
 * libevent leaves a request that nobody has answered to its handler when the client goes away, and
 * frees it with its connection otherwise; endpoint_destroy tells the two apart.
 */
static void keep_unanswered(struct endpoint *endpoint, struct evhttp_request *req)
{
    const size_t count = endpoint->unanswered_count + 1;
    struct evhttp_request **more =
        realloc(endpoint->unanswered, count * sizeof(struct evhttp_request *));

    if (more == NULL)
        abort();
    more[count - 1] = req;
    endpoint->unanswered = more;
    endpoint->unanswered_count = count;
}

static void free_unanswered(struct endpoint *endpoint)
{
    for (size_t i = 0; i < endpoint->unanswered_count; i++) {
        if (evhttp_request_get_connection(endpoint->unanswered[i]) == NULL)
            evhttp_request_free(endpoint->unanswered[i]);
    }
    free(endpoint->unanswered);
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
    struct endpoint *endpoint = ctx;

    (void)fd;
    (void)what;
    if (atomic_load(&endpoint->is_ending)) {
        event_base_loopbreak(endpoint->base);
        return;
    }
    if (endpoint->endless != NULL) {
        struct evbuffer *chunk = evbuffer_new();

        evbuffer_add(chunk, " ", 1);
        evhttp_send_reply_chunk(endpoint->endless, chunk);
        evbuffer_free(chunk);
    }
}

static void on_endless_closed(struct evhttp_connection *connection, void *ctx)
{
    (void)connection;
    ((struct endpoint *)ctx)->endless = NULL;
}

static void send_endless(struct endpoint *endpoint, struct evhttp_request *req)
{
    if (endpoint->endless != NULL) {
        evhttp_connection_free(evhttp_request_get_connection(req));
        return;
    }
    endpoint->endless = req;
    keep_unanswered(endpoint, req);
    evhttp_connection_set_closecb(evhttp_request_get_connection(req), on_endless_closed, endpoint);
    evhttp_send_reply_start(req, 200, "OK");
}

static void send_huge(struct evhttp_request *req)
{
    struct evbuffer *body = evhttp_request_get_output_buffer(req);
    static char megabyte[1024 * 1024];

    memset(megabyte, ' ', sizeof(megabyte));
    for (int i = 0; i < 10; i++)
        evbuffer_add(body, megabyte, sizeof(megabyte));
    evhttp_send_reply(req, 200, "OK", NULL);
}

static void send_garbage(struct evhttp_request *req)
{
    static const char garbage[] = "this is not HTTP at all\r\n\r\n";
    struct evhttp_connection *connection = evhttp_request_get_connection(req);

    bufferevent_write(evhttp_connection_get_bufferevent(connection), garbage, strlen(garbage));
}

struct later {
    struct evhttp_request *req;
    int status;
};

static void on_closed(struct evhttp_connection *connection, void *ctx)
{
    (void)connection;
    ((struct later *)ctx)->req = NULL;
}

static void on_later(evutil_socket_t fd, short what, void *ctx)
{
    struct later *later = ctx;

    (void)fd;
    (void)what;
    if (later->req != NULL) {
        evhttp_connection_set_closecb(evhttp_request_get_connection(later->req), NULL, NULL);
        evhttp_send_reply(later->req, later->status, "Answer", NULL);
    }
    free(later);
}

static void send_later(struct endpoint *endpoint, struct evhttp_request *req,
                       const struct endpoint_answer *answer)
{
    struct timeval delay = {.tv_sec = answer->delay_ms / 1000,
                            .tv_usec = (suseconds_t)(answer->delay_ms % 1000) * 1000};
    struct later *later = calloc(1, sizeof(*later));

    if (later == NULL)
        abort();
    *later = (struct later){.req = req, .status = answer->status};
    evhttp_connection_set_closecb(evhttp_request_get_connection(req), on_closed, later);
    event_base_once(endpoint->base, -1, EV_TIMEOUT, on_later, later, &delay);
}

static void decide(struct endpoint *endpoint, struct evhttp_request *req,
                   struct endpoint_answer *answer)
{
    struct evbuffer *input = evhttp_request_get_input_buffer(req);
    struct endpoint_request request = {.path = evhttp_request_get_uri(req),
                                       .body_len = evbuffer_get_length(input),
                                       .headers = evhttp_request_get_input_headers(req)};

    if (endpoint->decide_full == NULL) {
        endpoint->decide(request.path, answer, endpoint->ctx);
        return;
    }
    evbuffer_add(input, "", 1);
    request.body = (const char *)evbuffer_pullup(input, -1);
    endpoint->decide_full(&request, answer, endpoint->ctx);
}

const char *endpoint_header(const struct endpoint_request *request, const char *name)
{
    return evhttp_find_header(request->headers, name);
}

static void on_request(struct evhttp_request *req, void *ctx)
{
    struct endpoint *endpoint = ctx;
    struct endpoint_answer answer = {.status = 200};

    atomic_fetch_add(&endpoint->requests, 1);
    decide(endpoint, req, &answer);
    if (answer.location[0] != '\0')
        evhttp_add_header(evhttp_request_get_output_headers(req), "Location", answer.location);
    if (answer.retry_after[0] != '\0')
        evhttp_add_header(evhttp_request_get_output_headers(req), "Retry-After",
                          answer.retry_after);
    switch (answer.mode) {
    case ENDPOINT_ANSWER:
        evbuffer_add(evhttp_request_get_output_buffer(req), answer.body, strlen(answer.body));
        if (answer.delay_ms > 0)
            send_later(endpoint, req, &answer);
        else
            evhttp_send_reply(req, answer.status, "Answer", NULL);
        break;
    case ENDPOINT_GARBAGE:
        send_garbage(req);
        break;
    case ENDPOINT_SILENT:
        keep_unanswered(endpoint, req);
        break;
    case ENDPOINT_CLOSE:
        evhttp_connection_free(evhttp_request_get_connection(req));
        break;
    case ENDPOINT_ENDLESS:
        send_endless(endpoint, req);
        break;
    case ENDPOINT_HUGE:
        send_huge(req);
        break;
    }
}

static void *endpoint_main(void *arg)
{
    event_base_dispatch(((struct endpoint *)arg)->base);
    return NULL;
}

static uint16_t port_of(struct evhttp_bound_socket *socket)
{
    struct sockaddr_in address = {0};
    socklen_t len = sizeof(address);

    if (getsockname(evhttp_bound_socket_get_fd(socket), (struct sockaddr *)&address, &len) != 0)
        abort();
    return ntohs(address.sin_port);
}

static struct endpoint *create(endpoint_fn *decide_path, endpoint_request_fn *decide_full,
                               void *ctx)
{
    struct endpoint *endpoint = calloc(1, sizeof(*endpoint));
    struct timeval every = {.tv_usec = 20000};
    struct evhttp_bound_socket *socket;

    if (endpoint == NULL)
        abort();
    endpoint->decide = decide_path;
    endpoint->decide_full = decide_full;
    endpoint->ctx = ctx;
    endpoint->base = event_base_new();
    endpoint->http = evhttp_new(endpoint->base);
    evhttp_set_gencb(endpoint->http, on_request, endpoint);
    socket = evhttp_bind_socket_with_handle(endpoint->http, "127.0.0.1", 0);
    if (socket == NULL)
        abort();
    endpoint->port = port_of(socket);
    endpoint->tick = event_new(endpoint->base, -1, EV_PERSIST, on_tick, endpoint);
    event_add(endpoint->tick, &every);
    if (pthread_create(&endpoint->thread, NULL, endpoint_main, endpoint) != 0)
        abort();
    return endpoint;
}

struct endpoint *endpoint_create(endpoint_fn *decide_path, void *ctx)
{
    return create(decide_path, NULL, ctx);
}

struct endpoint *endpoint_create_full(endpoint_request_fn *decide_full, void *ctx)
{
    return create(NULL, decide_full, ctx);
}

void endpoint_destroy(struct endpoint *endpoint)
{
    if (endpoint == NULL)
        return;
    atomic_store(&endpoint->is_ending, true);
    pthread_join(endpoint->thread, NULL);
    event_free(endpoint->tick);
    free_unanswered(endpoint);
    evhttp_free(endpoint->http);
    event_base_free(endpoint->base);
    free(endpoint);
}

uint16_t endpoint_port(const struct endpoint *endpoint)
{
    return endpoint->port;
}

uint64_t endpoint_requests(const struct endpoint *endpoint)
{
    return atomic_load(&endpoint->requests);
}
