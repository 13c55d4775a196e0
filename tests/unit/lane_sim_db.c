/*
 * The simulated database: producers with open transactions, the outbox, outbox_parked and the
 * lease; and the lane's statements on them, known by their texts. See lane_sim.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lane_sim.h"
#include "sql/schema.h"

enum { COLUMNS = 10, CLOCK_SKEW_US = 777000000, LONG_TX_US = 9000000, INLINE = 100 };

/* ---- results ---- */

struct cell {
    bool is_null;
    uint64_t number;
    struct obx_bytes text;
};

struct db_rows {
    size_t count, cap, at; /* at: 1-based, 0 before the first */
    struct cell (*rows)[COLUMNS];
};

struct db {
    int unused;
};

struct call {
    const char *sql;
    const struct db_value *args;
    uint64_t affected;
    struct db_rows *rows;
};

static struct cell *add_row(struct call *call)
{
    struct db_rows *rows = call->rows;

    if (rows->count == rows->cap) {
        rows->cap = rows->cap == 0 ? 16 : rows->cap * 2;
        rows->rows = realloc(rows->rows, rows->cap * sizeof(rows->rows[0]));
        if (rows->rows == NULL)
            abort();
    }
    memset(&rows->rows[rows->count], 0, sizeof(rows->rows[0]));
    return rows->rows[rows->count++];
}

static struct cell number(uint64_t n)
{
    return (struct cell){.number = n, .text = {.p = "", .len = 0}};
}

static struct cell text(const char *t)
{
    return t == NULL ? (struct cell){.is_null = true} : (struct cell){.text = bytes_of(t)};
}

bool sim_rows_next(struct db_rows *rows) WRAPS(db_rows_next);
bool sim_rows_next(struct db_rows *rows)
{
    return rows->at < rows->count ? (rows->at++, true) : false;
}

size_t sim_rows_count(const struct db_rows *rows) WRAPS(db_rows_count);
size_t sim_rows_count(const struct db_rows *rows)
{
    return rows->count;
}

struct obx_bytes sim_rows_bytes(const struct db_rows *rows, unsigned column) WRAPS(db_rows_bytes);
struct obx_bytes sim_rows_bytes(const struct db_rows *rows, unsigned column)
{
    return rows->rows[rows->at - 1][column].text;
}

uint64_t sim_rows_u64(const struct db_rows *rows, unsigned column) WRAPS(db_rows_u64);
uint64_t sim_rows_u64(const struct db_rows *rows, unsigned column)
{
    return rows->rows[rows->at - 1][column].number;
}

void sim_rows_free(struct db_rows *rows) WRAPS(db_rows_free);
void sim_rows_free(struct db_rows *rows)
{
    if (rows != NULL)
        free(rows->rows);
    free(rows);
}

/* ---- rows ---- */

static const char *const key_names[SIM_KEYS] = {"k0", "k1", "k2", "k3", "k4", "k5"};
static const char *const topic_names[SIM_TOPICS] = {"t0", "t1", "t2", "s3"};

static const char *key_of(const struct sim_row *row)
{
    return row->key < 0 ? NULL : key_names[row->key];
}

uint64_t sim_db_now_us(void)
{
    return sim->now_us + CLOCK_SKEW_US;
}

