/* See consumer_rig.h. */
#include "consumer_rig.h"
#include "consumer_opts.h"

#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/partition.h"
#include "base/random.h"
#include "bridge/pack.h"
#include "message_header.h"
#include "sql/schema.h"
#include "wait.h"

enum { TURN_MS = 20, TEXT_MAX = 300, DELIVERY_LIMIT = 2147483647 };

static void log_line(enum obx_log_level level, const char *line, size_t len, void *ctx)
{
    (void)level;
    (void)ctx;
    (void)fprintf(stderr, "%.*s\n", (int)len, line);
}

static void on_result(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct rig *rig = ctx;

    (void)token;
    if (outcome != PUB_CONFIRMED)
        fail_msg("publish: %s %s", pub_outcome_name(outcome), why != NULL ? why : "");
    rig->confirmed++;
}

static void make_tables(struct rig *rig)
{
    struct obx_err err = {0};

    if (schema_migrate(rig->db, SCHEMA_CONSUMER, NULL, NULL, &err) != OBX_OK)
        fail_msg("schema: %s", err.text);
    test_db_run(rig->db,
                "CREATE TABLE applied (seq BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,"
                " message_id VARBINARY(255) NOT NULL, ordering_key VARBINARY(255) NULL,"
                " body VARBINARY(255) NOT NULL, attempt INT NOT NULL) ENGINE=InnoDB");
    test_db_run(rig->db,
                "CREATE TABLE stock (id INT PRIMARY KEY, n BIGINT NOT NULL) ENGINE=InnoDB");
    test_db_run(rig->db, "INSERT INTO stock VALUES (1, 0), (2, 0)");
}

static void fill_opts(struct rig *rig)
{
    rig->opts = consumer_opts(&rig->broker, &rig->test_db.opts, "group-a", rig->queue);
    rig->opts.retry_min_ms = 20; /* tests of failures are not to take minutes */
    rig->opts.retry_cap_ms = 100;
    rig->opts.outage_pause_max_ms = 500;
    rig->opts.dead_letter_queue = rig->dead;
    rig->opts.declare_topology = true;
    rig->opts.drain_timeout_ms = RIG_WAIT_MS;
    rig->opts.no_cleanup = true; /* audits count what is there */
}

static void make_publisher(struct rig *rig)
{
    const struct bridge_publisher_opts opts = {
        .bridge = {.addresses = rig->broker.address,
                   .vhost = rig->broker.vhost,
                   .user = rig->broker.user,
                   .password = rig->broker.password,
                   .connection_name = "consumer_rig"},
        .on_result = on_result,
        .ctx = rig,
    };
    struct obx_err err = {0};

    if (bridge_publisher_create(&opts, &rig->publisher, &err) != OBX_OK)
        fail_msg("publisher: %s", err.text);
}

int rig_setup(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));

    assert_non_null(rig);
    if (getenv("OBX_TEST_LOG") != NULL)
        obx_log_set(OBX_LOG_DEBUG, log_line, NULL);
    if (!broker_from_env(&rig->broker)) {
        free(rig);
        print_message("no broker: eval \"$(tests/support/servers env)\"\n");
        return -1;
    }
    (void)snprintf(rig->queue, sizeof(rig->queue), "consumer-test-%ld-%08" PRIx32, (long)getpid(),
                   (uint32_t)random_u64());
    (void)snprintf(rig->dead, sizeof(rig->dead), "%s.dead", rig->queue);
    rig->admin = broker_admin_open(&rig->broker);
    test_db_create(&rig->test_db, "consumer");
    rig->db = test_db_open(&rig->test_db.opts);
    make_tables(rig);
    fill_opts(rig);
    make_publisher(rig);
    *state = rig;
    return 0;
}

static const char *partition_queue(const struct rig *rig, unsigned partition)
{
    static char name[TEXT_MAX];

    (void)snprintf(name, sizeof(name), "%s.%u", rig->queue, partition);
    return name;
}

