/*
 * Receipts of one queue share a message, as docs/receipts.md has it. A report is in one parcel, and
 * a parcel waits or is in flight until its one result; then its reports are done, or forgotten.
 */
#include "reporter.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/random.h"
#include "bridge/publisher.h"
#include "core/json.h"

enum { WINDOW = 100, PARCEL_MAX = 200, ID_SIZE = 48, MS_PER_S = 1000, HELD_MAX = 4 * FILING_MAX };

struct parcel {
    struct parcel *next;
    uint64_t number;
    uint64_t give_up_ms;
    struct report_list reports;
    struct obx_buf body;
    char id[ID_SIZE];
};

struct reporter {
    const struct inbox_opts *opts;
    struct counts *counts;
    struct bridge_publisher *publisher;
    struct parcel *waiting, *sent;
    struct report_list done;
    size_t held; /* in parcels */
    uint64_t last_number;
};

static void free_parcel(struct reporter *reporter, struct parcel *parcel)
{
    reporter->held -= parcel->reports.count;
    report_list_free(&parcel->reports);
    buf_fini(&parcel->body);
    obx_free(parcel);
}

static void take_in(struct reporter *reporter, struct parcel *parcel)
{
    struct report *report;

    while ((report = report_list_pop(&parcel->reports)) != NULL) {
        report_list_push(&reporter->done, report);
        reporter->held--;
    }
}

/* A walk: the window is 100 parcels, and confirms come in order, mostly. */
static struct parcel *take_sent(struct reporter *reporter, uint64_t number)
{
    struct parcel **at = &reporter->sent;
    struct parcel *parcel = NULL;

    while (*at != NULL && (*at)->number != number)
        at = &(*at)->next;
    parcel = *at;
    if (parcel != NULL)
        *at = parcel->next;
    return parcel;
}

/* Nobody listens there: a producer that does so later asks again, and is answered by the dedup row.
 * To keep them would fill the window with receipts that can never go, and those of other producers
 * would wait behind them. */
static void give_up(struct reporter *reporter, struct parcel *parcel, const char *why)
{
    OBX_LOG(LOG_LVL_WARN, "inbox", "receipts.given_up", KV_STR("queue", reporter->opts->queue),
            KV_BYTES("to", parcel->reports.head->to), KV_U64("receipts", parcel->reports.count),
            KV_STR("why", why));
    atomic_fetch_add(&reporter->counts->reports_given_up, parcel->reports.count);
    take_in(reporter, parcel);
}

static void on_result(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct reporter *reporter = ctx;
    struct parcel *parcel = take_sent(reporter, token);

    OBX_ASSERT(parcel != NULL); /* each publication has one result */
    if (outcome == PUB_CONFIRMED) {
        OBX_CRASH_POINT("inbox-reported");
        atomic_fetch_add(&reporter->counts->reported, parcel->reports.count);
        take_in(reporter, parcel);
    } else if (outcome == PUB_RETURNED || outcome == PUB_DENIED) {
        give_up(reporter, parcel, why != NULL ? why : pub_outcome_name(outcome));
    }
    free_parcel(reporter, parcel);
}

enum obx_code reporter_create(const struct inbox_opts *opts, struct counts *counts,
                              struct reporter **out, struct obx_err *err)
{
    struct reporter *reporter = obx_calloc(1, sizeof(*reporter));
    struct bridge_publisher_opts publisher = {
        .bridge = opts->broker, .window = WINDOW, .on_result = on_result, .ctx = reporter};
    enum obx_code rc;

    *out = NULL;
    if (reporter == NULL)
        return obx_fail(err, OBX_E_NOMEM, "receipts");
    reporter->opts = opts;
    reporter->counts = counts;
    rc = bridge_publisher_create(&publisher, &reporter->publisher, err);
    if (rc != OBX_OK) {
        obx_free(reporter);
        return rc;
    }
    *out = reporter;
    return OBX_OK;
}

void reporter_destroy(struct reporter *reporter)
{
    if (reporter == NULL)
        return;
    bridge_publisher_destroy(reporter->publisher); /* brings what is in flight back */
    while (reporter->waiting != NULL) {
        struct parcel *parcel = reporter->waiting;

        reporter->waiting = parcel->next;
        free_parcel(reporter, parcel);
    }
    report_list_free(&reporter->done);
    obx_free(reporter);
}

/* Receipts of one producer share a message: a confirm costs the broker a flush, a line some bytes. */
static struct parcel *parcel_for(struct reporter *reporter, const struct report *report)
{
    struct parcel *parcel = NULL;

