/*
 * Parsing and writing of the half-message API's JSON with jansson. Strict: a field that the
 * contract does not know is refused, because a misspelt one (`ordering_kye`) would otherwise be
 * dropped in silence.
 */
#include "half/half_json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <jansson.h>
#include <openssl/evp.h>

#include "base/alloc.h"
#include "lane/receipt_key.h"

#define RECEIPT_FROM_MAX 512
#define TOPIC_MAX        255 /* bytes: what the broker takes as a routing key */
#define KEY_MAX          255
#define MESSAGE_ID_MAX   64
#define CONTENT_MAX      255
#define FIRST_CHECK_MAX  (7LL * 24 * 3600 * 1000)

struct half_prepare {
    struct half_request req;
    struct half_part parts[HALF_PARTS_MAX];
    void *owned[HALF_PARTS_MAX * 2]; /* payloads and headers that were made here */
    size_t owned_count;
    json_t *root; /* the texts of the request live in here */
};

static enum obx_code refuse(struct half_refusal *refusal, int status, const char *reason,
                            const char *fmt, ...) OBX_PRINTF(4, 5);

static enum obx_code refuse(struct half_refusal *refusal, int status, const char *reason,
                            const char *fmt, ...)
{
    va_list va;

    refusal->status = status;
    refusal->reason = reason;
    va_start(va, fmt);
    vsnprintf(refusal->text, sizeof(refusal->text), fmt, va);
    va_end(va);
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

/* Every field of object must be in the NULL-ended list. */
static enum obx_code check_fields(json_t *object, const char *const *known,
                                  struct half_refusal *refusal)
{
    const char *name;
    json_t *value;

    json_object_foreach(object, name, value)
    {
        size_t i = 0;

        while (known[i] != NULL && strcmp(known[i], name) != 0)
            i++;
        if (known[i] == NULL)
            return refuse(refusal, 400, "unknown_field", "the field \"%.64s\" is not known", name);
    }
    return OBX_OK;
}

/* A string field: absent or null leaves *out absent; its length is checked in bytes. */
static enum obx_code read_text(json_t *object, const char *name, size_t max, bool is_required,
                               struct obx_bytes *out, struct half_refusal *refusal)
{
    json_t *value = json_object_get(object, name);

    if (value == NULL || json_is_null(value))
        return is_required ? refuse(refusal, 400, "missing_field", "\"%s\" is missing", name)
                           : OBX_OK;
    if (!json_is_string(value))
        return refuse(refusal, 400, "invalid_value", "\"%s\" must be a string", name);
    *out = (struct obx_bytes){json_string_value(value), json_string_length(value)};
    if (out->len == 0 || out->len > max)
        return refuse(refusal, 400, "invalid_value", "\"%s\" must have 1 to %zu bytes, has %zu",
                      name, max, out->len);
    if (memchr(out->p, '\0', out->len) != NULL)
        return refuse(refusal, 400, "invalid_value", "\"%s\" must not contain a NUL", name);
    return OBX_OK;
}

static void keep(struct half_prepare *prepare, void *owned)
{
    prepare->owned[prepare->owned_count++] = owned;
}

/* Compact text of a JSON value; kept by prepare. */
static enum obx_code keep_dump(struct half_prepare *prepare, json_t *value, struct obx_bytes *out,
                               struct half_refusal *refusal)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    char *copy = obx_strdup(text);

    free(text);
    if (copy == NULL)
        return refuse_memory(refusal);
    keep(prepare, copy);
    *out = bytes_of(copy);
    return OBX_OK;
}

static enum obx_code read_headers(struct half_prepare *prepare, json_t *object,
                                  struct half_part *part, struct half_refusal *refusal)
{
    json_t *headers = json_object_get(object, "headers");

    if (headers == NULL || json_is_null(headers))
        return OBX_OK;
    if (!json_is_object(headers))
        return refuse(refusal, 400, "invalid_value", "\"headers\" must be an object");
    return keep_dump(prepare, headers, &part->headers, refusal);
}

/* Standard base64 with padding. EVP_DecodeBlock counts the padding as bytes, so they are taken off
 * again. */
