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

static void write_value(struct obx_buf *buf, const amqp_field_value_t *value, int depth);

double field_decimal(amqp_decimal_t decimal)
{
    double scale = 1;

    for (int i = 0; i < decimal.decimals; i++)
        scale *= DECIMAL;
    return (double)(int32_t)decimal.value / scale;
}

static void write_text(struct obx_buf *buf, amqp_bytes_t text)
{
    const unsigned char *p = text.bytes;

    buf_add_text(buf, "\"");
    for (size_t i = 0; i < text.len && buf->rc == OBX_OK;) {
        uint32_t cp;
        const size_t len = utf8_next((struct obx_bytes){.p = p + i, .len = text.len - i}, &cp);

        if (len == 0)
            buf_add_text(buf, "\\ufffd");
        else if (p[i] == '"' || p[i] == '\\')
            buf_addf(buf, "\\%c", p[i]);
        else if (p[i] == '\n' || p[i] == '\t')
            buf_add_text(buf, p[i] == '\n' ? "\\n" : "\\t");
        else if (p[i] < ' ')
            buf_addf(buf, "\\u%04x", p[i]);
        else
            buf_add(buf, p + i, len);
        i += len > 0 ? len : 1;
    }
    buf_add_text(buf, "\"");
}

/* JSON has no infinity and no NaN. */
static void write_double(struct obx_buf *buf, double value)
{
    if (isfinite(value))
        buf_addf(buf, "%.*g", DOUBLE_DIGITS, value);
    else
        buf_add_text(buf, "null");
}

/* Tables and arrays call write_value for what they hold, at most DEPTH_MAX deep.
 * NOLINTBEGIN(misc-no-recursion) */
static void write_table(struct obx_buf *buf, const amqp_table_t *table, int depth)
{
    buf_add_text(buf, "{");
    for (int i = 0; i < table->num_entries; i++) {
        buf_add_text(buf, i > 0 ? "," : "");
        write_text(buf, table->entries[i].key);
        buf_add_text(buf, ":");
        write_value(buf, &table->entries[i].value, depth + 1);
    }
    buf_add_text(buf, "}");
}

static void write_array(struct obx_buf *buf, const amqp_array_t *array, int depth)
{
    buf_add_text(buf, "[");
    for (int i = 0; i < array->num_entries; i++) {
        buf_add_text(buf, i > 0 ? "," : "");
        write_value(buf, &array->entries[i], depth + 1);
    }
    buf_add_text(buf, "]");
}

static void write_value(struct obx_buf *buf, const amqp_field_value_t *value, int depth)
{
    if (depth > DEPTH_MAX) {
        buf_add_text(buf, "null");
        return;
    }
    switch (value->kind) {
    case AMQP_FIELD_KIND_BOOLEAN:
        buf_add_text(buf, value->value.boolean ? "true" : "false");
        break;
    case AMQP_FIELD_KIND_I8:
        buf_addf(buf, "%d", value->value.i8);
        break;
    case AMQP_FIELD_KIND_U8:
        buf_addf(buf, "%u", (unsigned)value->value.u8);
        break;
    case AMQP_FIELD_KIND_I16:
        buf_addf(buf, "%d", value->value.i16);
        break;
    case AMQP_FIELD_KIND_U16:
        buf_addf(buf, "%u", (unsigned)value->value.u16);
        break;
    case AMQP_FIELD_KIND_I32:
        buf_addf(buf, "%" PRId32, value->value.i32);
        break;
    case AMQP_FIELD_KIND_U32:
        buf_addf(buf, "%" PRIu32, value->value.u32);
        break;
    case AMQP_FIELD_KIND_I64:
        buf_addf(buf, "%" PRId64, value->value.i64);
        break;
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_TIMESTAMP:
        buf_addf(buf, "%" PRIu64, value->value.u64);
        break;
    case AMQP_FIELD_KIND_F32:
        write_double(buf, (double)value->value.f32);
        break;
    case AMQP_FIELD_KIND_F64:
        write_double(buf, value->value.f64);
        break;
    case AMQP_FIELD_KIND_DECIMAL:
        write_double(buf, field_decimal(value->value.decimal));
        break;
    case AMQP_FIELD_KIND_UTF8:
    case AMQP_FIELD_KIND_BYTES:
        write_text(buf, value->value.bytes);
        break;
    case AMQP_FIELD_KIND_TABLE:
        write_table(buf, &value->value.table, depth);
        break;
    case AMQP_FIELD_KIND_ARRAY:
        write_array(buf, &value->value.array, depth);
        break;
    default:
        buf_add_text(buf, "null");
        break;
    }
}
/* NOLINTEND(misc-no-recursion) */

enum obx_code field_text(struct obx_buf *buf, const amqp_field_value_t *value)
{
    write_value(buf, value, 0);
    return buf->rc;
}
