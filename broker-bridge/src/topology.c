/*
 * Declares or verifies exchanges, queues and bindings, and checks that one can log in. Each call
 * opens a connection of its own, waits for every answer up to rpc_timeout, and closes it again;
 * nothing is kept.
 *
 * A refused declare costs the channel, so a new one is opened and the rest is looked at too: an
 * operator sees all that is wrong in the log at once. The first one is the call's result.
 */
#include "bridge/topology.h"

#include <stdio.h>
#include <string.h>

#include "amqp_errors.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "link.h"

enum {
    CHANNEL = 1,
    NAME_MAX_LEN = 255,
    OWN_ARGS = 2, /* x-queue-type and x-single-active-consumer */
    WHAT_MAX = 600,
    GOODBYE_MS = 1000,
};

struct session {
    struct link link; /* only its options and its connection are used */
    const struct topology *topology;
    struct obx_err refusal; /* of the last request, when is_refused */
    struct obx_err first;   /* refusal that was noted */
    unsigned failures;
    struct queue_depth depth; /* of the last queue that was declared */
    bool is_refused;
    bool has_channel;
};

static const struct link_ops session_ops = {.module = "topology"};

/* All addresses in turn, from a random one; the last one's error is the result. */
static enum obx_code connect_any(struct session *session, struct obx_err *err)
{
    struct link *link = &session->link;
    const size_t count = link->options.address_count;
    enum obx_code rc = OBX_E_MQ_CONNECT;

    for (size_t i = 0; rc != OBX_OK && i < count; i++) {
        rc = link_open(link, &link->options.addresses[(link->next_address + i) % count], err);
        if (rc == OBX_OK)
            break;
        if (link->conn != NULL)
            (void)amqp_destroy_connection(link->conn);
        link->conn = NULL;
    }
    return rc;
}

static enum obx_code session_open(struct session *session, const struct bridge_opts *opts,
                                  struct obx_err *err)
{
    enum obx_code rc;

    memset(session, 0, sizeof(*session));
    rc = link_init(&session->link, opts, &session_ops, session, err);
    return rc == OBX_OK ? connect_any(session, err) : rc;
}

static void session_close(struct session *session)
{
    if (session->link.conn != NULL)
        link_say_goodbye(&session->link, clock_now_ms() + GOODBYE_MS);
    link_fini(&session->link);
}

/* Only a refusal of this one thing lets the rest be looked at: the connection is still good. */
static enum obx_code refused(struct session *session, const amqp_channel_close_t *close,
                             const char *what, struct obx_err *err)
{
    amqp_channel_close_ok_t ok = {0};

    (void)amqp_fail_close(&session->refusal, close->reply_code, close->reply_text, AMQP_WORKING,
                          what);
    session->is_refused = true;
    session->has_channel = false;
    if (outbuf_method(&session->link.out, session->link.frame_max, CHANNEL,
                      AMQP_CHANNEL_CLOSE_OK_METHOD, &ok) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "%s", what);
    return OBX_OK; /* written before what comes next */
}

/* The end of one thing: a refusal of it becomes part of the result. */
static enum obx_code note(struct session *session, enum obx_code rc)
{
    if (rc != OBX_OK || !session->is_refused)
        return rc;
    OBX_LOG(LOG_LVL_ERROR, "topology", "refused", KV_ERR(&session->refusal));
    if (session->failures++ == 0)
        session->first = session->refusal;
    session->is_refused = false;
    return OBX_OK;
}

/* Whether that is the answer to a request, which has to be this method or a refusal. */
static enum obx_code judge(struct session *session, const amqp_frame_t *frame,
                           amqp_method_number_t answer, const char *what, bool *has_answer,
                           struct obx_err *err)
{
    const amqp_method_number_t id = frame->payload.method.id;
    const amqp_connection_close_t *close = frame->payload.method.decoded;

