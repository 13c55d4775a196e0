/*
 * The real worker, its batches, its rows and its lists, turn by turn and without a thread, over a
 * store in memory (fake_store.h) whose every statement is made to fail in every way, one at a time
 * and by pairs. After each run the books are checked:
 *
 * - P3: every message that was applied has one effect, and none that was rejected has any;
 * - P4: the effects of one key are in order;
 * - P6: every other message has a dead row;
 * - P7: it comes to an end by itself.
 *
 * And for hours of outage, on the store's clock: nothing is charged, nothing dies, little is tried.
 *
 * OBX_TEST_SEED=N repeats the choice of pairs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "fake_store.h"
#include "worker/tx.h"
#include "worker/worker.h"

enum { TURNS_MAX = 4000, PAIRS = 4000, MAX_ATTEMPTS = 3, ALL_FATES = 3 };
#define US_PER_S UINT64_C(1000000)
#define HOURS(n) ((n)*3600 * US_PER_S)

/* How a handler ends its transaction. */
enum way { WAY_NONE, WAY_COMMIT, WAY_ROLLBACK, WAY_COMMIT_BEGIN, WAY_ROLLBACK_BEGIN, WAYS };

/* What happens in a run, besides failures of statements. */
struct script {
    const char *name;
    int messages;
    const char *keys[FAKE_MESSAGES];
    int order[FAKE_MESSAGES]; /* of delivery; all -1 padded: in order of their numbers */
    size_t deliveries;        /* 0: each once */
    bool is_redelivered;      /* by the broker */
    int fails;                /* the handler of this message asks for a retry, */
    unsigned fails_times;     /* so often */
    int rejects;              /* and of this one rejects; -1: none */
    int breaks;               /* and of this one ends the transaction, */
    enum way way;             /* so */
    bool is_seen;             /* by a statement of its own: obx_tx_exec and not the native handle */
    bool is_broken_by_all;    /* every handler does */
    bool starts;              /* before its write: another one begins, and the row is committed */
    bool is_retried;          /* and then asks for a retry, the first time; else as always */
    bool tries;               /* by obx_tx_exec, which refuses, and says that it is applied */
    bool skips_dead;
    bool sends_letters;
    const char *receipt_queue;
    int held;              /* another transaction has this one's dedup row; -1: none */
    uint64_t held_us;      /* and ends, undone, after this */
    int applied_elsewhere; /* another process applies this one, before the statement */
    unsigned elsewhere_at;
    bool may_double;  /* a handler that breaks its contract, and a failure right then */
    uint64_t down_us; /* so long every handler asks for a retry: a service is down */
    uint64_t bad_us;  /* so long the database undoes everything */
    int poison;       /* so many, the first ones, ask for it always */
};

#define PLAIN .fails = -1, .rejects = -1, .breaks = -1, .held = -1, .applied_elsewhere = -1

/* A handler for one message; for several, that names the one that fails; or does not; or answers for
 * each of them. */
enum mode { MODE_SINGLE, MODE_BLAMES, MODE_HALVES, MODE_ANSWERS, MODES };
static enum mode mode;

struct run {
    const struct script *script;
    enum mode mode;
    struct fake_store *fake;
    struct shared shared;
    struct worker worker;
    unsigned fails_left;
    bool is_acked[FAKE_MESSAGES];
    enum item_state last[FAKE_MESSAGES];
    uint64_t held_until_us;
    bool was_applied_elsewhere;
    unsigned letters;
    bool has_failed;
    uint64_t begun_us;
    unsigned failed_calls; /* while the service was down */
};

/* ------------------------------------------------------------------ the handler and the others */

static void break_transaction(struct run *run)
{
    switch (run->script->way) {
    case WAY_COMMIT:
        fake_handler_commits(run->fake, false);
        break;
    case WAY_ROLLBACK:
        fake_handler_rolls_back(run->fake, false);
        break;
    case WAY_COMMIT_BEGIN:
        fake_handler_commits(run->fake, true);
        break;
    case WAY_ROLLBACK_BEGIN:
        fake_handler_rolls_back(run->fake, true);
        break;
    case WAY_NONE:
    case WAYS:
        break;
    }
}

static enum obx_verdict break_and_fail(struct run *run, int message, struct obx_tx *tx)
{
    struct obx_err err = {0};

    run->has_failed = true;
    if (run->script->starts)
        fake_handler_commits(run->fake, true);
    tx->has_ended = run->script->is_seen && run->script->starts;
    tx->is_uncertain = !run->script->is_seen;
    if (fake_effect(run->fake, message, &err) != OBX_OK) {
        tx->failed = err;
        return OBX_RETRY;
    }
    break_transaction(run);
    tx->has_ended = run->script->is_seen && (run->script->starts || run->script->way != WAY_NONE);
    return OBX_RETRY;
}

