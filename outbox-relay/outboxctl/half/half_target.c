#include "half_target.h"

#include <string.h>

#include "config/relay_keys.h"
#include "sql/schema.h"

static const struct keys_half *keys_of(const struct targets *targets)
{
    return targets->config == NULL
               ? NULL
               : &((const struct keys_root *)cfg_root(targets->config->cfg))->half;
}

/* The source that has the half-messages; without a [half] section, the only one there is. */
static const struct target *choose(const struct targets *targets, const struct keys_half *keys)
{
    for (size_t i = 0; keys != NULL && i < targets->count; i++)
        if (strcmp(targets->items[i].source, keys->source) == 0)
            return &targets->items[i];
    return targets_single(targets);
}

static enum ctl_exit connect(struct half_target *half)
{
    struct obx_err err = {0};

    half->db = target_connect(half->target);
    if (half->db == NULL)
        return CTL_FAILED;
    if (schema_check(half->db, SCHEMA_HALF, &err) == OBX_OK)
        return CTL_OK;
    target_complain(half->target, &err);
    return CTL_FAILED;
}

enum ctl_exit half_target_open(const struct ctl_args *args, struct half_target *out)
{
    enum ctl_exit status = targets_open(args, &out->targets);
    const struct keys_half *keys;

    out->db = NULL;
    if (status != CTL_OK)
        return status;
    keys = keys_of(&out->targets);
    out->target = choose(&out->targets, keys);
    out->outbox = args->text[CTL_OUTBOX] != NULL            ? args->text[CTL_OUTBOX]
                  : keys != NULL && keys->outbox[0] != '\0' ? keys->outbox
                                                            : "outbox";
    status = out->target == NULL ? CTL_USAGE : connect(out);
    if (status != CTL_OK)
        half_target_close(out);
    return status;
}

void half_target_close(struct half_target *half)
{
    db_close(half->db);
    targets_close(&half->targets);
}
