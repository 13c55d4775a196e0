/*
 * The key table of inbox-relay, and what one row cannot say. Parsing, environment variables,
 * --dump, the reference and what a reload can follow come from the table; the rows of a database, a
 * broker, a port and the log are shared with outbox-relay.
 */
#include "notify_keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log_keys.h"
#include "base/partition.h"
#include "bridge/bridge.h"
#include "bridge/bridge_keys.h"
#include "inbox/wake.h"
#include "notify_config.h"
#include "service/http_keys.h"
#include "sign.h"
#include "sql/db_hosts.h"
#include "sql/db_keys.h"

enum { DECIMAL = 10 };
/* 49 days are the longest that 32 bits of milliseconds hold. */
#define DAY      (24 * CFG_HOUR)
#define KEEP_MAX (49 * DAY)

static const char *const topology_choices[] = {"declare", "no", NULL};

/* ROW is a key that a reload may change, FIXED one that needs a restart. */
#define ROW(T, field, key, kind, value, lo, hi, text)                                              \
    CFG_ROW(T, field, key, kind, value, lo, hi, 0, text)
#define FIXED(field, key, kind, value, lo, hi, text)                                               \
    CFG_ROW(struct notify_config, field, key, kind, value, lo, hi, CFG_PROCESS, text)

static const struct cfg_key notify_keys[] = {
    FIXED(name, "name", CFG_OPTIONAL, "", 0, 64,
          "Name of this process in lease and log. Process id and a random part are added to it. "
          "Empty: the name of the host."),
    FIXED(group, "group", CFG_STRING, "notify", 1, 64,
          "Consumer group. Processes of one group share the work: all of them record, one calls."),
    LOG_KEYS(struct notify_config),
    HTTP_PAGES_KEYS(struct notify_config, http, "8380", "/healthz, /readyz and /metrics"),
    ROW(struct notify_config, drain_ms, "drain", CFG_DURATION, "10s", 0, CFG_HOUR,
        "How long a stop waits for the answers to calls in flight. What is cut off is "
        "called again."),
    FIXED(lease_ms, "lease", CFG_DURATION, "10s", CFG_SECOND, CFG_HOUR,
          "How long the calls of a dead process stay its own before another one goes on."),
    FIXED(max_calls, "max_calls", CFG_COUNT, "256", 1, 10000,
          "Calls in flight, of all endpoints, at most; and connections kept open."),
    FIXED(max_memory, "max_memory", CFG_SIZE, "64MiB", CFG_MIB, 0,
          "Bodies in memory, at most; a single larger one is taken nevertheless."),
    ROW(struct notify_config, keep_delivered_ms, "keep_delivered", CFG_DURATION, "24h", 0, KEEP_MAX,
        "How long a delivered notification is kept, to be shown or sent again. 0: not at all."),
    ROW(struct notify_config, keep_given_up_ms, "keep_given_up", CFG_DURATION, "0s", 0, KEEP_MAX,
        "The same for one that was given up. 0: until an operator sends it again or removes it."),
};

static const struct cfg_key broker_keys[] = {
    BRIDGE_LOGIN_KEYS(struct notify_config, broker, CFG_PROCESS),
    FIXED(consumer.queue, "queue", CFG_STRING, "rowpost.notify", 1, 240,
          "Queue to consume from; all processes of the group have the same."),
    FIXED(exchange, "exchange", CFG_STRING, "rowpost", 1, 255,
          "Topic exchange that the queue is bound to, by each topic of each endpoint."),
    CFG_CHOICE(struct notify_config, topology, "topology", "declare", topology_choices, CFG_PROCESS,
               "declare: make exchange, queue, dead-letter queue and bindings when they are "
               "missing; no: they must be there."),
    FIXED(consumer.prefetch, "prefetch", CFG_COUNT, "1000", 1, 65535,
          "Deliveries in memory at most."),
    BRIDGE_TLS_KEYS(struct notify_config, broker, CFG_PROCESS),
};

