/*
 * Connections of the HTTP server, on libevent's listener and bufferevents.
 *
 *     IDLE       no byte of a request yet                       next: READING, gone
 *     READING    the head is not whole yet                      next: BODY, HANDLING, ANSWERING,
 * gone BODY       the head was taken, the body is not whole yet  next: HANDLING, ANSWERING, gone
 *     HANDLING   the handler has it                             next: ANSWERING, gone
 *     ANSWERING  the answer is on its way out                   next: IDLE, LINGERING, gone
 *     LINGERING  all is sent and our side is closed; what the peer still sends is thrown away, so
 *                that the kernel does not take the answer back with a reset.          next: gone
 *
 * From each state but HANDLING a peer goes when its time is over, or when room is needed and it is
 * worth least; from each, when it breaks. One timer looks for those whose time is over.
 */
#include "service/http.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fail.h"
#include "base/log.h"
#include "http_head.h"
#include "http_host.h"
#include "http_tls.h"

enum {
    INPUT_MAX = 16384,   /* of a peer, read and not yet taken */
    LINGER_MAX = 262144, /* bytes of a peer that are thrown away */
    LINGER_MS = 2000,
    CHUNK_LINE_MAX = 256, /* a chunk's size with its extension */
    TRAILER_MAX = 4096,
    KEEP_BODY_MAX = 16384, /* a larger buffer is not kept for the next request */
    TICK_MS = 100,
    ACCEPT_PAUSE_MS = 200, /* after an accept that failed */
    LOG_EVERY_MS = 10000,
    PORT_TEXT_MAX = 8,
    US_PER_MS = 1000,
    NETWORK_LEN = 8,        /* of an IPv6 address: what one host is given at least */
    DESCRIPTORS_KEPT = 256, /* for databases, brokers and files of this process */
    DESCRIPTORS_LEAST = 512,
};

enum peer_state {
    PEER_IDLE,
    PEER_READING,
    PEER_BODY,
    PEER_HANDLING,
    PEER_ANSWERING,
    PEER_LINGERING
};

enum chunk_state { CHUNK_SIZE, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER };

struct http_exchange {
    TAILQ_ENTRY(http_exchange) entry;
    struct http_server *server;
    struct bufferevent *bev;
    unsigned char network[sizeof(struct in6_addr)];
    enum peer_state state;
    uint64_t since_ms, due_ms; /* of the state */
    bool has_asked;            /* a whole request, at any time */
    bool has_ended;            /* it sends no more */
    bool is_head;              /* the method was HEAD */
    bool is_last;              /* the connection ends with this answer */
    size_t thrown_away;
    struct obx_buf head_text;
    struct http_head head;
    struct obx_buf body;
    uint64_t left;     /* of the body, or of its chunk */
    uint64_t reserved; /* of the server's bytes in flight */
    enum chunk_state chunk;
    size_t trailer_len;
    void *user;
};
TAILQ_HEAD(peer_list, http_exchange);

/* Written by the loop's thread alone, read by any. */
struct counters {
    atomic_uint_fast64_t requests, refused, cut_off, turned_away, in_flight;
    atomic_uint connections;
};

struct http_server {
    struct event_base *base;
    struct evconnlistener *listener;
    struct event *listen_again;
    struct event *tick; /* while there are peers */
    const struct http_ops *ops;
    void *ctx;
    struct http_limits limits;
    char **hosts;
    size_t host_count;
    struct ssl_ctx_st *tls;
    uint16_t port;
    struct peer_list peers;
    struct log_limit accept_limit, refuse_limit;
    struct counters stats;
    time_t date;
    char date_text[32];
};

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {{200, "OK"},
                   {201, "Created"},
                   {204, "No Content"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {408, "Request Timeout"},
                   {409, "Conflict"},
                   {413, "Content Too Large"},
                   {415, "Unsupported Media Type"},
                   {417, "Expectation Failed"},
                   {421, "Misdirected Request"},
                   {431, "Request Header Fields Too Large"},
                   {501, "Not Implemented"},
                   {503, "Service Unavailable"},
                   {505, "HTTP Version Not Supported"}};

    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "Internal Server Error";
}

