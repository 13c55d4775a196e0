/* See fake_store.h. */
#include "fake_store.h"

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
#include "base/wake.h"

enum { US_PER_MS = 1000, CLAIM_MS = 1000, LATE_US = 700000, IDLE_MS = 1000 };

static struct fake_store the_fake;
static uint64_t now_us;

/* ------------------------------------------------------------------ the clock */

uint64_t __wrap_clock_now_us(void);
uint64_t __wrap_clock_now_ms(void);
int __wrap_clock_left_ms(uint64_t due_ms);
void __wrap_wake_wait(const struct wake *wake, int timeout_ms);

uint64_t __wrap_clock_now_us(void)
{
    return now_us;
}

uint64_t __wrap_clock_now_ms(void)
{
    return now_us / US_PER_MS;
}

int __wrap_clock_left_ms(uint64_t due_ms)
{
    const uint64_t now_ms = now_us / US_PER_MS;

    return due_ms <= now_ms ? 0 : (int)(due_ms - now_ms);
}

void __wrap_wake_wait(const struct wake *wake, int timeout_ms)
{
    (void)wake;
    fake_pass((uint64_t)(timeout_ms < 0 ? IDLE_MS : timeout_ms) * US_PER_MS);
}

void fake_pass(uint64_t us)
{
    now_us += us;
}

uint64_t fake_now_us(void)
{
    return now_us;
}

/* ------------------------------------------------------------------ messages */

struct fake_store *fake_reset(void)
{
    the_fake = (struct fake_store){.statements = 0};
    now_us = UINT64_C(1000000000);
    return &the_fake;
}

int fake_number(struct obx_bytes message_id)
{
    char text[FAKE_ID];

    assert_true(bytes_to_text(message_id, text, sizeof(text)));
    assert_memory_equal(text, "m-", 2);
    return (int)strtol(text + 2, NULL, 10);
}

struct item *fake_item(struct fake_store *fake, int message, bool is_redelivered, uint32_t epoch)
{
    enum { HEADERS = 4 };
    struct bridge_delivery *delivery =
        obx_calloc(1, sizeof(*delivery) + HEADERS * sizeof(struct obx_header) + FAKE_ID);
    struct obx_header *headers = NULL;
    struct item *item = NULL;
    char *id = NULL;
    size_t count = 0;

    assert_non_null(delivery);
    headers = (struct obx_header *)(void *)(delivery + 1);
    id = (char *)(headers + HEADERS);
    (void)snprintf(id, FAKE_ID, "m-%d", message);
    if (fake->keys[message] != NULL)
        headers[count++] = (struct obx_header){.name = bytes_of("cloudEvents:partitionkey"),
                                               .type = OBX_H_TEXT,
                                               .v.text = bytes_of(fake->keys[message])};
    if (fake->receipt_queue != NULL) {
        headers[count++] = (struct obx_header){.name = bytes_of("x-obx-receipt-to"),
                                               .type = OBX_H_TEXT,
                                               .v.text = bytes_of(fake->receipt_queue)};
        headers[count++] = (struct obx_header){.name = bytes_of("x-obx-receipt-from"),
                                               .type = OBX_H_TEXT,
                                               .v.text = bytes_of("group-a")};
        headers[count++] = (struct obx_header){.name = bytes_of("x-obx-receipt-token"),
                                               .type = OBX_H_TEXT,
                                               .v.text = bytes_of("token")};
    }
    delivery->redelivered = is_redelivered;
    delivery->epoch = epoch;
    delivery->msg = (struct bridge_message){
        .message_id = bytes_of(id), .headers = headers, .header_count = count};
    assert_int_equal(item_create(delivery, fake->counters, &item), OBX_OK);
    return item;
}

/* ------------------------------------------------------------------ the transaction */

static void end_tx(struct fake_store *fake)
{
    fake->is_in_tx = false;
    fake->has_written = false;
    fake->marks[0].is_set = fake->marks[1].is_set = false;
}

static void roll_back(struct fake_store *fake)
{
    fake->open = fake->committed;
    end_tx(fake);
}

