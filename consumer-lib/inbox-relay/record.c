/*
 * Recording: which endpoints want a message, and a row for each of them. The code of the HTTP side
 * that consumer-lib calls, on its workers' threads and in their transactions: what it writes stands
 * or falls with the dedup row, so that a message is recorded once for each endpoint or not at all.
 */
#include "record.h"

#include <string.h>

#include "base/bytes.h"

enum { US_PER_MS = 1000 };

/* ---- topics ---- */

/* What is left of a text: `at` bytes are done; past the end when its last word was. */
struct rest {
    const char *text;
    size_t len;
    size_t at;
};

static bool is_over(const struct rest *rest)
{
    return rest->at > rest->len;
}

static struct obx_bytes first_word(const struct rest *rest)
{
    const char *p = rest->text + rest->at;
    const size_t left = rest->len - rest->at;
    const char *dot = memchr(p, '.', left);

    return (struct obx_bytes){.p = p, .len = dot == NULL ? left : (size_t)(dot - p)};
}

static void skip_word(struct rest *rest)
{
    rest->at += first_word(rest).len + 1;
}

static bool words_agree(struct obx_bytes pattern, struct obx_bytes word)
{
    return bytes_is(pattern, "*") || bytes_equal(pattern, word);
}

/* As with file names: the last `#` takes one word more whenever what follows it does not fit. Only
 * the last: what an earlier one could take instead, the last one can take as well. So the time is
 * bounded by the product of the lengths, whatever a producer writes into a topic. */
bool topic_match(const char *pattern, struct obx_bytes topic)
{
    struct rest p = {.text = pattern, .len = strlen(pattern)};
    struct rest t = {.text = topic.p, .len = topic.len};
    struct rest after_hash = {.at = 0};
    struct rest hash_took = {.at = 0};
    bool has_hash = false;

    while (!is_over(&t) || !is_over(&p)) {
        if (!is_over(&p) && bytes_is(first_word(&p), "#")) {
            skip_word(&p);
            has_hash = true;
            after_hash = p;
            hash_took = t;
        } else if (!is_over(&p) && !is_over(&t) && words_agree(first_word(&p), first_word(&t))) {
            skip_word(&p);
            skip_word(&t);
        } else if (has_hash && !is_over(&hash_took)) {
            skip_word(&hash_took);
            t = hash_took;
            p = after_hash;
        } else {
            return false;
        }
    }
    return true;
}

/* ---- rows ---- */

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

static enum obx_code insert(const struct notify_config *config,
                            const struct endpoint_config *endpoint, const struct obx_message *msg,
                            struct obx_tx *tx, struct obx_err *err)
{
    struct obx_value created = msg->created_us == 0 ? obx_null() : obx_u64(msg->created_us);
    /* An absent body is an empty one: the column is NOT NULL, and the call has a length of 0. */
    struct obx_value body = msg->body.p == NULL ? obx_text("") : obx_data(msg->body);

    return obx_tx_exec(tx, sql_insert,
                       OBX_ARGS(obx_text(config->group), obx_text(endpoint->name),
                                obx_u64((uint64_t)endpoint->schedule_ms[0] * US_PER_MS),
                                obx_data(msg->message_id), obx_data(msg->topic),
                                obx_data(msg->ordering_key), obx_data(msg->content_type),
                                obx_data(msg->source), obx_data(msg->traceparent), created, body),
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

static enum obx_verdict record_all(struct recorder *recorder, const struct notify_config *config,
                                   const struct obx_message *msg, struct obx_tx *tx)
{
    struct obx_err err = {0};
    size_t wanted = 0;

    for (size_t i = 0; i < config->endpoint_count; i++) {
        const struct endpoint_config *endpoint = &config->endpoints[i];

        if (!is_wanted(endpoint, msg->topic))
            continue;
        if (insert(config, endpoint, msg, tx, &err) != OBX_OK) {
            obx_tx_reason(tx, "%s", err.text);
            /* What the table cannot take now, for its size or its bytes, it can never take. */
            return err.code == OBX_E_DB_DATA ? OBX_REJECT : OBX_RETRY;
        }
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
