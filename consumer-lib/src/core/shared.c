/*
 * What crosses the threads of a consumer, and nothing else does: mailboxes, last errors, and the
 * struct that holds them. Each is a value under a lock of its own; none is held while another one is
 * taken, so there is no order of locks to keep.
 */
#include "shared.h"

/* ------------------------------------------------------------------ mailboxes */

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
    if (was_empty) /* one wake-up for a burst */
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

/* ------------------------------------------------------------------ last errors */

enum obx_code last_error_init(struct last_error *last, struct obx_err *err)
{
    int failed = pthread_mutex_init(&last->lock, NULL);

    obx_err_clear(&last->err);
    return failed == 0 ? OBX_OK : obx_fail_sys(err, OBX_E_SYSTEM, failed, "mutex");
}

void last_error_fini(struct last_error *last)
{
    pthread_mutex_destroy(&last->lock);
}

void last_error_set(struct last_error *last, const struct obx_err *err)
{
    pthread_mutex_lock(&last->lock);
    if (err == NULL)
        obx_err_clear(&last->err);
    else
        last->err = *err;
    pthread_mutex_unlock(&last->lock);
}

void last_error_get(struct last_error *last, struct obx_err *out)
{
    pthread_mutex_lock(&last->lock);
    *out = last->err;
    pthread_mutex_unlock(&last->lock);
}

/* ------------------------------------------------------------------ the whole */

enum obx_code shared_init_take(struct shared *shared, struct settings *settings,
                               struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    shared->settings = *settings;
    *settings = (struct settings){0};
    atomic_store(&shared->drain_ms, shared->settings.drain_timeout_ms);
    rc = mailbox_init(&shared->to_io, err);
    if (rc != OBX_OK)
        goto no_mailbox;
    rc = last_error_init(&shared->broker, err);
    if (rc != OBX_OK)
        goto no_last_error;
    rc = wake_init(&shared->stop, err);
    if (rc != OBX_OK)
        goto no_wake;
    if (pthread_mutex_init(&shared->end_lock, NULL) == 0 &&
        pthread_cond_init(&shared->end_signal, NULL) == 0)
        return OBX_OK;
    rc = obx_fail(err, OBX_E_SYSTEM, "mutex");
    wake_fini(&shared->stop);
no_wake:
    last_error_fini(&shared->broker);
no_last_error:
    mailbox_fini(&shared->to_io);
no_mailbox:
    settings_fini(&shared->settings);
    return rc;
}

void shared_fini(struct shared *shared)
{
    pthread_cond_destroy(&shared->end_signal);
    pthread_mutex_destroy(&shared->end_lock);
    wake_fini(&shared->stop);
    last_error_fini(&shared->broker);
    mailbox_fini(&shared->to_io);
    settings_fini(&shared->settings);
}
