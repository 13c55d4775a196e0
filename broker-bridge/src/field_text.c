/*
 * Writes AMQP field values as JSON: tables as objects, arrays as arrays. What a header holds comes
 * from strangers, so the depth is bounded, text is escaped, and bytes that are not UTF-8 become
 * U+FFFD. Called by delivery.c.
 */
#include "field_text.h"

#include <inttypes.h>
#include <math.h>

#include "base/utf8.h"

enum { DEPTH_MAX = 32, DECIMAL = 10, DOUBLE_DIGITS = 17 };

static enum obx_code write_value(struct obx_buf *buf, const amqp_field_value_t *value, int depth);

double field_decimal(amqp_decimal_t decimal)
{
    double scale = 1;

    for (int i = 0; i < decimal.decimals; i++)
        scale *= DECIMAL;
    return (double)(int32_t)decimal.value / scale;
}

static enum obx_code write_char(struct obx_buf *buf, unsigned char c)
{
    switch (c) {
    case '"':
        return buf_add_text(buf, "\\\"");
    case '\\':
        return buf_add_text(buf, "\\\\");
    case '\n':
        return buf_add_text(buf, "\\n");
    case '\t':
        return buf_add_text(buf, "\\t");
    default:
        return c < ' ' ? buf_addf(buf, "\\u%04x", c) : buf_add(buf, &c, 1);
    }
}

static enum obx_code write_text(struct obx_buf *buf, amqp_bytes_t text)
{
    const unsigned char *p = text.bytes;
    enum obx_code rc = buf_add_text(buf, "\"");

    for (size_t i = 0; rc == OBX_OK && i < text.len;) {
        uint32_t cp;
        const size_t len = utf8_next((struct obx_bytes){.p = p + i, .len = text.len - i}, &cp);

        if (len == 1)
            rc = write_char(buf, p[i]);
        else if (len > 1)
            rc = buf_add(buf, p + i, len);
        else
            rc = buf_add_text(buf, "\\ufffd");
        i += len > 0 ? len : 1;
    }
    return rc == OBX_OK ? buf_add_text(buf, "\"") : rc;
}

/* JSON has no infinity and no NaN. */
static enum obx_code write_double(struct obx_buf *buf, double value)
{
    if (!isfinite(value))
        return buf_add_text(buf, "null");
    return buf_addf(buf, "%.*g", DOUBLE_DIGITS, value);
}

/* Tables and arrays call write_value for what they hold, at most DEPTH_MAX deep.
 * NOLINTBEGIN(misc-no-recursion) */
static enum obx_code write_table(struct obx_buf *buf, const amqp_table_t *table, int depth)
{
    enum obx_code rc = buf_add_text(buf, "{");

    for (int i = 0; rc == OBX_OK && i < table->num_entries; i++) {
        if (i > 0)
            rc = buf_add_text(buf, ",");
        if (rc == OBX_OK)
            rc = write_text(buf, table->entries[i].key);
        if (rc == OBX_OK)
            rc = buf_add_text(buf, ":");
        if (rc == OBX_OK)
            rc = write_value(buf, &table->entries[i].value, depth + 1);
    }
    return rc == OBX_OK ? buf_add_text(buf, "}") : rc;
}

static enum obx_code write_array(struct obx_buf *buf, const amqp_array_t *array, int depth)
{
    enum obx_code rc = buf_add_text(buf, "[");

    for (int i = 0; rc == OBX_OK && i < array->num_entries; i++) {
        if (i > 0)
            rc = buf_add_text(buf, ",");
        if (rc == OBX_OK)
            rc = write_value(buf, &array->entries[i], depth + 1);
    }
    return rc == OBX_OK ? buf_add_text(buf, "]") : rc;
}

static enum obx_code write_value(struct obx_buf *buf, const amqp_field_value_t *value, int depth)
{
    if (depth > DEPTH_MAX)
        return buf_add_text(buf, "null");
    switch (value->kind) {
    case AMQP_FIELD_KIND_BOOLEAN:
        return buf_add_text(buf, value->value.boolean ? "true" : "false");
    case AMQP_FIELD_KIND_I8:
        return buf_addf(buf, "%d", value->value.i8);
    case AMQP_FIELD_KIND_U8:
        return buf_addf(buf, "%u", (unsigned)value->value.u8);
    case AMQP_FIELD_KIND_I16:
        return buf_addf(buf, "%d", value->value.i16);
    case AMQP_FIELD_KIND_U16:
        return buf_addf(buf, "%u", (unsigned)value->value.u16);
    case AMQP_FIELD_KIND_I32:
        return buf_addf(buf, "%" PRId32, value->value.i32);
    case AMQP_FIELD_KIND_U32:
        return buf_addf(buf, "%" PRIu32, value->value.u32);
    case AMQP_FIELD_KIND_I64:
        return buf_addf(buf, "%" PRId64, value->value.i64);
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_TIMESTAMP:
        return buf_addf(buf, "%" PRIu64, value->value.u64);
    case AMQP_FIELD_KIND_F32:
        return write_double(buf, (double)value->value.f32);
    case AMQP_FIELD_KIND_F64:
        return write_double(buf, value->value.f64);
    case AMQP_FIELD_KIND_DECIMAL:
        return write_double(buf, field_decimal(value->value.decimal));
    case AMQP_FIELD_KIND_UTF8:
    case AMQP_FIELD_KIND_BYTES:
        return write_text(buf, value->value.bytes);
    case AMQP_FIELD_KIND_TABLE:
        return write_table(buf, &value->value.table, depth);
    case AMQP_FIELD_KIND_ARRAY:
        return write_array(buf, &value->value.array, depth);
    default:
        return buf_add_text(buf, "null");
    }
}
/* NOLINTEND(misc-no-recursion) */

enum obx_code field_text(struct obx_buf *buf, const amqp_field_value_t *value)
{
    return write_value(buf, value, 0);
}
