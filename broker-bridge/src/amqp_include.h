/*
 * The one place that includes librabbitmq's headers. Up to 0.12 they lie directly in the include
 * folder, from 0.13 on in rabbitmq-c/; the build says which layout it found.
 */
#ifndef BRIDGE_AMQP_INCLUDE_H
#define BRIDGE_AMQP_INCLUDE_H

#include "obx/bytes.h"

#if OBX_RABBITMQ_C_HEADERS
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

/* The library's byte strings are not const, although it does not write to those it is given to
 * send. */
static inline amqp_bytes_t to_amqp(struct obx_bytes b)
{
    union {
        const void *in;
        void *out;
    } cast = {.in = b.p};

    return (amqp_bytes_t){.len = b.len, .bytes = cast.out};
}

static inline struct obx_bytes from_amqp(amqp_bytes_t b)
{
    return (struct obx_bytes){.p = b.bytes != NULL ? b.bytes : "", .len = b.len};
}

#endif
