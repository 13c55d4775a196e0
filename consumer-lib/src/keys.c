/* A hash table of the heads, chained through the items; grows by doubling while memory lasts. */
#include "keys.h"

#include "base/alloc.h"
#include "base/crash.h"

#define FIRST_BUCKETS 64

enum obx_code keys_init(struct keys *keys, struct obx_err *err)
{
    *keys = (struct keys){.bucket_count = FIRST_BUCKETS};
    keys->buckets = obx_calloc(keys->bucket_count, sizeof(struct item *));
    return keys->buckets != NULL ? OBX_OK : obx_fail(err, OBX_E_NOMEM, "waiting keys");
}

void keys_fini(struct keys *keys)
{
    OBX_ASSERT(keys->held == 0);
    obx_free(keys->buckets);
    keys->buckets = NULL;
}

static struct item **find(struct keys *keys, const struct item *item)
{
    struct item **at = &keys->buckets[item->key_hash % keys->bucket_count];

    while (*at != NULL && !item_same_key(*at, item))
        at = &(*at)->key_chain;
    return at;
}

/* Longer chains are slow but not wrong, so a failed allocation is no failure. */
static void grow(struct keys *keys)
{
    size_t count = keys->bucket_count * 2;
    struct item **buckets = obx_calloc(count, sizeof(struct item *));

    if (buckets == NULL)
        return;
    for (size_t i = 0; i < keys->bucket_count; i++) {
        while (keys->buckets[i] != NULL) {
            struct item *head = keys->buckets[i];
            struct item **to = &buckets[head->key_hash % count];

            keys->buckets[i] = head->key_chain;
            head->key_chain = *to;
            *to = head;
        }
    }
    obx_free(keys->buckets);
    keys->buckets = buckets;
    keys->bucket_count = count;
}

void keys_hold(struct keys *keys, struct item *item)
{
    struct item **at = NULL;

    if (!item_has_key(item) || item->holds_key)
        return;
    if (keys->held >= keys->bucket_count)
        grow(keys);
    at = find(keys, item);
    OBX_ASSERT(*at == NULL);
    *at = item;
    item->holds_key = true;
    item->key_chain = NULL;
    keys->held++;
}

bool keys_queue_behind(struct keys *keys, struct item *item)
{
    struct item *head = NULL;

    if (keys->held == 0 || !item_has_key(item) || item->holds_key)
        return false;
    head = *find(keys, item);
    if (head == NULL)
        return false;
    item_list_push(&head->followers, item);
    keys->waiting++;
    return true;
}

static void let_go(struct keys *keys, struct item **at, struct item_list *out)
{
    struct item *head = *at;

    *at = head->key_chain;
    head->key_chain = NULL;
    head->holds_key = false;
    keys->held--;
    keys->waiting -= head->followers.count;
    item_list_append(out, &head->followers);
}

void keys_release(struct keys *keys, struct item *item, struct item_list *out)
{
    if (item->holds_key)
        let_go(keys, find(keys, item), out);
}

void keys_clear(struct keys *keys, struct item_list *out)
{
    for (size_t i = 0; i < keys->bucket_count; i++) {
        while (keys->buckets[i] != NULL)
            let_go(keys, &keys->buckets[i], out);
    }
}