static void commit(struct fake_store *fake)
{
    fake->committed = fake->open;
    if (fake->has_written)
        fake->durable = fake->committed;
    end_tx(fake);
}

static bool is_row_late(const struct fake_store *fake, size_t i)
{
    return fake->has_late &&
           memcmp(&fake->late.rows[i], &fake->late_from.rows[i], sizeof(struct fake_row)) != 0;
}

/* Rows that a COMMIT which is not over has written are locked. */
static bool is_locked(const struct fake_store *fake, const struct fake_row *row)
{
    return is_row_late(fake, (size_t)(row - fake->open.rows));
}

static void merge_late(const struct fake_store *fake, struct fake_tables *into)
{
    for (size_t i = 0; i < FAKE_MESSAGES; i++) {
        if (fake->late.dedup[i] != fake->late_from.dedup[i])
            into->dedup[i] = fake->late.dedup[i];
        into->effects[i] += fake->late.effects[i] - fake->late_from.effects[i];
    }
    for (size_t i = fake->late_from.order_count; i < fake->late.order_count; i++)
        into->order[into->order_count++] = fake->late.order[i];
    for (size_t i = 0; i < FAKE_ROWS; i++) {
        if (is_row_late(fake, i))
            into->rows[i] = fake->late.rows[i];
    }
    if (into->last_row < fake->late.last_row)
        into->last_row = fake->late.last_row;
}

/* The old session's COMMIT comes through, for everybody. */
static void finish_late(struct fake_store *fake)
{
    if (!fake->has_late)
        return;
    merge_late(fake, &fake->committed);
    merge_late(fake, &fake->open);
    merge_late(fake, &fake->marks[0].at);
    merge_late(fake, &fake->marks[1].at);
    fake->has_late = false;
}

static enum obx_code lose(struct fake_store *fake, const struct fake_failure *failure,
                          bool is_commit)
{
    const struct fake_tables tables = fake->open;

    roll_back(fake);
    fake->is_lost = true;
    if (!is_commit)
        return OBX_E_DB_GONE;
    if (failure->fate == FATE_DONE) {
        fake->committed = fake->open = tables;
    } else if (failure->fate == FATE_LATE) {
        fake->late = tables;
        fake->late_from = fake->committed;
        fake->has_late = true;
        fake->late_until_us = now_us + LATE_US;
    }
    return OBX_E_DB_COMMIT_UNKNOWN;
}

static enum obx_code fail_as(struct fake_store *fake, const struct fake_failure *failure,
                             bool is_commit)
{
    if (failure->code == OBX_E_DB_GONE || failure->code == OBX_E_DB_COMMIT_UNKNOWN)
        return lose(fake, failure, is_commit);
    if (failure->code == OBX_E_DB_DEADLOCK)
        roll_back(fake); /* the server undoes the whole transaction */
    return failure->code;
}

/* Every statement comes by here. Autocommit is off: any of them begins a transaction. */
static enum obx_code statement(struct fake_store *fake, const char *name, struct obx_err *err)
{
    const bool is_commit = strcmp(name, "commit") == 0;
    const size_t used = strlen(fake->trace);
    enum obx_code code = OBX_OK;

    fake->statements++;
    fake->last = name;
    if (used + strlen(name) + 2 < sizeof(fake->trace))
        (void)snprintf(fake->trace + used, sizeof(fake->trace) - used, "%s ", name);
    if (fake->has_late && now_us >= fake->late_until_us)
        finish_late(fake);
    if (fake->at_statement != NULL)
        fake->at_statement(fake, fake->ctx);
    if (fake->is_lost)
        return obx_fail(err, OBX_E_DB_GONE, "%s: not connected", name);
    if (fake->statements == fake->failure.at)
        code = fail_as(fake, &fake->failure, is_commit);
    else if (fake->statements == fake->second.at)
        code = fail_as(fake, &fake->second, is_commit);
    if (code != OBX_OK)
        return obx_fail(err, code, "%s", name);
    if (!fake->is_in_tx && !fake->is_autocommit) {
        fake->open = fake->committed;
        fake->is_in_tx = true;
    }
    return OBX_OK;
}

