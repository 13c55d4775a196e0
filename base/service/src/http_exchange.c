/*
 * One connection of the HTTP server, on a bufferevent: takes request after request off it, hands
 * them to the handler and sends the answers.
 *
 *   IDLE       no byte of a request yet                       next: READING, gone
 *   READING    the head is not whole yet                      next: BODY, HANDLING, ANSWERING, gone
 *   BODY       the head was taken, the body is not whole yet  next: HANDLING, ANSWERING, gone
 *   HANDLING   the handler has it                             next: ANSWERING, gone
 *   ANSWERING  the answer is on its way out                   next: IDLE, LINGERING, gone
 *   LINGERING  all is sent and our side is closed; what the peer still sends is thrown away, so
 *              that the kernel does not take the answer back with a reset          next: gone
 *
 * From each state but HANDLING a peer goes when its time has run out, or when room is needed and it
 * is worth least; from each, when it breaks. Proved by tests/unit/http_test.c and
 * http_hostile_test.c.
 */
#include "http_exchange.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "http_host.h"
#include "http_tls.h"

enum {
    INPUT_MAX = 16384,   /* of a peer, read and not yet taken */
    LINGER_MAX = 262144, /* bytes of a peer that are thrown away */
    LINGER_MS = 2000,
    CHUNK_LINE_MAX = 256, /* a chunk's size with its extension */
    TRAILER_MAX = 4096,
    KEEP_BODY_MAX = 16384, /* a larger buffer is not kept for the next request */
};

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {{200, "OK"},
                   {201, "Created"},
                   {202, "Accepted"},
                   {204, "No Content"},
                   {303, "See Other"},
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
                   {504, "Gateway Timeout"},
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

void exchange_free(struct http_exchange *x)
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

const char *http_peer(const struct http_exchange *x)
{
    return x->peer;
}

struct obx_bytes http_body(const struct http_exchange *x)
{
    return x->body.len == 0 ? (struct obx_bytes){"", 0} : buf_bytes(&x->body);
}

void http_drop_body(struct http_exchange *x)
{
    buf_fini(&x->body);
}

uint64_t http_keep_reserved(struct http_exchange *x)
{
    const uint64_t bytes = x->reserved;

    x->reserved = 0;
    return bytes;
}

void http_release(struct http_server *server, uint64_t bytes)
{
    server->stats.in_flight -= bytes;
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

/* Hand head and body to the kernel at once; what it does not take is *left of them. Nearly always it
 * takes all, and the event loop's way (wait until it may be written to, write, wait no more) costs
 * three more calls for each answer. Not with TLS, and not while something before it waits. */
static size_t send_now(struct http_exchange *x, struct obx_bytes head, struct obx_bytes body)
{
    struct iovec parts[] = {
        {.iov_base = (void *)(uintptr_t)head.p, .iov_len = head.len},
        {.iov_base = (void *)(uintptr_t)body.p, .iov_len = body.len},
    };
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = body.len > 0 ? 2 : 1};
    ssize_t sent;

    if (x->server->tls != NULL || evbuffer_get_length(bufferevent_get_output(x->bev)) > 0)
        return 0;
    sent = sendmsg(bufferevent_getfd(x->bev), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 ? 0 : (size_t)sent; /* a broken connection shows in the loop */
}

static void go_on(struct http_exchange *x);

/* Head and body on their way; false: no memory for them. */
static bool send_answer(struct http_exchange *x, const struct http_response *answer)
{
    struct evbuffer *out = bufferevent_get_output(x->bev);
    const struct obx_bytes body = x->is_head ? (struct obx_bytes){"", 0} : answer->body;
    struct obx_buf *head = &x->server->head;
    size_t sent;

    buf_reset(head);
    if (buf_addf(head,
                 "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                 "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n%s%s\r\n",
                 answer->status, reason_of(answer->status), date_now(x->server),
                 answer->content_type == NULL ? "text/plain; charset=utf-8" : answer->content_type,
                 answer->body.len, answer->fields == NULL ? "" : answer->fields,
                 x->is_last ? "Connection: close\r\n" : "") != OBX_OK)
        return false;
    sent = send_now(x, buf_bytes(head), body);
    x->is_out = sent == head->len + body.len;
    if (x->is_out)
        return true;
    if (sent < head->len && evbuffer_add(out, head->data + sent, head->len - sent) != 0)
        return false;
    sent = sent < head->len ? 0 : sent - head->len;
    return sent == body.len || evbuffer_add(out, (const char *)body.p + sent, body.len - sent) == 0;
}

void http_respond(struct http_exchange *x, const struct http_response *answer)
{
    x->is_last = x->is_last || x->has_ended || !is_read(x);
    if (!send_answer(x, answer)) { /* half of an answer must not go out */
        struct evbuffer *out = bufferevent_get_output(x->bev);

        evbuffer_drain(out, evbuffer_get_length(out));
        shutdown(bufferevent_getfd(x->bev), SHUT_RDWR);
        x->is_last = true;
    }
    set_state(x, PEER_ANSWERING);
    end_exchange(x);
    /* From a handler of ours that answers later; within go_on it is go_on that looks. */
    if (x->is_out && !x->is_taking)
        go_on(x);
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

/* The answer is out: the next request, or the end. False: x is gone. */
static bool end_answer(struct http_exchange *x)
{
    x->is_out = false;
    if (x->has_ended) {
        exchange_free(x);
        return false;
    }
    if (!x->is_last) {
        set_state(x, PEER_IDLE);
        return true;
    }
    set_state(x, PEER_LINGERING);
    if (x->server->tls != NULL)
        http_tls_end(x->bev);
    shutdown(bufferevent_getfd(x->bev), SHUT_WR);
    return true;
}

/* One step with what has come. False: x is gone. */
static bool take_input(struct http_exchange *x)
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
        if (x->thrown_away <= LINGER_MAX)
            break;
        exchange_free(x);
        return false;
    }
    return true;
}

/* Take what has come, request after request as long as they are answered at once. In a loop, or a
 * peer that sends many ahead would make us call ourselves as deep as it likes. */
static void go_on(struct http_exchange *x)
{
    x->is_taking = true;
    do {
        if ((x->is_out && !end_answer(x)) || !take_input(x))
            return;
    } while (x->is_out);
    x->is_taking = false;
}

static void on_read(struct bufferevent *bev, void *ctx)
{
    (void)bev;
    go_on(ctx);
}

static void on_written(struct bufferevent *bev, void *ctx)
{
    struct http_exchange *x = ctx;

    (void)bev;
    if (x->state == PEER_ANSWERING && end_answer(x)) /* else: a "100 Continue", or the end */
        go_on(x);
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
        exchange_free(x);
}

void exchange_end_late(struct http_exchange *x)
{
    x->server->stats.cut_off++;
    if (x->state == PEER_BODY ||
        (x->state == PEER_READING && evbuffer_get_length(bufferevent_get_input(x->bev)) > 0))
        refuse(x, 408, "timeout", "the request took too long");
    else
        exchange_free(x);
}

void exchange_start(struct http_exchange *x, struct http_server *server, struct bufferevent *bev)
{
    x->server = server;
    x->bev = bev;
    TAILQ_INSERT_TAIL(&server->peers, x, entry);
    server->stats.connections++;
    set_state(x, PEER_READING);
    bufferevent_setwatermark(bev, EV_READ, 0, INPUT_MAX);
    bufferevent_setcb(bev, on_read, on_written, on_event, x);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
}