static enum obx_verdict handle(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct run *run = ctx;
    const struct script *script = run->script;
    const int message = fake_number(msg->message_id);
    struct obx_err err = {0};

    if (message == script->rejects) {
        obx_tx_reason(tx, "never");
        return OBX_REJECT;
    }
    if (message == script->breaks && script->is_retried) {
        if (!run->has_failed)
            return break_and_fail(run, message, tx);
        return fake_effect(run->fake, message, &err) == OBX_OK ? OBX_APPLIED : OBX_RETRY;
    }
    if (fake_effect(run->fake, message, &err) != OBX_OK) {
        const enum obx_action action = obx_code_action(err.code);

        if (action == OBX_DO_RETRY || action == OBX_DO_RECONNECT)
            tx->failed = err;
        return OBX_RETRY;
    }
    if (fake_now_us() - run->begun_us < script->down_us) {
        run->failed_calls++;
        return OBX_RETRY;
    }
    if (message < script->poison)
        return OBX_RETRY;
    if (message == script->fails && run->fails_left > 0) {
        run->fails_left--;
        return OBX_RETRY;
    }
    if (message == script->breaks && script->tries)
        assert_int_equal(obx_tx_exec(tx, "COMMIT", OBX_NO_ARGS, NULL, &err), OBX_E_INVALID);
    if (message == script->breaks || script->is_broken_by_all) {
        break_transaction(run);
        tx->has_ended = script->is_seen && script->way != WAY_NONE;
        tx->is_uncertain = !script->is_seen;
    }
    return OBX_APPLIED;
}

/* The same for several messages: the answer is for the first that is not applied, by its name or not. */
static enum obx_verdict handle_many(const struct obx_message *const *messages, size_t count,
                                    struct obx_tx *tx, void *ctx)
{
    struct run *run = ctx;

    assert_in_range(count, 1, FAKE_MESSAGES);
    for (size_t i = 0; i < count; i++) {
        const enum obx_verdict verdict = handle(messages[i], tx, ctx);

        if (verdict == OBX_APPLIED)
            continue;
        if (run->mode == MODE_ANSWERS && tx->failed.code == OBX_OK && !tx->has_ended &&
            run->script->way == WAY_NONE) {
            obx_tx_answer(tx, i, verdict, "answer %zu", i);
            continue;
        }
        if (run->mode != MODE_HALVES)
            obx_tx_blame(tx, i);
        return verdict;
    }
    return OBX_APPLIED;
}

static void others(struct fake_store *fake, void *ctx)
{
    struct run *run = ctx;
    const struct script *script = run->script;

    if (script->held >= 0)
        fake->is_held[script->held] = fake_now_us() < run->held_until_us;
    if (script->applied_elsewhere >= 0 && !run->was_applied_elsewhere &&
        fake->statements >= script->elsewhere_at) {
        run->was_applied_elsewhere = true;
        fake_apply_elsewhere(fake, script->applied_elsewhere);
    }
}

/* ------------------------------------------------------------------ a run */

static void deliver(struct run *run, int message, bool is_redelivered)
{
    const uint32_t epoch = atomic_load(&run->shared.epoch);

    mailbox_post_one(&run->worker.box, fake_item(run->fake, message, is_redelivered, epoch));
}

static void begin(struct run *run, const struct script *script)
{
    struct settings *settings = &run->shared.settings;
    struct obx_err err = {0};

    *run = (struct run){.script = script, .fake = fake_reset(), .fails_left = script->fails_times};
    *settings = (struct settings){.group = "group-a",
                                  .queue = "queue",
                                  .workers = 1,
                                  .batch_max = script->messages > 10 ? FAKE_MESSAGES : 8,
                                  .prefetch = 100,
                                  .max_memory_bytes = 1000000,
                                  .max_attempts = MAX_ATTEMPTS,
                                  .retry_min_ms = 10,
                                  .retry_cap_ms = 100,
                                  .outage_messages = 5,
                                  .outage_pause_max_ms = 30000,
                                  .skips_dead = script->skips_dead,
                                  .dead_letter_queue = script->sends_letters ? "dead" : NULL,
                                  .accept_older_than_retention = true,
                                  .db = {.idle_s = 60}};
    run->mode = mode;
    if (mode == MODE_SINGLE)
        run->shared.handler = handle;
    else
        run->shared.batch_handler = handle_many;
    run->shared.handler_ctx = run;
    atomic_store(&run->shared.phase, (int)OBX_CONSUMER_RUNNING);
    run->fake->counters = &run->shared.counters;
    run->fake->skips_dead = script->skips_dead;
    run->fake->receipt_queue = script->receipt_queue;
    run->fake->at_statement = others;
    run->fake->ctx = run;
    run->begun_us = fake_now_us();
    run->held_until_us = fake_now_us() + script->held_us;
    memcpy(run->fake->keys, script->keys, sizeof(script->keys));
    assert_int_equal(mailbox_init(&run->shared.to_io, &err), OBX_OK);
    assert_int_equal(worker_init(&run->worker, &run->shared, 0, fake_open, &err), OBX_OK);
    if (script->deliveries > 0) {
        for (size_t i = 0; i < script->deliveries; i++)
            deliver(run, script->order[i], script->is_redelivered);
    } else {
        for (int i = 0; i < script->messages; i++)
            deliver(run, i, script->is_redelivered);
    }
}

