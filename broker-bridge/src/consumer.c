/*
 * Owns a consumer: one link, one channel on it, one subscription, and the delivery that is being
 * received.
 *
 * Subscription: CLOSED -> OPENING -> QOS -> CONSUMING -> READY; when the broker cancels it, READY
 * -> CLOSING -> WAITING, when the broker closes the channel (no such queue, consumer timeout, ...),
 * from any state -> WAITING, and from there OPENING again after the backoff. The owner's cancel
 * goes READY -> CANCELLING -> CANCELLED, where it stays: the channel then only carries answers.
 *
 * What the broker sends is never taken for granted: a method that does not belong to the state, a
 * frame on a channel that is closed, a tag that does not rise end the connection.
 *
 * Invariants: the epoch changes exactly when a channel ends, and with it all delivery tags; so an
 * answer under an old epoch can only be for a delivery that comes again. A channel is used for one
 * subscription and never for a second one.
 */
#include "bridge/consumer.h"

#include <string.h>

#include "amqp_errors.h"
#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "delivery.h"
#include "link.h"

enum {
    CHANNEL = 1,
    DEFAULT_PREFETCH = 1000,
    NAME_MAX_LEN = 255,
};

enum sub_state {
    SUB_CLOSED,     /* no connection                                         */
    SUB_OPENING,    /* channel.open sent                                     */
    SUB_QOS,        /* basic.qos sent                                        */
    SUB_CONSUMING,  /* basic.consume sent                                    */
    SUB_READY,      /* deliveries come                                       */
    SUB_CANCELLING, /* the owner's basic.cancel sent; deliveries still come  */
    SUB_CANCELLED,  /* no more deliveries come; answers go                   */
    SUB_CLOSING,    /* channel.close sent after the broker's cancel          */
    SUB_WAITING     /* connection, but no channel; next try at retry_ms      */
};

#define BIT(state) (1U << (state))

static const char *const sub_names[] = {
    [SUB_CLOSED] = "closed",       [SUB_OPENING] = "opening", [SUB_QOS] = "qos",
    [SUB_CONSUMING] = "consuming", [SUB_READY] = "ready",     [SUB_CANCELLING] = "cancelling",
    [SUB_CANCELLED] = "cancelled", [SUB_CLOSING] = "closing", [SUB_WAITING] = "waiting",
};

static const unsigned sub_edges[] = {
    [SUB_CLOSED] = BIT(SUB_OPENING),
    [SUB_OPENING] = BIT(SUB_QOS) | BIT(SUB_WAITING) | BIT(SUB_CLOSED),
    [SUB_QOS] = BIT(SUB_CONSUMING) | BIT(SUB_WAITING) | BIT(SUB_CLOSED),
    [SUB_CONSUMING] = BIT(SUB_READY) | BIT(SUB_WAITING) | BIT(SUB_CLOSED),
    [SUB_READY] = BIT(SUB_CANCELLING) | BIT(SUB_CLOSING) | BIT(SUB_WAITING) | BIT(SUB_CLOSED),
    [SUB_CANCELLING] = BIT(SUB_CANCELLED) | BIT(SUB_WAITING) | BIT(SUB_CLOSED),
    [SUB_CANCELLED] = BIT(SUB_WAITING) | BIT(SUB_CLOSED),
    [SUB_CLOSING] = BIT(SUB_WAITING) | BIT(SUB_CLOSED),
    [SUB_WAITING] = BIT(SUB_OPENING) | BIT(SUB_CLOSED),
};