struct sim_row *sim_find(uint64_t id)
{
    size_t lo = 0;
    size_t hi = sim->row_count;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (sim->rows[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < sim->row_count && sim->rows[lo].id == id ? &sim->rows[lo] : NULL;
}

struct sim_row *sim_parked(uint64_t id)
{
    struct sim_row *row = sim_find(id);

    return row != NULL && row->state == SIM_PARKED ? row : NULL;
}

/* The place of the first row above id. */
static size_t above(uint64_t id)
{
    size_t lo = sim->first_open;
    size_t hi = sim->row_count;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (sim->rows[mid].id <= id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* ---- producers ---- */

static void insert_row(struct sim_tx *tx)
{
    struct sim_row *row = &sim->rows[sim->row_count];

    if (sim->row_count >= sim->row_limit)
        return;
    sim->next_id += sim_chance(12) ? 1 + sim_below(sim_chance(8) ? 500 : 4) : 1;
    *row = (struct sim_row){.id = sim->next_id,
                            .state = SIM_OPEN,
                            .key = sim_chance(5) ? (int)sim_below(SIM_KEYS + 1) - 1 : tx->key,
                            .topic = sim_chance(3) ? (int)sim_below(SIM_TOPICS) : 0,
                            .created_us = sim_db_now_us(),
                            .began_us = tx->began_us,
                            .is_bad = sim_chance(sim->bad_row),
                            .body_len = sim_chance(6) ? INLINE + 1 : 3,
                            .parked_id = (uint64_t)(tx - sim->txs)};
    if (sim_chance(sim->bad_row))
        row->body_len = 5000; /* above max_body_bytes */
    (void)snprintf(row->name, sizeof(row->name), "m%llu", (unsigned long long)row->id);
    sim->row_count++;
}

static void end_tx(struct sim_tx *tx)
{
    tx->is_on = false;
    sim->next_seq++;
    for (size_t i = 0; i < sim->row_count; i++) {
        struct sim_row *row = &sim->rows[i];

        if (row->state != SIM_OPEN || row->parked_id != (uint64_t)(tx - sim->txs))
            continue;
        row->parked_id = 0;
        row->state = tx->will_commit ? SIM_LIVE : SIM_GHOST;
        row->commit_seq = sim->next_seq;
        row->commit_us = sim->now_us;
        row->is_exempt = sim->now_us - tx->began_us > LONG_TX_US;
    }
}

static void begin_tx(struct sim_tx *tx)
{
    uint64_t length = sim_below(20000);

    if (sim_chance(10))
        length = sim_below(3000000);
    if (sim_chance(sim->chaos.long_tx))
        length = sim_below(25000000);
    *tx = (struct sim_tx){.is_on = true,
                          .began_us = sim->now_us,
                          .end_us = sim->now_us + length,
                          .left = 1 + (unsigned)sim_below(sim_chance(8) ? 40 : 3),
                          .key = (int)sim_below(SIM_KEYS + 1) - 1,
                          .will_commit = !sim_chance(6)};
}

static void run_txs(void)
{
    for (size_t i = 0; i < SIM_TXS; i++) {
        struct sim_tx *tx = &sim->txs[i];

        if (!tx->is_on)
            continue;
        while (tx->left > 0 && (sim_chance(2) || sim->now_us >= tx->end_us)) {
            insert_row(tx);
            tx->left--;
        }
        if (tx->left == 0 && sim->now_us >= tx->end_us)
            end_tx(tx);
    }
}

void sim_db_step(void)
{
    struct sim_tx *tx = &sim->txs[sim_below(SIM_TXS)];

    if (sim->now_us >= sim->next_tx_us && sim->row_count < sim->row_limit) {
        if (!tx->is_on)
            begin_tx(tx);
        sim->next_tx_us = sim->now_us + sim_below(sim_chance(10) ? 400000 : 6000);
    }
    run_txs();
    while (sim->first_open < sim->row_count &&
           (sim->rows[sim->first_open].state == SIM_GHOST ||
            (sim->rows[sim->first_open].state == SIM_GONE && !sim->in_tx)))
        sim->first_open++;
}

void sim_db_end_txs(void)
{
    for (size_t i = 0; i < SIM_TXS; i++) {
        if (sim->txs[i].is_on)
            end_tx(&sim->txs[i]);
    }
}

uint64_t sim_db_next_us(void)
{
    uint64_t next = sim->row_count < sim->row_limit ? sim->next_tx_us : UINT64_MAX;

    for (size_t i = 0; i < SIM_TXS; i++) {
        if (sim->txs[i].is_on && sim->txs[i].end_us < next)
            next = sim->txs[i].end_us;
    }
    return next;
}

/* ---- writing under an undo log ---- */

static struct sim_row *change(struct sim_row *row)
{
    if (!sim->in_tx)
        return row;
    if (sim->undo_count == SIM_UNDO)
        sim_fail("a transaction of more than %d changes", SIM_UNDO);
    sim->undo[sim->undo_count++] = (struct undo){.row = (size_t)(row - sim->rows), .was = *row};
    return row;
}

static void roll_back(void)
{
    if (!sim->in_tx)
        return;
    while (sim->undo_count > 0) {
        const struct undo *undo = &sim->undo[--sim->undo_count];

        sim->rows[undo->row] = undo->was;
    }
    sim->lease = sim->lease_was;
    sim->in_tx = false;
}

static void end_snapshot(void)
{
    sim->snapshot_seq = UINT64_MAX;
}

/* Whatever changes rows is done by the owner of the lease. */
static void check_owner(const struct sim_row *row)
{
    if (sim->running == NULL || strcmp(sim->running->owner, sim->lease.owner) != 0)
        sim_fail("row %llu is changed by somebody without the lease", (unsigned long long)row->id);
    if (!sim->in_tx)
        sim_fail("row %llu is changed outside of a transaction", (unsigned long long)row->id);
}

static void delete_live(struct call *call, struct sim_row *row)
{
    if (row == NULL || row->state != SIM_LIVE)
        return;
    if (row->stored == 0 && !row->may_vanish)
        sim_fail("row %llu is deleted, and was neither stored nor parked",
                 (unsigned long long)row->id);
    check_owner(row);
    change(row)->state = SIM_GONE;
    call->affected++;
}

/* A parked row is copied first and deleted then: the copy makes it PARKED, the delete confirms it.
 */
static void delete_outbox(struct call *call, uint64_t id)
{
    struct sim_row *row = sim_find(id);

    if (row != NULL && row->state == SIM_PARKED)
        call->affected++;
    else
        delete_live(call, row);
}

static void delete_parked(struct call *call, uint64_t parked_id)
{
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        struct sim_row *row = &sim->rows[i];

        if (row->parked_id != parked_id || row->state == SIM_OPEN)
            continue;
        call->affected++;
        change(row)->parked_id = 0;
        if (row->state == SIM_PARKED) {
            if (!row->may_vanish)
                sim_fail("parked row %llu vanishes", (unsigned long long)row->id);
            row->state = SIM_GONE;
        }
    }
}

/* ---- statements: the lease ---- */

static enum obx_code lease_look(struct call *call)
{
    const struct sim_lease *lease = &sim->lease;
    uint64_t now = sim_db_now_us();
    struct cell *cells = NULL;

    if (!lease->is_there)
        return OBX_OK;
    cells = add_row(call);
    cells[0] = text(lease->owner);
    cells[1] = number(lease->epoch);
    cells[2] = text("");
    cells[3] = number(lease->expires_us > now ? lease->expires_us - now : 0);
    cells[4] = number(now);
    return OBX_OK;
}

static enum obx_code lease_make(struct call *call)
{
    if (sim->lease.is_there)
        return OBX_E_DB_DUPLICATE;
    sim->lease = (struct sim_lease){.is_there = true, .expires_us = sim_db_now_us()};
    call->affected = 1;
    return OBX_OK;
}

static bool is_own(const struct db_value *owner, const struct db_value *epoch)
{
    return sim->lease.is_there && bytes_is(owner->v.bytes, sim->lease.owner) &&
           epoch->v.u64 == sim->lease.epoch;
}

static enum obx_code lease_take(struct call *call)
{
    uint64_t now = sim_db_now_us();

    if (!sim->lease.is_there || sim->lease.epoch != call->args[4].v.u64 ||
        (sim->lease.expires_us > now && !is_own(&call->args[5], &call->args[6])))
        return OBX_OK;
    (void)bytes_to_text(call->args[0].v.bytes, sim->lease.owner, sizeof(sim->lease.owner));
    sim->lease.epoch++;
    sim->lease.expires_us = now + call->args[2].v.u64;
    call->affected = 1;
    return OBX_OK;
}

static enum obx_code lease_renewal(struct call *call)
{
    if (!is_own(&call->args[2], &call->args[3]))
        return OBX_OK;
    sim->lease.expires_us = sim_db_now_us() + call->args[0].v.u64;
    call->affected = 1;
    return OBX_OK;
}

static enum obx_code lease_giving(struct call *call)
{
    if (!is_own(&call->args[1], &call->args[2]))
        return OBX_OK;
    sim->lease.expires_us = sim_db_now_us();
    call->affected = 1;
    return OBX_OK;
}

/* ---- statements: reading the outbox ---- */

static void add_full(struct call *call, const struct sim_row *row)
{
    static const char body[INLINE];
    struct cell *cells = add_row(call);

    cells[0] = number(row->id);
    cells[1] = text(row->name);
    cells[2] = text(topic_names[row->topic]);
    cells[3] = text(key_of(row));
    cells[4] = text(row->is_bad ? "[1]" : NULL);
    cells[5] = text("text/plain");
    cells[6] = number(row->created_us);
    cells[7] = number(row->body_len);
    cells[8] = text(NULL);
    cells[9] = row->body_len <= INLINE ? (struct cell){.text = {.p = body, .len = row->body_len}}
                                       : (struct cell){.is_null = true};
}

static void add_light(struct call *call, const struct sim_row *row)
{
    struct cell *cells = add_row(call);

    cells[0] = number(row->id);
    cells[1] = text(topic_names[row->topic]);
    cells[2] = text(key_of(row));
}

static enum obx_code read_forward(struct call *call)
{
    for (size_t i = above(call->args[0].v.u64); i < sim->row_count; i++) {
        if (call->rows->count == call->args[1].v.u64)
            break;
        if (sim->rows[i].state == SIM_LIVE)
            add_full(call, &sim->rows[i]);
    }
    return OBX_OK;
}

static void read_range(struct call *call, uint64_t low, uint64_t high, uint64_t limit)
{
    for (size_t i = above(low); i < sim->row_count && sim->rows[i].id <= high; i++) {
        if (call->rows->count == limit)
            break;
        if (sim->rows[i].state == SIM_LIVE && sim->rows[i].commit_seq <= sim->snapshot_seq)
            add_light(call, &sim->rows[i]);
    }
}

static enum obx_code read_behind(struct call *call)
{
    read_range(call, call->args[0].v.u64, call->args[1].v.u64, call->args[2].v.u64);
    return OBX_OK;
}

static enum obx_code read_ranges(struct call *call)
{
    const char *at = strstr(call->sql, "WHERE ");
    const char *limit = strstr(call->sql, "LIMIT ");
    uint64_t last = 0;

    while ((at = strstr(at, "id BETWEEN ")) != NULL) {
        char *end = NULL;
        uint64_t low = strtoull(at + strlen("id BETWEEN "), &end, 10);
        uint64_t high = strtoull(end + strlen(" AND "), &end, 10);

        /* Ranges may touch each other after a failed read; a row comes once all the same. */
        if (low <= last)
            low = last + 1;
        read_range(call, low - 1, high, strtoull(limit + strlen("LIMIT "), NULL, 10));
        last = high > last ? high : last;
        at = end;
    }
    return OBX_OK;
}

static enum obx_code read_by_ids(struct call *call)
{
    char *at = strstr(call->sql, "id IN (");

    at += strlen("id IN (");
    while (*at >= '0' && *at <= '9') {
        const struct sim_row *row = sim_find(strtoull(at, &at, 10));

        if (row != NULL && row->state == SIM_LIVE)
            add_full(call, row);
        at += *at == ',';
    }
    return OBX_OK;
}

static enum obx_code read_payload(struct call *call)
{
    static char body[8192];
    const struct sim_row *row = sim_find(call->args[0].v.u64);

    struct cell *cells = NULL;

    if (row == NULL || row->state != SIM_LIVE)
        return OBX_OK;
    cells = add_row(call);
    cells[0] = (struct cell){.text = {.p = body, .len = row->body_len}};
    cells[1] = text(row->is_bad ? "[1]" : NULL);
    return OBX_OK;
}

static enum obx_code count_all(struct call *call)
{
    struct cell *cells = add_row(call);

    for (int i = 0; i < 4; i++)
        cells[i] = number(0);
    cells[4] = number(sim_db_now_us());
    return OBX_OK;
}

/* There are no receipts and no delayed messages in these worlds. */
static enum obx_code read_nothing(struct call *call)
{
    (void)call;
    return OBX_OK;
}

/* ---- statements: deleting ---- */

static void each_of_list(struct call *call, struct obx_bytes json,
                         void (*run)(struct call *call, uint64_t id))
{
    const char *at = (const char *)json.p + 1;

    while (*at >= '0' && *at <= '9') {
        char *end = NULL;

        run(call, strtoull(at, &end, 10));
        at = end + (*end == ',');
    }
}

static enum obx_code delete_range(struct call *call)
{
    for (uint64_t id = call->args[0].v.u64; id <= call->args[1].v.u64; id++) {
        struct sim_row *row = sim_find(id);

        if (row != NULL && row->state == SIM_OPEN)
            sim_fail("a delete waits for the open row %llu", (unsigned long long)id);
        delete_outbox(call, id);
    }
    return OBX_OK;
}

static enum obx_code delete_one(struct call *call)
{
    delete_outbox(call, call->args[0].v.u64);
    return OBX_OK;
}

static enum obx_code delete_list(struct call *call)
{
    each_of_list(call, call->args[0].v.bytes, delete_outbox);
    return OBX_OK;
}

static enum obx_code delete_parked_range(struct call *call)
{
    for (uint64_t id = call->args[0].v.u64; id <= call->args[1].v.u64; id++)
        delete_parked(call, id);
    return OBX_OK;
}

static enum obx_code delete_parked_one(struct call *call)
{
    delete_parked(call, call->args[0].v.u64);
    return OBX_OK;
}

static enum obx_code delete_parked_list(struct call *call)
{
    each_of_list(call, call->args[0].v.bytes, delete_parked);
    return OBX_OK;
}

/* ---- statements: outbox_parked ---- */

static enum obx_code read_frozen(struct call *call)
{
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        const struct sim_row *row = &sim->rows[i];
        struct cell *cells = NULL;

        if (row->state != SIM_PARKED || !row->holds_key)
            continue;
        cells = add_row(call);
        cells[0] = number(row->parked_id);
        cells[1] = text(key_of(row));
    }
    return OBX_OK;
}

static enum obx_code read_heads(struct call *call)
{
    for (int key = 0; key < SIM_KEYS; key++) {
        char quoted[8];

        (void)snprintf(quoted, sizeof(quoted), "'%s'", key_names[key]);
        if (strstr(call->sql, quoted) == NULL)
            continue;
        for (size_t i = sim->first_open; i < sim->row_count; i++) {
            const struct sim_row *row = &sim->rows[i];

            if (row->state == SIM_PARKED && row->holds_key && row->key == key) {
                struct cell *cells = add_row(call);

                cells[0] = text(key_names[key]);
                cells[1] = number(row->id);
                break;
            }
        }
    }
    return OBX_OK;
}

static void park(struct call *call, uint64_t id, uint64_t behind, bool holds_key)
{
    struct sim_row *row = sim_find(id);

    if (row == NULL || row->state != SIM_LIVE)
        return;
    check_owner(row);
    change(row);
    row->state = SIM_PARKED;
    row->parked_id = ++sim->next_parked;
    row->behind = behind;
    row->holds_key = holds_key;
    row->request = 0;
    row->may_vanish = false;
    call->affected++;
}

static enum obx_code park_one(struct call *call)
{
    bool has_behind = call->args[5].type != DB_TYPE_NULL;

    park(call, call->args[6].v.u64, has_behind ? call->args[5].v.u64 : 0, call->args[4].v.u64 != 0);
    return OBX_OK;
}

static uint64_t parking_behind;

static void park_follower(struct call *call, uint64_t id)
{
    park(call, id, parking_behind, false);
}

static enum obx_code park_followers(struct call *call)
{
    parking_behind = call->args[1].v.u64;
    each_of_list(call, call->args[3].v.bytes, park_follower);
    return OBX_OK;
}

static enum obx_code next_request(struct call *call)
{
    for (int request = 1; request <= 2; request++) {
        for (size_t i = sim->first_open; i < sim->row_count; i++) {
            const struct sim_row *row = &sim->rows[i];
            struct cell *cells = NULL;

            if (row->state != SIM_PARKED || row->request != request)
                continue;
            cells = add_row(call);
            cells[0] = number(row->id);
            cells[1] = text(key_of(row));
            cells[2] = number(row->holds_key);
            cells[3] = row->behind == 0 ? text(NULL) : number(row->behind);
            cells[4] = text(request == 1 ? "resume" : "discard");
            cells[5] = text("");
            return OBX_OK;
        }
    }
    return OBX_OK;
}

static void add_parked(struct call *call, const struct sim_row *row)
{
    struct cell *cells = add_row(call);

    cells[0] = number(row->parked_id);
    cells[1] = number(row->id);
    cells[2] = number(row->body_len);
}

static enum obx_code read_followers(struct call *call)
{
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        const struct sim_row *row = &sim->rows[i];

        if (call->rows->count == call->args[3].v.u64)
            break;
        if (row->state == SIM_PARKED && row->behind == call->args[2].v.u64)
            add_parked(call, row);
    }
    return OBX_OK;
}

static enum obx_code read_self(struct call *call)
{
    const struct sim_row *row = sim_parked(call->args[1].v.u64);

