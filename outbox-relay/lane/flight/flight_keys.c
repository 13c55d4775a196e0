/*
 * The ordering keys and the topic gates of the flight table: hash maps, and who waits for a pass
 * ("hungry").
 *
 * A key or gate is freed when no row needs it, unless rows of it were passed over: then it stays,
 * hollow, until a pass has taken them in. The number of hollow ones is bounded; beyond it
 * has_orphans stands in for them. Called by flight.c only.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "flight_private.h"

enum { KEY_BUCKETS_MIN = 1024 };

enum obx_code keys_init(struct flight *flight)
{
    flight->keys = obx_calloc(KEY_BUCKETS_MIN, sizeof(struct flight_key *));
    if (flight->keys == NULL)
        return OBX_E_NOMEM;
    flight->key_buckets = KEY_BUCKETS_MIN;
    return OBX_OK;
}

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
    flight->hollow_keys++;
    flight->hungry_keys[0]++;
    return key;
}

/* Rows come mostly in id order, so the place is looked for from the end. */
void keys_link(struct flight *flight, struct flight_key *key, struct flight_row *row)
{
    struct flight_row *before = key->tail;

    if (key->head == NULL)
        flight->hollow_keys--;
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
        flight->hollow_keys++;
}

static void free_key(struct flight *flight, struct flight_key *key)
{
    struct flight_key **at = &flight->keys[key->hash & (flight->key_buckets - 1)];

    while (*at != key)
        at = &(*at)->hash_next;
    *at = key->hash_next;
    flight->key_count--;
    flight->hollow_keys--;
    flight->hungry_keys[key->hunger]--;
    obx_free(key);
}

static uint8_t hunger_of(const struct flight_key *key)
{
    if (key->passed_in == 0)
        return 0;
    if (key->head == NULL)
        return 2;
    return key->waiting * 2 <= key->full_at;
}

void keys_refresh(struct flight *flight, struct flight_key *key)
{
    if (key->head == NULL && key->passed_in != 0 &&
        flight->hollow_keys > flight->opts.max_hollow_keys) {
        flight->has_orphans = true;
        key->passed_in = 0;
    }
    if (key->head == NULL && key->passed_in == 0 && key->evicted == 0) {
        free_key(flight, key);
        return;
    }
    flight->hungry_keys[key->hunger]--;
    key->hunger = hunger_of(key);
    flight->hungry_keys[key->hunger]++;
}

void keys_note_passed_over(struct flight *flight, struct flight_key *key)
{
    key->passed_in = flight->pass;
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
    flight->hollow_keys = 0;
    memset(flight->hungry_keys, 0, sizeof(flight->hungry_keys));
}

struct flight_gate *gates_find(const struct flight *flight, uint64_t hash)
{
    struct flight_gate *gate = flight->gates[hash % GATE_BUCKETS];

    while (gate != NULL && gate->hash != hash)
        gate = gate->hash_next;
    return gate;
}

struct flight_gate *gates_get(struct flight *flight, uint64_t hash)
{
    struct flight_gate *gate = gates_find(flight, hash);

    if (gate != NULL)
        return gate;
    gate = obx_calloc(1, sizeof(*gate));
    if (gate == NULL)
        return NULL;
    gate->hash = hash;
    gate->gen = ++flight->gate_gens;
    gate->hash_next = flight->gates[hash % GATE_BUCKETS];
    flight->gates[hash % GATE_BUCKETS] = gate;
    flight->gate_count++;
    return gate;
}

bool gates_is_closed(const struct flight *flight, const struct flight_gate *gate)
{
    if (gate == NULL)
        return false;
    if (gate->retrying + gate->active >= flight->opts.max_topic_retrying)
        return true;
    return (gate->retrying > 0 || gate->is_shut) && flight->retrying_was_full;
}

static void free_gate(struct flight *flight, struct flight_gate *gate)
{
    struct flight_gate **at = &flight->gates[gate->hash % GATE_BUCKETS];

    while (*at != gate)
        at = &(*at)->hash_next;
    *at = gate->hash_next;
    flight->gate_count--;
    if (gate->is_hungry)
        flight->hungry_gates--;
    obx_free(gate);
}

