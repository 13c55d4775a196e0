/*
 * Items: how one is made, the table of its states, what its message asks for, and lists. See the
 * header for who owns what.
 */
#include "item.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "bridge/pack.h"
#include "core/embed.h"
#include "core/message.h"
#include "core/settings.h"

#define FNV_BASIS UINT64_C(14695981039346656037)
#define FNV_PRIME UINT64_C(1099511628211)

/* FNV-1a, folded: kept in the database, so it must never change, and be the same everywhere. */
static uint32_t stable_hash(struct obx_bytes bytes)
{
    const unsigned char *p = bytes.p;
    uint64_t hash = FNV_BASIS;

    for (size_t i = 0; i < bytes.len; i++)
        hash = (hash ^ p[i]) * FNV_PRIME;
    return (uint32_t)(hash ^ (hash >> 32));
}

enum obx_code item_create(struct bridge_delivery *delivery, struct counters *counters,
                          struct item **out)
{
    struct item *item = obx_calloc(1, sizeof(*item));

    *out = item;
    if (item == NULL)
        return OBX_E_NOMEM;
    item->delivery = delivery;
    item->memory_bytes = delivery->memory_bytes + sizeof(*item);
    item->arrived_us = clock_now_us();
    item->event_us = message_read(&item->msg, delivery);
    item->lane = stable_hash(item_has_key(item) ? item->msg.ordering_key : item->msg.message_id);
    item->is_bad_pack = pack_is(&delivery->msg);
    item->wants_receipt = obx_message_header(&item->msg, "x-obx-receipt-to") != NULL;
    counters_add(counters, CNT_IN_FLIGHT, 1);
    counters_add(counters, CNT_IN_FLIGHT_BYTES, item->memory_bytes);
    return OBX_OK;
}

void item_free(struct item *item, struct counters *counters)
{
    counters_sub(counters, CNT_IN_FLIGHT, 1);
    counters_sub(counters, CNT_IN_FLIGHT_BYTES, item->memory_bytes);
    bridge_delivery_free(item->delivery);
    obx_free(item);
}

bool item_has_key(const struct item *item)
{
    return !bytes_is_absent(item->msg.ordering_key);
}

bool item_same_key(const struct item *a, const struct item *b)
{
    return item_has_key(a) && item_has_key(b) && a->lane == b->lane &&
           bytes_equal(a->msg.ordering_key, b->msg.ordering_key);
}

bool item_has_id(const struct item *item)
{
    return !bytes_is_absent(item->msg.message_id) &&
           item->msg.message_id.len <= SETTINGS_MESSAGE_ID_MAX;
}

void item_reason(struct item *item, enum obx_code code, const char *text)
{
    item->why.code = code;
    item->why.sys = 0;
    snprintf(item->why.text, sizeof(item->why.text), "%s", text);
}

uint32_t item_attempt(const struct item *item)
{
    return item->parked_id != 0 ? item->attempts : 1;
}

/* ------------------------------------------------------------------ states */

#define TO(state) (UINT32_C(1) << (state))
#define UNDECIDED TO(ITEM_READY)
/* A row that the database does not take leaves its message to the broker, whatever was decided. */
#define NO_ROW TO(ITEM_LEFT)
#define DECISIONS                                                                                  \
    (TO(ITEM_APPLIED) | TO(ITEM_DUPLICATE) | TO(ITEM_WAS_REJECTED) | TO(ITEM_FAILED) |             \
     TO(ITEM_EXHAUSTED) | TO(ITEM_REJECTED) | TO(ITEM_BLOCKED) | TO(ITEM_SUSPECT) |                \
     TO(ITEM_STALLED) | TO(ITEM_HELD) | TO(ITEM_HAS_ROW) | TO(ITEM_LEFT))

static const struct {
    const char *name;
    uint32_t next;
} states[ITEM_STATES] = {
    [ITEM_READY] = {"ready", DECISIONS | TO(ITEM_DROPPED) | TO(ITEM_LETTER)},
    [ITEM_APPLIED] = {"applied", UNDECIDED | TO(ITEM_DONE)},
    [ITEM_DUPLICATE] = {"duplicate", UNDECIDED | TO(ITEM_DONE)},
    [ITEM_WAS_REJECTED] = {"was_rejected", UNDECIDED | TO(ITEM_DEAD)},
    [ITEM_FAILED] = {"failed", UNDECIDED | NO_ROW | TO(ITEM_PARKED)},
    [ITEM_EXHAUSTED] = {"exhausted", UNDECIDED | NO_ROW | TO(ITEM_DEAD)},
    [ITEM_REJECTED] = {"rejected", UNDECIDED | NO_ROW | TO(ITEM_DEAD)},
    [ITEM_BLOCKED] = {"blocked", UNDECIDED | NO_ROW | TO(ITEM_PARKED)},
    [ITEM_SUSPECT] = {"suspect", UNDECIDED | NO_ROW | TO(ITEM_PARKED)},
    [ITEM_STALLED] = {"stalled", UNDECIDED | NO_ROW | TO(ITEM_PARKED)},
    [ITEM_HELD] = {"held", UNDECIDED | NO_ROW | TO(ITEM_PARKED)},
    [ITEM_HAS_ROW] = {"has_row", UNDECIDED | TO(ITEM_PARKED)},
    [ITEM_LEFT] = {"left", UNDECIDED | TO(ITEM_DROPPED)},
    [ITEM_DONE] = {"done", 0},
    [ITEM_DEAD] = {"dead", 0},
    [ITEM_PARKED] = {"parked", 0},
    [ITEM_DROPPED] = {"dropped", 0},
    [ITEM_LETTER] = {"letter", TO(ITEM_CONFIRMED) | TO(ITEM_DROPPED)},
    [ITEM_CONFIRMED] = {"confirmed", TO(ITEM_DROPPED)},
};