static const struct cfg_key database_keys[] = {
    DB_ADDRESS_KEYS(struct notify_config, db, CFG_PROCESS,
                    "Host of the database server, the primary."),
    DB_LOGIN_KEYS(
        struct notify_config, db, CFG_PROCESS, NULL,
        "User; sql/schema/grants.md lists the rights it needs: `inbox-relay` for to = inbox, "
        "`notifier` for to = http.",
        "Database with the tables of the sides consumer, and inbox or notify."),
    DB_TLS_KEYS(struct notify_config, db, CFG_PROCESS),
    FIXED(db.read_timeout_ms, "timeout", CFG_DURATION, "30s", CFG_SECOND, CFG_HOUR,
          "Longest wait for an answer of the server."),
};

static const struct cfg_key endpoint_keys[] = {
    ROW(struct endpoint_config, url, "url", CFG_STRING, NULL, 1, 2048,
        "Where to call, http:// or https://. Proxies of the environment are ignored, redirects are "
        "not followed."),
    ROW(struct endpoint_config, topics, "topics", CFG_LIST, NULL, 1, 256,
        "Topics to pass on. As in a topic exchange, `*` stands for one word and `#` for any "
        "number: orders.*, orders.#."),
    ROW(struct endpoint_config, secrets, "secrets", CFG_SECRET, "", 0, 4096,
        "Secrets that sign the calls, separated by blanks, commas or line ends: `whsec_` and "
        "base64, or plain text of at least 16 characters. Each makes a signature: give old and new "
        "while the receiver changes over. Better in secrets_file."),
    ROW(struct endpoint_config, sign, "sign", CFG_BOOL, "yes", 0, 0,
        "no: call without a signature. It must be said, so that a secret is not forgotten."),
    ROW(struct endpoint_config, authorization, "authorization", CFG_SECRET, "", 0, 4096,
        "Value of the header Authorization, for instance `Bearer ...`. Empty: none."),
    ROW(struct endpoint_config, schedule, "schedule", CFG_LIST, "0s, 5s, 5m, 30m, 2h, 5h, 10h, 10h",
        1, NOTIFY_SCHEDULE_MAX,
        "Wait before the first call, before the second one after the first has failed, and so on; "
        "after the last one the notification is given up."),
    ROW(struct endpoint_config, connect_timeout_ms, "connect_timeout", CFG_DURATION, "5s", 10,
        5 * CFG_MINUTE, "For name, TCP and TLS together."),
    ROW(struct endpoint_config, timeout_ms, "timeout", CFG_DURATION, "15s", 10, 10 * CFG_MINUTE,
        "For a whole call."),
    ROW(struct endpoint_config, max_response, "max_response", CFG_SIZE, "64KiB", 0, 16 * CFG_MIB,
        "A longer answer is a failed call. Nothing of it is needed but the status."),
    ROW(struct endpoint_config, concurrency, "concurrency", CFG_COUNT, "16", 1, 1000,
        "Calls to this endpoint at once, at most."),
    ROW(struct endpoint_config, breaker_failures, "breaker_failures", CFG_COUNT, "10", 1, 1000000,
        "After so many failures in a row only single probes are sent, until one succeeds."),
    ROW(struct endpoint_config, breaker_min_ms, "breaker_min", CFG_DURATION, "1s", 1, CFG_HOUR,
        "First wait before a probe; doubles with jitter."),
    ROW(struct endpoint_config, breaker_max_ms, "breaker_max", CFG_DURATION, "1m", 1, 24 * CFG_HOUR,
        "Longest wait before a probe."),
    ROW(struct endpoint_config, retry_after_max_ms, "retry_after_max", CFG_DURATION, "1h", 0, DAY,
        "The endpoint may ask for a pause with Retry-After; a longer one is cut to this."),
    ROW(struct endpoint_config, tls_verify, "tls_verify", CFG_BOOL, "yes", 0, 0,
        "Verify the endpoint's certificate and host name. no is for tests."),
    ROW(struct endpoint_config, tls_ca_file, "tls_ca_file", CFG_OPTIONAL, "", 0, 4095,
        "Certificates to trust, PEM. Empty: those of the system."),
};

