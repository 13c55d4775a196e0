/*
 * Publishing in bursts under the window, and what an outcome means. See publish.h.
 */
#include "publish.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/random.h"

enum {
    BURST_ROWS = 500,
    FETCH_ROWS = 128,
    FETCH_BYTES = 4 * 1024 * 1024,
    FULL_PAUSE_MS = 1000,
    US_PER_MS = 1000,
    ROUTE_RETRIES = 3, /* the longest waits between tries that a topic's trouble outlives */
};

/* ---- rows that are not in memory ---- */

/* Rows that have to be read before they can be published: as many as are worth a statement, and no
 * more bytes than a batch may have. */
struct missing {
    uint64_t ids[FETCH_ROWS];
    size_t count;
    uint64_t bytes;
};

static bool add_missing(struct missing *missing, const struct flight_row *row,
                        const struct lane_opts *opts)
{
    if (missing->count == FETCH_ROWS || missing->bytes >= FETCH_BYTES)
        return false;
    if (row->data != NULL)
        return true;
    missing->ids[missing->count++] = row->id;
    missing->bytes += row->body_len < opts->inline_bytes ? row->body_len : opts->inline_bytes;
    return true;
}

/* Those that may go, and, where rows are packed, those that may go with them: without their data a
 * key with a long backlog would have packs of one. */
static void find_missing(const struct publish *publish, struct missing *missing)
{
    bool has_room = true;

    for (const struct flight_row *row = flight_first(publish->flight, FLIGHT_READY);
         row != NULL && has_room; row = flight_next(row)) {
        has_room = add_missing(missing, row, publish->opts);
        for (const struct flight_row *next = flight_follower(row);
             publish->packing.work != NULL && has_room && next != NULL &&
             next->state != FLIGHT_READY;
             next = flight_follower(next))
            has_room = add_missing(missing, next, publish->opts);
    }
}

static enum obx_code fetch_missing(struct publish *publish, struct obx_err *err)
{
    struct missing missing = {.count = 0};
    enum obx_code rc = OBX_OK;

    find_missing(publish, &missing);
    qsort(missing.ids, missing.count, sizeof(missing.ids[0]), ids_compare);
    row_batch_clear(&publish->fetched);
    rc = outbox_store_fetch(publish->store, missing.ids, missing.count, &publish->fetched, err);
    if (rc != OBX_OK)
        return rc;
    for (size_t i = 0; i < publish->fetched.count; i++) {
        struct flight_row *row = flight_find(publish->flight, publish->fetched.rows[i]->id);

        if (row != NULL)
            flight_attach_take(publish->flight, row, row_batch_take(&publish->fetched, i));
    }
    for (size_t i = 0; i < missing.count; i++) {
        struct flight_row *row = flight_find(publish->flight, missing.ids[i]);

        /* Somebody deleted it: then nobody wants it published. */
        if (row != NULL && row->data == NULL)
            flight_forget(publish->flight, row);
    }
    return OBX_OK;
}

/* ---- refusals ---- */

static void give_up(struct publish *publish, struct flight_row *row, enum obx_code code,
                    const char *why)
{
    flight_give_up(publish->flight, row, code, why);
    /* One that asks for receipts may be a copy of a message that was sent long ago, and its
     * followers too: the table says, before it is parked. */
    if (row->blocked_by == 0 && !row->wants_receipt &&
        route_freezes(publish->opts, row->rule, row->id))
        flight_freeze(publish->flight, row);
}

/* It may be evicted for want of room: then the reader finds it again. */
static void retry_later(struct publish *publish, struct flight_row *row, uint32_t refusals)
{
    uint32_t wait_ms = backoff_nth_ms(publish->opts->retry_min_ms, publish->opts->retry_cap_ms,
                                      refusals, random_u64());

    OBX_LOG(LOG_LVL_DEBUG, "lane", "row.retry", KV_STR("outbox", publish->opts->outbox),
            KV_U64("row", row->id), KV_U64("refusals", refusals), KV_U64("next_ms", wait_ms));
    (void)flight_retry(publish->flight, row, clock_now_ms() + wait_ms);
}

static uint16_t count_up(uint16_t n)
{
    return n < UINT16_MAX ? (uint16_t)(n + 1) : n;
}

