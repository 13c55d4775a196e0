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
#include <sys/time.h>

#include "amqp_errors.h"
#include "base/alloc.h"
#include "base/log.h"
#include "link.h"

enum {
    CHANNEL = 1,
    NAME_MAX_LEN = 255,
    OWN_ARGS = 2, /* x-queue-type and x-single-active-consumer */
    WHAT_MAX = 600,
    MS_PER_S = 1000,
    US_PER_MS = 1000,
    GOODBYE_S = 1,
};

struct session {
    struct link link;     /* only its options and its connection are used */
    struct obx_err first; /* failure */
    unsigned failures;
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
    struct timeval timeout;
    enum obx_code rc;

    memset(session, 0, sizeof(*session));
    rc = link_init(&session->link, opts, &session_ops, session, err);
    if (rc != OBX_OK)
        return rc;
    rc = connect_any(session, err);
    if (rc != OBX_OK)
        return rc;
    timeout.tv_sec = session->link.options.rpc_timeout_ms / MS_PER_S;
    timeout.tv_usec = (suseconds_t)(session->link.options.rpc_timeout_ms % MS_PER_S) * US_PER_MS;
    if (amqp_set_rpc_timeout(session->link.conn, &timeout) != AMQP_STATUS_OK)
        return obx_fail(err, OBX_E_INVALID, "rpc timeout");
    return OBX_OK;
}

static void session_close(struct session *session)
{
    const struct timeval timeout = {.tv_sec = GOODBYE_S};

    if (session->link.conn != NULL &&
        amqp_set_rpc_timeout(session->link.conn, &timeout) == AMQP_STATUS_OK)
        (void)amqp_connection_close(session->link.conn, AMQP_REPLY_SUCCESS);
    link_fini(&session->link);
}

static enum obx_code need_channel(struct session *session, struct obx_err *err)
{
    if (session->has_channel)
        return OBX_OK;
    (void)amqp_channel_open(session->link.conn, CHANNEL);
    if (amqp_fail_reply(err, amqp_get_rpc_reply(session->link.conn), AMQP_WORKING,
                        "channel.open") != OBX_OK)
        return err->code;
    session->has_channel = true;
    return OBX_OK;
}

/* Only a refusal of this one thing lets the rest be looked at: the connection is still good. */
static bool is_refusal(const amqp_rpc_reply_t *reply)
{
    return reply->reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
           reply->reply.id == AMQP_CHANNEL_CLOSE_METHOD;
}

static enum obx_code confirm_close(struct session *session, struct obx_err *err)
{
    amqp_channel_close_ok_t ok = {0};
    const int status =
        amqp_send_method(session->link.conn, CHANNEL, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);

    session->has_channel = false;
    return status == AMQP_STATUS_OK
               ? OBX_OK
               : amqp_fail_status(err, status, AMQP_WORKING, "channel.close-ok");
}

/* The answer to one declare. OBX_OK: go on, whether it was refused (then it is noted) or not. */
static enum obx_code judge(struct session *session, const char *what, struct obx_err *err)
{
    const amqp_rpc_reply_t reply = amqp_get_rpc_reply(session->link.conn);
    struct obx_err refusal = {0};

    if (amqp_fail_reply(&refusal, reply, AMQP_WORKING, what) == OBX_OK) {
        amqp_maybe_release_buffers(session->link.conn);
        return OBX_OK;
    }
    if (!is_refusal(&reply)) {
        *err = refusal;
        return err->code;
    }
    OBX_LOG(LOG_LVL_ERROR, "topology", "refused", KV_ERR(&refusal));
    if (session->failures++ == 0)
        session->first = refusal;
    return confirm_close(session, err);
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
    char what[WHAT_MAX];

