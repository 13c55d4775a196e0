/*
 * A row of the outbox as a message. See envelope.h.
 */
#include "envelope.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/json_span.h"
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
    HEADER_COST = 8,    /* of a name's length, a type and a value's length on the wire */
    NUMBER_SIZE = 64,   /* room for any number that a double can hold whole */
    DOUBLE_DIGITS = 17, /* more digits than these tell doubles apart no better */
    DECIMAL = 10,
    POWER_MAX = 1000000,
};

struct envelope {
    char *source;
    struct obx_header *headers;
    size_t header_count, header_cap;
    char *texts; /* what names and texts with escapes stand for; headers borrow from it */
    size_t text_len, text_cap;
    struct obx_bytes *names; /* of the application's headers, to find one that is there twice */
    size_t name_cap;
    char time[TIME_SIZE];
    uint64_t date_s; /* the second that `date` shows */
    char date[DATE_SIZE + 1];
    const char *receipt_queue; /* borrowed; NULL: no receipts */
    const struct receipt_keys *receipt_keys;
    char token[RECEIPT_TOKEN_SIZE];
};

static const char prefix_own[] = "x-obx-";

/* Names that have a meaning to the broker or are set by us; anything else of an application's
 * rescans. */
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
    envelope->header_count = 0;
    envelope->text_len = 0;
}

static void fini_scratch(struct envelope *envelope)
{
    obx_free(envelope->headers);
    obx_free(envelope->texts);
    obx_free(envelope->names);
}

