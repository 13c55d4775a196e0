/*
 * The relay's configuration, typed and immutable once loaded. The table of relay_keys.c fills the
 * option structs that lanes, bridge and the roles take; what follows from several keys is added
 * when all are there (relay_config.c).
 *
 * Lanes borrow its texts for as long as they live, and a reload can leave lanes of an older
 * configuration running: so it is counted by reference. All references belong to the main thread.
 */
#ifndef RELAY_CONFIG_H
#define RELAY_CONFIG_H

#include "base/bytes.h"
#include "base/config.h"
#include "base/log.h"
#include "bridge/topology.h"
#include "half/api/half_http.h"
#include "half/checkback/checkback.h"
#include "lane/lane.h"
#include "service/http.h"

/** What a change of a key restarts, beside CFG_PROCESS: bits of cfg_key.restarts. */
enum {
    RESTARTS_LANE = 2,     /* the lanes of its source, or of all */
    RESTARTS_RECEIPTS = 4, /* the reader of its source's receipts; a lane's keys do as well */
    RESTARTS_TOPOLOGY = 8, /* exchanges, queues and bindings are declared or verified again */
    RESTARTS_DATABASE = 16 /* who logs in to a source's database, and where it is */
};

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

/** One [exchange NAME] and one [queue NAME], as they were given; topology has what comes of them. */
struct exchange_config {
    const char *name;
    unsigned type;
    unsigned partitions; /* 0: none */
};
struct queue_config {
    const char *name;
    unsigned type;
    struct cfg_list bind;
    bool single_active_consumer;
    unsigned partitions; /* above 0: so many queues, NAME.0 and on; 0: one, NAME */
    struct cfg_list arguments;
};

/** [half]: the role is off while source is empty. What is not a key is for its maker to fill in. */
struct half_config {
    const char *source;
    const char *token, *previous_token; /* "" none */
    bool check_back;
    struct half_store_opts store; /* with the name of the outbox */
    struct half_http_opts api;    /* port 0: no API */
    struct checkback_opts check;
};

/** One [consumer NAME]: where what it has applied can be looked up. */
struct consumer_config {
    const char *name;
    struct db_opts db;
};

/** [console]: off while http.port is 0. */
struct console_config {
    struct http_opts http;
    const char *prefix;                                      /* of every path; "" none */
    const char *reader_token, *operator_token, *admin_token; /* "" none */
    const char *const *proxy_peers;                          /* addresses */
    size_t proxy_peer_count;
    const char *proxy_user_header, *proxy_role_header;
    unsigned payloads; /* the least role that may see them: 0 reader, 1 operator, 2 admin */
    uint32_t threads, deadline_ms;
};

struct relay_config {
    const char *name; /* of this relay, first part of its lease owner; NULL: the host's name */
    enum log_level log_level;
    enum log_format log_format;
    struct http_opts http;         /* port 0: no HTTP */
    const char *http_token;        /* "" none */
    const char *doorbell_socket;   /* NULL: none */
    const char *doorbell_address;  /* "host:port" for UDP; NULL: none */
    const char *advertise_address; /* what other relays are to ring; NULL: nothing */
    uint32_t drain_ms;
    bool share;            /* the lanes with other relays beside the same databases */
    uint32_t weight;       /* this one's part */
    const char *alert_url; /* NULL: none */
    uint32_t alert_interval_ms;

    struct bridge_opts broker;
    const char *exchange; /* of topics that have no rule for it */
    enum topology_policy topology_policy;
    struct lane_opts lane; /* the tuning of [lane] only */
    struct source_config *sources;
    size_t source_count;
    struct topic_rule *rules;
    size_t rule_count;
    struct exchange_config *exchanges;
    size_t exchange_count;
    struct queue_config *queues;
    size_t queue_count;
    struct half_config half;
    struct check_producer *producers;
    size_t producer_count;
    struct consumer_config *consumers;
    size_t consumer_count;
    struct console_config console;

    struct topology topology; /* with the exchanges that are only used, not described */
    struct cfg *cfg;          /* owns all of this */
    unsigned refs;
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
/** The partitions of an exchange; 0 where it has none, or no section. */
unsigned relay_config_partitions(const struct relay_config *config, const char *exchange);
/** How many lanes it describes. */
size_t relay_config_lane_count(const struct relay_config *config);
/** Whether a reload from a to b restarts nothing of `parts` (RESTARTS_ bits): everything that bears
 * on them is the same in effect. source: of [source] sections only this one counts; NULL: all. */
bool relay_config_is_same(const struct relay_config *a, const struct relay_config *b,
                          unsigned parts, const char *source);

#endif
