/*
 * Owns a publisher: one link, one confirming channel on it, and the window of what is unconfirmed.
 *
 * Channel: CLOSED -> OPENING -> SELECTING -> READY, back to CLOSED with the connection, and from
 * any to OPENING when the broker closes the channel alone. Invariants: messages are in the window
 * exactly from a successful publish to their on_result; their tags are those of the present
 * channel, because the window is emptied whenever the channel ends. Writing never waits: frames go
 * to the link's buffer, and room() is 0 while much of it is unwritten.
 */
#include "bridge/publisher.h"

#include <stdio.h>
#include <string.h>

#include "amqp_errors.h"
#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "link.h"
#include "props.h"
#include "window.h"

enum {
    CHANNEL = 1,
    DEFAULT_WINDOW = 2000,
    DEFAULT_CONFIRM_MS = 30000,
    DEFAULT_BODY_MAX = 16 * 1024 * 1024,
    BATCH_BYTES = 32 * 1024,  /* written at once from this size on, or at the end of a turn */
    UNSENT_MAX = 1024 * 1024, /* no more messages are taken while so much waits for the kernel */
    LOG_INTERVAL_MS = 1000,
    HEADROOM_PART = 32,
    NAME_MAX_LEN = 255,
    RETURN_TEXT_MAX = 64,
    RETURN_WHY_MAX = 700, /* two names, the broker's text and words between them */
};

enum channel_state { CHANNEL_CLOSED, CHANNEL_OPENING, CHANNEL_SELECTING, CHANNEL_READY };

static const char *const channel_names[] = {
    [CHANNEL_CLOSED] = "closed",
    [CHANNEL_OPENING] = "opening",
    [CHANNEL_SELECTING] = "selecting",
    [CHANNEL_READY] = "ready",
};

static const unsigned channel_edges[] = {
    [CHANNEL_CLOSED] = 1U << CHANNEL_OPENING,
    [CHANNEL_OPENING] = 1U << CHANNEL_SELECTING | 1U << CHANNEL_CLOSED | 1U << CHANNEL_OPENING,
    [CHANNEL_SELECTING] = 1U << CHANNEL_READY | 1U << CHANNEL_CLOSED | 1U << CHANNEL_OPENING,
    [CHANNEL_READY] = 1U << CHANNEL_CLOSED | 1U << CHANNEL_OPENING,
};

/* A basic.return is a method, a header and bodies; this is how far the present one has come. */
enum return_state { RETURN_NONE, RETURN_HEADER, RETURN_BODY };

struct bridge_publisher {
    struct link link;
    struct window window;
    struct props_scratch scratch;
    struct bridge_publisher_stats stats;
    struct obx_err trouble; /* of the channel; the link has its own */
    bridge_result_fn *on_result;
    void *ctx;
    enum channel_state channel;
    enum return_state returning;
    uint16_t return_code;
    char return_why[RETURN_WHY_MAX];
    uint64_t return_left;    /* bytes of the returned body still to come */
    uint64_t channel_due_ms; /* for the answer while OPENING and SELECTING */
    uint64_t confirm_timeout_ms;
    uint64_t max_body_bytes;
    struct log_limit odd_acks;
    struct log_limit returns;
};

const char *pub_outcome_name(enum pub_outcome outcome)
{
    switch (outcome) {
    case PUB_CONFIRMED:
        return "confirmed";
    case PUB_NACKED:
        return "nacked";
    case PUB_RETURNED:
        return "returned";
    case PUB_DENIED:
        return "denied";
    case PUB_UNKNOWN:
        return "unknown";
    default:
        return "invalid";
    }
}

static void set_channel(struct bridge_publisher *pub, enum channel_state state)
{
    if (state == CHANNEL_CLOSED && pub->channel == CHANNEL_CLOSED)
        return;
    OBX_ASSERT((channel_edges[pub->channel] & 1U << state) != 0);
    OBX_LOG(LOG_LVL_DEBUG, "publisher", "channel.state",
            KV_STR("from", channel_names[pub->channel]), KV_STR("to", channel_names[state]));
    pub->channel = state;
    pub->channel_due_ms = clock_now_ms() + pub->link.options.rpc_timeout_ms;
    pub->returning = RETURN_NONE;
}

static void settled(uint64_t token, enum pub_outcome outcome, const char *why, void *ctx)
{
    struct bridge_publisher *pub = ctx;

    switch (outcome) {
    case PUB_CONFIRMED:
        pub->stats.confirmed++;
        break;
    case PUB_NACKED:
        pub->stats.nacked++;
        break;
    case PUB_RETURNED:
        pub->stats.returned++;
        break;
    case PUB_DENIED:
        pub->stats.denied++;
        break;
    case PUB_UNKNOWN:
    default:
        pub->stats.unknown++;
        break;
    }
    pub->on_result(token, outcome, why, pub->ctx);
}

