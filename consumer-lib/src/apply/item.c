/* Items and lists of them; see the header for who owns what. */
#include "item.h"

#include <stdio.h>
#include <string.h>

#include "api/message.h"
#include "api/settings.h"
#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"

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

void item_decide(struct item *item, enum item_outcome outcome, enum obx_code code, const char *text)
{
    item->outcome = outcome;
    item->why.code = code;
    item->why.sys = 0;
    snprintf(item->why.text, sizeof(item->why.text), "%s", text);
}

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

void item_list_push_front(struct item_list *list, struct item *item)
{
    item->next = list->head;
    list->head = item;
    if (list->tail == NULL)
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
