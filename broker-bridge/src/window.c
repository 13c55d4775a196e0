/*
 * Owns the messages in flight of one channel, by delivery tag and in publish order.
 *
 * Slots are linked in publish order, which is tag order, and each also hangs in the bucket of its
 * tag, so a single ack or a return costs one look-up, a multiple ack costs what it settles, and a
 * message whose confirm is late holds up nobody: the others' slots are free again at once. Nothing
 * is allocated after window_init but the reason of a return. A message is known by its tag alone:
 * what its producer chose, the message id among it, may stand in any number of messages in flight.
 *
 * Invariants: count slots are linked from first to last with rising tags; each of them hangs in
 * exactly one bucket; the others are on the free list. A slot is unlinked before its settled
 * callback runs, so that the callback may push. Called by publisher.c.
 */
#include "window.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/crash.h"

#define NONE UINT32_MAX

enum {
    CAPACITY_MAX = 1 << 20,
    REPLY_NO_ROUTE = 312,
};

#define ROUTE_PRIME UINT64_C(0x9e3779b97f4a7c15) /* so that a/b and b/a differ */

/* What is known of a message before its confirm; decides the outcome. */
enum slot_mark { SLOT_SENT, SLOT_RETURNED, SLOT_DENIED, SLOT_REFUSED };

struct window_slot {
    uint64_t tag;
    uint64_t token;
    uint64_t sent_ms;
    uint64_t exchange_hash;
    uint64_t route_hash;
    uint64_t body_len;
    char *why;     /* of a return; owned */
    uint32_t next; /* in publish order, or of the free list */
    uint32_t previous;
    uint32_t bucket_next;
    uint16_t reply_code; /* of the return */
    uint8_t mark;        /* enum slot_mark */
};

enum obx_code window_init(struct window *window, uint32_t capacity, struct obx_err *err)
{
    uint32_t buckets = 1;

    memset(window, 0, sizeof(*window));
    if (capacity == 0 || capacity > CAPACITY_MAX)
        return obx_fail(err, OBX_E_INVALID, "publish window of %u messages", capacity);
    while (buckets < capacity)
        buckets *= 2;
    window->slots = obx_calloc(capacity, sizeof(*window->slots));
    window->buckets = obx_malloc(buckets * sizeof(*window->buckets));
    if (window->slots == NULL || window->buckets == NULL) {
        window_fini(window);
        return obx_fail(err, OBX_E_NOMEM, "publish window of %u messages", capacity);
    }
    memset(window->buckets, 0xff, buckets * sizeof(*window->buckets)); /* all NONE */
    window->bucket_mask = buckets - 1;
    window->capacity = capacity;
    window->first = window->last = NONE;
    window->next_tag = 1;
    for (uint32_t i = 0; i < capacity; i++)
        window->slots[i].next = i + 1 < capacity ? i + 1 : NONE; /* all are free: from 0 on */
    return OBX_OK;
}

void window_fini(struct window *window)
{
    for (uint32_t i = 0; window->slots != NULL && i < window->capacity; i++)
        obx_free(window->slots[i].why);
    obx_free(window->slots);
    obx_free(window->buckets);
    memset(window, 0, sizeof(*window));
}

uint32_t window_room(const struct window *window)
{
    return window->capacity - window->count;
}

uint64_t window_next_tag(const struct window *window)
{
    return window->next_tag;
}

uint64_t window_route_hash(struct obx_bytes exchange, struct obx_bytes routing_key)
{
    return bytes_hash(exchange) * ROUTE_PRIME ^ bytes_hash(routing_key);
}

static void link_last(struct window *window, uint32_t index)
{
    struct window_slot *slot = &window->slots[index];
    uint32_t *bucket = &window->buckets[slot->tag & window->bucket_mask];

    slot->next = NONE;
    slot->previous = window->last;
    if (window->last == NONE)
        window->first = index;
    else
        window->slots[window->last].next = index;
    window->last = index;
    slot->bucket_next = *bucket;
    *bucket = index;
    window->count++;
}

/* Takes a slot out of order and bucket and puts it on the free list. */
static void release(struct window *window, uint32_t index)
{
    struct window_slot *slot = &window->slots[index];
    uint32_t *at = &window->buckets[slot->tag & window->bucket_mask];

    while (*at != index)
        at = &window->slots[*at].bucket_next;
    *at = slot->bucket_next;
    if (slot->previous == NONE)
        window->first = slot->next;
    else
        window->slots[slot->previous].next = slot->next;
    if (slot->next == NONE)
        window->last = slot->previous;
    else
        window->slots[slot->next].previous = slot->previous;
    slot->next = window->free;
    window->free = index;
    window->count--;
}

enum obx_code window_push(struct window *window, const struct window_entry *entry)
{
    const uint32_t index = window->free;
    struct window_slot *slot;

    if (index == NONE)
        return OBX_E_FULL;
    slot = &window->slots[index];
    window->free = slot->next;
    slot->tag = window->next_tag++;
    slot->token = entry->token;
    slot->sent_ms = entry->now_ms;
    slot->exchange_hash = entry->exchange_hash;
    slot->route_hash = entry->route_hash;
    slot->body_len = entry->body_len;
    slot->reply_code = 0;
    slot->mark = SLOT_SENT;
    link_last(window, index);
    return OBX_OK;
}

