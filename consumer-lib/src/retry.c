/*
 * The attempt counts: a fixed set of entries in a hash table with chains, and a ring that says
 * which is the oldest. All memory is taken at the start, so that counting a failure cannot fail
 * itself. Message ids are kept as their hash and length: a collision, one in 2^64, would only mix
 * up two counts.
 */
#include "retry.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/bytes.h"

struct entry {
    uint64_t hash;
    size_t len; /* of the message id */
    uint32_t attempts;
    struct entry *chain;
    struct entry *older;
    struct entry *newer;
};

struct retry {
    pthread_mutex_t lock;
    struct retry_policy policy;
    atomic_size_t used;
    size_t capacity;
    size_t bucket_count;
    struct entry **buckets;
    struct entry *entries;
    struct entry *free;
    struct entry *oldest;
    struct entry *newest;
};

enum obx_code retry_create(const struct retry_policy *policy, size_t capacity, struct retry **out,
                           struct obx_err *err)
{
    struct retry *retry = obx_calloc(1, sizeof(*retry));

    *out = NULL;
    if (retry == NULL)
        return obx_fail(err, OBX_E_NOMEM, "retry table");
    retry->policy = *policy;
    retry->capacity = capacity;
    retry->bucket_count = capacity;
    retry->buckets = obx_calloc(retry->bucket_count, sizeof(struct entry *));
    retry->entries = obx_calloc(capacity, sizeof(struct entry));
    if (retry->buckets == NULL || retry->entries == NULL ||
        pthread_mutex_init(&retry->lock, NULL) != 0) {
        obx_free(retry->buckets);
        obx_free(retry->entries);
        obx_free(retry);
        return obx_fail(err, OBX_E_NOMEM, "retry table of %zu", capacity);
    }
    for (size_t i = 0; i < capacity; i++) {
        retry->entries[i].chain = retry->free;
        retry->free = &retry->entries[i];
    }
    *out = retry;
    return OBX_OK;
}

void retry_destroy(struct retry *retry)
{
    if (retry == NULL)
        return;
    pthread_mutex_destroy(&retry->lock);
    obx_free(retry->buckets);
    obx_free(retry->entries);
    obx_free(retry);
}

bool retry_is_empty(const struct retry *retry)
{
    return atomic_load_explicit(&retry->used, memory_order_relaxed) == 0;
}

static struct entry **bucket_of(struct retry *retry, uint64_t hash)
{
    return &retry->buckets[hash % retry->bucket_count];
}

static struct entry *find(struct retry *retry, uint64_t hash, size_t len)
{
    struct entry *entry = *bucket_of(retry, hash);

    while (entry != NULL && (entry->hash != hash || entry->len != len))
        entry = entry->chain;
    return entry;
}

static void unlink_age(struct retry *retry, struct entry *entry)
{
    if (entry->older == NULL)
        retry->oldest = entry->newer;
    else
        entry->older->newer = entry->newer;
    if (entry->newer == NULL)
        retry->newest = entry->older;
    else
        entry->newer->older = entry->older;
}

static void release(struct retry *retry, struct entry *entry)
{
    struct entry **at = bucket_of(retry, entry->hash);

    while (*at != entry)
        at = &(*at)->chain;
    *at = entry->chain;
    unlink_age(retry, entry);
    *entry = (struct entry){.chain = retry->free};
    retry->free = entry;
    atomic_fetch_sub_explicit(&retry->used, 1, memory_order_relaxed);
}

static struct entry *add(struct retry *retry, uint64_t hash, size_t len)
{
    struct entry **bucket = bucket_of(retry, hash);
    struct entry *entry = NULL;

    if (retry->free == NULL)
        release(retry, retry->oldest);
    entry = retry->free;
    retry->free = entry->chain;
    *entry = (struct entry){.hash = hash, .len = len, .chain = *bucket, .older = retry->newest};
    *bucket = entry;
    if (retry->newest == NULL)
        retry->oldest = entry;
    else
        retry->newest->newer = entry;
    retry->newest = entry;
    atomic_fetch_add_explicit(&retry->used, 1, memory_order_relaxed);
    return entry;
}

uint32_t retry_attempts(struct retry *retry, struct obx_bytes message_id)
{
    uint64_t hash = bytes_hash(message_id);
    const struct entry *entry = NULL;
    uint32_t attempts = 0;

    pthread_mutex_lock(&retry->lock);
    entry = find(retry, hash, message_id.len);
    if (entry != NULL)
        attempts = entry->attempts;
    pthread_mutex_unlock(&retry->lock);
    return attempts;
}

struct retry_decision retry_failed(struct retry *retry, struct obx_bytes message_id, uint32_t known)
{
    uint64_t hash = bytes_hash(message_id);
    struct retry_decision decision = {0};
    struct entry *entry = NULL;

    pthread_mutex_lock(&retry->lock);
    entry = find(retry, hash, message_id.len);
    if (entry == NULL)
        entry = add(retry, hash, message_id.len);
    if (entry->attempts < known)
        entry->attempts = known;
    decision.attempts = ++entry->attempts;
    pthread_mutex_unlock(&retry->lock);

    decision.is_over = decision.attempts >= retry->policy.max_attempts;
    decision.wait_ms =
        backoff_nth_ms(retry->policy.min_ms, retry->policy.cap_ms, decision.attempts, random_u64());
    return decision;
}

void retry_forget(struct retry *retry, struct obx_bytes message_id)
{
    uint64_t hash = bytes_hash(message_id);
    struct entry *entry = NULL;

    if (retry_is_empty(retry))
        return;
    pthread_mutex_lock(&retry->lock);
    entry = find(retry, hash, message_id.len);
    if (entry != NULL)
        release(retry, entry);
    pthread_mutex_unlock(&retry->lock);
}