/* A refusal that counts: the last one parks the row. */
static void refuse(struct publish *publish, struct flight_row *row, enum obx_code code,
                   const char *why)
{
    row->attempts = count_up(row->attempts);
    if (row->attempts >= route_of(publish->opts, row->rule).max_attempts)
        give_up(publish, row, code, why);
    else
        retry_later(publish, row, row->attempts);
}

/* ---- sending ---- */

/* What the faults know a topic by; no exchange has such a name. */
static struct obx_bytes topic_name(const struct flight_row *row)
{
    return (struct obx_bytes){.p = &row->topic_hash, .len = sizeof(row->topic_hash)};
}

/* What became of the attempt to send the first ready row. */
enum step { STEP_NEXT, STEP_STOP, STEP_FETCH };

/* The last thing before the message goes is the lease: a process that was stopped in here for an hour
 * sends this one message, and no other. */
static enum step send_built(struct publish *publish, struct flight_row *row,
                            const struct bridge_message *msg, bool is_probe)
{
    struct obx_err err = {0};
    uint64_t now_us = clock_now_us();
    enum obx_code rc = OBX_OK;

    if (!lease_holds(publish->lease, now_us / US_PER_MS))
        return STEP_STOP;
    OBX_CRASH_POINT("lane-before-publish");
    rc = bridge_publisher_publish(publish->publisher, msg, row->token, &err);
    if (rc == OBX_E_TOO_LARGE || rc == OBX_E_FORMAT) {
        give_up(publish, row, rc, err.text);
        return STEP_NEXT;
    }
    if (rc != OBX_OK)
        return STEP_STOP; /* window full, connection lost, blocked, no memory: it stays ready */
    OBX_CRASH_POINT("lane-published");
    if (is_probe) {
        faults_probe_sent(&publish->faults, msg->exchange, row->token);
        faults_probe_sent(&publish->faults, topic_name(row), row->token);
    }
    row->sent_us = now_us;
    publish->stats.published++;
    flight_sent(publish->flight, row);
    return STEP_NEXT;
}

static enum step send_whole(struct publish *publish, struct flight_row *row,
                            const struct route *route, const struct outbox_row *data, bool is_probe)
{
    char key[ROUTE_KEY_SIZE];
    struct bridge_message msg;
    struct obx_err err = {0};
    enum obx_code rc = envelope_build(publish->envelope, data, &msg, &err);

    if (rc == OBX_E_FORMAT || rc == OBX_E_CONFIG) {
        give_up(publish, row, rc, err.text);
        return STEP_NEXT;
    }
    if (rc != OBX_OK) {
        conditions_set(publish->conditions, CONDITION_ROW, err.text);
        return STEP_STOP;
    }
    msg.exchange = route->exchange;
    msg.routing_key = route_key(route, data, key);
    return send_built(publish, row, &msg, is_probe);
}

static size_t room_for_rows(const struct publish *publish)
{
    const size_t inflight = flight_count(publish->flight, FLIGHT_INFLIGHT);

    return inflight < publish->faults.limit ? publish->faults.limit - inflight : 0;
}

/* As send_built, for the rows of the pack that was put together. One that the publisher refuses for
 * good is none: each row says then by itself what is wrong with it. */
static enum step send_pack(struct publish *publish, const struct bridge_message *msg)
{
    struct packing *packing = &publish->packing;
    struct obx_err err = {0};
    const uint64_t now_us = clock_now_us();
    uint64_t token = 0;
    enum obx_code rc = OBX_OK;

    if (!lease_holds(publish->lease, now_us / US_PER_MS))
        return STEP_STOP;
    rc = packing_keep(packing, &token, &err);
    if (rc != OBX_OK) {
        conditions_set(publish->conditions, CONDITION_ROW, err.text);
        return STEP_STOP;
    }
    OBX_CRASH_POINT("lane-before-publish");
    rc = bridge_publisher_publish(publish->publisher, msg, token, &err);
    if (rc != OBX_OK)
        obx_free(packing_take(packing, token));
    if (rc == OBX_E_TOO_LARGE || rc == OBX_E_FORMAT) {
        for (size_t i = 0; i < packing->count; i++)
            packing->rows[i]->is_alone = true;
        return STEP_NEXT;
    }
    if (rc != OBX_OK)
        return STEP_STOP;
    OBX_CRASH_POINT("lane-published");
    publish->stats.packs++;
    publish->stats.published += packing->count;
    for (size_t i = 0; i < packing->count; i++) {
        packing->rows[i]->sent_us = now_us;
        flight_sent(publish->flight, packing->rows[i]);
    }
    return STEP_NEXT;
}

