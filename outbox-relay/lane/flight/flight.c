/*
 * The flight table: rows in memory and their states. See flight.h for what it promises and who
 * calls it.
 *
 * Every change of state goes through set_state, which checks the edge and keeps lists and counts;
 * what a change means for the other rows of the key is decided in one place, rebalance.
 */
#include "flight.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/crash.h"
#include "flight_private.h"

enum {
    ID_BUCKETS_MIN = 4096,
    CREDIT_ROWS = 2, /* refused rows that one confirmed row of their topic sets free */
    KEY_SHARE_MIN = 8,
};

#define ASKING_HASH 0x9e3779b97f4a7c15U

#define BIT(state) (1U << (state))

/* What may follow each state. */
static const unsigned edges[FLIGHT_STATES] = {
    [FLIGHT_WAITING] = BIT(FLIGHT_READY) | BIT(FLIGHT_TO_PARK) | BIT(FLIGHT_INFLIGHT),
    [FLIGHT_READY] =
        BIT(FLIGHT_INFLIGHT) | BIT(FLIGHT_RETRYING) | BIT(FLIGHT_TO_PARK) | BIT(FLIGHT_WAITING),
    [FLIGHT_INFLIGHT] =
        BIT(FLIGHT_CONFIRMED) | BIT(FLIGHT_RETRYING) | BIT(FLIGHT_READY) | BIT(FLIGHT_TO_PARK),
    [FLIGHT_RETRYING] = BIT(FLIGHT_READY) | BIT(FLIGHT_TO_PARK),
    [FLIGHT_CONFIRMED] = 0,
    [FLIGHT_TO_PARK] = BIT(FLIGHT_RETRYING) | BIT(FLIGHT_WAITING),
};

static const char *const state_names[FLIGHT_STATES] = {
    [FLIGHT_WAITING] = "waiting",     [FLIGHT_READY] = "ready",
    [FLIGHT_INFLIGHT] = "inflight",   [FLIGHT_RETRYING] = "retrying",
    [FLIGHT_CONFIRMED] = "confirmed", [FLIGHT_TO_PARK] = "to_park",
};

const char *flight_state_name(enum flight_state state)
{
    return (unsigned)state < FLIGHT_STATES ? state_names[state] : "unknown";
}

/* ---- lists ---- */

/* After NULL is at the front. */
static void list_insert_after(struct flight_list *list, struct flight_row *after,
                              struct flight_row *row)
{
    row->prev = after;
    row->next = after == NULL ? list->head : after->next;
    if (row->next == NULL)
        list->tail = row;
    else
        row->next->prev = row;
    if (after == NULL)
        list->head = row;
    else
        after->next = row;
}

static void list_remove(struct flight_list *list, struct flight_row *row)
{
    if (row->prev == NULL)
        list->head = row->next;
    else
        row->prev->next = row->next;
    if (row->next == NULL)
        list->tail = row->prev;
    else
        row->next->prev = row->prev;
    row->prev = NULL;
    row->next = NULL;
}

/* What a key counts: the states whose bound is by key. */
static uint32_t *key_counter(struct flight_key *key, enum flight_state state)
{
    switch (state) {
    case FLIGHT_WAITING:
        return &key->waiting;
    case FLIGHT_READY:
        return &key->ready;
    case FLIGHT_INFLIGHT:
        return &key->inflight;
    case FLIGHT_RETRYING:
    case FLIGHT_CONFIRMED:
    case FLIGHT_TO_PARK:
        break;
    }
    return NULL;
}

/* A bound that was reached has ended only when a quarter of the room is free, so that a rescan is not
 * made for one row at a time. */
static void leave_state(struct flight *flight, struct flight_row *row)
{
    enum flight_state state = (enum flight_state)row->state;
    uint32_t *counter = row->key == NULL ? NULL : key_counter(row->key, state);

    if (counter != NULL)
        (*counter)--;
    flight->lists[state].count--;
    if (row == flight->again_tail)
        flight->again_tail = row->prev;
    if (state != FLIGHT_WAITING)
        list_remove(&flight->lists[state], row);
    if (state == FLIGHT_WAITING &&
        flight->lists[state].count <= flight->opts.max_waiting - flight->opts.max_waiting / 4)
        flight->waiting_was_full = false;
    if (state == FLIGHT_RETRYING &&
        flight->lists[state].count <= flight->opts.max_retrying - flight->opts.max_retrying / 4)
        flight->retrying_was_full = false;
}

