/*
 * What one row of the key table cannot say: values that are right alone and wrong together, and the
 * forms of texts that are more than text. Run once by cfg_load, on the thread that loads.
 */
#include "relay_keys.h"

#include <string.h>
#include <strings.h>

#include "address.h"
#include "base/bytes.h"
#include "bridge/bridge.h"
#include "half/api/half_json.h"
#include "half/checkback/checkback.h"
#include "outbox/bell_msg.h"

enum { TABLE_NAME_MAX = 64, SHORT_TEXT_MAX = 255, TOKEN_MIN = 16 };

static void check_relay(const struct keys_relay *relay, struct cfg_report *report)
{
    struct address address;

    if (relay->doorbell_address[0] != '\0' && !address_parse(relay->doorbell_address, &address))
        cfg_complain(report, "relay", NULL, "doorbell_address",
                     "is not a numeric host:port, such as 127.0.0.1:8378");
    if (relay->alert_url[0] != '\0' && strncmp(relay->alert_url, "http://", 7) != 0 &&
        strncmp(relay->alert_url, "https://", 8) != 0)
        cfg_complain(report, "relay", NULL, "alert_url", "must begin with http:// or https://");
    if (relay->advertise_address[0] == '\0')
        return;
    if (!address_parse(relay->advertise_address, &address))
        cfg_complain(report, "relay", NULL, "advertise_address",
                     "is not a numeric host:port, such as 10.0.0.7:8378");
    else if (address_is_any(&address))
        cfg_complain(report, "relay", NULL, "advertise_address",
                     "cannot be rung: it stands for all addresses");
    else if (relay->doorbell_address[0] == '\0')
        cfg_complain(report, "relay", NULL, "advertise_address",
                     "is of no use without doorbell_address, on which those rings come in");
}

static void check_tls_pair(const char *section, const char *name, const char *cert, const char *key,
                           struct cfg_report *report)
{
    if ((cert[0] == '\0') != (key[0] == '\0'))
        cfg_complain(report, section, name, cert[0] == '\0' ? "tls_cert_file" : "tls_key_file",
                     "is missing: certificate and key come together");
}

static void check_broker(const struct keys_broker *broker, struct cfg_report *report)
{
    char why[OBX_ERR_TEXT_MAX];

    if (!bridge_addresses_are_valid(broker->addresses, why, sizeof(why)))
        cfg_complain(report, "broker", NULL, "addresses", "%s", why);
    if (broker->reconnect_min > broker->reconnect_max)
        cfg_complain(report, "broker", NULL, "reconnect_min", "is longer than reconnect_max");
    check_tls_pair("broker", NULL, broker->tls_cert_file, broker->tls_key_file, report);
}

/* The tuning in force for one source, or that of [lane]. */
static void check_tuning(const struct keys_lane *lane, uint32_t drain_ms, const char *section,
                         const char *name, struct cfg_report *report)
{
    if (lane->key_window > lane->window)
        cfg_complain(report, section, name, "key_window", "is larger than window");
    if (lane->poll_min > lane->poll_max)
        cfg_complain(report, section, name, "poll_min", "is longer than poll_max");
    if (lane->retry_min > lane->retry_max)
        cfg_complain(report, section, name, "retry_min", "is longer than retry_max");
    if (lane->receipt_timeout > lane->receipt_retry_max)
        cfg_complain(report, section, name, "receipt_timeout", "is longer than receipt_retry_max");
    if (lane->inline_size > lane->max_body)
        cfg_complain(report, section, name, "inline_size", "is larger than max_body");
    if (lane->lease <= drain_ms)
        cfg_complain(report, section, name, "lease",
                     "is not longer than relay.drain: another relay could take the outbox over "
                     "while this one still waits for confirms");
}

static uint64_t field_value(const void *base, const struct cfg_key *key)
{
    const unsigned char *at = (const unsigned char *)base + key->offset;
    uint32_t small;
    uint64_t large;

    if (key->size == sizeof(large)) {
        memcpy(&large, at, sizeof(large));
        return large;
    }
    memcpy(&small, at, sizeof(small));
    return small;
}

/* A source's own value may be 0, which its row has to allow; what is not 0 has the limits of
 * [lane]. */
static void check_lower_limits(const struct keys_source *source, struct cfg_report *report)
{
    for (size_t i = 0; i < relay_schema.section_count; i++) {
        const struct cfg_section *section = &relay_schema.sections[i];

        if (strcmp(section->name, "lane") != 0)
            continue;
        for (size_t k = 0; k < section->key_count; k++) {
            const struct cfg_key *key = &section->keys[k];
            uint64_t value = field_value(&source->lane, key);

            if (value != 0 && value < key->min)
                cfg_complain(report, "source", source->name, key->name,
                             "is below the least value of lane.%s", key->name);
        }
    }
}

