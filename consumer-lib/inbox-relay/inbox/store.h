/*
 * The handler that stores messages: called by consumer-lib on its workers, inside their
 * transactions.
 */
#ifndef INBOX_STORE_H
#define INBOX_STORE_H

#include "base/bytes.h"
#include "counts.h"
#include "filer.h"
#include "inbox.h"
#include "wake.h"

struct store_notes;

struct store {
    const struct inbox_opts *opts; /* borrowed, like the rest */
    struct counts *counts;
    struct filer *filer;
    struct waker *waker;
    struct store_notes *notes; /* of each worker, which alone touches its own */
    unsigned workers;
};

OBX_NODISCARD enum obx_code store_init(struct store *store, struct obx_err *err);
void store_fini(struct store *store);
/** An obx_handler_fn; ctx is the store. */
enum obx_verdict store_message(const struct obx_message *msg, struct obx_tx *tx, void *ctx);
/** The after_batch of struct consumer_embed: the keys that were stored are to be looked at, the
 * service's workers to be woken. */
void store_batch_ended(void *ctx, unsigned worker, bool is_committed);

#endif