static void enter_state(struct flight *flight, struct flight_row *row, enum flight_state state)
{
    uint32_t *counter = row->key == NULL ? NULL : key_counter(row->key, state);

    if (counter != NULL)
        (*counter)++;
    row->state = (uint8_t)state;
    flight->lists[state].count++;
    if (state != FLIGHT_WAITING)
        list_insert_after(&flight->lists[state], flight->lists[state].tail, row);
}

/* What was noted of the row in its last state (refusals, locks, that it was logged) says nothing of
 * the next one. */
static void set_state(struct flight *flight, struct flight_row *row, enum flight_state state)
{
    bool was_retrying = row->state == FLIGHT_RETRYING;

    OBX_ASSERT((edges[row->state] & BIT(state)) != 0);
    row->held_until_ms = 0;
    row->refusals = 0;
    row->waits = 0;
    row->is_reported = false;
    leave_state(flight, row);
    enter_state(flight, row, state);
    if (was_retrying != (state == FLIGHT_RETRYING))
        throttles_retrying(flight, row, !was_retrying, state == FLIGHT_READY);
    if (state == FLIGHT_RETRYING || state == FLIGHT_CONFIRMED || state == FLIGHT_TO_PARK)
        throttles_leave(flight, row);
}

/* Within the key, from the lowest id: the first key_window rows are ready or in flight; nothing is
   ready after a row that waits for its retry or for its parking. */
static void rebalance(struct flight *flight, struct flight_key *key)
{
    uint32_t active = key->inflight;
    uint32_t ready_left = key->ready;
    bool is_open = true;

    for (struct flight_row *row = key->head; row != NULL; row = row->key_next) {
        bool may_go = is_open && active < flight->opts.key_window;

        if (!may_go && ready_left == 0)
            break;
        if (row->state == FLIGHT_RETRYING || row->state == FLIGHT_TO_PARK)
            is_open = false;
        if (row->state != FLIGHT_READY && row->state != FLIGHT_WAITING)
            continue;
        ready_left -= row->state == FLIGHT_READY;
        active += may_go;
        if (may_go && row->state == FLIGHT_WAITING)
            set_state(flight, row, FLIGHT_READY);
        else if (!may_go && row->state == FLIGHT_READY)
            set_state(flight, row, FLIGHT_WAITING);
    }
    keys_refresh(flight, key);
}

/* ---- life ---- */

enum obx_code flight_create(const struct flight_opts *opts, struct flight **out,
                            struct obx_err *err)
{
    struct flight *flight = obx_calloc(1, sizeof(*flight));

    *out = NULL;
    if (flight == NULL)
        return obx_fail(err, OBX_E_NOMEM, "flight table");
    flight->opts = *opts;
    flight->next_due_ms = UINT64_MAX;
    flight->rescan = 1;
    flight->id_buckets = ID_BUCKETS_MIN;
    flight->ids = obx_calloc(ID_BUCKETS_MIN, sizeof(struct flight_row *));
    if (flight->ids == NULL || keys_init(flight) != OBX_OK) {
        flight_destroy(flight);
        return obx_fail(err, OBX_E_NOMEM, "flight table");
    }
    *out = flight;
    return OBX_OK;
}

void flight_clear(struct flight *flight)
{
    for (size_t i = 0; i < flight->id_buckets; i++) {
        while (flight->ids[i] != NULL) {
            struct flight_row *row = flight->ids[i];

            flight->ids[i] = row->hash_next;
            rows_give(flight, row);
        }
    }
    while (flight->evicted != NULL) {
        struct flight_row *row = flight->evicted;

        flight->evicted = row->next;
        rows_give(flight, row);
    }
    flight->total = 0;
    memset(flight->lists, 0, sizeof(flight->lists));
    flight->again_tail = NULL;
    flight->next_due_ms = UINT64_MAX;
    flight->waiting_was_full = false;
    flight->retrying_was_full = false;
    flight->to_park_was_full = false;
    flight->has_untracked = false;
    keys_clear(flight);
    throttles_clear(flight);
}

void flight_destroy(struct flight *flight)
{
    if (flight == NULL)
        return;
    if (flight->ids != NULL && flight->keys != NULL)
        flight_clear(flight);
    for (size_t i = 0; i < flight->slot_count; i++)
        obx_free(flight->slots[i]);
    obx_free(flight->slots);
    obx_free(flight->ids);
    obx_free(flight->keys);
    obx_free(flight);
}