int rig_teardown(void **state)
{
    struct rig *rig = *state;

    bridge_publisher_destroy(rig->publisher);
    broker_delete_queue(rig->admin, rig->queue);
    broker_delete_queue(rig->admin, rig->dead);
    for (unsigned i = 0; i < rig->partitions_made; i++)
        broker_delete_queue(rig->admin, partition_queue(rig, i));
    broker_admin_close(rig->admin);
    db_close(rig->db);
    test_db_drop(&rig->test_db);
    free(rig);
    return 0;
}

void rig_broker_away(struct rig *rig)
{
    bridge_publisher_destroy(rig->publisher);
    rig->publisher = NULL;
    broker_admin_close(rig->admin);
    rig->admin = NULL;
}

void rig_broker_back(struct rig *rig)
{
    rig->admin = broker_admin_open(&rig->broker);
    make_publisher(rig);
}

void rig_declare(struct rig *rig)
{
    const struct broker_arg quorum[] = {{"x-queue-type", "quorum", 0, false},
                                        {"x-delivery-limit", NULL, DELIVERY_LIMIT, false},
                                        {"x-single-active-consumer", NULL, 1, true}};
    const size_t count = rig->opts.single_active_consumer ? 3 : 2;

    if (rig->opts.partitions > rig->partitions_made)
        rig->partitions_made = rig->opts.partitions;
    for (unsigned i = 0; i < rig->opts.partitions; i++)
        broker_queue(rig->admin, partition_queue(rig, i), quorum, 3);
    if (rig->opts.partitions == 0)
        broker_queue(rig->admin, rig->queue, quorum, count);
    broker_queue(rig->admin, rig->dead, quorum, 2);
}

/* ------------------------------------------------------------------ publishing */

static void turn(struct rig *rig)
{
    struct pollfd fd = {0};

    bridge_publisher_service(rig->publisher);
    fd = (struct pollfd){.fd = bridge_publisher_fd(rig->publisher), .events = POLLIN};
    if (bridge_publisher_inflight(rig->publisher) > 0 || bridge_publisher_room(rig->publisher) == 0)
        (void)poll(&fd, 1, TURN_MS);
}

void rig_put_message(struct rig *rig, const struct bridge_message *msg)
{
    const int64_t deadline = wait_now_ms() + RIG_WAIT_MS;
    struct bridge_message full = *msg;
    struct obx_err err = {0};

    full.exchange = bytes_of("");
    full.routing_key = bytes_of(rig->queue);
    if (rig->opts.partitions > 0) { /* as the relay does it */
        const struct obx_header *key = message_header(msg, "cloudEvents:partitionkey");

        full.routing_key = bytes_of(partition_queue(
            rig, partition_of(key != NULL ? key->v.text : msg->message_id, rig->opts.partitions)));
    }
    while (bridge_publisher_room(rig->publisher) == 0) {
        assert_true(wait_now_ms() < deadline);
        turn(rig);
    }
    if (bridge_publisher_publish(rig->publisher, &full, 0, &err) != OBX_OK)
        fail_msg("publish: %s", err.text);
    rig->published++;
}

void rig_flush(struct rig *rig)
{
    const int64_t deadline = wait_now_ms() + RIG_WAIT_MS;

    while (rig->confirmed < rig->published) {
        assert_true(wait_now_ms() < deadline);
        turn(rig);
    }
}

void rig_put(struct rig *rig, const char *id, const char *key, const char *body)
{
    const struct obx_header header = {
        .name = bytes_of("cloudEvents:partitionkey"), .type = OBX_H_TEXT, .v.text = bytes_of(key)};
    const struct bridge_message msg = {.message_id = bytes_of(id),
                                       .type = bytes_of("test.topic"),
                                       .headers = &header,
                                       .header_count = key != NULL ? 1 : 0,
                                       .body = bytes_of(body)};

    rig_put_message(rig, &msg);
}

