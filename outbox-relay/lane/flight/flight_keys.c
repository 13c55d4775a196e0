/*
 * The ordering keys and the topic throttles of the flight table: hash maps, and which of them wait for
 * a rescan.
 *
 * A key or throttle is freed when no row needs it, unless rows of it were passed over: then it stays,
 * empty, until a rescan has taken them in. The number of empty ones is bounded; beyond it
 * has_untracked stands in for them. Called by flight.c only.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "flight_private.h"

enum { KEY_BUCKETS_MIN = 1024 };

/* Sizes are powers of two, so that a mask finds the bucket; the table never shrinks, because a
 * backlog that came once comes again. */
enum obx_code keys_init(struct flight *flight)
{
    flight->keys = obx_calloc(KEY_BUCKETS_MIN, sizeof(struct flight_key *));
    if (flight->keys == NULL)
        return OBX_E_NOMEM;
    flight->key_buckets = KEY_BUCKETS_MIN;
    return OBX_OK;
}

/* The hash is compared first: names are long, and most that share a bucket differ in it. */
static struct flight_key *find_hashed(const struct flight *flight, struct obx_bytes name,
                                      uint64_t hash)
{
    struct flight_key *key = flight->keys[hash & (flight->key_buckets - 1)];

    while (key != NULL && (key->hash != hash || key->name_len != name.len ||
                           memcmp(key->name, name.p, name.len) != 0))
        key = key->hash_next;
    return key;
}

struct flight_key *keys_find(const struct flight *flight, struct obx_bytes name)
{
    return name.p == NULL ? NULL : find_hashed(flight, name, bytes_hash(name));
}

/* Without memory for a larger table the chains get longer, nothing else. */
static void grow(struct flight *flight)
{
    size_t buckets = flight->key_buckets * 2;
    struct flight_key **keys = obx_calloc(buckets, sizeof(struct flight_key *));

    if (keys == NULL)
        return;
    for (size_t i = 0; i < flight->key_buckets; i++) {
        struct flight_key *key = flight->keys[i];

        while (key != NULL) {
            struct flight_key *next = key->hash_next;

            key->hash_next = keys[key->hash & (buckets - 1)];
            keys[key->hash & (buckets - 1)] = key;
            key = next;
        }
    }
    obx_free(flight->keys);
    flight->keys = keys;
    flight->key_buckets = buckets;
}

struct flight_key *keys_get(struct flight *flight, struct obx_bytes name)
{
    uint64_t hash = bytes_hash(name);
    struct flight_key *key = find_hashed(flight, name, hash);

    if (key != NULL)
        return key;
    if (flight->key_count >= flight->key_buckets)
        grow(flight);
    key = obx_calloc(1, sizeof(*key) + name.len);
    if (key == NULL)
        return NULL;
    key->hash = hash;
    key->name_len = name.len;
    if (name.len > 0)
        memcpy(key->name, name.p, name.len);
    key->hash_next = flight->keys[hash & (flight->key_buckets - 1)];
    flight->keys[hash & (flight->key_buckets - 1)] = key;
    flight->key_count++;
    flight->empty_keys++;
    flight->rescan_keys[0]++;
    return key;
}

/* Rows come mostly in id order, so the place is looked for from the end. */
void keys_link(struct flight *flight, struct flight_key *key, struct flight_row *row)
{
    struct flight_row *before = key->tail;

    if (key->head == NULL)
        flight->empty_keys--;
    while (before != NULL && before->id > row->id)
        before = before->key_prev;
    row->key = key;
    row->key_prev = before;
    row->key_next = before == NULL ? key->head : before->key_next;
    if (row->key_next == NULL)
        key->tail = row;
    else
        row->key_next->key_prev = row;
    if (before == NULL)
        key->head = row;
    else
        before->key_next = row;
}

void keys_unlink(struct flight *flight, struct flight_row *row)
{
    struct flight_key *key = row->key;

    if (row->key_prev == NULL)
        key->head = row->key_next;
    else
        row->key_prev->key_next = row->key_next;
    if (row->key_next == NULL)
        key->tail = row->key_prev;
    else
        row->key_next->key_prev = row->key_prev;
    row->key_prev = NULL;
    row->key_next = NULL;
    row->key = NULL;
    if (key->head == NULL)
        flight->empty_keys++;
}

