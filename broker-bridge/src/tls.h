/* TLS on a librabbitmq socket: what is verified and why it failed, and writing without waiting. See
 * tls.c. */
#ifndef BRIDGE_TLS_H
#define BRIDGE_TLS_H

#include <sys/types.h>

#include "amqp_include.h"
#include "obx/err.h"
#include "options.h"

struct tls {
    void *ssl; /* the connection's OpenSSL object once the handshake has begun; the library's socket
                  owns it */
    long verify_result; /* of the last handshake; an X509_V_ value */
};

/** Set up verification of host and keys on a fresh TLS socket. tls must outlive the socket.
 * OBX_E_MQ_TLS */
OBX_NODISCARD enum obx_code tls_prepare(struct tls *tls, amqp_socket_t *socket, const char *host,
                                        const struct options *options, struct obx_err *err);
/** Why the library reported this status from the handshake, in OpenSSL's words; NULL when OpenSSL
 * had no part in it. */
const char *tls_reason(const struct tls *tls, int status);
/** Write what goes without waiting: how many bytes (0: none now), or -1 when the connection is
 * broken. */
ssize_t tls_write(struct tls *tls, const void *p, size_t len);
/** Read what is there: how many bytes (0: none now), or -1 with err when the connection is broken
 * or was closed. */
ssize_t tls_read(struct tls *tls, void *p, size_t room, struct obx_err *err);

#endif
