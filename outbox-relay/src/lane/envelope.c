/*
 * A row of the outbox as a message. See envelope.h.
 */
#include "envelope.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/utf8.h"
#include "receipt_key.h"

enum {
    NAME_MAX_BYTES = 255,
    TIME_SIZE = 40,
    DATE_SIZE = 20,
    HEADERS_MIN = 16,
    US_PER_S = 1000000,
    S_PER_DAY = 86400,
    S_PER_HOUR = 3600,
    S_PER_MINUTE = 60,
};

struct envelope {
    char *source;
    struct bridge_header *headers;
    size_t header_count, header_cap;
    json_t *json; /* the application's headers; keeps the texts that headers borrow */
    char **dumps; /* nested values as text */
    size_t dump_count, dump_cap;
    char time[TIME_SIZE];
    uint64_t date_s; /* the second that `date` shows */
    char date[DATE_SIZE + 1];
    const char *receipt_queue; /* borrowed; NULL: no receipts */
    const struct receipt_keys *receipt_keys;
    char token[RECEIPT_TOKEN_SIZE];
};

static const char prefix_own[] = "x-obx-";

/* Names that have a meaning to the broker or are set by us; anything else of an application's
 * passes. */
static const char *const reserved[] = {
    "cloudEvents_specversion",
    "cloudEvents_id",
    "cloudEvents_source",
    "cloudEvents_type",
    "cloudEvents_time",
    "cloudEvents_partitionkey",
    "CC",
    "BCC",
    "x-death",
};

enum obx_code envelope_create(const char *source, const char *outbox, struct envelope **out,
                              struct obx_err *err)
{
    struct envelope *envelope = obx_calloc(1, sizeof(*envelope));
    size_t size = strlen(source) + strlen(outbox) + sizeof("//");

    *out = NULL;
    if (envelope == NULL)
        return obx_fail(err, OBX_E_NOMEM, "envelope");
    envelope->date_s = UINT64_MAX;
    envelope->source = obx_malloc(size);
    if (envelope->source == NULL) {
        envelope_destroy(envelope);
        return obx_fail(err, OBX_E_NOMEM, "envelope");
    }
    (void)snprintf(envelope->source, size, "/%s/%s", source, outbox);
    *out = envelope;
    return OBX_OK;
}

void envelope_offer_receipts(struct envelope *envelope, const char *queue,
                             const struct receipt_keys *keys)
{
    envelope->receipt_queue = queue;
    envelope->receipt_keys = keys;
}

static void reset(struct envelope *envelope)
{
    for (size_t i = 0; i < envelope->dump_count; i++)
        free(envelope->dumps[i]); /* made by jansson */
    envelope->dump_count = 0;
    envelope->header_count = 0;
    json_decref(envelope->json);
    envelope->json = NULL;
}

void envelope_destroy(struct envelope *envelope)
{
    if (envelope == NULL)
        return;
    reset(envelope);
    obx_free(envelope->source);
    obx_free(envelope->headers);
    obx_free(envelope->dumps);
    obx_free(envelope);
}

/* ---- time ---- */

/* Civil date from days since 1970-01-01, by the era of 400 years that begins on 1 March. */
static void civil(uint64_t days, uint64_t *year, uint64_t *month, uint64_t *day)
{
    uint64_t z = days + 719468;
    uint64_t era = z / 146097;
    uint64_t doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint64_t mp = (5 * doy + 2) / 153;

    *day = doy - (153 * mp + 2) / 5 + 1;
    *month = mp < 10 ? mp + 3 : mp - 9;
    *year = yoe + era * 400 + (*month <= 2);
}

/* RFC 3339 in UTC with microseconds. The date part is kept, for most rows share their second. */
static struct obx_bytes format_time(struct envelope *envelope, uint64_t us)
{
    uint64_t s = us / US_PER_S;
    int len = 0;

    if (s != envelope->date_s) {
        uint64_t year = 0;
        uint64_t month = 0;
        uint64_t day = 0;
        unsigned in_day = (unsigned)(s % S_PER_DAY);

        civil(s / S_PER_DAY, &year, &month, &day);
        (void)snprintf(envelope->date, sizeof(envelope->date), "%04u-%02u-%02uT%02u:%02u:%02u",
                       (unsigned)(year % 10000), (unsigned)(month % 100), (unsigned)(day % 100),
                       in_day / S_PER_HOUR, in_day / S_PER_MINUTE % S_PER_MINUTE,
                       in_day % S_PER_MINUTE);
        envelope->date_s = s;
    }
    len = snprintf(envelope->time, sizeof(envelope->time), "%s.%06uZ", envelope->date,
                   (unsigned)(us % US_PER_S));
    return (struct obx_bytes){.p = envelope->time, .len = len < 0 ? 0 : (size_t)len};
}

/* ---- headers ---- */

static struct bridge_header *add_header(struct envelope *envelope, struct obx_bytes name,
                                        enum bridge_header_type type)
{
    struct bridge_header *header = NULL;

