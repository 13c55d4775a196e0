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
#include "sql/db_hosts.h"

enum { TABLE_NAME_MAX = 64, SHORT_TEXT_MAX = 255, TOKEN_MIN = 16, PARTITIONED_NAME_MAX = 250 };

static bool is_http_url(const char *url)
{
    return url != NULL && (strncmp(url, "http://", strlen("http://")) == 0 ||
                           strncmp(url, "https://", strlen("https://")) == 0);
}

static void check_relay(const struct relay_config *relay, struct cfg_report *report)
{
    struct address address;

    if (relay->doorbell_address != NULL && !address_parse(relay->doorbell_address, &address))
        cfg_complain(report, "relay", NULL, "doorbell_address",
                     "is not a numeric host:port, such as 127.0.0.1:8378");
    if (relay->alert_url != NULL && !is_http_url(relay->alert_url))
        cfg_complain(report, "relay", NULL, "alert_url", "must begin with http:// or https://");
    if (relay->advertise_address == NULL)
        return;
    if (!address_parse(relay->advertise_address, &address))
        cfg_complain(report, "relay", NULL, "advertise_address",
                     "is not a numeric host:port, such as 10.0.0.7:8378");
    else if (address_is_any(&address))
        cfg_complain(report, "relay", NULL, "advertise_address",
                     "cannot be rung: it stands for all addresses");
    else if (relay->doorbell_address == NULL)
        cfg_complain(report, "relay", NULL, "advertise_address",
                     "is of no use without doorbell_address, on which those rings come in");
}

static void check_tls_pair(const char *section, const char *name, const char *cert, const char *key,
                           struct cfg_report *report)
{
    /* Said here: at the login the library would say it as an error of TLS, or not at all. */
    if ((cert == NULL) != (key == NULL))
        cfg_complain(report, section, name, cert == NULL ? "tls_cert_file" : "tls_key_file",
                     "is missing: certificate and key come together");
}

static void check_broker(const struct bridge_opts *broker, struct cfg_report *report)
{
    char why[OBX_ERR_TEXT_MAX];

    if (!bridge_addresses_are_valid(broker->addresses, why, sizeof(why)))
        cfg_complain(report, "broker", NULL, "addresses", "%s", why);
    if (broker->reconnect_min_ms > broker->reconnect_cap_ms)
        cfg_complain(report, "broker", NULL, "reconnect_min", "is longer than reconnect_max");
    check_tls_pair("broker", NULL, broker->tls.cert_file, broker->tls.key_file, report);
}

/* The tuning in force for one source, or that of [lane]. */
static void check_tuning(const struct lane_opts *lane, uint32_t drain_ms, const char *section,
                         const char *name, struct cfg_report *report)
{
    /* Pairs that contradict each other would be obeyed in one of the two, and nobody could say in
     * which. */
    if (lane->key_window > lane->window)
        cfg_complain(report, section, name, "key_window", "is larger than window");
    if (lane->poll_min_ms > lane->poll_max_ms)
        cfg_complain(report, section, name, "poll_min", "is longer than poll_max");
    if (lane->retry_min_ms > lane->retry_cap_ms)
        cfg_complain(report, section, name, "retry_min", "is longer than retry_max");
    if (lane->receipt_timeout_ms > lane->receipt_cap_ms)
        cfg_complain(report, section, name, "receipt_timeout", "is longer than receipt_retry_max");
    if (lane->inline_bytes > lane->max_body_bytes)
        cfg_complain(report, section, name, "inline_size", "is larger than max_body");
    if (lane->lease_ms <= drain_ms)
        cfg_complain(report, section, name, "lease",
                     "is not longer than relay.drain: another relay could take the outbox over "
                     "while this one still waits for confirms");
}

/*
 * A lane reads, publishes and deletes what its table has. These have the same columns or nearly so,
 * and mean something else: given up, awaited, not due. Compared without case, as servers may do.
 */
static bool is_other_table(const char *name)
{
    static const char *const all[] = {
        "outbox_parked",  "outbox_lease",  "outbox_awaiting",    "outbox_receipt",
        "outbox_delayed", "outbox_secret", "outbox_journal",     "half_message",
        "half_part",      "half_history",  "rowpost_schema",     "half_barrier",
        "inbox_applied",  "inbox_parked",  "inbox_parked_piece", "inbox_call",
        "outbox_audit",   "inbox_audit",   "inbox_member",       "inbox",
        "outbox_relay",   "outbox_action"};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcasecmp(name, all[i]) == 0)
            return true;
    }
    return false;
}

