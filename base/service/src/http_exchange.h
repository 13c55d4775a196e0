/*
 * One connection of the HTTP server and the request that it is at: what the halves of the server
 * share. http_exchange.c takes requests off a connection and answers them; http.c owns the
 * listener, the room for connections and their times.
 */
#ifndef SERVICE_HTTP_EXCHANGE_H
#define SERVICE_HTTP_EXCHANGE_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <time.h>

#include "base/log.h"
#include "http_head.h"
#include "service/http.h"

struct bufferevent;

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
    char peer[INET6_ADDRSTRLEN]; /* its address as text; "" of a family without one */
    enum peer_state state;
    uint64_t since_ms, due_ms; /* of the state */
    bool has_asked;            /* a whole request, at any time */
    bool has_ended;            /* it sends no more */
    bool is_head;              /* the method was HEAD */
    bool is_last;              /* the connection ends with this answer */
    bool is_taking;            /* within go_on */
    bool is_out;               /* the answer left at once, and nobody has gone on after it yet */
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
    struct obx_buf head; /* of the answer that is being sent */
    time_t date;
    char date_text[32];
};

/** Begin with a connection that has just come. The bufferevent is taken over. */
void exchange_start(struct http_exchange *x, struct http_server *server, struct bufferevent *bev);
/** Close the connection; a handler that has its request is told by on_gone. */
void exchange_free(struct http_exchange *x);
/** Its time has run out: it is answered 408, or closed where there is nobody to answer. */
void exchange_end_late(struct http_exchange *x);

#endif