/* What the I/O thread and the broker do with what comes back. */
static void take_back(struct run *run, struct item *item)
{
    const int message = fake_number(item->msg.message_id);
    const bool is_row = item->parked_id != 0;

    run->last[message] = item->state;
    if (item->state == ITEM_LETTER) {
        item_set(item, ITEM_CONFIRMED);
        run->letters++;
        mailbox_post_one(&run->worker.box, item);
        return;
    }
    if (item->state == ITEM_DROPPED && !is_row)
        deliver(run, message, true);
    else if (item->state == ITEM_DONE || item->state == ITEM_DEAD || item->state == ITEM_PARKED)
        run->is_acked[message] = run->is_acked[message] || !is_row;
    else if (item->state != ITEM_DROPPED)
        fail_msg("message %d came back %s", message, item_state_name(item->state));
    item_free(item, &run->shared.counters);
}

static bool is_settled(const struct run *run)
{
    const struct fake_tables *tables = &run->fake->committed;

    if (run->fake->has_late || run->worker.ready.head != NULL ||
        counters_get(&run->shared.counters, CNT_IN_FLIGHT) > 0)
        return false;
    for (size_t i = 0; i < FAKE_ROWS; i++) {
        if (tables->rows[i].id != 0 &&
            (tables->rows[i].state != PARK_DEAD || run->script->sends_letters) &&
            (tables->rows[i].is_due || run->script->skips_dead))
            return false;
    }
    return true;
}

static void turn(struct run *run)
{
    struct item_list back = {0};
    struct item *item = NULL;

    assert_true(worker_turn(&run->worker));
    fake_pass(1);
    mailbox_take(&run->shared.to_io, &back);
    while ((item = item_list_pop(&back)) != NULL)
        take_back(run, item);
}

static void go(struct run *run)
{
    /* Hours of outage take thousands of turns. */
    const int turns_max = TURNS_MAX + (int)(run->script->down_us / US_PER_S);

    for (int turns = 0; turns < turns_max; turns++) {
        if (is_settled(run))
            return;
        turn(run);
    }
    fail_msg("%s: no end; failure %s at %u, the last statements: %s", run->script->name,
             obx_code_name(run->fake->failure.code), run->fake->failure.at, run->fake->last);
}

static void end(struct run *run)
{
    struct item_list back = {0};
    struct item *item = NULL;

    worker_end(&run->worker);
    mailbox_take(&run->shared.to_io, &back);
    while ((item = item_list_pop(&back)) != NULL)
        item_free(item, &run->shared.counters);
    worker_fini(&run->worker);
    mailbox_fini(&run->shared.to_io);
}

/* ------------------------------------------------------------------ the books */

static const char *describe(const struct run *run, int message)
{
    static char text[3000];

    (void)snprintf(text, sizeof(text),
                   "%s: m-%d; way %d, failure %s/%d at %u, %s/%d at %u; last state %s; trace: %s",
                   run->script->name, message, (int)run->script->way,
                   obx_code_name(run->fake->failure.code), (int)run->fake->failure.fate,
                   run->fake->failure.at, obx_code_name(run->fake->second.code),
                   (int)run->fake->second.fate, run->fake->second.at,
                   item_state_name(run->last[message]), run->fake->trace);
    return text;
}

static bool is_frozen(const struct run *run, int message)
{
    const struct fake_row *row = fake_find_row(&run->fake->committed, message);

    return row != NULL && row->state == PARK_BLOCKED && !run->script->skips_dead;
}

static void check_message(const struct run *run, int message)
{
    const struct fake_tables *tables = &run->fake->committed;
    const struct fake_row *row = fake_find_row(tables, message);
    const unsigned effects = tables->effects[message];
    const bool was_sent = run->letters > 0 && row == NULL && effects == 0;

    if (!run->is_acked[message])
        fail_msg("not acknowledged: %s", describe(run, message));
    if (effects > 1 && !run->script->may_double)
        fail_msg("%u effects: %s", effects, describe(run, message));
    if (effects == 0 && !was_sent && !is_frozen(run, message) &&
        (row == NULL || row->state != PARK_DEAD))
        fail_msg("lost: %s", describe(run, message));
    if (effects == 1 && row != NULL && !run->script->may_double)
        fail_msg("applied, and a row is left: %s", describe(run, message));
    if (effects == 1 && tables->dedup[message] == FAKE_NO_ROW && !run->script->may_double)
        fail_msg("applied without a dedup row: %s", describe(run, message));
    if (message == run->script->rejects && effects != 0)
        fail_msg("rejected, with an effect: %s", describe(run, message));
}

static void check_order(const struct run *run)
{
    const struct fake_tables *tables = &run->fake->committed;

    if (run->script->deliveries > 0 || run->script->applied_elsewhere >= 0 ||
        run->script->may_double)
        return;
    for (size_t i = 0; i < tables->order_count; i++) {
        for (size_t j = 0; j < i; j++) {
            const char *a = run->script->keys[tables->order[i]];
            const char *b = run->script->keys[tables->order[j]];

            if (a != NULL && b != NULL && strcmp(a, b) == 0 && tables->order[j] > tables->order[i])
                fail_msg("order: %s", describe(run, tables->order[i]));
        }
    }
}

static void check(const struct run *run)
{
    for (int i = 0; i < run->script->messages; i++)
        check_message(run, i);
    check_order(run);
    assert_int_equal(counters_get(&run->shared.counters, CNT_IN_FLIGHT), 0);
}