static void check_outboxes(const struct source_config *source, struct cfg_report *report)
{
    for (size_t i = 0; i < source->outbox_count; i++) {
        static const char allowed[] =
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
        const char *outbox = source->outboxes[i];
        const size_t len = strlen(outbox);

        /* Narrower than the server: the name is also one of a metric's label, of a datagram, of a
         * file. */
        if (len == 0 || len > TABLE_NAME_MAX || strspn(outbox, allowed) != len)
            cfg_complain(report, "source", source->name, "outboxes",
                         "'%s' is not a table name of 1 to 64 letters, digits and _", outbox);
        else if (is_other_table(outbox))
            cfg_complain(report, "source", source->name, "outboxes",
                         "'%s' is no outbox, but a table beside it; more outboxes are made by "
                         "outboxctl migrate --outbox NAME",
                         outbox);
        for (size_t k = 0; k < i; k++) {
            /* Without case: with lower_case_table_names = 1 both are one table, with a lease under
             * each of the two names, and two lanes would publish its rows side by side. */
            if (strcasecmp(source->outboxes[k], outbox) == 0)
                cfg_complain(report, "source", source->name, "outboxes",
                             "'%s' is there twice (the case of letters makes no other table)",
                             outbox);
        }
    }
}

static void check_hosts(const struct db_opts *db, const char *section, const char *name,
                        struct cfg_report *report)
{
    struct db_hosts hosts;
    struct obx_err err = {0};

    if (db->unix_socket == NULL && db_hosts_parse(db->host, db->port, &hosts, &err) != OBX_OK)
        cfg_complain(report, section, name, "host", "%s", err.text);
}

/* One server that both name is enough: after a failover both are at it. */
static bool same_server(const struct db_opts *a, const struct db_opts *b)
{
    const char *x = a->unix_socket, *y = b->unix_socket;
    struct db_hosts left, right;

    if (strcmp(a->database, b->database) != 0)
        return false;
    if (x != NULL || y != NULL)
        return x != NULL && y != NULL && strcmp(x, y) == 0;
    if (db_hosts_parse(a->host, a->port, &left, NULL) != OBX_OK ||
        db_hosts_parse(b->host, b->port, &right, NULL) != OBX_OK)
        return false; /* said by check_hosts */
    for (size_t i = 0; i < left.count; i++) {
        for (size_t k = 0; k < right.count; k++) {
            if (left.at[i].port == right.at[k].port &&
                strcasecmp(left.at[i].name, right.at[k].name) == 0)
                return true;
        }
    }
    return false;
}

/* Two lanes of one process on one table would only wait for each other's lease. */
static void check_shared_outboxes(const struct source_config *a, const struct source_config *b,
                                  struct cfg_report *report)
{
    if (!same_server(&a->lane.db, &b->lane.db))
        return;
    for (size_t i = 0; i < a->outbox_count; i++) {
        for (size_t k = 0; k < b->outbox_count; k++) {
            if (strcasecmp(a->outboxes[i], b->outboxes[k]) == 0)
                cfg_complain(report, "source", b->name, "outboxes",
                             "'%s' of the same database belongs to [source %s] already",
                             b->outboxes[k], a->name);
        }
    }
}

/* Consumers report to the queue that a message names: the name's beginning keeps them from being
 * made to write into any other queue. */
static void check_receipt_queue(const struct source_config *source, struct cfg_report *report)
{
    static const char prefix[] = "rowpost.receipts.";

    if (source->lane.receipt_queue != NULL &&
        strncmp(source->lane.receipt_queue, prefix, sizeof(prefix) - 1) != 0)
        cfg_complain(report, "source", source->name, "receipt_queue", "does not begin with %s",
                     prefix);
}

/* Each of two readers would get the other's reports and take them for forged ones. */
static void check_shared_receipts(const struct source_config *a, const struct source_config *b,
                                  struct cfg_report *report)
{
    const char *x = a->lane.receipt_queue, *y = b->lane.receipt_queue;

    if (x != NULL && y != NULL && strcmp(x, y) == 0)
        cfg_complain(report, "source", b->name, "receipt_queue",
                     "'%s' belongs to [source %s] already", y, a->name);
}