static void set_state(struct http_exchange *x, enum peer_state state)
{
    const struct http_limits *limits = &x->server->limits;
    const uint32_t times[] = {
        [PEER_IDLE] = limits->idle_ms,        [PEER_READING] = limits->head_ms,
        [PEER_BODY] = limits->body_ms,        [PEER_HANDLING] = 0,
        [PEER_ANSWERING] = limits->answer_ms, [PEER_LINGERING] = LINGER_MS};

    x->state = state;
    x->since_ms = clock_now_ms();
    x->due_ms = state == PEER_HANDLING ? UINT64_MAX : x->since_ms + times[state];
}

/* What belongs to one request; the connection goes on. */
static void end_exchange(struct http_exchange *x)
{
    x->server->stats.in_flight -= x->reserved;
    x->reserved = 0;
    x->user = NULL;
    x->head.field_count = 0;
    buf_reset(&x->head_text);
    if (x->body.cap > KEEP_BODY_MAX)
        buf_fini(&x->body);
    buf_reset(&x->body);
}

static void free_peer(struct http_exchange *x)
{
    struct http_server *server = x->server;

    if (x->state == PEER_HANDLING && server->ops->on_gone != NULL)
        server->ops->on_gone(x, server->ctx);
    end_exchange(x);
    TAILQ_REMOVE(&server->peers, x, entry);
    server->stats.connections--;
    bufferevent_free(x->bev);
    buf_fini(&x->head_text);
    buf_fini(&x->body);
    obx_free(x);
}

/* ---------------------------------------------------------------- what handlers see */

const char *http_method(const struct http_exchange *x)
{
    return x->is_head ? "GET" : x->head.method;
}

struct obx_bytes http_path(const struct http_exchange *x)
{
    return x->head.path;
}

const char *http_query(const struct http_exchange *x)
{
    return x->head.query;
}

const char *http_field(const struct http_exchange *x, const char *name)
{
    return http_head_field(&x->head, name);
}

struct obx_bytes http_body(const struct http_exchange *x)
{
    return x->body.len == 0 ? (struct obx_bytes){"", 0} : buf_bytes(&x->body);
}

void http_drop_body(struct http_exchange *x)
{
    buf_fini(&x->body);
}

void http_set_user(struct http_exchange *x, void *user)
{
    x->user = user;
}

void *http_user(const struct http_exchange *x)
{
    return x->user;
}

static int hex_value(char c)
{
    const char *digits = "0123456789abcdef0123456789ABCDEF";
    const char *at = c == '\0' ? NULL : strchr(digits, c);

    return at == NULL ? -1 : (int)((at - digits) % 16);
}