/* Returns how many statements there were. */
static unsigned play(const struct script *script, struct fake_failure first,
                     struct fake_failure second)
{
    struct run run;
    unsigned statements = 0;

    begin(&run, script);
    run.fake->failure = first;
    run.fake->second = second;
    go(&run);
    statements = run.fake->statements;
    check(&run);
    end(&run);
    return statements;
}

/* ------------------------------------------------------------------ every failure */

static const enum obx_code codes[] = {OBX_E_DB_DEADLOCK,       OBX_E_DB_LOCK_WAIT, OBX_E_DB_GONE,
                                      OBX_E_DB_COMMIT_UNKNOWN, OBX_E_NOMEM,        OBX_E_DB_FULL,
                                      OBX_E_DB_READ_ONLY,      OBX_E_DB_QUERY,     OBX_E_TIMEOUT};
#define CODES (sizeof(codes) / sizeof(codes[0]))

static unsigned fates_of(enum obx_code code)
{
    return code == OBX_E_DB_COMMIT_UNKNOWN ? ALL_FATES : 1;
}

static void play_all(const struct script *script)
{
    const unsigned statements = play(script, (struct fake_failure){0}, (struct fake_failure){0});

    for (size_t c = 0; c < CODES; c++) {
        for (unsigned fate = 0; fate < fates_of(codes[c]); fate++) {
            for (unsigned at = 1; at <= statements; at++)
                (void)play(
                    script,
                    (struct fake_failure){.at = at, .code = codes[c], .fate = (enum fake_fate)fate},
                    (struct fake_failure){0});
        }
    }
}

static uint64_t seed;

static unsigned below(unsigned n)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)((seed >> 33) % n);
}

static struct fake_failure random_failure(unsigned statements)
{
    return (struct fake_failure){.at = 1 + below(statements),
                                 .code = codes[below(CODES)],
                                 .fate = (enum fake_fate)below(ALL_FATES)};
}

static void play_pairs(const struct script *script, unsigned pairs)
{
    const unsigned statements = play(script, (struct fake_failure){0}, (struct fake_failure){0});

    for (unsigned i = 0; i < pairs; i++) {
        const struct fake_failure first = random_failure(statements * 3 / 2);
        const struct fake_failure second = random_failure(statements * 2);

        (void)play(script, first, second);
    }
}

#define TWO_KEYS                                                                                   \
    {                                                                                              \
        "a", "b", "a", NULL, "b", "a", "b", NULL, "a", "b"                                         \
    }

#define LONG_KEYS                                                                                  \
    {                                                                                              \
        "a", "b", "a", NULL, "b", "a", "b", NULL, "a", "b", "a", "b", "a", "b", "a", NULL, "b",    \
            "a", "b", NULL, "a", "b", "a", "b"                                                     \
    }

static const struct script scripts[] = {
    {.name = "plain", .messages = 10, .keys = TWO_KEYS, PLAIN},
    {.name = "redelivered", .messages = 10, .keys = TWO_KEYS, .is_redelivered = true, PLAIN},
    {.name = "one fails once",
     .messages = 10,
     .keys = TWO_KEYS,
     .fails = 2,
     .fails_times = 1,
     .rejects = -1,
     .breaks = -1,
     .held = -1,
     .applied_elsewhere = -1},
    {.name = "one fails for ever, its key frozen",
     .messages = 10,
     .keys = TWO_KEYS,
     .fails = 2,
     .fails_times = 1000,
     .rejects = -1,
     .breaks = -1,
     .held = -1,
     .applied_elsewhere = -1},
    {.name = "one fails for ever, and is skipped",
     .messages = 10,
     .keys = TWO_KEYS,
     .fails = 1,
     .fails_times = 1000,
     .rejects = -1,
     .breaks = -1,
     .held = -1,
     .applied_elsewhere = -1,
     .skips_dead = true,
     .sends_letters = true},
    {.name = "one is rejected, and goes into the dead-letter queue",
     .messages = 10,
     .keys = TWO_KEYS,
     .fails = -1,
     .rejects = 0,
     .breaks = -1,
     .held = -1,
     .applied_elsewhere = -1,
     .sends_letters = true},
    {.name = "one is rejected, and its producer hears of it",
     .messages = 10,
     .keys = TWO_KEYS,
     .fails = -1,
     .rejects = 2,
     .breaks = -1,
     .held = -1,
     .applied_elsewhere = -1,
     .receipt_queue = "rowpost.receipts.one"},
    {.name = "copies in one batch",
     .messages = 4,
     .keys = TWO_KEYS,
     .order = {0, 1, 1, 2, 0, 3, 3, 3, 2},
     .deliveries = 9,
     PLAIN},
    {.name = "copies of one that fails",
     .messages = 3,
     .keys = TWO_KEYS,
     .order = {0, 1, 0, 2, 0},
     .deliveries = 5,
     .fails = 0,
     .fails_times = 2,
     .rejects = -1,
     .breaks = -1,
     .held = -1,
     .applied_elsewhere = -1},
    {.name = "a copy of what is applied, behind one of its key that fails for ever",
     .messages = 3,
     .keys = {"a", "a", "b"},
     .order = {0, 1, 0, 2},
     .deliveries = 4,
     .fails = 1,
     .fails_times = 1000,
     .rejects = -1,
     .breaks = -1,
     .held = -1,
     .applied_elsewhere = -1},
    {.name = "the same, applied by another process",
     .messages = 3,
     .keys = {"a", "a", "b"},
     .order = {1, 0, 2},
     .deliveries = 3,
     .fails = 1,
     .fails_times = 1000,
     .rejects = -1,
     .breaks = -1,
     .held = -1,
     .applied_elsewhere = 0,
     .elsewhere_at = 1},
    {.name = "the same, delivered again",
     .messages = 3,
     .keys = {"a", "a", "b"},
     .order = {1, 0, 2},
     .deliveries = 3,
     .is_redelivered = true,
     .fails = 1,
     .fails_times = 1000,
     .rejects = -1,
     .breaks = -1,
     .held = -1,
     .applied_elsewhere = 0,
     .elsewhere_at = 1},
    {.name = "a batch of two chunks, one of which fails",
     .messages = 24,
     .keys = LONG_KEYS,
     .fails = 21,
     .fails_times = 1,
     .rejects = -1,
     .breaks = -1,
     .held = -1,
     .applied_elsewhere = -1},
    {.name = "one is held by another transaction for a while",
     .messages = 10,
     .keys = TWO_KEYS,
     .fails = -1,
     .rejects = -1,
     .breaks = -1,
     .held = 2,
     .held_us = 300000,
     .applied_elsewhere = -1},
};
#define SCRIPTS (sizeof(scripts) / sizeof(scripts[0]))

