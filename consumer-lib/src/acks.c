/* The doubly linked list behind acks.h. */
#include "acks.h"

#include <stddef.h>

#include "base/crash.h"

void acks_add(struct acks *acks, struct item *item)
{
    item->ack = (struct item_ack){.prev = acks->tail, .linked = true};
    if (acks->tail == NULL)
        acks->head = item;
    else
        acks->tail->ack.next = item;
    acks->tail = item;
}

void acks_done(struct acks *acks, struct item *item)
{
    OBX_ASSERT(item->ack.linked && !item->ack.done);
    item->ack.done = true;
    acks->done_count++;
}

void acks_forget(struct acks *acks, struct item *item)
{
    if (!item->ack.linked)
        return;
    if (item->ack.prev == NULL)
        acks->head = item->ack.next;
    else
        item->ack.prev->ack.next = item->ack.next;
    if (item->ack.next == NULL)
        acks->tail = item->ack.prev;
    else
        item->ack.next->ack.prev = item->ack.prev;
    if (item->ack.done)
        acks->done_count--;
    item->ack = (struct item_ack){0};
}

void acks_reset(struct acks *acks, struct item_list *finished)
{
    while (acks->head != NULL) {
        struct item *item = acks->head;
        bool was_done = item->ack.done;

        acks_forget(acks, item);
        if (was_done)
            item_list_push(finished, item);
    }
}

uint64_t acks_take_run(struct acks *acks, struct item_list *finished)
{
    uint64_t tag = 0;

    while (acks->head != NULL && acks->head->ack.done) {
        struct item *item = acks->head;

        tag = item->delivery->tag;
        acks_forget(acks, item);
        item_list_push(finished, item);
    }
    return tag;
}

struct item *acks_take_one(struct acks *acks)
{
    if (acks->done_count == 0)
        return NULL;
    for (struct item *item = acks->head; item != NULL; item = item->ack.next) {
        if (item->ack.done) {
            acks_forget(acks, item);
            return item;
        }
    }
    return NULL;
}