/* ---- admission ---- */

/* A key may wait with at most half of what is left, so that a few hot keys do not take all the
 * room. */
static bool key_has_room(const struct flight *flight, const struct flight_key *key)
{
    size_t waiting = flight->lists[FLIGHT_WAITING].count;
    size_t share = 0;

    if (waiting >= flight->opts.max_waiting || key->waiting >= flight->opts.max_key_waiting)
        return false;
    share = (flight->opts.max_waiting - waiting) / 2;
    return key->waiting < (share < KEY_SHARE_MIN ? KEY_SHARE_MIN : share);
}

/* Whether a new row of the key would have to wait: as many rows as may go are active, or an earlier
 * one holds it up. */
static bool key_is_busy(const struct flight *flight, const struct flight_key *key, uint64_t id)
{
    if (key->ready + key->inflight >= flight->opts.key_window)
        return true;
    for (const struct flight_row *row = key->head; row != NULL && row->id < id;
         row = row->key_next) {
        if (row->state == FLIGHT_RETRYING || row->state == FLIGHT_TO_PARK ||
            row->state == FLIGHT_WAITING)
            return true;
    }
    return false;
}

/* Whether there is room for the row; notes who was passed over when there is none. */
static bool has_room(struct flight *flight, const struct outbox_row *data,
                     struct flight_throttle *throttle, struct flight_key *key)
{
    if (throttles_is_closed(flight, throttle)) {
        throttles_note_passed_over(flight, throttle);
        return false;
    }
    if (key != NULL && key_is_busy(flight, key, data->id)) {
        if (key_has_room(flight, key))
            return true;
        if (flight->lists[FLIGHT_WAITING].count >= flight->opts.max_waiting)
            flight->waiting_was_full = true;
        keys_note_passed_over(flight, key);
        return false;
    }
    if (flight->lists[FLIGHT_READY].count < flight->opts.max_ready)
        return true;
    flight->has_untracked = true;
    return false;
}

/* The same for a row of a frozen key, which only waits for its parking. */
static bool has_room_to_park(struct flight *flight)
{
    if (flight->lists[FLIGHT_TO_PARK].count < flight->opts.max_to_park)
        return true;
    flight->to_park_was_full = true;
    return false;
}

/* Rows that ask for receipts have a throttle of their own, so that what holds those up does not hold up
 * the others of the topic. */
static uint64_t topic_hash(const struct outbox_row *data)
{
    return bytes_hash(data->topic) ^ (data->asks ? ASKING_HASH : 0);
}

static void fill_row(struct flight *flight, struct flight_row *row, struct outbox_row *data)
{
    row->id = data->id;
    row->created_us = data->created_us;
    row->body_len = data->payload_len;
    row->topic_hash = topic_hash(data);
    row->wants_receipt = data->asks;
    row->blocked_by = data->blocked_by;
    if (data->is_full) {
        row->data = data;
        flight->bytes += data->size;
    } else {
        obx_free(data);
    }
}

/* A row with a key begins as one that waits: rebalance lets it go if nothing is before it. A row that
 * is only to be parked is never sent, so its topic need not answer for it. */
static void admit(struct flight *flight, struct flight_row *row, struct flight_key *key,
                  struct outbox_row *data)
{
    struct flight_throttle *throttle =
        flight->throttle_count == 0 ? NULL : throttles_find(flight, topic_hash(data));

    fill_row(flight, row, data);
    rows_link(flight, row);
    if (key != NULL) {
        keys_link(flight, key, row);
        if (key->frozen_by != 0 && key->frozen_by < row->id && row->blocked_by == 0)
            row->blocked_by = key->frozen_by;
    }
    if (row->blocked_by != 0)
        enter_state(flight, row, FLIGHT_TO_PARK);
    else
        enter_state(flight, row, key == NULL ? FLIGHT_READY : FLIGHT_WAITING);
    if (throttle != NULL && row->state != FLIGHT_TO_PARK) {
        throttle->is_shut = false;
        throttles_enter(flight, throttle, row);
    }
    if (key != NULL)
        rebalance(flight, key);
    if (row->state == FLIGHT_TO_PARK ||
        (row->state == FLIGHT_WAITING && flight->bytes > flight->opts.max_bytes))
        rows_drop_data(flight, row);
}

