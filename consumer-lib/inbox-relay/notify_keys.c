/*
 * The key table of inbox-relay, and what one row cannot say. Parsing, environment variables,
 * --dump and the reference follow from the table.
 */
#include "notify_keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/bridge.h"
#include "sign.h"

enum { KIB = 1024, MIB = 1024 * 1024, SECOND = 1000, MINUTE = 60 * 1000, HOUR = 3600 * 1000 };
enum { DAY = 24ULL * HOUR, DECIMAL = 10, KEEP_MAX_DAYS = 49 };
#define KEEP_MAX ((uint64_t)KEEP_MAX_DAYS * DAY)

static const char *const level_choices[] = {"debug", "info", "warn", "error", NULL};
static const char *const format_choices[] = {"text", "json", NULL};
static const char *const topology_choices[] = {"declare", "no", NULL};
static const char *const db_tls_choices[] = {"preferred", "disabled", "required", "verify-full",
                                             NULL};

/* ROW is a key that a reload may change, FIXED one that needs a restart. */
#define ROW(T, key, cfg_kind, value, lo, hi, text)                                                 \
    {                                                                                              \
        .name = #key, .type = (cfg_kind), CFG_FIELD(T, key), .def = (value), .min = (lo),          \
        .max = (hi), .is_reloadable = true, .help = (text)                                         \
    }
#define FIXED(T, key, cfg_kind, value, lo, hi, text)                                               \
    {                                                                                              \
        .name = #key, .type = (cfg_kind), CFG_FIELD(T, key), .def = (value), .min = (lo),          \
        .max = (hi), .help = (text)                                                                \
    }
#define CHOICE(T, key, value, list, text)                                                          \
    {                                                                                              \
        .name = #key, .type = CFG_ENUM, CFG_FIELD(T, key), .def = (value), .choices = (list),      \
        .help = (text)                                                                             \
    }

static const struct cfg_key notify_keys[] = {
    FIXED(struct keys_notify, name, CFG_STRING, "", 0, 64,
          "Name of this process in lease and log. Process id and a random part are added to it. "
          "Empty: the name of the host."),
    FIXED(struct keys_notify, group, CFG_STRING, "notify", 1, 64,
          "Consumer group. Processes of one group share the work: all of them record, one calls."),
    {.name = "log_level",
     .type = CFG_ENUM,
     CFG_FIELD(struct keys_notify, log_level),
     .def = "info",
     .choices = level_choices,
     .is_reloadable = true,
     .help = "Least level that is logged."},
    CHOICE(struct keys_notify, log_format, "text", format_choices,
           "One line for each event, as key=value text or as JSON, on standard error."),
    FIXED(struct keys_notify, http_address, CFG_STRING, "127.0.0.1", 1, 255,
          "Address for /healthz, /readyz and /metrics. They ask for no password: keep it on the "
          "loopback, or on an address that only the monitoring reaches."),
    FIXED(struct keys_notify, http_port, CFG_COUNT, "8380", 0, 65535,
          "Port of http_address. 0: no HTTP."),
    FIXED(struct keys_notify, http_hosts, CFG_LIST, "", 0, 64,
          "Names under which callers reach this port, beside localhost, IP addresses and "
          "http_address; what another Host header asks for is answered 421, so that no web page "
          "can read it through a name of its own. *: any name."),
    FIXED(struct keys_notify, http_tls_cert_file, CFG_STRING, "", 0, 4095,
          "Certificate of that port with its chain, PEM. Empty: HTTP without TLS."),
    FIXED(struct keys_notify, http_tls_key_file, CFG_STRING, "", 0, 4095, "Its private key, PEM."),
    ROW(struct keys_notify, drain, CFG_DURATION, "10s", 0, HOUR,
        "How long a stop waits for the answers to calls that are under way. What is cut off is "
        "called again."),
    FIXED(struct keys_notify, lease, CFG_DURATION, "10s", SECOND, HOUR,
          "How long the calls of a dead process stay its own before another one goes on."),
    FIXED(struct keys_notify, max_calls, CFG_COUNT, "256", 1, 10000,
          "Calls under way at once, of all endpoints, at most; and connections kept open."),
    FIXED(struct keys_notify, max_memory, CFG_SIZE, "64MiB", MIB, 0,
          "Bodies in memory, at most; a single larger one is taken nevertheless."),
    ROW(struct keys_notify, keep_delivered, CFG_DURATION, "24h", 0, KEEP_MAX,
        "How long a delivered notification is kept, to be shown or sent again. 0: not at all."),
    ROW(struct keys_notify, keep_given_up, CFG_DURATION, "0s", 0, KEEP_MAX,
        "The same for one that was given up. 0: until an operator sends it again or removes it."),
};