static void every_failure_of_every_statement(void **state)
{
    (void)state;
    for (size_t i = 0; i < SCRIPTS; i++)
        play_all(&scripts[i]);
}

static void two_failures(void **state)
{
    (void)state;
    for (size_t i = 0; i < SCRIPTS; i++)
        play_pairs(&scripts[i], PAIRS / SCRIPTS);
}

/* Another process applies one of them, before each statement there is. */
static void applied_elsewhere_at_any_time(void **state)
{
    (void)state;
    for (int message = 0; message < 4; message++) {
        for (unsigned at = 1; at < 60; at++) {
            const struct script script = {.name = "applied elsewhere",
                                          .messages = 6,
                                          .keys = TWO_KEYS,
                                          .fails = 1,
                                          .fails_times = 1,
                                          .rejects = -1,
                                          .breaks = -1,
                                          .held = -1,
                                          .applied_elsewhere = message,
                                          .elsewhere_at = at};

            (void)play(&script, (struct fake_failure){0}, (struct fake_failure){0});
        }
    }
}

static struct script broken_script(enum way way, int message, int messages, bool is_seen)
{
    return (struct script){.name = "a handler ends its transaction",
                           .messages = messages,
                           .keys = LONG_KEYS,
                           .fails = -1,
                           .rejects = -1,
                           .breaks = message,
                           .way = way,
                           .is_seen = is_seen,
                           .is_broken_by_all = message < 0,
                           .held = -1,
                           .applied_elsewhere = -1};
}

static void check_broken(enum way way, int message, int messages, bool is_seen)
{
    const struct script script = broken_script(way, message, messages, is_seen);
    struct run run;

    begin(&run, &script);
    go(&run);
    check(&run);
    assert_true(counters_get(&run.shared.counters, CNT_TX_BROKEN) > 0);
    assert_true(run.worker.is_single); /* it will happen again, and then each row tells */
    end(&run);
}

/* In any way, at any place of a batch of one chunk and of two, and in all of them; whether the
 * library has seen the statement or not. Each message has one effect. */
static void handlers_that_end_their_transaction(void **state)
{
    (void)state;
    for (enum way way = WAY_COMMIT; way < WAYS; way++) {
        for (int messages = 6; messages <= FAKE_MESSAGES; messages += FAKE_MESSAGES - 6) {
            for (int message = -1; message < messages; message++) {
                check_broken(way, message, messages, false);
                check_broken(way, message, messages, true);
            }
        }
    }
}

/* The contract is broken and a statement fails: a message can be applied twice, none is lost. */
static void broken_and_failing(void **state)
{
    (void)state;
    for (enum way way = WAY_COMMIT; way < WAYS; way++) {
        for (int message = 0; message < 4; message++) {
            struct script script = broken_script(way, message, 4, message % 2 == 0);

            script.may_double = true;
            play_all(&script);
        }
    }
}

/* It ends its transaction and then fails: its row, committed with nothing or with a part, may not
 * stand for its effect. With another failure only where the end is seen: else a deadlock in the
 * handler's own transaction looks like one in ours (ADR 0027). */
static void broken_and_retried(void **state)
{
    (void)state;
    for (enum way way = WAY_NONE; way < WAYS; way++) {
        for (int variant = 0; variant < 2 * 2 * 2 * 4; variant++) {
            struct script script = broken_script(way, variant / 8, 4, variant % 2 == 0);

            script.is_redelivered = variant % 4 < 2;
            script.starts = variant % 8 < 4;
            script.is_retried = true;
            script.may_double = true;
            if (script.is_seen)
                play_all(&script);
            else
                (void)play(&script, (struct fake_failure){0}, (struct fake_failure){0});
        }
    }
}