static enum obx_code open_channel(struct bridge_publisher *pub, struct obx_err *err)
{
    amqp_channel_open_t open = {.out_of_band = amqp_empty_bytes};

    set_channel(pub, CHANNEL_OPENING);
    return link_send_method(&pub->link, CHANNEL, AMQP_CHANNEL_OPEN_METHOD, &open, err);
}

static void on_opened(void *ctx)
{
    struct bridge_publisher *pub = ctx;
    struct obx_err err = {0};

    if (open_channel(pub, &err) != OBX_OK)
        link_give_up(&pub->link, &err);
}

static void on_lost(void *ctx, const struct obx_err *why)
{
    struct bridge_publisher *pub = ctx;

    set_channel(pub, CHANNEL_CLOSED);
    window_lose(&pub->window, why->text, settled, pub);
}

static void on_blocked(void *ctx, bool blocked)
{
    struct bridge_publisher *pub = ctx;

    if (blocked)
        pub->stats.blocked++;
    else
        window_set_floor(&pub->window, clock_now_ms());
}

/* One that is settled already may be confirmed again; one that was never sent may not. */
static enum obx_code on_confirm(struct bridge_publisher *pub, uint64_t tag, bool multiple,
                                bool acked, struct obx_err *err)
{
    uint64_t dropped;

    if (tag >= window_next_tag(&pub->window))
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "confirm of message %llu, %llu were sent",
                        (unsigned long long)tag,
                        (unsigned long long)window_next_tag(&pub->window) - 1);
    if (window_confirm(&pub->window, tag, multiple, acked, settled, pub) == 0 &&
        log_limit_pass(&pub->odd_acks, LOG_INTERVAL_MS, &dropped))
        OBX_LOG(LOG_LVL_WARN, "publisher", "confirm.unknown", KV_U64("tag", tag),
                KV_BOOL("multiple", multiple), KV_U64("not_logged", dropped));
    return OBX_OK;
}

/*
 * A close names what made it happen only in its text. If that text names an exchange, a topic of
 * one, or the size of a message, then what became of those messages is known, and they can be kept
 * apart from the others, which would otherwise be published again together with them and share
 * their fate for ever. A topic comes first: its exchange, which the text names too, is not to
 * blame.
 */
static void mark_culprits(struct bridge_publisher *pub, const amqp_channel_close_t *method)
{
    struct obx_bytes exchange;
    struct obx_bytes topic;
    uint64_t size;

    if (method->reply_code == AMQP_ACCESS_REFUSED &&
        amqp_topic_of_text(method->reply_text, &exchange, &topic))
        (void)window_deny_route(&pub->window, window_route_hash(exchange, topic));
    else if ((method->reply_code == AMQP_NOT_FOUND || method->reply_code == AMQP_ACCESS_REFUSED) &&
             amqp_exchange_of_text(method->reply_text, &exchange))
        (void)window_return_exchange(&pub->window, bytes_hash(exchange), method->reply_code);
    else if (method->reply_code == AMQP_PRECONDITION_FAILED &&
             amqp_size_of_text(method->reply_text, &size))
        (void)window_refuse_size(&pub->window, size);
}

static enum obx_code on_channel_close(struct bridge_publisher *pub,
                                      const amqp_channel_close_t *method, struct obx_err *err)
{
    amqp_channel_close_ok_t ok = {0};
    const enum channel_state was = pub->channel;
    enum obx_code rc;

    (void)amqp_fail_close(&pub->trouble, method->reply_code, method->reply_text, AMQP_WORKING,
                          "channel closed by the broker");
    OBX_LOG(LOG_LVL_WARN, "publisher", "channel.closed", KV_ERR(&pub->trouble));
    mark_culprits(pub, method);
    if (was != CHANNEL_READY) { /* it will not go better at once */
        *err = pub->trouble;
        return err->code;
    }
    rc = link_send_method(&pub->link, CHANNEL, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok, err);
    if (rc == OBX_OK)
        rc = open_channel(pub, err);
    window_lose(&pub->window, pub->trouble.text, settled, pub);
    return rc;
}

/* What we have asked for is done: the channel is open, or it confirms. */
static enum obx_code on_answer(struct bridge_publisher *pub, amqp_method_number_t id,
                               struct obx_err *err)
{
    amqp_confirm_select_t select = {.nowait = 0};

