/* Bounds on JSON before it is parsed. See base/json_bounds.h. */
#include "base/json_bounds.h"

#include <stdbool.h>

#include "base/bytes.h"

struct count {
    size_t depth, deepest;
    size_t values;
    bool in_string;
    bool is_escaped; /* the byte before was a backslash within a string */
};

/* Whatever begins a value or follows one counts it: each value has a mark of its own, but the
 * outermost, which is counted at the start. */
static void count_mark(struct count *count, char c)
{
    if (c == '{' || c == '[') {
        count->values++;
        count->depth++;
        if (count->depth > count->deepest)
            count->deepest = count->depth;
    } else if (c == '}' || c == ']') {
        count->depth -= count->depth > 0 ? 1 : 0;
    } else if (c == ',' || c == ':') {
        count->values++;
    } else if (c == '"') {
        count->in_string = true;
    }
}

static void count_in_string(struct count *count, char c)
{
    if (count->is_escaped)
        count->is_escaped = false;
    else if (c == '\\')
        count->is_escaped = true;
    else if (c == '"')
        count->in_string = false;
}

enum obx_code json_bounds_check(struct obx_bytes text, const struct json_bounds *bounds,
                                struct obx_err *err)
{
    const char *p = text.p;
    struct count count = {.values = 1};

    if (text.len > bounds->bytes)
        return obx_fail(err, OBX_E_TOO_LARGE, "JSON of %zu bytes; %zu are allowed", text.len,
                        bounds->bytes);
    for (size_t i = 0; i < text.len; i++) {
        if (count.in_string)
            count_in_string(&count, p[i]);
        else
            count_mark(&count, p[i]);
        if (count.deepest > bounds->depth)
            return obx_fail(err, OBX_E_TOO_LARGE, "JSON deeper than %zu levels", bounds->depth);
        if (count.values > bounds->values)
            return obx_fail(err, OBX_E_TOO_LARGE, "JSON of more than %zu values", bounds->values);
    }
    return OBX_OK;
}