struct bridge_consumer {
    struct link link;
    struct delivery_builder builder;
    struct backoff backoff; /* of the subscription; the link has its own */
    struct obx_err trouble; /* of the subscription; the link has its own */
    char *queue;
    char *wanted_tag;           /* "" : the broker makes one */
    char tag[NAME_MAX_LEN + 1]; /* of the present subscription */
    bridge_delivery_fn *on_delivery;
    bridge_consumer_state_fn *on_state;
    void *ctx;
    uint64_t
        answer_due_ms; /* for the broker's answer in OPENING, QOS, CONSUMING, CANCELLING, CLOSING */
    uint64_t retry_ms;
    uint64_t ready_since_ms;
    uint64_t last_tag; /* of the deliveries of this epoch */
    uint32_t epoch;
    enum sub_state sub;
    enum obx_code reported; /* what the owner heard last; OBX_OK: up */
    uint16_t prefetch;
    bool exclusive;
    bool cancelled;      /* wanted by the owner; sub says how far it is */
    bool close_crossed;  /* in CLOSING: the broker's own close has come */
    bool cancelled_told; /* the owner knows that no more deliveries come */
};

static void set_sub(struct bridge_consumer *consumer, enum sub_state state)
{
    OBX_ASSERT((sub_edges[consumer->sub] & BIT(state)) != 0);
    OBX_LOG(LOG_LVL_DEBUG, "consumer", "subscription.state", KV_STR("queue", consumer->queue),
            KV_STR("from", sub_names[consumer->sub]), KV_STR("to", sub_names[state]),
            KV_U64("epoch", consumer->epoch));
    consumer->sub = state;
    consumer->answer_due_ms = clock_now_ms() + consumer->link.options.rpc_timeout_ms;
}

static void notify(struct bridge_consumer *consumer, enum bridge_state state,
                   const struct obx_err *why)
{
    if (consumer->on_state != NULL)
        consumer->on_state(state, consumer->epoch, why, consumer->ctx);
}

static bool is_live(const struct bridge_consumer *consumer)
{
    return consumer->sub == SUB_READY || consumer->sub == SUB_CANCELLING ||
           consumer->sub == SUB_CANCELLED;
}

/* The channel is gone. The owner hears of it when it had one, and otherwise when the reason is a
 * new one. */
static void channel_ended(struct bridge_consumer *consumer, enum sub_state next,
                          const struct obx_err *why)
{
    const bool was_live = is_live(consumer);

    delivery_reset(&consumer->builder);
    consumer->epoch++;
    consumer->last_tag = 0;
    consumer->close_crossed = false;
    set_sub(consumer, next);
    if (was_live || consumer->reported != why->code) {
        consumer->reported = why->code;
        notify(consumer, BRIDGE_DOWN, why);
    }
}

static void plan_retry(struct bridge_consumer *consumer)
{
    const uint64_t now = clock_now_ms();

    if (consumer->ready_since_ms != 0 &&
        now - consumer->ready_since_ms >= consumer->link.options.reconnect_cap_ms)
        backoff_reset(&consumer->backoff);
    consumer->ready_since_ms = 0;
    consumer->retry_ms = now + backoff_next_ms(&consumer->backoff);
}

static enum obx_code open_channel(struct bridge_consumer *consumer, struct obx_err *err)
{
    amqp_channel_open_t open = {.out_of_band = amqp_empty_bytes};

    set_sub(consumer, SUB_OPENING);
    return link_send_method(&consumer->link, CHANNEL, AMQP_CHANNEL_OPEN_METHOD, &open, err);
}

static void on_opened(void *ctx)
{
    struct bridge_consumer *consumer = ctx;
    struct obx_err err = {0};

    if (open_channel(consumer, &err) != OBX_OK)
        link_give_up(&consumer->link, &err);
}

static void on_lost(void *ctx, const struct obx_err *why)
{
    struct bridge_consumer *consumer = ctx;

    if (consumer->sub == SUB_WAITING || consumer->sub == SUB_CLOSING)
        set_sub(consumer, SUB_CLOSED); /* its channel had ended before */
    else
        channel_ended(consumer, SUB_CLOSED, why);
    if (consumer->cancelled)
        link_close(&consumer->link);
}

static enum obx_code send_cancel(struct bridge_consumer *consumer, struct obx_err *err)
{
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_cstring_bytes(consumer->tag)};

    set_sub(consumer, SUB_CANCELLING);
    return link_send_method(&consumer->link, CHANNEL, AMQP_BASIC_CANCEL_METHOD, &cancel, err);
}

