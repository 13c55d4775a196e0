/* The doubly linked list behind acks.h. */
#include "acks.h"

#include <stddef.h>

#include "base/crash.h"

void acks_add(struct acks *acks, struct item *item)
{
    item->ack = (struct item_ack){.prev = acks->tail, .state = ACK_OPEN};
    if (acks->tail == NULL)
        acks->head = item;
    else
        acks->tail->ack.next = item;
    acks->tail = item;
}

void acks_done(struct acks *acks, struct item *item)
{
    OBX_ASSERT(item->ack.state == ACK_OPEN);
    item->ack.state = ACK_DONE;
    acks->done_count++;
}

static void take_out(struct acks *acks, struct item *item)
{
    if (item->ack.prev == NULL)
        acks->head = item->ack.next;
    else
        item->ack.prev->ack.next = item->ack.next;
    if (item->ack.next == NULL)
        acks->tail = item->ack.prev;
    else
        item->ack.next->ack.prev = item->ack.prev;
    if (item->ack.state == ACK_DONE)
        acks->done_count--;
    item->ack = (struct item_ack){0};
}

void acks_forget(struct acks *acks, struct item *item)
{
    if (item->ack.state == ACK_UNLINKED)
        return;
    acks->has_holes = true;
    take_out(acks, item);
}

void acks_reset(struct acks *acks, struct item_list *finished)
{
    while (acks->head != NULL) {
        struct item *item = acks->head;
        const bool was_done = item->ack.state == ACK_DONE;

        take_out(acks, item);
        if (was_done)
            item_list_push(finished, item);
    }
    acks->has_holes = false;
}

uint64_t acks_take_run(struct acks *acks, struct item_list *finished)
{
    uint64_t tag = 0;

    if (acks->has_holes)
        return 0;
    while (acks->head != NULL && acks->head->ack.state == ACK_DONE) {
        struct item *item = acks->head;

        tag = item->delivery->tag;
        take_out(acks, item);
        item_list_push(finished, item);
    }
    return tag;
}

void acks_take_each(struct acks *acks, struct item_list *finished)
{
    struct item *item = acks->head;

    while (item != NULL && acks->done_count > 0) {
        struct item *next = item->ack.next;

        if (item->ack.state == ACK_DONE) {
            take_out(acks, item);
            item_list_push(finished, item);
        }
        item = next;
    }
}
