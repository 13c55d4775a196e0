/*
 * The world of the simulated lane: clock, chance, when which lane has its turn, who is killed or
 * stopped, and what has to be true in the end. See lane_sim.h.
 */
#include "lane_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "lane/lane_opts.h"

enum {
    TURN_US = 20,
    CALM_US = 120 * 1000 * 1000, /* so long may it take, without faults, until all is out */
    IDLE_TURNS_MAX = 3,
    IDLE_TURN_US = 200, /* one more for each of these that a statement takes: pauses are shorter */
    QUERIES_PER_TURN_MAX = 200,
    QUERIES_PER_SECOND_MAX = 1500,
    READS_PER_ROW_MAX = 80,
    SENDS_PER_ROW_MAX = 4,
    BEGIN_US = 1000000000,
    LEASE_MS = 2000,
    RETRY_CAP_MS = 400,
};

#define HOURS_US (UINT64_C(12) * 3600 * 1000 * 1000)

struct sim *sim;

/* ---- chance and time ---- */

uint64_t sim_random(void)
{
    uint64_t x = sim->rng += UINT64_C(0x9E3779B97F4A7C15);

    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

uint64_t sim_below(uint64_t n)
{
    return sim_random() % n;
}

bool sim_chance(unsigned n)
{
    return n != 0 && sim_below(n) == 0;
}

uint64_t sim_clock_us(void) WRAPS(clock_now_us);
uint64_t sim_clock_us(void)
{
    return sim->now_us;
}

uint64_t sim_clock_ms(void) WRAPS(clock_now_ms);
uint64_t sim_clock_ms(void)
{
    return sim->now_us / 1000;
}

int sim_clock_left(uint64_t due_ms) WRAPS(clock_left_ms);
int sim_clock_left(uint64_t due_ms)
{
    uint64_t now = sim_clock_ms();
    uint64_t left = due_ms > now ? due_ms - now : 0;

    return left > 1000000 ? 1000000 : (int)left;
}

uint64_t sim_random_u64(void) WRAPS(random_u64);
uint64_t sim_random_u64(void)
{
    return sim_random();
}

/* In some worlds many names share a hash. */
uint64_t sim_hash(struct obx_bytes b) WRAPS(bytes_hash);
uint64_t sim_hash(struct obx_bytes b)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ sim->seed;

    for (size_t i = 0; i < b.len; i++)
        h = (h ^ ((const uint8_t *)b.p)[i]) * UINT64_C(0x100000001b3);
    return sim->has_poor_hash ? (h ^ h >> 17) % 5 : h;
}

void sim_fail(const char *fmt, ...)
{
    char text[400];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    fail_msg("seed %llu at %llu us: %s", (unsigned long long)sim->seed,
             (unsigned long long)sim->now_us, text);
    abort(); /* not reached */
}

/* ---- small bounds, so that they are met ---- */

enum obx_code real_flight_create(const struct flight_opts *opts, struct flight **out,
                                 struct obx_err *err) __asm__("__real_flight_create");
enum obx_code sim_flight_create(const struct flight_opts *opts, struct flight **out,
                                struct obx_err *err) WRAPS(flight_create);
enum obx_code sim_flight_create(const struct flight_opts *opts, struct flight **out,
                                struct obx_err *err)
{
    struct flight_opts small = *opts;

    small.max_waiting = 6 + (uint32_t)sim_below(40);
    small.max_key_waiting = 2 + (uint32_t)sim_below(12);
    small.max_topic_retrying = 1 + (uint32_t)sim_below(8);
    small.max_retrying = 2 * small.max_topic_retrying + (uint32_t)sim_below(20);
    small.max_to_park = 1 + (uint32_t)sim_below(30);
    small.max_empty_keys = (uint32_t)sim_below(4);
    small.max_bytes = (size_t)sim_below(4000);
    size_t bound = small.max_ready + 2 * (small.max_waiting + small.max_to_park) +
                   small.max_retrying + sim->opts.window + 4 * sim->opts.settle_max_rows +
                   sim->opts.window;
    sim->flight_max = bound > sim->flight_max ? bound : sim->flight_max;
    return real_flight_create(&small, out, err);
}

enum obx_code real_reader_create(const struct reader_opts *opts, const struct reader_store *store,
                                 struct flight *flight, struct reader **out,
                                 struct obx_err *err) __asm__("__real_reader_create");
enum obx_code sim_reader_create(const struct reader_opts *opts, const struct reader_store *store,
                                struct flight *flight, struct reader **out, struct obx_err *err)
    WRAPS(reader_create);