bool http_decode(struct obx_bytes text, char *dst, size_t dst_size)
{
    const char *p = text.p;
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        char c = p[i];

        if (c == '%') {
            int high = text.len - i > 2 ? hex_value(p[i + 1]) : -1;
            int low = high < 0 ? -1 : hex_value(p[i + 2]);

            if (low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0' || len + 1 >= dst_size)
            return false;
        dst[len++] = c;
    }
    if (dst_size == 0)
        return false;
    dst[len] = '\0';
    return true;
}

/* ---------------------------------------------------------------- answers */

static const char *date_now(struct http_server *server)
{
    const time_t now = (time_t)(clock_wall_us() / 1000000);
    struct tm tm;

    if (now != server->date && gmtime_r(&now, &tm) != NULL &&
        strftime(server->date_text, sizeof(server->date_text), "%a, %d %b %Y %H:%M:%S GMT", &tm) >
            0)
        server->date = now;
    return server->date_text;
}

/* The request has been read to its end, so that another one may follow on this connection. */
static bool is_read(const struct http_exchange *x)
{
    return x->state == PEER_HANDLING;
}

void http_respond(struct http_exchange *x, const struct http_response *answer)
{
    struct evbuffer *out = bufferevent_get_output(x->bev);
    const char *type =
        answer->content_type == NULL ? "text/plain; charset=utf-8" : answer->content_type;

    x->is_last = x->is_last || x->has_ended || !is_read(x);
    if (evbuffer_add_printf(out,
                            "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\n"
                            "Content-Length: %zu\r\nCache-Control: no-store\r\n"
                            "X-Content-Type-Options: nosniff\r\n%s%s\r\n",
                            answer->status, reason_of(answer->status), date_now(x->server), type,
                            answer->body.len, answer->fields == NULL ? "" : answer->fields,
                            x->is_last ? "Connection: close\r\n" : "") < 0 ||
        (!x->is_head && answer->body.len > 0 &&
         evbuffer_add(out, answer->body.p, answer->body.len) != 0)) {
        /* No memory for an answer: half of one must not go out. */
        evbuffer_drain(out, evbuffer_get_length(out));
        shutdown(bufferevent_getfd(x->bev), SHUT_RDWR);
        x->is_last = true;
    }
    set_state(x, PEER_ANSWERING);
    end_exchange(x);
}

static void refuse(struct http_exchange *x, int status, const char *reason, const char *text)
{
    const struct http_ops *ops = x->server->ops;
    struct http_response answer = {.status = status};
    struct obx_buf body = {0};
    enum obx_code rc = ops->add_error == NULL ? buf_addf(&body, "%s\n", text)
                                              : ops->add_error(&body, reason, text);

    x->server->stats.refused++;
    /* Without memory for the sentence the status line has to do. */
    if (rc != OBX_OK)
        buf_reset(&body);
    answer.body = buf_bytes(&body);
    answer.content_type = ops->add_error == NULL ? NULL : ops->error_type;
    answer.fields = status == 503 ? "Retry-After: 1\r\n" : NULL;
    x->is_last = true;
    http_respond(x, &answer);
    buf_fini(&body);
}

static void refuse_fault(struct http_exchange *x, const struct http_fault *fault)
{
    refuse(x, fault->status, fault->status == 413 ? "too_large" : "bad_request", fault->text);
}

/* ---------------------------------------------------------------- bodies */

/* Room for so many more bytes of this body; false: it was refused. */
static bool reserve(struct http_exchange *x, uint64_t len)
{
    struct http_server *server = x->server;

    if (len > server->limits.body_bytes || x->reserved > server->limits.body_bytes - len) {
        refuse(x, 413, "too_large", "the body is larger than what is taken here");
        return false;
    }
    if (len > server->limits.in_flight_bytes - server->stats.in_flight) {
        refuse(x, 503, "overloaded", "too many bytes are in flight; ask again");
        return false;
    }
    x->reserved += len;
    server->stats.in_flight += len;
    return true;
}

static void handle(struct http_exchange *x)
{
    x->has_asked = true;
    set_state(x, PEER_HANDLING);
    x->server->ops->on_request(x, x->server->ctx);
}

/* Move up to left bytes into the body; false: no memory, refused. */
static bool take_bytes(struct http_exchange *x, struct evbuffer *in)
{
    size_t len = evbuffer_get_length(in);

    if (len > x->left)
        len = (size_t)x->left;
    if (len == 0)
        return true;
    if (buf_reserve(&x->body, len) != OBX_OK) {
        refuse(x, 503, "overloaded", "out of memory");
        return false;
    }
    if (evbuffer_remove(in, x->body.data + x->body.len, len) != (int)len)
        return false; /* cannot be: they are there */
    x->body.len += len;
    x->body.data[x->body.len] = '\0';
    x->left -= len;
    return true;
}

enum line { LINE_MORE, LINE_TAKEN, LINE_BAD };

/* The next line, without its CR LF. */
static enum line take_line(struct evbuffer *in, char *line, size_t *len)
{
    const ev_ssize_t got = evbuffer_copyout(in, line, CHUNK_LINE_MAX);
    const char *lf = got <= 0 ? NULL : memchr(line, '\n', (size_t)got);

    if (lf == NULL)
        return got == CHUNK_LINE_MAX ? LINE_BAD : LINE_MORE;
    *len = (size_t)(lf - line);
    if (*len == 0 || line[*len - 1] != '\r')
        return LINE_BAD;
    evbuffer_drain(in, *len + 1);
    (*len)--;
    line[*len] = '\0';
    return LINE_TAKEN;
}

/* Fields after the last chunk are checked and thrown away. */
static bool take_trailer(struct http_exchange *x, char *line, size_t len)
{
    struct http_head_field field;

    x->trailer_len += len;
    return x->trailer_len <= TRAILER_MAX && http_field_line(line, len, &field);
}

/* False: refused, or handed over: nothing of this body is to be read any more. */
static bool take_chunk_line(struct http_exchange *x, char *line, size_t len)
{
    switch (x->chunk) {
    case CHUNK_SIZE:
        if (!http_chunk_size(line, len, &x->left))
            break;
        x->chunk = x->left == 0 ? CHUNK_TRAILER : CHUNK_DATA;
        return x->left == 0 || reserve(x, x->left);
    case CHUNK_DATA_END:
        if (len != 0)
            break;
        x->chunk = CHUNK_SIZE;
        return true;
    case CHUNK_TRAILER:
        if (len == 0) {
            handle(x);
            return false;
        }
        if (take_trailer(x, line, len))
            return true;
        break;
    case CHUNK_DATA:
        break;
    }
    refuse(x, 400, "bad_request", "the chunks of the body are malformed");
    return false;
}

static void read_chunks(struct http_exchange *x, struct evbuffer *in)
{
    char line[CHUNK_LINE_MAX];
    size_t len = 0;

    for (;;) {
        enum line found;

        if (x->chunk == CHUNK_DATA) {
            if (!take_bytes(x, in) || x->left > 0)
                return;
            x->chunk = CHUNK_DATA_END;
        }
        found = take_line(in, line, &len);
        if (found == LINE_BAD)
            refuse(x, 400, "bad_request", "the chunks of the body are malformed");
        if (found != LINE_TAKEN || !take_chunk_line(x, line, len))
            return;
    }
}

static void read_body(struct http_exchange *x, struct evbuffer *in)
{
    if (x->head.is_chunked)
        read_chunks(x, in);
    else if (take_bytes(x, in) && x->left == 0)
        handle(x);
}

/* ---------------------------------------------------------------- heads */

static void begin_body(struct http_exchange *x, struct evbuffer *in)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

    x->left = x->head.length;
    x->chunk = CHUNK_SIZE;
    x->trailer_len = 0;
    if (!x->head.is_chunked && !reserve(x, x->left))
        return;
    if (x->head.is_chunked && !reserve(x, 0))
        return;
    set_state(x, PEER_BODY);
    if (x->head.expects_continue && evbuffer_get_length(in) == 0 &&
        (x->head.is_chunked || x->left > 0))
        (void)bufferevent_write(x->bev, go_on, sizeof(go_on) - 1);
    read_body(x, in);
}

