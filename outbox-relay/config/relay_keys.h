/*
 * The table of every key of the relay's configuration, and what the files of this folder share.
 * --dump, --help-config, --example and the reference in docs/ read the table itself.
 */
#ifndef RELAY_KEYS_H
#define RELAY_KEYS_H

#include "base/config.h"
#include "relay_config.h"

/** Its root is a struct relay_config. */
extern const struct cfg_schema relay_schema;
/** The choices of their keys, ending with NULL; the index is what the field holds. */
extern const char *const keys_exchange_types[];
extern const char *const keys_queue_types[];

/** The part of a bind item before its first colon and the rest. False when there is no colon or no
 * exchange. */
bool keys_split_bind(const char *item, struct obx_bytes *exchange, const char **routing_key);
/** The name and the value of an "x-name=value" item. False when either is missing. */
bool keys_split_argument(const char *item, struct obx_bytes *name, const char **value);

/** relay_schema.check: values that are right alone and wrong together. In relay_checks.c. */
void relay_keys_check(const void *root, struct cfg_report *report);
/** relay_schema.finish: what follows from several keys. In relay_config.c. OBX_E_NOMEM. */
enum obx_code relay_config_finish(void *root, struct cfg *cfg);
/** Fill config->topology. In relay_topology.c. OBX_E_NOMEM. */
enum obx_code relay_topology_build(struct relay_config *config);

#endif
