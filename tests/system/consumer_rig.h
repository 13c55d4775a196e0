/*
 * What the system tests of the consumer library share: a database and a queue of their own, a
 * publisher, a scripted handler, and one or more consumers.
 *
 * The handler writes each application into the table `applied`, without any uniqueness, in order:
 * what a test audits. Bodies are commands: "ok", or what a test's own handler makes of them.
 */
#ifndef OBX_TEST_CONSUMER_RIG_H
#define OBX_TEST_CONSUMER_RIG_H

#include "bridge/consumer.h"
#include "bridge/publisher.h"
#include "broker.h"
#include "obx/consumer.h"
#include "sql/db.h"
#include "test_db.h"

enum { RIG_WAIT_MS = 60000 };

struct rig {
    struct broker broker;
    struct broker_admin *admin;
    struct test_db test_db;
    struct db *db; /* the test's own session */
    struct bridge_publisher *publisher;
    uint64_t published, confirmed;
    char queue[64];
    unsigned partitions_made; /* queues to delete in the end */
    char dead[80];
    struct obx_consumer_opts opts; /* for rig_start; a test changes what it likes before */
};

/** cmocka set-up and tear-down of a rig in *state. The queue is declared by the first consumer, or
 * by rig_declare. */
int rig_setup(void **state);
int rig_teardown(void **state);

/** The broker is away from the first call to the second: nothing of ours waits for it meanwhile. */
void rig_broker_away(struct rig *rig);
void rig_broker_back(struct rig *rig);

/** Declare queue and dead-letter queue as the options say, so that messages can be put in before a
 * consumer runs. */
void rig_declare(struct rig *rig);

/** Publish; id, key and type may be NULL. rig_flush waits until all are confirmed. With
 * opts.partitions a message goes to the queue of its key's partition. */
void rig_put(struct rig *rig, const char *id, const char *key, const char *body);
/** As rig_put with headers of the test's own. */
void rig_put_message(struct rig *rig, const struct bridge_message *msg);
void rig_flush(struct rig *rig);
/** A message of a pack; key and app may be NULL. */
struct rig_event {
    char id[32];
    const char *key, *body, *app; /* app: the header of that name */
};
/** Publish them as the relay packs messages, of the type text/plain, and flush. */
void rig_put_pack(struct rig *rig, const struct rig_event *events, int count);
/** count messages "<prefix>-<i>" with body "ok"; keys > 0: key "key-<i % keys>". */
void rig_fill(struct rig *rig, const char *prefix, int count, int keys);

/** Writes the message into `applied` and answers APPLIED. ctx is not used. */
obx_handler_fn rig_apply;
/** What rig_apply does, for handlers of a test's own. */
enum obx_verdict rig_write(const struct obx_message *msg, struct obx_tx *tx);

/** A running consumer with rig->opts. */
struct obx_consumer *rig_start(struct rig *rig, obx_handler_fn *handler, void *ctx);
/** Drain and close; fails the test when the drain does not end well. */
void rig_stop(struct obx_consumer *consumer);
struct obx_consumer_stats rig_stats(const struct obx_consumer *consumer);

/** Wait until `applied` has as many rows; fails the test when no more come for a minute. */
void rig_wait_applied(struct rig *rig, uint64_t rows);
/** Wait until a query gives n; fails the test otherwise. */
void rig_wait_number(struct rig *rig, const char *sql, uint64_t n);
/** Wait until a field of the statistics, by its offset, is at least n. */
void rig_wait_stat(const struct obx_consumer *consumer, size_t offset, uint64_t n);
#define RIG_WAIT_STAT(consumer, field, n)                                                          \
    rig_wait_stat(consumer, offsetof(struct obx_consumer_stats, field), n)
/** Wait until the queue is empty and nothing in it is unacknowledged (looked at with no consumer
 * running). */
void rig_assert_empty(struct rig *rig, const char *queue);
/** Every message of `applied` is there once, and per key in the order of its body's number. */
void rig_audit(struct rig *rig, uint64_t messages);
uint64_t rig_number(struct rig *rig, const char *sql);

/** Take the next message off a queue, acknowledged; NULL when none comes in time. Free with
 * bridge_delivery_free. */
struct bridge_delivery *rig_take(struct rig *rig, const char *queue, int64_t timeout_ms);
/** The text of a header; "" when it is not there or no text. Static storage. */
const char *rig_header(const struct bridge_delivery *delivery, const char *name);

#endif