static void take_head(struct http_exchange *x, struct evbuffer *in, size_t len)
{
    struct http_server *server = x->server;
    struct http_fault fault;

    server->stats.requests++;
    buf_reset(&x->head_text);
    if (buf_reserve(&x->head_text, len) != OBX_OK ||
        evbuffer_remove(in, x->head_text.data, len) != (int)len) {
        refuse(x, 503, "overloaded", "out of memory");
        return;
    }
    x->head_text.len = len;
    x->is_head = false;
    fault = http_head_parse(x->head_text.data, len, &x->head);
    if (fault.status != 0) {
        refuse_fault(x, &fault);
        return;
    }
    x->is_head = strcmp(x->head.method, "HEAD") == 0;
    x->is_last = x->head.wants_close;
    if (x->head.host != NULL &&
        !http_host_is_ours(x->head.host, server->hosts, server->host_count)) {
        refuse(x, 421, "misdirected", "this host is not served here; see http_hosts");
        return;
    }
    if (server->ops->on_head == NULL || server->ops->on_head(x, server->ctx))
        begin_body(x, in);
}

static void read_head(struct http_exchange *x, struct evbuffer *in)
{
    char text[HTTP_HEAD_MAX];
    const ev_ssize_t got = evbuffer_copyout(in, text, sizeof(text));
    struct http_fault fault = {0};
    size_t len = got <= 0 ? 0 : http_head_find_end(text, (size_t)got, &fault);

    if (got > 0 && x->state == PEER_IDLE)
        set_state(x, PEER_READING);
    if (fault.status != 0)
        refuse_fault(x, &fault);
    else if (len > 0)
        take_head(x, in, len);
    else if (got == HTTP_HEAD_MAX)
        refuse(x, 431, "head_too_large", "the head of the request is too large");
}

