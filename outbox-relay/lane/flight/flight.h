/*
 * Every row that the lane has in memory, its state, the order within its ordering key, and the
 * bounds.
 *
 * Pure logic: no clock, no server; times are given. Owned by one lane thread. The states and their
 * edges are in docs/adr/0002-lane.md. Invariants: an id is here at most once; of one key at most
 * key_window rows are READY or INFLIGHT, or more that were sent in one message, and they are the
 * lowest of the key; after a RETRYING or
 * TO_PARK row nothing of its key is READY. Proved by tests/unit/flight_test.c against a simple
 * model.
 */
#ifndef RELAY_FLIGHT_H
#define RELAY_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "obx/bytes.h"
#include "obx/err.h"
#include "outbox/outbox_row.h"

enum flight_state {
    FLIGHT_WAITING,   /* its key is busy with an earlier row.     next: READY, TO_PARK, INFLIGHT (in
                         one message with that row)  */
    FLIGHT_READY,     /* may be published now.                    next: INFLIGHT, RETRYING, TO_PARK,
                         WAITING  */
    FLIGHT_INFLIGHT,  /* sent, no answer yet.                     next: CONFIRMED, RETRYING, READY,
                         TO_PARK   */
    FLIGHT_RETRYING,  /* refused; its time will come.             next: READY, TO_PARK; evict  */
    FLIGHT_CONFIRMED, /* stored by the broker, not yet deleted.   next: forgotten */
    FLIGHT_TO_PARK /* to be parked.                            next: forgotten, RETRYING, WAITING */
};
enum { FLIGHT_STATES = 6 };
const char *flight_state_name(enum flight_state state);

struct flight;
struct flight_key;

/** A row in memory. Read-only outside of flight*.c, but for the fields said to be the user's. */
struct flight_row {
    uint64_t id;
    uint64_t token; /* names the row to the broker bridge; never used twice while the table lives */
    uint64_t created_us;
    uint64_t body_len;
    uint64_t blocked_by; /* TO_PARK: because its key is frozen by that row; 0: for its own sake */
    uint64_t due_ms;     /* RETRYING: when it may be published again */
    uint64_t sent_us;    /* user's: when it was published last */
    uint64_t topic_hash;
    struct outbox_row *data; /* NULL: has to be read again. Owned by the table */
    char *reason;            /* TO_PARK: why; owned by the table; NULL: see blocked_by */
    enum obx_code reason_code;
    uint16_t attempts;  /* user's: refusals that counted */
    uint16_t nacks;     /* user's: refusals that did not */
    uint16_t rule;      /* user's: the topic rule it was published by */
    uint8_t state;      /* enum flight_state */
    uint16_t refusals;  /* user's: how often the tables have refused to settle or park it */
    uint16_t waits;     /* user's: how often somebody had it locked then */
    bool wants_receipt; /* it asks for receipts, so a confirm is not the end of it */
    bool is_reported;   /* user's: TO_PARK: what it is has been logged */
    bool is_alone;      /* user's: it shares its message with no other row */
    bool is_packed;     /* user's: it is in the message that is being put together */
    uint64_t
        held_until_ms; /* user's: CONFIRMED, TO_PARK: not settled or parked before; 0: at once */
    uint64_t
        refused_after; /* user's: CONFIRMED: transactions of its kind when it was first refused */
    /* private */
    bool is_free;
    uint32_t
        throttle_gen; /* counted as active in its topic's throttle of that generation; 0: not */
    struct flight_key *key;
    struct flight_row *prev, *next;         /* the list of its state */
    struct flight_row *key_prev, *key_next; /* its key's rows, ascending */
    struct flight_row *hash_next;
};

struct flight_opts {
    uint32_t key_window;         /* rows of one key that may be unconfirmed at once */
    uint32_t max_ready;          /* rows that are READY by admission */
    uint32_t max_waiting;        /* followers of all keys */
    uint32_t max_key_waiting;    /* followers of one key */
    uint32_t max_retrying;       /* refused rows of all topics */
    uint32_t max_topic_retrying; /* a topic with so many refused rows admits no more */
    uint32_t max_to_park; /* rows of frozen keys that are admitted only to be parked; with twice as
                            many to be parked ones flight_is_back_pressured */
    uint32_t max_empty_keys; /* keys kept in mind only because rows of theirs were passed over */
    size_t max_bytes;        /* row data kept in memory; above it data is dropped and read again */
};

/** On failure *out is NULL. opts is copied. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code flight_create(const struct flight_opts *opts, struct flight **out,
                                          struct obx_err *err);
/** NULL is fine. */
void flight_destroy(struct flight *flight);
/** Forget everything. */
void flight_clear(struct flight *flight);

enum flight_answer {
    FLIGHT_ADMITTED,
    FLIGHT_KNOWN,   /* it is in memory already */
    FLIGHT_NO_ROOM, /* a bound is reached, or its topic keeps being refused: pass it over */
    FLIGHT_NOMEM
};
/**
 * Take a row in. The row is taken on FLIGHT_ADMITTED only (its data may be dropped at once, to keep
 * the byte budget). A row with row->blocked_by becomes TO_PARK. Order within the key is by id, also for
 * a row that comes late.
 */