/* Room is judged before anything is made, so that a refused row leaves no key; what is made
 * and then not used, for want of memory, goes at once. */
enum flight_answer flight_admit_take(struct flight *flight, struct outbox_row *data)
{
    struct flight_throttle *throttle = NULL;
    struct flight_key *key = NULL;
    struct flight_row *row = NULL;

    if (flight_find(flight, data->id) != NULL)
        return FLIGHT_KNOWN;
    key = keys_find(flight, data->key);
    if (flight->throttle_count > 0)
        throttle = throttles_find(flight, topic_hash(data));
    if (data->blocked_by == 0 ? !has_room(flight, data, throttle, key) : !has_room_to_park(flight))
        return FLIGHT_NO_ROOM;
    if (data->key.p != NULL && key == NULL)
        key = keys_get(flight, data->key);
    row = data->key.p != NULL && key == NULL ? NULL : rows_take(flight);
    if (row == NULL) {
        if (key != NULL)
            keys_refresh(flight, key);
        return FLIGHT_NOMEM;
    }
    admit(flight, row, key, data);
    return FLIGHT_ADMITTED;
}

struct obx_bytes flight_key_name(const struct flight_row *row)
{
    struct obx_bytes name = {.p = NULL, .len = 0};

    if (row->key != NULL) {
        name.p = row->key->name;
        name.len = row->key->name_len;
    }
    return name;
}

struct flight_row *flight_first(const struct flight *flight, enum flight_state state)
{
    return flight->lists[state].head;
}

struct flight_row *flight_next(const struct flight_row *row)
{
    return row->next;
}

static int compare_rows(const void *a, const void *b)
{
    uint64_t x = (*(struct flight_row *const *)a)->id;
    uint64_t y = (*(struct flight_row *const *)b)->id;

    return x < y ? -1 : x > y;
}

void flight_sort_rows(struct flight_row **rows, size_t count)
{
    qsort(rows, count, sizeof(struct flight_row *), compare_rows);
}

void flight_attach_take(struct flight *flight, struct flight_row *row, struct outbox_row *data)
{
    rows_drop_data(flight, row);
    row->data = data;
    row->body_len = data->payload_len;
    row->created_us = data->created_us;
    flight->bytes += data->size;
}

/* ---- outcomes ---- */

/* Takes the row away from its key; the key goes on. */
static void leave_key(struct flight *flight, struct flight_row *row)
{
    struct flight_key *key = row->key;

    if (key == NULL)
        return;
    keys_unlink(flight, row);
    rebalance(flight, key);
}

struct flight_row *flight_follower(const struct flight_row *row)
{
    struct flight_row *next = row->key_next;

    return next != NULL && (next->state == FLIGHT_WAITING || next->state == FLIGHT_READY) ? next
                                                                                          : NULL;
}

void flight_sent(struct flight *flight, struct flight_row *row)
{
    flight->again_tail =
        NULL; /* what comes back from now on was sent before everything that is READY */
    set_state(flight, row, FLIGHT_INFLIGHT);
    rows_drop_data(flight, row);
}

static void make_ready(struct flight *flight, struct flight_row *row)
{
    struct flight_key *key = row->key;

    set_state(flight, row, FLIGHT_READY);
    if (key != NULL)
        rebalance(flight, key);
}

/* The refused row of the topic with the lowest id. */
static struct flight_row *lowest_refused(const struct flight *flight, uint64_t topic_hash)
{
    struct flight_row *lowest = NULL;

    for (struct flight_row *row = flight->lists[FLIGHT_RETRYING].head; row != NULL;
         row = row->next) {
        if (row->topic_hash == topic_hash && (lowest == NULL || row->id < lowest->id))
            lowest = row;
    }
    return lowest;
}

/* Two for one: a topic that is well again comes back fast, and one that is not costs little. */
static void topic_gets_through(struct flight *flight, uint64_t topic_hash)
{
    if (!throttles_confirmed(flight, topic_hash))
        return;
    for (int i = 0; i < CREDIT_ROWS; i++) {
        struct flight_row *row = lowest_refused(flight, topic_hash);

        if (row == NULL)
            return;
        make_ready(flight, row);
    }
}

void flight_confirmed(struct flight *flight, struct flight_row *row)
{
    struct flight_key *key = row->key;

    set_state(flight, row, FLIGHT_CONFIRMED);
    /* The counts of the key have followed; now it lets go of the row. */
    if (key != NULL)
        leave_key(flight, row);
    topic_gets_through(flight, row->topic_hash);
}

