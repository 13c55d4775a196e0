/*
 * The simulated outbox_awaiting and outbox_receipt, the consumers that report, and the role that
 * takes their receipts. See lane_sim.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lane_sim_call.h"

enum { TIMEOUT_US = 300000 };

static uint64_t next_send_us(void)
{
    return sim_db_now_us() + TIMEOUT_US + sim_below(TIMEOUT_US / 4);
}

/* ---- consumers ---- */

/* Some deliveries are never reported, as long as there are faults. */
void sim_delivered(struct sim_row *row)
{
    if (row->asks && row->receipt_at_us == 0 && (sim->is_calm || sim_chance(2)))
        row->receipt_at_us = sim->now_us + sim_below(600000);
}

/* The role holds the row's lock, so it does nothing while a lane has it in a transaction. */
void sim_take_receipts(void)
{
    for (size_t i = sim->first_open; i < sim->row_count && !sim->in_tx; i++) {
        struct sim_row *row = &sim->rows[i];

        if (row->receipt_at_us == 0 || row->receipt_at_us > sim->now_us)
            continue;
        row->has_receipt = true;
        row->is_awaiting = false;
    }
}

void sim_awaiting_are_due(void)
{
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        struct sim_row *row = &sim->rows[i];

        if (row->is_awaiting && row->next_send_us > sim_db_now_us() + TIMEOUT_US)
            row->next_send_us = sim_db_now_us() + TIMEOUT_US;
    }
}

/* What has a parked copy waits for an operator. */
bool sim_has_awaiting(void)
{
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        if (sim->rows[i].is_awaiting && sim->rows[i].state != SIM_PARKED)
            return true;
    }
    return false;
}

/* ---- statements ---- */

/* Runs for each row whose message id stands in the list of the text. */
static void each_named(struct call *call, void (*run)(struct call *call, struct sim_row *row))
{
    const char *list = strstr(call->sql, "message_id IN (");

    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        char quoted[40];

        (void)snprintf(quoted, sizeof(quoted), "'%s'", sim->rows[i].name);
        if (sim->rows[i].asks && strstr(list, quoted) != NULL)
            run(call, &sim->rows[i]);
    }
}

enum obx_code sim_read_secrets(struct call *call)
{
    struct cell *cells = call_add_row(call);

    cells[0] = cell_number(1);
    cells[1] = cell_text("0123456789abcdef0123456789abcdef");
    return OBX_OK;
}

enum obx_code sim_read_early(struct call *call)
{
    const char *at = (const char *)call->args[0].v.bytes.p + 1;

    while (*at >= '0' && *at <= '9') {
        char *end = NULL;
        const struct sim_row *row = sim_find(strtoull(at, &end, 10));

        if (row != NULL && row->has_receipt) {
            struct cell *cells = call_add_row(call);

            cells[0] = cell_number(row->id);
            cells[1] = cell_text(row->name);
            cells[2] = cell_text("g");
            cells[3] = cell_text("g");
            cells[4] = cell_text("applied");
            cells[5] = cell_text(NULL);
        }
        at = end + (*end == ',');
    }
    return OBX_OK;
}

enum obx_code sim_await(struct call *call)
{
    const char *at = (const char *)call->args[1].v.bytes.p + 1;

    while (*at >= '0' && *at <= '9') {
        char *end = NULL;
        struct sim_row *row = sim_find(strtoull(at, &end, 10));

        if (row == NULL || row->state != SIM_LIVE || row->stored == 0)
            sim_fail("a row awaits receipts that was not stored");
        sim_change(row)->sends = row->is_awaiting ? row->sends + 1 : 1;
        row->is_awaiting = true;
        row->next_send_us = next_send_us();
        at = end + (*end == ',');
    }
    return OBX_OK;
}

enum obx_code sim_find_overdue(struct call *call)
{
    uint64_t limit = strtoull(strstr(call->sql, "LIMIT ") + strlen("LIMIT "), NULL, 10);
    uint64_t skip = strtoull(strstr(call->sql, "OFFSET ") + strlen("OFFSET "), NULL, 10);