    if (row != NULL && row->request == (bytes_is(call->args[2].v.bytes, "resume") ? 1 : 2))
        add_parked(call, row);
    return OBX_OK;
}

static enum obx_code pass_on(struct call *call)
{
    struct sim_row *row = sim_parked(call->args[1].v.u64);

    if (row != NULL && row->holds_key) {
        change(row)->request = 1;
        call->affected = 1;
    }
    return OBX_OK;
}

static enum obx_code unrequest(struct call *call)
{
    struct sim_row *row = sim_parked(call->args[2].v.u64);

    if (row != NULL)
        change(row)->request = 0;
    return OBX_OK;
}

static uint64_t put_back_but;

static void put_back_one(struct call *call, uint64_t parked_id)
{
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        struct sim_row *row = &sim->rows[i];

        if (row->state != SIM_PARKED || row->parked_id != parked_id)
            continue;
        if (row->id == put_back_but) {
            if (row->request != 2)
                sim_fail("row %llu is discarded unasked", (unsigned long long)row->id);
            change(row)->may_vanish = true;
            continue;
        }
        check_owner(row);
        change(row)->state = SIM_LIVE;
        row->commit_seq = ++sim->next_seq;
        row->holds_key = false;
        row->request = 0;
        call->affected++;
    }
}