static enum obx_code subscribed(struct bridge_consumer *consumer, const amqp_basic_consume_ok_t *ok,
                                struct obx_err *err)
{
    (void)bytes_to_text(from_amqp(ok->consumer_tag), consumer->tag, sizeof(consumer->tag));
    set_sub(consumer, SUB_READY);
    consumer->ready_since_ms = clock_now_ms();
    consumer->reported = OBX_OK;
    obx_err_clear(&consumer->trouble);
    OBX_LOG(LOG_LVL_INFO, "consumer", "subscribed", KV_STR("queue", consumer->queue),
            KV_STR("tag", consumer->tag), KV_U64("epoch", consumer->epoch));
    notify(consumer, BRIDGE_UP, NULL);
    return consumer->cancelled && consumer->sub == SUB_READY ? send_cancel(consumer, err) : OBX_OK;
}

/* What we have asked for is done: each answer belongs to one state, and leads to the next request.
 */
static enum obx_code on_answer(struct bridge_consumer *consumer, const amqp_method_t *method,
                               struct obx_err *err)
{
    static const struct {
        amqp_method_number_t id;
        enum sub_state awaited_in;
        const char *name;
    } answers[] = {
        {AMQP_CHANNEL_OPEN_OK_METHOD, SUB_OPENING, "channel.open-ok"},
        {AMQP_BASIC_QOS_OK_METHOD, SUB_QOS, "basic.qos-ok"},
        {AMQP_BASIC_CONSUME_OK_METHOD, SUB_CONSUMING, "basic.consume-ok"},
        {AMQP_BASIC_CANCEL_OK_METHOD, SUB_CANCELLING, "basic.cancel-ok"},
    };
    amqp_basic_qos_t qos = {.prefetch_count = consumer->prefetch};
    amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(consumer->queue),
                                    .consumer_tag = amqp_cstring_bytes(consumer->wanted_tag),
                                    .exclusive = consumer->exclusive};

    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
        if (answers[i].id == method->id && answers[i].awaited_in != consumer->sub)
            return obx_fail(err, OBX_E_MQ_PROTOCOL, "unexpected %s", answers[i].name);
    switch (method->id) {
    case AMQP_CHANNEL_OPEN_OK_METHOD:
        set_sub(consumer, SUB_QOS);
        return link_send_method(&consumer->link, CHANNEL, AMQP_BASIC_QOS_METHOD, &qos, err);
    case AMQP_BASIC_QOS_OK_METHOD:
        set_sub(consumer, SUB_CONSUMING);
        return link_send_method(&consumer->link, CHANNEL, AMQP_BASIC_CONSUME_METHOD, &consume, err);
    case AMQP_BASIC_CONSUME_OK_METHOD:
        return subscribed(consumer, method->decoded, err);
    case AMQP_BASIC_CANCEL_OK_METHOD:
        set_sub(consumer, SUB_CANCELLED);
        return OBX_OK;
    default:
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "method 0x%08x on a consuming channel",
                        (unsigned)method->id);
    }
}

/* Queue deleted, or its node gone. What is unacked goes back with the channel, so that nothing
 * stays half-owned. */
static enum obx_code on_broker_cancel(struct bridge_consumer *consumer, struct obx_err *err)
{
    amqp_channel_close_t close = {.reply_code = AMQP_REPLY_SUCCESS,
                                  .reply_text = amqp_cstring_bytes("cancelled")};

    if (consumer->sub == SUB_CANCELLING || consumer->sub == SUB_CANCELLED)
        return OBX_OK; /* that is what the owner wants */
    if (consumer->sub != SUB_READY)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "unexpected basic.cancel");
    (void)obx_fail(&consumer->trouble, OBX_E_MQ_CANCELLED, "queue '%s' deleted or moved",
                   consumer->queue);
    OBX_LOG(LOG_LVL_WARN, "consumer", "subscription.cancelled", KV_STR("queue", consumer->queue));
    channel_ended(consumer, SUB_CLOSING, &consumer->trouble);
    return link_send_method(&consumer->link, CHANNEL, AMQP_CHANNEL_CLOSE_METHOD, &close, err);
}