static enum obx_code keep_base64(struct half_prepare *prepare, json_t *value, struct obx_bytes *out,
                                 struct half_refusal *refusal)
{
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);
    size_t pad = len >= 1 && text[len - 1] == '=' ? (len >= 2 && text[len - 2] == '=' ? 2 : 1) : 0;
    unsigned char *bytes;
    int decoded;

    if (len % 4 != 0 || len > INT32_MAX)
        return refuse(refusal, 400, "invalid_value",
                      "\"payload_base64\" is not base64 with padding");
    bytes = obx_malloc(len / 4 * 3 + 1);
    if (bytes == NULL)
        return refuse_memory(refusal);
    keep(prepare, bytes);
    decoded = len == 0 ? 0 : EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)len);
    if (decoded < 0 || (size_t)decoded < pad || memchr(text, '=', len - pad) != NULL)
        return refuse(refusal, 400, "invalid_value",
                      "\"payload_base64\" is not base64 with padding");
    *out = (struct obx_bytes){bytes, (size_t)decoded - pad};
    return OBX_OK;
}

/* A string is its own bytes; any other JSON value is its compact text. */
static enum obx_code read_payload(struct half_prepare *prepare, json_t *object,
                                  struct half_part *part, struct half_refusal *refusal)
{
    json_t *plain = json_object_get(object, "payload");
    json_t *base64 = json_object_get(object, "payload_base64");

    if ((plain == NULL) == (base64 == NULL))
        return refuse(refusal, 400, plain == NULL ? "missing_field" : "invalid_value",
                      "give either \"payload\" or \"payload_base64\"");
    if (base64 != NULL && !json_is_string(base64))
        return refuse(refusal, 400, "invalid_value", "\"payload_base64\" must be a string");
    if (base64 != NULL)
        return keep_base64(prepare, base64, &part->payload, refusal);
    if (!json_is_string(plain))
        return keep_dump(prepare, plain, &part->payload, refusal);
    part->payload = (struct obx_bytes){json_string_value(plain), json_string_length(plain)};
    return OBX_OK;
}

/* What the outbox would park later is refused now. */
static enum obx_code read_receipts(json_t *object, struct half_part *part,
                                   struct half_refusal *refusal)
{
    struct receipt_groups groups;
    enum obx_code rc =
        read_text(object, "receipt_from", RECEIPT_FROM_MAX, false, &part->receipt_from, refusal);

    if (rc == OBX_OK)
        rc = read_text(object, "on_rejected", TOPIC_MAX, false, &part->on_rejected, refusal);
    if (rc != OBX_OK || bytes_is_absent(part->receipt_from) ||
        receipt_groups_parse(part->receipt_from, &groups))
        return rc;
    return refuse(refusal, 400, "invalid_value",
                  "\"receipt_from\" must be 1 to %d names of consumer groups with commas between",
                  (int)RECEIPT_GROUPS_MAX);
}

static enum obx_code read_part(struct half_prepare *prepare, json_t *object, enum half_verdict on,
                               struct half_refusal *refusal)
{
    static const char *const known[] = {"message_id",   "topic",   "ordering_key",   "headers",
                                        "content_type", "payload", "payload_base64", "receipt_from",
                                        "on_rejected",  NULL};
    struct half_part *part = &prepare->parts[prepare->req.part_count];
    enum obx_code rc;