static enum obx_code put_back(struct call *call)
{
    put_back_but = call->args[1].v.u64;
    each_of_list(call, call->args[0].v.bytes, put_back_one);
    return OBX_OK;
}

/* ---- statements: which is which ---- */

struct statement {
    const char *start, *within;
    enum obx_code (*run)(struct call *call);
    bool writes;
};

static const struct statement statements[] = {
    {"SELECT owner, epoch", "", lease_look, false},
    {"INSERT INTO outbox_lease", "", lease_make, true},
    {"UPDATE outbox_lease SET owner", "", lease_take, true},
    {"UPDATE outbox_lease SET expires_at", "INTERVAL", lease_renewal, true},
    {"UPDATE outbox_lease SET expires_at", "", lease_giving, true},
    {"SELECT id, message_id, topic", "id > ? ORDER", read_forward, false},
    {"SELECT id, message_id, topic", "id IN (", read_by_ids, false},
    {"SELECT id, topic, ordering_key", "id <= ?", read_behind, false},
    {"SELECT id, topic, ordering_key", "id BETWEEN ", read_ranges, false},
    {"SELECT payload", "", read_payload, false},
    {"SELECT message_id FROM outbox_awaiting", "", read_nothing, false},
    {"SELECT id FROM outbox_delayed", "", read_nothing, false},
    {"SELECT (SELECT COUNT", "", count_all, false},
    {"DELETE FROM outbox_parked", "BETWEEN", delete_parked_range, true},
    {"DELETE FROM outbox_parked", "", delete_parked_one, true},
    {"DELETE o FROM", "STRAIGHT_JOIN outbox_parked", delete_parked_list, true},
    {"DELETE FROM `outbox`", "BETWEEN", delete_range, true},
    {"DELETE FROM `outbox`", "", delete_one, true},
    {"DELETE o FROM", "STRAIGHT_JOIN `outbox`", delete_list, true},
    {"SELECT parked_id, ordering_key", "", read_frozen, false},
    {"SELECT ordering_key, MIN(id)", "", read_heads, false},
    {"INSERT INTO outbox_parked", "JSON_TABLE", park_followers, true},
    {"INSERT INTO outbox_parked", "", park_one, true},
    {"SELECT id, ordering_key, holds_key", "", next_request, false},
    {"SELECT parked_id, id", "behind_id = ?", read_followers, false},
    {"SELECT parked_id, id", "", read_self, false},
    {"UPDATE outbox_parked SET request = 'resume'", "", pass_on, true},
    {"UPDATE outbox_parked SET request = NULL", "", unrequest, true},
    {"INSERT INTO `outbox`", "", put_back, true},
};