static enum obx_code on_channel_close(struct bridge_consumer *consumer,
                                      const amqp_channel_close_t *method, struct obx_err *err)
{
    amqp_channel_close_ok_t ok = {0};

    if (consumer->close_crossed)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "channel.close for a closed channel");
    if (link_send_method(&consumer->link, CHANNEL, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok, err) !=
        OBX_OK)
        return err->code;
    if (consumer->sub == SUB_CLOSING) { /* both at once: the answer to ours is still to come */
        consumer->close_crossed = true;
        return OBX_OK;
    }
    (void)amqp_fail_close(&consumer->trouble, method->reply_code, method->reply_text, AMQP_WORKING,
                          consumer->queue);
    /* 406 means a queue that differs only in answer to a declare; here it is a late or wrong
     * acknowledgement. */
    if (method->reply_code == AMQP_PRECONDITION_FAILED)
        consumer->trouble.code = OBX_E_MQ_CHANNEL;
    OBX_LOG(LOG_LVL_WARN, "consumer", "channel.closed", KV_STR("queue", consumer->queue),
            KV_ERR(&consumer->trouble));
    plan_retry(consumer);
    channel_ended(consumer, SUB_WAITING, &consumer->trouble);
    return OBX_OK;
}

/* Tags rise; one that came before would be answered for another message. */
static enum obx_code on_deliver(struct bridge_consumer *consumer,
                                const amqp_basic_deliver_t *method, struct obx_err *err)
{
    if (consumer->sub != SUB_READY && consumer->sub != SUB_CANCELLING)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "delivery without a subscription");
    if (method->delivery_tag <= consumer->last_tag)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "delivery %llu after delivery %llu",
                        (unsigned long long)method->delivery_tag,
                        (unsigned long long)consumer->last_tag);
    consumer->last_tag = method->delivery_tag;
    return delivery_begin(&consumer->builder, method, err);
}

static enum obx_code on_method(struct bridge_consumer *consumer, const amqp_method_t *method,
                               struct obx_err *err)
{
    if (consumer->builder.state != BUILD_NONE && method->id != AMQP_CHANNEL_CLOSE_METHOD)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "method 0x%08x inside a delivery",
                        (unsigned)method->id);
    switch (method->id) {
    case AMQP_BASIC_DELIVER_METHOD:
        return on_deliver(consumer, method->decoded, err);
    case AMQP_BASIC_CANCEL_METHOD:
        return on_broker_cancel(consumer, err);
    case AMQP_CHANNEL_CLOSE_METHOD:
        return on_channel_close(consumer, method->decoded, err);
    default:
        return on_answer(consumer, method, err);
    }
}

static enum obx_code on_content(struct bridge_consumer *consumer, const amqp_frame_t *frame,
                                struct obx_err *err)
{
    struct bridge_delivery *delivery;
    const enum obx_code rc = delivery_frame(&consumer->builder, frame, &delivery, err);

    if (rc != OBX_OK || delivery == NULL)
        return rc;
    delivery->epoch = consumer->epoch;
    consumer->on_delivery(delivery, consumer->ctx);
    return OBX_OK;
}

/* Our close is on its way: what the broker sent before it saw that is passed over. */
static enum obx_code on_frame_while_closing(struct bridge_consumer *consumer,
                                            const amqp_frame_t *frame, struct obx_err *err)
{
    const amqp_method_t *method = &frame->payload.method;

    if (frame->frame_type != AMQP_FRAME_METHOD)
        return OBX_OK;
    if (method->id == AMQP_CHANNEL_CLOSE_METHOD)
        return on_channel_close(consumer, method->decoded, err);
    if (method->id == AMQP_CHANNEL_CLOSE_OK_METHOD) {
        set_sub(consumer, SUB_WAITING);
        plan_retry(consumer);
    }
    return OBX_OK;
}

