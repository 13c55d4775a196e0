/*
 * The simulated producers: transactions that are open side by side, take ids in one order and
 * commit in another, or roll back. See lane_sim.h.
 */
#include <stdio.h>

#include "lane_sim_call.h"

#define CLOCK_SKEW_US (UINT64_C(24) * 3600 * 1000 * 1000)

/* ---- rows ---- */

const char *const sim_key_names[SIM_KEYS] = {"k0", "k1", "k2", "k3", "k4", "k5"};
const char *const sim_topic_names[SIM_TOPICS] = {"t0", "t1", "t2", "s3"};

const char *sim_key_of(const struct sim_row *row)
{
    return row->key < 0 ? NULL : sim_key_names[row->key];
}

uint64_t sim_db_now_us(void)
{
    return sim->now_us + CLOCK_SKEW_US - sim->db_back_us;
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

size_t sim_from(uint64_t id)
{
    size_t lo = sim->first_open;
    size_t hi = sim->row_count;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (sim->rows[mid].id < id)
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

    if (sim->produced >= sim->row_limit)
        return;
    sim->produced++;
    sim->next_id += sim_chance(sim->hole_chance) ? 1 + sim_below(sim_chance(8) ? 500 : 4) : 1;
    *row = (struct sim_row){.id = sim->next_id,
                            .state = SIM_OPEN,
                            .key = sim_chance(5) ? (int)sim_below(SIM_KEYS + 1) - 1 : tx->key,
                            .topic = sim_chance(3) ? (int)sim_below(SIM_TOPICS) : 0,
                            .created_us = sim_chance(3) ? sim_db_now_us() + sim->created_off_us
                                                        : sim_db_now_us() - sim->created_off_us,
                            .began_us = tx->began_us,
                            .is_bad = sim_chance(sim->bad_row),
                            .body_len = sim_chance(6) ? SIM_INLINE + 1 : 3,
                            .parked_id = (uint64_t)(tx - sim->txs)};
    if (sim_chance(sim->bad_row))
        row->body_len = 5000; /* above max_body_bytes */
    row->asks = sim_chance(sim->asking_chance);
    if (sim_chance(sim->refuse_chance))
        row->refused_by = sim_chance(2) ? SIM_JOURNAL : SIM_PARKED_TABLE;
    (void)snprintf(
        row->name, sizeof(row->name), "m%llu",
        (unsigned long long)(!row->asks && sim_chance(10) ? sim_below(row->id) : row->id));
    if (row->asks)
        row->name[0] = 'r'; /* its id is its own: outbox_awaiting has it as key */
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

    if (sim->now_us >= sim->next_tx_us && sim->produced < sim->row_limit) {
        if (!tx->is_on)
            begin_tx(tx);
        if (sim_chance(sim->delayed_chance))
            sim_add_delayed();
        sim->next_tx_us = sim->now_us + sim_below(sim_chance(10) ? 400000 : 6000);
    }
    run_txs();
    sim_take_receipts();
    while (sim->first_open < sim->row_count &&
           (sim->rows[sim->first_open].state == SIM_GHOST ||
            (sim->rows[sim->first_open].state == SIM_GONE &&
             !sim->rows[sim->first_open].is_awaiting && !sim->in_tx)))
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
    uint64_t next = sim->produced < sim->row_limit ? sim->next_tx_us : UINT64_MAX;

    for (size_t i = 0; i < SIM_TXS; i++) {
        if (sim->txs[i].is_on && sim->txs[i].end_us < next)
            next = sim->txs[i].end_us;
    }
    return next;
}
