/*
 * The lane's statements on the simulated tables, known by their texts. See lane_sim.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lane_sim_call.h"

enum { LOCK_WAIT_US = 1000000 /* as lease_limit_session makes it */ };

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
    if (sim->opts.journal && !row->is_journaled)
        sim_fail("row %llu is settled and not in the journal", (unsigned long long)row->id);
    if (row->asks && !row->is_awaiting && !row->has_receipt)
        sim_fail("row %llu is deleted, and its receipts have not come",
                 (unsigned long long)row->id);
    check_owner(row);
    sim_change(row)->state = SIM_GONE;
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
        sim_change(row)->parked_id = 0;
        if (row->state == SIM_PARKED) {
            if (row->request != 2)
                sim_fail("parked row %llu vanishes unasked", (unsigned long long)row->id);
            check_owner(row);
            row->may_vanish = true;
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
    cells = call_add_row(call);
    cells[0] = cell_text(lease->owner);
    cells[1] = cell_number(lease->epoch);
    cells[2] = cell_text("");
    cells[3] = cell_number(lease->expires_us > now ? lease->expires_us - now : 0);
    cells[4] = cell_number(now);
    cells[5] = cell_number(lease->expires_us);
    cells[6] = cell_number(0); /* no session is ended here: see lane_lease_test */
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

static bool is_own(const struct obx_value *owner, const struct obx_value *epoch)
{
    return sim->lease.is_there && bytes_is(owner->v.bytes, sim->lease.owner) &&
           epoch->v.u64 == sim->lease.epoch;
}

static enum obx_code lease_take(struct call *call)
{
    uint64_t now = sim_db_now_us();

    if (!sim->lease.is_there || sim->lease.epoch != call->args[4].v.u64 ||
        (sim->lease.expires_us > now && !is_own(&call->args[5], &call->args[6]) &&
         (call->args[7].type == OBX_V_NULL || sim->lease.expires_us != call->args[7].v.u64)))
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
    static const char body[SIM_INLINE];
    struct cell *cells = call_add_row(call);

    sim->rows_read++;
    cells[0] = cell_number(row->id);
    cells[1] = cell_text(row->name);
    cells[2] = cell_text(sim_topic_names[row->topic]);
    cells[3] = cell_text(sim_key_of(row));
    cells[4] = cell_text(row->is_bad ? "[1]" : NULL);
    cells[5] = cell_text("text/plain");
    cells[6] = cell_number(row->created_us);
    cells[7] = cell_number(row->body_len);
    cells[8] = cell_text(row->asks ? "g" : NULL);
    cells[9] = row->body_len <= SIM_INLINE
                   ? (struct cell){.text = {.p = body, .len = row->body_len}}
                   : (struct cell){.is_null = true};
}

static void add_light(struct call *call, const struct sim_row *row)
{
    struct cell *cells = call_add_row(call);

    sim->rows_read++;
    cells[0] = cell_number(row->id);
    cells[1] = cell_text(sim_topic_names[row->topic]);
    cells[2] = cell_text(sim_key_of(row));
    cells[3] = cell_number(row->asks);
}

static enum obx_code read_forward(struct call *call)
{
    for (size_t i = sim_from(call->args[0].v.u64); i < sim->row_count; i++) {
        if (call->rows->count == call->args[1].v.u64)
            break;
        if (sim->rows[i].state == SIM_LIVE)
            add_full(call, &sim->rows[i]);
    }
    return OBX_OK;
}

static void read_range(struct call *call, uint64_t low, uint64_t high, uint64_t limit)
{
    for (size_t i = sim_from(low); i < sim->row_count && sim->rows[i].id <= high; i++) {
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
        read_range(call, low, high, strtoull(limit + strlen("LIMIT "), NULL, 10));
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
    cells = call_add_row(call);
    cells[0] = (struct cell){.text = {.p = body, .len = row->body_len}};
    cells[1] = cell_text(row->is_bad ? "[1]" : NULL);
    return OBX_OK;
}

static enum obx_code count_all(struct call *call)
{
    struct cell *cells = call_add_row(call);

    for (int i = 0; i < 4; i++)
        cells[i] = cell_number(0);
    cells[4] = cell_number(sim_db_now_us());
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

/* In some worlds more is parked than is looked at. */
static enum obx_code read_frozen(struct call *call)
{
    while (sim->is_much_parked && call->rows->count < call->args[1].v.u64)
        call_add_row(call)[0] = cell_text(NULL);
    if (sim->is_much_parked)
        return OBX_OK;
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        const struct sim_row *row = &sim->rows[i];

        if (row->state == SIM_PARKED && row->holds_key)
            call_add_row(call)[0] = cell_text(sim_key_of(row));
    }
    return OBX_OK;
}

static enum obx_code read_heads(struct call *call)
{
    for (int key = 0; key < SIM_KEYS; key++) {
        char quoted[8];

        (void)snprintf(quoted, sizeof(quoted), "'%s'", sim_key_names[key]);
        if (strstr(call->sql, quoted) == NULL)
            continue;
        for (size_t i = sim->first_open; i < sim->row_count; i++) {
            const struct sim_row *row = &sim->rows[i];

            if (row->state == SIM_PARKED && row->holds_key && row->key == key) {
                struct cell *cells = call_add_row(call);

                cells[0] = cell_text(sim_key_names[key]);
                cells[1] = cell_number(row->id);
                break;
            }
        }
    }
    return OBX_OK;
}

static bool can_be_sent(const struct sim_row *row)
{
    return !row->is_bad && row->body_len <= sim->opts.max_body_bytes;
}

static void park(struct call *call, uint64_t id, uint64_t blocked_by, bool holds_key)
{
    struct sim_row *row = sim_find(id);

    if (row == NULL || row->state != SIM_LIVE)
        return;
    check_owner(row);
    if (blocked_by == 0 && row->refused == 0 && can_be_sent(row) && !sim->was_missing &&
        !sim->has_poor_hash && !sim->topics[row->topic].was_denied &&
        row->refused_by != SIM_JOURNAL)
        sim_fail("row %llu is parked, and neither it nor its topic was ever refused",
                 (unsigned long long)row->id);
    sim_change(row);
    row->state = SIM_PARKED;
    row->parked_id = ++sim->next_parked;
    row->blocked_by = blocked_by;
    row->holds_key = holds_key;
    row->request = 0;
    row->may_vanish = false;
    call->affected++;
}

/* Somebody has the table locked: the wait for it is the session's longest. */
static bool is_parked_locked(void)
{
    if (sim->is_calm || sim->now_us >= sim->parked_locked_us)
        return false;
    sim->now_us += LOCK_WAIT_US;
    sim->waited_us += LOCK_WAIT_US;
    sim->losses++; /* half of these worlds' lease: two of them may cost it */
    return true;
}

static enum obx_code park_one(struct call *call)
{
    const struct sim_row *row = sim_find(call->args[6].v.u64);
    bool has_behind = call->args[5].type != OBX_V_NULL;

    if (is_parked_locked())
        return OBX_E_DB_LOCK_WAIT;
    if (row != NULL && row->state == SIM_LIVE && sim_refuses(row, SIM_PARKED_TABLE))
        return OBX_E_DB_DATA;
    park(call, call->args[6].v.u64, has_behind ? call->args[5].v.u64 : 0, call->args[4].v.u64 != 0);
    return OBX_OK;
}

static uint64_t parking_blocked_by;
static bool is_one_refused;

static void see_if_refused(struct call *call, uint64_t id)
{
    const struct sim_row *row = sim_find(id);

    (void)call;
    is_one_refused = is_one_refused ||
                     (row != NULL && row->state == SIM_LIVE && sim_refuses(row, SIM_PARKED_TABLE));
}

static void park_follower(struct call *call, uint64_t id)
{
    park(call, id, parking_blocked_by, false);
}

static enum obx_code park_followers(struct call *call)
{
    if (is_parked_locked())
        return OBX_E_DB_LOCK_WAIT;
    is_one_refused = false;
    each_of_list(call, call->args[3].v.bytes, see_if_refused);
    if (is_one_refused)
        return OBX_E_DB_DATA;
    parking_blocked_by = call->args[1].v.u64;
    each_of_list(call, call->args[3].v.bytes, park_follower);
    return OBX_OK;
}

static int request_of(const struct obx_value *name)
{
    return bytes_is(name->v.bytes, "resume") ? 1 : 2;
}

static enum obx_code next_request(struct call *call)
{
    const struct sim_row *first = NULL;
    struct cell *cells = NULL;

    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        const struct sim_row *row = &sim->rows[i];

        if (row->state == SIM_PARKED && row->request == request_of(&call->args[1]) &&
            row->parked_id > call->args[2].v.u64 &&
            (first == NULL || row->parked_id < first->parked_id))
            first = row;
    }
    if (first == NULL)
        return OBX_OK;
    cells = call_add_row(call);
    cells[0] = cell_number(first->id);
    cells[1] = cell_text(sim_key_of(first));
    cells[2] = cell_number(first->holds_key);
    cells[3] = first->blocked_by == 0 ? cell_text(NULL) : cell_number(first->blocked_by);
    cells[4] = cell_text("");
    cells[5] = cell_number(first->parked_id);
    return OBX_OK;
}

static void add_parked(struct call *call, const struct sim_row *row)
{
    struct cell *cells = call_add_row(call);

    cells[0] = cell_number(row->parked_id);
    cells[1] = cell_number(row->id);
    cells[2] = cell_number(row->body_len);
}

static enum obx_code read_followers(struct call *call)
{
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        const struct sim_row *row = &sim->rows[i];

        if (call->rows->count == call->args[3].v.u64)
            break;
        if (row->state == SIM_PARKED && row->blocked_by == call->args[2].v.u64)
            add_parked(call, row);
    }
    return OBX_OK;
}

