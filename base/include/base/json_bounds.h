/*
 * Bounds on JSON from outside, looked at before it is parsed: a parser makes hundreds of bytes of
 * an empty object, so a bound on the text alone bounds nothing. One pass over the bytes, no memory.
 *
 * It does not say whether the text is JSON; the parser does. Of what passes, the parser's tree has
 * at most `values` values and names, so that its memory is some 300 bytes for each of them and the
 * text itself. Pure. Proved by tests/unit/json_bounds_test.c.
 */
#ifndef BASE_JSON_BOUNDS_H
#define BASE_JSON_BOUNDS_H

#include <stddef.h>

#include "obx/bytes.h"
#include "obx/err.h"

struct json_bounds {
    size_t bytes;  /* of the text */
    size_t depth;  /* arrays and objects within each other */
    size_t values; /* values and the names of members, together */
};

/** OBX_OK; OBX_E_TOO_LARGE, with the bound that is passed in err. Any thread. */
OBX_NODISCARD enum obx_code
json_bounds_check(struct obx_bytes text, const struct json_bounds *bounds, struct obx_err *err);

#endif
