/*
 * What keeps a lane from working at full. See conditions.h.
 */
#include "conditions.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

void conditions_set(struct lane_conditions *conditions, enum lane_condition kind, const char *text)
{
    char *slot = conditions->text[kind];

    if (text == NULL) {
        slot[0] = '\0';
        return;
    }
    if (strcmp(slot, text) != 0)
        OBX_LOG(LOG_LVL_WARN, "lane", "condition", KV_STR("source", conditions->source),
                KV_STR("outbox", conditions->outbox), KV_STR("text", text));
    (void)snprintf(slot, OBX_ERR_TEXT_MAX, "%s", text);
}

void conditions_reset(struct lane_conditions *conditions)
{
    for (int i = CONDITION_DB + 1; i < CONDITIONS; i++)
        conditions_set(conditions, (enum lane_condition)i, NULL);
}

const char *conditions_first(const struct lane_conditions *conditions)
{
    for (int i = 0; i < CONDITIONS; i++) {
        if (conditions->text[i][0] != '\0')
            return conditions->text[i];
    }
    return NULL;
}