static void check_source(const struct relay_config *root, size_t index, struct cfg_report *report)
{
    const struct source_config *source = &root->sources[index];
    const struct db_opts *db = &source->lane.db;

    if (!bell_name_is_valid(bytes_of(source->name)))
        cfg_complain(report, "source", source->name, NULL,
                     "the name of a source is 1 to 64 of letters, digits, _ . - and $");
    if (db->host[0] == '\0' && db->unix_socket == NULL)
        cfg_complain(report, "source", source->name, "host", "is empty, and there is no socket");
    check_hosts(db, "source", source->name, report);
    check_tls_pair("source", source->name, db->tls_cert_file, db->tls_key_file, report);
    check_receipt_queue(source, report);
    check_outboxes(source, report);
    check_tuning(&source->lane, root->drain_ms, "source", source->name, report);
    for (size_t i = 0; i < index; i++) {
        check_shared_outboxes(&root->sources[i], source, report);
        check_shared_receipts(&root->sources[i], source, report);
    }
}

/* A headers exchange would look for headers on the pack, which has none of its messages'. */
static void check_pack(const struct relay_config *root, const struct topic_rule *topic,
                       struct cfg_report *report)
{
    const char *exchange = topic->exchange != NULL ? topic->exchange : root->exchange;

    for (size_t i = 0; topic->pack > 1 && i < root->exchange_count; i++) {
        if (strcmp(root->exchanges[i].name, exchange) == 0 &&
            strcmp(keys_exchange_types[root->exchanges[i].type], "headers") == 0)
            cfg_complain(
                report, "topic", topic->pattern, "pack",
                "cannot be with exchange '%s', which routes by the headers of each message",
                exchange);
    }
    if (topic->pack > 1 && topic->pack_bytes > root->lane.max_body_bytes)
        cfg_complain(report, "topic", topic->pattern, "pack_bytes", "is larger than lane.max_body");
}

static void check_topic(const struct relay_config *root, const struct topic_rule *topic,
                        struct cfg_report *report)
{
    /* Only at the end, so that of several patterns that fit the longest one is the narrowest. */
    const char *star = strchr(topic->pattern, '*');

    if (strlen(topic->pattern) > SHORT_TEXT_MAX)
        cfg_complain(report, "topic", topic->pattern, NULL, "a topic has at most 255 bytes");
    if (star != NULL && star[1] != '\0')
        cfg_complain(report, "topic", topic->pattern, NULL,
                     "a '*' may stand only at the end of the name");
    check_pack(root, topic, report);
}

static void check_exchange(const struct exchange_config *exchange, struct cfg_report *report)
{
    if (exchange->partitions > 0 && strcmp(keys_exchange_types[exchange->type], "topic") != 0)
        cfg_complain(report, "exchange", exchange->name, "partitions",
                     "needs type = topic: the partition is the first word of the routing key");
}

/* A queue that had fewer or more partitions than the exchange would miss keys, or wait for none. */
static void check_bind(const struct relay_config *root, const struct queue_config *queue,
                       const char *item, struct cfg_report *report)
{
    struct obx_bytes exchange;
    const char *routing_key;
    char name[SHORT_TEXT_MAX + 1];
    unsigned partitions = 0;

    if (!keys_split_bind(item, &exchange, &routing_key)) {
        cfg_complain(report, "queue", queue->name, "bind", "'%s' is not exchange:routing.key",
                     item);
        return;
    }
    if (bytes_to_text(exchange, name, sizeof(name)))
        partitions = relay_config_partitions(root, name);
    if (queue->partitions > 0 && queue->partitions != partitions)
        cfg_complain(report, "queue", queue->name, "partitions",
                     "is %u, and exchange '%s' has partitions = %u", queue->partitions, name,
                     partitions);
}

static void check_queue(const struct relay_config *root, const struct queue_config *queue,
                        struct cfg_report *report)
{
    struct obx_bytes part;
    const char *rest;