    if (frame->frame_type != AMQP_FRAME_METHOD)
        return obx_fail(err, OBX_E_MQ_PROTOCOL, "%s: content instead of an answer", what);
    *has_answer = true;
    if (frame->channel == CHANNEL && id == answer) {
        const amqp_queue_declare_ok_t *queue = frame->payload.method.decoded;

        if (id == AMQP_QUEUE_DECLARE_OK_METHOD)
            session->depth = (struct queue_depth){.messages = queue->message_count,
                                                  .consumers = queue->consumer_count};
        return OBX_OK;
    }
    if (frame->channel == CHANNEL && id == AMQP_CHANNEL_CLOSE_METHOD)
        return refused(session, frame->payload.method.decoded, what, err);
    if (frame->channel == 0 && id == AMQP_CONNECTION_CLOSE_METHOD)
        return amqp_fail_close(err, close->reply_code, close->reply_text, AMQP_WORKING, what);
    *has_answer = false;
    if (frame->channel == 0 &&
        (id == AMQP_CONNECTION_BLOCKED_METHOD || id == AMQP_CONNECTION_UNBLOCKED_METHOD))
        return OBX_OK; /* that stops who publishes */
    return obx_fail(err, OBX_E_MQ_PROTOCOL, "%s: method 0x%08x instead of an answer", what,
                    (unsigned)id);
}

/* One request and its answer. OBX_OK: go on, whether it was refused (is_refused) or not. */
static enum obx_code call(struct session *session, amqp_method_number_t id, void *method,
                          amqp_method_number_t answer, const char *what, struct obx_err *err)
{
    const uint64_t due_ms = clock_now_ms() + session->link.options.rpc_timeout_ms;
    enum obx_code rc =
        outbuf_method(&session->link.out, session->link.frame_max, CHANNEL, id, method);
    bool has_answer = false;
    amqp_frame_t frame;

    if (rc != OBX_OK)
        return obx_fail(err, rc, "%s", what);
    while (rc == OBX_OK && !has_answer) {
        rc = link_exchange(&session->link, due_ms, &frame, err);
        if (rc != OBX_OK)
            obx_err_context(err, "%s", what);
        else
            rc = judge(session, &frame, answer, what, &has_answer, err);
    }
    return rc;
}

static enum obx_code need_channel(struct session *session, struct obx_err *err)
{
    amqp_channel_open_t open = {.out_of_band = amqp_empty_bytes};

    if (session->has_channel)
        return OBX_OK;
    session->has_channel = true;
    if (call(session, AMQP_CHANNEL_OPEN_METHOD, &open, AMQP_CHANNEL_OPEN_OK_METHOD, "channel.open",
             err) != OBX_OK)
        return err->code;
    if (!session->is_refused)
        return OBX_OK;
    *err = session->refusal;
    return err->code;
}

static enum obx_code check_name(const char *what, const char *name, struct obx_err *err)
{
    if (name == NULL || name[0] == '\0' || strlen(name) > NAME_MAX_LEN)
        return obx_fail(err, OBX_E_CONFIG, "%s name empty or longer than 255 bytes", what);
    return OBX_OK;
}

static enum obx_code apply_exchange(struct session *session,
                                    const struct topology_exchange *exchange,
                                    enum topology_mode mode, struct obx_err *err)
{
    const char *type = exchange->type != NULL ? exchange->type : "direct";
    amqp_exchange_declare_t declare = {
        .type = amqp_cstring_bytes(type), .passive = mode == TOPOLOGY_VERIFY, .durable = 1};
    char what[WHAT_MAX];

    if (check_name("exchange", exchange->name, err) != OBX_OK ||
        need_channel(session, err) != OBX_OK)
        return err->code;
    (void)snprintf(what, sizeof(what), "%s exchange '%s'", type, exchange->name);
    declare.exchange = amqp_cstring_bytes(exchange->name);
    return note(session, call(session, AMQP_EXCHANGE_DECLARE_METHOD, &declare,
                              AMQP_EXCHANGE_DECLARE_OK_METHOD, what, err));
}

static amqp_table_entry_t text_entry(const char *name, const char *text)
{
    return (amqp_table_entry_t){
        .key = amqp_cstring_bytes(name),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(text)}};
}

