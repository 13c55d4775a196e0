/*
 * The receipts' publisher. Invariant: an item taken is in exactly one batch, and the batch is open,
 * pending, or on its way with the publisher, whose one result for it ends it or makes it pending
 * again. A token is the batch's number.
 */
#include "receipts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/random.h"
#include "base/utf8.h"

enum {
    WINDOW = 200,
    BATCH_MAX = 200, /* receipts in a message */
    RETRY_MIN_MS = 50,
    RETRY_CAP_MS = 2000,
    PATIENCE_MS = 10000,
    HELD_SHARE = 2,
    SAY_EVERY_MS = 1000,
    ID_SIZE = 48,
    ID_MAX = 64,      /* as the producer's column */
    TOKEN_MAX = 2000, /* it holds the list of groups */
    QUEUE_MAX = 255,
    ESCAPE_SIZE = 8,
};

/* Consumers write to no other queue, whatever a message asks for. */
static const char queue_prefix[] = "rowpost.receipts.";

struct receipt_batch {
    struct receipt_batch *next;
    uint64_t number;
    char *queue;
    struct item_list items;
    struct obx_buf body;
    uint64_t due_ms;
    uint64_t give_up_ms;
    uint32_t tries;
    char id[ID_SIZE];
};

/* ---- what a message asks for ---- */

static struct obx_bytes header_text(const struct item *item, const char *name)
{
    const struct obx_header *header = obx_message_header(&item->msg, name);

    return header != NULL && header->type == OBX_H_TEXT ? header->v.text
                                                        : (struct obx_bytes){.p = NULL, .len = 0};
}

static bool is_printable(struct obx_bytes text, size_t max)
{
    const unsigned char *at = text.p;

    if (text.len == 0 || text.len > max)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (at[i] <= ' ' || at[i] > '~')
            return false;
    }
    return true;
}

static struct obx_bytes trim(const char *at, size_t len)
{
    while (len > 0 && *at == ' ') {
        at++;
        len--;
    }
    while (len > 0 && at[len - 1] == ' ')
        len--;
    return (struct obx_bytes){.p = at, .len = len};
}

/* "stock, mail" names this group. */
static bool names_group(struct obx_bytes list, const char *group)
{
    const char *at = list.p;
    size_t left = list.len;

    while (left > 0) {
        const char *comma = memchr(at, ',', left);
        size_t len = comma == NULL ? left : (size_t)(comma - at);

        if (bytes_is(trim(at, len), group))
            return true;
        at += comma == NULL ? len : len + 1;
        left -= comma == NULL ? len : len + 1;
    }
    return false;
}

bool receipts_are_asked(const struct item *item, const char *group)
{
    struct obx_bytes to = header_text(item, "x-obx-receipt-to");

    return is_printable(to, QUEUE_MAX) && to.len >= sizeof(queue_prefix) &&
           memcmp(to.p, queue_prefix, sizeof(queue_prefix) - 1) == 0 &&
           names_group(header_text(item, "x-obx-receipt-from"), group) &&
           is_printable(header_text(item, "x-obx-receipt-token"), TOKEN_MAX) &&
           is_printable(item->msg.message_id, ID_MAX);
}

bool receipts_may_reject(const struct item *item)
{
    return item->why.code != OBX_E_CONFLICT;
}

/* ---- the body ---- */

static enum obx_code add_escaped(struct obx_buf *body, unsigned char c)
{
    char escape[ESCAPE_SIZE];

    if (c == '"' || c == '\\')
        (void)snprintf(escape, sizeof(escape), "\\%c", c);
    else
        (void)snprintf(escape, sizeof(escape), "\\u%04x", (unsigned)c);
    return buf_add_text(body, escape);
}

/* What is not UTF-8 (a handler's reason may be anything) loses its bytes outside of ASCII. */
static enum obx_code add_string(struct obx_buf *body, struct obx_bytes text)
{
    bool is_utf8 = utf8_is_valid(text);
    const unsigned char *at = text.p;
    enum obx_code rc = buf_add_text(body, "\"");