/* ---------------------------------------------------------------- events */

/* Take what has come, request after request as long as they are answered at once. */
static void go_on(struct http_exchange *x)
{
    struct evbuffer *in = bufferevent_get_input(x->bev);
    const size_t len = evbuffer_get_length(in);

    switch (x->state) {
    case PEER_IDLE:
    case PEER_READING:
        read_head(x, in);
        break;
    case PEER_BODY:
        read_body(x, in);
        break;
    case PEER_HANDLING:
        break; /* what it has sent ahead waits */
    case PEER_ANSWERING:
        if (!x->is_last)
            break;
        /* fall through */
    case PEER_LINGERING:
        x->thrown_away += len;
        evbuffer_drain(in, len);
        if (x->thrown_away > LINGER_MAX)
            free_peer(x);
        break;
    }
}

static void on_read(struct bufferevent *bev, void *ctx)
{
    (void)bev;
    go_on(ctx);
}

/* The answer is out. */
static void on_written(struct bufferevent *bev, void *ctx)
{
    struct http_exchange *x = ctx;

    if (x->state != PEER_ANSWERING)
        return; /* a "100 Continue", or the end */
    if (x->has_ended) {
        free_peer(x);
        return;
    }
    if (!x->is_last) {
        set_state(x, PEER_IDLE);
        go_on(x);
        return;
    }
    set_state(x, PEER_LINGERING);
    if (x->server->tls != NULL)
        http_tls_end(bev);
    shutdown(bufferevent_getfd(bev), SHUT_WR);
}

static void on_event(struct bufferevent *bev, short what, void *ctx)
{
    struct http_exchange *x = ctx;

    (void)bev;
    if ((what & BEV_EVENT_CONNECTED) != 0)
        return; /* the TLS handshake is done */
    /* Somebody who only closed his own side still waits for the answer. */
    if ((what & BEV_EVENT_EOF) != 0 && (x->state == PEER_HANDLING || x->state == PEER_ANSWERING))
        x->has_ended = true;
    else
        free_peer(x);
}

static void end_late(struct http_exchange *x)
{
    x->server->stats.cut_off++;
    if (x->state == PEER_BODY ||
        (x->state == PEER_READING && evbuffer_get_length(bufferevent_get_input(x->bev)) > 0))
        refuse(x, 408, "timeout", "the request took too long");
    else
        free_peer(x);
}

static void arm_tick(struct http_server *server)
{
    const struct timeval tick = {.tv_usec = (suseconds_t)TICK_MS * US_PER_MS};

    if (!TAILQ_EMPTY(&server->peers) && !evtimer_pending(server->tick, NULL))
        evtimer_add(server->tick, &tick);
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
    struct http_server *server = ctx;
    struct http_exchange *next;
    const uint64_t now_ms = clock_now_ms();

    (void)fd;
    (void)what;
    for (struct http_exchange *x = TAILQ_FIRST(&server->peers); x != NULL; x = next) {
        next = TAILQ_NEXT(x, entry);
        if (x->due_ms <= now_ms)
            end_late(x);
    }
    arm_tick(server);
}

/* ---------------------------------------------------------------- connections */

static void network_of(const struct sockaddr *address, unsigned char *network)
{
    memset(network, 0, sizeof(struct in6_addr));
    if (address->sa_family == AF_INET) {
        memcpy(network + NETWORK_LEN,
               &((const struct sockaddr_in *)(const void *)address)->sin_addr,
               sizeof(struct in_addr));
    } else if (address->sa_family == AF_INET6) {
        const struct in6_addr *addr =
            &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;

        /* IPv4 over an IPv6 socket is still one host each. */
        if (IN6_IS_ADDR_V4MAPPED(addr))
            memcpy(network + NETWORK_LEN, addr->s6_addr + 12, sizeof(struct in_addr));
        else
            memcpy(network, addr, NETWORK_LEN);
    }
}

