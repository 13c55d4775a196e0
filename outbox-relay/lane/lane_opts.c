/*
 * The defaults and limits of a lane's options. See lane_opts.h.
 */
#include "lane_opts.h"

#include <string.h>

#include "publish/route.h"
#include "tables/lease.h"

enum {
    NAME_MAX_LEN = 64,
    DEFAULT_WINDOW = 2000,
    DEFAULT_BATCH_ROWS = 1000,
    DEFAULT_INLINE_BYTES = 16 * 1024,
    DEFAULT_BODY_BYTES = 16 * 1024 * 1024,
    DEFAULT_SETTLE_ROWS = 1000,
    DEFAULT_SETTLE_AGE_MS = 100,
    DEFAULT_POLL_MIN_MS = 2,
    DEFAULT_POLL_MAX_MS = 50,
    DEFAULT_SWEEP_MS = 1000,
    DEFAULT_LEASE_MS = 10000,
    DEFAULT_TRIES = 10,
    DEFAULT_RETRY_MIN_MS = 200,
    DEFAULT_RETRY_CAP_MS = 30000,
    DEFAULT_CONFIRM_MS = 30000,
    DEFAULT_DRAIN_MS = 10000,
    DEFAULT_RECEIPT_MS = 60 * 1000,
    DEFAULT_RECEIPT_CAP_MS = 3600 * 1000,
    DEFAULT_SENDS = 20,
    DEFAULT_DELAYED_MS = 500,
    DEFAULT_JOURNAL_MS = 7 * 24 * 3600 * 1000,
};

static void set_default(uint32_t *field, uint32_t value)
{
    if (*field == 0)
        *field = value;
}

void lane_opts_fill(struct lane_opts *opts)
{
    if (opts->exchange == NULL)
        opts->exchange = "rowpost";
    set_default(&opts->window, DEFAULT_WINDOW);
    set_default(&opts->key_window, 1);
    set_default(&opts->batch_rows, DEFAULT_BATCH_ROWS);
    set_default(&opts->inline_bytes, DEFAULT_INLINE_BYTES);
    set_default(&opts->max_body_bytes, DEFAULT_BODY_BYTES);
    set_default(&opts->settle_max_rows, DEFAULT_SETTLE_ROWS);
    set_default(&opts->settle_max_age_ms, DEFAULT_SETTLE_AGE_MS);
    set_default(&opts->poll_min_ms, DEFAULT_POLL_MIN_MS);
    set_default(&opts->poll_max_ms, DEFAULT_POLL_MAX_MS);
    set_default(&opts->sweep_ms, DEFAULT_SWEEP_MS);
    set_default(&opts->lease_ms, DEFAULT_LEASE_MS);
    set_default(&opts->max_attempts, DEFAULT_TRIES);
    set_default(&opts->retry_min_ms, DEFAULT_RETRY_MIN_MS);
    set_default(&opts->retry_cap_ms, DEFAULT_RETRY_CAP_MS);
    set_default(&opts->confirm_timeout_ms, DEFAULT_CONFIRM_MS);
    set_default(&opts->drain_ms, DEFAULT_DRAIN_MS);
    set_default(&opts->receipt_timeout_ms, DEFAULT_RECEIPT_MS);
    set_default(&opts->receipt_cap_ms, DEFAULT_RECEIPT_CAP_MS);
    set_default(&opts->max_sends, DEFAULT_SENDS);
    set_default(&opts->delayed_poll_ms, DEFAULT_DELAYED_MS);
    set_default(&opts->journal_retention_ms, DEFAULT_JOURNAL_MS);
    lease_limit_session(&opts->db, opts->lease_ms);
}

enum obx_code lane_opts_check(const struct lane_opts *opts, struct obx_err *err)
{
    size_t len = opts->outbox == NULL ? 0 : strlen(opts->outbox);

    if (opts->source == NULL || opts->owner == NULL || opts->owner[0] == '\0')
        return obx_fail(err, OBX_E_INVALID, "a lane needs source, outbox and owner");
    if (len == 0 || len > NAME_MAX_LEN)
        return obx_fail(err, OBX_E_CONFIG, "outbox name of %zu bytes (1 to 64 are allowed)", len);
    if (opts->rule_count >= ROUTE_DEFAULT)
        return obx_fail(err, OBX_E_CONFIG, "%zu topic rules", opts->rule_count);
    return OBX_OK;
}