    for (parcel = reporter->waiting; parcel != NULL; parcel = parcel->next) {
        if (parcel->reports.count < PARCEL_MAX && bytes_equal(parcel->reports.head->to, report->to))
            return parcel;
    }
    parcel = obx_calloc(1, sizeof(*parcel));
    if (parcel == NULL)
        return NULL;
    (void)snprintf(parcel->id, sizeof(parcel->id), "receipts-%016" PRIx64 "%016" PRIx64,
                   random_u64(), random_u64());
    parcel->number = ++reporter->last_number;
    parcel->give_up_ms = clock_now_ms() + (uint64_t)FILING_CLAIM_S * MS_PER_S / 2;
    parcel->next = reporter->waiting;
    reporter->waiting = parcel;
    return parcel;
}

static bool add_report(struct reporter *reporter, struct parcel *parcel,
                       const struct report *report)
{
    const struct receipt_line line = {.message_id = report->message_id,
                                      .group = bytes_of(reporter->opts->consumer.group),
                                      .token = report->token,
                                      .reason = report->reason,
                                      .is_rejected = report->is_rejected};

    return receipt_body_add(&parcel->body, &line) == OBX_OK;
}

/* Without memory a report is forgotten: its claim passes, and its row is filed again. */
void reporter_add(struct reporter *reporter, struct report_list *reports)
{
    struct report *report;

    while ((report = report_list_pop(reports)) != NULL) {
        struct parcel *parcel = parcel_for(reporter, report);

        if (parcel != NULL && add_report(reporter, parcel, report)) {
            report_list_push(&parcel->reports, report);
            reporter->held++;
            continue;
        }
        obx_free(report);
        if (parcel != NULL && parcel->reports.count == 0) { /* made for it, so it is the first */
            reporter->waiting = parcel->next;
            free_parcel(reporter, parcel);
        }
    }
}

bool reporter_is_full(const struct reporter *reporter)
{
    return reporter->held + reporter->done.count + FILING_MAX > HELD_MAX;
}

/* False: not now (no connection, a window that is full). The default exchange routes by the name of
 * the queue that the producer reads; mandatory as ever, so that a queue that is gone is noticed. */
static bool publish(struct reporter *reporter, struct parcel *parcel)
{
    struct bridge_message msg = {.exchange = bytes_of(""),
                                 .routing_key = parcel->reports.head->to,
                                 .message_id = bytes_of(parcel->id),
                                 .type = bytes_of("rowpost.receipts"),
                                 .content_type = bytes_of("application/json"),
                                 .app_id = bytes_of("rowpost")};
    const size_t len = parcel->body.len;

    /* Closed for the try only: until it is sent others may be added to it. */
    if (receipt_body_end(&parcel->body) != OBX_OK)
        return false;
    msg.body = buf_bytes(&parcel->body);
    if (bridge_publisher_publish(reporter->publisher, &msg, parcel->number, NULL) == OBX_OK)
        return true;
    buf_cut(&parcel->body, len);
    return false;
}

static void publish_waiting(struct reporter *reporter)
{
    struct parcel *at = reporter->waiting;

    reporter->waiting = NULL;
    while (at != NULL) {
        struct parcel *parcel = at;

        at = parcel->next;
        if (publish(reporter, parcel)) {
            parcel->next = reporter->sent;
            reporter->sent = parcel;
        } else if (clock_now_ms() < parcel->give_up_ms) { /* after half of the claim on its rows */
            parcel->next = reporter->waiting;
            reporter->waiting = parcel;
        } else {
            free_parcel(reporter, parcel);
        }
    }
}

/* A service without receipts has no second connection to the broker. */
static bool is_in_use(const struct reporter *reporter)
{
    return reporter->waiting != NULL ||
           bridge_publisher_state(reporter->publisher) != BRIDGE_DOWN ||
           bridge_publisher_inflight(reporter->publisher) > 0;
}

void reporter_service(struct reporter *reporter)
{
    if (!is_in_use(reporter))
        return;
    bridge_publisher_service(reporter->publisher);
    publish_waiting(reporter);
}

struct report_list reporter_take_done(struct reporter *reporter)
{
    struct report_list taken = {.count = 0};

    while (taken.count < FILING_MAX && reporter->done.count > 0)
        report_list_push(&taken, report_list_pop(&reporter->done));
    return taken;
}

int reporter_fd(const struct reporter *reporter)
{
    return bridge_publisher_fd(reporter->publisher);
}

uint64_t reporter_next_due_ms(const struct reporter *reporter)
{
    return is_in_use(reporter) ? bridge_publisher_next_due_ms(reporter->publisher) : UINT64_MAX;
}