/* In the order in which they were sent, and before all that was not: again_tail is the last of them. */
void flight_unsent(struct flight *flight, struct flight_row *row)
{
    struct flight_key *key = row->key;

    set_state(flight, row, FLIGHT_READY);
    list_remove(&flight->lists[FLIGHT_READY], row);
    list_insert_after(&flight->lists[FLIGHT_READY], flight->again_tail, row);
    flight->again_tail = row;
    if (key != NULL)
        rebalance(flight, key);
}

/* Out of its state, its topic's throttle, its key and the hash of ids; the key goes on. */
static void leave_table(struct flight *flight, struct flight_row *row)
{
    struct flight_key *key = row->key;

    if (key != NULL && key->frozen_by == row->id)
        key->frozen_by = 0;
    leave_state(flight, row);
    if (row->state == FLIGHT_RETRYING)
        throttles_retrying(flight, row, false, false);
    throttles_leave(flight, row);
    rows_unlink(flight, row);
    if (key != NULL)
        leave_key(flight, row);
}

/* The row is nowhere any more but in the list of evicted ones; its key is kept for as long. */
static void evict_one(struct flight *flight, struct flight_row *row)
{
    struct flight_key *key = row->key;

    if (key != NULL) {
        key->evicted++;
        keys_note_passed_over(flight, key);
    } else {
        flight->has_untracked = true;
    }
    leave_table(flight, row);
    row->key = key;
    row->next = flight->evicted;
    flight->evicted = row;
}

struct flight_row *flight_first_evicted(const struct flight *flight)
{
    return flight->evicted;
}

void flight_drop_evicted(struct flight *flight, struct flight_row *row)
{
    struct flight_key *key = row->key;

    OBX_ASSERT(row == flight->evicted);
    flight->evicted = row->next;
    row->key = NULL;
    rows_give(flight, row);
    if (key != NULL) {
        key->evicted--;
        keys_refresh(flight, key);
    }
}

/* Drops the row and what waits for it: they will be read again. Behind it in its key are only
   rows that were not sent, or, with a key_window above 1, rows in flight, which may stay. */
static void evict(struct flight *flight, struct flight_row *row)
{
    struct flight_row *last = row->key == NULL ? row : row->key->tail;
    struct flight_throttle *throttle = throttles_get(flight, row->topic_hash);

    /* Or it would be read again at once, sent, refused and evict again, without a pause. */
    flight->retrying_was_full = true;
    if (throttle != NULL) {
        throttle->is_shut = true;
        throttles_note_passed_over(flight, throttle);
    }
    while (last != row) {
        struct flight_row *before = last->key_prev;

        if (last->state == FLIGHT_WAITING || last->state == FLIGHT_READY ||
            last->state == FLIGHT_RETRYING)
            evict_one(flight, last);
        last = before;
    }
    evict_one(flight, row);
}

/* The head could not be parked after all: what was to be parked after it waits for it again. */
static void thaw(struct flight *flight, struct flight_key *key, const struct flight_row *head)
{
    key->frozen_by = 0;
    for (struct flight_row *row = key->head; row != NULL; row = row->key_next) {
        if (row->state == FLIGHT_TO_PARK && row->blocked_by == head->id) {
            row->blocked_by = 0;
            set_state(flight, row, FLIGHT_WAITING);
        }
    }
}

bool flight_retry(struct flight *flight, struct flight_row *row, uint64_t due_ms)
{
    struct flight_key *key = row->key;

    if (key != NULL && key->frozen_by == row->id)
        thaw(flight, key, row);
    if (flight->lists[FLIGHT_RETRYING].count >= flight->opts.max_retrying) {
        evict(flight, row);
        return false;
    }
    row->due_ms = due_ms;
    row->blocked_by = 0;
    if (due_ms < flight->next_due_ms)
        flight->next_due_ms = due_ms;
    rows_drop_data(flight, row);
    set_state(flight, row, FLIGHT_RETRYING);
    if (key != NULL)
        rebalance(flight, key);
    return true;
}

