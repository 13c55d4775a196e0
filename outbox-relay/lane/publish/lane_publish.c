/*
 * Publishing in bursts under the window, and what an outcome means. See docs/adr/0002-lane.md.
 *
 * Every message is sent under a look at the lease. A row that is not in memory as a whole is read
 * again first; one that can never be a message is doomed at once.
 */
#include "lane/lane_private.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/random.h"

enum {
    BURST_ROWS = 500,
    FETCH_ROWS = 128,
    FETCH_BYTES = 4 * 1024 * 1024,
    CHOKED_PAUSE_MS = 1000,
    ROUTE_TROUBLE_RETRIES = 3, /* the longest waits between tries that a topic's trouble outlives */
};

/* ---- rows that are not in memory ---- */

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* The next rows that have to be read before they can be published. */
static size_t missing_ids(const struct lane *lane, uint64_t *ids, size_t cap)
{
    uint64_t bytes = 0;
    size_t count = 0;

    for (const struct flight_row *row = flight_first(lane->flight, FLIGHT_READY);
         row != NULL && count < cap && bytes < FETCH_BYTES; row = flight_next(row)) {
        if (row->data != NULL)
            continue;
        ids[count++] = row->id;
        bytes += row->body_len < lane->opts.inline_bytes ? row->body_len : lane->opts.inline_bytes;
    }
    return count;
}

static enum obx_code fetch_missing(struct lane *lane, struct obx_err *err)
{
    uint64_t ids[FETCH_ROWS];
    size_t count = missing_ids(lane, ids, FETCH_ROWS);
    enum obx_code rc = OBX_OK;

    qsort(ids, count, sizeof(ids[0]), compare_ids);
    row_batch_clear(&lane->fetched);
    rc = outbox_store_fetch(&lane->store, ids, count, &lane->fetched, err);
    if (rc != OBX_OK)
        return rc;
    for (size_t i = 0; i < lane->fetched.count; i++) {
        struct flight_row *row = flight_find(lane->flight, lane->fetched.rows[i]->id);

        if (row != NULL)
            flight_attach_take(lane->flight, row, row_batch_take(&lane->fetched, i));
    }
    for (size_t i = 0; i < count; i++) {
        struct flight_row *row = flight_find(lane->flight, ids[i]);

        /* Somebody deleted it: then nobody wants it published. */
        if (row != NULL && row->data == NULL)
            flight_forget(lane->flight, row);
    }
    return OBX_OK;
}

/* ---- refusals ---- */

static void doom(struct lane *lane, struct flight_row *row, enum obx_code code, const char *why)
{
    flight_doom(lane->flight, row, code, why);
    /* One that asks for receipts may be a copy of a message that was sent long ago, and its
     * followers too: the table says, before it is parked. */
    if (row->behind == 0 && !row->wants_receipt && lane_freezes(lane, row))
        flight_freeze(lane->flight, row);
}

static void retry_later(struct lane *lane, struct flight_row *row, uint32_t refusals)
{
    uint32_t wait_ms =
        backoff_nth_ms(lane->opts.retry_min_ms, lane->opts.retry_cap_ms, refusals, random_u64());

    OBX_LOG(LOG_LVL_DEBUG, "lane", "row.retry", KV_STR("outbox", lane->opts.outbox),
            KV_U64("row", row->id), KV_U64("refusals", refusals), KV_U64("next_ms", wait_ms));
    (void)flight_retry(lane->flight, row, clock_now_ms() + wait_ms);
}

static uint16_t count_up(uint16_t n)
{
    return n < UINT16_MAX ? (uint16_t)(n + 1) : n;
}

/* A refusal that counts: the last one parks the row. */
static void refuse(struct lane *lane, struct flight_row *row, enum obx_code code, const char *why)
{
    row->attempts = count_up(row->attempts);
    if (row->attempts >= route_of(&lane->opts, row->rule).max_attempts)
        doom(lane, row, code, why);
    else
        retry_later(lane, row, row->attempts);
}

/* ---- sending ---- */

