/*
 * Parsing and writing of the half-message API's JSON. Strict: a field that the contract does not
 * know is refused, because a misspelt one (`ordering_kye`) would otherwise be dropped in silence.
 *
 * A prepare is one copy of the body, and everything in the request points into it: payload and
 * headers are the very bytes that were sent (base/json_span.h), strings are decoded where they
 * stand. So no number is read and printed again, and a large body costs its own size once. Answers
 * are written member by member: a tree of them took longer to make than all else in a request.
 */
#include "half_json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>

#include "base/alloc.h"
#include "base/crash.h"
#include "base/json_span.h"
#include "outbox/envelope.h"

#define TOPIC_MAX        255 /* bytes: what the broker takes as a routing key */
#define KEY_MAX          255
#define RECEIPT_FROM_MAX 512
#define MESSAGE_ID_MAX   64
#define CONTENT_MAX      255
#define FIRST_CHECK_MAX  604800000UL /* seven days */
#define FIELD_NAME_MAX   64
#define PARTS_FEW        4
#define BASE64_GROUP     4 /* characters that make BASE64_BYTES */
#define BASE64_BYTES     3
#define BASE64_STEP      64 /* groups decoded at once */

struct half_prepare {
    struct half_request req;
    struct half_part *parts; /* the request's; few, or grown */
    size_t room;
    struct half_part few[PARTS_FEW]; /* most have one or two */
    char *body; /* ours; all that the request points to, but for static texts */
};

/* A field of an object: absent in the body when value is. */
struct field {
    const char *name;
    struct obx_bytes value;
};

static enum obx_code refuse(struct half_refusal *refusal, int status, const char *reason,
                            const char *fmt, ...) OBX_PRINTF(4, 5);

static enum obx_code refuse(struct half_refusal *refusal, int status, const char *reason,
                            const char *fmt, ...)
{
    char text[OBX_ERR_TEXT_MAX * 2];
    va_list va;

    refusal->status = status;
    refusal->reason = reason;
    va_start(va, fmt);
    vsnprintf(text, sizeof(text), fmt, va);
    va_end(va);
    (void)bytes_to_text(bytes_of(text), refusal->text, sizeof(refusal->text));
    return status == 503 ? OBX_E_NOMEM : OBX_E_FORMAT;
}

static enum obx_code refuse_memory(struct half_refusal *refusal)
{
    return refuse(refusal, 503, "overloaded", "out of memory");
}

static bool is_word(struct obx_bytes text, const char *extra, size_t max)
{
    const unsigned char *p = text.p;

    if (text.len == 0 || text.len > max)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = p[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

        if (!alnum && (c == '\0' || strchr(extra, c) == NULL))
            return false;
    }
    return true;
}

bool half_gid_is_valid(struct obx_bytes gid)
{
    return is_word(gid, "-._:~", HALF_GID_MAX);
}

bool half_producer_is_valid(struct obx_bytes name)
{
    return is_word(name, "-._", HALF_PRODUCER_MAX);
}

/* A value of the body as a place to write to: strings are decoded where they stand. */
static char *in_place(const struct half_prepare *prepare, struct obx_bytes value)
{
    return prepare->body + ((const char *)value.p - prepare->body);
}

/* Find the values of all fields of object, in the list that ends with a name of NULL. Before any of
 * them is decoded: what has been written to cannot be walked through again. */
static enum obx_code read_fields(struct obx_bytes object, struct field *fields,
                                 struct half_refusal *refusal)
{
    struct json_span_rest rest = json_span_enter(object);
    struct obx_bytes string;
    struct obx_bytes value;