static enum obx_code read_self(struct call *call)
{
    const struct sim_row *row = sim_parked(call->args[1].v.u64);

    if (row != NULL && row->request == request_of(&call->args[2]))
        add_parked(call, row);
    return OBX_OK;
}

static enum obx_code read_keyless(struct call *call)
{
    uint64_t left = call->args[3].v.u64;

    for (size_t i = sim->first_open; i < sim->row_count && left > 0; i++) {
        const struct sim_row *row = &sim->rows[i];

        if (row->state != SIM_PARKED || row->request != request_of(&call->args[1]) ||
            row->parked_id <= call->args[2].v.u64)
            continue;
        left--;
        if (sim_key_of(row) == NULL)
            add_parked(call, row);
    }
    return OBX_OK;
}

/* "... parked_id IN (1,2) AND request = 'resume' FOR UPDATE", or without a request. */
static enum obx_code lock_rows(struct call *call)
{
    const char *wanted = strstr(call->sql, "request = '");
    char *at = strstr(call->sql, "IN (");

    at += strlen("IN (");
    while (*at >= '0' && *at <= '9') {
        uint64_t parked_id = strtoull(at, &at, 10);

        for (size_t i = sim->first_open; i < sim->row_count; i++) {
            const struct sim_row *row = &sim->rows[i];

            if (row->state == SIM_PARKED && row->parked_id == parked_id &&
                (wanted == NULL || row->request == (wanted[strlen("request = '")] == 'r' ? 1 : 2)))
                add_parked(call, row);
        }
        at += *at == ',';
    }
    return OBX_OK;
}