    if (prepare->req.part_count == HALF_PARTS_MAX)
        return refuse(refusal, 400, "invalid_value", "more than %d messages", HALF_PARTS_MAX);
    if (!json_is_object(object))
        return refuse(refusal, 400, "invalid_value", "each message must be an object");
    part->on = on;
    rc = check_fields(object, known, refusal);
    if (rc == OBX_OK)
        rc = read_text(object, "message_id", MESSAGE_ID_MAX, false, &part->message_id, refusal);
    if (rc == OBX_OK)
        rc = read_text(object, "topic", TOPIC_MAX, true, &part->topic, refusal);
    if (rc == OBX_OK)
        rc = read_text(object, "ordering_key", KEY_MAX, false, &part->ordering_key, refusal);
    if (rc == OBX_OK)
        rc = read_text(object, "content_type", CONTENT_MAX, false, &part->content_type, refusal);
    if (rc == OBX_OK)
        rc = read_receipts(object, part, refusal);
    if (rc == OBX_OK)
        rc = read_headers(prepare, object, part, refusal);
    if (rc == OBX_OK)
        rc = read_payload(prepare, object, part, refusal);
    if (rc == OBX_OK && !bytes_is_absent(part->message_id) &&
        !is_word(part->message_id, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", MESSAGE_ID_MAX))
        return refuse(refusal, 400, "invalid_value",
                      "\"message_id\" must be printable ASCII without blanks");
    if (rc == OBX_OK)
        prepare->req.part_count++;
    return rc;
}

static enum obx_code read_parts(struct half_prepare *prepare, enum half_verdict on,
                                struct half_refusal *refusal)
{
    json_t *list = json_object_get(prepare->root, half_verdict_name(on));

    if (list == NULL || json_is_null(list))
        return OBX_OK;
    if (!json_is_array(list))
        return refuse(refusal, 400, "invalid_value", "\"%s\" must be a list of messages",
                      half_verdict_name(on));
    for (size_t i = 0; i < json_array_size(list); i++) {
        enum obx_code rc = read_part(prepare, json_array_get(list, i), on, refusal);

        if (rc != OBX_OK)
            return rc;
    }
    return OBX_OK;
}

static enum obx_code read_first_check(struct half_prepare *prepare, uint32_t def,
                                      struct half_refusal *refusal)
{
    json_t *value = json_object_get(prepare->root, "first_check_ms");

    prepare->req.first_check_ms = def;
    if (value == NULL || json_is_null(value))
        return OBX_OK;
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > FIRST_CHECK_MAX)
        return refuse(refusal, 400, "invalid_value", "\"first_check_ms\" must be 0 to %lld",
                      FIRST_CHECK_MAX);
    prepare->req.first_check_ms = (uint32_t)json_integer_value(value);
    return OBX_OK;
}

/* Length before content, so that no two contents have one text. */
static bool digest_bytes(EVP_MD_CTX *ctx, struct obx_bytes b)
{
    uint64_t len = bytes_is_absent(b) ? UINT64_MAX : b.len;

    return EVP_DigestUpdate(ctx, &len, sizeof(len)) == 1 &&
           (b.len == 0 || EVP_DigestUpdate(ctx, b.p, b.len) == 1);
}

/* Only what is there, so that the digests of others are what they were before receipts. No other
 * member's place begins with this word. */
static bool digest_receipts(EVP_MD_CTX *ctx, const struct half_part *part)
{
    if (bytes_is_absent(part->receipt_from) && bytes_is_absent(part->on_rejected))
        return true;
    return digest_bytes(ctx, bytes_of("receipts")) && digest_bytes(ctx, part->receipt_from) &&
           digest_bytes(ctx, part->on_rejected);
}

static bool digest_part(EVP_MD_CTX *ctx, const struct half_part *part)
{
    return digest_bytes(ctx, bytes_of(half_verdict_name(part->on))) &&
           digest_bytes(ctx, part->message_id) && digest_bytes(ctx, part->topic) &&
           digest_bytes(ctx, part->ordering_key) && digest_bytes(ctx, part->headers) &&
           digest_bytes(ctx, part->content_type) && digest_bytes(ctx, part->payload) &&
           digest_receipts(ctx, part);
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

static enum obx_code read_prepare(struct half_prepare *prepare, uint32_t def,
                                  struct half_refusal *refusal)
{
    static const char *const known[] = {"gid",    "producer", "first_check_ms",
                                        "commit", "rollback", NULL};
    struct half_request *req = &prepare->req;
    enum obx_code rc = check_fields(prepare->root, known, refusal);

    req->kind = HALF_REQ_PREPARE;
    req->parts = prepare->parts;
    if (rc == OBX_OK)
        rc = read_text(prepare->root, "gid", HALF_GID_MAX, true, &req->gid, refusal);
    if (rc == OBX_OK && !half_gid_is_valid(req->gid))
        rc = refuse(refusal, 400, "invalid_value", "\"gid\" may have letters, digits and -._:~");
    if (rc == OBX_OK)
        rc = read_text(prepare->root, "producer", HALF_PRODUCER_MAX, true, &req->producer, refusal);
    if (rc == OBX_OK && !half_producer_is_valid(req->producer))
        rc = refuse(refusal, 400, "invalid_value", "\"producer\" may have letters, digits and -._");
    if (rc == OBX_OK)
        rc = read_first_check(prepare, def, refusal);
    if (rc == OBX_OK)
        rc = read_parts(prepare, HALF_COMMIT, refusal);
    if (rc == OBX_OK)
        rc = read_parts(prepare, HALF_ROLLBACK, refusal);
    if (rc == OBX_OK && req->part_count == 0)
        rc = refuse(refusal, 400, "missing_field",
                    "no message: give \"commit\", \"rollback\" or both");
    return rc == OBX_OK ? make_digest(req, refusal) : rc;
}

enum obx_code half_json_parse_prepare(struct obx_bytes body, uint32_t default_first_check_ms,
                                      struct half_prepare **out, struct half_refusal *refusal)
{
    struct half_prepare *prepare = obx_calloc(1, sizeof(*prepare));
    json_error_t why;
    enum obx_code rc;

    *out = NULL;
    if (prepare == NULL)
        return refuse_memory(refusal);
    prepare->root = json_loadb(body.p, body.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (prepare->root == NULL)
        rc = refuse(refusal, 400, "bad_json", "line %d column %d: %.160s", why.line, why.column,
                    why.text);
    else if (!json_is_object(prepare->root))
        rc = refuse(refusal, 400, "bad_json", "the body must be an object");
    else
        rc = read_prepare(prepare, default_first_check_ms, refusal);
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
    for (size_t i = 0; i < prepare->owned_count; i++)
        obx_free(prepare->owned[i]);
    json_decref(prepare->root);
    obx_free(prepare);
}

/* Answers */

/* RFC 3339 in UTC with microseconds. */
static json_t *json_time(uint64_t us)
{
    time_t seconds = (time_t)(us / 1000000);
    char text[48];
    size_t len;
    struct tm tm;

    if (us == 0 || gmtime_r(&seconds, &tm) == NULL)
        return json_null();
    len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + len, sizeof(text) - len, ".%06" PRIu64 "Z", us % 1000000);
    return json_string(text);
}

static json_t *json_text_or_null(const char *text)
{
    return *text == '\0' ? json_null() : json_string(text);
}

static void add_record_fields(json_t *object, struct obx_bytes gid, const struct half_record *rec)
{
    json_object_set_new(object, "gid", json_stringn(gid.p, gid.len));
    json_object_set_new(object, "state", json_string(half_state_name(rec->state)));
    json_object_set_new(object, "producer", json_text_or_null(rec->producer));
    json_object_set_new(object, "prepared_at", json_time(rec->prepared_us));
    json_object_set_new(object, "decided_at", json_time(rec->decided_us));
    json_object_set_new(object, "decided_by", json_text_or_null(rec->decided_by));
    json_object_set_new(object, "next_check_at", json_time(rec->next_check_us));
    json_object_set_new(object, "checks_asked", json_integer(rec->checks_asked));
    json_object_set_new(object, "checks_answered", json_integer(rec->checks_answered));
    json_object_set_new(object, "note", json_text_or_null(rec->note));
}

static enum obx_code add_dump(struct obx_buf *out, json_t *object)
{
    char *text = object == NULL ? NULL : json_dumps(object, JSON_COMPACT);
    enum obx_code rc = text == NULL ? OBX_E_NOMEM : buf_add_text(out, text);

    free(text);
    json_decref(object);
    return rc;
}

enum obx_code half_json_add_record(struct obx_buf *out, struct obx_bytes gid,
                                   const struct half_record *rec, bool is_repeat)
{
    json_t *object = json_object();

    add_record_fields(object, gid, rec);
    json_object_set_new(object, "repeated", json_boolean(is_repeat));
    return add_dump(out, object);
}

enum obx_code half_json_add_list(struct obx_buf *out, const struct half_list *list)
{
    json_t *root = json_object();
    json_t *items = json_array();
    const char *last = list->count == 0 ? NULL : list->items[list->count - 1].gid;

    for (size_t i = 0; i < list->count; i++) {
        json_t *object = json_object();

        add_record_fields(object, bytes_of(list->items[i].gid), &list->items[i].rec);
        json_array_append_new(items, object);
    }
    json_object_set_new(root, "items", items);
    json_object_set_new(root, "next", list->has_more ? json_string(last) : json_null());
    return add_dump(out, root);
}

enum obx_code half_json_add_error(struct obx_buf *out, const char *reason, const char *text,
                                  struct obx_bytes gid, const struct half_record *rec)
{
    json_t *object = json_object();
    json_t *error = json_object();

    json_object_set_new(error, "reason", json_string(reason));
    json_object_set_new(error, "message", json_string(text));
    json_object_set_new(object, "error", error);
    if (rec != NULL)
        add_record_fields(object, gid, rec);
    return add_dump(out, object);
}
