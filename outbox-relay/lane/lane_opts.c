/*
 * The defaults, and the limits, of a lane's options. See lane_opts.h.
 */
#include "lane_opts.h"

#include <string.h>

#include "publish/route.h"
#include "tables/lease.h"

enum { NAME_MAX_LEN = 64 };

void lane_opts_fill(struct lane_opts *opts)
{
    if (opts->exchange == NULL)
        opts->exchange = "rowpost";
#define SET_DEFAULT(field, number)                                                                 \
    if (opts->field == 0)                                                                          \
        opts->field = number;
    LANE_DEFAULTS(SET_DEFAULT)
#undef SET_DEFAULT
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