static struct obx_header text_header(const char *name, const char *text)
{
    return (struct obx_header){
        .name = bytes_of(name), .type = OBX_H_TEXT, .v.text = bytes_of(text)};
}

static void add_event(struct pack_writer *writer, const struct rig_event *event, int number)
{
    struct obx_header headers[] = {
        text_header("cloudEvents_specversion", "1.0"),
        text_header("cloudEvents_id", event->id),
        text_header("cloudEvents_source", "/shop/outbox"),
        text_header("cloudEvents_type", "test.topic"),
        text_header("cloudEvents_time", "2099-01-01T00:00:00.000001Z"),
        {.name = bytes_of("x-obx-outbox-id"), .type = OBX_H_I64, .v.i64 = number},
        {.name = {0}}, /* room for two more */
        {.name = {0}},
    };
    struct bridge_message msg = {.message_id = bytes_of(event->id),
                                 .type = bytes_of("test.topic"),
                                 .content_type = bytes_of("text/plain"),
                                 .app_id = bytes_of("rowpost"),
                                 .headers = headers,
                                 .header_count = 6,
                                 .body = bytes_of(event->body)};

    if (event->key != NULL)
        headers[msg.header_count++] = text_header("cloudEvents_partitionkey", event->key);
    if (event->app != NULL)
        headers[msg.header_count++] = text_header("app", event->app);
    assert_int_equal(pack_add(writer, &msg), PACK_ADDED);
}

void rig_put_pack(struct rig *rig, const struct rig_event *events, int count)
{
    struct pack_writer *writer = calloc(1, sizeof(*writer));
    struct bridge_message msg = {0};

    assert_non_null(writer);
    pack_begin(writer, PACK_EVENTS_MAX, PACK_BYTES_MAX);
    for (int i = 0; i < count; i++)
        add_event(writer, &events[i], i + 1);
    assert_int_equal(pack_end(writer, &msg), OBX_OK);
    rig_put_message(rig, &msg);
    rig_flush(rig);
    pack_writer_fini(writer);
    free(writer);
}

void rig_fill(struct rig *rig, const char *prefix, int count, int keys)
{
    for (int i = 0; i < count; i++) {
        char id[TEXT_MAX];
        char key[TEXT_MAX];

        (void)snprintf(id, sizeof(id), "%s-%06d", prefix, i);
        (void)snprintf(key, sizeof(key), "key-%d", keys > 0 ? i % keys : 0);
        rig_put(rig, id, keys > 0 ? key : NULL, "ok");
    }
    rig_flush(rig);
}

/* ------------------------------------------------------------------ consuming */

enum obx_verdict rig_write(const struct obx_message *msg, struct obx_tx *tx)
{
    struct obx_err err = {0};
    enum obx_code rc = obx_tx_exec(
        tx, "INSERT INTO applied (message_id, ordering_key, body, attempt) VALUES (?, ?, ?, ?)",
        OBX_ARGS(obx_data(msg->message_id), obx_data(msg->ordering_key), obx_data(msg->body),
                 obx_u64(msg->attempt)),
        NULL, &err);

    if (rc != OBX_OK)
        obx_tx_reason(tx, "%s", err.text);
    return rc == OBX_OK ? OBX_APPLIED : OBX_RETRY;
}

enum obx_verdict rig_apply(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    (void)ctx;
    return rig_write(msg, tx);
}

struct obx_consumer *rig_start(struct rig *rig, obx_handler_fn *handler, void *ctx)
{
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};

    if (obx_consumer_open(&rig->opts, &consumer, &err) != OBX_OK ||
        obx_consumer_subscribe(consumer, handler, ctx, &err) != OBX_OK ||
        obx_consumer_start(consumer, &err) != OBX_OK)
        fail_msg("consumer: %s", err.text);
    return consumer;
}