/* A change of a queue needs a restart: its consumer and its table go on as they are. */
#define QUEUE(field, key, kind, value, lo, hi, text)                                               \
    CFG_ROW(struct queue_config, field, key, kind, value, lo, hi, CFG_PROCESS, text)

static const char *const to_choices[] = {"inbox", "http", NULL};
static const char *const on_dead_choices[] = {"freeze", "skip", NULL};

static const struct cfg_key queue_keys[] = {
    CFG_CHOICE(struct queue_config, to, "to", "inbox", to_choices, CFG_PROCESS,
               "inbox: into the table `inbox`, from which the service takes the messages with SQL; "
               "http: to the endpoints. At most one is http, and without one [broker] names the "
               "queue of the endpoints."),
    QUEUE(inbox.consumer.queue, "queue", CFG_OPTIONAL, "", 0, 240,
          "Queue of RabbitMQ to consume from. Empty: the name of the section."),
    QUEUE(inbox.consumer.group, "group", CFG_OPTIONAL, "", 0, 64,
          "Consumer group, under which a message takes effect once. Empty: the name of the "
          "section."),
    QUEUE(exchange, "exchange", CFG_STRING, "rowpost", 1, 255,
          "Topic exchange that the queue is bound to, by each of topics."),
    QUEUE(topics, "topics", CFG_LIST, "", 0, 256,
          "Topics that the queue is bound by where topology = declare: orders.*, orders.#. Empty: "
          "it is bound elsewhere. Endpoints have topics of their own."),
    QUEUE(inbox.consumer.single_active_consumer, "single_active", CFG_BOOL, "yes", 0, 0,
          "Declare the queue with a single active consumer: order per key across processes needs "
          "it."),
    QUEUE(
        inbox.consumer.partitions, "partitions", CFG_COUNT, "0", 0, PARTITIONS_MAX,
        "Consume the partitions of the queue, NAME.0, NAME.1 and on, so many, in place of it, and "
        "share them with the other processes of the group. workers and prefetch are for each. 0: "
        "one queue. See docs/partitions.md."),
    QUEUE(inbox.consumer.prefetch, "prefetch", CFG_COUNT, "2000", 1, 65535,
          "Deliveries in memory at most."),
    QUEUE(inbox.consumer.workers, "workers", CFG_COUNT, "2", 1, 64,
          "Threads that store, each with a database connection. Keys are shared out among them."),
    QUEUE(inbox.consumer.batch_max, "batch", CFG_COUNT, "500", 1, 10000,
          "Messages that share a commit, at most."),
    QUEUE(
        inbox.max_attempts, "max_attempts", CFG_COUNT, "30", 1, 1000000,
        "Attempts of the service before a message is dead: with the waits below about six hours. "
        "Like the next three it is stored with each message, so a change is for those that come."),
    QUEUE(inbox.retry_min_ms, "retry_min", CFG_DURATION, "200ms", 1, DAY,
          "First wait before the next attempt; doubles, with jitter."),
    QUEUE(inbox.retry_max_ms, "retry_max", CFG_DURATION, "30m", 1, DAY, "Longest wait."),
    CFG_CHOICE(struct queue_config, on_dead, "on_dead", "freeze", on_dead_choices, CFG_PROCESS,
               "freeze: the later messages of a dead one's key wait until an operator replays or "
               "discards it; skip: they go on. Where the producer is told of the rejection they go "
               "on in any case."),
    QUEUE(inbox.keep_done_ms, "keep_done", CFG_DURATION, "0s", 0, KEEP_MAX,
          "How long a message that is done stays in the table, to be looked at. 0: it is removed "
          "at once."),
    QUEUE(wake, "wake", CFG_LIST, "", 0, 64,
          "Whom to send a datagram when messages have been stored: a directory (to every socket in "
          "it), the path of a socket, or ADDRESS:PORT (UDP). Empty: workers poll."),
};