static const struct statement *statement_of(const char *sql)
{
    for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++) {
        if (strncmp(sql, statements[i].start, strlen(statements[i].start)) == 0 &&
            strstr(sql, statements[i].within) != NULL)
            return &statements[i];
    }
    sim_fail("unknown statement: %s", sql);
}

static enum obx_code lose(struct obx_err *err)
{
    sim->losses++;
    end_snapshot();
    roll_back();
    return obx_fail(err, OBX_E_DB_GONE, "simulated");
}

static void pass_time(void)
{
    sim->now_us += 40 + sim_below(300);
    sim_db_step();
}

static enum obx_code run(struct call *call, struct obx_err *err)
{
    const struct statement *statement = statement_of(call->sql);
    enum obx_code rc = OBX_OK;

    sim->queries++;
    pass_time();
    if (!sim->is_calm && sim_chance(sim->chaos.db_loss))
        return lose(err);
    if (!sim->is_calm && statement->writes && sim_chance(sim->chaos.db_wait))
        return obx_fail(err, OBX_E_DB_LOCK_WAIT, "simulated");
    rc = statement->run(call);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "simulated");
    if (statement->writes || (call->rows != NULL && call->rows->count > 0))
        sim->work++;
    if (!sim->is_calm && sim_chance(sim->chaos.db_loss))
        return lose(err); /* it was done, the answer did not come */
    pass_time();
    return OBX_OK;
}

