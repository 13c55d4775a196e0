/*
 * A simulated world for the real lane: the code of turn.c and everything below it runs
 * unchanged, on one thread and under a clock of its own, against a simulated outbox with producers
 * that commit late and out of order, and a simulated broker that refuses, returns and vanishes.
 *
 * The linker puts what is here in the place of db_*, bridge_publisher_*, the clock and the random
 * numbers (WRAPS). All chance comes from one seed, so a failure is repeated by its seed.
 */
#ifndef LANE_SIM_H
#define LANE_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lane/turn.h"

/** The symbol that the linker calls in place of a function of the product. */
#define WRAPS(name) __asm__("__wrap_" #name)

enum {
    SIM_ROWS = 400,
    SIM_KEYS = 6,
    SIM_TOPICS = 4,
    SIM_TXS = 8,
    SIM_LANES = 2,
    SIM_FLIGHT = 64,
    SIM_PACK = 12,
    SIM_UNDO = 1024,
    SIM_BATCH = 16,
    SIM_DELAYED = 40,
    SIM_ROWS_MAX = 4000, /* those of moves that were rolled back included */
};

enum sim_row_state {
    SIM_OPEN,   /* its transaction has not ended */
    SIM_GHOST,  /* rolled back */
    SIM_LIVE,   /* committed, in the outbox */
    SIM_PARKED, /* in outbox_parked */
    SIM_GONE    /* deleted */
};

/** Which table does not take a row, until all is calm. */
enum sim_table { SIM_NO_TABLE, SIM_JOURNAL, SIM_PARKED_TABLE };

struct sim_row {
    uint64_t id;
    enum sim_row_state state;
    int key;   /* -1: none */
    int topic; /* index; topic 3 is of the policy "skip" */
    uint64_t created_us, began_us, commit_us;
    uint64_t commit_seq; /* order of becoming visible; again when a resume puts it back */
    bool is_bad;         /* its headers are no object */
    bool may_vanish;     /* an operator asked for its end */
    uint32_t body_len;
    unsigned sent, stored, refused;
    uint64_t pack;       /* the number of the last pack that it was in */
    uint64_t refused_us; /* when its last answer was a refusal; 0: none, or it is long ago */
    unsigned refused_at; /* how many faults there had been */
    char name[32];       /* its message id; now and then that of another row */
    /* in outbox_parked */
    uint64_t parked_id, blocked_by;
    bool holds_key;
    int request; /* 0 none, 1 resume, 2 discard */
    enum sim_table refused_by;
    /* receipts */
    bool asks, has_receipt, is_awaiting;
    unsigned sends;
    uint64_t receipt_at_us, next_send_us;
    bool is_journaled; /* in this transaction, or in one before */
};

/** A row of outbox_delayed. */
struct sim_delayed {
    uint64_t id, due_us;
    int key, topic;
    bool is_refused; /* by the outbox, until all is calm */
    size_t row;      /* where it is in sim->rows, from 1; 0: never moved */
};

struct sim_tx {
    bool is_on;
    uint64_t end_us, began_us;
    unsigned left; /* rows still to come */
    int key;       /* most of its rows are of this key */
    bool will_commit;
};

struct sim_lease {
    bool is_there;
    char owner[64];
    uint64_t epoch, expires_us;
};

/** What chance may do; 0 never, else once in so many. */
struct sim_chaos {
    unsigned db_loss, db_wait, broker_loss, pause, kill, topic_trouble, long_tx, clock_back,
        table_lock;
};

struct sim_topic {
    bool is_full, is_unbound, is_missing, is_denied;
    bool was_denied; /* at any time */
    uint64_t confirmed_us;
};

struct sim_message {
    uint64_t token;
    size_t rows[SIM_PACK]; /* of one topic */
    size_t count;
    bool is_too_large; /* as a whole: a pack whose rows are not */
    bool is_done;      /* the broker has decided; the answer is on its way */
    enum pub_outcome outcome;
};

struct bridge_publisher {
    struct bridge_publisher_opts opts;
    struct obx_err trouble;
    bool is_up, is_blocked;
    uint64_t up_at_us, unblock_us;
    struct sim_message flight[SIM_FLIGHT];
    size_t flight_count;
};

struct sim_slot {
    struct turn *turn; /* NULL: killed, and not started again yet */
    struct turn_signals signals;
    struct lane_opts opts;
    struct hist hist; /* of no interest here */
    char owner[64];
    unsigned life;
    uint64_t paused_until_us;
    unsigned stale_sends; /* sent while another held the lease, since it was stopped last */
    unsigned idle_turns; /* turns one after the other that were asked for at once and did nothing */
};

