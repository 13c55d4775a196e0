/* Recording. The only code of inbox-relay that consumer-lib calls. */
#include "record.h"

#include "topic_match.h"

enum { US_PER_MS = 1000 };

static const char sql_insert[] =
    "INSERT INTO inbox_call (consumer_group, endpoint, due_at, message_id, topic,"
    " ordering_key, content_type, source, traceparent, created_at, body)"
    " VALUES (?, ?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, ?, ?, ?, ?, ?, ?,"
    " TIMESTAMPADD(MICROSECOND, ?, '1970-01-01'), ?)";

static bool is_wanted(const struct endpoint_config *endpoint, struct obx_bytes topic)
{
    for (size_t i = 0; i < endpoint->topics.count; i++) {
        if (topic_match(endpoint->topics.items[i], topic))
            return true;
    }
    return false;
}

/* An absent body is an empty one. */
static struct obx_value body_of(const struct obx_message *msg)
{
    return msg->body.p == NULL ? obx_text("") : obx_data(msg->body);
}

static enum obx_code insert(const struct notify_config *config,
                            const struct endpoint_config *endpoint, const struct obx_message *msg,
                            struct obx_tx *tx, struct obx_err *err)
{
    struct obx_value created = msg->created_us == 0 ? obx_null() : obx_u64(msg->created_us);

    return obx_tx_exec(
        tx, sql_insert,
        OBX_ARGS(obx_text(config->group), obx_text(endpoint->name),
                 obx_u64((uint64_t)endpoint->schedule_ms[0] * US_PER_MS), obx_data(msg->message_id),
                 obx_data(msg->topic), obx_data(msg->ordering_key), obx_data(msg->content_type),
                 obx_data(msg->source), obx_data(msg->traceparent), created, body_of(msg)),
        NULL, err);
}

static void note(struct recorder *recorder, const char *endpoint)
{
    struct outlet *outlet = outlets_get(recorder->outlets, endpoint);

    if (outlet == NULL)
        return;
    atomic_fetch_add(&outlet->stats.recorded, 1);
    /* The row is not committed yet: the keeper looks in some milliseconds, and again. */
    if (!atomic_exchange(&outlet->look, true))
        handover_kick(recorder->handover);
}

/* What the table cannot take, it can never take. */
static enum obx_verdict verdict_of(struct obx_tx *tx, const struct obx_err *err)
{
    obx_tx_reason(tx, "%s", err->text);
    return err->code == OBX_E_DB_DATA ? OBX_REJECT : OBX_RETRY;
}

static enum obx_verdict record_all(struct recorder *recorder, const struct notify_config *config,
                                   const struct obx_message *msg, struct obx_tx *tx)
{
    struct obx_err err = {0};
    size_t wanted = 0;

    for (size_t i = 0; i < config->endpoint_count; i++) {
        const struct endpoint_config *endpoint = &config->endpoints[i];

        if (!is_wanted(endpoint, msg->topic))
            continue;
        if (insert(config, endpoint, msg, tx, &err) != OBX_OK)
            return verdict_of(tx, &err);
        note(recorder, endpoint->name);
        wanted++;
    }
    atomic_fetch_add(&recorder->messages, 1);
    if (wanted == 0)
        atomic_fetch_add(&recorder->unmatched, 1);
    return OBX_APPLIED;
}

enum obx_verdict record_message(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct recorder *recorder = ctx;
    struct notify_config *config = config_box_get(recorder->box);
    enum obx_verdict verdict;

    if (msg->topic.p == NULL || msg->topic.len == 0) {
        obx_tx_reason(tx, "the message has no topic");
        verdict = OBX_REJECT;
    } else {
        verdict = record_all(recorder, config, msg, tx);
    }
    notify_config_unref(config);
    return verdict;
}