/* ---- in the place of sql/client ---- */

enum obx_code sim_exec(struct db *db, const char *sql, const struct db_value *args, size_t count,
                       uint64_t *affected, struct obx_err *err) WRAPS(db_exec);
enum obx_code sim_exec(struct db *db, const char *sql, const struct db_value *args, size_t count,
                       uint64_t *affected, struct obx_err *err)
{
    struct call call = {.sql = sql, .args = args};
    enum obx_code rc = run(&call, err);

    (void)db;
    (void)count;
    if (affected != NULL)
        *affected = call.affected;
    return rc;
}

enum obx_code sim_query(struct db *db, const char *sql, const struct db_value *args, size_t count,
                        struct db_rows **rows, struct obx_err *err) WRAPS(db_query);
enum obx_code sim_query(struct db *db, const char *sql, const struct db_value *args, size_t count,
                        struct db_rows **rows, struct obx_err *err)
{
    struct call call = {.sql = sql, .args = args, .rows = calloc(1, sizeof(struct db_rows))};
    enum obx_code rc = run(&call, err);

    (void)db;
    (void)count;
    *rows = call.rows;
    if (rc != OBX_OK) {
        sim_rows_free(call.rows);
        *rows = NULL;
    }
    return rc;
}

/* A snapshot, in two statements. */
enum obx_code sim_exec_text(struct db *db, struct obx_bytes sql, uint64_t *affected,
                            struct obx_err *err) WRAPS(db_exec_text);