    if (envelope->header_count == envelope->header_cap) {
        size_t cap = envelope->header_cap == 0 ? HEADERS_MIN : envelope->header_cap * 2;
        struct bridge_header *headers = obx_realloc(envelope->headers, cap * sizeof(*headers));

        if (headers == NULL)
            return NULL;
        envelope->headers = headers;
        envelope->header_cap = cap;
    }
    header = &envelope->headers[envelope->header_count++];
    header->name = name;
    header->type = type;
    return header;
}

static enum obx_code add_text(struct envelope *envelope, const char *name, struct obx_bytes text)
{
    struct bridge_header *header = add_header(envelope, bytes_of(name), BRIDGE_H_TEXT);

    if (header == NULL)
        return OBX_E_NOMEM;
    header->v.text = text;
    return OBX_OK;
}

static enum obx_code add_own_headers(struct envelope *envelope, const struct outbox_row *row)
{
    struct bridge_header *header = NULL;
    enum obx_code rc = add_text(envelope, "cloudEvents_specversion", bytes_of("1.0"));

    if (rc == OBX_OK)
        rc = add_text(envelope, "cloudEvents_id", row->message_id);
    if (rc == OBX_OK)
        rc = add_text(envelope, "cloudEvents_source", bytes_of(envelope->source));
    if (rc == OBX_OK)
        rc = add_text(envelope, "cloudEvents_type", row->topic);
    if (rc == OBX_OK)
        rc = add_text(envelope, "cloudEvents_time", format_time(envelope, row->created_us));
    if (rc == OBX_OK && row->key.p != NULL)
        rc = add_text(envelope, "cloudEvents_partitionkey", row->key);
    header = rc == OBX_OK ? add_header(envelope, bytes_of("x-obx-outbox-id"), BRIDGE_H_I64) : NULL;
    if (header == NULL)
        return OBX_E_NOMEM;
    header->v.i64 = (int64_t)row->id;
    return OBX_OK;
}

/* Where a receipt is to be sent, by whom, and what proves that it answers this message. */
static enum obx_code add_receipt_headers(struct envelope *envelope, const struct outbox_row *row,
                                         struct obx_err *err)
{
    struct receipt_groups groups;
    enum obx_code rc = OBX_OK;

    if (!receipt_groups_parse(row->receipt_from, &groups))
        return obx_fail(err, OBX_E_FORMAT, "receipt_from is not a list of 1 to %d consumer groups",
                        (int)RECEIPT_GROUPS_MAX);
    if (envelope->receipt_queue == NULL)
        return obx_fail(err, OBX_E_CONFIG,
                        "the message asks for receipts, but the source has no receipt_queue");
    if (!receipt_token_make(envelope->receipt_keys, row->message_id, envelope->token))
        return obx_fail(err, OBX_E_NOMEM, "token of a receipt");
    rc = add_text(envelope, "x-obx-receipt-to", bytes_of(envelope->receipt_queue));
    if (rc == OBX_OK)
        rc = add_text(envelope, "x-obx-receipt-from", row->receipt_from);
    if (rc == OBX_OK)
        rc = add_text(envelope, "x-obx-receipt-token", bytes_of(envelope->token));
    return rc == OBX_OK ? OBX_OK : obx_fail(err, rc, "headers");
}

static bool is_reserved(const char *name)
{
    if (strncasecmp(name, prefix_own, sizeof(prefix_own) - 1) == 0)
        return true;
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        if (strcasecmp(name, reserved[i]) == 0)
            return true;
    }
    return false;
}

/* A nested value goes as its compact JSON text; the envelope keeps the text. */
static enum obx_code add_nested(struct envelope *envelope, struct obx_bytes name,
                                const json_t *value)
{
    struct bridge_header *header = NULL;
    char *text = NULL;

    if (envelope->dump_count == envelope->dump_cap) {
        size_t cap = envelope->dump_cap == 0 ? HEADERS_MIN : envelope->dump_cap * 2;
        char **dumps = obx_realloc(envelope->dumps, cap * sizeof(*dumps));

        if (dumps == NULL)
            return OBX_E_NOMEM;
        envelope->dumps = dumps;
        envelope->dump_cap = cap;
    }
    text = json_dumps(value, JSON_COMPACT);
    if (text == NULL)
        return OBX_E_NOMEM;
    envelope->dumps[envelope->dump_count++] = text;
    header = add_header(envelope, name, BRIDGE_H_TEXT);
    if (header == NULL)
        return OBX_E_NOMEM;
    header->v.text = bytes_of(text);
    return OBX_OK;
}