/* Only a key without rows, marks and evicted rows: a row that points to it would be left with nothing. */
static void free_key(struct flight *flight, struct flight_key *key)
{
    struct flight_key **at = &flight->keys[key->hash & (flight->key_buckets - 1)];

    while (*at != key)
        at = &(*at)->hash_next;
    *at = key->hash_next;
    flight->key_count--;
    flight->empty_keys--;
    flight->rescan_keys[key->rescan_level]--;
    obx_free(key);
}

/* Not at the first free place: a rescan reads everything from the lowest row that was passed over,
 * which pays only when half of what waited then is gone. */
static uint8_t rescan_level(const struct flight_key *key)
{
    if (key->passed_in == 0)
        return 0;
    if (key->head == NULL)
        return 2;
    return key->waiting * 2 <= key->full_at;
}

/* Beyond the bound the mark of the key is given up for one that says "somewhere": a rescan then is
 * made for all of them. */
void keys_refresh(struct flight *flight, struct flight_key *key)
{
    if (key->head == NULL && key->passed_in != 0 &&
        flight->empty_keys > flight->opts.max_empty_keys) {
        flight->has_untracked = true;
        key->passed_in = 0;
    }
    if (key->head == NULL && key->passed_in == 0 && key->evicted == 0) {
        free_key(flight, key);
        return;
    }
    flight->rescan_keys[key->rescan_level]--;
    key->rescan_level = rescan_level(key);
    flight->rescan_keys[key->rescan_level]++;
}

void keys_note_passed_over(struct flight *flight, struct flight_key *key)
{
    key->passed_in = flight->rescan;
    key->full_at = key->waiting;
    keys_refresh(flight, key);
}

void keys_clear(struct flight *flight)
{
    for (size_t i = 0; i < flight->key_buckets; i++) {
        while (flight->keys[i] != NULL) {
            struct flight_key *key = flight->keys[i];

            flight->keys[i] = key->hash_next;
            obx_free(key);
        }
    }
    flight->key_count = 0;
    flight->empty_keys = 0;
    memset(flight->rescan_keys, 0, sizeof(flight->rescan_keys));
}

struct flight_throttle *throttles_find(const struct flight *flight, uint64_t hash)
{
    struct flight_throttle *throttle = flight->throttles[hash % THROTTLE_BUCKETS];

    while (throttle != NULL && throttle->hash != hash)
        throttle = throttle->hash_next;
    return throttle;
}

struct flight_throttle *throttles_get(struct flight *flight, uint64_t hash)
{
    struct flight_throttle *throttle = throttles_find(flight, hash);

    if (throttle != NULL)
        return throttle;
    throttle = obx_calloc(1, sizeof(*throttle));
    if (throttle == NULL)
        return NULL;
    throttle->hash = hash;
    throttle->gen = ++flight->throttle_gens;
    throttle->hash_next = flight->throttles[hash % THROTTLE_BUCKETS];
    flight->throttles[hash % THROTTLE_BUCKETS] = throttle;
    flight->throttle_count++;
    return throttle;
}

/* Rows on their way count as refused ones, or a topic that refuses everything would take in a whole
 * window before the first answer. */
bool throttles_is_closed(const struct flight *flight, const struct flight_throttle *throttle)
{
    if (throttle == NULL)
        return false;
    if (throttle->retrying + throttle->active >= flight->opts.max_topic_retrying)
        return true;
    return (throttle->retrying > 0 || throttle->is_shut) && flight->retrying_was_full;
}

static void free_throttle(struct flight *flight, struct flight_throttle *throttle)
{
    struct flight_throttle **at = &flight->throttles[throttle->hash % THROTTLE_BUCKETS];

    while (*at != throttle)
        at = &(*at)->hash_next;
    *at = throttle->hash_next;
    flight->throttle_count--;
    if (throttle->wants_rescan)
        flight->rescan_throttles--;
    obx_free(throttle);
}