static enum obx_code op_begin(void *ctx, struct obx_err *err)
{
    struct fake_store *fake = ctx;

    if (fake->is_in_tx)
        commit(fake); /* as a server does */
    return statement(fake, "begin", err);
}

static enum obx_code op_set_mark(void *ctx, enum store_mark mark, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, mark == STORE_MARK_TX ? "mark" : "chunk", err);

    if (rc != OBX_OK)
        return rc;
    fake->marks[mark].is_set = true;
    fake->marks[mark].at = fake->open;
    return OBX_OK;
}

static enum obx_code op_undo_to(void *ctx, enum store_mark mark, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "undo", err);

    if (rc != OBX_OK)
        return rc;
    if (!fake->marks[mark].is_set)
        return obx_fail(err, OBX_E_DB_NO_SAVEPOINT, "undo");
    fake->open = fake->marks[mark].at;
    if (mark == STORE_MARK_TX)
        fake->marks[STORE_MARK_CHUNK].is_set = false;
    return OBX_OK;
}

static enum obx_code op_release(void *ctx, enum store_mark mark, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "release", err);

    if (rc != OBX_OK)
        return rc;
    return fake->marks[mark].is_set ? OBX_OK : obx_fail(err, OBX_E_DB_NO_SAVEPOINT, "release");
}

static enum obx_code op_make_durable(void *ctx, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "durable", err);

    if (rc == OBX_OK)
        fake->has_written = true;
    return rc;
}

static enum obx_code op_commit(void *ctx, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "commit", err);

    if (rc == OBX_OK)
        commit(fake);
    return rc;
}

static enum obx_code op_rollback(void *ctx, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "rollback", err);

    if (rc == OBX_OK)
        roll_back(fake);
    return rc;
}

/* ------------------------------------------------------------------ dedup rows */

/* Waits for whatever holds the row: for a late COMMIT until it is done, for others in vain. */
static enum obx_code wait_for_row(struct fake_store *fake, int message, bool is_probe,
                                  struct obx_err *err)
{
    if (fake->is_held[message]) {
        fake->waited += !is_probe;
        return obx_fail(err, OBX_E_DB_LOCK_WAIT, "m-%d is held", message);
    }
    if (!fake->has_late || fake->late.dedup[message] == fake->late_from.dedup[message])
        return OBX_OK;
    if (is_probe)
        return obx_fail(err, OBX_E_DB_LOCK_WAIT, "m-%d is held", message);
    finish_late(fake);
    return OBX_OK;
}

static enum obx_code op_insert(void *ctx, struct obx_bytes id, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    const int message = fake_number(id);
    enum obx_code rc = statement(fake, "insert", err);

    if (rc == OBX_OK)
        rc = wait_for_row(fake, message, false, err);
    if (rc != OBX_OK)
        return rc;
    if (fake->open.dedup[message] != FAKE_NO_ROW)
        return obx_fail(err, OBX_E_DB_DUPLICATE, "m-%d", message);
    fake->open.dedup[message] = FAKE_APPLIED;
    fake->has_written = true;
    if (fake->is_autocommit)
        fake->committed = fake->open;
    return OBX_OK;
}

static enum obx_code op_find_applied(void *ctx, struct item **items, size_t count,
                                     struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "find", err);

    for (size_t i = 0; i < count && rc == OBX_OK; i++) {
        if (items[i]->found == FOUND_GROUPED &&
            fake->open.dedup[fake_number(items[i]->msg.message_id)] != FAKE_NO_ROW)
            items[i]->found = FOUND_DUPLICATE;
    }
    return rc;
}

/* Rows before the one that fails are undone with the statement. */
static enum obx_code op_insert_many(void *ctx, struct item **items, size_t count,
                                    struct obx_err *err)
{
    struct fake_store *fake = ctx;
    struct fake_tables before;
    enum obx_code rc = statement(fake, "rows", err);

