/*
 * The rig of the lane's system tests. See lane_rig.h.
 */
#include "lane_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/random.h"
#include "bridge/consumer.h"
#include "each_message.h"
#include "message_header.h"
#include "sql/schema.h"
#include "test_log.h"
#include "wait.h"

enum { SQL_MAX = 4096, COLLECT_PREFETCH = 2000 };

/* ---- set up and down ---- */

static void fill_opts(struct lane_rig *rig)
{
    rig->opts = (struct lane_opts){
        .source = "shop",
        .outbox = "outbox",
        .owner = "first",
        .db = rig->test_db.opts,
        .bridge = {.addresses = rig->broker.address,
                   .vhost = rig->broker.vhost,
                   .user = rig->broker.user,
                   .password = rig->broker.password,
                   .reconnect_min_ms = 20,
                   .reconnect_cap_ms = 200},
        .exchange = rig->exchange,
        .lease_ms = 2000,
        .sweep_ms = 200,
        .retry_min_ms = 20,
        .retry_cap_ms = 200,
        .drain_ms = 5000,
    };
}

int rig_setup(void **state)
{
    struct lane_rig *rig = calloc(1, sizeof(*rig));
    const char *level = getenv("OBX_TEST_LOG");
    unsigned long long word = random_u64();
    struct obx_err err = {0};

    if (rig == NULL)
        return -1;
    if (level != NULL)
        log_setup(strcmp(level, "debug") == 0 ? LOG_LVL_DEBUG : LOG_LVL_INFO, LOG_FMT_TEXT,
                  test_log_line, NULL);
    if (!broker_from_env(&rig->broker)) {
        free(rig);
        return -1;
    }
    test_db_create(&rig->test_db, "lane");
    rig->db = test_db_open(&rig->test_db.opts);
    if (schema_migrate(rig->db, SCHEMA_PRODUCER, NULL, NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
    rig->admin = broker_admin_open(&rig->broker);
    (void)snprintf(rig->exchange, sizeof(rig->exchange), "lane-%d-%llx", (int)getpid(), word);
    (void)snprintf(rig->queue, sizeof(rig->queue), "%s-q", rig->exchange);
    broker_exchange(rig->admin, rig->exchange);
    broker_queue(rig->admin, rig->queue, NULL, 0);
    rig_bind(rig, "t");
    fill_opts(rig);
    *state = rig;
    return 0;
}

int rig_teardown(void **state)
{
    struct lane_rig *rig = *state;

    rig_end_lane(rig->lane);
    broker_delete_queue(rig->admin, rig->queue);
    broker_delete_exchange(rig->admin, rig->exchange);
    broker_admin_close(rig->admin);
    db_close(rig->db);
    test_db_drop(&rig->test_db);
    free(rig->seen);
    free(rig);
    log_setup(LOG_LVL_OFF, LOG_FMT_TEXT, NULL, NULL);
    return 0;
}

void rig_bind(struct lane_rig *rig, const char *topic)
{
    broker_bind(rig->admin, rig->queue, rig->exchange, topic);
}

/* ---- lanes ---- */

static struct lane *start(const struct lane_opts *opts)
{
    struct lane *lane = NULL;
    struct obx_err err = {0};

    if (lane_create(opts, &lane, &err) != OBX_OK || lane_start(lane, &err) != OBX_OK)
        fail_msg("%s", err.text);
    return lane;
}

void rig_start(struct lane_rig *rig)
{
    rig->lane = start(&rig->opts);
}

struct lane *rig_start_another(struct lane_rig *rig, const char *owner)
{
    struct lane_opts opts = rig->opts;

    opts.owner = owner;
    return start(&opts);
}

void rig_drain_lane(struct lane *lane)
{
    if (lane == NULL)
        return;
    lane_drain(lane);
    lane_join(lane);
    lane_destroy(lane);
}

void rig_end_lane(struct lane *lane)
{
    if (lane == NULL)
        return;
    lane_stop(lane);
    lane_join(lane);
    lane_destroy(lane);
}

struct lane_stats rig_stats(struct lane *lane)
{
    struct lane_stats stats;

    lane_get_stats(lane, &stats);
    return stats;
}

/* ---- rows ---- */

static void run_va(struct lane_rig *rig, uint64_t *number, const char *fmt, va_list args)
{
    char sql[SQL_MAX];
    int len = vsnprintf(sql, sizeof(sql), fmt, args);

    assert_true(len > 0 && (size_t)len < sizeof(sql));
    if (number == NULL)
        test_db_run(rig->db, sql);
    else
        *number = test_db_number(rig->db, sql);
}

void rig_run(struct lane_rig *rig, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    run_va(rig, NULL, fmt, args);
    va_end(args);
}

uint64_t rig_number(struct lane_rig *rig, const char *fmt, ...)
{
    uint64_t number = 0;
    va_list args;

    va_start(args, fmt);
    run_va(rig, &number, fmt, args);
    va_end(args);
    return number;
}

uint64_t rig_insert(struct lane_rig *rig, const char *topic, const char *key, const char *payload)
{
    struct obx_err err = {0};

    if (db_exec(rig->db, "INSERT INTO outbox (topic, ordering_key, payload) VALUES (?, ?, ?)",
                DB_ARGS(DB_TEXT(topic), DB_TEXT(key), DB_TEXT(payload)), NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
    return db_insert_id(rig->db);
}

void rig_fill(struct lane_rig *rig, uint64_t rows, unsigned keys, unsigned body_len)
{
    rig_run(rig,
            "INSERT INTO outbox (topic, ordering_key, payload)"
            " WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)"
            " SELECT 't', IF(%u = 0, NULL, CONCAT('k', (a.i * 1000 + b.i) %% GREATEST(%u, 1))),"
            " REPEAT('x', %u) FROM n a JOIN n b WHERE a.i * 1000 + b.i < %llu"
            " ORDER BY a.i, b.i",
            keys, keys, body_len, (unsigned long long)rows);
}

/* ---- waiting ---- */

struct number_wait {
    struct lane_rig *rig;
    const char *sql;
    uint64_t wanted;
    uint64_t last;
};

static bool number_is(void *ctx)
{
    struct number_wait *wait = ctx;

    wait->last = test_db_number(wait->rig->db, wait->sql);
    return wait->last == wait->wanted;
}

void rig_wait_number(struct lane_rig *rig, uint64_t wanted, const char *sql)
{
    struct number_wait wait = {.rig = rig, .sql = sql, .wanted = wanted};

    if (!wait_until(RIG_WAIT_MS, number_is, &wait))
        fail_msg("%s: %llu, not %llu; the lane says: %s", sql, (unsigned long long)wait.last,
                 (unsigned long long)wanted,
                 rig->lane == NULL ? "-" : rig_stats(rig->lane).trouble);
}

void rig_wait_empty(struct lane_rig *rig)
{
    rig_wait_number(rig, 0, "SELECT COUNT(*) FROM outbox");
}

struct state_wait {
    struct lane *lane;
    enum lane_state state;
};

static bool state_is(void *ctx)
{
    struct state_wait *wait = ctx;

    return rig_stats(wait->lane).state == wait->state;
}

void rig_wait_state(struct lane *lane, enum lane_state state)
{
    struct state_wait wait = {.lane = lane, .state = state};

    if (!wait_until(RIG_WAIT_MS, state_is, &wait))
        fail_msg("lane is %s, not %s: %s", lane_state_name(rig_stats(lane).state),
                 lane_state_name(state), rig_stats(lane).trouble);
}

struct confirmed_wait {
    struct lane *lane;
    uint64_t count;
};

static bool has_confirmed(void *ctx)
{
    struct confirmed_wait *wait = ctx;

    return rig_stats(wait->lane).confirmed >= wait->count;
}

void rig_wait_confirmed(struct lane *lane, uint64_t count)
{
    struct confirmed_wait wait = {.lane = lane, .count = count};

    if (!wait_until(RIG_WAIT_MS, has_confirmed, &wait))
        fail_msg("%llu confirms, not %llu: %s", (unsigned long long)rig_stats(lane).confirmed,
                 (unsigned long long)count, rig_stats(lane).trouble);
}

/* ---- what came out ---- */

static void copy_header(const struct bridge_message *msg, const char *name, char *dst, size_t size)
{
    const struct obx_header *header = message_header(msg, name);

    dst[0] = '\0';
    if (header != NULL && header->type == OBX_H_TEXT)
        (void)bytes_to_text(header->v.text, dst, size);
}

struct collector {
    struct lane_rig *rig;
    struct bridge_consumer *consumer;
    size_t wanted;
};

static void see(const struct bridge_message *msg, void *ctx)
{
    struct lane_rig *rig = ctx;
    const struct obx_header *id = message_header(msg, "x-obx-outbox-id");
    struct rig_message *message = NULL;

    if (rig->seen_count == rig->seen_cap) {
        rig->seen_cap = rig->seen_cap == 0 ? COLLECT_PREFETCH : rig->seen_cap * 2;
        rig->seen = realloc(rig->seen, rig->seen_cap * sizeof(*rig->seen));
        assert_non_null(rig->seen);
    }
    message = &rig->seen[rig->seen_count++];
    assert_non_null(id);
    message->id = (uint64_t)id->v.i64;
    copy_header(msg, "cloudEvents_partitionkey", message->key, sizeof(message->key));
    (void)bytes_to_text(msg->type, message->topic, sizeof(message->topic));
    (void)bytes_to_text(msg->message_id, message->message_id, sizeof(message->message_id));
    message->body_len = msg->body.len;
    copy_header(msg, "x-obx-receipt-to", message->receipt_to, sizeof(message->receipt_to));
    copy_header(msg, "x-obx-receipt-from", message->receipt_from, sizeof(message->receipt_from));
    copy_header(msg, "x-obx-receipt-token", message->receipt_token, sizeof(message->receipt_token));
}

static void on_delivery(struct bridge_delivery *delivery, void *ctx)
{
    struct collector *collector = ctx;
    const size_t packed = each_message(delivery, see, collector->rig);

    collector->rig->packs += packed > 0;
    collector->rig->packed += packed;
    assert_int_equal(
        bridge_consumer_ack(collector->consumer, delivery->epoch, delivery->tag, false, NULL),
        OBX_OK);
    bridge_delivery_free(delivery);
}

static bool has_collected(void *ctx)
{
    struct collector *collector = ctx;

    bridge_consumer_service(collector->consumer);
    return collector->rig->seen_count >= collector->wanted;
}

void rig_collect(struct lane_rig *rig, size_t count)
{
    struct collector collector = {.rig = rig, .wanted = count};
    const struct bridge_consumer_opts opts = {.bridge = rig->opts.bridge,
                                              .queue = rig->queue,
                                              .prefetch = COLLECT_PREFETCH,
                                              .on_delivery = on_delivery,
                                              .ctx = &collector};
    struct bridge_opts direct = rig->opts.bridge;
    struct bridge_consumer_opts own = opts;
    bool has_all = false;

    direct.addresses = rig->broker.address; /* past any proxy */
    own.bridge = direct;
    assert_int_equal(bridge_consumer_create(&own, &collector.consumer, NULL), OBX_OK);
    has_all = wait_until(RIG_WAIT_MS, has_collected, &collector);
    bridge_consumer_service(collector.consumer); /* the last acks */
    bridge_consumer_destroy(collector.consumer);
    if (!has_all)
        fail_msg("%zu messages came out, not %zu", rig->seen_count, count);
}

void rig_collect_all(struct lane_rig *rig)
{
    for (;;) {
        uint32_t left = broker_count(rig->admin, rig->queue);

        if (left == 0)
            return;
        rig_collect(rig, rig->seen_count + left);
    }
}

size_t rig_times(const struct lane_rig *rig, uint64_t id)
{
    size_t times = 0;

    for (size_t i = 0; i < rig->seen_count; i++)
        times += rig->seen[i].id == id;
    return times;
}

size_t rig_place(const struct lane_rig *rig, uint64_t id)
{
    for (size_t i = 0; i < rig->seen_count; i++) {
        if (rig->seen[i].id == id)
            return i;
    }
    return SIZE_MAX;
}

/* The highest id seen per key, in a small table of keys; a repeated id is no news. */
void rig_assert_order(const struct lane_rig *rig)
{
    enum { KEYS_MAX = 4096 };
    static struct {
        char key[64];
        uint64_t highest;
    } keys[KEYS_MAX];
    size_t key_count = 0;

    for (size_t i = 0; i < rig->seen_count; i++) {
        const struct rig_message *message = &rig->seen[i];
        size_t k = 0;

        if (message->key[0] == '\0')
            continue;
        while (k < key_count && strcmp(keys[k].key, message->key) != 0)
            k++;
        if (k == key_count) {
            assert_true(key_count < KEYS_MAX);
            (void)snprintf(keys[k].key, sizeof(keys[k].key), "%s", message->key);
            keys[k].highest = 0;
            key_count++;
        }
        if (message->id > keys[k].highest)
            keys[k].highest = message->id;
        else if (rig_place(rig, message->id) == i)
            fail_msg("key %s: row %llu came out first after row %llu", message->key,
                     (unsigned long long)message->id, (unsigned long long)keys[k].highest);
    }
}