static const struct cfg_section sections[] = {
    {.name = "notify",
     .item_size = sizeof(struct notify_config),
     CFG_KEYS(notify_keys),
     .help = "The process."},
    {.name = "broker",
     .item_size = sizeof(struct notify_config),
     CFG_KEYS(broker_keys),
     .help = "Where the messages come from."},
    {.name = "database",
     .item_size = sizeof(struct notify_config),
     CFG_KEYS(database_keys),
     .help = "Where notifications are recorded."},
    {.name = "endpoint",
     CFG_NAMED(struct notify_config, endpoints, endpoint_count, struct endpoint_config, name),
     CFG_KEYS(endpoint_keys),
     .help = "One receiver. Calls go nowhere but to these."},
    {.name = "queue",
     CFG_NAMED(struct notify_config, queues, queue_count, struct queue_config, name),
     .restarts = CFG_PROCESS,
     CFG_KEYS(queue_keys),
     .help = "One queue of RabbitMQ, and where its messages go."},
};

/* Waits of a schedule are a list, and a list of the key table holds texts: they are read here, once to
 * be checked and once to be kept. */
bool keys_parse_delay(const char *text, uint32_t *ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", CFG_SECOND}, {"m", CFG_MINUTE}, {"h", CFG_HOUR}, {"d", DAY}};
    char *end = NULL;
    unsigned long long number;

    errno = 0;
    number = strtoull(text, &end, DECIMAL);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || number > UINT32_MAX)
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(end, units[i].unit) == 0 && number * units[i].ms <= KEEP_MAX) {
            *ms = (uint32_t)(number * units[i].ms);
            return true;
        }
    }
    return false;
}

/* Rough: curl reads it for good. But an address without a host, or of another scheme that curl also
 * speaks (file:, gopher:), is a mistake, or worse. */
static bool is_http_url(const char *url)
{
    const char *host = NULL;

    if (strncmp(url, "http://", strlen("http://")) == 0)
        host = url + strlen("http://");
    else if (strncmp(url, "https://", strlen("https://")) == 0)
        host = url + strlen("https://");
    return host != NULL && host[0] != '\0' && strchr("/:?#", host[0]) == NULL;
}

static void check_endpoint(const struct endpoint_config *endpoint, struct cfg_report *report)
{
    const char *why = NULL;
    size_t count = 0;
    uint32_t ms = 0;

    if (strlen(endpoint->name) > NOTIFY_NAME_MAX)
        cfg_complain(report, "endpoint", endpoint->name, NULL, "its name has more than %d bytes",
                     NOTIFY_NAME_MAX);
    if (!is_http_url(endpoint->url))
        cfg_complain(report, "endpoint", endpoint->name, "url",
                     "is not an address; expected http://HOST... or https://HOST...");
    /* Never with the secret itself: problems go to a terminal and into logs. */
    if (endpoint->sign && !sign_check_secrets(endpoint->secrets, &count, &why))
        cfg_complain(report, "endpoint", endpoint->name, "secrets", "%s", why);
    for (size_t i = 0; i < endpoint->schedule.count; i++) {
        if (!keys_parse_delay(endpoint->schedule.items[i], &ms))
            cfg_complain(report, "endpoint", endpoint->name, "schedule",
                         "\"%s\" is no wait; expected for instance 0s, 5s, 30m, 10h, 1d",
                         endpoint->schedule.items[i]);
    }
    if (endpoint->breaker_min_ms > endpoint->breaker_max_ms)
        cfg_complain(report, "endpoint", endpoint->name, "breaker_min",
                     "is longer than breaker_max");
}