void rig_stop(struct obx_consumer *consumer)
{
    struct obx_err err = {0};

    if (obx_consumer_drain(consumer, RIG_WAIT_MS, &err) != OBX_OK)
        fail_msg("drain: %s", err.text);
    obx_consumer_close(consumer);
}

struct obx_consumer_stats rig_stats(const struct obx_consumer *consumer)
{
    struct obx_consumer_stats stats = {0};

    obx_consumer_get_stats(consumer, &stats, sizeof(stats));
    return stats;
}

/* ------------------------------------------------------------------ waiting and auditing */

uint64_t rig_number(struct rig *rig, const char *sql)
{
    return test_db_number(rig->db, sql);
}

struct rows_wanted {
    struct rig *rig;
    uint64_t rows;
    uint64_t seen;
};

/* More than were there when it was asked first. */
static bool has_more_rows(void *ctx)
{
    struct rows_wanted *wanted = ctx;
    const uint64_t rows = rig_number(wanted->rig, "SELECT COUNT(*) FROM applied");
    const bool has_more = rows > wanted->seen || rows >= wanted->rows;

    wanted->seen = rows;
    return has_more;
}

/* What counts is that it goes on: how fast is the machine's affair, and the sanitizer's. */
void rig_wait_applied(struct rig *rig, uint64_t rows)
{
    struct rows_wanted wanted = {.rig = rig, .rows = rows};
    bool goes_on = true;

    while (goes_on && wanted.seen < rows)
        goes_on = wait_until(RIG_WAIT_MS, has_more_rows, &wanted);
    if (!goes_on)
        fail_msg("%" PRIu64 " rows applied, %" PRIu64 " wanted, %" PRIu64 " dedup rows, %" PRIu64
                 " wait or are dead, %" PRIu32 " ready in the queue",
                 rig_number(rig, "SELECT COUNT(*) FROM applied"), rows,
                 rig_number(rig, "SELECT COUNT(*) FROM inbox_applied"),
                 rig_number(rig, "SELECT COUNT(*) FROM inbox_parked"),
                 broker_count(rig->admin, rig->queue));
}

struct number_wanted {
    struct rig *rig;
    const char *sql;
    uint64_t n;
};

static bool has_number(void *ctx)
{
    const struct number_wanted *wanted = ctx;

    return rig_number(wanted->rig, wanted->sql) == wanted->n;
}

struct stat_wanted {
    const struct obx_consumer *consumer;
    size_t offset;
    uint64_t n;
    uint64_t now;
};

static bool has_stat(void *ctx)
{
    struct stat_wanted *wanted = ctx;
    struct obx_consumer_stats stats = rig_stats(wanted->consumer);

    memcpy(&wanted->now, (const char *)&stats + wanted->offset, sizeof(wanted->now));
    return wanted->now >= wanted->n;
}

void rig_wait_stat(const struct obx_consumer *consumer, size_t offset, uint64_t n)
{
    struct stat_wanted wanted = {consumer, offset, n, 0};

    if (!wait_until(RIG_WAIT_MS, has_stat, &wanted))
        fail_msg("statistic at %zu is %" PRIu64 ", %" PRIu64 " wanted", offset, wanted.now, n);
}

struct queue_wanted {
    struct rig *rig;
    const char *queue;
};

static bool is_empty(void *ctx)
{
    const struct queue_wanted *wanted = ctx;

    return broker_count(wanted->rig->admin, wanted->queue) == 0;
}

void rig_assert_empty(struct rig *rig, const char *queue)
{
    struct queue_wanted wanted = {rig, queue};
    struct bridge_delivery *left = NULL;

    assert_true(wait_until(RIG_WAIT_MS, is_empty, &wanted));
    /* What was given back a moment ago may come late: a consumer of our own would get it. */
    left = rig_take(rig, queue, 0);
    if (left != NULL)
        fail_msg("%s is not empty", queue);
}

