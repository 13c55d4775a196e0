/*
 * A store in memory for the consumer's unit tests: dedup rows, rows of inbox_parked and the effects of
 * handlers, in one transaction at a time with savepoints, as far as apply and worker can see. Any
 * statement can be made to fail, in any of the ways a server has; a COMMIT can be lost either way, or
 * so that it happens later. What other processes do at a statement is the test's to say.
 *
 * It also holds the clock (clock_now_us and its like are wrapped), which moves only when the worker
 * sleeps: so nothing takes time, and a test that waits for hours ends at once.
 */
#ifndef FAKE_STORE_H
#define FAKE_STORE_H

#include "core/counters.h"
#include "core/settings.h"
#include "store/store.h"

enum { FAKE_MESSAGES = 24, FAKE_ROWS = 48, FAKE_ORDER = 128, FAKE_ID = 32, FAKE_FATES = 3 };

enum fake_outcome { FAKE_NO_ROW, FAKE_APPLIED, FAKE_REJECTED };

struct fake_row {
    uint64_t id; /* 0: free */
    int message;
    enum park_state state;
    bool is_due;
    uint64_t due_us;
    uint32_t attempts;
    uint64_t claim;
    size_t claim_size;
    bool is_reported;
    enum obx_code why;
};

/* What a transaction can change. */
struct fake_tables {
    enum fake_outcome dedup[FAKE_MESSAGES]; /* by the number of the message */
    unsigned effects[FAKE_MESSAGES];
    int order[FAKE_ORDER]; /* of the effects */
    size_t order_count;
    struct fake_row rows[FAKE_ROWS];
    uint64_t last_row;
};

/* What has become of a COMMIT whose answer was lost. */
enum fake_fate {
    FATE_UNDONE,
    FATE_DONE,
    FATE_LATE /* it is not over: done when somebody waits for a row of it, or after a while */
};

struct fake_failure {
    unsigned at; /* the nth statement of the test, from 1; 0: none */
    enum obx_code code;
    enum fake_fate fate;
};

struct fake_store {
    struct fake_tables committed;
    struct fake_tables durable; /* what a server that dies now still has */
    bool has_written;           /* the open transaction has: its COMMIT waits for the log */
    struct fake_tables open;    /* as the session sees it */
    bool is_in_tx;
    bool is_lost;
    bool is_autocommit;
    struct {
        bool is_set;
        struct fake_tables at;
    } marks[2];
    struct fake_tables late; /* what a COMMIT that is not over will have made of late_from */
    struct fake_tables late_from;
    bool has_late;
    uint64_t late_until_us;

    struct fake_failure failure;
    struct fake_failure second; /* another one */
    unsigned statements;
    unsigned opens;
    unsigned open_failures;      /* the next so many connects fail */
    const char *last;            /* the name of the last statement */
    int parking;                 /* the message whose row is written last */
    bool is_held[FAKE_MESSAGES]; /* another transaction has written the dedup row */
    unsigned waited;             /* statements that have waited for one */
    unsigned probes;
    void (*at_statement)(struct fake_store *fake, void *ctx); /* others, before each statement */
    void *ctx;

    const char *keys[FAKE_MESSAGES]; /* of the messages; NULL: none */
    const char *receipt_queue;       /* they ask for receipts to this queue; NULL: they do not */
    bool skips_dead;
    struct counters *counters;
    char trace[2048]; /* the names of the statements, while there is room */
};

/** The one store of the test, empty. */
struct fake_store *fake_reset(void);
/** As store_open_fn. */
enum obx_code fake_open(const struct settings *settings, struct store *out, struct obx_err *err);
/** "m-3" is message 3. */
int fake_number(struct obx_bytes message_id);
/** A delivery of a message, as the broker would make it. */
struct item *fake_item(struct fake_store *fake, int message, bool is_redelivered, uint32_t epoch);

/* What a handler does: each a statement that can fail. */
enum obx_code fake_effect(struct fake_store *fake, int message, struct obx_err *err);
void fake_handler_commits(struct fake_store *fake, bool begins_again);
void fake_handler_rolls_back(struct fake_store *fake, bool begins_again);

/** Another process has applied the message, by now. */
void fake_apply_elsewhere(struct fake_store *fake, int message);
const struct fake_row *fake_find_row(const struct fake_tables *tables, int message);
size_t fake_row_count(const struct fake_tables *tables);

/** Microseconds; moves only by this and when the worker sleeps. */
void fake_pass(uint64_t us);
uint64_t fake_now_us(void);

#endif