/* In company where there is some, otherwise as a message of its own: a consumer sees a pack only where
 * it saves something. */
static enum step send_packed(struct publish *publish, struct flight_row *row,
                             const struct route *route)
{
    struct bridge_message msg;
    struct obx_err err = {0};

    if (packing_build(&publish->packing, publish->envelope, row, route, room_for_rows(publish),
                      &msg, &err) != OBX_OK) {
        conditions_set(publish->conditions, CONDITION_ROW, err.text);
        return STEP_STOP;
    }
    return publish->packing.count > 1 ? send_pack(publish, &msg)
                                      : send_whole(publish, row, route, row->data, false);
}

static void give_up_for_size(struct publish *publish, struct flight_row *row, const char *what,
                             uint64_t bytes)
{
    struct obx_err err = {0};

    (void)obx_fail(&err, OBX_E_TOO_LARGE, "%s of %llu bytes", what, (unsigned long long)bytes);
    give_up(publish, row, OBX_E_TOO_LARGE, err.text);
}

/* What is large is read when its turn has come, and freed at once. */
static enum obx_code send_large(struct publish *publish, struct flight_row *row,
                                const struct route *route, bool is_probe, enum step *step,
                                struct obx_err *err)
{
    struct db_rows *rows = NULL;
    struct outbox_large large;
    struct outbox_row whole = *row->data;
    enum obx_code rc = outbox_store_large(publish->store, row->id, &rows, &large, err);

    *step = STEP_NEXT;
    if (rc != OBX_OK)
        return rc;
    whole.payload = large.payload;
    whole.headers = large.headers;
    if (large.payload.p == NULL)
        flight_forget(publish->flight, row);
    else if (large.headers_len > OUTBOX_HEADERS_MAX)
        give_up_for_size(publish, row, "headers", large.headers_len);
    else
        *step = send_whole(publish, row, route, &whole, is_probe);
    db_rows_free(rows);
    return OBX_OK;
}

/* Whether the row may be sent at all; if not, it is dealt with. */
static bool may_be_sent(struct publish *publish, struct flight_row *row, const struct route *route,
                        bool *is_probe)
{
    const char *why = NULL;
    enum fault_verdict verdict = FAULT_NONE;
    enum fault_verdict of_topic = FAULT_NONE;

    if (row->body_len > publish->opts->max_body_bytes ||
        row->body_len > publish->faults.broker_max_body) {
        give_up_for_size(publish, row, "payload", row->body_len);
        return false;
    }
    verdict = faults_ask(&publish->faults, route->exchange, clock_now_ms(), &why);
    if (verdict == FAULT_REFUSE) {
        refuse(publish, row, OBX_E_MQ_TOPOLOGY, why);
        return false;
    }
    of_topic = faults_ask(&publish->faults, topic_name(row), clock_now_ms(), &why);
    if (of_topic == FAULT_REFUSE)
        refuse(publish, row, OBX_E_MQ_DENIED, why);
    *is_probe = verdict == FAULT_PROBE || of_topic == FAULT_PROBE;
    return of_topic != FAULT_REFUSE;
}

static enum obx_code send_first(struct publish *publish, enum step *step, struct obx_err *err)
{
    struct flight_row *row = flight_first(publish->flight, FLIGHT_READY);
    struct route route;
    bool is_probe = false;