    for (size_t i = 0; i < text.len && rc == OBX_OK; i++) {
        if (at[i] < ' ' || at[i] == '"' || at[i] == '\\')
            rc = add_escaped(body, at[i] == 0 ? ' ' : at[i]);
        else
            rc = buf_add(body, at[i] > '~' && !is_utf8 ? (const void *)"?" : &at[i], 1);
    }
    return rc == OBX_OK ? buf_add_text(body, "\"") : rc;
}

static enum obx_code add_member(struct obx_buf *body, const char *name, struct obx_bytes value)
{
    enum obx_code rc = buf_addf(body, "\"%s\":", name);

    return rc == OBX_OK ? add_string(body, value) : rc;
}

static enum obx_code add_receipt(struct obx_buf *body, const struct item *item, const char *group,
                                 bool is_rejected)
{
    enum obx_code rc = buf_add_text(body, body->len == 0 ? "{\"receipts\":[{" : ",{");

    if (rc == OBX_OK)
        rc = add_member(body, "message_id", item->msg.message_id);
    if (rc == OBX_OK)
        rc = buf_add_text(body, ",");
    if (rc == OBX_OK)
        rc = add_member(body, "group", bytes_of(group));
    if (rc == OBX_OK)
        rc = buf_add_text(body,
                          is_rejected ? ",\"outcome\":\"rejected\"," : ",\"outcome\":\"applied\",");
    if (rc == OBX_OK && is_rejected)
        rc = add_member(body, "reason", bytes_of(item->why.text));
    if (rc == OBX_OK && is_rejected)
        rc = buf_add_text(body, ",");
    if (rc == OBX_OK)
        rc = add_member(body, "token", header_text(item, "x-obx-receipt-token"));
    return rc == OBX_OK ? buf_add_text(body, "}") : rc;
}

/* ---- batches ---- */

static void free_batch(struct receipt_batch *batch)
{
    buf_fini(&batch->body);
    obx_free(batch->queue);
    obx_free(batch);
}

static void end_batch(struct receipts *receipts, struct receipt_batch *batch, bool is_reported)
{
    struct item *item = NULL;

    receipts->held -= batch->items.count;
    while ((item = item_list_pop(&batch->items)) != NULL)
        receipts->on_done(item, is_reported, receipts->ctx);
    free_batch(batch);
}

static struct receipt_batch *open_batch(struct receipts *receipts, struct obx_bytes queue)
{
    struct receipt_batch *batch = NULL;

    for (batch = receipts->open; batch != NULL; batch = batch->next) {
        if (bytes_is(queue, batch->queue) && batch->items.count < BATCH_MAX)
            return batch;
    }
    batch = obx_calloc(1, sizeof(*batch));
    if (batch == NULL)
        return NULL;
    batch->queue = bytes_dup(queue);
    if (batch->queue == NULL) {
        free_batch(batch);
        return NULL;
    }
    (void)snprintf(batch->id, sizeof(batch->id), "receipts-%016" PRIx64 "%016" PRIx64, random_u64(),
                   random_u64());
    batch->number = ++receipts->last_number;
    batch->next = receipts->open;
    receipts->open = batch;
    return batch;
}

/* Queues are named by messages: one line a second is enough about those that are not there. */
static void say_given_up(struct receipts *receipts, struct obx_bytes queue, size_t count,
                         const char *why)
{
    const uint64_t now_ms = clock_now_ms();

    counters_add(receipts->counters, CNT_RECEIPTS_GIVEN_UP, count);
    receipts->unsaid += count;
    if (now_ms < receipts->say_due_ms)
        return;
    OBX_LOG(LOG_LVL_WARN, "consumer", "receipts.given_up",
            KV_STR("group", receipts->settings->group), KV_BYTES("queue", queue),
            KV_U64("receipts", receipts->unsaid), KV_STR("why", why));
    receipts->unsaid = 0;
    receipts->say_due_ms = now_ms + SAY_EVERY_MS;
}

/* What there is to report. A message that waits is reported when it is decided, and one that is too
 * old to tell whether it was applied is neither: its producer parks it. */
enum report { REPORT_NOTHING, REPORT_APPLIED, REPORT_REJECTED };