static const struct cfg_key broker_keys[] = {
    FIXED(struct keys_notify_broker, addresses, CFG_STRING, "127.0.0.1:5672", 1, 4096,
          "RabbitMQ nodes, host[:port] separated by commas; '[::1]:5672' for IPv6."),
    FIXED(struct keys_notify_broker, vhost, CFG_STRING, "/", 1, 255, "Virtual host."),
    FIXED(struct keys_notify_broker, user, CFG_STRING, "guest", 1, 255,
          "User. RabbitMQ lets guest in from its own host only."),
    FIXED(struct keys_notify_broker, password, CFG_SECRET, "guest", 0, 1024,
          "Password, better given as password_file or in the environment."),
    FIXED(struct keys_notify_broker, queue, CFG_STRING, "rowpost.notify", 1, 240,
          "Queue to consume from; all processes of the group have the same."),
    FIXED(struct keys_notify_broker, exchange, CFG_STRING, "rowpost", 1, 255,
          "Topic exchange that the queue is bound to, by each topic of each endpoint."),
    CHOICE(struct keys_notify_broker, topology, "declare", topology_choices,
           "declare: make exchange, queue, dead-letter queue and bindings when they are missing; "
           "no: they must be there."),
    FIXED(struct keys_notify_broker, prefetch, CFG_COUNT, "1000", 1, 65535,
          "Deliveries in memory at most."),
    FIXED(struct keys_notify_broker, tls, CFG_BOOL, "no", 0, 0,
          "TLS to the broker; its port is then 5671 unless another one is given."),
    FIXED(struct keys_notify_broker, tls_verify, CFG_BOOL, "yes", 0, 0,
          "Verify the broker's certificate and host name."),
    FIXED(struct keys_notify_broker, tls_ca_file, CFG_STRING, "", 0, 4095,
          "Certificates to trust, PEM. Empty: those of the system."),
    FIXED(struct keys_notify_broker, tls_cert_file, CFG_STRING, "", 0, 4095,
          "Our own certificate, PEM. Empty: none."),
    FIXED(struct keys_notify_broker, tls_key_file, CFG_STRING, "", 0, 4095,
          "Its private key, PEM."),
};

static const struct cfg_key database_keys[] = {
    FIXED(struct keys_notify_database, host, CFG_STRING, "127.0.0.1", 0, 255,
          "Host of the database server, the primary."),
    FIXED(struct keys_notify_database, port, CFG_COUNT, "3306", 1, 65535, "Its port."),
    FIXED(struct keys_notify_database, socket, CFG_STRING, "", 0, 107,
          "Unix socket of the server, in place of host and port. Empty: none."),
    FIXED(struct keys_notify_database, user, CFG_STRING, NULL, 1, 80,
          "User; sql/schema/grants.md lists the rights it needs under `notifier`."),
    FIXED(struct keys_notify_database, password, CFG_SECRET, "", 0, 1024,
          "Password, better given as password_file or in the environment."),
    FIXED(struct keys_notify_database, database, CFG_STRING, NULL, 1, 64,
          "Database with the tables of the sides consumer and notify."),
    CHOICE(struct keys_notify_database, tls, "preferred", db_tls_choices,
           "preferred: TLS if the server offers it, nothing verified; required: TLS or nothing, "
           "the certificate verified if tls_ca_file is given; verify-full: certificate and host "
           "name verified. A line that is not verified, neither a socket nor the loopback, never "
           "carries the password itself: what asks for it (MySQL's caching_sha2_password) is "
           "refused there."),
    FIXED(struct keys_notify_database, tls_ca_file, CFG_STRING, "", 0, 4095,
          "Certificates to trust, PEM. Empty: those of the system."),
    FIXED(struct keys_notify_database, tls_cert_file, CFG_STRING, "", 0, 4095,
          "Our own certificate, PEM. Empty: none."),
    FIXED(struct keys_notify_database, tls_key_file, CFG_STRING, "", 0, 4095,
          "Its private key, PEM."),
    FIXED(struct keys_notify_database, timeout, CFG_DURATION, "30s", SECOND, HOUR,
          "Longest wait for an answer of the server."),
};

