/* TLS of the HTTP server: a context from certificate and key, and connections over it. Called by
 * http.c. */
#ifndef SERVICE_HTTP_TLS_H
#define SERVICE_HTTP_TLS_H

#include <event2/util.h>

#include "obx/err.h"

struct bufferevent;
struct event_base;
struct ssl_ctx_st;

/** OBX_E_CONFIG when the files do not make a working pair. On failure *out is NULL. */
OBX_NODISCARD enum obx_code http_tls_create(const char *cert_file, const char *key_file,
                                            struct ssl_ctx_st **out, struct obx_err *err);
/** NULL is fine. */
void http_tls_destroy(struct ssl_ctx_st *ctx);
/** A connection that takes the handshake first. Owns fd unless it is NULL (out of memory). */
struct bufferevent *http_tls_accept(struct ssl_ctx_st *ctx, struct event_base *base,
                                    evutil_socket_t fd);
/** Tell the peer that nothing follows. */
void http_tls_end(struct bufferevent *bev);

#endif