    if (check_name("exchange", exchange->name, err) != OBX_OK ||
        need_channel(session, err) != OBX_OK)
        return err->code;
    (void)snprintf(what, sizeof(what), "%s exchange '%s'", type, exchange->name);
    (void)amqp_exchange_declare(session->link.conn, CHANNEL, amqp_cstring_bytes(exchange->name),
                                amqp_cstring_bytes(type), mode == TOPOLOGY_VERIFY, 1, 0, 0,
                                amqp_empty_table);
    return judge(session, what, err);
}

static amqp_table_entry_t text_entry(const char *name, const char *text)
{
    return (amqp_table_entry_t){
        .key = amqp_cstring_bytes(name),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(text)}};
}

static amqp_table_entry_t arg_entry(const struct topology_arg *arg)
{
    if (arg->text != NULL)
        return text_entry(arg->name, arg->text);
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(arg->name),
                                .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = arg->number}};
}

/* entries has room for all arguments and our own. */
static amqp_table_t queue_table(const struct topology_queue *queue, amqp_table_entry_t *entries)
{
    int count = 0;

    entries[count++] = text_entry("x-queue-type", queue->type != NULL ? queue->type : "quorum");
    if (queue->single_active_consumer)
        entries[count++] =
            (amqp_table_entry_t){.key = amqp_cstring_bytes("x-single-active-consumer"),
                                 .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
    for (size_t i = 0; i < queue->arg_count; i++)
        entries[count++] = arg_entry(&queue->args[i]);
    return (amqp_table_t){.num_entries = count, .entries = entries};
}

static enum obx_code check_args(const struct topology_queue *queue, struct obx_err *err)
{
    for (size_t i = 0; i < queue->arg_count; i++) {
        if (check_name("queue argument", queue->args[i].name, err) != OBX_OK)
            return err->code;
    }
    return OBX_OK;
}

static enum obx_code apply_queue(struct session *session, const struct topology_queue *queue,
                                 enum topology_mode mode, struct obx_err *err)
{
    amqp_table_entry_t *entries;
    char what[WHAT_MAX];

    if (check_name("queue", queue->name, err) != OBX_OK || check_args(queue, err) != OBX_OK ||
        need_channel(session, err) != OBX_OK)
        return err->code;
    entries = obx_calloc(queue->arg_count + OWN_ARGS, sizeof(*entries));
    if (entries == NULL)
        return obx_fail(err, OBX_E_NOMEM, "queue '%s'", queue->name);
    (void)snprintf(what, sizeof(what), "%s queue '%s'",
                   queue->type != NULL ? queue->type : "quorum", queue->name);
    (void)amqp_queue_declare(session->link.conn, CHANNEL, amqp_cstring_bytes(queue->name),
                             mode == TOPOLOGY_VERIFY, 1, 0, 0, queue_table(queue, entries));
    obx_free(entries);
    return judge(session, what, err);
}

static enum obx_code apply_binding(struct session *session, const struct topology_binding *binding,
                                   struct obx_err *err)
{
    const char *key = binding->routing_key != NULL ? binding->routing_key : "";
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
    (void)amqp_queue_bind(session->link.conn, CHANNEL, amqp_cstring_bytes(binding->queue),
                          amqp_cstring_bytes(binding->exchange), amqp_cstring_bytes(key),
                          amqp_empty_table);
    return judge(session, what, err);
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

/* The first refusal, unless something worse ended the work. */
static enum obx_code summary(const struct session *session, struct obx_err *err)
{
    if (session->failures == 0)
        return OBX_OK;
    if (err != NULL)
        *err = session->first;
    if (session->failures > 1)
        obx_err_context(err, "%u refused, first", session->failures);
    return session->first.code;
}

enum obx_code bridge_topology_apply(const struct bridge_opts *opts, const struct topology *topology,
                                    enum topology_mode mode, struct obx_err *err)
{
    struct obx_err local = {0}; /* err may be NULL, and the steps read what they wrote */
    struct session session;
    enum obx_code rc = session_open(&session, opts, &local);

    if (rc == OBX_OK)
        rc = apply_all(&session, topology, mode, &local);
    if (rc == OBX_OK)
        rc = summary(&session, &local);
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