void rig_wait_number(struct rig *rig, const char *sql, uint64_t n)
{
    struct number_wanted wanted = {rig, sql, n};

    if (!wait_until(RIG_WAIT_MS, has_number, &wanted))
        fail_msg("%s is %" PRIu64 ", %" PRIu64 " wanted", sql, rig_number(rig, sql), n);
}

void rig_audit(struct rig *rig, uint64_t messages)
{
    assert_int_equal(rig_number(rig, "SELECT COUNT(DISTINCT message_id) FROM applied"), messages);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied"), messages);
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM applied a JOIN inbox_applied d"
                                     " ON d.message_id = a.message_id"
                                     " AND d.consumer_group = 'group-a'"),
                     messages);
    /* Ids end in a number that grows within a key. */
    assert_int_equal(rig_number(rig,
                                "SELECT COUNT(*) FROM (SELECT message_id < LAG(message_id) OVER"
                                " (PARTITION BY ordering_key ORDER BY seq) AS wrong FROM applied"
                                " WHERE ordering_key IS NOT NULL) o WHERE wrong"),
                     0);
}

/* ------------------------------------------------------------------ taking messages off a queue */

struct taker {
    struct bridge_consumer *consumer;
    struct bridge_delivery *got;
    bool is_up;
};

static void on_take(struct bridge_delivery *delivery, void *ctx)
{
    struct taker *taker = ctx;

    if (taker->got != NULL) {
        bridge_delivery_free(delivery); /* goes back unacknowledged */
        return;
    }
    taker->got = delivery;
}

static void on_take_state(enum bridge_state state, uint32_t epoch, const struct obx_err *why,
                          void *ctx)
{
    struct taker *taker = ctx;

    (void)epoch;
    (void)why;
    taker->is_up = state == BRIDGE_UP;
}

struct bridge_delivery *rig_take(struct rig *rig, const char *queue, int64_t timeout_ms)
{
    struct taker taker = {0};
    const struct bridge_consumer_opts opts = {
        .bridge = {.addresses = rig->broker.address,
                   .vhost = rig->broker.vhost,
                   .user = rig->broker.user,
                   .password = rig->broker.password},
        .queue = queue,
        .prefetch = 1,
        .on_delivery = on_take,
        .on_state = on_take_state,
        .ctx = &taker,
    };
    const int64_t deadline = wait_now_ms() + RIG_WAIT_MS;
    int64_t enough = INT64_MAX;
    struct obx_err err = {0};

    if (bridge_consumer_create(&opts, &taker.consumer, &err) != OBX_OK)
        fail_msg("taker: %s", err.text);
    while (taker.got == NULL && wait_now_ms() < deadline && wait_now_ms() <= enough) {
        struct pollfd fd = {.fd = bridge_consumer_fd(taker.consumer), .events = POLLIN};

        (void)poll(&fd, 1, TURN_MS);
        bridge_consumer_service(taker.consumer);
        if (taker.is_up && enough == INT64_MAX)
            enough = wait_now_ms() + timeout_ms + 10L * TURN_MS;
    }
    if (taker.got != NULL) {
        assert_int_equal(
            bridge_consumer_ack(taker.consumer, taker.got->epoch, taker.got->tag, false, &err),
            OBX_OK);
        bridge_consumer_service(taker.consumer);
    }
    bridge_consumer_destroy(taker.consumer);
    return taker.got;
}

const char *rig_header(const struct bridge_delivery *delivery, const char *name)
{
    static char text[TEXT_MAX];
    const struct obx_header *header = message_header(&delivery->msg, name);

    text[0] = '\0';
    if (header != NULL && header->type == OBX_H_TEXT)
        (void)bytes_to_text(header->v.text, text, sizeof(text));
    else if (header != NULL && header->type == OBX_H_I64)
        (void)snprintf(text, sizeof(text), "%" PRId64, header->v.i64);
    return text;
}