void flight_give_up(struct flight *flight, struct flight_row *row, enum obx_code code,
                    const char *reason)
{
    struct flight_key *key = row->key;

    flight_set_reason(row, reason);
    row->reason_code = code;
    if (key != NULL && key->frozen_by != 0 && key->frozen_by < row->id)
        row->blocked_by = key->frozen_by;
    rows_drop_data(flight, row);
    set_state(flight, row, FLIGHT_TO_PARK);
    if (key != NULL)
        rebalance(flight, key);
}

void flight_freeze(struct flight *flight, struct flight_row *head)
{
    struct flight_key *key = head->key;

    if (key == NULL || (key->frozen_by != 0 && key->frozen_by < head->id))
        return;
    key->frozen_by = head->id;
    for (struct flight_row *row = head->key_next; row != NULL; row = row->key_next) {
        if (row->state == FLIGHT_INFLIGHT)
            continue;
        row->blocked_by = head->id;
        rows_drop_data(flight, row);
        if (row->state != FLIGHT_TO_PARK)
            set_state(flight, row, FLIGHT_TO_PARK);
    }
    keys_refresh(flight, key);
}

void flight_evict_followers(struct flight *flight, struct obx_bytes name, uint64_t head)
{
    struct flight_key *key = keys_find(flight, name);
    struct flight_row *row = key == NULL ? NULL : key->head;

    while (row != NULL) {
        struct flight_row *next = row->key_next; /* the key goes with its last row */

        if (row->state == FLIGHT_TO_PARK && row->blocked_by == head)
            evict_one(flight, row);
        row = next;
    }
}

void flight_set_reason(struct flight_row *row, const char *reason)
{
    obx_free(row->reason);
    row->reason = reason == NULL ? NULL : obx_strdup(reason);
}

bool flight_holds_key(const struct flight_row *row)
{
    return row->key != NULL && row->id != 0 && row->key->frozen_by == row->id;
}

void flight_forget(struct flight *flight, struct flight_row *row)
{
    leave_table(flight, row);
    rows_give(flight, row);
}

uint64_t flight_take_due(struct flight *flight, uint64_t now_ms)
{
    struct flight_row *row = flight->lists[FLIGHT_RETRYING].head;
    uint64_t next_due_ms = UINT64_MAX;

    if (flight->next_due_ms > now_ms)
        return flight->next_due_ms;
    while (row != NULL) {
        struct flight_row *next = row->next;

        if (row->due_ms <= now_ms)
            make_ready(flight, row);
        else if (row->due_ms < next_due_ms)
            next_due_ms = row->due_ms;
        row = next;
    }
    flight->next_due_ms = next_due_ms;
    return next_due_ms;
}

uint64_t flight_next_due_ms(const struct flight *flight)
{
    return flight->next_due_ms;
}

/* ---- numbers ---- */

size_t flight_count(const struct flight *flight, enum flight_state state)
{
    return flight->lists[state].count;
}

size_t flight_total(const struct flight *flight)
{
    return flight->total;
}

/* Retries and rows that came back do not count against it: they were admitted before. */
size_t flight_room(const struct flight *flight)
{
    size_t ready = flight->lists[FLIGHT_READY].count;

    return ready < flight->opts.max_ready ? flight->opts.max_ready - ready : 0;
}

bool flight_is_back_pressured(const struct flight *flight)
{
    return flight->lists[FLIGHT_TO_PARK].count / 2 >= flight->opts.max_to_park;
}

size_t flight_bytes(const struct flight *flight)
{
    return flight->bytes;
}

/* ---- rescans ---- */

/* Each bound by itself: room for followers is no room for refused rows. */
bool flight_wants_rescan(const struct flight *flight)
{
    if (flight->has_untracked || (flight->rescan_throttles > 0 && !flight->retrying_was_full))
        return true;
    if (flight->to_park_was_full &&
        flight->lists[FLIGHT_TO_PARK].count <= flight->opts.max_to_park / 2)
        return true;
    return flight->rescan_keys[2] > 0 || (flight->rescan_keys[1] > 0 && !flight->waiting_was_full);
}

uint64_t flight_rescan_begin(struct flight *flight)
{
    flight->has_untracked = false;
    flight->to_park_was_full = false;
    return ++flight->rescan;
}

void flight_rescan_complete(struct flight *flight, uint64_t rescan)
{
    keys_rescan_complete(flight, rescan);
}

void flight_passed_over(struct flight *flight, struct obx_bytes name)
{
    struct flight_key *key = keys_find(flight, name);

    if (key != NULL)
        keys_note_passed_over(flight, key);
}