/* How little a connection is worth when room is needed; 0: it stays. */
static unsigned rank_of(const struct http_exchange *x)
{
    switch (x->state) {
    case PEER_LINGERING:
        return 4;
    case PEER_IDLE:
    case PEER_READING:
    case PEER_BODY:
        return x->has_asked ? 1 : 3;
    case PEER_ANSWERING:
        return 2;
    case PEER_HANDLING:
        break;
    }
    return 0;
}

static bool is_of(const struct http_exchange *x, const unsigned char *network)
{
    return network == NULL || memcmp(x->network, network, sizeof(x->network)) == 0;
}

/* Close the one that is worth least, of all or of one network; false: every one is at work. */
static bool make_room(struct http_server *server, const unsigned char *network)
{
    struct http_exchange *x, *worst = NULL;

    TAILQ_FOREACH(x, &server->peers, entry)
    {
        if (rank_of(x) == 0 || !is_of(x, network))
            continue;
        if (worst == NULL || rank_of(x) > rank_of(worst) ||
            (rank_of(x) == rank_of(worst) && x->since_ms < worst->since_ms))
            worst = x;
    }
    if (worst == NULL)
        return false;
    server->stats.cut_off++;
    free_peer(worst);
    return true;
}

static uint32_t count_of(const struct http_server *server, const unsigned char *network)
{
    const struct http_exchange *x;
    uint32_t count = 0;

    TAILQ_FOREACH(x, &server->peers, entry)
    count += is_of(x, network);
    return count;
}

static bool has_room(struct http_server *server, const unsigned char *network)
{
    if (count_of(server, network) >= server->limits.per_address && !make_room(server, network))
        return false;
    return server->stats.connections < server->limits.connections || make_room(server, NULL);
}

/* Once there is no room, one caller a turn of the loop: a connection is read before
 * another one takes its place, however many knock at once. */
static void pause_when_full(struct http_server *server, const unsigned char *network)
{
    const struct timeval now = {0};

    if (server->stats.connections < server->limits.connections &&
        count_of(server, network) < server->limits.per_address)
        return;
    evconnlistener_disable(server->listener);
    event_add(server->listen_again, &now);
}

