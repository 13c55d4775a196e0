/* A list under a lock with a wake. The wake is called only when the list was empty: one wake-up for a
 * burst. */
#include "mailbox.h"

enum obx_code mailbox_init(struct mailbox *box, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;
    int failed = pthread_mutex_init(&box->lock, NULL);

    box->items = (struct item_list){0};
    if (failed != 0)
        return obx_fail_sys(err, OBX_E_SYSTEM, failed, "mutex");
    rc = wake_init(&box->wake, err);
    if (rc != OBX_OK)
        pthread_mutex_destroy(&box->lock);
    return rc;
}

void mailbox_fini(struct mailbox *box)
{
    wake_fini(&box->wake);
    pthread_mutex_destroy(&box->lock);
}

void mailbox_post(struct mailbox *box, struct item_list *items)
{
    bool was_empty = false;

    if (items->head == NULL)
        return;
    pthread_mutex_lock(&box->lock);
    was_empty = box->items.head == NULL;
    item_list_append(&box->items, items);
    pthread_mutex_unlock(&box->lock);
    if (was_empty)
        wake_up(&box->wake);
}

void mailbox_post_one(struct mailbox *box, struct item *item)
{
    struct item_list one = {0};

    item_list_push(&one, item);
    mailbox_post(box, &one);
}

void mailbox_take(struct mailbox *box, struct item_list *out)
{
    /* Clear the wake first: an item that comes in between rings again for nothing, none is slept
     * through. */
    (void)wake_clear(&box->wake);
    pthread_mutex_lock(&box->lock);
    item_list_append(out, &box->items);
    pthread_mutex_unlock(&box->lock);
}