    before = fake->open;
    for (size_t i = 0; i < count && rc == OBX_OK; i++) {
        const int message = fake_number(items[i]->msg.message_id);

        if (items[i]->dedup != DEDUP_LATER)
            continue;
        rc = wait_for_row(fake, message, false, err);
        if (rc == OBX_OK && fake->open.dedup[message] != FAKE_NO_ROW)
            rc = obx_fail(err, OBX_E_DB_DUPLICATE, "m-%d", message);
        if (rc == OBX_OK)
            fake->open.dedup[message] = FAKE_APPLIED;
    }
    if (rc == OBX_OK)
        fake->has_written = true;
    else if (rc == OBX_E_DB_DUPLICATE || rc == OBX_E_DB_LOCK_WAIT)
        fake->open = before;
    return rc;
}

static enum obx_code op_probe(void *ctx, struct obx_bytes id, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "probe", err);

    fake->probes++;
    return rc == OBX_OK ? wait_for_row(fake, fake_number(id), true, err) : rc;
}

static enum obx_code op_remove(void *ctx, struct obx_bytes id, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "remove", err);

    if (rc == OBX_OK)
        fake->open.dedup[fake_number(id)] = FAKE_NO_ROW;
    return rc;
}

static enum obx_code op_has(void *ctx, struct obx_bytes id, bool *has, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "has", err);

    *has = rc == OBX_OK && fake->open.dedup[fake_number(id)] != FAKE_NO_ROW;
    return rc;
}

static enum obx_code op_has_committed(void *ctx, struct obx_bytes id, bool *has,
                                      struct obx_err *err)
{
    struct fake_store *fake = ctx;

    (void)err; /* over a session of its own */
    *has = fake->committed.dedup[fake_number(id)] != FAKE_NO_ROW;
    return OBX_OK;
}

static enum obx_code op_reject(void *ctx, const struct item *item, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    const int message = fake_number(item->msg.message_id);
    enum obx_code rc = statement(fake, "reject", err);

    if (rc == OBX_OK && fake->open.dedup[message] == FAKE_NO_ROW)
        fake->open.dedup[message] = FAKE_REJECTED;
    return rc;
}

static enum obx_code op_read_outcome(void *ctx, struct item *item, enum dedup_outcome *outcome,
                                     struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "outcome", err);

    *outcome = OUTCOME_APPLIED;
    if (rc == OBX_OK && fake->open.dedup[fake_number(item->msg.message_id)] == FAKE_REJECTED) {
        *outcome = OUTCOME_REJECTED;
        item_reason(item, OBX_E_REJECTED, "rejected before");
    }
    return rc;
}

/* ------------------------------------------------------------------ rows of inbox_parked */

const struct fake_row *fake_find_row(const struct fake_tables *tables, int message)
{
    for (size_t i = 0; i < FAKE_ROWS; i++) {
        if (tables->rows[i].id != 0 && tables->rows[i].message == message)
            return &tables->rows[i];
    }
    return NULL;
}

size_t fake_row_count(const struct fake_tables *tables)
{
    size_t count = 0;

    for (size_t i = 0; i < FAKE_ROWS; i++)
        count += tables->rows[i].id != 0;
    return count;
}

static struct fake_row *row_by_id(struct fake_store *fake, uint64_t id)
{
    for (size_t i = 0; i < FAKE_ROWS; i++) {
        if (fake->open.rows[i].id == id)
            return &fake->open.rows[i];
    }
    return NULL;
}

static bool is_key_of(const struct fake_store *fake, const struct fake_row *row, const char *key)
{
    const char *own = fake->keys[row->message];

    return row->id != 0 && own != NULL && key != NULL && strcmp(own, key) == 0;
}

static bool holds_key(const struct fake_store *fake, const struct fake_row *row)
{
    return !row->is_reported && !(fake->skips_dead && row->state == PARK_DEAD);
}

/* The first row that holds up a key; NULL: none does. */
static struct fake_row *first_of_key(struct fake_store *fake, const char *key)
{
    struct fake_row *first = NULL;