static void add_peer(struct http_server *server, evutil_socket_t fd, const unsigned char *network)
{
    struct http_exchange *x = obx_calloc(1, sizeof(*x));
    struct bufferevent *bev = NULL;

    if (x != NULL)
        bev = server->tls != NULL ? http_tls_accept(server->tls, server->base, fd)
                                  : bufferevent_socket_new(server->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (bev == NULL) {
        evutil_closesocket(fd);
        obx_free(x);
        return;
    }
    x->server = server;
    x->bev = bev;
    memcpy(x->network, network, sizeof(x->network));
    TAILQ_INSERT_TAIL(&server->peers, x, entry);
    server->stats.connections++;
    set_state(x, PEER_READING);
    bufferevent_setwatermark(bev, EV_READ, 0, INPUT_MAX);
    bufferevent_setcb(bev, on_read, on_written, on_event, x);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
    arm_tick(server);
}

static void turn_away(struct http_server *server, evutil_socket_t fd)
{
    static const char busy[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
                               "Content-Length: 0\r\nConnection: close\r\n\r\n";
    uint64_t dropped = 0;

    server->stats.turned_away++;
    if (server->tls == NULL)
        (void)!send(fd, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    evutil_closesocket(fd);
    if (log_limit_pass(&server->refuse_limit, LOG_EVERY_MS, &dropped))
        OBX_LOG(LOG_LVL_WARN, "http", "connections.full", KV_U64("port", server->port),
                KV_U64("connections", server->stats.connections), KV_U64("more", dropped));
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                      int address_len, void *ctx)
{
    struct http_server *server = ctx;
    unsigned char network[sizeof(struct in6_addr)];
    const int one = 1;

    (void)listener;
    (void)address_len;
    network_of(address, network);
    if (!has_room(server, network)) {
        turn_away(server, fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    add_peer(server, fd, network);
    pause_when_full(server, network);
}

/* No descriptors or no memory: ask again in a while and not at once for ever. */
static void on_accept_failed(struct evconnlistener *listener, void *ctx)
{
    const struct timeval pause = {.tv_usec = (suseconds_t)ACCEPT_PAUSE_MS * US_PER_MS};
    struct http_server *server = ctx;
    int sys = EVUTIL_SOCKET_ERROR();
    uint64_t dropped = 0;

    if (log_limit_pass(&server->accept_limit, LOG_EVERY_MS, &dropped))
        OBX_LOG(LOG_LVL_WARN, "http", "accept.failed", KV_I64("errno", sys),
                KV_U64("more", dropped));
    evconnlistener_disable(listener);
    event_add(server->listen_again, &pause);
}

static void on_listen_again(evutil_socket_t fd, short what, void *ctx)
{
    struct http_server *server = ctx;

    (void)fd;
    (void)what;
    if (server->listener != NULL)
        evconnlistener_enable(server->listener);
}

/* ---------------------------------------------------------------- life */

static struct evconnlistener *listen_on(struct http_server *server, const struct http_opts *opts)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    struct evconnlistener *listener = NULL;
    char port[PORT_TEXT_MAX];
    int sys = 0;

    snprintf(port, sizeof(port), "%u", (unsigned)opts->port);
    if (getaddrinfo(opts->address, port, &hints, &found) != 0) {
        errno = 0;
        return NULL;
    }
    for (const struct addrinfo *at = found; at != NULL && listener == NULL; at = at->ai_next) {
        errno = 0;
        listener = evconnlistener_new_bind(server->base, on_accept, server,
                                           LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC |
                                               LEV_OPT_REUSEABLE,
                                           -1, at->ai_addr, (int)at->ai_addrlen);
        sys = errno;
    }
    freeaddrinfo(found);
    errno = sys;
    return listener;
}

static uint16_t port_of(evutil_socket_t fd)
{
    struct sockaddr_storage bound = {0};
    socklen_t len = sizeof(bound);

    if (getsockname(fd, (struct sockaddr *)&bound, &len) != 0)
        return 0;
    return ntohs(bound.ss_family == AF_INET6
                     ? ((const struct sockaddr_in6 *)(const void *)&bound)->sin6_port
                     : ((const struct sockaddr_in *)(const void *)&bound)->sin_port);
}

static uint32_t or_default(uint32_t value, uint32_t def)
{
    return value == 0 ? def : value;
}

/*
 * A process that has given all of its descriptors to its callers cannot reach its servers any more.
 * Two servers at most stand in one process, and what is kept is for everything else.
 */
static uint32_t fit_to_descriptors(uint32_t wanted, const char *address)
{
    const rlim_t needed = (rlim_t)wanted * 2 + DESCRIPTORS_KEPT;
    struct rlimit limit;
    rlim_t fit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return wanted;
    if (limit.rlim_cur < needed && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max < needed ? limit.rlim_max : needed;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    fit = limit.rlim_cur >= DESCRIPTORS_LEAST ? (limit.rlim_cur - DESCRIPTORS_KEPT) / 2
                                              : limit.rlim_cur / 4;
    if (fit >= wanted)
        return wanted;
    OBX_LOG(LOG_LVL_WARN, "http", "connections.lowered", KV_STR("address", address),
            KV_U64("wanted", wanted), KV_U64("connections", fit),
            KV_U64("descriptors", limit.rlim_cur));
    return (uint32_t)fit;
}

static void set_limits(struct http_server *server, const struct http_opts *opts)
{
    struct http_limits *limits = &server->limits;

    *limits = opts->limits;
    limits->connections =
        fit_to_descriptors(or_default(limits->connections, HTTP_CONNECTIONS), opts->address);
    limits->per_address = or_default(limits->per_address, limits->connections);
    limits->head_ms = or_default(limits->head_ms, 5000);
    limits->body_ms = or_default(limits->body_ms, 30000);
    limits->answer_ms = or_default(limits->answer_ms, 10000);
    limits->idle_ms = or_default(limits->idle_ms, 30000);
    if (limits->in_flight_bytes == 0)
        limits->in_flight_bytes = UINT64_C(64) * 1024 * 1024;
    /* A body that is allowed must find room when it is the only one. */
    if (limits->in_flight_bytes < limits->body_bytes)
        limits->in_flight_bytes = limits->body_bytes;
}

static enum obx_code copy_hosts(struct http_server *server, const struct http_opts *opts)
{
    server->hosts = obx_calloc(opts->host_count + 1, sizeof(*server->hosts));
    for (size_t i = 0; server->hosts != NULL && i <= opts->host_count; i++) {
        server->hosts[i] = obx_strdup(i == 0 ? opts->address : opts->hosts[i - 1]);
        if (server->hosts[i] == NULL)
            return OBX_E_NOMEM;
        server->host_count++;
    }
    return server->hosts == NULL ? OBX_E_NOMEM : OBX_OK;
}

static enum obx_code set_up(struct http_server *server, const struct http_opts *opts,
                            struct obx_err *err)
{
    int sys;

    server->listen_again = evtimer_new(opts->base, on_listen_again, server);
    server->tick = evtimer_new(opts->base, on_tick, server);
    if (server->listen_again == NULL || server->tick == NULL || copy_hosts(server, opts) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "HTTP server");
    if (opts->tls_cert_file != NULL && *opts->tls_cert_file != '\0') {
        enum obx_code rc = http_tls_create(opts->tls_cert_file,
                                           opts->tls_key_file == NULL ? "" : opts->tls_key_file,
                                           &server->tls, err);

        if (rc != OBX_OK)
            return rc;
    }
    server->listener = listen_on(server, opts);
    sys = errno;
    if (server->listener == NULL)
        return sys == 0 ? obx_fail(err, OBX_E_SYSTEM, "http://%s:%u is not an address here",
                                   opts->address, (unsigned)opts->port)
                        : obx_fail_errno(err, OBX_E_SYSTEM, sys, "cannot listen on http://%s:%u",
                                         opts->address, (unsigned)opts->port);
    server->port = port_of(evconnlistener_get_fd(server->listener));
    evconnlistener_set_error_cb(server->listener, on_accept_failed);
    return OBX_OK;
}

enum obx_code http_server_create(const struct http_opts *opts, struct http_server **out,
                                 struct obx_err *err)
{
    struct http_server *server = obx_calloc(1, sizeof(*server));
    enum obx_code rc;

    *out = NULL;
    if (server == NULL)
        return obx_fail(err, OBX_E_NOMEM, "HTTP server");
    TAILQ_INIT(&server->peers);
    server->base = opts->base;
    server->ops = opts->ops;
    server->ctx = opts->ctx;
    set_limits(server, opts);
    rc = set_up(server, opts, err);
    if (rc != OBX_OK) {
        http_server_destroy(server);
        return rc;
    }
    *out = server;
    return OBX_OK;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

void http_server_stop_listening(struct http_server *server)
{
    if (server->listener != NULL)
        evconnlistener_free(server->listener);
    server->listener = NULL;
}

void http_server_destroy(struct http_server *server)
{
    if (server == NULL)
        return;
    while (!TAILQ_EMPTY(&server->peers))
        free_peer(TAILQ_FIRST(&server->peers));
    http_server_stop_listening(server);
    if (server->listen_again != NULL)
        event_free(server->listen_again);
    if (server->tick != NULL)
        event_free(server->tick);
    http_tls_destroy(server->tls);
    for (size_t i = 0; i < server->host_count; i++)
        obx_free(server->hosts[i]);
    obx_free(server->hosts);
    obx_free(server);
}

void http_server_get_stats(const struct http_server *server, struct http_stats *out)
{
    const struct counters *stats = &server->stats;

    *out = (struct http_stats){.requests = atomic_load(&stats->requests),
                               .refused = atomic_load(&stats->refused),
                               .cut_off = atomic_load(&stats->cut_off),
                               .turned_away = atomic_load(&stats->turned_away),
                               .bytes_in_flight = atomic_load(&stats->in_flight),
                               .connections = atomic_load(&stats->connections)};
}
