/*
 * A pack becomes items, and an answer when all of them have got theirs. See packs.h.
 *
 * The messages share nothing with the pack's bytes, which are freed at once; what stands for it
 * keeps the tag that is to be acknowledged. A message that is dropped leaves the pack unanswered: the
 * broker delivers all of it again, and the others meet their dedup rows.
 */
#include "packs.h"

#include "base/alloc.h"
#include "base/crash.h"
#include "bridge/pack.h"

enum { US_PER_S = 1000000 };

static void free_items(struct item *pack, struct item_list *messages, struct counters *counters)
{
    struct item *item = NULL;

    while ((item = item_list_pop(messages)) != NULL)
        item_free(item, counters);
    if (pack != NULL)
        item_free(pack, counters);
}

/* Its epoch and tag, and nothing of what it has. */
static struct item *stand_for(const struct bridge_delivery *delivery, struct counters *counters)
{
    struct bridge_delivery *bare = obx_calloc(1, sizeof(*bare));
    struct item *pack = NULL;

    if (bare == NULL)
        return NULL;
    bare->epoch = delivery->epoch;
    bare->tag = delivery->tag;
    bare->memory_bytes = sizeof(*bare);
    if (item_create(bare, counters, &pack) != OBX_OK)
        bridge_delivery_free(bare);
    return pack;
}

/* events are taken, each by its item, and the array. */
static enum obx_code make_messages(struct bridge_delivery **events, size_t count, struct item *pack,
                                   struct item_list *messages, struct counters *counters)
{
    size_t made = 0;

    for (; pack != NULL && made < count; made++) {
        struct item *item = NULL;

        if (item_create(events[made], counters, &item) != OBX_OK)
            break;
        /* Sent alone, it would have had this from its time. */
        item->delivery->msg.timestamp_s = item->event_us / US_PER_S;
        item->pack = pack;
        item_list_push(messages, item);
    }
    for (size_t i = made; i < count; i++)
        bridge_delivery_free(events[i]);
    obx_free(events);
    return made == count ? OBX_OK : OBX_E_NOMEM;
}

enum obx_code packs_open(struct bridge_delivery *delivery, struct counters *counters,
                         struct item **pack, struct item_list *messages, struct obx_err *err)
{
    struct bridge_delivery **events = NULL;
    size_t count = 0;
    enum obx_code rc = pack_read(delivery, &events, &count, err);

    *pack = NULL;
    *messages = (struct item_list){0};
    if (rc != OBX_OK)
        return rc;
    *pack = stand_for(delivery, counters);
    if (make_messages(events, count, *pack, messages, counters) != OBX_OK) {
        free_items(*pack, messages, counters);
        *pack = NULL;
        return obx_fail(err, OBX_E_NOMEM, "pack of %zu messages", count);
    }
    (*pack)->messages = (uint32_t)count;
    (*pack)->messages_left = (uint32_t)count;
    bridge_delivery_free(delivery);
    return OBX_OK;
}

struct item *packs_leave(const struct item *message, bool is_dealt_with)
{
    struct item *pack = message->pack;

    OBX_ASSERT(pack->messages_left > 0);
    pack->is_incomplete = pack->is_incomplete || !is_dealt_with;
    return --pack->messages_left == 0 ? pack : NULL;
}