    for (size_t i = 0; i < FAKE_ROWS; i++) {
        struct fake_row *row = &fake->open.rows[i];

        if (is_key_of(fake, row, key) && holds_key(fake, row) &&
            (first == NULL || row->id < first->id))
            first = row;
    }
    return first;
}

static enum obx_code op_any_parked(void *ctx, bool *any, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "any", err);

    *any = rc == OBX_OK && fake_row_count(&fake->open) > 0;
    return rc;
}

static void look_up_delivery(struct fake_store *fake, struct item *item)
{
    const int message = fake_number(item->msg.message_id);
    const struct fake_row *row = fake_find_row(&fake->open, message);

    item->found = FOUND_NOTHING;
    if (row != NULL) {
        item->found = row->is_reported && item->wants_receipt ? FOUND_REJECTED : FOUND_ROW;
        if (item->found == FOUND_REJECTED)
            item_reason(item, OBX_E_REJECTED, "rejected before");
    } else if (first_of_key(fake, fake->keys[message]) != NULL) {
        item->found = FOUND_BLOCKED;
        if (fake->open.dedup[message] != FAKE_NO_ROW)
            item->found =
                fake->open.dedup[message] == FAKE_APPLIED ? FOUND_APPLIED : FOUND_REJECTED;
    }
}

/* A claimed row may run if it is the first of its key, or follows that one in the batch. */
static void look_up_row(struct fake_store *fake, struct item **items, size_t at)
{
    struct item *item = items[at];
    const struct fake_row *row = row_by_id(fake, item->parked_id);
    const struct fake_row *first = NULL;

    item->found = FOUND_LOST;
    if (row == NULL || row->claim != item->claim || is_locked(fake, row))
        return;
    item->found = FOUND_NOTHING;
    first = first_of_key(fake, fake->keys[row->message]);
    for (size_t i = 0; first != NULL && i <= at; i++) {
        if (items[i]->parked_id == first->id)
            return;
    }
    if (first != NULL)
        item->found = FOUND_BLOCKED;
}

static enum obx_code op_lookup(void *ctx, struct item **items, size_t count, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "lookup", err);

    for (size_t i = 0; i < count && rc == OBX_OK; i++) {
        if (items[i]->parked_id == 0)
            look_up_delivery(fake, items[i]);
        else
            look_up_row(fake, items, i);
    }
    return rc;
}

static struct fake_row *new_row(struct fake_store *fake, int message)
{
    struct fake_row *row = NULL;

    for (size_t i = 0; i < FAKE_ROWS && row == NULL; i++) {
        if (fake->open.rows[i].id == 0 && !is_row_late(fake, i))
            row = &fake->open.rows[i];
    }
    assert_non_null(row);
    *row = (struct fake_row){.id = ++fake->open.last_row, .message = message};
    return row;
}

static enum obx_code op_park(void *ctx, const struct item *item, const struct park *park,
                             struct obx_err *err)
{
    struct fake_store *fake = ctx;
    const int message = fake_number(item->msg.message_id);
    struct fake_row *row = NULL;
    enum obx_code rc = OBX_OK;

    fake->parking = message;
    rc = statement(fake, "park", err);
    if (rc != OBX_OK)
        return rc;
    if (fake->has_late && fake_find_row(&fake->late, message) != NULL)
        finish_late(fake); /* the unique key waits for it */
    if (item->parked_id != 0)
        row = row_by_id(fake, item->parked_id);
    else if (fake_find_row(&fake->open, message) == NULL)
        row = new_row(fake, message);
    if (row == NULL)
        return OBX_OK; /* a copy's row stays as it is */
    row->state = park->state;
    row->attempts = park->attempts;
    row->is_due = park->is_due;
    row->due_us = now_us + (uint64_t)park->wait_ms * US_PER_MS;
    row->is_reported = park->is_reported;
    row->claim = 0;
    row->claim_size = 0;
    if (park->has_reason)
        row->why = item->why.code;
    return OBX_OK;
}

