/* Builds a dead letter. Headers of an earlier death (a replayed dead letter) are replaced by those
 * of this one. */
#include "dead_letter.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/bytes.h"
#include "base/clock.h"

#define US_PER_S UINT64_C(1000000)

static const char *const own_names[] = {
    "x-obx-reason",         "x-obx-reason-code",       "x-obx-attempts",
    "x-obx-failed-at",      "x-obx-original-exchange", "x-obx-original-routing-key",
    "x-obx-original-queue", "x-obx-consumer-group",    "x-obx-headers-dropped",
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

static void add_text(struct bridge_message *msg, struct bridge_header *headers, const char *name,
                     struct obx_bytes text)
{
    headers[msg->header_count++] =
        (struct bridge_header){.name = bytes_of(name), .type = BRIDGE_H_TEXT, .v.text = text};
}

static void add_number(struct bridge_message *msg, struct bridge_header *headers, const char *name,
                       int64_t number)
{
    headers[msg->header_count++] =
        (struct bridge_header){.name = bytes_of(name), .type = BRIDGE_H_I64, .v.i64 = number};
}

/* This machine's clock: for people to read, nothing is decided by it. */
static void write_now(char *text, size_t size)
{
    uint64_t now = clock_wall_us();
    time_t seconds = (time_t)(now / US_PER_S);
    struct tm utc = {0};
    char date[32] = "";

    gmtime_r(&seconds, &utc);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text, size, "%s.%06" PRIu64 "Z", date, now % US_PER_S);
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
    struct bridge_header *headers = letter->headers;

    add_text(msg, headers, "x-obx-reason", bytes_of(item->why.text));
    add_text(msg, headers, "x-obx-reason-code", bytes_of(obx_code_name(item->why.code)));
    add_number(msg, headers, "x-obx-attempts", item->attempts);
    add_text(msg, headers, "x-obx-failed-at", bytes_of(letter->failed_at));
    add_text(msg, headers, "x-obx-original-exchange", original->exchange);
    add_text(msg, headers, "x-obx-original-routing-key", original->routing_key);
    add_text(msg, headers, "x-obx-original-queue", bytes_of(settings->queue));
    add_text(msg, headers, "x-obx-consumer-group", bytes_of(settings->group));
}

/* Without an id it could not be published, nor applied after a replay. */
static void ensure_id(struct dead_letter *letter)
{
    if (letter->msg.message_id.len > 0)
        return;
    snprintf(letter->made_id, sizeof(letter->made_id), "no-id-%016" PRIx64 "%016" PRIx64,
             random_u64(), random_u64());
    letter->msg.message_id = bytes_of(letter->made_id);
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
    ensure_id(letter);
    write_now(letter->failed_at, sizeof(letter->failed_at));
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