struct undo {
    size_t row;
    struct sim_row was;
};

struct sim {
    uint64_t seed, rng;
    uint64_t now_us;
    uint64_t db_back_us; /* the database's clock has stepped back by so much */
    struct sim_chaos chaos;
    bool has_poor_hash;
    uint64_t statement_us;   /* what a statement costs at least: how far away the server is */
    uint64_t created_off_us; /* applications write created_at, and in a time of their own */
    unsigned hole_chance;    /* how rare ids are that nobody uses */
    unsigned bad_row;        /* how rare rows are that can never be a message */
    bool is_much_parked;     /* by other lanes */
    bool is_calm;            /* no more faults: now everything has to come out */
    struct sim_row rows[SIM_ROWS_MAX];
    size_t row_count;
    size_t produced, row_limit; /* by transactions of producers */
    struct sim_delayed delayed[SIM_DELAYED];
    size_t delayed_count;
    unsigned refuse_chance; /* how rare rows are that a table refuses */
    unsigned delayed_chance, asking_chance;
    uint64_t parked_locked_us; /* until then somebody has outbox_parked locked */
    uint64_t waited_us;        /* for it, in all */
    size_t first_open;         /* rows before it are GHOST or GONE for good */
    uint64_t next_id, next_parked, next_seq;
    struct sim_tx txs[SIM_TXS];
    uint64_t next_tx_us;
    struct sim_topic topics[SIM_TOPICS];
    struct sim_lease lease;
    struct sim_slot slots[SIM_LANES];
    size_t lanes;
    struct topic_rule rules[2];
    uint64_t pack;                  /* how many packs there were */
    uint64_t packed;                /* rows in them */
    uint32_t pack_limit;            /* of the broker, in bytes; 0: none is met */
    const struct sim_slot *running; /* whose turn it is; NULL none */
    struct lane_opts opts;
    struct undo undo[SIM_UNDO];
    size_t undo_count;
    struct sim_lease lease_was;
    bool in_tx;
    uint64_t snapshot_seq;         /* rows that came later are not seen; UINT64_MAX: all are */
    unsigned hasty_sends;          /* of rows that had been refused just before */
    uint64_t queries, sends, work; /* work: anything that a turn may be for */
    bool is_frozen;                /* one of the lanes stands still */
    unsigned losses;               /* faults that excuse a second publish */
    bool was_missing;              /* an exchange, which is that of all topics */
    uint64_t rows_read;            /* of the outbox, by all statements that read it */
    size_t flight_max;
};

extern struct sim *sim; /* the world of the running case */

/* lane_sim.c */
uint64_t sim_random(void);
/** True once in n times; never for 0. */
bool sim_chance(unsigned n);
uint64_t sim_below(uint64_t n);
void sim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/** Run one world to its end; fails the running cmocka test with the seed. */
void sim_run(uint64_t seed);
/** By its publisher's context. */
struct sim_slot *sim_slot_of(const void *publish);
/** The process of this lane stands still for a while, in the middle of what it does; the others go
 * on. */
void sim_freeze(struct sim_slot *slot);

/* lane_sim_producers.c */
uint64_t sim_db_now_us(void);
struct sim_row *sim_find(uint64_t id);
/** A moment rescans in the database: producers go on. */
void sim_db_step(void);
/** End all transactions that are open. */
void sim_db_end_txs(void);
/** When a producer does something next. */
uint64_t sim_db_next_us(void);
/* lane_sim_receipts.c */
/** The broker has it: some consumer may report. */
void sim_delivered(struct sim_row *row);
/** Reports whose time has come. */
void sim_take_receipts(void);
bool sim_has_awaiting(void);
/** The database's clock may have stepped back by minutes: nobody waits for those here. */
void sim_awaiting_are_due(void);

/* lane_sim_side.c */
bool sim_refuses(const struct sim_row *row, enum sim_table table);
void sim_add_delayed(void);
bool sim_has_delayed(void);
/** What is still to come becomes due now. */
void sim_delayed_are_due(void);

/* lane_sim_producers.c again */
/** The row with this id in outbox_parked, if it is there. */
struct sim_row *sim_parked(uint64_t id);

/* lane_sim_broker.c */
/** Whether a poll on the broker's socket would return. */
bool sim_broker_readable(const struct bridge_publisher *pub);
/** Kill the connection of a lane that is killed. */
void sim_broker_kill(struct bridge_publisher *pub);

#endif