static enum obx_code op_unpark(void *ctx, const struct item *item, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "unpark", err);
    struct fake_row *row = row_by_id(fake, item->parked_id);

    if (rc == OBX_OK && row != NULL)
        *row = (struct fake_row){.id = 0};
    return rc;
}

static bool promote_key(struct fake_store *fake, const char *key)
{
    struct fake_row *first = first_of_key(fake, key);

    if (first == NULL || first->state != PARK_BLOCKED || is_locked(fake, first))
        return false;
    first->state = PARK_WAITING;
    first->is_due = true;
    first->due_us = now_us;
    return true;
}

static enum obx_code op_promote(void *ctx, const struct item *item, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = statement(fake, "promote", err);

    if (rc == OBX_OK)
        (void)promote_key(fake, fake->keys[fake_number(item->msg.message_id)]);
    return rc;
}

/* ------------------------------------------------------------------ between batches */

static struct fake_row *next_due(struct fake_store *fake, bool takes_letters)
{
    struct fake_row *next = NULL;

    for (size_t i = 0; i < FAKE_ROWS; i++) {
        struct fake_row *row = &fake->open.rows[i];

        if (row->id != 0 && row->is_due && !is_locked(fake, row) &&
            (takes_letters || row->state != PARK_DEAD) &&
            (next == NULL || row->due_us < next->due_us))
            next = row;
    }
    return next;
}

static struct item *take_row(struct fake_store *fake, struct fake_row *row,
                             const struct due_opts *opts, struct due_taken *taken)
{
    struct item *item = fake_item(fake, row->message, true, 0);

    item->parked_id = row->id;
    item->attempts = row->attempts;
    item->why.code = row->why;
    item->worker = opts->worker;
    item_list_push(&taken->items, item);
    return item;
}

/* See due.c: alone when its claim has expired, and then its attempt counts if it was alone before. */
static void claim_row(struct fake_store *fake, struct fake_row *row, const struct due_opts *opts,
                      struct due_taken *taken)
{
    const bool is_in_doubt = row->claim != 0;
    struct item *item = take_row(fake, row, opts, taken);

    if (is_in_doubt || row->why == OBX_E_DB_LOCK_WAIT || row->why == OBX_E_DB_DEADLOCK)
        item->plan = PLAN_ALONE;
    if (is_in_doubt && row->claim_size <= 1 && row->attempts >= opts->settings->max_attempts) {
        item->plan = PLAN_GIVE_UP;
        item_reason(item, OBX_E_HANDLER, "died");
    } else if (!is_in_doubt || row->claim_size <= 1) {
        item->attempts = ++row->attempts;
    }
    item->claim = row->claim = row->id * 1000 + fake->statements;
    row->claim_size = is_in_doubt ? 1 : 2;
    row->due_us = now_us + (uint64_t)CLAIM_MS * US_PER_MS;
    row->is_due = row->state == PARK_WAITING;
}

/* Those of the head's key that follow it share its claim. */
static void claim_followers(struct fake_store *fake, const struct fake_row *head,
                            const struct due_opts *opts, struct due_taken *taken)
{
    const char *key = fake->keys[head->message];

    for (uint64_t id = head->id + 1;
         key != NULL && id <= fake->open.last_row && taken->items.count < opts->max_rows; id++) {
        struct fake_row *row = row_by_id(fake, id);

        if (row == NULL || !is_key_of(fake, row, key) || !holds_key(fake, row))
            continue;
        if (row->state != PARK_BLOCKED || row->claim != 0 || is_locked(fake, row))
            return;
        claim_row(fake, row, opts, taken);
    }
}