    for (size_t i = 0; i < queue->bind.count; i++)
        check_bind(root, queue, queue->bind.items[i], report);
    if (queue->partitions > 0 && strlen(queue->name) > PARTITIONED_NAME_MAX)
        cfg_complain(report, "queue", queue->name, "partitions",
                     "leaves no room for .0 and so on behind a name of more than %d bytes",
                     PARTITIONED_NAME_MAX);
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

static void check_half(const struct relay_config *root, struct cfg_report *report)
{
    const struct half_config *half = &root->half;
    bool is_known = false;

    if (half->source[0] == '\0') /* half-messages are off, and their keys mean nothing */
        return;
    for (size_t i = 0; i < root->source_count; i++)
        is_known = is_known || strcmp(root->sources[i].name, half->source) == 0;
    if (!is_known)
        cfg_complain(report, "half", NULL, "source", "there is no [source %s] section",
                     half->source);
    if (half->api.port != 0 && strlen(half->token) < TOKEN_MIN)
        cfg_complain(
            report, "half", NULL, "token",
            "must have 16 characters at least: the API writes (http_port = 0 turns it off)");
    if (half->previous_token[0] != '\0' && strlen(half->previous_token) < TOKEN_MIN)
        cfg_complain(report, "half", NULL, "previous_token", "must have 16 characters at least");
    if (half->check.backoff_min_ms > half->check.backoff_cap_ms)
        cfg_complain(report, "half", NULL, "retry_min", "is longer than retry_max");
    if (half->check.breaker_min_ms > half->check.breaker_cap_ms)
        cfg_complain(report, "half", NULL, "breaker_min", "is longer than breaker_max");
}

static void check_http_token(const struct relay_config *root, struct cfg_report *report)
{
    if (root->http_token[0] != '\0' && strlen(root->http_token) < TOKEN_MIN)
        cfg_complain(report, "relay", NULL, "http_token", "must have 16 characters at least");
}

static void check_console(const struct console_config *console, struct cfg_report *report)
{
    const char *const tokens[] = {console->reader_token, console->operator_token,
                                  console->admin_token};
    static const char *const keys[] = {"reader_token", "operator_token", "admin_token"};
    const size_t len = strlen(console->prefix);
    bool has_token = false;

    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
        has_token = has_token || tokens[i][0] != '\0';
        if (tokens[i][0] != '\0' && strlen(tokens[i]) < TOKEN_MIN)
            cfg_complain(report, "console", NULL, keys[i], "must have 16 characters at least");
        /* Who has one must not have another role by the same word. */
        for (size_t k = 0; k < i; k++)
            if (tokens[i][0] != '\0' && strcmp(tokens[i], tokens[k]) == 0)
                cfg_complain(report, "console", NULL, keys[i], "is the same as %s", keys[k]);
    }
    if (console->http.port != 0 && !has_token && console->proxy_peer_count == 0)
        cfg_complain(report, "console", NULL, "http_port",
                     "needs a token, or proxy_peers: nobody could log in");
    if (len > 0 && (console->prefix[0] != '/' || console->prefix[len - 1] == '/' ||
                    strspn(console->prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789-_./") != len))
        cfg_complain(
            report, "console", NULL, "prefix",
            "begins with a '/', does not end with one, and has letters, digits and -_. only");
}

static void check_producer(const struct check_producer *producer, struct cfg_report *report)
{
    if (producer->kind == CHECK_BY_HTTP && !is_http_url(producer->url))
        cfg_complain(report, "producer", producer->name, "url",
                     "must begin with http:// or https://");
    if (producer->kind == CHECK_BY_BARRIER && producer->db.user[0] == '\0')
        cfg_complain(report, "producer", producer->name, "user", "is missing");
    if (producer->kind == CHECK_BY_BARRIER && producer->db.database[0] == '\0')
        cfg_complain(report, "producer", producer->name, "database", "is missing");
    if (producer->kind == CHECK_BY_BARRIER)
        check_hosts(&producer->db, "producer", producer->name, report);
    if (!half_producer_is_valid(bytes_of(producer->name)))
        cfg_complain(report, "producer", producer->name, NULL,
                     "the name of a producer is 1 to 64 of letters, digits, - . and _");
}

void relay_keys_check(const void *root_bytes, struct cfg_report *report)
{
    const struct relay_config *root = root_bytes;

    check_relay(root, report);
    check_broker(&root->broker, report);
    check_tuning(&root->lane, root->drain_ms, "lane", NULL, report);
    if (root->source_count == 0)
        cfg_complain(report, "source", NULL, NULL,
                     "there is no [source NAME] section, so there is nothing to relay");
    for (size_t i = 0; i < root->source_count; i++)
        check_source(root, i, report);
    for (size_t i = 0; i < root->rule_count; i++)
        check_topic(root, &root->rules[i], report);
    for (size_t i = 0; i < root->exchange_count; i++)
        check_exchange(&root->exchanges[i], report);
    for (size_t i = 0; i < root->queue_count; i++)
        check_queue(root, &root->queues[i], report);
    check_half(root, report);
    check_http_token(root, report);
    check_console(&root->console, report);
    for (size_t i = 0; i < root->producer_count; i++)
        check_producer(&root->producers[i], report);
}
