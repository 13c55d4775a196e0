/*
 * The steps of a reload and what is logged of each. Called by daemon.c.
 */
#include "reload.h"

#include <string.h>

#include "base/config.h"
#include "base/log.h"

/* One log event for each line of text. */
static void log_lines(enum log_level level, const char *event, const struct obx_buf *lines)
{
    const char *at = lines->len == 0 ? "" : lines->data;

    while (*at != '\0') {
        size_t len = strcspn(at, "\n");

        OBX_LOG(level, "reload", event, KV_BYTES("line", ((struct obx_bytes){at, len})));
        at += len + (at[len] == '\n');
    }
}

static void refuse(const struct reload *reload, const struct obx_buf *problems,
                   const struct obx_err *err)
{
    reload->counts->refused++;
    log_lines(LOG_LVL_ERROR, "reload.problem", problems);
    OBX_LOG(LOG_LVL_ERROR, "reload", "reload.refused", KV_ERR(err),
            KV_STR("in_force", "the configuration from before"));
}

/* What changed, for the log; and whether all of it is in force now. */
static void report(const struct reload *reload, const struct relay_config *after)
{
    struct cfg_changes changes = {0};

    if (cfg_compare((*reload->config)->cfg, after->cfg, &changes) != OBX_OK) {
        OBX_LOG(LOG_LVL_WARN, "reload", "reload.not_compared", KV_STR("why", "out of memory"));
        return;
    }
    log_lines(LOG_LVL_INFO, "reload.change", &changes.lines);
    if (changes.fixed_count > 0) {
        reload->counts->restart_needed = true;
        OBX_LOG(LOG_LVL_WARN, "reload", "reload.restart_needed",
                KV_U64("keys", changes.fixed_count));
    }
    if ((*reload->config)->half.source[0] != '\0' &&
        !relay_config_is_same(*reload->config, after, RESTARTS_DATABASE,
                              (*reload->config)->half.source)) {
        /* Lanes log in with the new values; the half-messages of the source are not remade. */
        reload->counts->restart_needed = true;
        OBX_LOG(LOG_LVL_WARN, "reload", "reload.restart_needed",
                KV_STR("why", "half-messages keep the database of their source until a restart"));
    }
    OBX_LOG(LOG_LVL_INFO, "reload", "reload.taken", KV_U64("changes", changes.count),
            KV_U64("restart_needed", changes.fixed_count));
    buf_fini(&changes.lines);
}

static enum obx_code take(const struct reload *reload, struct relay_config *after,
                          struct obx_err *err)
{
    struct relay_config *before = *reload->config;
    enum obx_code rc;

    rc = relay_apply(reload->relay, after, err);
    if (rc != OBX_OK)
        return rc;
    if (!relay_config_is_same(before, after, RESTARTS_TOPOLOGY, NULL))
        relay_set_gate(reload->relay, after->topology_policy == TOPOLOGY_POLICY_NONE);
    report(reload, after);
    topology_task_set(reload->topology, after);
    /* Even when nothing about it has changed: a queue that somebody deleted is made again. */
    topology_task_repeat(reload->topology);
    log_set_level(after->log_level);
    *reload->config = after;
    relay_config_unref(before);
    return OBX_OK;
}

void reload_run(const struct reload *reload)
{
    const struct cfg_input input = {.path = reload->path, .env = reload->env};
    struct relay_config *after = NULL;
    struct obx_buf problems = {0};
    struct obx_err err = {0};
    enum obx_code rc = relay_config_load(&input, &after, &problems, &err);

    if (rc == OBX_OK)
        rc = take(reload, after, &err);
    if (rc == OBX_OK) {
        reload->counts->taken++;
    } else {
        relay_config_unref(after);
        refuse(reload, &problems, &err);
    }
    buf_fini(&problems);
}