/* entries has room for all arguments and our own. */
static amqp_table_t queue_table(const struct topology_queue *queue, bool with_preferred,
                                amqp_table_entry_t *entries)
{
    int count = 0;

    entries[count++] = text_entry("x-queue-type", queue->type != NULL ? queue->type : "quorum");
    if (queue->single_active_consumer)
        entries[count++] =
            (amqp_table_entry_t){.key = amqp_cstring_bytes("x-single-active-consumer"),
                                 .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
    for (size_t i = 0; i < queue->arg_count; i++) {
        const struct topology_arg *arg = &queue->args[i];

        if (arg->is_preferred && !with_preferred)
            continue;
        entries[count++] = arg->text != NULL
                               ? text_entry(arg->name, arg->text)
                               : (amqp_table_entry_t){.key = amqp_cstring_bytes(arg->name),
                                                      .value = {.kind = AMQP_FIELD_KIND_I64,
                                                                .value.i64 = arg->number}};
    }
    return (amqp_table_t){.num_entries = count, .entries = entries};
}

static enum obx_code declare_queue(struct session *session, const struct topology_queue *queue,
                                   enum topology_mode mode, bool with_preferred,
                                   struct obx_err *err)
{
    amqp_queue_declare_t declare = {.passive = mode == TOPOLOGY_VERIFY, .durable = 1};
    amqp_table_entry_t *entries;
    char what[WHAT_MAX];
    enum obx_code rc = need_channel(session, err);

    if (rc != OBX_OK)
        return rc;
    entries = obx_calloc(queue->arg_count + OWN_ARGS, sizeof(*entries));
    if (entries == NULL)
        return obx_fail(err, OBX_E_NOMEM, "queue '%s'", queue->name);
    (void)snprintf(what, sizeof(what), "%s queue '%s'",
                   queue->type != NULL ? queue->type : "quorum", queue->name);
    declare.queue = amqp_cstring_bytes(queue->name);
    declare.arguments = queue_table(queue, with_preferred, entries);
    rc =
        call(session, AMQP_QUEUE_DECLARE_METHOD, &declare, AMQP_QUEUE_DECLARE_OK_METHOD, what, err);
    obx_free(entries);
    return rc;
}

/* "inequivalent arg 'x-delivery-limit' for queue ...", about an argument that is only preferred. */
static bool differs_in_preferred(const struct session *session, const struct topology_queue *queue)
{
    char quoted[NAME_MAX_LEN + 3];

    if (!session->is_refused || session->refusal.sys != AMQP_PRECONDITION_FAILED)
        return false;
    for (size_t i = 0; i < queue->arg_count; i++) {
        (void)snprintf(quoted, sizeof(quoted), "'%s'", queue->args[i].name);
        if (queue->args[i].is_preferred && strstr(session->refusal.text, quoted) != NULL)
            return true;
    }
    return false;
}

/* The queue is there and another than we would make. Without the argument everything else about it
 * is compared; with another value of it the queue only has to be there. */
static enum obx_code take_as_it_is(struct session *session, const struct topology_queue *queue,
                                   struct obx_err *err)
{
    const struct obx_err why = session->refusal;
    enum obx_code rc;

    session->is_refused = false;
    rc = declare_queue(session, queue, TOPOLOGY_DECLARE, false, err);
    if (rc == OBX_OK && differs_in_preferred(session, queue)) {
        session->is_refused = false;
        rc = declare_queue(session, queue, TOPOLOGY_VERIFY, false, err);
    }
    if (rc != OBX_OK || session->is_refused)
        return rc;
    if (session->topology->on_warning != NULL)
        session->topology->on_warning(why.text, session->topology->ctx);
    else
        OBX_LOG(LOG_LVL_WARN, "topology", "queue.differs", KV_STR("text", why.text));
    return OBX_OK;
}

static enum obx_code apply_queue(struct session *session, const struct topology_queue *queue,
                                 enum topology_mode mode, struct obx_err *err)
{
    enum obx_code rc = check_name("queue", queue->name, err);

    for (size_t i = 0; rc == OBX_OK && i < queue->arg_count; i++)
        rc = check_name("queue argument", queue->args[i].name, err);
    if (rc != OBX_OK)
        return rc;
    rc = declare_queue(session, queue, mode, true, err);
    if (rc == OBX_OK && differs_in_preferred(session, queue))
        rc = take_as_it_is(session, queue, err);
    return note(session, rc);
}

static enum obx_code apply_binding(struct session *session, const struct topology_binding *binding,
                                   struct obx_err *err)
{
    const char *key = binding->routing_key != NULL ? binding->routing_key : "";
    amqp_queue_bind_t bind = {.routing_key = amqp_cstring_bytes(key)};
    char what[WHAT_MAX];

    if (check_name("exchange", binding->exchange, err) != OBX_OK ||
        check_name("queue", binding->queue, err) != OBX_OK)
        return err->code;
    if (strlen(key) > NAME_MAX_LEN)
        return obx_fail(err, OBX_E_CONFIG, "routing key longer than 255 bytes");
    if (need_channel(session, err) != OBX_OK)
        return err->code;
    (void)snprintf(what, sizeof(what), "binding of queue '%s' to exchange '%s'", binding->queue,
                   binding->exchange);
    bind.queue = amqp_cstring_bytes(binding->queue);
    bind.exchange = amqp_cstring_bytes(binding->exchange);
    return note(session,
                call(session, AMQP_QUEUE_BIND_METHOD, &bind, AMQP_QUEUE_BIND_OK_METHOD, what, err));
}

static enum obx_code apply_all(struct session *session, const struct topology *topology,
                               enum topology_mode mode, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; rc == OBX_OK && i < topology->exchange_count; i++)
        rc = apply_exchange(session, &topology->exchanges[i], mode, err);
    for (size_t i = 0; rc == OBX_OK && i < topology->queue_count; i++)
        rc = apply_queue(session, &topology->queues[i], mode, err);
    for (size_t i = 0; rc == OBX_OK && mode == TOPOLOGY_DECLARE && i < topology->binding_count; i++)
        rc = apply_binding(session, &topology->bindings[i], err);
    return rc;
}