    for (size_t i = sim->first_open; i < sim->row_count && call->rows->count < limit; i++) {
        const struct sim_row *row = &sim->rows[i];

        if (!row->is_awaiting || row->next_send_us > sim_db_now_us())
            continue;
        if (skip > 0)
            skip--;
        else
            call_add_row(call)[0] = cell_text(row->name);
    }
    return OBX_OK;
}

static void lock_one(struct call *call, struct sim_row *row)
{
    struct cell *cells = NULL;

    if (!row->is_awaiting || row->next_send_us > sim_db_now_us())
        return;
    cells = call_add_row(call);
    cells[0] = cell_text(row->name);
    cells[1] = cell_number(row->id);
    cells[2] = cell_text(sim_key_of(row));
    cells[3] = cell_number(row->sends);
    cells[4] = cell_text("g");
}

enum obx_code sim_lock_overdue(struct call *call)
{
    each_named(call, lock_one);
    return OBX_OK;
}

static void read_receipt(struct call *call, struct sim_row *row)
{
    struct cell *cells = NULL;

    if (!row->has_receipt)
        return;
    cells = call_add_row(call);
    cells[0] = cell_text(row->name);
    cells[1] = cell_text("g");
    cells[2] = cell_text("applied");
    cells[3] = cell_text(NULL);
}

enum obx_code sim_read_receipts(struct call *call)
{
    each_named(call, read_receipt);
    return OBX_OK;
}

/* In the outbox still, or parked from there. */
enum obx_code sim_find_on_way(struct call *call)
{
    char *at = strstr(call->sql, "id IN (") + strlen("id IN (");

    while (*at >= '0' && *at <= '9') {
        const struct sim_row *row = sim_find(strtoull(at, &at, 10));

        if (row != NULL && (row->state == SIM_LIVE || row->state == SIM_PARKED)) {
            struct cell *cells = call_add_row(call);

            cells[0] = cell_number(row->id);
            cells[1] = cell_text(row->name);
        }
        at += *at == ',';
    }
    return OBX_OK;
}

static void park_missing(struct call *call, struct sim_row *row)
{
    if (row->state != SIM_GONE)
        sim_fail("row %llu is parked for want of receipts, and in the outbox",
                 (unsigned long long)row->id);
    sim_change(row)->state = SIM_PARKED;
    row->parked_id = ++sim->next_parked;
    row->blocked_by = 0;
    row->holds_key = false;
    row->request = 0;
    row->may_vanish = false;
    call->affected++;
}

enum obx_code sim_park_missing(struct call *call)
{
    each_named(call, park_missing);
    return OBX_OK;
}

static void send_again(struct call *call, struct sim_row *row)
{
    if (row->state != SIM_GONE || !row->is_awaiting)
        sim_fail("row %llu is sent again, and is not away", (unsigned long long)row->id);
    sim_change(row)->state = SIM_LIVE;
    row->commit_seq = ++sim->next_seq;
    call->affected++;
}

enum obx_code sim_send_again(struct call *call)
{
    each_named(call, send_again);
    return OBX_OK;
}

static void put_off(struct call *call, struct sim_row *row)
{
    (void)call;
    sim_change(row)->next_send_us = next_send_us();
}

enum obx_code sim_put_off(struct call *call)
{
    each_named(call, put_off);
    return OBX_OK;
}

enum obx_code sim_end_awaiting(struct call *call)
{
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        if (sim->rows[i].asks && bytes_is(call->args[0].v.bytes, sim->rows[i].name))
            sim_change(&sim->rows[i])->is_awaiting = false;
    }
    return OBX_OK;
}

/* With the parked copies that are discarded. */
enum obx_code sim_end_discarded(struct call *call)
{
    const char *at = (const char *)call->args[0].v.bytes.p + 1;

    while (*at >= '0' && *at <= '9') {
        char *end = NULL;
        uint64_t parked_id = strtoull(at, &end, 10);

        for (size_t i = sim->first_open; i < sim->row_count; i++) {
            if (sim->rows[i].state == SIM_PARKED && sim->rows[i].parked_id == parked_id &&
                sim->rows[i].is_awaiting)
                sim_change(&sim->rows[i])->is_awaiting = false;
        }
        at = end + (*end == ',');
    }
    return OBX_OK;
}
