/*
 * What follows from several keys, and the life of a loaded configuration. Called on the main
 * thread.
 */
#include "relay_config.h"

#include <string.h>

#include "address.h"
#include "relay_keys.h"

static void finish_db(struct db_opts *db)
{
    /* The client takes a socket for the server of a host that is NULL or localhost only. */
    if (db->unix_socket != NULL)
        db->host = NULL;
    db->program_name = "outbox-relay";
}

static void finish_source(const struct relay_config *config, struct source_config *source)
{
    struct lane_opts *lane = &source->lane;

    finish_db(&lane->db);
    /* What is given once for all; a lane gets one struct with everything it needs. */
    lane->source = source->name;
    lane->bridge = config->broker;
    lane->exchange = config->exchange;
    lane->partitions = relay_config_partitions(config, config->exchange);
    lane->rules = config->rules;
    lane->rule_count = config->rule_count;
    lane->drain_ms = config->drain_ms;
}

enum obx_code relay_config_finish(void *root, struct cfg *cfg)
{
    struct relay_config *config = root;
    struct address address;

    config->cfg = cfg;
    config->refs = 1;
    /* An address that listens on all is of no use to others; then nothing is advertised. */
    if (config->advertise_address == NULL && config->doorbell_address != NULL &&
        address_parse(config->doorbell_address, &address) && !address_is_any(&address))
        config->advertise_address = config->doorbell_address;
    for (size_t i = 0; i < config->rule_count; i++)
        config->rules[i].partitions = relay_config_partitions(config, config->rules[i].exchange);
    for (size_t i = 0; i < config->source_count; i++)
        finish_source(config, &config->sources[i]);
    for (size_t i = 0; i < config->producer_count; i++) {
        struct check_producer *producer = &config->producers[i];

        finish_db(&producer->db);
        producer->db.tls_ca_file = producer->ca_file; /* one key for both ways of asking */
        if (producer->token[0] == '\0') /* an empty one would be sent, and refused as wrong */
            producer->token = NULL;
    }
    return relay_topology_build(config);
}

enum obx_code relay_config_load(const struct cfg_input *input, struct relay_config **out,
                                struct obx_buf *problems, struct obx_err *err)
{
    struct cfg *cfg = NULL;
    enum obx_code rc = cfg_load(&relay_schema, input, &cfg, problems, err);

    *out = rc == OBX_OK ? cfg_root(cfg) : NULL;
    return rc;
}

struct relay_config *relay_config_ref(struct relay_config *config)
{
    config->refs++;
    return config;
}

void relay_config_unref(struct relay_config *config)
{
    if (config != NULL && --config->refs == 0)
        cfg_destroy(config->cfg);
}

bool relay_config_is_same(const struct relay_config *a, const struct relay_config *b,
                          unsigned parts, const char *source)
{
    return cfg_same_part(a->cfg, b->cfg, parts, source == NULL ? NULL : "source", source);
}

const struct source_config *relay_config_source(const struct relay_config *config, const char *name)
{
    for (size_t i = 0; i < config->source_count; i++) {
        if (strcmp(config->sources[i].name, name) == 0)
            return &config->sources[i];
    }
    return NULL;
}

unsigned relay_config_partitions(const struct relay_config *config, const char *exchange)
{
    for (size_t i = 0; exchange != NULL && i < config->exchange_count; i++) {
        if (strcmp(config->exchanges[i].name, exchange) == 0)
            return config->exchanges[i].partitions;
    }
    return 0;
}

size_t relay_config_lane_count(const struct relay_config *config)
{
    size_t count = 0;

    for (size_t i = 0; i < config->source_count; i++)
        count += config->sources[i].outbox_count;
    return count;
}
