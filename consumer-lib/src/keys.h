/*
 * The ordering keys of one worker that wait: the head of each is being retried or dead-lettered,
 * and its followers queue behind it in order. Owned by the worker. Bounded by the prefetch window,
 * since each key has at least one delivery. The entries are inside the heads themselves, so that
 * holding a key cannot fail.
 */
#ifndef CONSUMER_KEYS_H
#define CONSUMER_KEYS_H

#include "item.h"

struct keys {
    struct item **buckets;
    size_t bucket_count;
    size_t held;
    size_t waiting; /* followers in all */
};

OBX_NODISCARD enum obx_code keys_init(struct keys *keys, struct obx_err *err);
/** Must hold no key. */
void keys_fini(struct keys *keys);
/** Make item the head of its key, which nobody holds. Nothing for an item without a key, or one
 * that holds it already. */
void keys_hold(struct keys *keys, struct item *item);
/** Queue item behind the head of its key and return true; false when its key does not wait or item
 * is that head. */
bool keys_queue_behind(struct keys *keys, struct item *item);
/** The head is done: free the key; its followers are appended to out in order. Nothing when item
 * holds no key. */
void keys_release(struct keys *keys, struct item *item, struct item_list *out);
/** Free all keys; all followers are appended to out. */
void keys_clear(struct keys *keys, struct item_list *out);

#endif
