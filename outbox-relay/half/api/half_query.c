/* Parsing of a list's query. As strict as the bodies: an unknown or misspelt field is refused. */
#include "half_query.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "half/store/half_record.h"
#include "service/http.h"

enum { LIMIT_DEFAULT = 50, VALUE_MAX = 255, DECIMAL = 10 };

static enum obx_code refuse(struct half_refusal *refusal, const char *reason, const char *text)
{
    refusal->status = 400;
    refusal->reason = reason;
    (void)snprintf(refusal->text, sizeof(refusal->text), "%s", text);
    return OBX_E_FORMAT;
}

static enum obx_code set_field(struct half_list *list, const char *name, const char *value,
                               struct half_refusal *refusal)
{
    struct obx_bytes bytes = bytes_of(value);
    const size_t digits = strspn(value, "0123456789");

    if (strcmp(name, "limit") == 0) {
        list->limit = (uint32_t)strtoul(value, NULL, DECIMAL);
        if (digits == 0 || digits > 4 || value[digits] != '\0' || list->limit == 0 ||
            list->limit > HALF_LIST_MAX)
            return refuse(refusal, "invalid_value", "\"limit\" must be 1 to 500");
        return OBX_OK;
    }
    if (strcmp(name, "state") == 0) {
        list->has_state = half_state_parse(bytes, &list->state);
        return list->has_state ? OBX_OK
                               : refuse(refusal, "invalid_value",
                                        "\"state\" is prepared, committed, rolled_back or parked");
    }
    if (strcmp(name, "producer") == 0) {
        if (!half_producer_is_valid(bytes))
            return refuse(refusal, "invalid_value", "\"producer\" is not the name of a producer");
        memcpy(list->producer, value, bytes.len + 1);
        return OBX_OK;
    }
    if (strcmp(name, "after") == 0) {
        if (!half_gid_is_valid(bytes))
            return refuse(refusal, "invalid_value", "\"after\" is not a gid");
        memcpy(list->after, value, bytes.len + 1);
        return OBX_OK;
    }
    return refuse(refusal, "unknown_field", "known are state, producer, limit and after");
}

/* One "name=value" of len bytes. */
static enum obx_code take_field(struct half_list *list, const char *at, size_t len,
                                struct half_refusal *refusal)
{
    const char *equals = memchr(at, '=', len);
    size_t name_len = equals == NULL ? len : (size_t)(equals - at);
    char name[VALUE_MAX + 1], value[VALUE_MAX + 1] = "";

    if (!http_decode((struct obx_bytes){at, name_len}, name, sizeof(name)) ||
        (equals != NULL &&
         !http_decode((struct obx_bytes){equals + 1, len - name_len - 1}, value, sizeof(value))))
        return refuse(refusal, "invalid_value", "the query is not well encoded, or too long");
    return set_field(list, name, value, refusal);
}

enum obx_code half_query_parse(const char *query, struct half_list *out,
                               struct half_refusal *refusal)
{
    enum obx_code rc = OBX_OK;

    *out = (struct half_list){.limit = LIMIT_DEFAULT};
    while (rc == OBX_OK && query != NULL && *query != '\0') {
        size_t len = strcspn(query, "&");

        rc = len == 0 ? OBX_OK : take_field(out, query, len, refusal);
        query += len + (query[len] == '&' ? 1 : 0);
    }
    return rc;
}