bool item_may_become(enum item_state from, enum item_state to)
{
    return (states[from].next & TO(to)) != 0;
}

const char *item_state_name(enum item_state state)
{
    return states[state].name;
}

/* Not logged: an item passes three of them, a hundred thousand times in some seconds. */
void item_set(struct item *item, enum item_state state)
{
    OBX_ASSERT(item_may_become(item->state, state));
    item->state = state;
}

enum item_state item_final(enum item_state decision)
{
    const uint32_t finals = TO(ITEM_DONE) | TO(ITEM_DEAD) | TO(ITEM_PARKED) | TO(ITEM_DROPPED);
    const uint32_t next = states[decision].next & finals;

    for (enum item_state final = ITEM_DONE; final <= ITEM_DROPPED; final++) {
        if (next == TO(final))
            return final;
    }
    return ITEM_READY; /* not a decision: READY itself, or what is final already */
}

/* ------------------------------------------------------------------ receipts */

enum {
    RECEIPT_ID_MAX = 64,      /* as the producer's column */
    RECEIPT_TOKEN_MAX = 2000, /* it holds the list of groups */
    RECEIPT_QUEUE_MAX = 255,
};

/* Consumers write to no other queue, whatever a message asks for. */
static const char queue_prefix[] = "rowpost.receipts.";

static struct obx_bytes header_text(const struct item *item, const char *name)
{
    const struct obx_header *header = obx_message_header(&item->msg, name);

    return header != NULL && header->type == OBX_H_TEXT ? header->v.text
                                                        : (struct obx_bytes){.p = NULL, .len = 0};
}

static bool is_printable(struct obx_bytes text, size_t max)
{
    const unsigned char *at = text.p;

    if (text.len == 0 || text.len > max)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (at[i] <= ' ' || at[i] > '~')
            return false;
    }
    return true;
}

static struct obx_bytes trim(const char *at, size_t len)
{
    while (len > 0 && *at == ' ') {
        at++;
        len--;
    }
    while (len > 0 && at[len - 1] == ' ')
        len--;
    return (struct obx_bytes){.p = at, .len = len};
}

/* "stock, mail" names this group. */
static bool names_group(struct obx_bytes list, const char *group)
{
    const char *at = list.p;
    size_t left = list.len;

    while (left > 0) {
        const char *comma = memchr(at, ',', left);
        size_t len = comma == NULL ? left : (size_t)(comma - at);

        if (bytes_is(trim(at, len), group))
            return true;
        at += comma == NULL ? len : len + 1;
        left -= comma == NULL ? len : len + 1;
    }
    return false;
}

struct obx_bytes item_receipt_queue(const struct item *item)
{
    return header_text(item, "x-obx-receipt-to");
}

struct obx_bytes item_receipt_token(const struct item *item)
{
    return header_text(item, "x-obx-receipt-token");
}

bool item_asks_receipt(const struct item *item, const char *group)
{
    const struct obx_bytes to = item_receipt_queue(item);

    return is_printable(to, RECEIPT_QUEUE_MAX) && to.len >= sizeof(queue_prefix) &&
           memcmp(to.p, queue_prefix, sizeof(queue_prefix) - 1) == 0 &&
           names_group(header_text(item, "x-obx-receipt-from"), group) &&
           is_printable(item_receipt_token(item), RECEIPT_TOKEN_MAX) &&
           is_printable(item->msg.message_id, RECEIPT_ID_MAX);
}

bool consumer_asks_receipt(const struct obx_message *msg, const char *group)
{
    const struct item item = {.msg = *msg}; /* all that is looked at */

    return item_asks_receipt(&item, group);
}

bool item_may_report_rejected(const struct item *item)
{
    return item->why.code != OBX_E_CONFLICT;
}

/* ------------------------------------------------------------------ lists */

void item_list_push(struct item_list *list, struct item *item)
{
    item->next = NULL;
    if (list->tail == NULL)
        list->head = item;
    else
        list->tail->next = item;
    list->tail = item;
    list->count++;
}

struct item *item_list_pop(struct item_list *list)
{
    struct item *item = list->head;

    if (item == NULL)
        return NULL;
    list->head = item->next;
    if (list->head == NULL)
        list->tail = NULL;
    list->count--;
    item->next = NULL;
    return item;
}

void item_list_append(struct item_list *to, struct item_list *from)
{
    if (from->head == NULL)
        return;
    if (to->tail == NULL)
        to->head = from->head;
    else
        to->tail->next = from->head;
    to->tail = from->tail;
    to->count += from->count;
    *from = (struct item_list){0};
}

void item_list_prepend(struct item_list *to, struct item_list *from)
{
    item_list_append(from, to);
    *to = *from;
    *from = (struct item_list){0};
}
