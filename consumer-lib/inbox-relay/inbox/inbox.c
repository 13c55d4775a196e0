/*
 * Putting one inbox together: consumer, handler, filer, wake-up. See inbox.h. The consumer is the
 * library's own, with its dedup, batches, parking and faults; what is added is a handler that stores
 * and two calls that only a part of the same build may have (core/embed.h).
 */
#include "inbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "core/embed.h"
#include "filer.h"
#include "store.h"
#include "wake.h"

enum { ID_TEXT = 24, DECIMAL = 10 };

struct inbox {
    struct inbox_opts opts;
    struct counts counts;
    struct waker *waker;
    struct filer *filer;
    struct store store;
    struct consumer_embed embed;
    struct obx_consumer *consumer;
    bool is_started, is_stopping;
};

static void batch_ended(void *ctx, unsigned worker, bool is_committed)
{
    struct inbox *inbox = ctx;

    store_batch_ended(&inbox->store, worker, is_committed);
}

static void stored_before(void *ctx, struct obx_bytes message_id, struct obx_bytes stored_id)
{
    struct inbox *inbox = ctx;
    char text[ID_TEXT];

    if (bytes_to_text(stored_id, text, sizeof(text)))
        filer_expect(inbox->filer, message_id, strtoull(text, NULL, DECIMAL));
}

static enum obx_code make(struct inbox *inbox, struct obx_err *err)
{
    const struct inbox_opts *opts = &inbox->opts;
    enum obx_code rc = waker_create(opts->wake, opts->wake_count, &inbox->waker, err);

    if (rc == OBX_OK)
        rc = filer_create(opts, &inbox->counts, inbox->waker, &inbox->filer, err);
    inbox->store = (struct store){
        .opts = opts, .counts = &inbox->counts, .filer = inbox->filer, .waker = inbox->waker};
    if (rc == OBX_OK)
        rc = store_init(&inbox->store, err);
    if (rc == OBX_OK)
        rc = obx_consumer_open(&opts->consumer, &inbox->consumer, err);
    if (rc == OBX_OK)
        rc = obx_consumer_subscribe(inbox->consumer, store_message, &inbox->store, err);
    if (rc == OBX_OK) {
        inbox->embed = (struct consumer_embed){
            .after_batch = batch_ended, .stored_before = stored_before, .ctx = inbox};
        consumer_embed(inbox->consumer, &inbox->embed);
    }
    return rc;
}

enum obx_code inbox_create(const struct inbox_opts *opts, struct inbox **out, struct obx_err *err)
{
    struct inbox *inbox = obx_calloc(1, sizeof(*inbox));
    enum obx_code rc;

    *out = NULL;
    if (inbox == NULL)
        return obx_fail(err, OBX_E_NOMEM, "inbox");
    inbox->opts = *opts;
    rc = make(inbox, err);
    if (rc != OBX_OK) {
        inbox_destroy(inbox);
        return rc;
    }
    *out = inbox;
    return OBX_OK;
}

enum obx_code inbox_start(struct inbox *inbox, struct obx_err *err)
{
    enum obx_code rc = filer_start(inbox->filer, err);

    if (rc == OBX_OK)
        rc = obx_consumer_start(inbox->consumer, err);
    inbox->is_started = rc == OBX_OK; /* or there is no state STOPPED to wait for */
    return rc;
}

/* The filer goes on while the consumer drains; it has nothing of its own to finish. */
void inbox_stop(struct inbox *inbox)
{
    obx_consumer_stop(inbox->consumer);
}

/* The filer goes last: receipts of what was done while the consumer drained are its work. */
bool inbox_has_ended(struct inbox *inbox)
{
    struct obx_consumer_stats stats = {0};

    obx_consumer_get_stats(inbox->consumer, &stats, sizeof(stats));
    if (inbox->is_started && stats.state != OBX_CONSUMER_STOPPED)
        return false;
    filer_stop(inbox->filer);
    return filer_has_ended(inbox->filer);
}

/* The consumer first: its workers call the store, and that the filer. */
void inbox_destroy(struct inbox *inbox)
{
    if (inbox == NULL)
        return;
    obx_consumer_close(inbox->consumer);
    filer_destroy(inbox->filer);
    store_fini(&inbox->store);
    waker_destroy(inbox->waker);
    obx_free(inbox);
}

const char *inbox_queue(const struct inbox *inbox)
{
    return inbox->opts.queue;
}

struct obx_consumer *inbox_consumer(struct inbox *inbox)
{
    return inbox->consumer;
}

void inbox_get_view(struct inbox *inbox, struct inbox_view *out)
{
    struct counts *counts = &inbox->counts;

#define COPY(member, metric, type, help) out->member = atomic_load(&counts->member);
    INBOX_NUMBERS(COPY)
#undef COPY
    /* The waker has no inbox: it belongs to those who ring it, store and filer. */
    out->wakes_refused = waker_refused(inbox->waker);
    out->oldest_ready_us = atomic_load(&counts->oldest_ready_us);
    out->is_connected = atomic_load(&counts->is_connected);
    filer_get_trouble(inbox->filer, out->trouble, sizeof(out->trouble));
}