enum obx_code sim_reader_create(const struct reader_opts *opts, const struct reader_store *store,
                                struct flight *flight, struct reader **out, struct obx_err *err)
{
    struct reader_opts small = *opts;

    small.page_rows = 7 + (uint32_t)sim_below(30);
    return real_reader_create(&small, store, flight, out, err);
}

/* ---- lanes ---- */

struct sim_slot *sim_slot_of(const void *publish)
{
    for (size_t i = 0; i < sim->lanes; i++) {
        if (sim->slots[i].turn != NULL && &sim->slots[i].turn->parts.publish == publish)
            return &sim->slots[i];
    }
    sim_fail("no such lane");
}

static void start_lane(struct sim_slot *slot)
{
    const struct lane_outside outside = {.opts = &slot->opts,
                                         .gate_is_open = &slot->signals.gate_open,
                                         .commit_to_confirm = &slot->hist,
                                         .publish_to_confirm = &slot->hist};
    struct obx_err err = {0};

    (void)snprintf(slot->owner, sizeof(slot->owner), "lane%d-%u", (int)(slot - sim->slots),
                   ++slot->life);
    slot->opts = sim->opts;
    slot->opts.owner = slot->owner;
    slot->stale_sends = 0;
    slot->idle_turns = 0;
    slot->signals = (struct turn_signals){.gate_open = true};
    lane_opts_fill(&slot->opts);
    slot->turn = calloc(1, sizeof(*slot->turn));
    assert_non_null(slot->turn);
    if (turn_init(slot->turn, &outside, &slot->signals, &err) != OBX_OK)
        sim_fail("%s", err.text);
    slot->turn->db_backoff.seed = sim_random() | 1; /* or it would draw one of its own */
}

static void end_lane(struct sim_slot *slot)
{
    turn_end(slot->turn);
    turn_fini(slot->turn);
    free(slot->turn);
    slot->turn = NULL;
}

static void kill_lane(struct sim_slot *slot)
{
    sim->losses++;
    sim_broker_kill(slot->turn->parts.publish.publisher);
    end_lane(slot);
    start_lane(slot);
}

/* One failure is one step of the wait, and one lease is lost once. */
static void check_failures(const struct sim_slot *slot, uint64_t lost, uint32_t tries)
{
    if (slot->turn->lease_lost > lost + 1)
        sim_fail("the lease is lost %llu times in one turn",
                 (unsigned long long)(slot->turn->lease_lost - lost));
    if (slot->turn->db_backoff.tries > tries + 1)
        sim_fail("one failure takes %u steps of the wait", slot->turn->db_backoff.tries - tries);
}

static void look_after(struct sim_slot *slot, uint64_t work, uint64_t queries, unsigned losses)
{
    const struct flight *flight = slot->turn->parts.flight;

    if (turn_wait_ms(slot->turn) == 0 && sim->work == work)
        slot->idle_turns++;
    else
        slot->idle_turns = 0;
    if (slot->idle_turns > IDLE_TURNS_MAX + sim->statement_us / IDLE_TURN_US)
        sim_fail("the lane spins: %u turns without a pause or anything to do in state %s",
                 slot->idle_turns, lane_state_name(slot->turn->state));
    if (sim->losses == losses && sim->queries - queries > QUERIES_PER_TURN_MAX)
        sim_fail("%llu queries in one turn", (unsigned long long)(sim->queries - queries));
    if (flight_total(flight) > sim->flight_max)
        sim_fail("%zu rows in memory, %zu are allowed (%zu to be parked)", flight_total(flight),
                 sim->flight_max, flight_count(flight, FLIGHT_TO_PARK));
    if (strcmp(sim->lease.owner, slot->owner) == 0)
        slot->stale_sends = 0;
}

static void turn(struct sim_slot *slot)
{
    uint64_t work = sim->work;
    uint64_t queries = sim->queries;
    unsigned losses = sim->losses;
    uint64_t lost = slot->turn->lease_lost;
    uint32_t tries = slot->turn->db_backoff.tries;
    struct lane_stats stats;
    const struct sim_slot *outer = sim->running; /* stands still meanwhile */

    sim->now_us += TURN_US;
    sim->running = slot;
    turn_run(slot->turn);
    turn_get_stats(slot->turn, &stats);
    sim->running = outer;
    if (slot->turn->state == LANE_STOPPED) {
        /* A drain leaves a row that somebody has locked: published, and in the outbox. */
        sim->losses += flight_count(slot->turn->parts.flight, FLIGHT_CONFIRMED) > 0;
        end_lane(slot);
        start_lane(slot);
        return;
    }
    check_failures(slot, lost, tries);
    look_after(slot, work, queries, losses);
}