    *step = STEP_STOP;
    if (row == NULL)
        return OBX_OK;
    *step = STEP_NEXT;
    if (row->wants_receipt && settle_is_full(publish->settle, SETTLE_ASKING)) {
        (void)flight_retry(publish->flight, row, clock_now_ms() + FULL_PAUSE_MS);
        return OBX_OK;
    }
    *step = STEP_FETCH;
    if (row->data == NULL)
        return OBX_OK;
    *step = STEP_NEXT;
    row->rule = route_find(publish->opts, row->data->topic);
    route = route_of(publish->opts, row->rule);
    if (!may_be_sent(publish, row, &route, &is_probe))
        return OBX_OK;
    if (row->data->payload.p == NULL)
        return send_large(publish, row, &route, is_probe, step, err);
    if (!is_probe && packing_can(row, &route, room_for_rows(publish)))
        *step = send_packed(publish, row, &route);
    else
        *step = send_whole(publish, row, &route, row->data, is_probe);
    return OBX_OK;
}

/* The limit is one while a culprit is sought: see faults.h. */
static bool has_room(const struct publish *publish)
{
    return bridge_publisher_room(publish->publisher) > 0 && room_for_rows(publish) > 0;
}

bool publish_can(const struct publish *publish)
{
    return publish->publisher != NULL && atomic_load(publish->is_open) && has_room(publish) &&
           !settle_is_full(publish->settle, SETTLE_PLAIN) &&
           flight_count(publish->flight, FLIGHT_READY) > 0;
}

enum obx_code publish_burst(struct publish *publish, struct obx_err *err)
{
    enum step step = STEP_NEXT;
    bool is_sure = false;
    enum obx_code rc = OBX_OK;

    if (!publish_can(publish))
        return OBX_OK;
    rc = durable_ensure(publish->durable, publish->store->db, &is_sure, err);
    if (rc != OBX_OK || !is_sure)
        return rc;
    for (int i = 0; i < BURST_ROWS && step != STEP_STOP && rc == OBX_OK && has_room(publish); i++) {
        rc = send_first(publish, &step, err);
        if (rc == OBX_OK && step == STEP_FETCH)
            rc = fetch_missing(publish, err);
    }
    /* Out with what is buffered, before the database takes its time. */
    bridge_publisher_service(publish->publisher);
    return rc;
}

/* ---- outcomes ---- */

/* The broker took the message as one that may be sent: neither exchange nor topic is at fault. */
static void answered(struct publish *publish, const struct flight_row *row)
{
    faults_answered(&publish->faults, route_of(publish->opts, row->rule).exchange);
    faults_cleared(&publish->faults, topic_name(row));
}

void publish_expire_route(struct publish *publish, uint64_t now_ms)
{
    if (publish->route_until_ms == 0 || now_ms < publish->route_until_ms)
        return;
    publish->route_until_ms = 0;
    conditions_set(publish->conditions, CONDITION_ROUTE, NULL);
}

/* Shown from the first return on, long before the row is parked. One topic at a time. */
static void show_route(struct publish *publish, const struct flight_row *row, const char *why)
{
    if (publish->route_until_ms != 0 && publish->route_topic != row->topic_hash)
        return;
    publish->route_topic = row->topic_hash;
    publish->route_until_ms =
        clock_now_ms() + (uint64_t)publish->opts->retry_cap_ms * ROUTE_RETRIES;
    conditions_set(publish->conditions, CONDITION_ROUTE, why);
}

/* The token has found the row, so it was this lane that sent it, in this life of its memory. */
static void on_confirmed(struct publish *publish, struct flight_row *row)
{
    uint64_t now_us = clock_now_us();
    uint64_t db_now_us = lease_db_now_us(publish->lease);

    OBX_CRASH_POINT("lane-confirmed");
    hist_record(publish->publish_to_confirm, now_us - row->sent_us);
    if (db_now_us != 0)
        hist_record(publish->commit_to_confirm,
                    db_now_us > row->created_us ? db_now_us - row->created_us : 0);
    answered(publish, row);
    if (publish->route_topic == row->topic_hash)
        publish_expire_route(publish, UINT64_MAX);
    flight_confirmed(publish->flight, row);
    settle_add(publish->settle, row, now_us / US_PER_MS);
}

static void on_returned(struct publish *publish, struct flight_row *row, const char *why)
{
    struct obx_bytes exchange = route_of(publish->opts, row->rule).exchange;

    show_route(publish, row, why);
    if (faults_is_of_exchange(PUB_RETURNED, why)) {
        publish->stats.exchange_faults++;
        faults_exchange_failed(&publish->faults, exchange, clock_now_ms(), why);
        refuse(publish, row, OBX_E_MQ_TOPOLOGY, why);
    } else {
        answered(publish, row);
        refuse(publish, row, OBX_E_MQ_UNROUTABLE, why);
    }
}