enum obx_code sim_exec_text(struct db *db, struct obx_bytes sql, uint64_t *affected,
                            struct obx_err *err)
{
    (void)db;
    (void)affected;
    sim->queries++;
    pass_time();
    if (!sim->is_calm && sim_chance(sim->chaos.db_loss))
        return lose(err);
    if (strstr(sql.p, "CONSISTENT SNAPSHOT") != NULL)
        sim->snapshot_seq = sim->next_seq;
    return OBX_OK;
}

enum obx_code sim_query_text(struct db *db, struct obx_bytes sql, struct db_rows **rows,
                             struct obx_err *err) WRAPS(db_query_text);
enum obx_code sim_query_text(struct db *db, struct obx_bytes sql, struct db_rows **rows,
                             struct obx_err *err)
{
    return sim_query(db, sql.p, NULL, 0, rows, err);
}

enum obx_code sim_begin(struct db *db, struct obx_err *err) WRAPS(db_begin);
enum obx_code sim_begin(struct db *db, struct obx_err *err)
{
    (void)db;
    sim->queries++;
    if (!sim->is_calm && sim_chance(sim->chaos.db_loss))
        return lose(err);
    sim->in_tx = true;
    sim->undo_count = 0;
    sim->lease_was = sim->lease;
    return OBX_OK;
}

