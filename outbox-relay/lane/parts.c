/*
 * The parts of a lane, put together. See parts.h.
 */
#include "parts.h"

enum {
    READY_BATCHES = 2,
    MAX_WAITING = 10000,
    MAX_KEY_WAITING = 2000,
    MAX_RETRYING = 4096,
    MAX_TOPIC_RETRYING = 256,
    MAX_TO_PARK = 2000,
    MAX_EMPTY_KEYS = 4096,
    MAX_ROW_BYTES = 8 * 1024 * 1024,
    BATCH_BYTES = 4 * 1024 * 1024,
    US_PER_MS = 1000,
};

/* What the others read from and admit to comes first. */
static enum obx_code init_reading(struct lane_parts *parts, const struct lane_opts *opts,
                                  struct obx_err *err)
{
    const struct flight_opts flight = {.key_window = opts->key_window,
                                       .max_ready = opts->batch_rows * READY_BATCHES,
                                       .max_waiting = MAX_WAITING,
                                       .max_key_waiting = MAX_KEY_WAITING,
                                       .max_retrying = MAX_RETRYING,
                                       .max_topic_retrying = MAX_TOPIC_RETRYING,
                                       .max_to_park = MAX_TO_PARK,
                                       .max_empty_keys = MAX_EMPTY_KEYS,
                                       .max_bytes = MAX_ROW_BYTES};
    const struct reader_opts reader = {.batch_rows = opts->batch_rows,
                                       .batch_bytes = BATCH_BYTES,
                                       .sweep_us = (uint64_t)opts->sweep_ms * US_PER_MS};
    struct reader_store store;
    enum obx_code rc = flight_create(&flight, &parts->flight, err);

    durable_init(&parts->durable, &parts->lease);
    parts->store.parking = &parts->parking;
    parts->store.durable = &parts->durable;
    store = outbox_store_for_reader(&parts->store);
    return rc == OBX_OK ? reader_create(&reader, &store, parts->flight, &parts->reader, err) : rc;
}

/* outbox_parked: what goes there, and what operators ask for. */
static enum obx_code init_parking(struct lane_parts *parts, const struct lane_opts *opts,
                                  const char *table, struct obx_err *err)
{
    const struct park_parts park = {.opts = opts,
                                    .flight = parts->flight,
                                    .parking = &parts->parking,
                                    .locks = &parts->locks,
                                    .conditions = &parts->conditions};
    enum obx_code rc = parking_init(&parts->parking, opts->outbox, table, &parts->lease, err);

    park_init(&parts->park, &park);
    if (rc == OBX_OK)
        rc = row_locks_init(&parts->locks, table, err);
    if (rc == OBX_OK)
        rc = requests_init(&parts->requests, &parts->parking, parts->reader, parts->flight, table,
                           err);
    return rc;
}

/* What becomes of confirmed rows, and of messages that wait: for receipts, or for their time. */
static enum obx_code init_settling(struct lane_parts *parts, const struct lane_opts *opts,
                                   const char *table, struct obx_err *err)
{
    struct journal *kept = opts->journal ? &parts->journal : NULL;
    const struct journal_opts journal = {.outbox = opts->outbox,
                                         .table = table,
                                         .lease = &parts->lease,
                                         .retention_ms = opts->journal_retention_ms};
    const struct awaiting_opts awaiting = {.outbox = opts->outbox,
                                           .table = table,
                                           .lease = &parts->lease,
                                           .journal = kept,
                                           .timeout_ms = opts->receipt_timeout_ms,
                                           .cap_ms = opts->receipt_cap_ms,
                                           .max_sends = opts->max_sends};
    const struct settle_parts settle = {.opts = opts,
                                        .table = table,
                                        .flight = parts->flight,
                                        .lease = &parts->lease,
                                        .parking = &parts->parking,
                                        .awaiting = &parts->awaiting,
                                        .journal = kept,
                                        .locks = &parts->locks,
                                        .conditions = &parts->conditions};
    enum obx_code rc = journal_init(&parts->journal, &journal, err);

    if (rc == OBX_OK)
        rc = awaiting_init(&parts->awaiting, &awaiting, err);
    if (rc == OBX_OK)
        rc = settle_init(&parts->settle, &settle, err);
    if (rc == OBX_OK)
        rc = overdue_init(&parts->overdue, &parts->awaiting, parts->reader, err);
    if (rc == OBX_OK)
        rc = delayed_init(&parts->delayed, opts->outbox, table, &parts->lease, err);
    return rc;
}

/* The last one: it hands confirmed rows to settle, and asks nobody for anything else. */
static enum obx_code init_publishing(struct lane_parts *parts, const struct lane_outside *outside,
                                     struct obx_err *err)
{
    const struct publish_parts publish = {.opts = outside->opts,
                                          .flight = parts->flight,
                                          .store = &parts->store,
                                          .lease = &parts->lease,
                                          .durable = &parts->durable,
                                          .settle = &parts->settle,
                                          .conditions = &parts->conditions,
                                          .is_open = outside->gate_is_open,
                                          .commit_to_confirm = outside->commit_to_confirm,
                                          .publish_to_confirm = outside->publish_to_confirm};

    return publish_init(&parts->publish, &publish, err);
}

enum obx_code parts_init(struct lane_parts *parts, const struct lane_outside *outside,
                         struct obx_err *err)
{
    const struct lane_opts *opts = outside->opts;
    const char *table = NULL;
    enum obx_code rc = outbox_store_init(&parts->store, opts->outbox, opts->inline_bytes, err);

    if (rc != OBX_OK)
        return rc;
    table = parts->store.table.data;
    parts->conditions = (struct lane_conditions){.source = opts->source, .outbox = opts->outbox};
    lease_init(&parts->lease, &(struct lease_opts){.kind = LEASE_OUTBOX,
                                                   .name = opts->outbox,
                                                   .owner = opts->owner,
                                                   .address = opts->address,
                                                   .lease_ms = opts->lease_ms});
    rc = init_reading(parts, opts, err);
    if (rc == OBX_OK)
        rc = init_parking(parts, opts, table, err);
    if (rc == OBX_OK)
        rc = init_settling(parts, opts, table, err);
    if (rc == OBX_OK)
        rc = init_publishing(parts, outside, err);
    sides_init(&parts->sides,
               &(struct sides_parts){.opts = opts,
                                     .requests = &parts->requests,
                                     .overdue = &parts->overdue,
                                     .delayed = &parts->delayed,
                                     .journal = opts->journal ? &parts->journal : NULL,
                                     .store = &parts->store,
                                     .settle = &parts->settle,
                                     .lease = &parts->lease,
                                     .conditions = &parts->conditions});
    return rc;
}

/* In the reverse order, each before what it has pointers to. */
void parts_fini(struct lane_parts *parts)
{
    publish_fini(&parts->publish);
    delayed_fini(&parts->delayed);
    overdue_fini(&parts->overdue);
    settle_fini(&parts->settle);
    awaiting_fini(&parts->awaiting);
    journal_fini(&parts->journal);
    requests_fini(&parts->requests);
    row_locks_fini(&parts->locks);
    parking_fini(&parts->parking);
    reader_destroy(parts->reader);
    flight_destroy(parts->flight);
    outbox_store_fini(&parts->store);
}

/* The publisher first: what comes back while it lets go is of no interest, and finds no row. */
void parts_reset(struct lane_parts *parts)
{
    publish_reset(&parts->publish);
    flight_clear(parts->flight);
    reader_reset(parts->reader);
    requests_reset(&parts->requests);
    settle_reset(&parts->settle);
    park_reset(&parts->park);
    conditions_reset(&parts->conditions);
}