/* The exchange is as good as before: its other topics are not to blame. */
static void on_denied(struct publish *publish, struct flight_row *row, const char *why)
{
    show_route(publish, row, why);
    faults_exchange_failed(&publish->faults, topic_name(row), clock_now_ms(), why);
    refuse(publish, row, OBX_E_MQ_DENIED, why);
}

/* Queue full, or an error within the broker: temporary, so it is tried for as long as it takes. */
static void on_nacked(struct publish *publish, struct flight_row *row, const char *why)
{
    if (faults_learn_size(&publish->faults, why)) {
        give_up(publish, row, OBX_E_TOO_LARGE, why);
        return;
    }
    answered(publish, row);
    row->nacks = count_up(row->nacks);
    retry_later(publish, row, row->nacks);
}

/* No attempt is counted: the broker has said nothing of the message, and it may be stored. */
static void on_unknown(struct publish *publish, struct flight_row *row, const char *why)
{
    const struct obx_err *trouble = bridge_publisher_trouble(publish->publisher);

    if (faults_is_objection(trouble) &&
        faults_isolate(&publish->faults, publish->stats.published,
                       flight_count(publish->flight, FLIGHT_INFLIGHT)))
        refuse(publish, row, trouble->code, why == NULL ? trouble->text : why);
    else
        flight_unsent(publish->flight, row);
}

static void count_outcome(struct publish_stats *stats, enum pub_outcome outcome, size_t rows)
{
    uint64_t *const counters[] = {
        [PUB_CONFIRMED] = &stats->confirmed, [PUB_NACKED] = &stats->nacked,
        [PUB_RETURNED] = &stats->returned,   [PUB_DENIED] = &stats->returned,
        [PUB_UNKNOWN] = &stats->unknown,
    };

    *counters[outcome] += rows;
}

static void on_row(struct publish *publish, struct flight_row *row, enum pub_outcome outcome,
                   const char *why)
{
    switch (outcome) {
    case PUB_CONFIRMED:
        on_confirmed(publish, row);
        break;
    case PUB_RETURNED:
        on_returned(publish, row, why);
        break;
    case PUB_DENIED:
        on_denied(publish, row, why);
        break;
    case PUB_NACKED:
        on_nacked(publish, row, why);
        break;
    case PUB_UNKNOWN:
        on_unknown(publish, row, why);
        break;
    }
}

/*
 * Its rows go alone from now on, so that the one at fault is found. All of them come back first: then
 * those that may go are the first ones of their keys, and what was said of the pack is said of these;
 * the others wait for them as before. Where the pack was too large nothing is said of any row.
 */
static void on_refused_pack(struct publish *publish, const struct sent_pack *pack,
                            enum pub_outcome outcome, const char *why)
{
    for (size_t i = 0; i < pack->count; i++) {
        struct flight_row *row = flight_by_token(publish->flight, pack->rows[i]);

        if (row == NULL)
            continue;
        row->is_alone = true;
        flight_unsent(publish->flight, row);
    }
    if (outcome == PUB_NACKED && faults_learn_size(&publish->faults, why))
        return;
    for (size_t i = 0; i < pack->count; i++) {
        struct flight_row *row = flight_by_token(publish->flight, pack->rows[i]);

        /* One that was refused before it may have taken it out of memory. */
        if (row != NULL && row->state == FLIGHT_READY)
            on_row(publish, row, outcome, why);
    }
}

static void on_pack(struct publish *publish, const struct sent_pack *pack, enum pub_outcome outcome,
                    const char *why)
{
    count_outcome(&publish->stats, outcome, pack->count);
    if (outcome != PUB_CONFIRMED && outcome != PUB_UNKNOWN) {
        on_refused_pack(publish, pack, outcome, why);
        return;
    }
    for (size_t i = 0; i < pack->count; i++) {
        struct flight_row *row = flight_by_token(publish->flight, pack->rows[i]);

        if (row != NULL)
            on_row(publish, row, outcome, why);
    }
}