static enum obx_code pass_on(struct call *call)
{
    struct sim_row *row = sim_parked(call->args[1].v.u64);

    if (row != NULL && row->holds_key) {
        sim_change(row)->request = 1;
        call->affected = 1;
    }
    return OBX_OK;
}

static enum obx_code unrequest(struct call *call)
{
    struct sim_row *row = sim_parked(call->args[2].v.u64);

    if (row != NULL)
        sim_change(row)->request = 0;
    return OBX_OK;
}

static void put_back_one(struct call *call, uint64_t parked_id)
{
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        struct sim_row *row = &sim->rows[i];

        if (row->state != SIM_PARKED || row->parked_id != parked_id)
            continue;
        if (sim_key_of(row) == NULL && row->request != 1)
            sim_fail("row %llu is put back unasked", (unsigned long long)row->id);
        check_owner(row);
        sim_change(row)->state = SIM_LIVE;
        row->commit_seq = ++sim->next_seq;
        row->holds_key = false;
        row->request = 0;
        call->affected++;
    }
}

static enum obx_code put_back(struct call *call)
{
    char *at = strstr(call->sql, "IN (");

    at += strlen("IN (");
    while (*at >= '0' && *at <= '9') {
        put_back_one(call, strtoull(at, &at, 10));
        at += *at == ',';
    }
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
    {"UPDATE outbox_lease FORCE INDEX (PRIMARY) SET owner", "", lease_take, true},
    {"UPDATE outbox_lease FORCE INDEX (PRIMARY) SET expires_at", "INTERVAL", lease_renewal, true},
    {"UPDATE outbox_lease FORCE INDEX (PRIMARY) SET expires_at", "", lease_giving, true},
    {"SELECT id, message_id, topic", "id >= ? ORDER", read_forward, false},
    {"SELECT id, message_id, topic", "id IN (", read_by_ids, false},
    {"SELECT id, topic, ordering_key", "id <= ?", read_behind, false},
    {"SELECT id, topic, ordering_key", "id BETWEEN ", read_ranges, false},
    {"SELECT payload", "", read_payload, false},
    {"SELECT @@log_bin", "", read_nothing, false}, /* as where there is no such log */
    {"SELECT version, secret", "", sim_read_secrets, false},
    {"SELECT o.id, o.message_id, o.receipt_from", "", sim_read_early, false},
    {"INSERT INTO outbox_awaiting", "", sim_await, true},
    {"SELECT message_id FROM outbox_awaiting", "", sim_find_overdue, false},
    {"SELECT message_id, id, ordering_key, sends", "FOR UPDATE", sim_lock_overdue, false},
    {"SELECT message_id, consumer_group", "", sim_read_receipts, false},
    {"SELECT id, message_id FROM `outbox`", "UNION ALL", sim_find_on_way, false},
    {"INSERT INTO outbox_parked", "FROM outbox_awaiting", sim_park_missing, true},
    {"INSERT INTO `outbox` (id", "FROM outbox_awaiting", sim_send_again, true},
    {"UPDATE outbox_awaiting", "SET next_send_at", sim_put_off, true},
    {"DELETE a FROM outbox_awaiting", "", sim_end_awaiting, true},
    {"SELECT id FROM outbox_delayed", "", sim_delayed_find, false},
    {"SELECT id, OCTET_LENGTH(payload), deliver_at", "FOR UPDATE", sim_delayed_lock, false},
    {"INSERT INTO `outbox` (message_id", "FROM outbox_delayed", sim_delayed_move, true},
    {"DELETE FROM outbox_delayed", "BETWEEN", sim_delayed_delete, true},
    {"DELETE o FROM outbox_delayed", "", sim_delayed_delete, true},
    {"DELETE o FROM", "STRAIGHT_JOIN outbox_delayed", sim_delayed_delete, true},
    {"INSERT INTO outbox_journal", "", sim_journal_write, true},
    {"SELECT message_id FROM outbox_journal", "", read_nothing, false},
    {"DELETE FROM outbox_journal", "", read_nothing, false},
    {"DELETE j FROM outbox_journal", "", read_nothing, false},
    {"SELECT d.outbox FROM", "", read_nothing, false},
    {"SELECT o.id, o.message_id", "outbox_awaiting", read_nothing, false},
    {"SELECT o.id FROM", "", read_nothing, false}, /* no row is locked for long */
    {"SELECT (SELECT COUNT", "", count_all, false},
    {"DELETE FROM outbox_parked", "BETWEEN", delete_parked_range, true},
    {"DELETE o FROM outbox_parked", "", delete_parked_one, true},
    {"DELETE o FROM", "STRAIGHT_JOIN outbox_parked", delete_parked_list, true},
    {"DELETE FROM `outbox`", "BETWEEN", delete_range, true},
    {"DELETE o FROM `outbox`", "", delete_one, true},
    {"DELETE o FROM", "STRAIGHT_JOIN `outbox`", delete_list, true},
    {"SELECT ordering_key FROM outbox_parked", "holds_key = 1", read_frozen, false},
    {"SELECT ordering_key, MIN(id)", "", read_heads, false},
    {"INSERT INTO outbox_parked", "JSON_TABLE", park_followers, true},
    {"INSERT INTO outbox_parked", "", park_one, true},
    {"SELECT id, ordering_key, holds_key", "", next_request, false},
    {"SELECT parked_id, id", "blocked_by = ?", read_followers, false},
    {"SELECT parked_id, id", "AND id = ?", read_self, false},
    {"SELECT p.parked_id, p.id, OCTET", "ordering_key IS NULL", read_keyless, false},
    {"SELECT parked_id, id FROM outbox_parked", "FOR UPDATE", lock_rows, false},
    {"SELECT id, message_id, topic, ordering_key,", "request_note", read_nothing, false},
    {"INSERT INTO outbox_audit", "", read_nothing, true},
    {"SELECT audit_id", "FOR UPDATE", read_nothing, false},
    {"DELETE a FROM JSON_TABLE", "outbox_awaiting", sim_end_discarded, true},
    {"DELETE a FROM JSON_TABLE", "", read_nothing, false},
    {"UPDATE outbox_parked", "request = 'resume'", pass_on, true},
    {"UPDATE outbox_parked", "request = NULL", unrequest, true},
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

enum obx_code call_run(struct call *call)
{
    return statement_of(call->sql)->run(call);
}

bool call_writes(const struct call *call)
{
    return statement_of(call->sql)->writes;
}
