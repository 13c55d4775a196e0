/*
 * A hostile HTTP peer: what programs that mean harm send to a server of ours on 127.0.0.1. Each
 * attack ends by itself and fails the running cmocka test when the server does what it must not;
 * afterwards the server must still answer, which http_hostile_is_served says. Any thread.
 */
#ifndef OBX_TEST_HTTP_HOSTILE_H
#define OBX_TEST_HTTP_HOSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_hostile {
    uint16_t port;
    const char *get;    /* a path that GET answers with 200 */
    const char *post;   /* a path that takes a body with POST */
    const char *fields; /* whole lines that a request needs, "Authorization: ...\r\n"; "" none */
};

/** Requests that two programs could read in two ways, and plain rubbish: each is refused, the
 * connection ends, and what was hidden behind it is never answered. */
void http_hostile_smuggle(const struct http_hostile *target);
/** Requests that were honest until a seeded hand changed them: HTTP or a closed connection. */
void http_hostile_mutate(const struct http_hostile *target, uint32_t seed, unsigned count);
/** Many requests at once on one connection: each is answered, in turn; and a peer that sends them
 * and never reads. */
void http_hostile_pipeline(const struct http_hostile *target, unsigned count);
/** Peers that hang up, with a reset, at every place of a request and in the middle of answers. */
void http_hostile_abort(const struct http_hostile *target, uint32_t seed, unsigned count);
/** Connections in waves that stay open, silent or with half a request; more than the server has
 * room for. While they stand an honest peer is served. */
void http_hostile_crowd(const struct http_hostile *target, unsigned waves, unsigned wave_len);
/** Whether a peer that sends this and then a byte now and then is closed within ms. */
bool http_hostile_drip(const struct http_hostile *target, const char *begin, char drip,
                       unsigned ms);
/** Whether an honest GET is answered with 200. */
bool http_hostile_is_served(const struct http_hostile *target);

#endif