/* What the faults know a topic by; no exchange has such a name. */
static struct obx_bytes topic_name(const struct flight_row *row)
{
    return (struct obx_bytes){.p = &row->topic_hash, .len = sizeof(row->topic_hash)};
}

/* What became of the attempt to send the first ready row. */
enum step { STEP_NEXT, STEP_STOP, STEP_FETCH };

static enum step send_built(struct lane *lane, struct flight_row *row,
                            const struct bridge_message *msg, bool is_probe)
{
    struct obx_err err = {0};
    uint64_t now_us = clock_now_us();
    enum obx_code rc = OBX_OK;

    if (!lease_holds(&lane->lease, now_us / 1000))
        return STEP_STOP;
    OBX_CRASH_POINT("lane-before-publish");
    rc = bridge_publisher_publish(lane->publisher, msg, row->token, &err);
    if (rc == OBX_E_TOO_LARGE || rc == OBX_E_FORMAT) {
        doom(lane, row, rc, err.text);
        return STEP_NEXT;
    }
    if (rc != OBX_OK)
        return STEP_STOP; /* window full, connection lost, blocked, no memory: it stays ready */
    OBX_CRASH_POINT("lane-published");
    if (is_probe) {
        faults_probe_sent(&lane->faults, msg->exchange, row->token);
        faults_probe_sent(&lane->faults, topic_name(row), row->token);
    }
    row->sent_us = now_us;
    lane->stats.published++;
    flight_sent(lane->flight, row);
    return STEP_NEXT;
}

static enum step send_whole(struct lane *lane, struct flight_row *row, const struct route *route,
                            const struct outbox_row *data, bool is_probe)
{
    struct bridge_message msg;
    struct obx_err err = {0};
    enum obx_code rc = envelope_build(lane->envelope, data, &msg, &err);

    if (rc == OBX_E_FORMAT || rc == OBX_E_CONFIG) {
        doom(lane, row, rc, err.text);
        return STEP_NEXT;
    }
    if (rc != OBX_OK) {
        lane_set_trouble(lane, TROUBLE_ROW, err.text);
        return STEP_STOP;
    }
    msg.exchange = route->exchange;
    msg.routing_key = route->routing_key.p != NULL ? route->routing_key : data->topic;
    return send_built(lane, row, &msg, is_probe);
}

static void doom_for_size(struct lane *lane, struct flight_row *row, const char *what,
                          uint64_t bytes)
{
    struct obx_err err = {0};

    (void)obx_fail(&err, OBX_E_TOO_LARGE, "%s of %llu bytes", what, (unsigned long long)bytes);
    doom(lane, row, OBX_E_TOO_LARGE, err.text);
}

/* What is large is read when its turn has come, and freed at once. */
static enum obx_code send_large(struct lane *lane, struct flight_row *row,
                                const struct route *route, bool is_probe, enum step *step,
                                struct obx_err *err)
{
    struct db_rows *rows = NULL;
    struct outbox_large large;
    struct outbox_row whole = *row->data;
    enum obx_code rc = outbox_store_large(&lane->store, row->id, &rows, &large, err);

    *step = STEP_NEXT;
    if (rc != OBX_OK)
        return rc;
    whole.payload = large.payload;
    whole.headers = large.headers;
    if (large.payload.p == NULL)
        flight_forget(lane->flight, row);
    else if (large.headers_len > OUTBOX_HEADERS_MAX)
        doom_for_size(lane, row, "headers", large.headers_len);
    else
        *step = send_whole(lane, row, route, &whole, is_probe);
    db_rows_free(rows);
    return OBX_OK;
}