    if (id == AMQP_CHANNEL_OPEN_OK_METHOD) {
        if (pub->channel != CHANNEL_OPENING)
            return obx_fail(err, OBX_E_MQ_PROTOCOL, "unexpected channel.open-ok");
        set_channel(pub, CHANNEL_SELECTING);
        return link_send_method(&pub->link, CHANNEL, AMQP_CONFIRM_SELECT_METHOD, &select, err);
    }
    if (pub->channel != CHANNEL_SELECTING)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "unexpected confirm.select-ok");
    set_channel(pub, CHANNEL_READY);
    obx_err_clear(&pub->trouble);
    return OBX_OK;
}

/* The names are not kept with a message in flight, but the broker says them again. */
static void begin_return(struct bridge_publisher *pub, const amqp_basic_return_t *method)
{
    char text[RETURN_TEXT_MAX];
    char exchange[NAME_MAX_LEN + 1];
    char key[NAME_MAX_LEN + 1];

    amqp_copy_text(method->reply_text, text, sizeof(text));
    amqp_copy_text(method->exchange, exchange, sizeof(exchange));
    amqp_copy_text(method->routing_key, key, sizeof(key));
    (void)snprintf(pub->return_why, sizeof(pub->return_why),
                   "%u %s: exchange '%s' has no queue bound for the routing key '%s'",
                   (unsigned)method->reply_code, text, exchange, key);
    pub->return_code = method->reply_code;
    pub->returning = RETURN_HEADER;
}

static enum obx_code on_method(struct bridge_publisher *pub, const amqp_method_t *method,
                               struct obx_err *err)
{
    const amqp_basic_ack_t *ack = method->decoded;
    const amqp_basic_nack_t *nack = method->decoded;

    if (pub->returning != RETURN_NONE)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "method 0x%08x inside a returned message",
                        (unsigned)method->id);
    switch (method->id) {
    case AMQP_BASIC_ACK_METHOD:
        return on_confirm(pub, ack->delivery_tag, ack->multiple != 0, true, err);
    case AMQP_BASIC_NACK_METHOD:
        return on_confirm(pub, nack->delivery_tag, nack->multiple != 0, false, err);
    case AMQP_BASIC_RETURN_METHOD:
        begin_return(pub, method->decoded);
        return OBX_OK;
    case AMQP_CHANNEL_CLOSE_METHOD:
        return on_channel_close(pub, method->decoded, err);
    case AMQP_CHANNEL_OPEN_OK_METHOD:
    case AMQP_CONFIRM_SELECT_OK_METHOD:
        return on_answer(pub, method->id, err);
    default:
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "method 0x%08x on a publishing channel",
                        (unsigned)method->id);
    }
}

/* The first one at once, of many one a second. */
static void log_return(struct bridge_publisher *pub, const amqp_basic_properties_t *properties)
{
    struct obx_bytes id = {.p = "", .len = 0};
    uint64_t dropped;

    if (!log_limit_pass(&pub->returns, LOG_INTERVAL_MS, &dropped))
        return;
    if ((properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) != 0)
        id = from_amqp(properties->message_id);
    OBX_LOG(LOG_LVL_WARN, "publisher", "message.returned", KV_BYTES("message_id", id),
            KV_STR("why", pub->return_why), KV_U64("not_logged", dropped));
}

static enum obx_code on_return_header(struct bridge_publisher *pub, const amqp_frame_t *frame,
                                      struct obx_err *err)
{
    const amqp_basic_properties_t *properties = frame->payload.properties.decoded;
    const uint64_t tag = properties != NULL ? props_tag(properties) : 0;

    if (pub->returning != RETURN_HEADER)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "content header without a returned message");
    if (properties == NULL || !window_return(&pub->window, tag, pub->return_code, pub->return_why))
        return obx_fail(err, OBX_E_MQ_PROTOCOL,
                        "a message was returned that is not in flight (%s %llu)", PROPS_TAG_HEADER,
                        (unsigned long long)tag);
    log_return(pub, properties);
    pub->return_left = frame->payload.properties.body_size;
    pub->returning = pub->return_left > 0 ? RETURN_BODY : RETURN_NONE;
    return OBX_OK;
}

static enum obx_code on_frame(void *ctx, const amqp_frame_t *frame, struct obx_err *err)
{
    struct bridge_publisher *pub = ctx;
    const size_t body_len =
        frame->frame_type == AMQP_FRAME_BODY ? frame->payload.body_fragment.len : 0;

