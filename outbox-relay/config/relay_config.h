/*
 * The relay's configuration, typed and immutable once loaded. relay_keys.c has the table of all
 * keys; this file's .c turns the loaded values into the structures that lanes, bridge and daemon
 * take.
 *
 * Lanes borrow its texts for as long as they live, and a reload can leave lanes of an older
 * configuration running: so it is counted by reference. All references belong to the main thread.
 */
#ifndef DAEMON_RELAY_CONFIG_H
#define DAEMON_RELAY_CONFIG_H

#include "base/bytes.h"
#include "base/log.h"
#include "bridge/topology.h"
#include "lane/lane.h"
#include "service/http.h"

struct cfg;
struct cfg_changes;
struct cfg_input;
struct keys_root;

enum topology_policy {
    TOPOLOGY_POLICY_DECLARE, /* make what is missing, refuse what differs (default) */
    TOPOLOGY_POLICY_VERIFY,  /* change nothing; exchanges and queues must be there */
    TOPOLOGY_POLICY_NONE     /* do not look */
};

/** One [source NAME]. */
struct source_config {
    const char *name;
    const char *const *outboxes;
    size_t outbox_count;
    /** What every lane of the source is made with; outbox, owner, address and gated are for the
     * maker to fill in. */
    struct lane_opts lane;
    uint32_t receipt_retention_ms;
};

struct relay_config {
    struct cfg *cfg; /* owns the texts below, but for those in texts */
    unsigned refs;
    char **texts; /* made here, cut out of longer ones */
    size_t text_count;

    const char *name; /* of this relay, first part of its lease owner; NULL: the host's name */
    enum log_level log_level;
    enum log_format log_format;
    struct http_opts http;         /* port 0: no HTTP */
    const char *doorbell_socket;   /* NULL: none */
    const char *doorbell_address;  /* "host:port" for UDP; NULL: none */
    const char *advertise_address; /* what other relays are told to ring; NULL: nothing */
    uint32_t drain_ms;
    const char *alert_url; /* NULL: none */
    uint32_t alert_interval_ms;

    struct bridge_opts broker;
    enum topology_policy topology_policy;
    struct topology topology; /* with the exchanges that are only used, not described */
    struct source_config *sources;
    size_t source_count;
    struct topic_rule *rules;
    size_t rule_count;
};

/**
 * Load and check a configuration; problems as for cfg_load. On success *out has one reference, the
 * caller's; on failure it is NULL and nothing has changed. OBX_E_CONFIG, OBX_E_NOMEM.
 */
OBX_NODISCARD enum obx_code relay_config_load(const struct cfg_input *input,
                                              struct relay_config **out, struct obx_buf *problems,
                                              struct obx_err *err);
struct relay_config *relay_config_ref(struct relay_config *config);
/** Give a reference back; the last one frees all of it. NULL is fine. */
void relay_config_unref(struct relay_config *config);
/** The source with this name, or NULL. */
const struct source_config *relay_config_source(const struct relay_config *config,
                                                const char *name);
struct check_producer;
struct keys_producer;
/** A producer as check-back wants it. Texts are borrowed from the configuration. */
void relay_config_producer(const struct keys_producer *keys, struct check_producer *out);
/** How many lanes it describes. */
size_t relay_config_lane_count(const struct relay_config *config);
/** Whether lanes made from either would behave alike, so that a reload need not restart them. */
bool source_config_same_lane(const struct source_config *a, const struct source_config *b);
/** Whether both describe the same broker, exchanges, queues and bindings. */
bool relay_config_same_topology(const struct relay_config *a, const struct relay_config *b);

#endif