static bool is_table_name(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len <= TABLE_NAME_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == len;
}

/*
 * A lane reads, publishes and deletes what its table has. These have the same columns or nearly so,
 * and mean something else: given up, awaited, not due. Compared without case, as servers may do.
 */
static bool is_other_table(const char *name)
{
    static const char *const all[] = {"outbox_parked",  "outbox_lease",   "outbox_awaiting",
                                      "outbox_receipt", "outbox_delayed", "outbox_secret",
                                      "outbox_journal", "half_message",   "half_part",
                                      "half_history",   "rowpost_schema", "half_barrier",
                                      "inbox_applied",  "inbox_parked",   "inbox_parked_piece",
                                      "inbox_call",     "outbox_audit",   "inbox_audit"};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcasecmp(name, all[i]) == 0)
            return true;
    }
    return false;
}

static void check_outboxes(const struct keys_source *source, struct cfg_report *report)
{
    for (size_t i = 0; i < source->outboxes.count; i++) {
        const char *outbox = source->outboxes.items[i];

        if (!is_table_name(outbox))
            cfg_complain(report, "source", source->name, "outboxes",
                         "'%s' is not a table name of 1 to 64 letters, digits and _", outbox);
        else if (is_other_table(outbox))
            cfg_complain(report, "source", source->name, "outboxes",
                         "'%s' is no outbox, but a table beside it; more outboxes are made by "
                         "outboxctl migrate --outbox NAME",
                         outbox);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(source->outboxes.items[k], outbox) == 0)
                cfg_complain(report, "source", source->name, "outboxes", "'%s' is there twice",
                             outbox);
        }
    }
}

static bool same_server(const struct keys_source *a, const struct keys_source *b)
{
    return strcmp(a->host, b->host) == 0 && a->port == b->port &&
           strcmp(a->socket, b->socket) == 0 && strcmp(a->database, b->database) == 0;
}

/* Two lanes of one process on one table would only wait for each other's lease. */
static void check_shared_outboxes(const struct keys_source *a, const struct keys_source *b,
                                  struct cfg_report *report)
{
    if (!same_server(a, b))
        return;
    for (size_t i = 0; i < a->outboxes.count; i++) {
        for (size_t k = 0; k < b->outboxes.count; k++) {
            if (strcmp(a->outboxes.items[i], b->outboxes.items[k]) == 0)
                cfg_complain(report, "source", b->name, "outboxes",
                             "'%s' of the same database belongs to [source %s] already",
                             b->outboxes.items[k], a->name);
        }
    }
}

/* Consumers report to the queue that a message names: the name's beginning keeps them from being
 * made to write into any other queue. */
static void check_receipt_queue(const struct keys_source *source, struct cfg_report *report)
{
    static const char prefix[] = "rowpost.receipts.";

    if (source->receipt_queue[0] != '\0' &&
        strncmp(source->receipt_queue, prefix, sizeof(prefix) - 1) != 0)
        cfg_complain(report, "source", source->name, "receipt_queue", "does not begin with %s",
                     prefix);
}

/* Each of two readers would get the other's reports and take them for forged ones. */
static void check_shared_receipts(const struct keys_source *a, const struct keys_source *b,
                                  struct cfg_report *report)
{
    if (b->receipt_queue[0] != '\0' && strcmp(a->receipt_queue, b->receipt_queue) == 0)
        cfg_complain(report, "source", b->name, "receipt_queue",
                     "'%s' belongs to [source %s] already", b->receipt_queue, a->name);
}

static void check_source(const struct keys_root *root, size_t index, struct cfg_report *report)
{
    const struct keys_source *source = &root->sources[index];
    const struct keys_lane lane = keys_lane_of(root, source);

    if (!bell_name_is_valid(bytes_of(source->name)))
        cfg_complain(report, "source", source->name, NULL,
                     "the name of a source is 1 to 64 of letters, digits, _ . - and $");
    if (source->host[0] == '\0' && source->socket[0] == '\0')
        cfg_complain(report, "source", source->name, "host", "is empty, and there is no socket");
    check_tls_pair("source", source->name, source->tls_cert_file, source->tls_key_file, report);
    check_receipt_queue(source, report);
    check_outboxes(source, report);
    check_lower_limits(source, report);
    check_tuning(&lane, root->relay.drain, "source", source->name, report);
    for (size_t i = 0; i < index; i++) {
        check_shared_outboxes(&root->sources[i], source, report);
        check_shared_receipts(&root->sources[i], source, report);
    }
}

