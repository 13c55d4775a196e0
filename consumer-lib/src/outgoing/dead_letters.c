/*
 * Dead letters: the original's properties and headers, and the x-obx- headers that say what
 * happened. Headers of an earlier death (of a replayed dead letter) are replaced by those of this
 * one.
 */
#include "dead_letters.h"

#include <string.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"

/* retry_cap_ms is for attempts at a message, and may be hours: a letter goes as soon as it can. */
enum { NOT_TAKEN_WAIT_MS = 100, TRY_CAP_MS = 30000 };

/* ------------------------------------------------------------------ the form of a letter */

struct letter {
    struct bridge_message msg;
    struct obx_header *headers; /* on the heap */
};

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

static void add(struct letter *letter, const char *name, struct obx_bytes text)
{
    letter->headers[letter->msg.header_count++] =
        (struct obx_header){.name = bytes_of(name), .type = OBX_H_TEXT, .v.text = text};
}

static void add_number(struct letter *letter, const char *name, int64_t number)
{
    letter->headers[letter->msg.header_count++] =
        (struct obx_header){.name = bytes_of(name), .type = OBX_H_I64, .v.i64 = number};
}

static void add_own(struct letter *letter, const struct item *item, const struct settings *settings)
{
    const struct bridge_message *original = &item->delivery->msg;

    add(letter, "x-obx-reason", bytes_of(item->why.text));
    add(letter, "x-obx-reason-code", bytes_of(obx_code_name(item->why.code)));
    add_number(letter, "x-obx-attempts", item->attempts);
    add(letter, "x-obx-failed-at", bytes_of(item->last_failed_at));
    add(letter, "x-obx-first-failed-at", bytes_of(item->first_failed_at));
    add(letter, "x-obx-original-exchange", original->exchange);
    add(letter, "x-obx-original-routing-key", original->routing_key);
    add(letter, "x-obx-original-queue", bytes_of(settings->queue));
    add(letter, "x-obx-consumer-group", bytes_of(settings->group));
}

/* bare: without the original's headers, for one whose headers do not fit a frame together with
 * ours. */
static enum obx_code send_letter(const struct item *item, const struct settings *settings,
                                 bool bare, struct bridge_publisher *publisher, uint64_t number,
                                 struct obx_err *err)
{
    const struct bridge_message *original = &item->delivery->msg;
    struct letter letter = {.msg = *original};
    enum obx_code rc = OBX_OK;

    letter.headers = obx_calloc(original->header_count + OWN_COUNT, sizeof(*letter.headers));
    if (letter.headers == NULL)
        return obx_fail(err, OBX_E_NOMEM, "dead letter");
    letter.msg.exchange = bytes_of(settings->dead_letter_exchange);
    letter.msg.routing_key = bytes_of(settings->dead_letter_queue);
    letter.msg.headers = letter.headers;
    letter.msg.header_count = 0;
    if (bare)
        add_number(&letter, "x-obx-headers-dropped", (int64_t)original->header_count);
    for (size_t i = 0; i < original->header_count && !bare; i++) {
        if (!is_own(original->headers[i].name))
            letter.headers[letter.msg.header_count++] = original->headers[i];
    }
    add_own(&letter, item, settings);
    rc = bridge_publisher_publish(publisher, &letter.msg, number, err);
    obx_free(letter.headers);
    return rc;
}

/* ------------------------------------------------------------------ on its way */

struct dead_letter {
    struct post post; /* its ctx is the struct dead_letters */
    struct item *item;
};

static struct dead_letter *letter_of(struct post *post)
{
    return (struct dead_letter *)(void *)post; /* its first member */
}

static void done(struct dead_letters *dead, struct item *item, enum item_state state)
{
    counters_sub(dead->counters, CNT_DEAD_LETTER_PENDING, 1);
    item_set(item, state);
    dead->on_done(item, dead->ctx);
}

static void try_later(struct dead_letters *dead, struct dead_letter *letter, const char *what,
                      const char *why)
{
    const uint32_t cap_ms = dead->settings->retry_cap_ms;
    const uint32_t wait_ms =
        backoff_nth_ms(dead->settings->retry_min_ms, cap_ms < TRY_CAP_MS ? cap_ms : TRY_CAP_MS,
                       ++letter->post.tries, random_u64());

    counters_add(dead->counters, CNT_DEAD_LETTER_FAILED, 1);
    OBX_LOG(LOG_LVL_WARN, "consumer", "dead_letter.failed", KV_STR("group", dead->settings->group),
            KV_STR("queue", dead->settings->dead_letter_queue),
            KV_BYTES("message_id", letter->item->msg.message_id), KV_STR("outcome", what),
            KV_STR("why", why != NULL ? why : ""), KV_U64("retry_ms", wait_ms));
    outgoing_add(dead->outgoing, &letter->post, clock_now_ms() + wait_ms);
}

/* Headers that fill a frame leave no room for ours: the body and the reason are worth more than
 * they are. */
static enum obx_code send(struct post *post, struct bridge_publisher *publisher,
                          struct obx_err *err)
{
    const struct dead_letters *dead = post->ctx;
    const struct item *item = letter_of(post)->item;
    enum obx_code rc = send_letter(item, dead->settings, false, publisher, post->number, err);

    if (obx_code_action(rc) == OBX_DO_PARK)
        rc = send_letter(item, dead->settings, true, publisher, post->number, err);
    return rc;
}

static void on_result(struct post *post, enum pub_outcome outcome, enum obx_code failed,
                      const char *why)
{
    struct dead_letters *dead = post->ctx;
    struct dead_letter *letter = letter_of(post);
    struct item *item = letter->item;
    const bool is_confirmed = outcome == PUB_CONFIRMED;

    if (is_confirmed || dead->is_ending) {
        obx_free(letter);
        counters_add(dead->counters, CNT_DEAD_LETTERED, is_confirmed);
        done(dead, item, is_confirmed ? ITEM_CONFIRMED : ITEM_DROPPED);
    } else if (failed == OBX_OK) {
        try_later(dead, letter, pub_outcome_name(outcome), why);
    } else if (obx_code_action(failed) == OBX_DO_PARK) {
        try_later(dead, letter, obx_code_name(failed), why);
    } else { /* the publisher takes no more for now */
        outgoing_add(dead->outgoing, post, clock_now_ms() + NOT_TAKEN_WAIT_MS);
    }
}

static const struct post_kind kind = {.send = send, .on_result = on_result};

void dead_letters_add(struct dead_letters *dead, struct item *item)
{
    struct dead_letter *letter = dead->is_ending ? NULL : obx_calloc(1, sizeof(*letter));

    counters_add(dead->counters, CNT_DEAD_LETTER_PENDING, 1);
    if (letter == NULL) {
        done(dead, item, ITEM_DROPPED);
        return;
    }
    letter->post = (struct post){.kind = &kind, .ctx = dead};
    letter->item = item;
    outgoing_add(dead->outgoing, &letter->post, clock_now_ms());
}

void dead_letters_drain(struct dead_letters *dead)
{
    dead->is_ending = true;
    outgoing_drop_others(dead->outgoing);
}