/* What was refused is not there, whatever the handler says. */
static void a_refused_statement_is_a_failed_attempt(void **state)
{
    struct script script = broken_script(WAY_NONE, 2, 6, true);
    struct run run;

    (void)state;
    script.tries = true;
    begin(&run, &script);
    go(&run);
    check(&run);
    assert_int_equal(run.fake->committed.effects[2], 0);
    assert_int_equal(fake_find_row(&run.fake->committed, 2)->why, OBX_E_HANDLER);
    assert_int_equal(fake_find_row(&run.fake->committed, 2)->attempts, MAX_ATTEMPTS);
    assert_int_equal(counters_get(&run.shared.counters, CNT_TX_BROKEN), 0);
    end(&run);
}

/* The next one fails, which for a batch handler is in the same call: nothing is lost. Where the rows
 * are written first, as of what is delivered again, nothing is applied twice either. */
static void broken_before_one_that_fails(void **state)
{
    (void)state;
    for (enum way way = WAY_COMMIT; way < WAYS; way++) {
        for (int variant = 0; variant < 2 * 2 * 4; variant++) {
            struct script script = broken_script(way, variant / 4, 6, variant % 2 == 0);

            script.is_redelivered = variant % 4 < 2;
            script.may_double = !script.is_redelivered;
            script.fails = script.breaks + 1;
            script.fails_times = 1;
            (void)play(&script, (struct fake_failure){0}, (struct fake_failure){0});
        }
    }
}

/* A COMMIT that fails again and again for one message, as for a transaction that is larger than the
 * cluster takes, must not hold up the others. */
static void refuse_commit(struct fake_store *fake, void *ctx)
{
    struct run *run = ctx;

    (void)run;
    if (fake->open.effects[0] > fake->committed.effects[0])
        fake->failure = (struct fake_failure){.at = fake->statements + 1, .code = OBX_E_DB_QUERY};
    if (fake->last != NULL && strcmp(fake->last, "commit") != 0)
        fake->failure.at = 0;
    else if (fake->open.effects[0] > fake->committed.effects[0])
        fake->failure.at = fake->statements;
}

static void a_commit_that_always_fails_holds_up_nobody(void **state)
{
    const struct script script = {.name = "no commit", .messages = 6, .keys = TWO_KEYS, PLAIN};
    struct run run;

    (void)state;
    begin(&run, &script);
    run.fake->at_statement = refuse_commit;
    for (int turns = 0; turns < 600; turns++)
        turn(&run);
    for (int i = 1; i < script.messages; i++) {
        const bool is_of_its_key = script.keys[i] != NULL && strcmp(script.keys[i], "a") == 0;

        assert_int_equal(run.fake->committed.effects[i], is_of_its_key ? 0 : 1);
        assert_true(run.is_acked[i]);
    }
    assert_non_null(fake_find_row(&run.fake->committed, 0));
    end(&run);
}

/* The database goes away when the handlers have run, again and again. */
static void lose_release(struct fake_store *fake, void *ctx)
{
    (void)ctx;
    if (strcmp(fake->last, "release") == 0 && fake->opens < 4 * MAX_ATTEMPTS)
        fake->failure = (struct fake_failure){.at = fake->statements, .code = OBX_E_DB_GONE};
}

static void a_lost_database_costs_no_attempt(void **state)
{
    const struct script script = {.name = "lost", .messages = 1, .keys = TWO_KEYS, PLAIN};
    struct run run;

    (void)state;
    begin(&run, &script);
    run.fake->at_statement = lose_release;
    go(&run);
    check(&run);
    assert_int_equal(run.fake->committed.effects[0], 1);
    assert_int_equal(counters_get(&run.shared.counters, CNT_RETRIED), 0);
    end(&run);
}

static void apply_three(struct fake_store *fake, void *ctx)
{
    (void)ctx;
    for (int i = 0; i < 3; i++)
        fake_apply_elsewhere(fake, i);
}

/* What others have committed, in memory only: it must be in the log before its copy is acknowledged. */
static void a_copy_is_acknowledged_when_its_effect_is_durable(void **state)
{
    const struct script script = {.name = "copies", .messages = 3, .keys = TWO_KEYS, PLAIN};
    struct run run;

    (void)state;
    begin(&run, &script);
    run.fake->at_statement = apply_three;
    go(&run);
    for (int i = 0; i < script.messages; i++) {
        assert_true(run.is_acked[i]);
        assert_int_equal(run.fake->durable.dedup[i], FAKE_APPLIED);
    }
    assert_non_null(strstr(run.fake->trace, "durable commit "));
    end(&run);
}

/* A dedup row of one's own is enough: nothing more is written. */
static void what_is_applied_costs_nothing_more(void **state)
{
    const struct script script = {.name = "plain", .messages = 3, .keys = TWO_KEYS, PLAIN};
    struct run run;

    (void)state;
    begin(&run, &script);
    go(&run);
    assert_null(strstr(run.fake->trace, "durable"));
    end(&run);
}