void sim_freeze(struct sim_slot *slot)
{
    uint64_t until = sim->now_us + sim_below(3ULL * LEASE_MS * 1000);

    if (sim->is_frozen)
        return;
    sim->is_frozen = true;
    sim->losses++;
    while (sim->now_us < until) {
        sim->now_us += 1 + sim_below(100000);
        sim_db_step();
        for (size_t i = 0; i < sim->lanes; i++) {
            if (&sim->slots[i] != slot)
                turn(&sim->slots[i]);
        }
    }
    sim->is_frozen = false;
}

/* ---- the course of things ---- */

static void trouble_topics(void)
{
    struct sim_topic *topic = &sim->topics[sim_below(SIM_TOPICS)];

    if (sim_chance(2)) {
        *topic = (struct sim_topic){.confirmed_us = topic->confirmed_us,
                                    .was_denied = topic->was_denied};
        return;
    }
    topic->is_full = sim_chance(2);
    topic->is_unbound = sim_chance(4);
    topic->is_missing = sim_chance(8);
    topic->is_denied = sim_chance(8);
    topic->was_denied = topic->was_denied || topic->is_denied;
    sim->was_missing = sim->was_missing || topic->is_missing;
}

static void ask_for_parked(unsigned discard_chance)
{
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        struct sim_row *row = &sim->rows[i];

        if (row->state == SIM_PARKED && (sim->is_calm || sim_chance(3)))
            row->request = sim_chance(discard_chance) ? 2 : 1;
    }
}

static void disturb(struct sim_slot *slot)
{
    if (sim_chance(sim->chaos.topic_trouble))
        trouble_topics();
    if (sim_chance(sim->chaos.topic_trouble))
        ask_for_parked(6);
    if (sim_chance(sim->chaos.kill))
        kill_lane(slot);
    if (sim_chance(sim->chaos.kill) && sim->lanes > 1)
        atomic_store(&slot->signals.drain_wanted, true);
    if (sim_chance(sim->chaos.pause) && ++sim->losses > 0)
        slot->paused_until_us = sim->now_us + sim_below(2ULL * LEASE_MS * 1000);
    if (sim_chance(sim->chaos.clock_back))
        sim->db_back_us += sim_below(HOURS_US / 100);
    if (sim_chance(sim->chaos.table_lock))
        sim->parked_locked_us = sim->now_us + sim_below(4000000);
    if (sim_chance(40))
        atomic_store(&slot->signals.rung, true);
}

static uint64_t due_us(const struct sim_slot *slot)
{
    uint64_t due = sim->now_us;

    if (slot->paused_until_us > sim->now_us)
        return slot->paused_until_us;
    if (sim_broker_readable(slot->turn->parts.publish.publisher))
        return due + 1 + sim_below(3000);
    return due + (uint64_t)turn_wait_ms(slot->turn) * 1000;
}

/* Time goes on to the next thing that is due, and it happens. */
static void step(void)
{
    uint64_t dues[SIM_LANES] = {0};
    uint64_t next = sim_db_next_us();

    for (size_t i = 0; i < sim->lanes; i++) {
        dues[i] = due_us(&sim->slots[i]);
        next = dues[i] < next ? dues[i] : next;
    }
    if (next > sim->now_us)
        sim->now_us = next;
    sim_db_step();
    for (size_t i = 0; i < sim->lanes; i++) {
        struct sim_slot *slot = &sim->slots[i];

        if (dues[i] > sim->now_us)
            continue;
        turn(slot);
        if (!sim->is_calm)
            disturb(slot);
    }
}

static bool has_left(enum sim_row_state state)
{
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        if (sim->rows[i].state == state)
            return true;
    }
    return false;
}

static void settle_down(void)
{
    uint64_t until = sim->now_us + CALM_US;

    while ((has_left(SIM_LIVE) || sim_has_delayed() || sim_has_awaiting()) && sim->now_us < until)
        step();
    if (sim_has_awaiting())
        sim_fail("a row never gets its receipts");
    if (sim_has_delayed())
        sim_fail("a delayed row never comes into the outbox");
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        if (sim->rows[i].state == SIM_LIVE)
            sim_fail("row %llu (key %d, topic %d) never comes out, sent %u times",
                     (unsigned long long)sim->rows[i].id, sim->rows[i].key, sim->rows[i].topic,
                     sim->rows[i].sent);
    }
}