static const struct cfg_key endpoint_keys[] = {
    ROW(struct keys_endpoint, url, CFG_STRING, NULL, 1, 2048,
        "Where to call, http:// or https://. Proxies of the environment are ignored, redirects are "
        "not followed."),
    ROW(struct keys_endpoint, topics, CFG_LIST, NULL, 1, 256,
        "Topics to pass on. As in a topic exchange, `*` stands for one word and `#` for any "
        "number: orders.*, orders.#."),
    ROW(struct keys_endpoint, secrets, CFG_SECRET, "", 0, 4096,
        "Secrets that sign the calls, separated by blanks, commas or line ends: `whsec_` and "
        "base64, or plain text of at least 16 characters. Each makes a signature: give old and new "
        "while the receiver changes over. Better in secrets_file."),
    ROW(struct keys_endpoint, sign, CFG_BOOL, "yes", 0, 0,
        "no: call without a signature. It must be said, so that a secret is not forgotten."),
    ROW(struct keys_endpoint, authorization, CFG_SECRET, "", 0, 4096,
        "Value of the header Authorization, for instance `Bearer ...`. Empty: none."),
    ROW(struct keys_endpoint, schedule, CFG_LIST, "0s, 5s, 5m, 30m, 2h, 5h, 10h, 10h", 1,
        NOTIFY_SCHEDULE_MAX,
        "Wait before the first call, before the second one after the first has failed, and so on; "
        "after the last one the notification is given up."),
    ROW(struct keys_endpoint, connect_timeout, CFG_DURATION, "5s", 10, 5ULL * MINUTE,
        "For name, TCP and TLS together."),
    ROW(struct keys_endpoint, timeout, CFG_DURATION, "15s", 10, 10ULL * MINUTE,
        "For a whole call."),
    ROW(struct keys_endpoint, max_response, CFG_SIZE, "64KiB", 0, 16ULL * MIB,
        "A longer answer is a failed call. Nothing of it is needed but the status."),
    ROW(struct keys_endpoint, concurrency, CFG_COUNT, "16", 1, 1000,
        "Calls to this endpoint at once, at most."),
    ROW(struct keys_endpoint, breaker_failures, CFG_COUNT, "10", 1, 1000000,
        "After so many failures in a row only single probes are sent, until one succeeds."),
    ROW(struct keys_endpoint, breaker_min, CFG_DURATION, "1s", 1, HOUR,
        "First wait before a probe; doubles with jitter."),
    ROW(struct keys_endpoint, breaker_max, CFG_DURATION, "1m", 1, 24ULL * HOUR,
        "Longest wait before a probe."),
    ROW(struct keys_endpoint, retry_after_max, CFG_DURATION, "1h", 0, DAY,
        "The endpoint may ask for a pause with Retry-After; a longer one is cut to this."),
    ROW(struct keys_endpoint, tls_verify, CFG_BOOL, "yes", 0, 0,
        "Verify the endpoint's certificate and host name. no is for tests."),
    ROW(struct keys_endpoint, tls_ca_file, CFG_STRING, "", 0, 4095,
        "Certificates to trust, PEM. Empty: those of the system."),
};

static const struct cfg_section sections[] = {
    {.name = "notify",
     CFG_PLAIN(struct keys_notify_root, notify),
     CFG_KEYS(notify_keys),
     .help = "The process."},
    {.name = "broker",
     CFG_PLAIN(struct keys_notify_root, broker),
     CFG_KEYS(broker_keys),
     .help = "Where the messages come from."},
    {.name = "database",
     CFG_PLAIN(struct keys_notify_root, database),
     CFG_KEYS(database_keys),
     .help = "Where notifications are recorded."},
    {.name = "endpoint",
     CFG_NAMED(struct keys_notify_root, endpoints, endpoint_count, struct keys_endpoint),
     .is_reloadable = true,
     CFG_KEYS(endpoint_keys),
     .help = "One receiver. Calls go nowhere but to these."},
};

bool keys_parse_delay(const char *text, uint32_t *ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", SECOND}, {"m", MINUTE}, {"h", HOUR}, {"d", DAY}};
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

static bool is_http_url(const char *url)
{
    const char *host = NULL;

    if (strncmp(url, "http://", strlen("http://")) == 0)
        host = url + strlen("http://");
    else if (strncmp(url, "https://", strlen("https://")) == 0)
        host = url + strlen("https://");
    return host != NULL && host[0] != '\0' && strchr("/:?#", host[0]) == NULL;
}

static void check_endpoint(const struct keys_endpoint *endpoint, struct cfg_report *report)
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
    if (endpoint->sign && !sign_check_secrets(endpoint->secrets, &count, &why))
        cfg_complain(report, "endpoint", endpoint->name, "secrets", "%s", why);
    for (size_t i = 0; i < endpoint->schedule.count; i++) {
        if (!keys_parse_delay(endpoint->schedule.items[i], &ms))
            cfg_complain(report, "endpoint", endpoint->name, "schedule",
                         "\"%s\" is no wait; expected for instance 0s, 5s, 30m, 10h, 1d",
                         endpoint->schedule.items[i]);
    }
    if (endpoint->breaker_min > endpoint->breaker_max)
        cfg_complain(report, "endpoint", endpoint->name, "breaker_min",
                     "is longer than breaker_max");
}

static void check(const void *p, struct cfg_report *report)
{
    const struct keys_notify_root *root = p;
    char why[OBX_ERR_TEXT_MAX];

    if (!bridge_addresses_are_valid(root->broker.addresses, why, sizeof(why)))
        cfg_complain(report, "broker", NULL, "addresses", "%s", why);
    if (root->endpoint_count == 0)
        cfg_complain(report, "endpoint", NULL, NULL,
                     "there is no [endpoint NAME]; expected at least one, with url and topics");
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
};

const struct cfg_schema notify_schema = {.sections = sections,
                                         .section_count = sizeof(sections) / sizeof(sections[0]),
                                         .root_size = sizeof(struct keys_notify_root),
                                         .samples = samples,
                                         .sample_count = sizeof(samples) / sizeof(samples[0]),
                                         .check = check};
