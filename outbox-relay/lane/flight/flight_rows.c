/*
 * The rows of the flight table by themselves: their memory, and how they are found, by id and by
 * token.
 *
 * Slots are never freed while the table lives, so a token (slot and generation) that comes back
 * late from the broker finds the row that it was given to, or none. Called by flight.c.
 */
#include <string.h>

#include "base/alloc.h"
#include "flight_private.h"

enum { SLOTS_MIN = 1024, TOKEN_SLOT_BITS = 32 };

static size_t id_bucket(const struct flight *flight, uint64_t id)
{
    return (size_t)(id * 0x9e3779b97f4a7c15U >> 20) & (flight->id_buckets - 1);
}

struct flight_row *flight_find(const struct flight *flight, uint64_t id)
{
    struct flight_row *row = flight->ids[id_bucket(flight, id)];

    while (row != NULL && row->id != id)
        row = row->hash_next;
    return row;
}

struct flight_row *flight_by_token(const struct flight *flight, uint64_t token)
{
    size_t slot = (size_t)(token & UINT32_MAX);
    struct flight_row *row = slot < flight->slot_count ? flight->slots[slot] : NULL;

    return row != NULL && row->token == token && !row->is_free ? row : NULL;
}

static void grow_ids(struct flight *flight)
{
    size_t old_buckets = flight->id_buckets;
    struct flight_row **old = flight->ids;
    struct flight_row **ids = obx_calloc(old_buckets * 2, sizeof(struct flight_row *));

    if (ids == NULL)
        return; /* longer chains, nothing else */
    flight->ids = ids;
    flight->id_buckets = old_buckets * 2;
    for (size_t i = 0; i < old_buckets; i++) {
        struct flight_row *row = old[i];

        while (row != NULL) {
            struct flight_row *next = row->hash_next;

            row->hash_next = ids[id_bucket(flight, row->id)];
            ids[id_bucket(flight, row->id)] = row;
            row = next;
        }
    }
    obx_free(old);
}

static struct flight_row *new_slot(struct flight *flight)
{
    struct flight_row *row = NULL;

    if (flight->slot_count == flight->slot_cap) {
        size_t cap = flight->slot_cap == 0 ? SLOTS_MIN : flight->slot_cap * 2;
        struct flight_row **slots = obx_realloc(flight->slots, cap * sizeof(struct flight_row *));

        if (slots == NULL)
            return NULL;
        flight->slots = slots;
        flight->slot_cap = cap;
    }
    row = obx_calloc(1, sizeof(*row));
    if (row == NULL)
        return NULL;
    row->token = flight->slot_count;
    flight->slots[flight->slot_count++] = row;
    return row;
}

/* An empty row with a token that was never given out before. */
struct flight_row *rows_take(struct flight *flight)
{
    struct flight_row *row = flight->free_rows;
    uint64_t token = 0;

    if (row == NULL)
        return new_slot(flight);
    flight->free_rows = row->next;
    token = row->token + ((uint64_t)1 << TOKEN_SLOT_BITS);
    memset(row, 0, sizeof(*row));
    row->token = token;
    return row;
}

void rows_drop_data(struct flight *flight, struct flight_row *row)
{
    if (row->data != NULL)
        flight->bytes -= row->data->size;
    obx_free(row->data);
    row->data = NULL;
}

void rows_give(struct flight *flight, struct flight_row *row)
{
    rows_drop_data(flight, row);
    obx_free(row->reason);
    row->reason = NULL;
    /* A token that nobody holds any more finds nothing: the generation moves on when the slot is
     * used again. */
    row->is_free = true;
    row->next = flight->free_rows;
    flight->free_rows = row;
}

void rows_link(struct flight *flight, struct flight_row *row)
{
    if (flight->total >= flight->id_buckets)
        grow_ids(flight);
    row->hash_next = flight->ids[id_bucket(flight, row->id)];
    flight->ids[id_bucket(flight, row->id)] = row;
    flight->total++;
}

void rows_unlink(struct flight *flight, struct flight_row *row)
{
    struct flight_row **at = &flight->ids[id_bucket(flight, row->id)];

    while (*at != row)
        at = &(*at)->hash_next;
    *at = row->hash_next;
    flight->total--;
}

size_t flight_list_ids(const struct flight *flight, uint64_t *ids)
{
    size_t count = 0;

    for (size_t i = 0; i < flight->id_buckets; i++) {
        for (const struct flight_row *row = flight->ids[i]; row != NULL; row = row->hash_next)
            ids[count++] = row->id;
    }
    return count;
}