void gates_refresh(struct flight *flight, struct flight_gate *gate)
{
    uint32_t busy = gate->retrying + gate->active;
    bool is_hungry = false;

    if (busy == 0 && gate->passed_in != 0 && flight->gate_count > flight->opts.max_hollow_keys) {
        flight->has_orphans = true;
        gate->passed_in = 0;
    }
    if (busy == 0 && gate->passed_in == 0) {
        free_gate(flight, gate);
        return;
    }
    is_hungry = gate->passed_in != 0 && busy * 2 <= flight->opts.max_topic_retrying;
    if (is_hungry != gate->is_hungry)
        flight->hungry_gates = is_hungry ? flight->hungry_gates + 1 : flight->hungry_gates - 1;
    gate->is_hungry = is_hungry;
}

void gates_note_passed_over(struct flight *flight, struct flight_gate *gate)
{
    gate->passed_in = flight->pass;
    gates_refresh(flight, gate);
}

void gates_enter(struct flight *flight, struct flight_gate *gate, struct flight_row *row)
{
    if (gate == NULL)
        return;
    row->gate_gen = gate->gen;
    gate->active++;
    gates_refresh(flight, gate);
}

void gates_leave(struct flight *flight, struct flight_row *row)
{
    struct flight_gate *gate = row->gate_gen == 0 ? NULL : gates_find(flight, row->topic_hash);

    if (gate != NULL && gate->gen == row->gate_gen) {
        gate->active--;
        gates_refresh(flight, gate);
    }
    row->gate_gen = 0;
}

bool gates_confirmed(struct flight *flight, uint64_t hash)
{
    struct flight_gate *gate = flight->gate_count == 0 ? NULL : gates_find(flight, hash);

    if (gate == NULL)
        return false;
    if (gate->retrying > 0)
        return true;
    gate->gen = ++flight->gate_gens;
    gate->active = 0;
    gate->is_shut = false;
    gates_refresh(flight, gate);
    return false;
}

void gates_retrying(struct flight *flight, struct flight_row *row, bool begins, bool is_active)
{
    struct flight_gate *gate =
        begins ? gates_get(flight, row->topic_hash) : gates_find(flight, row->topic_hash);

    if (gate == NULL)
        return; /* out of memory when it was refused: the topic is not held back, nothing else */
    if (begins)
        gate->retrying++;
    else if (gate->retrying > 0)
        gate->retrying--;
    if (is_active)
        gates_enter(flight, gate, row);
    else
        gates_refresh(flight, gate);
}

void gates_clear(struct flight *flight)
{
    for (size_t i = 0; i < GATE_BUCKETS; i++) {
        while (flight->gates[i] != NULL) {
            struct flight_gate *gate = flight->gates[i];

            flight->gates[i] = gate->hash_next;
            obx_free(gate);
        }
    }
    flight->gate_count = 0;
    flight->hungry_gates = 0;
}

static void key_pass_complete(struct flight *flight, uint64_t pass)
{
    for (size_t i = 0; i < flight->key_buckets; i++) {
        struct flight_key *key = flight->keys[i];

        while (key != NULL) {
            struct flight_key *next = key->hash_next;

            if (key->passed_in != 0 && key->passed_in < pass) {
                key->passed_in = 0;
                keys_refresh(flight, key);
            }
            key = next;
        }
    }
}

void keys_pass_complete(struct flight *flight, uint64_t pass)
{
    key_pass_complete(flight, pass);
    for (size_t i = 0; i < GATE_BUCKETS; i++) {
        struct flight_gate *gate = flight->gates[i];

        while (gate != NULL) {
            struct flight_gate *next = gate->hash_next;

            if (gate->passed_in != 0 && gate->passed_in < pass) {
                gate->passed_in = 0;
                gates_refresh(flight, gate);
            }
            gate = next;
        }
    }
}
