/*
 * The two sides of a delivery in the I/O thread: the worker that it goes to, and the order in which
 * the broker's deliveries are answered. See the header.
 */
#include "deliveries.h"

#include "base/alloc.h"
#include "base/crash.h"

/* ------------------------------------------------------------------ to whom it goes */

enum obx_code dispatch_init(struct dispatch *dispatch, unsigned count, struct obx_err *err)
{
    dispatch->count = count;
    dispatch->lanes = obx_calloc(count, sizeof(*dispatch->lanes));
    return dispatch->lanes != NULL ? OBX_OK : obx_fail(err, OBX_E_NOMEM, "%u workers", count);
}

void dispatch_fini(struct dispatch *dispatch)
{
    obx_free(dispatch->lanes);
    dispatch->lanes = NULL;
}

void dispatch_give(struct dispatch *dispatch, struct item *item)
{
    unsigned least = 0;

    for (unsigned i = 1; i < dispatch->count; i++) {
        if (dispatch->lanes[i].load < dispatch->lanes[least].load)
            least = i;
    }
    item->worker = item_has_key(item) ? (unsigned)(item->lane % dispatch->count) : least;
    dispatch->lanes[item->worker].load++;
    item_list_push(&dispatch->lanes[item->worker].out, item);
}

void dispatch_post(struct dispatch *dispatch)
{
    for (unsigned i = 0; i < dispatch->count; i++)
        mailbox_post(dispatch->lanes[i].box, &dispatch->lanes[i].out);
}

void dispatch_returned(struct dispatch *dispatch, const struct item *item)
{
    if (item->parked_id == 0)
        dispatch->lanes[item->worker].load--;
}

/* ------------------------------------------------------------------ when it is answered */

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