enum flight_answer flight_admit_take(struct flight *flight, struct outbox_row *row);
struct flight_row *flight_find(const struct flight *flight, uint64_t id);
struct flight_row *flight_by_token(const struct flight *flight, uint64_t token);
struct obx_bytes flight_key_name(const struct flight_row *row);

/** Sort the array by id. */
void flight_sort_rows(struct flight_row **rows, size_t count);

/** First row of a state's list (READY: the next to publish; CONFIRMED: the oldest answer; RETRYING,
 * TO_PARK: any order); NULL if none. */
struct flight_row *flight_first(const struct flight *flight, enum flight_state state);
struct flight_row *flight_next(const struct flight_row *row);
/** Give a READY row the data that was read for it; taken. */
void flight_attach_take(struct flight *flight, struct flight_row *row, struct outbox_row *data);

/** The next row of its key, if that may be sent in one message with this one: it is READY, or WAITING
 * for nothing but this one and those before it. NULL: there is none. */
struct flight_row *flight_follower(const struct flight_row *row);
/** READY -> INFLIGHT; WAITING likewise, for a row whose predecessors of the key are READY and are
 * sent in the same message, before it. Its data is freed. */
void flight_sent(struct flight *flight, struct flight_row *row);
/** INFLIGHT -> CONFIRMED. The key goes on. Two refused rows of the same topic become READY, lowest
 * ids first. */
void flight_confirmed(struct flight *flight, struct flight_row *row);
/** INFLIGHT -> READY, before what has not been sent yet; call in publish order. */
void flight_unsent(struct flight *flight, struct flight_row *row);
/** INFLIGHT, READY or TO_PARK -> RETRYING. If it was to freeze its key, it does not. False: there
 * was no room, the row and what waits for it are evict. */
bool flight_retry(struct flight *flight, struct flight_row *row, uint64_t due_ms);
/** Any state but CONFIRMED -> TO_PARK. The reason is copied; out of memory leaves it without text.
 */
void flight_give_up(struct flight *flight, struct flight_row *row, enum obx_code code,
                    const char *reason);
/**
 * The (TO_PARK) row will hold its key when it is parked: every later row of the key that is not
 * INFLIGHT becomes TO_PARK after it, and so does every later row admitted until the row is
 * forgotten. Afterwards the database says who is frozen. Earlier rows of the key go on.
 */
void flight_freeze(struct flight *flight, struct flight_row *row);
/**
 * The parked head of the key goes back into the outbox: rows that were to be parked after it are
 * evict. What comes after them has to be kept out by the caller.
 */
void flight_evict_followers(struct flight *flight, struct obx_bytes key, uint64_t head);
/** Keep why the row could not be settled or parked; out of memory leaves it without text. */
void flight_set_reason(struct flight_row *row, const char *reason);
/** Whether flight_freeze was called for this row. */
bool flight_holds_key(const struct flight_row *row);
/** The row is settled, parked or gone. The key goes on. */
void flight_forget(struct flight *flight, struct flight_row *row);
/** RETRYING rows whose time has come -> READY. Returns when the next is due, UINT64_MAX if none
 * waits. */
uint64_t flight_take_due(struct flight *flight, uint64_t now_ms);
uint64_t flight_next_due_ms(const struct flight *flight);

/** Rows of a state. */
size_t flight_count(const struct flight *flight, enum flight_state state);
size_t flight_total(const struct flight *flight);
/** How many more rows may become READY by admission. */
size_t flight_room(const struct flight *flight);
/** Parking does not keep up at all: nothing more should be read. */
bool flight_is_back_pressured(const struct flight *flight);
size_t flight_bytes(const struct flight *flight);
/** Every id in memory, in any order, into ids, which has room for flight_total. Returns how many.
 */
size_t flight_list_ids(const struct flight *flight, uint64_t *ids);

/**
 * A row that was evicted for want of room, and has to be treated as never admitted; NULL: none is
 * left. Of it only the id and flight_key_name are left, until flight_drop_evicted. The reader takes
 * them before it reads anything.
 */
struct flight_row *flight_first_evicted(const struct flight *flight);
void flight_drop_evicted(struct flight *flight, struct flight_row *row);

/* Who was passed over, and when there is room for them again. */

/** Whether there is room for something that was passed over. */
bool flight_wants_rescan(const struct flight *flight);
/** A rescan of what was passed over begins; returns its number. */
uint64_t flight_rescan_begin(struct flight *flight);
/** The rescan has come to its end: what was not passed over since it began is no longer waiting
 * for one. */
void flight_rescan_complete(struct flight *flight, uint64_t rescan);
/** The reader passed a row of that key over for a reason of its own (an earlier one was passed
 * over). */
void flight_passed_over(struct flight *flight, struct obx_bytes key);

#endif