/* The table cannot be written: no spin, a try a second. */
static void confirmed_letters_are_removed_later(void **state)
{
    const struct script script = {.name = "letters",
                                  .messages = 2,
                                  .rejects = 0,
                                  .fails = -1,
                                  .breaks = -1,
                                  .held = -1,
                                  .applied_elsewhere = -1,
                                  .sends_letters = true};
    struct run run;
    uint64_t from_us = 0;

    (void)state;
    begin(&run, &script);
    while (run.letters == 0)
        turn(&run);
    from_us = fake_now_us();
    run.fake->failure =
        (struct fake_failure){.at = run.fake->statements + 2, .code = OBX_E_DB_DEADLOCK};
    go(&run);
    assert_true(fake_now_us() - from_us >= 1000 * 1000);
    check(&run);
    end(&run);
}

/* Some are not taken by inbox_parked, for ever: a trigger, a right, a value. They wait, and those of
 * their keys; the others go on. */
struct refusal {
    struct run *run;
    enum obx_code code;
    bool is_lifted;
};

static void refuse_rows(struct fake_store *fake, void *ctx)
{
    const struct refusal *refusal = ctx;

    if (!refusal->is_lifted && strcmp(fake->last, "park") == 0 && fake->parking < 2)
        fake->failure = (struct fake_failure){.at = fake->statements, .code = refusal->code};
}

static void a_row_that_is_not_taken_holds_up_nobody(void **state)
{
    static const enum obx_code refusals[] = {OBX_E_DB_DATA, OBX_E_DB_QUERY, OBX_E_DB_DENIED,
                                             OBX_E_DB_NO_TABLE, OBX_E_DB_LOCK_WAIT};
    const struct script script = {.name = "not taken",
                                  .messages = 10,
                                  .keys = {"a", NULL, "b", "a", NULL, "b", "c", NULL, "c", NULL},
                                  .poison = 2,
                                  PLAIN};

    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct run run;
        struct refusal refusal = {.run = &run, .code = refusals[i]};

        begin(&run, &script);
        run.fake->at_statement = refuse_rows;
        run.fake->ctx = &refusal;
        for (int turns = 0; turns < 2000; turns++)
            turn(&run);
        for (int message = 2; message < script.messages; message++) {
            const bool is_of_its_key = message == 3;

            assert_int_equal(run.fake->committed.effects[message], !is_of_its_key);
            assert_int_equal(run.is_acked[message], !is_of_its_key);
        }
        assert_false(run.is_acked[0]);
        assert_false(run.is_acked[1]);
        refusal.is_lifted = true;
        go(&run);
        check(&run);
        end(&run);
    }
}

/* ------------------------------------------------------------------ outages */

#define TWELVE_KEYS                                                                                \
    {                                                                                              \
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "a", "b", "c", "d", "e", "f",  \
            "g", "h", "i", "j", "k", "l"                                                           \
    }

static uint64_t count_of(const struct run *run, enum counter which)
{
    return counters_get(&run->shared.counters, which);
}

static void check_all_applied(const struct run *run)
{
    for (int i = 0; i < run->script->messages; i++)
        assert_int_equal(run->fake->committed.effects[i], 1);
    assert_int_equal(count_of(run, CNT_DEAD), 0);
    assert_int_equal(fake_row_count(&run->fake->committed), 0);
    assert_int_equal(count_of(run, CNT_WORKERS_PAUSING), 0);
}

/* Every handler asks for a retry for hours, which is longer than all attempts take a hundred times.
 * What is tried meanwhile is little, and it goes on within a pause after that. */
static void a_service_down_for_hours_kills_nothing(void **state)
{
    const struct script script = {
        .name = "down", .messages = 24, .keys = TWELVE_KEYS, .down_us = HOURS(3), PLAIN};
    struct run run;

    (void)state;
    begin(&run, &script);
    go(&run);
    check(&run);
    check_all_applied(&run);
    assert_in_range(count_of(&run, CNT_OUTAGES), 1, 3);
    assert_true(count_of(&run, CNT_ATTEMPTS_KEPT) > 100);
    assert_in_range(count_of(&run, CNT_RETRIED), 5, 24); /* those that began it */
    assert_in_range(run.failed_calls, 100, 10000);
    assert_in_range(fake_now_us() - run.begun_us - script.down_us, 0, 70 * US_PER_S);
    end(&run);
}

/* They die of their attempts, and nobody waits. */
static void poison_among_good_ones_is_no_outage(void **state)
{
    struct script script = {.name = "poison", .messages = 24, .keys = TWELVE_KEYS, PLAIN};

    (void)state;
    for (script.poison = 1; script.poison <= 4; script.poison++) {
        struct run run;

        begin(&run, &script);
        go(&run);
        check(&run);
        assert_int_equal(count_of(&run, CNT_OUTAGES), 0);
        assert_int_equal(count_of(&run, CNT_ATTEMPTS_KEPT), 0);
        assert_int_equal(count_of(&run, CNT_DEAD), script.poison);
        assert_int_equal(fake_find_row(&run.fake->committed, 0)->attempts, MAX_ATTEMPTS);
        end(&run);
    }
}

