/*
 * Sharing the lanes of each source with other relays: one fleet for each source of the newest
 * configuration, if it says so. Belongs to the main thread; nothing here waits but the end.
 */
#ifndef DAEMON_FLEET_ROLE_H
#define DAEMON_FLEET_ROLE_H

#include "config/relay_config.h"
#include "fleet/fleet.h"
#include "relay_view.h"

struct fleet_role;

/** Nothing is shared yet. owner: borrowed, outlives it. On failure *out is NULL. OBX_E_NOMEM, OBX_E_SYSTEM. */
OBX_NODISCARD enum obx_code fleet_role_create(const char *owner, struct fleet_role **out,
                                              struct obx_err *err);
/** Waits for the fleets that have not ended. NULL is fine. */
void fleet_role_destroy(struct fleet_role *role);
/** Work for this configuration from now on; with fleet_role_turn it comes true. NULL: leave. */
void fleet_role_apply(struct fleet_role *role, struct relay_config *config);
/** Start and end what is due. */
void fleet_role_turn(struct fleet_role *role);
/** Whether no thread is left. */
bool fleet_role_is_idle(const struct fleet_role *role);
/** Readable when an answer of fleet_role_is_elsewhere may have changed, until fleet_role_take_news. */
int fleet_role_fd(const struct fleet_role *role);
void fleet_role_take_news(struct fleet_role *role);
/** A relay_elsewhere of relay.h; ctx is the role. */
bool fleet_role_is_elsewhere(const char *source, const char *outbox,
                             char address[FLEET_ADDRESS_MAX], void *ctx);
/** One for each source that is shared; good until the next turn. */
const struct source_fleet *fleet_role_views(struct fleet_role *role, size_t *count);

#endif