static enum obx_code add_scalar(struct envelope *envelope, struct obx_bytes name,
                                const json_t *value)
{
    static const enum bridge_header_type types[] = {
        [JSON_STRING] = BRIDGE_H_TEXT, [JSON_INTEGER] = BRIDGE_H_I64, [JSON_REAL] = BRIDGE_H_F64,
        [JSON_TRUE] = BRIDGE_H_BOOL,   [JSON_FALSE] = BRIDGE_H_BOOL,  [JSON_NULL] = BRIDGE_H_NULL,
    };
    struct bridge_header *header = add_header(envelope, name, types[json_typeof(value)]);

    if (header == NULL)
        return OBX_E_NOMEM;
    if (header->type == BRIDGE_H_TEXT)
        header->v.text =
            (struct obx_bytes){.p = json_string_value(value), .len = json_string_length(value)};
    else if (header->type == BRIDGE_H_I64)
        header->v.i64 = json_integer_value(value);
    else if (header->type == BRIDGE_H_F64)
        header->v.f64 = json_real_value(value);
    else
        header->v.yes = json_is_true(value);
    return OBX_OK;
}

static enum obx_code check_name(const char *name, struct obx_err *err)
{
    size_t len = strlen(name);

    if (len == 0 || len > NAME_MAX_BYTES)
        return obx_fail(err, OBX_E_FORMAT, "header name of %zu bytes (1 to 255 are allowed)", len);
    if (is_reserved(name))
        return obx_fail(err, OBX_E_FORMAT, "header name '%s' is reserved", name);
    return OBX_OK;
}

/* The parser quotes what it stumbled over and cuts characters in two; a reason is stored as text.
 */
static void make_utf8(char *text)
{
    uint32_t cp = 0;

    while (*text != '\0') {
        size_t len = utf8_next(bytes_of(text), &cp);

        if (len == 0)
            *text = '?';
        text += len == 0 ? 1 : len;
    }
}

static enum obx_code add_app_headers(struct envelope *envelope, struct obx_bytes text,
                                     struct obx_err *err)
{
    json_error_t why = {0};
    const char *name = NULL;
    json_t *value = NULL;

    envelope->json = json_loadb(text.p, text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (envelope->json == NULL && json_error_code(&why) == json_error_out_of_memory)
        return obx_fail(err, OBX_E_NOMEM, "headers");
    make_utf8(why.text);
    if (envelope->json == NULL)
        return obx_fail(err, OBX_E_FORMAT, "headers: %s at byte %d", why.text, why.position);
    if (json_is_null(envelope->json))
        return OBX_OK;
    if (!json_is_object(envelope->json))
        return obx_fail(err, OBX_E_FORMAT, "headers are not a JSON object");
    json_object_foreach(envelope->json, name, value)
    {
        bool is_nested = json_is_object(value) || json_is_array(value);
        enum obx_code rc = check_name(name, err);

        if (rc != OBX_OK)
            return rc;
        rc = is_nested ? add_nested(envelope, bytes_of(name), value)
                       : add_scalar(envelope, bytes_of(name), value);
        if (rc != OBX_OK)
            return obx_fail(err, rc, "headers");
    }
    return OBX_OK;
}

/* ---- the whole ---- */

static enum obx_code check_short(const char *what, struct obx_bytes text, struct obx_err *err)
{
    if (text.len == 0)
        return obx_fail(err, OBX_E_FORMAT, "%s is empty", what);
    if (text.len > NAME_MAX_BYTES)
        return obx_fail(err, OBX_E_FORMAT, "%s of %zu bytes (255 are allowed)", what, text.len);
    if (memchr(text.p, '\0', text.len) != NULL)
        return obx_fail(err, OBX_E_FORMAT, "%s has a NUL byte in it", what);
    return OBX_OK;
}

static enum obx_code check_row(const struct outbox_row *row, struct obx_err *err)
{
    enum obx_code rc = check_short("topic", row->topic, err);

    if (rc == OBX_OK && row->id > INT64_MAX)
        return obx_fail(err, OBX_E_FORMAT, "id %llu is above what AMQP's numbers hold",
                        (unsigned long long)row->id);
    if (rc == OBX_OK)
        rc = check_short("message_id", row->message_id, err);
    if (rc == OBX_OK && row->content_type.len > 0)
        rc = check_short("content_type", row->content_type, err);
    return rc;
}

enum obx_code envelope_build(struct envelope *envelope, const struct outbox_row *row,
                             struct bridge_message *msg, struct obx_err *err)
{
    enum obx_code rc = check_row(row, err);

    reset(envelope);
    if (rc != OBX_OK)
        return rc;
    if (add_own_headers(envelope, row) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "headers");
    if (row->receipt_from.p != NULL)
        rc = add_receipt_headers(envelope, row, err);
    if (rc == OBX_OK && row->headers.p != NULL)
        rc = add_app_headers(envelope, row->headers, err);
    if (rc != OBX_OK)
        return rc;
    *msg = (struct bridge_message){.message_id = row->message_id,
                                   .type = row->topic,
                                   .content_type = row->content_type,
                                   .app_id = bytes_of("oncebox"),
                                   .timestamp_s = row->created_us / US_PER_S,
                                   .headers = envelope->headers,
                                   .header_count = envelope->header_count,
                                   .body = row->payload};
    if (msg->content_type.len == 0)
        msg->content_type = (struct obx_bytes){.p = NULL, .len = 0};
    return OBX_OK;
}