static bool can_be_sent(const struct sim_row *row)
{
    return !row->is_bad && row->body_len <= sim->opts.max_body_bytes;
}

static void check_end(void)
{
    for (size_t i = 0; i < sim->row_count; i++) {
        const struct sim_row *row = &sim->rows[i];

        if (row->state == SIM_GONE && row->stored == 0 && !row->may_vanish)
            sim_fail("row %llu is lost", (unsigned long long)row->id);
        if (row->state == SIM_GONE && row->asks && !row->has_receipt && !row->may_vanish)
            sim_fail("row %llu is gone without its receipt", (unsigned long long)row->id);
        if (row->state == SIM_GONE && sim->losses == 0 && row->stored > 1 &&
            row->refused_by == SIM_NO_TABLE && !row->asks)
            sim_fail("row %llu was stored %u times though nothing was lost",
                     (unsigned long long)row->id, row->stored);
    }
}

/* P9 over a whole world, with all its faults: thousands of seeds stay below two thirds of these. */
static void check_cost(void)
{
    uint64_t ms = (sim->now_us - BEGIN_US) / 1000 + 1000;

    if (sim->rows_read > READS_PER_ROW_MAX * sim->row_count)
        sim_fail("%llu rows were read for %zu", (unsigned long long)sim->rows_read, sim->row_count);
    if (sim->sends > SENDS_PER_ROW_MAX * sim->row_count)
        sim_fail("%llu messages were sent for %zu rows", (unsigned long long)sim->sends,
                 sim->row_count);
    if (sim->queries > QUERIES_PER_SECOND_MAX * ms / 1000)
        sim_fail("%llu statements in %llu ms", (unsigned long long)sim->queries,
                 (unsigned long long)ms);
}

static bool is_anything_asked(void)
{
    for (size_t i = sim->first_open; i < sim->row_count; i++) {
        if (sim->rows[i].state == SIM_PARKED && sim->rows[i].request != 0)
            return true;
    }
    return false;
}

/* What is parked comes out too when it is asked for, but for what can never be a message. */
static void resume_all(void)
{
    for (int round = 0; round < 3 && has_left(SIM_PARKED); round++) {
        uint64_t until = sim->now_us + CALM_US;

        /* A topic that was at fault is tried again after the longest pause. */
        for (uint64_t pause = sim->now_us + RETRY_CAP_MS * UINT64_C(1000); sim->now_us < pause;)
            step();
        ask_for_parked(0);
        while (is_anything_asked() && sim->now_us < until)
            step();
        settle_down();
    }
    if (is_anything_asked())
        sim_fail("a request does not run");
    for (size_t i = 0; i < sim->row_count; i++) {
        const struct sim_row *row = &sim->rows[i];
        const struct sim_row *head = row->blocked_by == 0 ? NULL : sim_parked(row->blocked_by);

        if (row->state != SIM_PARKED || !can_be_sent(row))
            continue;
        if (head == NULL || !head->holds_key || can_be_sent(head))
            sim_fail("row %llu stays parked (behind %llu) though nothing is wrong with it",
                     (unsigned long long)row->id, (unsigned long long)row->blocked_by);
    }
}

static void calm_down(void)
{
    sim->is_calm = true;
    for (size_t i = 0; i < SIM_TOPICS; i++)
        sim->topics[i] = (struct sim_topic){.was_denied = sim->topics[i].was_denied};
    for (size_t i = 0; i < sim->lanes; i++)
        sim->slots[i].paused_until_us = 0;
    while (sim->produced < sim->row_limit)
        step();
    sim_db_end_txs();
    sim_delayed_are_due();
    sim_awaiting_are_due();
    settle_down();
}

static void draw_rules(void)
{
    const uint32_t pack = sim_chance(2) ? 2 + (uint32_t)sim_below(SIM_PACK - 1) : 0;

    sim->rules[0] = (struct topic_rule){.pattern = "s*", .on_park = PARK_SKIP, .pack = pack};
    sim->rules[1] = (struct topic_rule){.pattern = "t*", .pack = sim_chance(4) ? 0 : pack};
    for (size_t i = 0; i < 2; i++)
        sim->rules[i].pack_bytes = sim_chance(4) ? 300 + (uint32_t)sim_below(2000) : 0;
    sim->pack_limit = sim_chance(4) ? 400 + (uint32_t)sim_below(2000) : 0;
}