    if (frame->channel != CHANNEL)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "frame on channel %u", (unsigned)frame->channel);
    switch (frame->frame_type) {
    case AMQP_FRAME_METHOD:
        return on_method(pub, &frame->payload.method, err);
    case AMQP_FRAME_HEADER:
        return on_return_header(pub, frame, err);
    case AMQP_FRAME_BODY:
        if (pub->returning != RETURN_BODY || body_len > pub->return_left)
            return obx_fail(err, OBX_E_MQ_PROTOCOL, "content body without a returned message");
        pub->return_left -= body_len;
        if (pub->return_left == 0)
            pub->returning = RETURN_NONE;
        return OBX_OK;
    default:
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "frame of type %u", (unsigned)frame->frame_type);
    }
}

static const struct link_ops publisher_ops = {
    .module = "publisher",
    .opened = on_opened,
    .frame = on_frame,
    .lost = on_lost,
    .blocked = on_blocked,
};

enum obx_code bridge_publisher_create(const struct bridge_publisher_opts *opts,
                                      struct bridge_publisher **out, struct obx_err *err)
{
    struct bridge_publisher *pub;
    enum obx_code rc;

    *out = NULL;
    if (opts->on_result == NULL)
        return obx_fail(err, OBX_E_INVALID, "a publisher needs on_result");
    pub = obx_calloc(1, sizeof(*pub));
    if (pub == NULL)
        return obx_fail(err, OBX_E_NOMEM, "publisher");
    rc = link_init(&pub->link, &opts->bridge, &publisher_ops, pub, err);
    if (rc == OBX_OK)
        rc = window_init(&pub->window, opts->window != 0 ? opts->window : DEFAULT_WINDOW, err);
    if (rc != OBX_OK) {
        link_fini(&pub->link);
        obx_free(pub);
        return rc;
    }
    pub->on_result = opts->on_result;
    pub->ctx = opts->ctx;
    pub->confirm_timeout_ms =
        opts->confirm_timeout_ms != 0 ? opts->confirm_timeout_ms : DEFAULT_CONFIRM_MS;
    pub->max_body_bytes = opts->max_body_bytes != 0 ? opts->max_body_bytes : DEFAULT_BODY_MAX;
    *out = pub;
    return OBX_OK;
}

void bridge_publisher_drop(struct bridge_publisher *pub)
{
    if (pub == NULL)
        return;
    link_abandon(&pub->link);
    bridge_publisher_destroy(pub);
}

void bridge_publisher_destroy(struct bridge_publisher *pub)
{
    if (pub == NULL)
        return;
    link_flush(&pub->link);
    set_channel(pub, CHANNEL_CLOSED);
    window_lose(&pub->window, "publisher closed", settled, pub);
    link_fini(&pub->link);
    window_fini(&pub->window);
    props_fini(&pub->scratch);
    obx_free(pub);
}

/* RabbitMQ adds headers to a message (x-delivery-count, x-death, ...) and does not split the frame
 * that holds them: many clients cannot read one that was full before. */
static uint32_t header_frame_max(const struct bridge_publisher *pub)
{
    return pub->link.frame_max - pub->link.frame_max / HEADROOM_PART;
}

static enum obx_code write_frames(struct bridge_publisher *pub, const struct bridge_message *msg,
                                  uint64_t tag)
{
    struct outbuf *out = &pub->link.out;
    const uint32_t frame_max = pub->link.frame_max;
    amqp_basic_properties_t properties;
    amqp_basic_publish_t publish = {.exchange = to_amqp(msg->exchange),
                                    .routing_key = to_amqp(msg->routing_key),
                                    .mandatory = 1};
    enum obx_code rc = props_encode(&pub->scratch, msg, tag, &properties);

    if (rc == OBX_OK)
        rc = outbuf_method(out, frame_max, CHANNEL, AMQP_BASIC_PUBLISH_METHOD, &publish);
    if (rc == OBX_OK)
        rc = outbuf_header(out, header_frame_max(pub), CHANNEL, &properties, msg->body.len);
    if (rc == OBX_OK)
        rc = outbuf_body(out, frame_max, CHANNEL, msg->body);
    return rc;
}