/* Whether the row may be sent at all; if not, it is dealt with. */
static bool passes(struct lane *lane, struct flight_row *row, const struct route *route,
                   bool *is_probe)
{
    const char *why = NULL;
    enum fault_verdict verdict = FAULT_NONE;
    enum fault_verdict of_topic = FAULT_NONE;

    if (row->body_len > lane->opts.max_body_bytes || row->body_len > lane->faults.broker_max_body) {
        doom_for_size(lane, row, "payload", row->body_len);
        return false;
    }
    verdict = faults_ask(&lane->faults, route->exchange, clock_now_ms(), &why);
    if (verdict == FAULT_REFUSE) {
        refuse(lane, row, OBX_E_MQ_TOPOLOGY, why);
        return false;
    }
    of_topic = faults_ask(&lane->faults, topic_name(row), clock_now_ms(), &why);
    if (of_topic == FAULT_REFUSE)
        refuse(lane, row, OBX_E_MQ_DENIED, why);
    *is_probe = verdict == FAULT_PROBE || of_topic == FAULT_PROBE;
    return of_topic != FAULT_REFUSE;
}

static enum obx_code send_first(struct lane *lane, enum step *step, struct obx_err *err)
{
    struct flight_row *row = flight_first(lane->flight, FLIGHT_READY);
    struct route route;
    bool is_probe = false;

    *step = STEP_STOP;
    if (row == NULL)
        return OBX_OK;
    *step = STEP_NEXT;
    if (row->wants_receipt && lane_is_choked(lane, SETTLE_ASKING)) {
        (void)flight_retry(lane->flight, row, clock_now_ms() + CHOKED_PAUSE_MS);
        return OBX_OK;
    }
    *step = STEP_FETCH;
    if (row->data == NULL)
        return OBX_OK;
    *step = STEP_NEXT;
    row->rule = route_find(&lane->opts, row->data->topic);
    route = route_of(&lane->opts, row->rule);
    if (!passes(lane, row, &route, &is_probe))
        return OBX_OK;
    if (row->data->payload.p == NULL)
        return send_large(lane, row, &route, is_probe, step, err);
    *step = send_whole(lane, row, &route, row->data, is_probe);
    return OBX_OK;
}

static bool has_room(const struct lane *lane)
{
    return bridge_publisher_room(lane->publisher) > 0 &&
           flight_count(lane->flight, FLIGHT_INFLIGHT) < lane->faults.limit;
}

bool lane_can_publish(const struct lane *lane)
{
    if (lane->is_unsure && clock_now_ms() < lane->sure_due_ms)
        return false;
    return lane->publisher != NULL && atomic_load(&lane->gate_open) && has_room(lane) &&
           !lane_is_choked(lane, SETTLE_PLAIN) && flight_count(lane->flight, FLIGHT_READY) > 0;
}

enum obx_code lane_publish(struct lane *lane, struct obx_err *err)
{
    enum step step = STEP_NEXT;
    bool is_sure = false;
    enum obx_code rc = OBX_OK;

    if (!lane_can_publish(lane))
        return OBX_OK;
    rc = lane_make_sure(lane, &is_sure, err);
    if (rc != OBX_OK || !is_sure)
        return rc;
    for (int i = 0; i < BURST_ROWS && step != STEP_STOP && rc == OBX_OK && has_room(lane); i++) {
        rc = send_first(lane, &step, err);
        if (rc == OBX_OK && step == STEP_FETCH)
            rc = fetch_missing(lane, err);
    }
    /* Out with what is buffered, before the database takes its time. */
    bridge_publisher_service(lane->publisher);
    return rc;
}

/* ---- outcomes ---- */

/* The broker took the message as one that may be sent: neither exchange nor topic is at fault. */
static void answered(struct lane *lane, const struct flight_row *row)
{
    faults_answered(&lane->faults, route_of(&lane->opts, row->rule).exchange);
    faults_cleared(&lane->faults, topic_name(row));
}

void lane_expire_route_trouble(struct lane *lane, uint64_t now_ms)
{
    if (lane->route_trouble_until_ms == 0 || now_ms < lane->route_trouble_until_ms)
        return;
    lane->route_trouble_until_ms = 0;
    lane_set_trouble(lane, TROUBLE_ROUTE, NULL);
}

