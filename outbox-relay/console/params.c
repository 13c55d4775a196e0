/*
 * Called by console.c, on the thread of the event loop: nothing here is longer than a request may be.
 */
#include "params.h"

#include <string.h>

#include "base/alloc.h"
#include "service/http.h"

static bool add(struct params *params, const char *name, const char *value)
{
    if (params->count == params->room) {
        const size_t room = params->room == 0 ? 16 : params->room * 2;
        struct param *items = obx_realloc(params->items, room * sizeof(*items));

        if (items == NULL)
            return false;
        params->items = items;
        params->room = room;
    }
    params->items[params->count] =
        (struct param){.name = obx_strdup(name), .value = obx_strdup(value)};
    params->count++;
    return params->items[params->count - 1].name != NULL &&
           params->items[params->count - 1].value != NULL;
}

/* A form writes a blank as '+', and a '+' as %2B. */
static bool decode(struct obx_bytes text, char *dst, size_t size)
{
    char copy[3 * PARAM_VALUE_MAX];

    if (text.len >= sizeof(copy))
        return false;
    for (size_t i = 0; i < text.len; i++)
        copy[i] = ((const char *)text.p)[i] == '+' ? ' ' : ((const char *)text.p)[i];
    return http_decode((struct obx_bytes){.p = copy, .len = text.len}, dst, size);
}

bool params_parse(struct params *params, struct obx_bytes text)
{
    const char *p = text.p;
    char name[64], value[PARAM_VALUE_MAX];

    for (size_t at = 0; at < text.len;) {
        const char *end = memchr(p + at, '&', text.len - at);
        const size_t len = end == NULL ? text.len - at : (size_t)(end - (p + at));
        const char *equals = memchr(p + at, '=', len);
        const size_t name_len = equals == NULL ? len : (size_t)(equals - (p + at));
        const size_t from = at + name_len + (equals == NULL ? 0 : 1);

        if (params->count == PARAMS_MAX ||
            !decode((struct obx_bytes){.p = p + at, .len = name_len}, name, sizeof(name)) ||
            !decode((struct obx_bytes){.p = p + from, .len = at + len - from}, value,
                    sizeof(value)))
            return false;
        if (len > 0 && !add(params, name, value))
            return false;
        at += len + 1;
    }
    return true;
}

void params_fini(struct params *params)
{
    for (size_t i = 0; i < params->count; i++) {
        obx_free(params->items[i].name);
        obx_free(params->items[i].value);
    }
    obx_free(params->items);
    memset(params, 0, sizeof(*params));
}

const char *params_get(const struct params *params, const char *name)
{
    for (size_t i = 0; i < params->count; i++)
        if (strcmp(params->items[i].name, name) == 0)
            return params->items[i].value[0] == '\0' ? NULL : params->items[i].value;
    return NULL;
}