static void draw_opts(void)
{
    draw_rules();
    sim->opts = (struct lane_opts){
        .source = "shop",
        .outbox = "outbox",
        .rules = sim->rules,
        .rule_count = sizeof(sim->rules) / sizeof(sim->rules[0]),
        .window = 1 + (uint32_t)sim_below(SIM_FLIGHT),
        .key_window = sim_chance(6) ? 3 : 1,
        .batch_rows = sim_chance(3) ? 1 + (uint32_t)sim_below(SIM_BATCH) : 60,
        .inline_bytes = 100,
        .max_body_bytes = 2000,
        .settle_max_rows = 1 + (uint32_t)sim_below(30),
        .settle_max_age_ms = 1 + (uint32_t)sim_below(100),
        .sweep_ms = 200,
        .lease_ms = LEASE_MS,
        .max_attempts = 2 + (uint32_t)sim_below(4),
        .retry_min_ms = 10,
        .retry_cap_ms = RETRY_CAP_MS,
        .drain_ms = 1000,
        .delayed_poll_ms = 50,
        .journal = sim_chance(3),
        .receipt_queue = sim->asking_chance > 0 ? "receipts" : NULL,
        .receipt_timeout_ms = 300,
        .receipt_cap_ms = 600,
        .max_sends = 3,
    };
}

static void draw_chaos(void)
{
    if (sim_chance(4))
        return; /* a world without faults */
    sim->chaos = (struct sim_chaos){
        .db_loss = sim_chance(2) ? 100 + (unsigned)sim_below(900) : 0,
        .db_wait = sim_chance(2) ? 20 + (unsigned)sim_below(200) : 0,
        .broker_loss = sim_chance(2) ? 20 + (unsigned)sim_below(400) : 0,
        .pause = sim_chance(2) ? 100 + (unsigned)sim_below(400) : 0,
        .kill = sim_chance(2) ? 100 + (unsigned)sim_below(400) : 0,
        .topic_trouble = sim_chance(2) ? 20 + (unsigned)sim_below(100) : 0,
        .long_tx = sim_chance(2) ? 10 : 0,
        .clock_back = sim_chance(4) ? 300 : 0,
        .table_lock = sim_chance(4) ? 400 : 0,
    };
}

void sim_run(uint64_t seed)
{
    sim = calloc(1, sizeof(*sim));
    assert_non_null(sim);
    sim->seed = seed;
    sim->rng = seed * UINT64_C(0xD1342543DE82EF95);
    sim->now_us = BEGIN_US;
    sim->row_limit = 100 + sim_below(SIM_ROWS - 100);
    sim->lanes = 1 + sim_below(SIM_LANES);
    sim->snapshot_seq = UINT64_MAX;
    sim->has_poor_hash = sim_chance(3);
    sim->bad_row = sim_chance(2) ? 40 : 0;
    sim->statement_us = sim_chance(3) ? 1000 + sim_below(4000) : 40;
    sim->is_much_parked = sim_chance(5);
    sim->created_off_us = sim_chance(2) ? sim_below(HOURS_US) : 0;
    sim->hole_chance = sim_chance(4) ? 1 : 12;
    sim->refuse_chance = sim_chance(3) ? 30 : 0;
    sim->delayed_chance = sim_chance(2) ? 6 : 0;
    sim->asking_chance = sim_chance(3) ? 4 : 0;
    draw_opts();
    draw_chaos();
    for (size_t i = 0; i < sim->lanes; i++)
        start_lane(&sim->slots[i]);
    while (sim->produced < sim->row_limit * 3 / 4)
        step();
    calm_down();
    resume_all();
    check_end();
    check_cost();
    for (size_t i = 0; i < sim->lanes; i++)
        end_lane(&sim->slots[i]);
    if (getenv("OBX_SIM_TRACE") != NULL)
        print_message("seed %llu: %zu rows, %llu packs of %llu, %zu delayed, %u hasty %llu sends, "
                      "%llu queries, %llu read,"
                      " %llu ms, %llu waited, ends with %llx\n",
                      (unsigned long long)seed, sim->row_count, (unsigned long long)sim->pack,
                      (unsigned long long)sim->packed, sim->delayed_count, sim->hasty_sends,
                      (unsigned long long)sim->sends, (unsigned long long)sim->queries,
                      (unsigned long long)sim->rows_read,
                      (unsigned long long)(sim->now_us / 1000 - 1000000),
                      (unsigned long long)(sim->waited_us / 1000), (unsigned long long)sim->rng);
    free(sim);
    sim = NULL;
}
