/*
 * What all of the bridge's users share: how to reach the broker, and the shape of a message.
 * The bridge is the only part that knows amqp.h. One object (publisher, consumer) = one connection
 * = one thread at a time.
 */
#ifndef BRIDGE_BRIDGE_H
#define BRIDGE_BRIDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "obx/bytes.h"
#include "obx/err.h"
#include "obx/value.h"

struct bridge_tls {
    bool enabled;
    const char *ca_file; /* NULL: the system's store */
    const char *cert_file;
    const char *key_file;
    bool insecure; /* true: verify neither the chain nor the host name; never a default */
};

/** Defaults of bridge_opts. */
enum {
    BRIDGE_CONNECT_MS = 5000,
    BRIDGE_RPC_MS = 10000,
    BRIDGE_HEARTBEAT_S = 20,
    BRIDGE_RECONNECT_MIN_MS = 100,
    BRIDGE_RECONNECT_CAP_MS = 10000
};

/** How to reach the broker. Borrowed for the create call; the object copies what it keeps. Zero
 * means the default. */
struct bridge_opts {
    const char *addresses; /* "host[:port][,host[:port]...]"; "[::1]:5672" for IPv6; tried in turn,
                              from a random one */
    const char *vhost;     /* NULL: "/" */
    const char *user;
    const char *password;
    const char *connection_name; /* shown in RabbitMQ's management and logs */
    uint32_t connect_timeout_ms; /* TCP, TLS and login together; 0: BRIDGE_CONNECT_MS */
    uint32_t rpc_timeout_ms;     /* any other answer that is waited for; 0: BRIDGE_RPC_MS */
    uint32_t heartbeat_s;        /* 0: BRIDGE_HEARTBEAT_S */
    uint32_t reconnect_min_ms;   /* first wait after a failure; 0: BRIDGE_RECONNECT_MIN_MS */
    uint32_t reconnect_cap_ms;   /* longest wait; 0: BRIDGE_RECONNECT_CAP_MS */
    struct bridge_tls tls;
};

/** Whether addresses can be read, for the check of a configuration; if not, why says what to write
 * instead. */
OBX_NODISCARD bool bridge_addresses_are_valid(const char *addresses, char *why, size_t why_size);

/** A message as it goes out or comes in. Everything is borrowed. Absent (p == NULL) properties are
 * not sent. */
struct bridge_message {
    struct obx_bytes exchange; /* at most 255 bytes, as all names below */
    struct obx_bytes routing_key;
    struct obx_bytes message_id;
    struct obx_bytes type;
    struct obx_bytes content_type;
    struct obx_bytes content_encoding;
    struct obx_bytes correlation_id;
    struct obx_bytes reply_to;
    struct obx_bytes app_id;
    uint64_t timestamp_s; /* 0: not sent */
    const struct obx_header *headers;
    size_t header_count;
    struct obx_bytes body;
};

/** Visible states of a connection; see broker-bridge/src/link.c for the edges. */
enum bridge_state {
    BRIDGE_DOWN,    /* waiting for the next attempt to connect */
    BRIDGE_UP,      /* working */
    BRIDGE_BLOCKED, /* connection.blocked: up, but the broker takes no publishes */
    BRIDGE_CLOSED   /* closed by its owner; the end */
};
const char *bridge_state_name(enum bridge_state state);

#endif