static void check_topic(const struct keys_topic *topic, struct cfg_report *report)
{
    const char *star = strchr(topic->name, '*');

    if (strlen(topic->name) > SHORT_TEXT_MAX)
        cfg_complain(report, "topic", topic->name, NULL, "a topic has at most 255 bytes");
    if (star != NULL && star[1] != '\0')
        cfg_complain(report, "topic", topic->name, NULL,
                     "a '*' may stand only at the end of the name");
}

static void check_queue(const struct keys_queue *queue, struct cfg_report *report)
{
    struct obx_bytes part;
    const char *rest;

    for (size_t i = 0; i < queue->bind.count; i++) {
        if (!keys_split_bind(queue->bind.items[i], &part, &rest))
            cfg_complain(report, "queue", queue->name, "bind", "'%s' is not exchange:routing.key",
                         queue->bind.items[i]);
    }
    for (size_t i = 0; i < queue->arguments.count; i++) {
        if (!keys_split_argument(queue->arguments.items[i], &part, &rest))
            cfg_complain(report, "queue", queue->name, "arguments", "'%s' is not x-name=value",
                         queue->arguments.items[i]);
        else if (bytes_is(part, "x-queue-type") || bytes_is(part, "x-single-active-consumer"))
            cfg_complain(report, "queue", queue->name, "arguments",
                         "'%s' has a key of its own: type or single_active_consumer",
                         queue->arguments.items[i]);
    }
}

static void check_half(const struct keys_root *root, struct cfg_report *report)
{
    const struct keys_half *half = &root->half;
    bool is_known = false;

    if (half->source[0] == '\0')
        return;
    for (size_t i = 0; i < root->source_count; i++)
        is_known = is_known || strcmp(root->sources[i].name, half->source) == 0;
    if (!is_known)
        cfg_complain(report, "half", NULL, "source", "there is no [source %s] section",
                     half->source);
    if (half->http_port != 0 && strlen(half->token) < TOKEN_MIN)
        cfg_complain(
            report, "half", NULL, "token",
            "must have 16 characters at least: the API writes (http_port = 0 turns it off)");
    if (half->previous_token[0] != '\0' && strlen(half->previous_token) < TOKEN_MIN)
        cfg_complain(report, "half", NULL, "previous_token", "must have 16 characters at least");
    if (half->retry_min > half->retry_max)
        cfg_complain(report, "half", NULL, "retry_min", "is longer than retry_max");
    if (half->breaker_min > half->breaker_max)
        cfg_complain(report, "half", NULL, "breaker_min", "is longer than breaker_max");
}

static void check_producer(const struct keys_producer *producer, struct cfg_report *report)
{
    if (producer->check == CHECK_BY_HTTP && strncmp(producer->url, "http://", 7) != 0 &&
        strncmp(producer->url, "https://", 8) != 0)
        cfg_complain(report, "producer", producer->name, "url",
                     "must begin with http:// or https://");
    if (producer->check == CHECK_BY_BARRIER && producer->user[0] == '\0')
        cfg_complain(report, "producer", producer->name, "user", "is missing");
    if (producer->check == CHECK_BY_BARRIER && producer->database[0] == '\0')
        cfg_complain(report, "producer", producer->name, "database", "is missing");
    if (!half_producer_is_valid(bytes_of(producer->name)))
        cfg_complain(report, "producer", producer->name, NULL,
                     "the name of a producer is 1 to 64 of letters, digits, - . and _");
}

void relay_keys_check(const void *root_bytes, struct cfg_report *report)
{
    const struct keys_root *root = root_bytes;

    check_relay(&root->relay, report);
    check_broker(&root->broker, report);
    check_tuning(&root->lane, root->relay.drain, "lane", NULL, report);
    if (root->source_count == 0)
        cfg_complain(report, "source", NULL, NULL,
                     "there is no [source NAME] section, so there is nothing to relay");
    for (size_t i = 0; i < root->source_count; i++)
        check_source(root, i, report);
    for (size_t i = 0; i < root->topic_count; i++)
        check_topic(&root->topics[i], report);
    for (size_t i = 0; i < root->queue_count; i++)
        check_queue(&root->queues[i], report);
    check_half(root, report);
    for (size_t i = 0; i < root->producer_count; i++)
        check_producer(&root->producers[i], report);
}