void window_pop(struct window *window)
{
    OBX_ASSERT(window->last != NONE && window->slots[window->last].tag + 1 == window->next_tag);
    window->next_tag--;
    release(window, window->last);
}

static enum pub_outcome outcome_of(const struct window_slot *slot, enum pub_outcome otherwise)
{
    switch ((enum slot_mark)slot->mark) {
    case SLOT_RETURNED:
        return PUB_RETURNED;
    case SLOT_DENIED:
        return PUB_DENIED;
    case SLOT_REFUSED:
        return PUB_NACKED;
    case SLOT_SENT:
    default:
        return otherwise;
    }
}

/* The slot is free, and all invariants hold, before the owner hears of it. */
static void settle(struct window *window, uint32_t index, enum pub_outcome otherwise,
                   const char *why, window_settled_fn *settled, void *ctx)
{
    struct window_slot *slot = &window->slots[index];
    const uint64_t token = slot->token;
    const enum pub_outcome outcome = outcome_of(slot, otherwise);
    char *own_why = slot->why;

    slot->why = NULL;
    if (own_why != NULL)
        why = own_why;
    else if (slot->mark == SLOT_RETURNED && slot->reply_code == REPLY_NO_ROUTE)
        why = "312 NO_ROUTE: no queue is bound for the routing key";
    release(window, index);
    settled(token, outcome, why, ctx);
    obx_free(own_why);
}

static uint32_t find_tag(const struct window *window, uint64_t tag)
{
    uint32_t index = window->buckets[tag & window->bucket_mask];

    while (index != NONE && window->slots[index].tag != tag)
        index = window->slots[index].bucket_next;
    return index;
}

bool window_return(struct window *window, uint64_t tag, uint16_t reply_code, const char *why)
{
    const uint32_t index = find_tag(window, tag);
    struct window_slot *slot;

    if (index == NONE)
        return false;
    slot = &window->slots[index];
    slot->mark = SLOT_RETURNED;
    slot->reply_code = reply_code;
    if (slot->why == NULL && why != NULL)
        slot->why = obx_strdup(why); /* NULL when memory is out: then it is said in general words */
    return true;
}

uint32_t window_confirm(struct window *window, uint64_t tag, bool multiple, bool acked,
                        window_settled_fn *settled, void *ctx)
{
    const enum pub_outcome outcome = acked ? PUB_CONFIRMED : PUB_NACKED;
    const char *why = acked ? NULL : "basic.nack";
    uint32_t index = find_tag(window, tag);
    uint32_t count = 0;

    if (!multiple) {
        if (index == NONE)
            return 0;
        settle(window, index, outcome, why, settled, ctx);
        return 1;
    }
    if (tag == 0)
        tag = window->next_tag - 1; /* not UINT64_MAX: a callback may push while this goes on */
    for (; window->first != NONE && window->slots[window->first].tag <= tag; count++)
        settle(window, window->first, outcome, why, settled, ctx);
    return count;
}

uint32_t window_return_exchange(struct window *window, uint64_t exchange_hash, uint16_t reply_code)
{
    uint32_t count = 0;

    for (uint32_t i = window->first; i != NONE; i = window->slots[i].next) {
        struct window_slot *slot = &window->slots[i];

        if (slot->mark != SLOT_SENT || slot->exchange_hash != exchange_hash)
            continue;
        slot->mark = SLOT_RETURNED;
        slot->reply_code = reply_code;
        count++;
    }
    return count;
}

uint32_t window_deny_route(struct window *window, uint64_t route_hash)
{
    uint32_t count = 0;

    for (uint32_t i = window->first; i != NONE; i = window->slots[i].next) {
        struct window_slot *slot = &window->slots[i];

        if (slot->mark != SLOT_SENT || slot->route_hash != route_hash)
            continue;
        slot->mark = SLOT_DENIED;
        count++;
    }
    return count;
}

bool window_refuse_size(struct window *window, uint64_t body_len)
{
    for (uint32_t i = window->first; i != NONE; i = window->slots[i].next) {
        struct window_slot *slot = &window->slots[i];

        if (slot->mark == SLOT_SENT && slot->body_len == body_len) {
            slot->mark = SLOT_REFUSED;
            return true;
        }
    }
    return false;
}

void window_lose(struct window *window, const char *why, window_settled_fn *settled, void *ctx)
{
    while (window->first != NONE)
        settle(window, window->first, PUB_UNKNOWN, why, settled, ctx);
    window->next_tag = 1;
    window->floor_ms = 0;
}

uint64_t window_oldest_ms(const struct window *window)
{
    uint64_t sent_ms;

    if (window->first == NONE)
        return UINT64_MAX;
    sent_ms = window->slots[window->first].sent_ms;
    return sent_ms > window->floor_ms ? sent_ms : window->floor_ms;
}

void window_set_floor(struct window *window, uint64_t now_ms)
{
    window->floor_ms = now_ms;
}