/* What this transaction has parked behind a head has its head in outbox_parked. */
static void check_parked(void)
{
    for (size_t i = 0; i < sim->undo_count; i++) {
        const struct sim_row *row = &sim->rows[sim->undo[i].row];
        const struct sim_row *head = sim_parked(row->behind);

        if (row->state == SIM_PARKED && sim->undo[i].was.state == SIM_LIVE && row->behind != 0 &&
            (head == NULL || !head->holds_key))
            sim_fail("row %llu is parked behind %llu, which is not parked",
                     (unsigned long long)row->id, (unsigned long long)row->behind);
    }
}

enum obx_code sim_commit(struct db *db, struct obx_err *err) WRAPS(db_commit);
enum obx_code sim_commit(struct db *db, struct obx_err *err)
{
    (void)db;
    sim->queries++;
    check_parked();
    sim->now_us += 500 + sim_below(4000);
    sim_db_step();
    if (!sim->is_calm && sim_chance(sim->chaos.db_loss)) {
        if (sim_chance(2))
            sim->in_tx = false;
        (void)lose(err);
        return obx_fail(err, OBX_E_DB_COMMIT_UNKNOWN, "simulated");
    }
    if (!sim->is_calm && sim_chance(sim->chaos.db_wait)) {
        roll_back();
        return obx_fail(err, OBX_E_DB_DEADLOCK, "simulated");
    }
    sim->in_tx = false;
    return OBX_OK;
}

enum obx_code sim_rollback(struct db *db, struct obx_err *err) WRAPS(db_rollback);
enum obx_code sim_rollback(struct db *db, struct obx_err *err)
{
    (void)db;
    (void)err;
    end_snapshot();
    roll_back();
    return OBX_OK;
}

enum obx_code sim_open(const struct db_opts *opts, struct db **out, struct obx_err *err)
    WRAPS(db_open);
enum obx_code sim_open(const struct db_opts *opts, struct db **out, struct obx_err *err)
{
    static struct db the_only;

    (void)opts;
    *out = NULL;
    sim->now_us += 2000;
    if (!sim->is_calm && sim_chance(sim->chaos.db_loss / 8))
        return obx_fail(err, OBX_E_DB_CONNECT, "simulated");
    *out = &the_only;
    return OBX_OK;
}

void sim_close(struct db *db) WRAPS(db_close);
void sim_close(struct db *db)
{
    (void)db;
}

void sim_thread_end(void) WRAPS(db_thread_end);
void sim_thread_end(void)
{
}

enum obx_code sim_add_literal(struct db *db, struct obx_buf *buf, struct obx_bytes text)
    WRAPS(db_add_literal);
enum obx_code sim_add_literal(struct db *db, struct obx_buf *buf, struct obx_bytes text)
{
    (void)db;
    return buf_addf(buf, "'%.*s'", (int)text.len, (const char *)text.p);
}

enum obx_code sim_schema_check(struct db *db, enum schema_side side, struct obx_err *err)
    WRAPS(schema_check);
enum obx_code sim_schema_check(struct db *db, enum schema_side side, struct obx_err *err)
{
    (void)db;
    (void)side;
    (void)err;
    return OBX_OK;
}