static enum obx_code append(struct bridge_publisher *pub, const struct bridge_message *msg,
                            uint64_t token, struct obx_err *err)
{
    const struct window_entry entry = {.token = token,
                                       .exchange_hash = bytes_hash(msg->exchange),
                                       .route_hash =
                                           window_route_hash(msg->exchange, msg->routing_key),
                                       .body_len = msg->body.len,
                                       .now_ms = clock_now_ms()};
    const size_t before = outbuf_pending(&pub->link.out);
    const uint64_t tag = window_next_tag(&pub->window);
    enum obx_code rc = window_push(&pub->window, &entry);

    if (rc != OBX_OK)
        return obx_fail(err, rc, "publish window");
    rc = write_frames(pub, msg, tag);
    if (rc == OBX_OK)
        return OBX_OK;
    outbuf_truncate(&pub->link.out, before);
    window_pop(&pub->window);
    if (rc == OBX_E_TOO_LARGE)
        return obx_fail(err, OBX_E_FORMAT, "properties and headers of more than %u bytes",
                        header_frame_max(pub));
    return obx_fail(err, rc, "message of %zu bytes", msg->body.len);
}

enum obx_code bridge_publisher_publish(struct bridge_publisher *pub,
                                       const struct bridge_message *msg, uint64_t token,
                                       struct obx_err *err)
{
    enum obx_code rc = props_check(msg, pub->max_body_bytes, err);

    if (rc != OBX_OK)
        return rc;
    if (pub->link.state == LINK_BLOCKED)
        return obx_fail(err, OBX_E_MQ_BLOCKED, "%s", pub->link.trouble.text);
    if (pub->link.state != LINK_OPEN || pub->channel != CHANNEL_READY)
        return obx_fail(err, OBX_E_MQ_GONE, "not connected");
    if (bridge_publisher_room(pub) == 0)
        return obx_fail(err, OBX_E_FULL, "publish window of %u messages", pub->window.capacity);
    rc = append(pub, msg, token, err);
    if (rc != OBX_OK)
        return rc;
    pub->stats.published++;
    /* Alone in the window it goes at once; with others it may share a write with those that follow.
     */
    if (pub->window.count == 1 || outbuf_pending(&pub->link.out) >= BATCH_BYTES)
        link_flush(&pub->link);
    else
        link_want_write(&pub->link);
    return OBX_OK;
}

static uint64_t deadline_ms(const struct bridge_publisher *pub)
{
    const uint64_t oldest = window_oldest_ms(&pub->window);

    if (pub->channel == CHANNEL_OPENING || pub->channel == CHANNEL_SELECTING)
        return pub->channel_due_ms;
    if (pub->link.state != LINK_OPEN || oldest == UINT64_MAX)
        return UINT64_MAX;
    return oldest + pub->confirm_timeout_ms;
}

static void check_deadline(struct bridge_publisher *pub)
{
    struct obx_err err = {0};

    if (!link_is_connected(&pub->link) || clock_now_ms() < deadline_ms(pub))
        return;
    if (pub->channel == CHANNEL_READY)
        (void)obx_fail(&err, OBX_E_TIMEOUT, "no confirm from the broker for %llu ms",
                       (unsigned long long)pub->confirm_timeout_ms);
    else
        (void)obx_fail(&err, OBX_E_TIMEOUT, "no answer from the broker while opening a channel");
    link_give_up(&pub->link, &err);
}

void bridge_publisher_service(struct bridge_publisher *pub)
{
    link_service(&pub->link);
    check_deadline(pub);
}

uint32_t bridge_publisher_room(const struct bridge_publisher *pub)
{
    if (pub->link.state != LINK_OPEN || pub->channel != CHANNEL_READY ||
        outbuf_pending(&pub->link.out) >= UNSENT_MAX)
        return 0;
    return window_room(&pub->window);
}

uint32_t bridge_publisher_inflight(const struct bridge_publisher *pub)
{
    return pub->window.count;
}

int bridge_publisher_fd(const struct bridge_publisher *pub)
{
    return link_fd(&pub->link);
}

uint64_t bridge_publisher_next_due_ms(const struct bridge_publisher *pub)
{
    const uint64_t link_due = link_next_due_ms(&pub->link);
    const uint64_t own_due = deadline_ms(pub);

    return own_due < link_due ? own_due : link_due;
}

enum bridge_state bridge_publisher_state(const struct bridge_publisher *pub)
{
    const enum bridge_state state = link_bridge_state(&pub->link);

    return state == BRIDGE_UP && pub->channel != CHANNEL_READY ? BRIDGE_DOWN : state;
}

const struct obx_err *bridge_publisher_trouble(const struct bridge_publisher *pub)
{
    return pub->link.trouble.code != OBX_OK ? &pub->link.trouble : &pub->trouble;
}

void bridge_publisher_get_stats(const struct bridge_publisher *pub,
                                struct bridge_publisher_stats *out)
{
    *out = pub->stats;
    out->connects = pub->link.connects;
    out->disconnects = pub->link.disconnects;
}