void envelope_destroy(struct envelope *envelope)
{
    if (envelope == NULL)
        return;
    obx_free(envelope->source);
    fini_scratch(envelope);
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

static struct obx_header *add_header(struct envelope *envelope, struct obx_bytes name,
                                     enum obx_header_type type)
{
    struct obx_header *header = NULL;

    if (envelope->header_count == envelope->header_cap) {
        size_t cap = envelope->header_cap == 0 ? HEADERS_MIN : envelope->header_cap * 2;
        struct obx_header *headers = obx_realloc(envelope->headers, cap * sizeof(*headers));

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
    struct obx_header *header = add_header(envelope, bytes_of(name), OBX_H_TEXT);

    if (header == NULL)
        return OBX_E_NOMEM;
    header->v.text = text;
    return OBX_OK;
}

static enum obx_code add_own_headers(struct envelope *envelope, const struct outbox_row *row)
{
    struct obx_header *header = NULL;
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
    header = rc == OBX_OK ? add_header(envelope, bytes_of("x-obx-outbox-id"), OBX_H_I64) : NULL;
    if (header == NULL)
        return OBX_E_NOMEM;
    header->v.i64 = (int64_t)row->id;
    return OBX_OK;
}

static enum obx_code fail_groups(struct obx_err *err)
{
    return obx_fail(err, OBX_E_FORMAT, "receipt_from is not a list of 1 to %d consumer groups",
                    (int)RECEIPT_GROUPS_MAX);
}

/* Where a receipt is to be sent, by whom, and what proves that it answers this message. */
static enum obx_code add_receipt_headers(struct envelope *envelope, const struct outbox_row *row,
                                         struct obx_err *err)
{
    struct receipt_groups groups;
    enum obx_code rc = OBX_OK;

    if (!receipt_groups_parse(row->receipt_from, &groups))
        return fail_groups(err);
    /* The tables of what awaits receipts take 'a' and 'a ' for one id. */
    if (row->message_id.len > 0 &&
        ((const char *)row->message_id.p)[row->message_id.len - 1] == ' ')
        return obx_fail(err, OBX_E_FORMAT,
                        "the message asks for receipts, and its message_id ends in a space");
    if (envelope->receipt_queue == NULL)
        return obx_fail(err, OBX_E_CONFIG,
                        "the message asks for receipts, but the source has no receipt_queue");
    if (!receipt_token_make(envelope->receipt_keys, row->message_id, &groups, envelope->token))
        return obx_fail(err, OBX_E_NOMEM, "token of a receipt");
    rc = add_text(envelope, "x-obx-receipt-to", bytes_of(envelope->receipt_queue));
    if (rc == OBX_OK)
        rc = add_text(envelope, "x-obx-receipt-from", row->receipt_from);
    if (rc == OBX_OK)
        rc = add_text(envelope, "x-obx-receipt-token", bytes_of(envelope->token));
    return rc == OBX_OK ? OBX_OK : obx_fail(err, rc, "headers");
}

static bool is_reserved(struct obx_bytes name)
{
    const char *text = name.p;
    const size_t prefix_len = sizeof(prefix_own) - 1;

    if (name.len >= prefix_len && strncasecmp(text, prefix_own, prefix_len) == 0)
        return true;
    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        if (name.len == strlen(reserved[i]) && strncasecmp(text, reserved[i], name.len) == 0)
            return true;
    }
    return false;
}

static enum obx_code check_name(struct obx_bytes name, struct obx_err *err)
{
    char shown[NAME_MAX_BYTES + 1];

    if (name.len == 0 || name.len > NAME_MAX_BYTES)
        return obx_fail(err, OBX_E_FORMAT, "header name of %zu bytes (1 to 255 are allowed)",
                        name.len);
    if (memchr(name.p, '\0', name.len) != NULL)
        return obx_fail(err, OBX_E_FORMAT, "a header's name has a NUL in it");
    if (!is_reserved(name))
        return OBX_OK;
    (void)bytes_to_text(name, shown, sizeof(shown));
    return obx_fail(err, OBX_E_FORMAT, "header name '%s' is reserved", shown);
}

/* What a string stands for: its own bytes in the row, or, where it has escapes, a text of ours.
 * There is room: nothing gets longer by decoding. */
static bool decode(struct envelope *envelope, struct obx_bytes string, struct obx_bytes *out)
{
    if (json_span_is_plain(string, out))
        return true;
    out->p = envelope->texts + envelope->text_len;
    if (!json_span_decode(string, envelope->texts + envelope->text_len, &out->len))
        return false;
    envelope->text_len += out->len;
    return true;
}

/* The digits that count and the exponent of the first one: 12.50 and 1.25e1 are both 125 and 1. */
struct decimal {
    char digits[NUMBER_SIZE];
    size_t count;
    long exponent;
};

static void read_decimal(const char *text, struct decimal *out)
{
    long point = 0; /* digits before the point, leading zeros not counted; negative: zeros after */
    long power = 0;
    bool has_point = false;

    *out = (struct decimal){0};
    for (text += *text == '-' ? 1 : 0; *text != '\0' && *text != 'e' && *text != 'E'; text++) {
        if (*text == '.') {
            has_point = true;
            continue;
        }
        if (*text != '0' || out->count > 0)
            out->digits[out->count++] = *text;
        if (!has_point && out->count > 0)
            point++;
        else if (has_point && out->count == 0)
            point--;
    }
    while (out->count > 0 && out->digits[out->count - 1] == '0')
        out->count--;
    power = *text == '\0' ? 0 : strtol(text + 1, NULL, DECIMAL);
    if (power > POWER_MAX || power < -POWER_MAX)
        power = power > 0 ? POWER_MAX : -POWER_MAX; /* far beyond any double */
    out->exponent = out->count == 0 ? 0 : point + power;
}

/* Whether printing the double with as many digits gives the same decimal again. */
static bool holds_whole(double number, const struct decimal *decimal)
{
    char text[NUMBER_SIZE];
    struct decimal printed;

    if (decimal->count == 0)
        return number == 0.0;
    if (decimal->count > DOUBLE_DIGITS || !isfinite(number))
        return false;
    (void)snprintf(text, sizeof(text), "%.*e", (int)decimal->count - 1, number);
    read_decimal(text, &printed);
    return printed.count == decimal->count && printed.exponent == decimal->exponent &&
           memcmp(printed.digits, decimal->digits, printed.count) == 0;
}

/* A number goes as a number where AMQP has one that holds it whole, otherwise as the text it is. */
static void set_number(struct obx_header *header, struct obx_bytes value)
{
    char text[NUMBER_SIZE];
    struct decimal decimal;
    char *end = NULL;

    header->type = OBX_H_TEXT;
    header->v.text = value;
    if (value.len >= sizeof(text))
        return;
    memcpy(text, value.p, value.len);
    text[value.len] = '\0';
    if (strpbrk(text, ".eE") == NULL) {
        long long whole;

        errno = 0;
        whole = strtoll(text, &end, DECIMAL);
        if (errno == 0) {
            header->type = OBX_H_I64;
            header->v.i64 = whole;
            return;
        }
    }
    read_decimal(text, &decimal);
    if (holds_whole(strtod(text, NULL), &decimal)) {
        header->type = OBX_H_F64;
        header->v.f64 = strtod(text, NULL);
    }
}

static enum obx_code add_value(struct envelope *envelope, struct obx_bytes name,
                               struct obx_bytes value, struct obx_err *err)
{
    const enum json_span_type type = json_span_type(value);
    struct obx_header *header = add_header(envelope, name, OBX_H_NULL);

    if (header == NULL)
        return obx_fail(err, OBX_E_NOMEM, "headers");
    if (type == JSON_SPAN_STRING) {
        header->type = OBX_H_TEXT;
        if (!decode(envelope, value, &header->v.text) ||
            memchr(header->v.text.p, '\0', header->v.text.len) != NULL)
            return obx_fail(err, OBX_E_FORMAT, "headers: a text has a NUL or half a character");
    } else if (type == JSON_SPAN_OBJECT || type == JSON_SPAN_ARRAY) {
        header->type = OBX_H_TEXT;
        header->v.text = value;
    } else if (type == JSON_SPAN_NUMBER) {
        set_number(header, value);
    } else if (type != JSON_SPAN_NULL) {
        header->type = OBX_H_BOOL;
        header->v.yes = type == JSON_SPAN_TRUE;
    }
    return OBX_OK;
}

static int compare_names(const void *a, const void *b)
{
    const struct obx_bytes *left = a;
    const struct obx_bytes *right = b;

    if (left->len != right->len)
        return left->len < right->len ? -1 : 1;
    return memcmp(left->p, right->p, left->len);
}

/* The headers from `first` on are the application's: each name once, and all of them small enough
 * for the frame that a message's headers have to fit into. */
static enum obx_code check_headers(struct envelope *envelope, size_t first, struct obx_err *err)
{
    const size_t count = envelope->header_count - first;
    size_t cost = 0;

    if (count > envelope->name_cap) {
        struct obx_bytes *names = obx_realloc(envelope->names, count * sizeof(*names));

        if (names == NULL)
            return obx_fail(err, OBX_E_NOMEM, "headers");
        envelope->names = names;
        envelope->name_cap = count;
    }
    for (size_t i = 0; i < count; i++) {
        const struct obx_header *header = &envelope->headers[first + i];

        envelope->names[i] = header->name;
        cost += HEADER_COST + header->name.len;
        cost += header->type == OBX_H_TEXT ? header->v.text.len : sizeof(int64_t);
    }
    if (cost > ENVELOPE_HEADERS_MAX)
        return obx_fail(err, OBX_E_FORMAT, "headers of %zu bytes (%d are allowed)", cost,
                        ENVELOPE_HEADERS_MAX);
    qsort(envelope->names, count, sizeof(*envelope->names), compare_names);
    for (size_t i = 1; i < count; i++) {
        if (bytes_equal(envelope->names[i - 1], envelope->names[i]))
            return obx_fail(err, OBX_E_FORMAT, "headers: a name is there twice");
    }
    return OBX_OK;
}

static enum obx_code add_members(struct envelope *envelope, struct obx_bytes object,
                                 struct obx_err *err)
{
    struct json_span_rest rest = json_span_enter(object);
    struct obx_bytes string;
    struct obx_bytes name;
    struct obx_bytes value;

    while (json_span_next_member(&rest, &string, &value)) {
        enum obx_code rc = OBX_OK;

        if (!decode(envelope, string, &name))
            return obx_fail(err, OBX_E_FORMAT, "headers: a name has half a character");
        rc = check_name(name, err);
        if (rc == OBX_OK)
            rc = add_value(envelope, name, value, err);
        if (rc != OBX_OK)
            return rc;
    }
    return OBX_OK;
}

static enum obx_code add_app_headers(struct envelope *envelope, struct obx_bytes text,
                                     struct obx_err *err)
{
    const size_t first = envelope->header_count;
    struct json_span_fault fault = {0};
    struct obx_bytes object;
    enum obx_code rc = OBX_OK;

    if (!json_span_check(text, &object, &fault))
        return obx_fail(err, OBX_E_FORMAT, "headers: %s at byte %zu", fault.what, fault.at);
    if (json_span_type(object) == JSON_SPAN_NULL)
        return OBX_OK;
    if (json_span_type(object) != JSON_SPAN_OBJECT)
        return obx_fail(err, OBX_E_FORMAT, "headers are not a JSON object");
    if (object.len > envelope->text_cap) {
        char *texts = obx_realloc(envelope->texts, object.len);

        if (texts == NULL)
            return obx_fail(err, OBX_E_NOMEM, "headers");
        envelope->texts = texts;
        envelope->text_cap = object.len;
    }
    rc = add_members(envelope, object, err);
    return rc == OBX_OK ? check_headers(envelope, first, err) : rc;
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

enum obx_code envelope_check(const struct outbox_row *row, struct obx_err *err)
{
    struct envelope scratch = {0};
    struct receipt_groups groups;
    enum obx_code rc = check_row(row, err);

    if (rc == OBX_OK && row->receipt_from.p != NULL &&
        !receipt_groups_parse(row->receipt_from, &groups))
        rc = fail_groups(err);
    if (rc == OBX_OK && row->headers.p != NULL)
        rc = add_app_headers(&scratch, row->headers, err);
    fini_scratch(&scratch);
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
                                   .app_id = bytes_of("rowpost"),
                                   .timestamp_s = row->created_us / US_PER_S,
                                   .headers = envelope->headers,
                                   .header_count = envelope->header_count,
                                   .body = row->payload};
    if (msg->content_type.len == 0)
        msg->content_type = (struct obx_bytes){.p = NULL, .len = 0};
    return OBX_OK;
}