static enum report report_of(const struct item *item)
{
    switch (item->outcome) {
    case ITEM_APPLIED:
        return REPORT_APPLIED;
    case ITEM_DUPLICATE:
        if (!item->was_rejected)
            return REPORT_APPLIED;
        return receipts_may_reject(item) ? REPORT_REJECTED : REPORT_NOTHING;
    case ITEM_DEAD:
        return receipts_may_reject(item) ? REPORT_REJECTED : REPORT_NOTHING;
    case ITEM_PENDING:
    case ITEM_FAILED:
    case ITEM_REJECTED:
    case ITEM_BEHIND:
    case ITEM_CAREFUL:
    case ITEM_STALLED:
    case ITEM_PARKED:
    case ITEM_LETTER:
    case ITEM_SETTLED:
    case ITEM_DROPPED:
        break;
    }
    return REPORT_NOTHING;
}

/* Receipts that cannot go out keep this part of the window at most: the rest is for the others. */
static bool is_full(const struct receipts *receipts)
{
    return receipts->held >= (size_t)receipts->settings->prefetch / HELD_SHARE + 1;
}

bool receipts_take(struct receipts *receipts, struct item *item)
{
    const char *group = receipts->settings->group;
    enum report report = report_of(item);
    struct receipt_batch *batch = NULL;
    size_t before = 0;

    if (report == REPORT_NOTHING || !receipts_are_asked(item, group))
        return false;
    if (is_full(receipts)) {
        say_given_up(receipts, header_text(item, "x-obx-receipt-to"), 1, "too many wait already");
        return false;
    }
    batch = open_batch(receipts, header_text(item, "x-obx-receipt-to"));
    if (batch == NULL)
        return false;
    before = batch->body.len;
    if (add_receipt(&batch->body, item, group, report == REPORT_REJECTED) != OBX_OK) {
        buf_cut(&batch->body, before);
        return false;
    }
    item_list_push(&batch->items, item);
    receipts->held++;
    return true;
}

static void make_pending(struct receipts *receipts, struct receipt_batch *batch, uint64_t due_ms)
{
    batch->due_ms = due_ms;
    batch->next = receipts->pending;
    receipts->pending = batch;
    if (due_ms < receipts->next_due_ms)
        receipts->next_due_ms = due_ms;
}

/* The batches of this turn are complete. */
static void close_open(struct receipts *receipts)
{
    uint64_t now_ms = clock_now_ms();

    while (receipts->open != NULL) {
        struct receipt_batch *batch = receipts->open;

        receipts->open = batch->next;
        batch->give_up_ms = now_ms + PATIENCE_MS;
        if (batch->items.count == 0 || buf_add_text(&batch->body, "]}") != OBX_OK)
            end_batch(receipts, batch, true);
        else
            make_pending(receipts, batch, now_ms);
    }
}

/* ---- publishing ---- */

static void give_up(struct receipts *receipts, struct receipt_batch *batch, const char *why)
{
    say_given_up(receipts, bytes_of(batch->queue), batch->items.count, why);
    end_batch(receipts, batch, true);
}

static void try_later(struct receipts *receipts, struct receipt_batch *batch, const char *why)
{
    uint64_t now_ms = clock_now_ms();

    if (now_ms >= batch->give_up_ms) {
        give_up(receipts, batch, why);
        return;
    }
    make_pending(receipts, batch,
                 now_ms + backoff_nth_ms(RETRY_MIN_MS, RETRY_CAP_MS, ++batch->tries, random_u64()));
}

static struct receipt_batch *take_sent(struct receipts *receipts, uint64_t number)
{
    struct receipt_batch **at = &receipts->sent;
    struct receipt_batch *batch = NULL;

    while (*at != NULL && (*at)->number != number)
        at = &(*at)->next;
    batch = *at;
    if (batch != NULL)
        *at = batch->next;
    return batch;
}