/* Shown from the first return on, long before the row is parked. One topic at a time. */
static void tell_route(struct lane *lane, const struct flight_row *row, const char *why)
{
    if (lane->route_trouble_until_ms != 0 && lane->route_trouble_topic != row->topic_hash)
        return;
    lane->route_trouble_topic = row->topic_hash;
    lane->route_trouble_until_ms =
        clock_now_ms() + (uint64_t)lane->opts.retry_cap_ms * ROUTE_TROUBLE_RETRIES;
    lane_set_trouble(lane, TROUBLE_ROUTE, why);
}

static void on_confirmed(struct lane *lane, struct flight_row *row)
{
    uint64_t now_us = clock_now_us();
    uint64_t db_now_us = lease_db_now_us(&lane->lease);

    OBX_CRASH_POINT("lane-confirmed");
    lane->stats.confirmed++;
    hist_record(&lane->publish_to_confirm, now_us - row->sent_us);
    if (db_now_us != 0)
        hist_record(&lane->commit_to_confirm,
                    db_now_us > row->created_us ? db_now_us - row->created_us : 0);
    answered(lane, row);
    if (lane->route_trouble_topic == row->topic_hash)
        lane_expire_route_trouble(lane, UINT64_MAX);
    flight_confirmed(lane->flight, row);
    lane_settling_add(lane, row, now_us / 1000);
}

static void on_returned(struct lane *lane, struct flight_row *row, const char *why)
{
    struct obx_bytes exchange = route_of(&lane->opts, row->rule).exchange;

    lane->stats.returned++;
    tell_route(lane, row, why);
    if (faults_is_of_exchange(PUB_RETURNED, why)) {
        lane->stats.exchange_faults++;
        faults_exchange_failed(&lane->faults, exchange, clock_now_ms(), why);
        refuse(lane, row, OBX_E_MQ_TOPOLOGY, why);
    } else {
        answered(lane, row);
        refuse(lane, row, OBX_E_MQ_UNROUTABLE, why);
    }
}

/* The exchange is as good as before: its other topics are not to blame. */
static void on_denied(struct lane *lane, struct flight_row *row, const char *why)
{
    lane->stats.returned++;
    tell_route(lane, row, why);
    faults_exchange_failed(&lane->faults, topic_name(row), clock_now_ms(), why);
    refuse(lane, row, OBX_E_MQ_DENIED, why);
}

/* Queue full, or an error within the broker: temporary, so it is tried for as long as it takes. */
static void on_nacked(struct lane *lane, struct flight_row *row, const char *why)
{
    lane->stats.nacked++;
    if (faults_learn_size(&lane->faults, why)) {
        doom(lane, row, OBX_E_TOO_LARGE, why);
        return;
    }
    answered(lane, row);
    row->nacks = count_up(row->nacks);
    retry_later(lane, row, row->nacks);
}

static void on_unknown(struct lane *lane, struct flight_row *row, const char *why)
{
    const struct obx_err *trouble = bridge_publisher_trouble(lane->publisher);

    lane->stats.unknown++;
    if (faults_is_objection(trouble) && faults_isolate(&lane->faults, lane->stats.published,
                                                       flight_count(lane->flight, FLIGHT_INFLIGHT)))
        refuse(lane, row, trouble->code, why == NULL ? trouble->text : why);
    else
        flight_unsent(lane->flight, row);
}

void lane_on_result(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct lane *lane = ctx;
    struct flight_row *row = lane->is_dropping ? NULL : flight_by_token(lane->flight, token);

    if (row == NULL)
        return;
    /* Of its exchange and of its topic, whichever the answer is about. */
    faults_probe_ended(&lane->faults, token);
    switch (outcome) {
    case PUB_CONFIRMED:
        on_confirmed(lane, row);
        break;
    case PUB_RETURNED:
        on_returned(lane, row, why);
        break;
    case PUB_DENIED:
        on_denied(lane, row, why);
        break;
    case PUB_NACKED:
        on_nacked(lane, row, why);
        break;
    case PUB_UNKNOWN:
        on_unknown(lane, row, why);
        break;
    }
}