enum obx_code bridge_topology_apply(const struct bridge_opts *opts, const struct topology *topology,
                                    enum topology_mode mode, struct obx_err *err)
{
    struct obx_err local = {0}; /* err may be NULL, and the steps read what they wrote */
    struct session session;
    enum obx_code rc = session_open(&session, opts, &local);

    session.topology = topology;
    if (rc == OBX_OK)
        rc = apply_all(&session, topology, mode, &local);
    if (rc == OBX_OK && session.failures > 0) { /* unless something worse ended the work */
        local = session.first;
        if (session.failures > 1)
            obx_err_context(&local, "%u refused, first", session.failures);
        rc = local.code;
    }
    session_close(&session);
    if (rc != OBX_OK && err != NULL)
        *err = local;
    return rc;
}

enum obx_code bridge_check(const struct bridge_opts *opts, struct obx_err *err)
{
    struct session session;
    const enum obx_code rc = session_open(&session, opts, err);

    session_close(&session);
    return rc;
}

enum obx_code bridge_queue_depth(const struct bridge_opts *opts, const char *queue,
                                 struct queue_depth *out, struct obx_err *err)
{
    const struct topology_queue look = {.name = queue};
    struct session session;
    struct obx_err local = {0};
    enum obx_code rc = check_name("queue", queue, &local);

    *out = (struct queue_depth){0};
    if (rc == OBX_OK) {
        rc = session_open(&session, opts, &local);
        if (rc == OBX_OK)
            rc = declare_queue(&session, &look, TOPOLOGY_VERIFY, false, &local);
        if (rc == OBX_OK && session.is_refused) {
            local = session.refusal;
            rc = local.code;
        }
        *out = session.depth;
        session_close(&session);
    }
    if (rc != OBX_OK && err != NULL)
        *err = local;
    return rc;
}