static void on_result(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct receipts *receipts = ctx;
    struct receipt_batch *batch = take_sent(receipts, token);

    OBX_ASSERT(batch != NULL);
    if (outcome == PUB_CONFIRMED) {
        OBX_CRASH_POINT("consumer-receipt-confirmed");
        counters_add(receipts->counters, CNT_RECEIPTS, batch->items.count);
        end_batch(receipts, batch, true);
    } else if (receipts->is_ending) {
        end_batch(receipts, batch, false);
    } else if (outcome == PUB_RETURNED || outcome == PUB_DENIED) {
        /* Nobody listens there. A producer that does so later asks again, and its answer is in the
         * tables. */
        give_up(receipts, batch, why != NULL ? why : pub_outcome_name(outcome));
    } else {
        try_later(receipts, batch, why != NULL ? why : pub_outcome_name(outcome));
    }
}

static void publish(struct receipts *receipts, struct receipt_batch *batch)
{
    const struct bridge_message msg = {.exchange = bytes_of(""),
                                       .routing_key = bytes_of(batch->queue),
                                       .message_id = bytes_of(batch->id),
                                       .type = bytes_of("rowpost.receipts"),
                                       .content_type = bytes_of("application/json"),
                                       .app_id = bytes_of("rowpost"),
                                       .body = buf_bytes(&batch->body)};
    struct obx_err err = {0};

    OBX_CRASH_POINT("consumer-receipt-before-publish");
    if (bridge_publisher_publish(receipts->publisher, &msg, batch->number, &err) != OBX_OK) {
        try_later(receipts, batch, err.text);
        return;
    }
    batch->next = receipts->sent;
    receipts->sent = batch;
}

static void publish_due(struct receipts *receipts)
{
    struct receipt_batch *look = receipts->pending;
    uint64_t now_ms = clock_now_ms();

    receipts->pending = NULL;
    receipts->next_due_ms = UINT64_MAX;
    while (look != NULL) {
        struct receipt_batch *batch = look;

        look = batch->next;
        if (batch->due_ms > now_ms)
            make_pending(receipts, batch, batch->due_ms);
        else
            publish(receipts, batch);
    }
}

/* ---- for the I/O thread ---- */

enum obx_code receipts_init(struct receipts *receipts, const struct settings *settings,
                            struct counters *counters, receipts_done_fn *on_done, void *ctx,
                            struct obx_err *err)
{
    struct bridge_publisher_opts opts = {
        .bridge = settings->bridge, .window = WINDOW, .on_result = on_result, .ctx = receipts};

    *receipts = (struct receipts){.settings = settings,
                                  .counters = counters,
                                  .next_due_ms = UINT64_MAX,
                                  .on_done = on_done,
                                  .ctx = ctx};
    return bridge_publisher_create(&opts, &receipts->publisher, err);
}

static void end_list(struct receipts *receipts, struct receipt_batch **list)
{
    while (*list != NULL) {
        struct receipt_batch *batch = *list;

        *list = batch->next;
        end_batch(receipts, batch, false);
    }
}

void receipts_fini(struct receipts *receipts)
{
    receipts->is_ending = true;
    bridge_publisher_destroy(receipts->publisher); /* brings all that is on its way back */
    receipts->publisher = NULL;
    end_list(receipts, &receipts->open);
    end_list(receipts, &receipts->pending);
}

static bool is_in_use(const struct receipts *receipts)
{
    return receipts->pending != NULL ||
           bridge_publisher_state(receipts->publisher) != BRIDGE_DOWN ||
           bridge_publisher_inflight(receipts->publisher) > 0;
}

void receipts_service(struct receipts *receipts)
{
    close_open(receipts);
    if (!is_in_use(receipts))
        return;
    bridge_publisher_service(receipts->publisher);
    if (receipts->next_due_ms <= clock_now_ms())
        publish_due(receipts);
}

int receipts_fd(const struct receipts *receipts)
{
    return bridge_publisher_fd(receipts->publisher);
}

uint64_t receipts_next_due_ms(const struct receipts *receipts)
{
    uint64_t due = UINT64_MAX;

    if (!is_in_use(receipts))
        return UINT64_MAX;
    due = bridge_publisher_next_due_ms(receipts->publisher);
    return receipts->next_due_ms < due ? receipts->next_due_ms : due;
}
