/*
 * The table of every key of the relay's configuration and the plain struct that it fills.
 * relay_config.c makes of it what lanes, bridge and daemon take; `outboxctl`, --dump, --help-config
 * and the reference in docs/ read the table itself.
 */
#ifndef DAEMON_RELAY_KEYS_H
#define DAEMON_RELAY_KEYS_H

#include "base/config.h"

struct keys_relay {
    const char *name;
    unsigned log_level;  /* enum log_level */
    unsigned log_format; /* enum log_format */
    const char *http_address;
    uint32_t http_port;
    struct cfg_list http_hosts;
    uint32_t http_connections;
    const char *http_tls_cert_file;
    const char *http_tls_key_file;
    const char *doorbell_socket;
    const char *doorbell_address;
    const char *advertise_address;
    uint32_t drain;
    const char *alert_url;
    uint32_t alert_interval;
};

struct keys_broker {
    const char *addresses;
    const char *vhost;
    const char *user;
    const char *password;
    const char *exchange;
    unsigned topology; /* enum topology_policy */
    bool tls;
    bool tls_verify;
    const char *tls_ca_file;
    const char *tls_cert_file;
    const char *tls_key_file;
    uint32_t connect_timeout;
    uint32_t rpc_timeout;
    uint32_t heartbeat;
    uint32_t reconnect_min;
    uint32_t reconnect_max;
};

/* In [lane] for all sources, in [source NAME] for one; there 0 means "as in [lane]". */
struct keys_lane {
    uint32_t window;
    uint32_t key_window;
    uint32_t batch_rows;
    uint64_t inline_size;
    uint64_t max_body;
    uint32_t settle_rows;
    uint32_t settle_age;
    uint32_t poll_min;
    uint32_t poll_max;
    uint32_t sweep;
    uint32_t lease;
    uint32_t max_attempts;
    uint32_t retry_min;
    uint32_t retry_max;
    uint32_t confirm_timeout;
    uint32_t receipt_timeout;
    uint32_t receipt_retry_max;
    uint32_t max_sends;
    uint32_t delayed_poll;
};

struct keys_source {
    const char *name;
    const char *host;
    uint32_t port;
    const char *socket;
    const char *user;
    const char *password;
    const char *database;
    struct cfg_list outboxes;
    unsigned tls; /* enum db_tls */
    const char *tls_ca_file;
    const char *tls_cert_file;
    const char *tls_key_file;
    uint32_t connect_timeout;
    uint32_t read_timeout;
    uint32_t write_timeout;
    uint32_t lock_wait;
    const char *receipt_queue;
    uint32_t receipt_retention;
    bool journal;
    uint32_t journal_retention;
    struct keys_lane lane;
};

struct keys_topic {
    const char *name; /* the pattern */
    const char *exchange;
    const char *routing_key;
    unsigned on_park; /* enum park_policy */
    uint32_t max_attempts;
};

struct keys_exchange {
    const char *name;
    unsigned type; /* index in keys_exchange_types */
};

struct keys_queue {
    const char *name;
    unsigned type; /* index in keys_queue_types */
    struct cfg_list bind;
    bool single_active_consumer;
    struct cfg_list arguments;
};

/** The half-message role; off while source is empty. */
struct keys_half {
    const char *source;
    const char *outbox;
    const char *http_address;
    uint32_t http_port;
    struct cfg_list http_hosts;
    uint32_t http_connections;
    uint32_t http_per_address;
    const char *http_tls_cert_file;
    const char *http_tls_key_file;
    const char *token;
    const char *previous_token;
    bool open_lookup;
    uint64_t max_body;
    uint64_t body_memory;
    uint32_t workers;
    uint32_t queue;
    uint32_t batch;
    bool check_back;
    uint32_t first_check;
    uint32_t retry_min;
    uint32_t retry_max;
    uint32_t max_answers;
    uint32_t max_in_progress;
    uint32_t breaker_failures;
    uint32_t breaker_min;
    uint32_t breaker_max;
    uint32_t lease;
    uint32_t retention;
    uint32_t barrier_keep;
};

/** Whom check-back asks. */
struct keys_producer {
    const char *name;
    unsigned check; /* enum check_kind */
    const char *url;
    const char *token;
    uint32_t concurrency;
    uint32_t timeout;
    const char *host;
    uint32_t port;
    const char *socket;
    const char *user;
    const char *password;
    const char *database;
    unsigned tls; /* enum db_tls */
    const char *tls_ca_file;
};

/** What cfg_root gives for relay_schema. Texts are never NULL; an empty one means "not given". */
struct keys_root {
    struct keys_relay relay;
    struct keys_broker broker;
    struct keys_lane lane;
    struct keys_source *sources;
    size_t source_count;
    struct keys_topic *topics;
    size_t topic_count;
    struct keys_exchange *exchanges;
    size_t exchange_count;
    struct keys_queue *queues;
    size_t queue_count;
    struct keys_half half;
    struct keys_producer *producers;
    size_t producer_count;
};

extern const struct cfg_schema relay_schema;
/** The choices of their keys, ending with NULL; the index is what the field holds. */
extern const char *const keys_exchange_types[];
extern const char *const keys_queue_types[];

/** The tuning of one source: each of its own values that is not 0, else that of [lane]. */
struct keys_lane keys_lane_of(const struct keys_root *root, const struct keys_source *source);
/** The part of a bind item before its first colon and the rest. False when there is no colon or no
 * exchange. */
bool keys_split_bind(const char *item, struct obx_bytes *exchange, const char **routing_key);
/** The name and the value of an "x-name=value" item. False when either is missing. */
bool keys_split_argument(const char *item, struct obx_bytes *name, const char **value);
/** relay_schema.check: values that are right alone and wrong together. In relay_checks.c. */
void relay_keys_check(const void *root, struct cfg_report *report);

#endif