static enum obx_code on_frame(void *ctx, const amqp_frame_t *frame, struct obx_err *err)
{
    struct bridge_consumer *consumer = ctx;

    if (frame->channel != CHANNEL)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "frame on channel %u", (unsigned)frame->channel);
    if (consumer->sub == SUB_WAITING || consumer->sub == SUB_CLOSED)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "frame of type %u on a closed channel",
                        (unsigned)frame->frame_type);
    if (consumer->sub == SUB_CLOSING)
        return on_frame_while_closing(consumer, frame, err);
    switch (frame->frame_type) {
    case AMQP_FRAME_METHOD:
        return on_method(consumer, &frame->payload.method, err);
    case AMQP_FRAME_HEADER:
    case AMQP_FRAME_BODY:
        return on_content(consumer, frame, err);
    default:
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "frame of type %u", (unsigned)frame->frame_type);
    }
}

static const struct link_ops consumer_ops = {
    .module = "consumer",
    .opened = on_opened,
    .frame = on_frame,
    .lost = on_lost,
};

static enum obx_code fill(struct bridge_consumer *consumer, const struct bridge_consumer_opts *opts,
                          struct obx_err *err)
{
    enum obx_code rc = link_init(&consumer->link, &opts->bridge, &consumer_ops, consumer, err);

    if (rc != OBX_OK)
        return rc;
    consumer->queue = obx_strdup(opts->queue);
    consumer->wanted_tag = obx_strdup(opts->consumer_tag != NULL ? opts->consumer_tag : "");
    if (consumer->queue == NULL || consumer->wanted_tag == NULL)
        return obx_fail(err, OBX_E_NOMEM, "consumer");
    consumer->prefetch = opts->prefetch != 0 ? opts->prefetch : DEFAULT_PREFETCH;
    consumer->exclusive = opts->exclusive;
    consumer->builder.body_max = opts->body_max;
    consumer->on_delivery = opts->on_delivery;
    consumer->on_state = opts->on_state;
    consumer->ctx = opts->ctx;
    backoff_init(&consumer->backoff, consumer->link.options.reconnect_min_ms,
                 consumer->link.options.reconnect_cap_ms);
    return OBX_OK;
}

enum obx_code bridge_consumer_create(const struct bridge_consumer_opts *opts,
                                     struct bridge_consumer **out, struct obx_err *err)
{
    struct bridge_consumer *consumer;
    enum obx_code rc;

    *out = NULL;
    if (opts->on_delivery == NULL)
        return obx_fail(err, OBX_E_INVALID, "a consumer needs on_delivery");
    if (opts->queue == NULL || opts->queue[0] == '\0' || strlen(opts->queue) > NAME_MAX_LEN)
        return obx_fail(err, OBX_E_CONFIG, "queue name empty or longer than 255 bytes");
    if (opts->consumer_tag != NULL && strlen(opts->consumer_tag) > NAME_MAX_LEN)
        return obx_fail(err, OBX_E_CONFIG, "consumer tag longer than 255 bytes");
    consumer = obx_calloc(1, sizeof(*consumer));
    if (consumer == NULL)
        return obx_fail(err, OBX_E_NOMEM, "consumer");
    rc = fill(consumer, opts, err);
    if (rc == OBX_OK)
        *out = consumer;
    else
        bridge_consumer_destroy(consumer);
    return rc;
}

void bridge_consumer_destroy(struct bridge_consumer *consumer)
{
    if (consumer == NULL)
        return;
    link_fini(&consumer->link);
    delivery_fini(&consumer->builder);
    obx_free(consumer->queue);
    obx_free(consumer->wanted_tag);
    obx_free(consumer);
}

