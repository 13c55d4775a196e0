/*
 * The simulated side tables: outbox_delayed, outbox_journal, and what they refuse. See lane_sim.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lane_sim_call.h"

/* ---- what tables refuse ---- */

bool sim_refuses(const struct sim_row *row, enum sim_table table)
{
    return !sim->is_calm && row->refused_by == table;
}

/* ---- outbox_journal ---- */

enum obx_code sim_journal_write(struct call *call)
{
    const char *at = (const char *)call->args[1].v.bytes.p + 1;

    while (*at >= '0' && *at <= '9') {
        char *end = NULL;
        struct sim_row *row = sim_find(strtoull(at, &end, 10));

        if (row == NULL || row->state != SIM_LIVE)
            sim_fail("a row that is not in the outbox goes to the journal");
        if (sim_refuses(row, SIM_JOURNAL))
            return OBX_E_DB_DATA;
        sim_change(row)->is_journaled = true;
        at = end + (*end == ',');
    }
    return OBX_OK;
}

/* ---- outbox_delayed ---- */

void sim_add_delayed(void)
{
    struct sim_delayed *delayed = &sim->delayed[sim->delayed_count];

    if (sim->delayed_count == SIM_DELAYED)
        return;
    *delayed = (struct sim_delayed){.id = ++sim->delayed_count,
                                    .due_us = sim_db_now_us() + sim_below(3000000),
                                    .key = (int)sim_below(SIM_KEYS + 1) - 1,
                                    .topic = (int)sim_below(SIM_TOPICS),
                                    .is_refused = sim_chance(sim->refuse_chance)};
}

/* A move that was rolled back has left a row that nobody sees. */
static bool is_there(const struct sim_delayed *delayed)
{
    return delayed->row == 0 || sim->rows[delayed->row - 1].state == SIM_GHOST;
}

bool sim_has_delayed(void)
{
    for (size_t i = 0; i < sim->delayed_count; i++) {
        if (is_there(&sim->delayed[i]))
            return true;
    }
    return false;
}

void sim_delayed_are_due(void)
{
    for (size_t i = 0; i < sim->delayed_count; i++) {
        if (sim->delayed[i].due_us > sim_db_now_us())
            sim->delayed[i].due_us = sim_db_now_us();
    }
}

/* Whether the text has the id in the list that begins with `start`, quoted or not. */
static bool is_listed(const char *sql, const char *start, uint64_t id)
{
    const char *at = strstr(sql, start);

    if (at == NULL)
        return false;
    for (at += strlen(start); *at == '\'' || (*at >= '0' && *at <= '9');) {
        char *end = NULL;

        at += *at == '\'';
        if (strtoull(at, &end, 10) == id)
            return true;
        at = end + (*end == '\'');
        at += *at == ',';
    }
    return false;
}

static int compare_delayed(const void *a, const void *b)
{
    const struct sim_delayed *x = *(const struct sim_delayed *const *)a;
    const struct sim_delayed *y = *(const struct sim_delayed *const *)b;

    if (x->due_us != y->due_us)
        return x->due_us < y->due_us ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Those that are due, in their order; all of them, or those of the list. */
static size_t due_ones(const char *sql, const char *list, struct sim_delayed **out)
{
    size_t count = 0;

    for (size_t i = 0; i < sim->delayed_count; i++) {
        struct sim_delayed *delayed = &sim->delayed[i];

        if (is_there(delayed) && delayed->due_us <= sim_db_now_us() &&
            (list == NULL || is_listed(sql, list, delayed->id)))
            out[count++] = delayed;
    }
    qsort(out, count, sizeof(struct sim_delayed *), compare_delayed);
    return count;
}

enum obx_code sim_delayed_find(struct call *call)
{
    struct sim_delayed *due[SIM_DELAYED];
    size_t count = due_ones(call->sql, NULL, due);
    uint64_t limit = strtoull(strstr(call->sql, "LIMIT ") + strlen("LIMIT "), NULL, 10);
    uint64_t skip = strtoull(strstr(call->sql, "OFFSET ") + strlen("OFFSET "), NULL, 10);

    for (size_t i = 0; i < count && call->rows->count < limit; i++) {
        if (is_listed(call->sql, "NOT IN (", due[i]->id))
            continue;
        if (skip > 0)
            skip--;
        else
            call_add_row(call)[0] = cell_number(due[i]->id);
    }
    return OBX_OK;
}

enum obx_code sim_delayed_lock(struct call *call)
{
    struct sim_delayed *due[SIM_DELAYED];
    size_t count = due_ones(call->sql, "IN (", due);

    for (size_t i = 0; i < count; i++) {
        struct cell *cells = call_add_row(call);

        cells[0] = cell_number(due[i]->id);
        cells[1] = cell_number(3);
        cells[2] = cell_number(0);
        cells[3] = cell_text("d");
    }
    return OBX_OK;
}

static void put_into_outbox(struct sim_delayed *delayed)
{
    struct sim_row *row = &sim->rows[sim->row_count];

    if (sim->row_count == SIM_ROWS_MAX)
        sim_fail("delayed rows are moved and rolled back without end");
    *row = (struct sim_row){.id = ++sim->next_id,
                            .state = SIM_GHOST, /* what a rollback makes of it */
                            .key = delayed->key,
                            .topic = delayed->topic,
                            .created_us = sim_db_now_us(),
                            .began_us = sim->now_us,
                            .commit_us = sim->now_us,
                            .body_len = 3};
    (void)snprintf(row->name, sizeof(row->name), "d%llu", (unsigned long long)delayed->id);
    sim->row_count++;
    delayed->row = sim->row_count;
    sim_change(row)->state = SIM_LIVE;
    row->commit_seq = ++sim->next_seq;
}

enum obx_code sim_delayed_move(struct call *call)
{
    struct sim_delayed *due[SIM_DELAYED];
    size_t count = due_ones(call->sql, "IN (", due);

    if (!sim->in_tx || sim->running == NULL || strcmp(sim->running->owner, sim->lease.owner) != 0)
        sim_fail("delayed rows are moved by somebody without the lease");
    for (size_t i = 0; i < count; i++) {
        if (!sim->is_calm && due[i]->is_refused)
            return OBX_E_DB_DATA;
    }
    for (size_t i = 0; i < count; i++)
        put_into_outbox(due[i]);
    call->affected = count;
    return OBX_OK;
}

/* The move has made them invisible; the delete says how many there were. */
static void count_moved(struct call *call, uint64_t id)
{
    const struct sim_delayed *delayed = &sim->delayed[id - 1];

    if (id == 0 || id > sim->delayed_count)
        sim_fail("a delayed row that there is not is deleted");
    if (is_there(delayed))
        sim_fail("delayed row %llu is deleted and not moved", (unsigned long long)id);
    call->affected++;
}

enum obx_code sim_delayed_delete(struct call *call)
{
    if (strstr(call->sql, "BETWEEN") != NULL) {
        for (uint64_t id = call->args[0].v.u64; id <= call->args[1].v.u64; id++)
            count_moved(call, id);
    } else if (strstr(call->sql, "JSON_TABLE") == NULL) {
        count_moved(call, call->args[0].v.u64);
    } else {
        const char *at = (const char *)call->args[0].v.bytes.p + 1;

        while (*at >= '0' && *at <= '9') {
            char *end = NULL;

            count_moved(call, strtoull(at, &end, 10));
            at = end + (*end == ',');
        }
    }
    return OBX_OK;
}
