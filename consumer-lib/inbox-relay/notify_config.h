/*
 * The configuration of inbox-relay, typed and immutable once loaded. Several threads work with
 * it, and a reload puts another one in its place while calls made from the old one are in flight:
 * so it is counted by reference, and struct config_box holds the one in force.
 */
#ifndef NOTIFY_CONFIG_H
#define NOTIFY_CONFIG_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "bridge/bridge.h"
#include "inbox/inbox.h"
#include "notify_keys.h"
#include "obx/consumer.h"
#include "service/http.h"
#include "sign.h"
#include "sql/db.h"

/** One [endpoint NAME]. Texts belong to the configuration. */
struct endpoint_config {
    const char *name;
    const char *url;
    struct cfg_list topics;
    bool sign;
    const char *secrets;       /* as they were given */
    struct sign_keys keys;     /* of them; none: calls are not signed */
    const char *authorization; /* NULL: none */
    struct cfg_list schedule;  /* as it was given */
    uint32_t schedule_ms[NOTIFY_SCHEDULE_MAX];
    size_t schedule_count;
    uint64_t schedule_sum_ms;
    uint32_t connect_timeout_ms, timeout_ms;
    size_t max_response;
    uint32_t concurrency;
    uint32_t breaker_failures, breaker_min_ms, breaker_max_ms;
    uint32_t retry_after_max_ms;
    bool tls_verify;
    const char *tls_ca_file; /* NULL: the system's */
};

/** One [queue NAME]. */
struct queue_config {
    const char *name;
    unsigned to; /* QUEUE_TO_INBOX or _HTTP */
    const char *exchange;
    struct cfg_list topics;
    struct cfg_list wake;
    unsigned on_dead; /* 0: freeze */
    /* Without the servers, which finish adds. Of to = http only the consumer's group, queue and
     * prefetch count. */
    struct inbox_opts inbox;
};
enum { QUEUE_TO_INBOX, QUEUE_TO_HTTP };

/** Filled by the table of notify_keys.c, but for what finish adds: the consumer's options from those
 * of broker and database, and its bindings. */
struct notify_config {
    struct cfg *cfg; /* owns all of this */
    atomic_uint refs;
    const char *name; /* NULL: the host's name */
    const char *group;
    enum log_level log_level;
    enum log_format log_format;
    struct http_opts http; /* port 0: no HTTP */
    uint32_t drain_ms, lease_ms;
    uint32_t max_calls;
    uint64_t max_memory;
    uint32_t keep_delivered_ms; /* 0: delete at once */
    uint32_t keep_given_up_ms;  /* 0: for ever */
    unsigned topology;          /* 0: declare */
    bool declares;              /* topology = declare */
    struct db_opts db;
    struct bridge_opts broker; /* for --check */
    const char *exchange;
    struct obx_consumer_opts consumer;
    struct obx_binding *bindings;
    struct endpoint_config *endpoints;
    size_t endpoint_count;
    struct queue_config *queues;
    size_t queue_count;
};

/**
 * Load and check a configuration; problems as for cfg_load. On success *out has one reference, the
 * caller's. OBX_E_CONFIG, OBX_E_NOMEM.
 */
OBX_NODISCARD enum obx_code notify_config_load(const struct cfg_input *input,
                                               struct notify_config **out, struct obx_buf *problems,
                                               struct obx_err *err);
struct notify_config *notify_config_ref(struct notify_config *config);
/** Give a reference back; the last one frees all of it. NULL is fine. Any thread. */
void notify_config_unref(struct notify_config *config);
/** NULL when there is no such endpoint. */
const struct endpoint_config *notify_config_endpoint(const struct notify_config *config,
                                                     const char *name);
/** Whether a running process can take `after` in the place of `before`; else err says what stands
 * in the way. */
bool notify_config_can_follow(const struct notify_config *before, const struct notify_config *after,
                              struct obx_err *err);

/** The configuration in force. Any thread. */
struct config_box {
    pthread_mutex_t lock;
    struct notify_config *config;
};
/** Takes the caller's reference. */
void config_box_init(struct config_box *box, struct notify_config *config);
void config_box_fini(struct config_box *box);
/** A reference for the caller. */
struct notify_config *config_box_get(struct config_box *box);
/** Put another one in; takes the caller's reference. */
void config_box_set(struct config_box *box, struct notify_config *config);

#endif