static void check_queue(const struct queue_config *queue, struct cfg_report *report)
{
    /* The column is ASCII, and workers, metrics and shells have the name in quotes of their own. */
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    struct waker *waker = NULL;
    struct obx_err err = {0};

    if (strlen(queue->name) > NOTIFY_NAME_MAX ||
        strspn(queue->name, allowed) != strlen(queue->name))
        cfg_complain(report, "queue", queue->name, NULL,
                     "expected a name of at most %d letters, digits, '_', '.' and '-'",
                     NOTIFY_NAME_MAX);
    if (queue->inbox.retry_min_ms > queue->inbox.retry_max_ms)
        cfg_complain(report, "queue", queue->name, "retry_min", "is longer than retry_max");
    /* Made and thrown away: what it refuses is said by --check and at the start, not at the first
     * message. */
    if (waker_create(queue->wake.items, queue->wake.count, &waker, &err) == OBX_E_CONFIG)
        cfg_complain(report, "queue", queue->name, "wake", "%s", err.text);
    waker_destroy(waker);
}

/* Whether something is to be done at all, and by one set of endpoints. A second queue to = http would
 * need a second consumer, keeper and lease, and calls nobody has asked for. */
static void check_queues(const struct notify_config *root, struct cfg_report *report)
{
    size_t https = 0;

    for (size_t i = 0; i < root->queue_count; i++) {
        check_queue(&root->queues[i], report);
        https += root->queues[i].to == QUEUE_TO_HTTP;
    }
    if (https > 1)
        cfg_complain(report, "queue", NULL, NULL, "more than one has to = http");
    if (root->queue_count > NOTIFY_QUEUES_MAX)
        cfg_complain(report, "queue", NULL, NULL, "there are more than %d", NOTIFY_QUEUES_MAX);
    if (root->endpoint_count == 0 && (https > 0 || root->queue_count == 0))
        cfg_complain(report, "endpoint", NULL, NULL,
                     "there is no [endpoint NAME], with url and topics, and no [queue NAME] with "
                     "to = inbox; expected one of them");
}

static void check(const void *p, struct cfg_report *report)
{
    const struct notify_config *root = p;
    char why[OBX_ERR_TEXT_MAX];
    struct db_hosts hosts;
    struct obx_err err = {0};

    /* Here and not at the first connection, which is tried again and again whatever the reason. */
    if (!bridge_addresses_are_valid(root->broker.addresses, why, sizeof(why)))
        cfg_complain(report, "broker", NULL, "addresses", "%s", why);
    if (root->db.unix_socket == NULL &&
        db_hosts_parse(root->db.host, root->db.port, &hosts, &err) != OBX_OK)
        cfg_complain(report, "database", NULL, "host", "%s", err.text);
    check_queues(root, report);
    if (root->endpoint_count > NOTIFY_ENDPOINTS_MAX)
        cfg_complain(report, "endpoint", NULL, NULL, "there are more than %d",
                     NOTIFY_ENDPOINTS_MAX);
    for (size_t i = 0; i < root->endpoint_count; i++)
        check_endpoint(&root->endpoints[i], report);
}

/* For inbox-relay.conf.example. */
static const struct cfg_sample samples[] = {
    {"broker", "password", "/run/secrets/rabbitmq"},
    {"database", "user", "obx_inbox"},
    {"database", "password", "/run/secrets/mysql"},
    {"database", "database", "notify"},
    {"endpoint", NULL, "billing"},
    {"endpoint", "url", "https://billing.example.com/hooks/orders"},
    {"endpoint", "topics", "order.*, payment.#"},
    {"endpoint", "secrets", "/run/secrets/billing"},
    {"endpoint", "authorization", "/run/secrets/billing_authorization"},
    {"queue", NULL, "orders"},
    {"queue", "topics", "order.*"},
    {"queue", "wake", "/run/rowpost-inbox"},
};

const struct cfg_schema notify_schema = {.sections = sections,
                                         .section_count = sizeof(sections) / sizeof(sections[0]),
                                         .root_size = sizeof(struct notify_config),
                                         .samples = samples,
                                         .sample_count = sizeof(samples) / sizeof(samples[0]),
                                         .check = check,
                                         .finish = notify_config_finish};