static void take_up(struct fake_store *fake, const struct due_opts *opts, struct due_taken *taken)
{
    struct fake_row *row = NULL;

    while (taken->items.count < opts->max_rows &&
           (row = next_due(fake, opts->takes_letters)) != NULL && row->due_us <= now_us) {
        const bool is_in_doubt = row->claim != 0;

        if (is_in_doubt && taken->items.count > 0)
            break;
        if (row->state == PARK_DEAD) {
            item_set(take_row(fake, row, opts, taken), ITEM_LETTER);
            row->due_us = now_us + (uint64_t)60 * CLAIM_MS * US_PER_MS;
            taken->letters++;
            continue;
        }
        claim_row(fake, row, opts, taken);
        if (is_in_doubt)
            break;
        claim_followers(fake, row, opts, taken);
    }
}

/* In a transaction of its own, of three statements. */
static enum obx_code begin_own(struct fake_store *fake, const char *name, struct obx_err *err)
{
    enum obx_code rc = op_begin(fake, err);

    return rc == OBX_OK ? statement(fake, name, err) : rc;
}

static enum obx_code end_own(struct fake_store *fake, enum obx_code rc, struct obx_err *err)
{
    if (rc == OBX_OK)
        return op_commit(fake, err);
    (void)op_rollback(fake, NULL);
    return rc;
}

static enum obx_code op_take_due(void *ctx, const struct due_opts *opts, struct due_taken *taken,
                                 struct obx_err *err)
{
    struct fake_store *fake = ctx;
    const struct fake_row *next = NULL;
    struct item *item = NULL;
    enum obx_code rc = begin_own(fake, "due", err);

    *taken = (struct due_taken){.next_ms = UINT64_MAX};
    if (rc == OBX_OK) {
        taken->has_rows = next_due(fake, true) != NULL;
        take_up(fake, opts, taken);
        next = next_due(fake, opts->takes_letters);
        if (next != NULL)
            taken->next_ms = next->due_us <= now_us ? 0 : (next->due_us - now_us) / US_PER_MS + 1;
    }
    rc = end_own(fake, rc, err);
    while (rc != OBX_OK && (item = item_list_pop(&taken->items)) != NULL)
        item_free(item, fake->counters);
    return rc;
}

static enum obx_code op_give_back(void *ctx, const struct item_list *items, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = begin_own(fake, "give_back", err);

    for (const struct item *item = items->head; item != NULL && rc == OBX_OK; item = item->next) {
        struct fake_row *row = item->parked_id != 0 ? row_by_id(fake, item->parked_id) : NULL;

        if (row == NULL || row->claim != item->claim || item->plan == PLAN_GIVE_UP)
            continue;
        row->attempts--;
        row->claim = 0;
        row->due_us = now_us;
    }
    return end_own(fake, rc, err);
}

static enum obx_code op_remove_letters(void *ctx, const struct item_list *letters,
                                       struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = begin_own(fake, "letters", err);

    for (const struct item *item = letters->head; item != NULL && rc == OBX_OK; item = item->next) {
        struct fake_row *row = row_by_id(fake, item->parked_id);

        if (row != NULL)
            *row = (struct fake_row){.id = 0};
        (void)promote_key(fake, fake->keys[fake_number(item->msg.message_id)]);
    }
    return end_own(fake, rc, err);
}

static enum obx_code op_free_keys(void *ctx, struct obx_buf *from, uint64_t *found,
                                  struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = begin_own(fake, "free_keys", err);

    (void)from;
    *found = 0;
    for (int message = 0; message < FAKE_MESSAGES && rc == OBX_OK; message++)
        *found += promote_key(fake, fake->keys[message]);
    return end_own(fake, rc, err);
}

static enum obx_code op_count_parked(void *ctx, uint64_t max, uint64_t *count, struct obx_err *err)
{
    struct fake_store *fake = ctx;
    enum obx_code rc = begin_own(fake, "count", err);

    (void)max;
    *count = fake_row_count(&fake->open);
    return end_own(fake, rc, err);
}

/* ------------------------------------------------------------------ the connection */

static enum obx_code op_ping(void *ctx, struct obx_err *err)
{
    struct fake_store *fake = ctx;

    return fake->is_lost ? obx_fail(err, OBX_E_DB_GONE, "ping") : OBX_OK;
}

static void op_close(void *ctx)
{
    struct fake_store *fake = ctx;

    roll_back(fake);
    fake->is_lost = true;
}

