/* The table of every key of inbox-relay. --dump, --help-config, --example and the reference in docs/
 * read the table itself. */
#ifndef NOTIFY_KEYS_H
#define NOTIFY_KEYS_H

#include "base/config.h"

enum {
    NOTIFY_QUEUES_MAX = 64,
    NOTIFY_ENDPOINTS_MAX = 256,
    NOTIFY_NAME_MAX = 64,
    NOTIFY_SCHEDULE_MAX = 32
};

/** Its root is a struct notify_config. */
extern const struct cfg_schema notify_schema;

/** notify_schema.finish: what follows from several keys. In notify_config.c. OBX_E_NOMEM. */
enum obx_code notify_config_finish(void *root, struct cfg *cfg);

/**
 * One item of a schedule: a number and ms, s, m, h or d. False when it is none, or more than 49
 * days.
 */
bool keys_parse_delay(const char *text, uint32_t *ms);

#endif
