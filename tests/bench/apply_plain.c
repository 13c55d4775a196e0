/* BEGIN, dedup INSERT, UPDATE, COMMIT, ack: a message at a time, in one thread. See apply_plain.h.
 */
#include "apply_plain.h"

#include <poll.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "bridge/consumer.h"
#include "numbers.h"

enum { TURN_MS = 20, DIGITS = 19 };
#define US_PER_S 1e6

struct plain {
    const struct apply_bench *bench;
    struct bridge_consumer *consumer;
    struct db *db;
    uint64_t first_us;
    uint64_t done;
};

uint64_t apply_number(struct obx_bytes id)
{
    char text[DIGITS + 1] = "";

    if (id.len < DIGITS)
        return 0;
    (void)bytes_to_text((struct obx_bytes){(const char *)id.p + id.len - DIGITS, DIGITS}, text,
                        sizeof(text));
    return strtoull(text, NULL, 10);
}

static enum obx_code apply(struct plain *plain, struct obx_bytes id, struct obx_err *err)
{
    enum obx_code rc = db_begin(plain->db, err);

    if (rc == OBX_OK)
        rc = db_exec(plain->db,
                     "INSERT INTO inbox_applied (consumer_group, message_id) VALUES (?, ?)",
                     DB_ARGS(DB_TEXT("plain"), DB_BYTES(id)), NULL, err);
    if (rc == OBX_OK)
        rc = db_exec(plain->db, APPLY_UPDATE,
                     DB_ARGS(DB_U64(apply_number(id) % plain->bench->stock_rows)), NULL, err);
    return rc == OBX_OK ? db_commit(plain->db, err) : rc;
}

static void on_delivery(struct bridge_delivery *delivery, void *ctx)
{
    struct plain *plain = ctx;
    struct obx_err err = {0};

    if (plain->first_us == 0)
        plain->first_us = clock_now_us();
    if (apply(plain, delivery->msg.message_id, &err) != OBX_OK ||
        bridge_consumer_ack(plain->consumer, delivery->epoch, delivery->tag, false, &err) != OBX_OK)
        bench_die("apply", &err);
    plain->done++;
    bridge_delivery_free(delivery);
}

double apply_plain(const struct apply_bench *bench)
{
    struct plain plain = {.bench = bench};
    const struct bridge_consumer_opts opts = {
        .bridge = bench->broker, .queue = bench->queue, .on_delivery = on_delivery, .ctx = &plain};
    struct obx_err err = {0};
    uint64_t took_us = 0;

    if (db_open(&bench->db, &plain.db, &err) != OBX_OK ||
        bridge_consumer_create(&opts, &plain.consumer, &err) != OBX_OK)
        bench_die("open", &err);
    while (plain.done < bench->messages) {
        struct pollfd fd = {0};

        bridge_consumer_service(plain.consumer);
        fd = (struct pollfd){.fd = bridge_consumer_fd(plain.consumer), .events = POLLIN};
        (void)poll(&fd, 1, TURN_MS);
    }
    bridge_consumer_service(plain.consumer);
    took_us = clock_now_us() - plain.first_us;
    bridge_consumer_destroy(plain.consumer);
    db_close(plain.db);
    return (double)bench->messages * US_PER_S / (double)took_us;
}