static struct db *op_session(void *ctx)
{
    (void)ctx;
    return NULL;
}

static uint64_t op_connection_id(void *ctx)
{
    return ((struct fake_store *)ctx)->opens;
}

/* Begins no transaction. */
static enum obx_code op_ask_status(void *ctx, struct obx_err *err)
{
    struct fake_store *fake = ctx;

    return fake->is_lost ? obx_fail(err, OBX_E_DB_GONE, "status") : OBX_OK;
}

static bool op_in_transaction(void *ctx)
{
    return ((struct fake_store *)ctx)->is_in_tx;
}

static bool op_is_lost(void *ctx)
{
    return ((struct fake_store *)ctx)->is_lost;
}

static const struct store_ops ops = {
    .begin = op_begin,
    .set_mark = op_set_mark,
    .undo_to = op_undo_to,
    .release = op_release,
    .insert = op_insert,
    .find_applied = op_find_applied,
    .insert_many = op_insert_many,
    .probe = op_probe,
    .remove = op_remove,
    .has = op_has,
    .has_committed = op_has_committed,
    .make_durable = op_make_durable,
    .commit = op_commit,
    .rollback = op_rollback,
    .reject = op_reject,
    .read_outcome = op_read_outcome,
    .any_parked = op_any_parked,
    .lookup = op_lookup,
    .park = op_park,
    .unpark = op_unpark,
    .promote = op_promote,
    .take_due = op_take_due,
    .give_back = op_give_back,
    .remove_letters = op_remove_letters,
    .free_keys = op_free_keys,
    .count_parked = op_count_parked,
    .ping = op_ping,
    .close = op_close,
    .session = op_session,
    .connection_id = op_connection_id,
    .ask_status = op_ask_status,
    .in_transaction = op_in_transaction,
    .is_lost = op_is_lost,
};

enum obx_code fake_open(const struct settings *settings, struct store *out, struct obx_err *err)
{
    struct fake_store *fake = &the_fake;

    (void)settings;
    *out = (struct store){0};
    if (fake->open_failures > 0) {
        fake->open_failures--;
        return obx_fail(err, OBX_E_DB_CONNECT, "away");
    }
    fake->opens++;
    fake->open = fake->committed;
    fake->is_lost = false;
    fake->is_autocommit = false;
    end_tx(fake);
    *out = (struct store){.ops = &ops, .ctx = fake};
    return OBX_OK;
}

/* ------------------------------------------------------------------ handlers and others */

enum obx_code fake_effect(struct fake_store *fake, int message, struct obx_err *err)
{
    enum obx_code rc = statement(fake, "effect", err);

    if (rc != OBX_OK)
        return rc;
    assert_true(fake->open.order_count < FAKE_ORDER);
    fake->open.effects[message]++;
    fake->open.order[fake->open.order_count++] = message;
    if (fake->is_autocommit)
        fake->committed = fake->open;
    return OBX_OK;
}

void fake_handler_commits(struct fake_store *fake, bool begins_again)
{
    if (fake->is_lost)
        return;
    commit(fake);
    fake->is_in_tx = begins_again;
}

void fake_handler_rolls_back(struct fake_store *fake, bool begins_again)
{
    if (fake->is_lost)
        return;
    roll_back(fake);
    fake->is_in_tx = begins_again;
}

static void apply_in(struct fake_tables *tables, int message)
{
    tables->dedup[message] = FAKE_APPLIED;
    tables->effects[message]++;
    tables->order[tables->order_count++] = message;
}

void fake_apply_elsewhere(struct fake_store *fake, int message)
{
    if (fake->committed.dedup[message] != FAKE_NO_ROW || fake->open.dedup[message] != FAKE_NO_ROW)
        return; /* it would wait for us, and then see the row */
    apply_in(&fake->committed, message);
    apply_in(&fake->open, message);
    for (int i = 0; i < 2; i++) {
        if (fake->marks[i].is_set)
            apply_in(&fake->marks[i].at, message);
    }
}
