/*
 * The configuration of inbox-relay as it stands in the file: one struct for each section. The
 * table of all keys is notify_keys.c; notify_config.h has what the program works with.
 */
#ifndef NOTIFY_KEYS_H
#define NOTIFY_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"

struct keys_notify {
    const char *name, *group;
    unsigned log_level, log_format;
    const char *http_address;
    uint32_t http_port;
    struct cfg_list http_hosts;
    const char *http_tls_cert_file;
    const char *http_tls_key_file;
    uint32_t drain, lease;
    uint32_t max_calls;
    uint64_t max_memory;
    uint32_t keep_delivered, keep_given_up;
};

struct keys_notify_broker {
    const char *addresses, *vhost, *user, *password;
    const char *queue, *exchange;
    unsigned topology;
    uint32_t prefetch;
    bool tls, tls_verify;
    const char *tls_ca_file, *tls_cert_file, *tls_key_file;
};

struct keys_notify_database {
    const char *host;
    uint32_t port;
    const char *socket, *user, *password, *database;
    unsigned tls;
    const char *tls_ca_file, *tls_cert_file, *tls_key_file;
    uint32_t timeout;
};

struct keys_endpoint {
    const char *name;
    const char *url;
    struct cfg_list topics;
    const char *secrets;
    bool sign;
    const char *authorization;
    struct cfg_list schedule;
    uint32_t connect_timeout, timeout;
    uint64_t max_response;
    uint32_t concurrency;
    uint32_t breaker_failures, breaker_min, breaker_max;
    uint32_t retry_after_max;
    bool tls_verify;
    const char *tls_ca_file;
};

struct keys_notify_root {
    struct keys_notify notify;
    struct keys_notify_broker broker;
    struct keys_notify_database database;
    struct keys_endpoint *endpoints;
    size_t endpoint_count;
};

enum { NOTIFY_ENDPOINTS_MAX = 256, NOTIFY_NAME_MAX = 64, NOTIFY_SCHEDULE_MAX = 32 };

/** Its root is a struct keys_notify_root. */
extern const struct cfg_schema notify_schema;

/**
 * One item of a schedule: a number and ms, s, m, h or d. False when it is none, or more than 49
 * days.
 */
bool keys_parse_delay(const char *text, uint32_t *ms);

#endif