void throttles_refresh(struct flight *flight, struct flight_throttle *throttle)
{
    uint32_t busy = throttle->retrying + throttle->active;
    bool wants_rescan = false;

    if (busy == 0 && throttle->passed_in != 0 &&
        flight->throttle_count > flight->opts.max_empty_keys) {
        flight->has_untracked = true;
        throttle->passed_in = 0;
    }
    if (busy == 0 && throttle->passed_in == 0) {
        free_throttle(flight, throttle);
        return;
    }
    wants_rescan = throttle->passed_in != 0 && busy * 2 <= flight->opts.max_topic_retrying;
    if (wants_rescan != throttle->wants_rescan)
        flight->rescan_throttles =
            wants_rescan ? flight->rescan_throttles + 1 : flight->rescan_throttles - 1;
    throttle->wants_rescan = wants_rescan;
}

void throttles_note_passed_over(struct flight *flight, struct flight_throttle *throttle)
{
    throttle->passed_in = flight->rescan;
    throttles_refresh(flight, throttle);
}

void throttles_enter(struct flight *flight, struct flight_throttle *throttle,
                     struct flight_row *row)
{
    if (throttle == NULL)
        return;
    row->throttle_gen = throttle->gen;
    throttle->active++;
    throttles_refresh(flight, throttle);
}

/* A generation that has ended meanwhile counts the row no more. */
void throttles_leave(struct flight *flight, struct flight_row *row)
{
    struct flight_throttle *throttle =
        row->throttle_gen == 0 ? NULL : throttles_find(flight, row->topic_hash);

    if (throttle != NULL && throttle->gen == row->throttle_gen) {
        throttle->active--;
        throttles_refresh(flight, throttle);
    }
    row->throttle_gen = 0;
}

/* With none refused the topic is well: those that were admitted while it was not count no more. */
bool throttles_confirmed(struct flight *flight, uint64_t hash)
{
    struct flight_throttle *throttle =
        flight->throttle_count == 0 ? NULL : throttles_find(flight, hash);

    if (throttle == NULL)
        return false;
    if (throttle->retrying > 0)
        return true;
    throttle->gen = ++flight->throttle_gens;
    throttle->active = 0;
    throttle->is_shut = false;
    throttles_refresh(flight, throttle);
    return false;
}

void throttles_retrying(struct flight *flight, struct flight_row *row, bool begins, bool is_active)
{
    struct flight_throttle *throttle =
        begins ? throttles_get(flight, row->topic_hash) : throttles_find(flight, row->topic_hash);

    if (throttle == NULL)
        return; /* out of memory when it was refused: the topic is not held back, nothing else */
    if (begins)
        throttle->retrying++;
    else if (throttle->retrying > 0)
        throttle->retrying--;
    if (is_active)
        throttles_enter(flight, throttle, row);
    else
        throttles_refresh(flight, throttle);
}

void throttles_clear(struct flight *flight)
{
    for (size_t i = 0; i < THROTTLE_BUCKETS; i++) {
        while (flight->throttles[i] != NULL) {
            struct flight_throttle *throttle = flight->throttles[i];

            flight->throttles[i] = throttle->hash_next;
            obx_free(throttle);
        }
    }
    flight->throttle_count = 0;
    flight->rescan_throttles = 0;
}

static void key_rescan_complete(struct flight *flight, uint64_t rescan)
{
    for (size_t i = 0; i < flight->key_buckets; i++) {
        struct flight_key *key = flight->keys[i];

        while (key != NULL) {
            struct flight_key *next = key->hash_next;

            if (key->passed_in != 0 && key->passed_in < rescan) {
                key->passed_in = 0;
                keys_refresh(flight, key);
            }
            key = next;
        }
    }
}

void keys_rescan_complete(struct flight *flight, uint64_t rescan)
{
    key_rescan_complete(flight, rescan);
    for (size_t i = 0; i < THROTTLE_BUCKETS; i++) {
        struct flight_throttle *throttle = flight->throttles[i];

        while (throttle != NULL) {
            struct flight_throttle *next = throttle->hash_next;

            if (throttle->passed_in != 0 && throttle->passed_in < rescan) {
                throttle->passed_in = 0;
                throttles_refresh(flight, throttle);
            }
            throttle = next;
        }
    }
}
