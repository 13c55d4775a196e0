/* Builds a dead letter. Headers of an earlier death (a replayed dead letter) are replaced by those
 * of this one. */
#include "dead_letter.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"

static const char *const own_names[] = {
    "x-obx-reason",          "x-obx-reason-code",       "x-obx-attempts",
    "x-obx-failed-at",       "x-obx-original-exchange", "x-obx-original-routing-key",
    "x-obx-original-queue",  "x-obx-consumer-group",    "x-obx-headers-dropped",
    "x-obx-first-failed-at",
};
#define OWN_COUNT (sizeof(own_names) / sizeof(own_names[0]))

static bool is_own(struct obx_bytes name)
{
    for (size_t i = 0; i < OWN_COUNT; i++) {
        if (bytes_is(name, own_names[i]))
            return true;
    }
    return false;
}

static void add_text(struct bridge_message *msg, struct obx_header *headers, const char *name,
                     struct obx_bytes text)
{
    headers[msg->header_count++] =
        (struct obx_header){.name = bytes_of(name), .type = OBX_H_TEXT, .v.text = text};
}

static void add_number(struct bridge_message *msg, struct obx_header *headers, const char *name,
                       int64_t number)
{
    headers[msg->header_count++] =
        (struct obx_header){.name = bytes_of(name), .type = OBX_H_I64, .v.i64 = number};
}

static void add_originals(struct dead_letter *letter, const struct bridge_message *original)
{
    for (size_t i = 0; i < original->header_count; i++) {
        if (!is_own(original->headers[i].name))
            letter->headers[letter->msg.header_count++] = original->headers[i];
    }
}

static void add_own(struct dead_letter *letter, const struct item *item,
                    const struct settings *settings)
{
    const struct bridge_message *original = &item->delivery->msg;
    struct bridge_message *msg = &letter->msg;
    struct obx_header *headers = letter->headers;

    add_text(msg, headers, "x-obx-reason", bytes_of(item->why.text));
    add_text(msg, headers, "x-obx-reason-code", bytes_of(obx_code_name(item->why.code)));
    add_number(msg, headers, "x-obx-attempts", item->attempts);
    add_text(msg, headers, "x-obx-failed-at", bytes_of(item->last_failed_at));
    add_text(msg, headers, "x-obx-first-failed-at", bytes_of(item->first_failed_at));
    add_text(msg, headers, "x-obx-original-exchange", original->exchange);
    add_text(msg, headers, "x-obx-original-routing-key", original->routing_key);
    add_text(msg, headers, "x-obx-original-queue", bytes_of(settings->queue));
    add_text(msg, headers, "x-obx-consumer-group", bytes_of(settings->group));
}

enum obx_code dead_letter_init(struct dead_letter *letter, const struct item *item,
                               const struct settings *settings, bool bare)
{
    const struct bridge_message *original = &item->delivery->msg;

    memset(letter, 0, sizeof(*letter));
    letter->headers = obx_calloc(original->header_count + OWN_COUNT, sizeof(*letter->headers));
    if (letter->headers == NULL)
        return OBX_E_NOMEM;
    letter->msg = *original;
    letter->msg.exchange = bytes_of(settings->dead_letter_exchange);
    letter->msg.routing_key = bytes_of(settings->dead_letter_queue);
    letter->msg.headers = letter->headers;
    letter->msg.header_count = 0;
    if (bare)
        add_number(&letter->msg, letter->headers, "x-obx-headers-dropped",
                   (int64_t)original->header_count);
    else
        add_originals(letter, original);
    add_own(letter, item, settings);
    return OBX_OK;
}

void dead_letter_fini(struct dead_letter *letter)
{
    obx_free(letter->headers);
    letter->headers = NULL;
}