    while (json_span_next_member(&rest, &string, &value)) {
        char decoded[FIELD_NAME_MAX * 6]; /* an escape is six bytes for one */
        char shown[FIELD_NAME_MAX + 1];
        struct obx_bytes name;
        struct field *field = fields;

        if (!json_span_is_plain(string, &name) && string.len <= sizeof(decoded)) {
            name.p = decoded;
            if (!json_span_decode(string, decoded, &name.len))
                return refuse(refusal, 400, "bad_json", "a name has half a character");
        }
        while (field->name != NULL && !bytes_is(name, field->name))
            field++;
        if (field->name == NULL) {
            (void)bytes_to_text(name, shown, sizeof(shown));
            return refuse(refusal, 400, "unknown_field", "the field \"%s\" is not known", shown);
        }
        if (!bytes_is_absent(field->value))
            return refuse(refusal, 400, "bad_json", "the field \"%s\" is there twice", field->name);
        field->value = value;
    }
    return OBX_OK;
}

static bool is_given(const struct field *field)
{
    return !bytes_is_absent(field->value) && json_span_type(field->value) != JSON_SPAN_NULL;
}

static bool decode(const struct half_prepare *prepare, struct obx_bytes string,
                   struct obx_bytes *out)
{
    char *place = in_place(prepare, string);

    out->p = place;
    return json_span_decode(string, place, &out->len);
}

static enum obx_code refuse_surrogate(struct half_refusal *refusal, const char *name)
{
    return refuse(refusal, 400, "bad_json", "\"%s\" has half of a surrogate pair", name);
}

/* A string field: absent or null leaves *out absent; its length is checked in bytes. */
static enum obx_code read_text(struct half_prepare *prepare, const struct field *field, size_t max,
                               bool is_required, struct obx_bytes *out,
                               struct half_refusal *refusal)
{
    if (!is_given(field))
        return is_required ? refuse(refusal, 400, "missing_field", "\"%s\" is missing", field->name)
                           : OBX_OK;
    if (json_span_type(field->value) != JSON_SPAN_STRING)
        return refuse(refusal, 400, "invalid_value", "\"%s\" must be a string", field->name);
    if (!decode(prepare, field->value, out))
        return refuse_surrogate(refusal, field->name);
    if (out->len == 0 || out->len > max)
        return refuse(refusal, 400, "invalid_value", "\"%s\" must have 1 to %zu bytes, has %zu",
                      field->name, max, out->len);
    if (memchr(out->p, '\0', out->len) != NULL)
        return refuse(refusal, 400, "invalid_value", "\"%s\" must not contain a NUL", field->name);
    return OBX_OK;
}

