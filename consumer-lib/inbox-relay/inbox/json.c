/*
 * Numbers keep their value: integers digit for digit, doubles as they are read back. JSON has no infinities
 * and no NaN; they become null.
 */
#include "json.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

enum { DOUBLE_TEXT = 40 };

/* The shortest form that is read back as the same number: 0.1 and not 0.10000000000000001, which a
 * service that compares texts, or shows them, would take for an altered value. */
static void add_double(struct obx_buf *out, double number)
{
    char text[DOUBLE_TEXT];

    for (int digits = DBL_DIG; digits <= DBL_DECIMAL_DIG; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            break;
    }
    buf_add_text(out, text);
}

static void add_value(struct obx_buf *out, const struct obx_header *header)
{
    switch (header->type) {
    case OBX_H_TEXT:
        json_add_string(out, header->v.text);
        break;
    case OBX_H_I64:
        buf_addf(out, "%" PRId64, header->v.i64);
        break;
    case OBX_H_F64:
        if (isfinite(header->v.f64))
            add_double(out, header->v.f64);
        else
            buf_add_text(out, "null");
        break;
    case OBX_H_BOOL:
        buf_add_text(out, header->v.yes ? "true" : "false");
        break;
    case OBX_H_NULL:
        buf_add_text(out, "null");
        break;
    }
}

static bool is_of_receipt(struct obx_bytes name)
{
    static const char prefix[] = "x-obx-receipt-";

    return name.len >= sizeof(prefix) - 1 && memcmp(name.p, prefix, sizeof(prefix) - 1) == 0;
}

void json_add_headers(struct obx_buf *out, const struct obx_message *msg)
{
    const char *before = "{";

    for (size_t i = 0; i < msg->header_count; i++) {
        if (is_of_receipt(msg->headers[i].name))
            continue;
        buf_add_text(out, before);
        json_add_string(out, msg->headers[i].name);
        buf_add_text(out, ":");
        add_value(out, &msg->headers[i]);
        before = ",";
    }
    buf_add_text(out, before[0] == '{' ? "{}" : "}");
}