/* Many poison messages alone look like an outage. A good one that comes waits for a pause at most. */
static void a_good_one_among_much_poison_is_applied_soon(void **state)
{
    enum { POISON = 10, ALL = 20 };
    const struct script script = {
        .name = "poison alone", .messages = POISON, .poison = POISON, PLAIN};
    struct run run;

    (void)state;
    begin(&run, &script);
    while (fake_now_us() - run.begun_us < HOURS(1))
        turn(&run);
    assert_int_equal(count_of(&run, CNT_WORKERS_PAUSING), 1);
    assert_int_equal(count_of(&run, CNT_DEAD), 0);
    for (int good = POISON; good < ALL; good++) {
        const uint64_t from_us = fake_now_us();

        deliver(&run, good, false);
        while (run.fake->committed.effects[good] == 0 && fake_now_us() - from_us < HOURS(1))
            turn(&run);
        assert_in_range(fake_now_us() - from_us, 0, 70 * US_PER_S);
    }
    end(&run);
}

static void fail_statement(struct fake_store *fake, enum obx_code code)
{
    fake->failure = (struct fake_failure){.at = fake->statements, .code = code};
}

static bool is_bad(const struct run *run)
{
    return fake_now_us() - run->begun_us < run->script->bad_us;
}

/* Nothing that a handler writes goes through. */
static void deadlock_effects(struct fake_store *fake, void *ctx)
{
    if (is_bad(ctx) && strcmp(fake->last, "effect") == 0)
        fail_statement(fake, OBX_E_DB_DEADLOCK);
}

static void lose_commits(struct fake_store *fake, void *ctx)
{
    if (is_bad(ctx) && strcmp(fake->last, "commit") == 0)
        fail_statement(fake, OBX_E_DB_GONE);
}

static void refuse_writes(struct fake_store *fake, void *ctx)
{
    if (is_bad(ctx) && strcmp(fake->last, "insert") == 0)
        fail_statement(fake, OBX_E_DB_READ_ONLY);
}

/* The database undoes every batch, in one way or another, for an hour. */
static void a_database_that_undoes_everything(void **state)
{
    static void (*const ways[])(struct fake_store *, void *) = {deadlock_effects, lose_commits,
                                                                refuse_writes};
    const struct script script = {
        .name = "all undone", .messages = 24, .keys = TWELVE_KEYS, .bad_us = HOURS(1), PLAIN};

    (void)state;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct run run;

        begin(&run, &script);
        run.fake->at_statement = ways[i];
        while (is_bad(&run))
            turn(&run);
        go(&run);
        check(&run);
        check_all_applied(&run);
        assert_true(count_of(&run, CNT_OUTAGES) > 0);
        assert_int_equal(count_of(&run, CNT_RETRIED), 0);
        assert_in_range(count_of(&run, CNT_RERUNS), 10, 3000);
        end(&run);
    }
}

/* It cannot be reached. */
static void a_database_away_for_hours_costs_no_attempt(void **state)
{
    const struct script script = {.name = "away", .messages = 24, .keys = TWELVE_KEYS, PLAIN};
    struct run run;

    (void)state;
    begin(&run, &script);
    for (int i = 0; i < 3; i++)
        turn(&run);
    run.fake->is_lost = true;
    while (fake_now_us() - run.begun_us < HOURS(3)) {
        run.fake->open_failures = 1;
        turn(&run);
    }
    run.fake->open_failures = 0;
    go(&run);
    check(&run);
    check_all_applied(&run);
    assert_int_equal(count_of(&run, CNT_RETRIED), 0);
    end(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failure_of_every_statement),
        cmocka_unit_test(two_failures),
        cmocka_unit_test(applied_elsewhere_at_any_time),
        cmocka_unit_test(handlers_that_end_their_transaction),
        cmocka_unit_test(broken_and_failing),
        cmocka_unit_test(broken_and_retried),
        cmocka_unit_test(a_refused_statement_is_a_failed_attempt),
        cmocka_unit_test(broken_before_one_that_fails),
        cmocka_unit_test(a_commit_that_always_fails_holds_up_nobody),
        cmocka_unit_test(a_lost_database_costs_no_attempt),
        cmocka_unit_test(a_copy_is_acknowledged_when_its_effect_is_durable),
        cmocka_unit_test(what_is_applied_costs_nothing_more),
        cmocka_unit_test(confirmed_letters_are_removed_later),
        cmocka_unit_test(a_row_that_is_not_taken_holds_up_nobody),
        cmocka_unit_test(a_service_down_for_hours_kills_nothing),
        cmocka_unit_test(poison_among_good_ones_is_no_outage),
        cmocka_unit_test(a_good_one_among_much_poison_is_applied_soon),
        cmocka_unit_test(a_database_that_undoes_everything),
        cmocka_unit_test(a_database_away_for_hours_costs_no_attempt),
    };
    static const char *const names[MODES] = {"consumer_worker", "consumer_worker_blames",
                                             "consumer_worker_halves", "consumer_worker_answers"};
    const char *text = getenv("OBX_TEST_SEED");
    int failed = 0;

    seed = text != NULL ? strtoull(text, NULL, 10) : 1;
    for (mode = MODE_SINGLE; mode < MODES; mode++)
        failed += cmocka_run_group_tests_name(names[mode], tests, NULL, NULL);
    return failed;
}