static void on_result(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct publish *publish = ctx;
    struct sent_pack *pack = packing_take(&publish->packing, token);
    struct flight_row *row = NULL;

    if (publish->is_dropping) {
        obx_free(pack);
        return;
    }
    if (pack != NULL) {
        on_pack(publish, pack, outcome, why);
        obx_free(pack);
        return;
    }
    row = flight_by_token(publish->flight, token);
    if (row == NULL)
        return;
    /* Of its exchange and of its topic, whichever the answer is about. */
    faults_probe_ended(&publish->faults, token);
    count_outcome(&publish->stats, outcome, 1);
    on_row(publish, row, outcome, why);
}

/* ---- the broker's connection ---- */

void publish_open(struct publish *publish)
{
    const struct lane_opts *lane = publish->opts;
    const struct bridge_publisher_opts opts = {.bridge = lane->bridge,
                                               .window = lane->window,
                                               .confirm_timeout_ms = lane->confirm_timeout_ms,
                                               .max_body_bytes = lane->max_body_bytes,
                                               .on_result = on_result,
                                               .ctx = publish};
    struct obx_err err = {0};

    if (publish->publisher == NULL &&
        bridge_publisher_create(&opts, &publish->publisher, &err) != OBX_OK)
        conditions_set(publish->conditions, CONDITION_ROW, err.text);
}

void publish_service(struct publish *publish)
{
    struct bridge_publisher_stats broker = {0};

    if (publish->publisher == NULL)
        return;
    bridge_publisher_service(publish->publisher);
    bridge_publisher_get_stats(publish->publisher, &broker);
    if (broker.connects != publish->connects_seen)
        faults_connected(&publish->faults);
    publish->connects_seen = broker.connects;
}

/* Counters only grow, also over a publisher that was dropped. */
void publish_get_broker(const struct publish *publish, struct publish_broker *out)
{
    struct bridge_publisher_stats broker = {0};

    *out = publish->past;
    out->state = BRIDGE_DOWN;
    if (publish->publisher == NULL)
        return;
    bridge_publisher_get_stats(publish->publisher, &broker);
    out->state = bridge_publisher_state(publish->publisher);
    out->connects += broker.connects;
    out->blocked += broker.blocked;
}

void publish_reset(struct publish *publish)
{
    publish->is_dropping = true;
    if (publish->publisher != NULL && bridge_publisher_inflight(publish->publisher) > 0) {
        publish_get_broker(publish, &publish->past);
        bridge_publisher_drop(publish->publisher);
        publish->publisher = NULL;
    }
    publish->is_dropping = false;
    faults_reset(&publish->faults);
    publish->route_until_ms = 0;
}

void publish_close(struct publish *publish)
{
    publish->is_dropping = true;
    publish_get_broker(publish, &publish->past); /* what was counted stays counted */
    bridge_publisher_destroy(publish->publisher);
    publish->publisher = NULL;
}

/* ---- life ---- */

enum obx_code publish_init(struct publish *publish, const struct publish_parts *parts,
                           struct obx_err *err)
{
    const struct lane_opts *opts = parts->opts;
    enum obx_code rc = OBX_OK;

    *publish = (struct publish){.opts = opts,
                                .flight = parts->flight,
                                .store = parts->store,
                                .lease = parts->lease,
                                .durable = parts->durable,
                                .settle = parts->settle,
                                .conditions = parts->conditions,
                                .is_open = parts->is_open,
                                .commit_to_confirm = parts->commit_to_confirm,
                                .publish_to_confirm = parts->publish_to_confirm};
    faults_init(&publish->faults, opts->window, opts->retry_min_ms, opts->retry_cap_ms);
    rc = packing_init(
        &publish->packing,
        &(struct packing_parts){.opts = opts, .faults = &publish->faults, .settle = parts->settle},
        err);
    if (rc == OBX_OK)
        rc = envelope_create(opts->source, opts->outbox, &publish->envelope, err);
    if (rc == OBX_OK && opts->receipt_queue != NULL)
        envelope_offer_receipts(publish->envelope, opts->receipt_queue, &publish->receipt_keys);
    return rc;
}

void publish_fini(struct publish *publish)
{
    envelope_destroy(publish->envelope);
    packing_fini(&publish->packing);
    row_batch_fini(&publish->fetched);
}
