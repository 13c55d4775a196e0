/*
 * Reading receipts. See receipt_json.h.
 */
#include "receipt_json.h"

#include <jansson.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/json_bounds.h"

/* A report of ours has five members, so ten values and names; half as much again may be other
 * things. A million empty objects are not parsed. */
static const struct json_bounds bounds = {
    .bytes = RECEIPT_BODY_MAX, .depth = 8, .values = (size_t)RECEIPTS_IN_MESSAGE * 15};

static struct obx_bytes text_of(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    if (!json_is_string(value))
        return (struct obx_bytes){.p = NULL, .len = 0};
    return (struct obx_bytes){.p = json_string_value(value), .len = json_string_length(value)};
}

static bool is_name(struct obx_bytes text)
{
    const unsigned char *at = text.p;

    if (text.len == 0 || text.len > RECEIPT_ID_MAX)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (at[i] <= ' ' || at[i] > '~')
            return false;
    }
    return true;
}

/* Cut at a whole character: the bytes after the cut are not the middle of one. */
static struct obx_bytes cut(struct obx_bytes text)
{
    const unsigned char *at = text.p;

    if (text.len <= RECEIPT_REASON_MAX)
        return text;
    text.len = RECEIPT_REASON_MAX;
    while (text.len > 0 && (at[text.len] & 0xC0U) == 0x80U)
        text.len--;
    return text;
}

static bool read_one(const json_t *value, struct receipt *out)
{
    struct obx_bytes outcome = text_of(value, "outcome");

    *out = (struct receipt){.message_id = text_of(value, "message_id"),
                            .group = text_of(value, "group"),
                            .token = text_of(value, "token"),
                            .reason = cut(text_of(value, "reason")),
                            .is_rejected = bytes_is(outcome, "rejected")};
    return is_name(out->message_id) && is_name(out->group) && !bytes_is_absent(out->token) &&
           (out->is_rejected || bytes_is(outcome, "applied"));
}

static enum obx_code read_all(struct receipt_list *list, const json_t *array, struct obx_err *err)
{
    size_t count = json_array_size(array);

    if (count > RECEIPTS_IN_MESSAGE)
        return obx_fail(err, OBX_E_TOO_LARGE, "%zu receipts in one message", count);
    list->items = obx_calloc(count + 1, sizeof(*list->items));
    if (list->items == NULL)
        return obx_fail(err, OBX_E_NOMEM, "%zu receipts", count);
    for (size_t i = 0; i < count; i++) {
        if (read_one(json_array_get(array, i), &list->items[list->count]))
            list->count++;
        else
            list->malformed++;
    }
    return OBX_OK;
}

static void keep_text(char **to, struct obx_bytes *text)
{
    if (bytes_is_absent(*text))
        return;
    if (text->len > 0)
        memcpy(*to, text->p, text->len);
    text->p = *to;
    *to += text->len;
}

/* The tree goes when this returns; the reports stay. */
static enum obx_code keep_texts(struct receipt_list *list, struct obx_err *err)
{
    size_t size = 0;
    char *to = NULL;

    for (size_t i = 0; i < list->count; i++)
        size += list->items[i].message_id.len + list->items[i].group.len +
                list->items[i].token.len + list->items[i].reason.len;
    list->texts = to = obx_malloc(size + 1);
    if (to == NULL)
        return obx_fail(err, OBX_E_NOMEM, "%zu bytes of receipts", size);
    for (size_t i = 0; i < list->count; i++) {
        keep_text(&to, &list->items[i].message_id);
        keep_text(&to, &list->items[i].group);
        keep_text(&to, &list->items[i].token);
        keep_text(&to, &list->items[i].reason);
    }
    list->bytes = size + list->count * sizeof(*list->items);
    return OBX_OK;
}

enum obx_code receipt_list_read(struct receipt_list *list, struct obx_bytes body,
                                struct obx_err *err)
{
    json_error_t why = {0};
    json_t *root = NULL;
    enum obx_code rc = json_bounds_check(body, &bounds, err);

    memset(list, 0, sizeof(*list));
    if (rc != OBX_OK)
        return rc;
    root = json_loadb(body.p == NULL ? "" : body.p, body.len, JSON_REJECT_DUPLICATES, &why);
    if (root == NULL && json_error_code(&why) == json_error_out_of_memory)
        rc = obx_fail(err, OBX_E_NOMEM, "receipts");
    else if (root == NULL)
        rc = obx_fail(err, OBX_E_FORMAT, "receipts: %s at byte %d", why.text, why.position);
    else if (!json_is_array(json_object_get(root, "receipts")))
        rc = obx_fail(err, OBX_E_FORMAT, "receipts: there is no array \"receipts\"");
    else
        rc = read_all(list, json_object_get(root, "receipts"), err);
    if (rc == OBX_OK)
        rc = keep_texts(list, err);
    json_decref(root);
    if (rc != OBX_OK)
        receipt_list_fini(list);
    return rc;
}

void receipt_list_fini(struct receipt_list *list)
{
    obx_free(list->items);
    obx_free(list->texts);
    memset(list, 0, sizeof(*list));
}