static bool awaits_answer(const struct bridge_consumer *consumer)
{
    return consumer->sub == SUB_OPENING || consumer->sub == SUB_QOS ||
           consumer->sub == SUB_CONSUMING || consumer->sub == SUB_CANCELLING ||
           consumer->sub == SUB_CLOSING;
}

void bridge_consumer_service(struct bridge_consumer *consumer)
{
    struct obx_err err = {0};

    link_service(&consumer->link);
    if (awaits_answer(consumer) && clock_now_ms() >= consumer->answer_due_ms)
        (void)obx_fail(&err, OBX_E_TIMEOUT, "no answer from the broker while subscribing to '%s'",
                       consumer->queue);
    else if (consumer->sub == SUB_WAITING && !consumer->cancelled &&
             clock_now_ms() >= consumer->retry_ms)
        (void)open_channel(consumer, &err);
    if (err.code != OBX_OK)
        link_give_up(&consumer->link, &err);
    link_flush(&consumer->link);
    if (!consumer->cancelled_told && bridge_consumer_state(consumer) == BRIDGE_CLOSED) {
        consumer->cancelled_told = true;
        notify(consumer, BRIDGE_CLOSED, NULL);
    }
}

int bridge_consumer_fd(const struct bridge_consumer *consumer)
{
    return link_fd(&consumer->link);
}

uint64_t bridge_consumer_next_due_ms(const struct bridge_consumer *consumer)
{
    uint64_t due = link_next_due_ms(&consumer->link);

    if (!consumer->cancelled_told && bridge_consumer_state(consumer) == BRIDGE_CLOSED)
        return 0;
    if (awaits_answer(consumer) && consumer->answer_due_ms < due)
        due = consumer->answer_due_ms;
    if (consumer->sub == SUB_WAITING && !consumer->cancelled && consumer->retry_ms < due)
        due = consumer->retry_ms;
    return due;
}

enum bridge_state bridge_consumer_state(const struct bridge_consumer *consumer)
{
    if (consumer->sub == SUB_CANCELLED)
        return BRIDGE_CLOSED;
    if (is_live(consumer))
        return BRIDGE_UP;
    return consumer->cancelled && !awaits_answer(consumer) ? BRIDGE_CLOSED : BRIDGE_DOWN;
}

const struct obx_err *bridge_consumer_trouble(const struct bridge_consumer *consumer)
{
    return consumer->link.trouble.code != OBX_OK ? &consumer->link.trouble : &consumer->trouble;
}

void bridge_consumer_pause(struct bridge_consumer *consumer, bool paused)
{
    link_pause(&consumer->link, paused);
}

void bridge_consumer_cancel(struct bridge_consumer *consumer)
{
    struct obx_err err = {0};

    if (consumer->cancelled)
        return;
    consumer->cancelled = true;
    if (consumer->sub == SUB_READY && send_cancel(consumer, &err) != OBX_OK)
        consumer->link.broken = err;
    else if (consumer->sub == SUB_CLOSED)
        link_close(&consumer->link);
}

void bridge_consumer_distrust(struct bridge_consumer *consumer, const char *why)
{
    if (consumer->link.broken.code == OBX_OK)
        (void)obx_fail(&consumer->link.broken, OBX_E_MQ_PROTOCOL, "%s", why);
}

/* Answers to deliveries of earlier epochs have nobody to go to, and need none: those deliveries
 * come again. */
enum obx_code bridge_consumer_ack(struct bridge_consumer *consumer, uint32_t epoch, uint64_t tag,
                                  bool multiple, struct obx_err *err)
{
    amqp_basic_ack_t ack = {.delivery_tag = tag, .multiple = multiple};

    if (epoch != consumer->epoch)
        return OBX_OK;
    if (!is_live(consumer))
        return obx_fail(err, OBX_E_MQ_GONE, "not subscribed to '%s'", consumer->queue);
    return link_send_method(&consumer->link, CHANNEL, AMQP_BASIC_ACK_METHOD, &ack, err);
}