/* Whether text is whole groups of the standard alphabet, padded; *pad counts the padding. */
static bool is_base64(struct obx_bytes text, size_t *pad)
{
    const char *p = text.p;

    *pad = 0;
    while (*pad < 2 && *pad < text.len && p[text.len - *pad - 1] == '=')
        ++*pad;
    for (size_t i = 0; i < text.len - *pad; i++) {
        char c = p[i];

        if (!(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
            c != '+' && c != '/')
            return false;
    }
    return text.len % BASE64_GROUP == 0;
}

/* Where it stands: three bytes take the place of four characters. */
static enum obx_code decode_base64(struct half_prepare *prepare, struct obx_bytes text,
                                   struct obx_bytes *out, struct half_refusal *refusal)
{
    unsigned char step[BASE64_STEP * BASE64_BYTES];
    char *place = in_place(prepare, text);
    size_t pad = 0;
    size_t len = 0;

    if (!is_base64(text, &pad))
        return refuse(refusal, 400, "invalid_value",
                      "\"payload_base64\" is not base64 with padding");
    for (size_t at = 0; at < text.len; at += (size_t)BASE64_STEP * BASE64_GROUP) {
        size_t take = text.len - at;
        int got;

        if (take > (size_t)BASE64_STEP * BASE64_GROUP)
            take = (size_t)BASE64_STEP * BASE64_GROUP;
        got = EVP_DecodeBlock(step, (const unsigned char *)text.p + at, (int)take);
        OBX_ASSERT(got >= 0 && (size_t)got <= sizeof(step)); /* is_base64 has seen it */
        memcpy(place + len, step, (size_t)got);
        len += (size_t)got;
    }
    *out = (struct obx_bytes){place, len - pad};
    return OBX_OK;
}

/* What a payload is when the caller does not say: a JSON value is JSON, which is the column's
 * default; a text and bytes need not be. */
static void set_content_type(struct half_part *part, const char *type)
{
    if (bytes_is_absent(part->content_type))
        part->content_type = bytes_of(type);
}

/* A string is the text that it stands for; any other JSON value is the bytes that stand there. */
static enum obx_code read_payload(struct half_prepare *prepare, const struct field *plain,
                                  const struct field *base64, struct half_part *part,
                                  struct half_refusal *refusal)
{
    if (bytes_is_absent(plain->value) == bytes_is_absent(base64->value))
        return refuse(refusal, 400,
                      bytes_is_absent(plain->value) ? "missing_field" : "invalid_value",
                      "give either \"payload\" or \"payload_base64\"");
    if (!bytes_is_absent(base64->value)) {
        struct obx_bytes text;

        if (json_span_type(base64->value) != JSON_SPAN_STRING)
            return refuse(refusal, 400, "invalid_value", "\"payload_base64\" must be a string");
        if (!decode(prepare, base64->value, &text))
            return refuse_surrogate(refusal, base64->name);
        set_content_type(part, "application/octet-stream");
        return decode_base64(prepare, text, &part->payload, refusal);
    }
    part->payload = plain->value;
    if (json_span_type(plain->value) != JSON_SPAN_STRING)
        return OBX_OK;
    set_content_type(part, "text/plain; charset=utf-8");
    return decode(prepare, plain->value, &part->payload) ? OBX_OK
                                                         : refuse_surrogate(refusal, plain->name);
}

/* What the outbox would park later is refused now, by the same rules. */
static enum obx_code check_message(const struct half_part *part, struct half_refusal *refusal)
{
    const struct outbox_row row = {.id = 1,
                                   .is_full = true,
                                   .message_id = bytes_is_absent(part->message_id)
                                                     ? bytes_of("made by the database")
                                                     : part->message_id,
                                   .topic = part->topic,
                                   .key = part->ordering_key,
                                   .headers = part->headers,
                                   .content_type = part->content_type,
                                   .receipt_from = part->receipt_from,
                                   .payload = part->payload};
    struct obx_err err = {0};
    enum obx_code rc;

    if (!bytes_is_absent(part->message_id) &&
        !is_word(part->message_id, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", MESSAGE_ID_MAX))
        return refuse(refusal, 400, "invalid_value",
                      "\"message_id\" must be printable ASCII without blanks");
    rc = envelope_check(&row, &err);
    if (rc == OBX_E_NOMEM)
        return refuse_memory(refusal);
    return rc == OBX_OK ? OBX_OK : refuse(refusal, 400, "invalid_value", "%s", err.text);
}

enum part_field {
    PART_MESSAGE_ID,
    PART_TOPIC,
    PART_KEY,
    PART_HEADERS,
    PART_CONTENT_TYPE,
    PART_PAYLOAD,
    PART_BASE64,
    PART_RECEIPT_FROM,
    PART_ON_REJECTED
};

/* Room for one more message. */
static enum obx_code grow_parts(struct half_prepare *prepare, struct half_refusal *refusal)
{
    const size_t count = prepare->req.part_count;
    struct half_part *grown;

    if (count < prepare->room)
        return OBX_OK;
    grown = obx_calloc(prepare->room * 2, sizeof(*grown));
    if (grown == NULL)
        return refuse_memory(refusal);
    memcpy(grown, prepare->parts, count * sizeof(*grown));
    if (prepare->parts != prepare->few)
        obx_free(prepare->parts);
    prepare->parts = grown;
    prepare->room *= 2;
    return OBX_OK;
}

static enum obx_code read_part(struct half_prepare *prepare, struct obx_bytes object,
                               enum half_verdict on, struct half_refusal *refusal)
{
    struct field fields[] = {{.name = "message_id"},     {.name = "topic"},
                             {.name = "ordering_key"},   {.name = "headers"},
                             {.name = "content_type"},   {.name = "payload"},
                             {.name = "payload_base64"}, {.name = "receipt_from"},
                             {.name = "on_rejected"},    {.name = NULL}};
    struct half_part *part = &prepare->parts[prepare->req.part_count];
    const struct {
        enum part_field field;
        size_t max;
        bool is_required;
        struct obx_bytes *out;
    } texts[] = {
        {PART_MESSAGE_ID, MESSAGE_ID_MAX, false, &part->message_id},
        {PART_TOPIC, TOPIC_MAX, true, &part->topic},
        {PART_KEY, KEY_MAX, false, &part->ordering_key},
        {PART_CONTENT_TYPE, CONTENT_MAX, false, &part->content_type},
        {PART_RECEIPT_FROM, RECEIPT_FROM_MAX, false, &part->receipt_from},
        {PART_ON_REJECTED, TOPIC_MAX, false, &part->on_rejected},
    };
    size_t count = 0; /* of this verdict so far */
    enum obx_code rc;

    for (size_t i = 0; i < prepare->req.part_count; i++)
        count += prepare->parts[i].on == on;
    if (count == HALF_PARTS_MAX)
        return refuse(refusal, 400, "invalid_value", "more than %d messages in \"%s\"",
                      HALF_PARTS_MAX, half_verdict_name(on));
    if (json_span_type(object) != JSON_SPAN_OBJECT)
        return refuse(refusal, 400, "invalid_value", "each message must be an object");
    part->on = on;
    rc = read_fields(object, fields, refusal);
    for (size_t i = 0; rc == OBX_OK && i < sizeof(texts) / sizeof(texts[0]); i++)
        rc = read_text(prepare, &fields[texts[i].field], texts[i].max, texts[i].is_required,
                       texts[i].out, refusal);
    if (rc == OBX_OK && is_given(&fields[PART_HEADERS])) {
        part->headers = fields[PART_HEADERS].value;
        if (json_span_type(part->headers) != JSON_SPAN_OBJECT)
            return refuse(refusal, 400, "invalid_value", "\"headers\" must be an object");
    }
    if (rc == OBX_OK)
        rc = read_payload(prepare, &fields[PART_PAYLOAD], &fields[PART_BASE64], part, refusal);
    if (rc == OBX_OK)
        rc = check_message(part, refusal);
    if (rc == OBX_OK)
        prepare->req.part_count++;
    return rc;
}

static enum obx_code read_parts(struct half_prepare *prepare, const struct field *field,
                                enum half_verdict on, struct half_refusal *refusal)
{
    struct json_span_rest rest;
    struct obx_bytes object;
    enum obx_code rc = OBX_OK;

    if (!is_given(field))
        return OBX_OK;
    if (json_span_type(field->value) != JSON_SPAN_ARRAY)
        return refuse(refusal, 400, "invalid_value", "\"%s\" must be a list of messages",
                      field->name);
    rest = json_span_enter(field->value);
    while (rc == OBX_OK && json_span_next_element(&rest, &object)) {
        rc = grow_parts(prepare, refusal);
        if (rc == OBX_OK)
            rc = read_part(prepare, object, on, refusal);
    }
    return rc;
}

static enum obx_code read_first_check(struct half_prepare *prepare, const struct field *field,
                                      uint32_t def, struct half_refusal *refusal)
{
    char digits[16];
    size_t whole, zeros; /* 3.0 is an integer too */
    unsigned long ms;

    prepare->req.first_check_ms = def;
    if (!is_given(field))
        return OBX_OK;
    (void)bytes_to_text(field->value, digits, sizeof(digits));
    ms = strtoul(digits, NULL, 10);
    whole = strspn(digits, "0123456789");
    zeros = digits[whole] == '.' ? 1 + strspn(digits + whole + 1, "0") : 0;
    if (field->value.len >= sizeof(digits) || whole + zeros != field->value.len ||
        ms > FIRST_CHECK_MAX)
        return refuse(refusal, 400, "invalid_value", "\"first_check_ms\" must be 0 to %lu",
                      FIRST_CHECK_MAX);
    prepare->req.first_check_ms = (uint32_t)ms;
    return OBX_OK;
}

/* Length before content, so that no two contents have one text. */
static bool digest_bytes(EVP_MD_CTX *ctx, struct obx_bytes b)
{
    uint64_t len = bytes_is_absent(b) ? UINT64_MAX : b.len;

    return EVP_DigestUpdate(ctx, &len, sizeof(len)) == 1 &&
           (b.len == 0 || EVP_DigestUpdate(ctx, b.p, b.len) == 1);
}

static bool digest_part(EVP_MD_CTX *ctx, const struct half_part *part)
{
    const struct obx_bytes all[] = {bytes_of(half_verdict_name(part->on)), part->message_id,
                                    part->topic, part->ordering_key, part->headers,
                                    part->content_type, part->payload,
                                    /* Only what is there, so that the digests of others are what
                                     * they were before receipts. No other member's place begins
                                     * with this word. */
                                    bytes_of("receipts"), part->receipt_from, part->on_rejected};
    const bool has_receipts =
        !bytes_is_absent(part->receipt_from) || !bytes_is_absent(part->on_rejected);
    const size_t count = sizeof(all) / sizeof(all[0]) - (has_receipts ? 0 : 3);

    for (size_t i = 0; i < count; i++)
        if (!digest_bytes(ctx, all[i]))
            return false;
    return true;
}

/* Over all that the caller said but the check's time, which a retry may well give differently. */
static enum obx_code make_digest(struct half_request *req, struct half_refusal *refusal)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
              digest_bytes(ctx, req->producer);

    for (size_t i = 0; ok && i < req->part_count; i++)
        ok = digest_part(ctx, &req->parts[i]);
    ok = ok && EVP_DigestFinal_ex(ctx, req->digest, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return ok ? OBX_OK : refuse_memory(refusal);
}

enum prepare_field {
    PREPARE_GID,
    PREPARE_PRODUCER,
    PREPARE_FIRST,
    PREPARE_COMMIT,
    PREPARE_ROLLBACK
};

static enum obx_code read_names(struct half_prepare *prepare, const struct field *fields,
                                struct half_refusal *refusal)
{
    struct half_request *req = &prepare->req;
    enum obx_code rc =
        read_text(prepare, &fields[PREPARE_GID], HALF_GID_MAX, true, &req->gid, refusal);

    if (rc == OBX_OK && !half_gid_is_valid(req->gid))
        rc = refuse(refusal, 400, "invalid_value", "\"gid\" may have letters, digits and -._:~");
    if (rc == OBX_OK)
        rc = read_text(prepare, &fields[PREPARE_PRODUCER], HALF_PRODUCER_MAX, true, &req->producer,
                       refusal);
    if (rc == OBX_OK && !half_producer_is_valid(req->producer))
        rc = refuse(refusal, 400, "invalid_value", "\"producer\" may have letters, digits and -._");
    return rc;
}

static enum obx_code read_prepare(struct half_prepare *prepare, struct obx_bytes root, uint32_t def,
                                  struct half_refusal *refusal)
{
    struct field fields[] = {{.name = "gid"},    {.name = "producer"}, {.name = "first_check_ms"},
                             {.name = "commit"}, {.name = "rollback"}, {.name = NULL}};
    struct half_request *req = &prepare->req;
    enum obx_code rc = read_fields(root, fields, refusal);

    req->kind = HALF_REQ_PREPARE;
    if (rc == OBX_OK)
        rc = read_names(prepare, fields, refusal);
    if (rc == OBX_OK)
        rc = read_first_check(prepare, &fields[PREPARE_FIRST], def, refusal);
    if (rc == OBX_OK)
        rc = read_parts(prepare, &fields[PREPARE_COMMIT], HALF_COMMIT, refusal);
    if (rc == OBX_OK)
        rc = read_parts(prepare, &fields[PREPARE_ROLLBACK], HALF_ROLLBACK, refusal);
    if (rc == OBX_OK && req->part_count == 0)
        rc = refuse(refusal, 400, "missing_field",
                    "no message: give \"commit\", \"rollback\" or both");
    req->parts = prepare->parts;
    return rc == OBX_OK ? make_digest(req, refusal) : rc;
}

static enum obx_code read_body(struct half_prepare *prepare, size_t len, uint32_t def,
                               struct half_refusal *refusal)
{
    struct json_span_fault fault = {0};
    struct obx_bytes root;

    if (!json_span_check((struct obx_bytes){prepare->body, len}, &root, &fault))
        return refuse(refusal, 400, "bad_json", "%s at byte %zu", fault.what, fault.at);
    if (json_span_type(root) != JSON_SPAN_OBJECT)
        return refuse(refusal, 400, "bad_json", "the body must be an object");
    return read_prepare(prepare, root, def, refusal);
}

enum obx_code half_json_parse_prepare(struct obx_bytes body, uint32_t default_first_check_ms,
                                      struct half_prepare **out, struct half_refusal *refusal)
{
    struct half_prepare *prepare = obx_calloc(1, sizeof(*prepare));
    enum obx_code rc;

    *out = NULL;
    if (prepare == NULL)
        return refuse_memory(refusal);
    prepare->parts = prepare->few;
    prepare->room = PARTS_FEW;
    prepare->body = obx_malloc(body.len);
    if (prepare->body == NULL) {
        rc = refuse_memory(refusal);
    } else {
        memcpy(prepare->body, body.p, body.len);
        rc = read_body(prepare, body.len, default_first_check_ms, refusal);
    }
    if (rc != OBX_OK) {
        half_prepare_free(prepare);
        return rc;
    }
    *out = prepare;
    return OBX_OK;
}

struct half_request *half_prepare_request(struct half_prepare *prepare)
{
    return &prepare->req;
}

void half_prepare_free(struct half_prepare *prepare)
{
    if (prepare == NULL)
        return;
    if (prepare->parts != prepare->few)
        obx_free(prepare->parts);
    obx_free(prepare->body);
    obx_free(prepare);
}

/* ---- answers: a member that could not be appended spoils the whole, for the failure sticks ---- */

/* How long the UTF-8 character at p is; 0: there is none. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
    const size_t len = p[0] < 0x80             ? 1
                       : (p[0] & 0xe0) == 0xc0 ? 2
                       : (p[0] & 0xf0) == 0xe0 ? 3
                       : (p[0] & 0xf8) == 0xf0 ? 4
                                               : 0;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t code = len == 0 ? 0 : p[0] & (0xffU >> len);

    if (len < 2 || len > left)
        return len > left ? 0 : len;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3fU);
    }
    return code < least[len] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : len;
}

/* What is not UTF-8 (a text of the database's that was cut) becomes a question mark: the answer must
 * be JSON, whatever it says. */
static void add_string(struct obx_buf *out, struct obx_bytes text)
{
    const unsigned char *p = text.p;
    size_t from = 0;

    buf_add(out, "\"", 1);
    for (size_t i = 0; i < text.len;) {
        const size_t len = utf8_len(p + i, text.len - i);

        if (len > 0 && p[i] >= ' ' && p[i] != '"' && p[i] != '\\') {
            i += len;
            continue;
        }
        buf_add(out, p + from, i - from);
        if (len == 0)
            buf_add(out, "?", 1);
        else
            buf_addf(out, "\\u%04x", p[i]);
        from = ++i;
    }
    if (text.len > from)
        buf_add(out, p + from, text.len - from);
    buf_add(out, "\"", 1);
}

static void add_text_or_null(struct obx_buf *out, const char *name, const char *text)
{
    buf_add_text(out, name);
    if (*text == '\0')
        buf_add_text(out, "null");
    else
        add_string(out, bytes_of(text));
}

/* RFC 3339 in UTC with microseconds; 0 is none. */
static void add_time(struct obx_buf *out, const char *name, uint64_t us)
{
    const time_t seconds = (time_t)(us / 1000000);
    struct tm tm;

    buf_add_text(out, name);
    if (us == 0 || gmtime_r(&seconds, &tm) == NULL)
        buf_add_text(out, "null");
    else
        buf_addf(out, "\"%04d-%02d-%02dT%02d:%02d:%02d.%06uZ\"", tm.tm_year + 1900, tm.tm_mon + 1,
                 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned)(us % 1000000));
}

static void add_record_fields(struct obx_buf *out, struct obx_bytes gid,
                              const struct half_record *rec)
{
    buf_add_text(out, "\"gid\":");
    add_string(out, gid);
    buf_add_text(out, ",\"state\":\"");
    buf_add_text(out, half_state_name(rec->state));
    add_text_or_null(out, "\",\"producer\":", rec->producer);
    add_time(out, ",\"prepared_at\":", rec->prepared_us);
    add_time(out, ",\"decided_at\":", rec->decided_us);
    add_text_or_null(out, ",\"decided_by\":", rec->decided_by);
    add_time(out, ",\"next_check_at\":", rec->next_check_us);
    buf_addf(out, ",\"checks_asked\":%" PRIu32 ",\"checks_answered\":%" PRIu32, rec->checks_asked,
             rec->checks_answered);
    add_text_or_null(out, ",\"note\":", rec->note);
}

static void add_ids(struct obx_buf *out, const struct half_request *req, enum half_verdict on)
{
    const char *comma = "";

    for (size_t i = 0; i < req->id_count; i++) {
        if (req->ids[i].on != on)
            continue;
        buf_add_text(out, comma);
        add_string(out, bytes_of(req->ids[i].message_id));
        comma = ",";
    }
}

enum obx_code half_json_add_answer(struct obx_buf *out, const struct half_request *req)
{
    buf_add_text(out, "{");
    add_record_fields(out, req->gid, &req->rec);
    buf_add_text(out, req->is_repeat ? ",\"repeated\":true" : ",\"repeated\":false");
    if (req->id_count > 0) {
        buf_add_text(out, ",\"message_ids\":{\"commit\":[");
        add_ids(out, req, HALF_COMMIT);
        buf_add_text(out, "],\"rollback\":[");
        add_ids(out, req, HALF_ROLLBACK);
        buf_add_text(out, "]}");
    }
    return buf_add_text(out, "}");
}

enum obx_code half_json_add_accepted(struct obx_buf *out, struct obx_bytes gid,
                                     enum half_verdict verdict)
{
    buf_add_text(out, "{\"gid\":");
    add_string(out, gid);
    return buf_addf(out, ",\"state\":\"accepted\",\"verdict\":\"%s\"}", half_verdict_name(verdict));
}

enum obx_code half_json_add_list(struct obx_buf *out, const struct half_list *list)
{
    buf_add_text(out, "{\"items\":[");
    for (size_t i = 0; i < list->count; i++) {
        buf_add_text(out, i == 0 ? "{" : ",{");
        add_record_fields(out, bytes_of(list->items[i].gid), &list->items[i].rec);
        buf_add_text(out, "}");
    }
    add_text_or_null(out, "],\"next\":", list->next);
    return buf_add_text(out, "}");
}

enum obx_code half_json_add_error(struct obx_buf *out, const char *reason, const char *text,
                                  struct obx_bytes gid, const struct half_record *rec)
{
    buf_add_text(out, "{\"error\":{\"reason\":");
    add_string(out, bytes_of(reason));
    buf_add_text(out, ",\"message\":");
    add_string(out, bytes_of(text));
    buf_add_text(out, "}");
    if (rec != NULL) {
        buf_add_text(out, ",");
        add_record_fields(out, gid, rec);
    }
    return buf_add_text(out, "}");
}
