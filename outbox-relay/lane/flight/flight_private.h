/*
 * What flight.c, flight_keys.c and flight_rows.c share. Nobody else includes it.
 */
#ifndef RELAY_FLIGHT_PRIVATE_H
#define RELAY_FLIGHT_PRIVATE_H

#include "flight.h"

/** An ordering key with rows in memory, or one of which rows were passed over (then perhaps empty:
 * without rows). */
struct flight_key {
    uint64_t hash;
    struct flight_key *hash_next;
    struct flight_row *head, *tail; /* rows that are not CONFIRMED, ascending by id */
    uint64_t frozen_by;
    uint64_t
        passed_in; /* number of the rescan in or after which a row was passed over last; 0: none
                           was */
    uint32_t waiting, ready, inflight;
    uint32_t evicted; /* rows that were evicted and not taken yet: they need the name */
    uint32_t full_at; /* how many waited when a row was passed over last */
    uint8_t
        rescan_level; /* 0: none; 1: has room for followers again; 2: has no rows at all, the next one
                       could go at once */
    size_t name_len;
    char name[];
};

/**
 * A topic with refused rows. It admits only as many rows as it may have refused. A confirm at a
 * time when none is refused says that the topic is well again: then those admitted count no more.
 */
struct flight_throttle {
    uint64_t hash;
    uint32_t gen; /* another one with each new beginning */
    struct flight_throttle *hash_next;
    uint64_t passed_in;
    uint32_t retrying;
    uint32_t
        active;   /* admitted while the throttle stood, or refused before, and not answered yet */
    bool is_shut; /* a row of it was evict: closed as long as there is no room for refused rows */
    bool wants_rescan;
};

struct flight_list {
    struct flight_row *head, *tail;
    size_t count;
};

enum { THROTTLE_BUCKETS = 1024 };

struct flight {
    struct flight_opts opts;
    struct flight_row **slots; /* every row ever allocated; free ones are in free_rows */
    size_t slot_count, slot_cap;
    struct flight_row *free_rows;
    struct flight_row *evicted; /* not in any list, nor found by id any more */
    struct flight_row **ids;    /* hash of ids, chained */
    size_t id_buckets;
    size_t total;
    struct flight_list lists[FLIGHT_STATES]; /* WAITING: the count only */
    struct flight_row *again_tail;           /* last READY row that was sent before */
    uint64_t next_due_ms;                    /* not later than the earliest due time of RETRYING */
    size_t bytes;
    struct flight_key **keys;
    size_t key_buckets, key_count, empty_keys;
    size_t rescan_keys[3]; /* by rescan_level; the first is not kept */
    struct flight_throttle *throttles[THROTTLE_BUCKETS];
    size_t throttle_count, rescan_throttles;
    uint32_t throttle_gens;
    bool waiting_was_full;  /* until a quarter of the room is free again */
    bool retrying_was_full; /* likewise */
    bool to_park_was_full;  /* rows of frozen keys were passed over, since the last rescan began */
    bool
        has_untracked; /* something was passed over for which there is no key or throttle to remember it
                       */
    uint64_t rescan; /* the number of the last rescan that began */
};

/* flight_rows.c */

/** An empty row with a token that was never given out before; NULL: out of memory. */
struct flight_row *rows_take(struct flight *flight);
/** The row is nowhere any more; its slot may be used again. */
void rows_give(struct flight *flight, struct flight_row *row);
void rows_drop_data(struct flight *flight, struct flight_row *row);
void rows_link(struct flight *flight, struct flight_row *row);
void rows_unlink(struct flight *flight, struct flight_row *row);

/* flight_keys.c */

struct flight_key *keys_find(const struct flight *flight, struct obx_bytes name);
/** Finds or makes; NULL: out of memory. */
struct flight_key *keys_get(struct flight *flight, struct obx_bytes name);
void keys_link(struct flight *flight, struct flight_key *key, struct flight_row *row);
void keys_unlink(struct flight *flight, struct flight_row *row);
/** After any change of a key's counts: whether it is waiting for a rescan, whether it can go. The key may be
 * freed. */
void keys_refresh(struct flight *flight, struct flight_key *key);
void keys_note_passed_over(struct flight *flight, struct flight_key *key);
void keys_clear(struct flight *flight);
enum obx_code keys_init(struct flight *flight);
/** Drop the marks of keys and throttles that were not passed over in this rescan or later. */
void keys_rescan_complete(struct flight *flight, uint64_t rescan);

struct flight_throttle *throttles_find(const struct flight *flight, uint64_t hash);
/** Finds or makes; NULL: out of memory. */
struct flight_throttle *throttles_get(struct flight *flight, uint64_t hash);
bool throttles_is_closed(const struct flight *flight, const struct flight_throttle *throttle);
void throttles_refresh(struct flight *flight, struct flight_throttle *throttle);
void throttles_note_passed_over(struct flight *flight, struct flight_throttle *throttle);
void throttles_clear(struct flight *flight);
/** Count the row as active; the throttle may be NULL. */
void throttles_enter(struct flight *flight, struct flight_throttle *throttle,
                     struct flight_row *row);
/** The row is answered or gone: its topic's throttle may take another one. */
void throttles_leave(struct flight *flight, struct flight_row *row);
/** A row of the topic was confirmed. Returns whether there are refused ones to be tried at once. */
bool throttles_confirmed(struct flight *flight, uint64_t hash);
/** The row begins or ends to be refused; if it ends, it may be on its way again (active). */
void throttles_retrying(struct flight *flight, struct flight_row *row, bool begins, bool is_active);

#endif
