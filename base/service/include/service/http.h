/*
 * The one HTTP/1.1 server: every page and API stands on it. It knows nothing of the relay.
 *
 * Bounded on every side, whatever the peers do: connections in all and of one address, the head of
 * a request, its body, the bodies of all requests together, and the time of each step. A caller
 * that finds no room makes room: the connection that is worth least is closed (one that waits to be
 * gone, one that has never asked, a slow reader, an idle one), never one whose request is being
 * worked on. The parser is strict (http_head.h), the Host must be one of ours, and what a handler
 * has to say about the head (a token, a method) it says before any of the body is read.
 *
 * Belongs to the thread that runs the event base; so do the handlers. Proved by
 * tests/unit/http_test.c, tests/unit/http_hostile_test.c, tests/fuzz/half_http_fuzz.c and
 * tests/system/half_http_test.c; decided in docs/adr/0017-http-server.md.
 */
#ifndef SERVICE_HTTP_H
#define SERVICE_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "obx/err.h"

struct event_base;
struct http_server;

/** One request and its answer. Valid from on_head or on_request until it is
 * answered or on_gone has run for it. */
struct http_exchange;

/** "GET". A HEAD is seen as GET: the server leaves the body out. */
const char *http_method(const struct http_exchange *x);
/** The path as it was sent, percent-encoded, from its '/' up to a '?'. */
struct obx_bytes http_path(const struct http_exchange *x);
/** What follows the '?'; NULL without one. */
const char *http_query(const struct http_exchange *x);
/** The value of a field, the first of several; NULL when there is none. */
const char *http_field(const struct http_exchange *x, const char *name);
/** The address that the connection comes from, "192.0.2.1" or "2001:db8::1"; "" when it has none. Of an
 * IPv4 peer of an IPv6 socket its IPv4 address. */
const char *http_peer(const struct http_exchange *x);
/** The whole body; in on_request and later, until http_drop_body. */
struct obx_bytes http_body(const struct http_exchange *x);
/** Free the memory of the body. Its size stays reserved until the answer. */
void http_drop_body(struct http_exchange *x);
/** In on_gone, by a handler that still works on what it made of the body: its size stays reserved,
 * until http_release gives it back. */
uint64_t http_keep_reserved(struct http_exchange *x);
void http_release(struct http_server *server, uint64_t bytes);
/** A pointer of the handler's own, NULL at first. */
void http_set_user(struct http_exchange *x, void *user);
void *http_user(const struct http_exchange *x);

/** Undo percent-encoding. False when it is broken, has a NUL in it, or does not fit with its end.
 */
bool http_decode(struct obx_bytes text, char *dst, size_t dst_size);

struct http_response {
    int status;
    const char *content_type; /* NULL: text/plain */
    const char *fields;       /* more lines, "Allow: GET\r\n"; NULL: none */
    struct obx_bytes body;    /* copied */
};
/** Answer, once for each exchange, at any time before on_gone. x is not valid any more. */
void http_respond(struct http_exchange *x, const struct http_response *answer);

struct http_ops {
    /** The head is there, and nothing of the body is read. True: go on. False: it was answered.
     * NULL: always go on. */
    bool (*on_head)(struct http_exchange *x, void *ctx);
    /** The request is whole: answer now or later. */
    void (*on_request)(struct http_exchange *x, void *ctx);
    /** The connection has ended between on_request and the answer: forget x. NULL: nobody wants to
     * know. */
    void (*on_gone)(struct http_exchange *x, void *ctx);
    /** Write the body of a refusal by the server itself. NULL: the text as it is. */
    enum obx_code (*add_error)(struct obx_buf *body, const char *reason, const char *text);
    const char *error_type; /* content type of add_error's */
};

enum { HTTP_CONNECTIONS = 64 };

/** 0 in any of them: the default in brackets. */
struct http_limits {
    uint32_t
        connections; /* [HTTP_CONNECTIONS]; less when the process may not open so many descriptors */
    uint32_t per_address;     /* of one IPv4 address or IPv6 /64 network [as many as connections] */
    uint32_t body_bytes;      /* of one request [none: a request with a body is refused] */
    uint64_t in_flight_bytes; /* of all bodies until they are answered [64 MiB] */
    uint32_t head_ms;         /* from the connection, or the first byte, to the whole head [5000] */
    uint32_t body_ms;         /* for the whole body [30000] */
    uint32_t answer_ms;       /* until the peer has taken the answer [10000] */
    uint32_t idle_ms;         /* between two requests [30000] */
};

struct http_opts {
    struct event_base *base; /* borrowed: outlives the server */
    const char *address;
    uint16_t port;              /* 0: any free one, see http_server_port */
    const struct http_ops *ops; /* borrowed: outlives the server */
    void *ctx;                  /* for ops */
    struct http_limits limits;
    /** Names that a Host may have, beside localhost, IP addresses and `address`; "*": any. Copied.
     * An address needs no entry: a page of somebody else that has its own name point here (DNS
     * rebinding) still sends that name. */
    const char *const *hosts;
    size_t host_count;
    const char *tls_cert_file; /* PEM, with its chain; NULL or "": no TLS */
    const char *tls_key_file;
};

/** Listen. On failure *out is NULL. OBX_E_SYSTEM (address in use, not ours, no permission),
 * OBX_E_CONFIG (certificate), OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code http_server_create(const struct http_opts *opts,
                                               struct http_server **out, struct obx_err *err);
uint16_t http_server_port(const struct http_server *server);
/** Accept no more connections; those that are there go on. */
void http_server_stop_listening(struct http_server *server);
/** Close everything. on_gone runs for what is unanswered. NULL is fine. */
void http_server_destroy(struct http_server *server);

struct http_stats {
    uint64_t requests;    /* whose head reached us whole, errors included */
    uint64_t refused;     /* answered by the server itself, or with 404 or 405 by the pages */
    uint64_t cut_off;     /* connections whose time was over, or that had to make room */
    uint64_t turned_away; /* connections for which no room could be made */
    uint64_t bytes_in_flight;
    uint64_t connections;
};
/** Any thread. */
void http_server_get_stats(const struct http_server *server, struct http_stats *out);

#endif
