/*
 * The checks of the broker: reachable, and each exchange and queue there and the same. A check changes
 * nothing: it asks passively first, and declares only what it has found, which the broker answers
 * with yes or with what differs.
 */
#include "check.h"

#include <stdio.h>

#include "check_fix.h"

enum { SUBJECT_MAX = 300, AMQP_NOT_FOUND = 404 };

static void failed(const struct relay_config *config, const char *subject, const char *section,
                   const struct obx_err *err, struct check_out *out)
{
    char fix[CHECK_FIX_MAX];

    check_fix_broker(config, section, err, fix);
    check_failed(out, subject, err->text, fix);
}

/* What works and is not as it should be is said on its line. */
static void on_warning(const char *text, void *ctx)
{
    (void)snprintf(ctx, OBX_ERR_TEXT_MAX, "%s", text);
}

/* A topology of one thing; subject is "exchange x". */
static void check_one(const struct relay_config *config, const struct topology *one,
                      const char *subject, struct check_out *out)
{
    const bool may_declare = config->topology_policy == TOPOLOGY_POLICY_DECLARE;
    char warning[OBX_ERR_TEXT_MAX] = "";
    struct topology all = *one;
    char section[SUBJECT_MAX + 2];
    struct obx_err err = {0};
    enum obx_code rc = bridge_topology_apply(&config->broker, one, TOPOLOGY_VERIFY, &err);

    all.on_warning = on_warning;
    all.ctx = warning;
    if (rc == OBX_OK && may_declare)
        rc = bridge_topology_apply(&config->broker, &all, TOPOLOGY_DECLARE, &err);
    snprintf(section, sizeof(section), "[%s]", subject);
    if (rc == OBX_OK && warning[0] != '\0')
        check_ok(out, subject,
                 "there, WARNING: %s; RabbitMQ drops what is returned more often than its limit "
                 "(20 by default from 4.0 on) unless it has a dead-letter exchange",
                 warning);
    else if (rc == OBX_OK)
        check_ok(out, subject, "there");
    else if (rc == OBX_E_MQ_TOPOLOGY && err.sys == AMQP_NOT_FOUND && may_declare)
        check_ok(out, subject,
                 "not there yet; the relay declares it when it starts, if '%s' may configure it",
                 config->broker.user);
    else if (rc == OBX_E_MQ_TOPOLOGY && err.sys == AMQP_NOT_FOUND)
        check_failed(out, subject, err.text, "create it, or set topology = declare in [broker]");
    else
        failed(config, subject, section, &err, out);
}

static void check_exchanges(const struct relay_config *config, struct check_out *out)
{
    char subject[SUBJECT_MAX];

    for (size_t i = 0; i < config->topology.exchange_count; i++) {
        const struct topology one = {.exchanges = &config->topology.exchanges[i],
                                     .exchange_count = 1};

        snprintf(subject, sizeof(subject), "exchange %s", one.exchanges->name);
        check_one(config, &one, subject, out);
    }
}

static void check_queues(const struct relay_config *config, struct check_out *out)
{
    char subject[SUBJECT_MAX];

    for (size_t i = 0; i < config->topology.queue_count; i++) {
        const struct topology one = {.queues = &config->topology.queues[i], .queue_count = 1};

        snprintf(subject, sizeof(subject), "queue %s", one.queues->name);
        check_one(config, &one, subject, out);
    }
}

void check_broker(const struct relay_config *config, struct check_out *out)
{
    struct obx_err err = {0};

    if (bridge_check(&config->broker, &err) != OBX_OK) {
        failed(config, "broker", NULL, &err, out);
        return;
    }
    check_ok(out, "broker", "connected to %s, vhost %s", config->broker.addresses,
             config->broker.vhost);
    if (config->topology_policy == TOPOLOGY_POLICY_NONE) {
        check_ok(out, "topology", "not looked at (topology = no)");
        return;
    }
    check_exchanges(config, out);
    check_queues(config, out);
}

enum obx_code check_queue_depth(const struct relay_config *config, const char *queue,
                                uint64_t *messages, uint64_t *consumers, struct obx_err *err)
{
    struct queue_depth depth;
    enum obx_code rc = bridge_queue_depth(&config->broker, queue, &depth, err);

    *messages = depth.messages;
    *consumers = depth.consumers;
    return rc;
}
