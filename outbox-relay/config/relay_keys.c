/*
 * The key table. A new key is one row here and its field in relay_keys.h; parsing, environment
 * variable, --dump and the reference follow from the row.
 */
#include "relay_keys.h"

#include <stdint.h>
#include <string.h>

/* As wide as the limits of a key, so that no product of them is worked out in int. */
#define KIB    UINT64_C(1024)
#define MIB    (1024 * KIB)
#define SECOND UINT64_C(1000) /* in ms, as CFG_DURATION */
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)

static const char *const level_choices[] = {"debug", "info", "warn", "error", NULL};
static const char *const format_choices[] = {"text", "json", NULL};
static const char *const topology_choices[] = {"declare", "verify", "no", NULL};
static const char *const db_tls_choices[] = {"preferred", "disabled", "required", "verify-full",
                                             NULL};
static const char *const check_choices[] = {"http", "barrier", "none", NULL};
static const char *const park_choices[] = {"freeze", "skip", NULL};
const char *const keys_exchange_types[] = {"topic", "direct", "fanout", "headers", NULL};
const char *const keys_queue_types[] = {"quorum", "classic", NULL};

/* One key that a reload may change; FIXED is one that needs a restart. */
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
        .is_reloadable = true, .help = (text)                                                      \
    }
#define FIXED_CHOICE(T, key, value, list, text)                                                    \
    {                                                                                              \
        .name = #key, .type = CFG_ENUM, CFG_FIELD(T, key), .def = (value), .choices = (list),      \
        .help = (text)                                                                             \
    }

static const struct cfg_key relay_keys[] = {
    FIXED(struct keys_relay, name, CFG_STRING, "", 0, 64,
          "Name of this relay in leases, logs and status. Process id and a random part are added "
          "to it. Empty: the name of the host."),
    CHOICE(struct keys_relay, log_level, "info", level_choices, "Least level that is logged."),
    FIXED_CHOICE(struct keys_relay, log_format, "text", format_choices,
                 "One line for each event, as key=value text or as JSON, on standard error."),
    FIXED(struct keys_relay, http_address, CFG_STRING, "127.0.0.1", 1, 255,
          "Address for /healthz, /readyz, /metrics and /status. They ask for no password: keep it "
          "on the loopback, or on an address that only the monitoring reaches."),
    FIXED(struct keys_relay, http_port, CFG_COUNT, "8377", 0, 65535,
          "Port of http_address. 0: no HTTP."),
    FIXED(struct keys_relay, http_hosts, CFG_LIST, "", 0, 64,
          "Names under which callers reach this port, beside localhost, IP addresses and "
          "http_address; what another Host header asks for is answered 421, so that no web page "
          "can read "
          "it through a name of its own. *: any name."),
    FIXED(struct keys_relay, http_connections, CFG_COUNT, "64", 4, 65535,
          "Connections to that port at once; to make room the one that is worth least is closed."),
    FIXED(struct keys_relay, http_tls_cert_file, CFG_STRING, "", 0, 4095,
          "Certificate of that port with its chain, PEM. Empty: HTTP without TLS."),
    FIXED(struct keys_relay, http_tls_key_file, CFG_STRING, "", 0, 4095, "Its private key, PEM."),
    FIXED(struct keys_relay, doorbell_socket, CFG_STRING, "", 0, 107,
          "Path of the Unix datagram socket on which applications ring after a commit (mode 0660). "
          "Empty: none."),
    FIXED(
        struct keys_relay, doorbell_address, CFG_STRING, "", 0, 63,
        "Numeric host:port on which rings come in by UDP, from other relays and from applications "
        "elsewhere; '[::1]:8378' for IPv6. A ring costs one look at the table and carries nothing, "
        "but has no password: choose an address that only your own machines reach. Empty: none."),
    FIXED(struct keys_relay, advertise_address, CFG_STRING, "", 0, 63,
          "Numeric host:port that other relays pass rings on to while this one owns a lane. Empty: "
          "doorbell_address, unless that listens on all addresses."),
    ROW(struct keys_relay, drain, CFG_DURATION, "5s", 0, HOUR,
        "How long a stop waits for the confirms of what is published already. What stays "
        "unconfirmed is published again by the next owner."),
    FIXED(struct keys_relay, alert_url, CFG_STRING, "", 0, 2048,
          "Called (POST, a short JSON text) after messages were parked. Best effort: at most once "
          "per "
          "alert_interval, five seconds for the answer, and nobody waits for it. Empty: nobody is "
          "called."),
    FIXED(struct keys_relay, alert_interval, CFG_DURATION, "60s", 10, 24 * HOUR,
          "Least time between two such calls."),
};

static const struct cfg_key broker_keys[] = {
    ROW(struct keys_broker, addresses, CFG_STRING, "127.0.0.1:5672", 1, 4096,
        "RabbitMQ nodes, host[:port] separated by commas; tried in turn. '[::1]:5672' for IPv6."),
    ROW(struct keys_broker, vhost, CFG_STRING, "/", 1, 255, "Virtual host."),
    ROW(struct keys_broker, user, CFG_STRING, "guest", 1, 255,
        "User. RabbitMQ lets guest in from its own host only."),
    ROW(struct keys_broker, password, CFG_SECRET, "guest", 0, 1024,
        "Password, better given as password_file or in the environment."),
    ROW(struct keys_broker, exchange, CFG_STRING, "rowpost", 1, 255,
        "Exchange for every topic without a [topic] section that names another one."),
    CHOICE(struct keys_broker, topology, "declare", topology_choices,
           "declare: make the exchanges, queues and bindings that are missing; verify: change "
           "nothing, wait until exchanges and queues are there; no: do not look. Nothing is "
           "published before it was done once; what the broker refuses to declare holds up its own "
           "topics only."),
    ROW(struct keys_broker, tls, CFG_BOOL, "no", 0, 0,
        "TLS to the broker; its port is then 5671 unless another one is given."),
    ROW(struct keys_broker, tls_verify, CFG_BOOL, "yes", 0, 0,
        "Verify the broker's certificate and host name."),
    ROW(struct keys_broker, tls_ca_file, CFG_STRING, "", 0, 4095,
        "Certificates to trust, PEM. Empty: those of the system."),
    ROW(struct keys_broker, tls_cert_file, CFG_STRING, "", 0, 4095,
        "Our own certificate, PEM. Empty: none."),
    ROW(struct keys_broker, tls_key_file, CFG_STRING, "", 0, 4095, "Its private key, PEM."),
    ROW(struct keys_broker, connect_timeout, CFG_DURATION, "5s", 100, 5 * MINUTE,
        "For TCP, TLS and login together."),
    ROW(struct keys_broker, rpc_timeout, CFG_DURATION, "10s", 100, 5 * MINUTE,
        "For any other answer of the broker that is waited for."),
    ROW(struct keys_broker, heartbeat, CFG_DURATION, "20s", SECOND, 10 * MINUTE,
        "AMQP heartbeat, whole seconds; a broker silent for twice as long is given up."),
    ROW(struct keys_broker, reconnect_min, CFG_DURATION, "100ms", 1, HOUR,
        "First wait after a lost connection; doubles with jitter up to reconnect_max."),
    ROW(struct keys_broker, reconnect_max, CFG_DURATION, "10s", 1, HOUR,
        "Longest wait between two attempts to connect."),
};

/* X(T, AT, key, type, default, min, max, help): the tuning of a lane, wherever it stands. */
#define LANE_KEYS(X, T, AT)                                                                        \
    X(T, AT, window, CFG_COUNT, "2000", 1, 65535,                                                  \
      "Messages published and not yet confirmed, at most.")                                        \
    X(T, AT, key_window, CFG_COUNT, "1", 1, 65535,                                                 \
      "The same for one ordering key. 1 keeps the order whatever the broker refuses; more is "     \
      "faster for a few hot keys, and a refused message may then come after its followers.")       \
    X(T, AT, batch_rows, CFG_COUNT, "1000", 1, 10000, "Rows read at once.")                        \
    X(T, AT, inline_size, CFG_SIZE, "16KiB", 1, 16 * MIB,                                          \
      "Payloads up to this size are read with their batch, larger ones one by one.")               \
    X(T, AT, max_body, CFG_SIZE, "16MiB", KIB, 512 * MIB,                                          \
      "Larger payloads are parked. RabbitMQ has a limit of its own (max_message_size).")           \
    X(T, AT, settle_rows, CFG_COUNT, "1000", 1, 10000, "Confirmed rows deleted at once, at most.") \
    X(T, AT, settle_age, CFG_DURATION, "100ms", 1, MINUTE,                                         \
      "How long a confirmed row waits for others to be deleted with it.")                          \
    X(T, AT, poll_min, CFG_DURATION, "2ms", 1, MINUTE, "Pause between two looks at a busy table.") \
    X(T, AT, poll_max, CFG_DURATION, "50ms", 1, HOUR, "The same for an idle one.")                 \
    X(T, AT, sweep, CFG_DURATION, "1s", 10, HOUR,                                                  \
      "How often rows of transactions that committed late are looked for.")                        \
    X(T, AT, lease, CFG_DURATION, "10s", SECOND, HOUR,                                             \
      "How long a dead relay's outbox stays its own before another relay takes over.")             \
    X(T, AT, max_attempts, CFG_COUNT, "10", 1, 1000000,                                            \
      "Tries of one message that the broker refuses or cannot route before it is parked.")         \
    X(T, AT, retry_min, CFG_DURATION, "200ms", 1, HOUR,                                            \
      "First wait between two tries; doubles with jitter.")                                        \
    X(T, AT, retry_max, CFG_DURATION, "30s", 1, 24 * HOUR, "Longest wait between two tries.")      \
    X(T, AT, confirm_timeout, CFG_DURATION, "30s", SECOND, HOUR,                                   \
      "A confirm that takes longer makes the relay give up the connection and publish again.")     \
    X(T, AT, receipt_timeout, CFG_DURATION, "60s", 10, 24 * HOUR,                                  \
      "A message that asks for receipts is sent again when they do not come for so long; doubles " \
      "with each send.")                                                                           \
    X(T, AT, receipt_retry_max, CFG_DURATION, "1h", 10, 168 * HOUR,                                \
      "Longest wait before such a message is sent again.")                                         \
    X(T, AT, max_sends, CFG_COUNT, "20", 1, 1000000,                                               \
      "Sends without receipts before such a message is parked. All waits together must be "        \
      "shorter "                                                                                   \
      "than the consumers' dedup retention.")                                                      \
    X(T, AT, delayed_poll, CFG_DURATION, "500ms", 1, HOUR,                                         \
      "How often delayed messages that are due are looked for.")

#define LANE_ROW(T, AT, key, cfg_kind, value, lo, hi, text)                                        \
    ROW(T, key, cfg_kind, value, lo, hi, text),
#define SOURCE_ROW(T, AT, key, cfg_kind, value, lo, hi, text)                                      \
    {.name = #key,                                                                                 \
     .type = (cfg_kind),                                                                           \
     CFG_FIELD(T, AT key),                                                                         \
     .def = "0",                                                                                   \
     .max = (hi),                                                                                  \
     .is_reloadable = true,                                                                        \
     .help = "As in [lane], for this source alone. 0: the value of [lane]."},

static const struct cfg_key lane_keys[] = {LANE_KEYS(LANE_ROW, struct keys_lane, )};

static const struct cfg_key source_keys[] = {
    ROW(struct keys_source, host, CFG_STRING, "127.0.0.1", 0, 255,
        "Host of the database server, the primary."),
    ROW(struct keys_source, port, CFG_COUNT, "3306", 1, 65535, "Its port."),
    ROW(struct keys_source, socket, CFG_STRING, "", 0, 107,
        "Unix socket of the server, in place of host and port. Empty: none."),
    ROW(struct keys_source, user, CFG_STRING, NULL, 1, 80,
        "User of the relay in this database. docs/operations.md lists the grants it needs."),
    ROW(struct keys_source, password, CFG_SECRET, "", 0, 1024,
        "Password, better given as password_file or in the environment."),
    ROW(struct keys_source, database, CFG_STRING, NULL, 1, 64,
        "Database that holds the outbox tables."),
    ROW(struct keys_source, outboxes, CFG_LIST, "outbox", 1, 256,
        "Outbox tables. Each gets a lane: a thread, a database connection and a broker "
        "connection."),
    CHOICE(struct keys_source, tls, "preferred", db_tls_choices,
           "preferred: TLS if the server offers it, nothing verified; required: TLS or nothing, "
           "the certificate verified if tls_ca_file is given; verify-full: certificate and host "
           "name verified. A line that is not verified, neither a socket nor the loopback, never "
           "carries the password itself: what asks for it (MySQL's caching_sha2_password) is "
           "refused there."),
    ROW(struct keys_source, tls_ca_file, CFG_STRING, "", 0, 4095,
        "Certificates to trust, PEM. Empty: those of the system."),
    ROW(struct keys_source, tls_cert_file, CFG_STRING, "", 0, 4095,
        "Our own certificate, PEM. Empty: none."),
    ROW(struct keys_source, tls_key_file, CFG_STRING, "", 0, 4095, "Its private key, PEM."),
    ROW(struct keys_source, connect_timeout, CFG_DURATION, "5s", SECOND, 5 * MINUTE,
        "For connecting to the server; whole seconds."),
    ROW(struct keys_source, read_timeout, CFG_DURATION, "30s", SECOND, HOUR,
        "For an answer of the server; whole seconds."),
    ROW(struct keys_source, write_timeout, CFG_DURATION, "30s", SECOND, HOUR,
        "For sending to the server; whole seconds."),
    ROW(struct keys_source, lock_wait, CFG_DURATION, "10s", SECOND, HOUR,
        "How long a statement waits for a row lock; whole seconds."),
    ROW(struct keys_source, receipt_queue, CFG_STRING, "", 0, 255,
        "Queue to which consumers report what they have applied, declared by the relay; its name "
        "begins with rowpost.receipts. A process reads it for this source. Empty: messages that "
        "ask for receipts are parked."),
    ROW(struct keys_source, journal, CFG_BOOL, "no", 0, 0,
        "Keep id, topic and times of what was published in outbox_journal, so that `outboxctl "
        "reconcile` can compare it with what a consumer applied. Needs the tables of the side "
        "journal, and costs a row a message."),
    ROW(struct keys_source, journal_retention, CFG_DURATION, "168h", MINUTE, 1000 * HOUR,
        "How long it is kept."),
    ROW(struct keys_source, receipt_retention, CFG_DURATION, "168h", MINUTE, 1000 * HOUR,
        "How long reports are kept after the message was settled."),
    LANE_KEYS(SOURCE_ROW, struct keys_source, lane.)};

static const struct cfg_key topic_keys[] = {
    ROW(struct keys_topic, exchange, CFG_STRING, "", 0, 255,
        "Exchange for these topics. Empty: that of [broker]."),
    ROW(struct keys_topic, routing_key, CFG_STRING, "", 0, 255,
        "Routing key for these topics. Empty: the topic itself."),
    CHOICE(struct keys_topic, on_park, "freeze", park_choices,
           "What becomes of the followers of a parked message with the same ordering key. freeze: "
           "they are parked behind it, in order, until an operator decides; skip: they go on."),
    ROW(struct keys_topic, max_attempts, CFG_COUNT, "0", 0, 1000000,
        "Tries of one message before it is parked. 0: as in [lane]."),
};

static const struct cfg_key exchange_keys[] = {
    CHOICE(struct keys_exchange, type, "topic", keys_exchange_types, "Type of the exchange."),
};

static const struct cfg_key queue_keys[] = {
    CHOICE(struct keys_queue, type, "quorum", keys_queue_types,
           "Type of the queue; always durable."),
    ROW(struct keys_queue, bind, CFG_LIST, "", 0, 256,
        "Bindings, exchange:routing.key each. The exchange ends at the first colon."),
    ROW(struct keys_queue, single_active_consumer, CFG_BOOL, "no", 0, 0,
        "One consumer at a time gets messages, which keeps their order across consumers."),
    ROW(struct keys_queue, arguments, CFG_LIST, "", 0, 64,
        "More arguments, x-name=value each; a value of digits is sent as a number."),
};

static const struct cfg_key half_keys[] = {
    FIXED(struct keys_half, source, CFG_STRING, "", 0, 64,
          "The [source NAME] whose database has the half-message tables. Empty: no half-messages."),
    FIXED(struct keys_half, outbox, CFG_STRING, "outbox", 1, 64,
          "Outbox table of that source that the messages go to."),
    FIXED(struct keys_half, http_address, CFG_STRING, "127.0.0.1", 1, 255,
          "Address of the API. Without http_tls_cert_file keep it on the loopback: tokens go over "
          "the line as they are."),
    FIXED(struct keys_half, http_port, CFG_COUNT, "8379", 0, 65535,
          "Port of http_address. 0: no API, only check-back for those who prepare by SQL."),
    FIXED(struct keys_half, http_hosts, CFG_LIST, "", 0, 64, "As in [relay], for the API."),
    FIXED(
        struct keys_half, http_connections, CFG_COUNT, "512", 4, 65535,
        "Connections to the API at once. To make room the one that is worth least is closed, never "
        "one whose request is being worked on."),
    FIXED(
        struct keys_half, http_per_address, CFG_COUNT, "0", 0, 65535,
        "Of these, from one IPv4 address or one IPv6 /64 network. 0: as many as http_connections."),
    FIXED(struct keys_half, http_tls_cert_file, CFG_STRING, "", 0, 4095,
          "Certificate of the API with its chain, PEM. Empty: HTTP without TLS."),
    FIXED(struct keys_half, http_tls_key_file, CFG_STRING, "", 0, 4095, "Its private key, PEM."),
    FIXED(struct keys_half, token, CFG_SECRET, "", 0, 512,
          "Callers send it as Authorization: Bearer; 16 characters at least. Better given as "
          "token_file or in the environment."),
    FIXED(struct keys_half, previous_token, CFG_SECRET, "", 0, 512,
          "Accepted as well, while callers change over to another token."),
    FIXED(struct keys_half, open_lookup, CFG_BOOL, "no", 0, 0,
          "A caller that knows a gid may look it up without the token."),
    FIXED(struct keys_half, max_body, CFG_SIZE, "4MiB", KIB, 64 * MIB,
          "Largest body of a prepare. The database's max_allowed_packet must be twice as large."),
    FIXED(
        struct keys_half, body_memory, CFG_SIZE, "64MiB", KIB, UINT64_C(1024) * MIB,
        "Bytes of all bodies that are being read or worked on; above it requests are answered 503 "
        "with Retry-After. Never less than max_body."),
    FIXED(struct keys_half, workers, CFG_COUNT, "2", 1, 64,
          "Database connections that carry requests out; each shares its commits among all that "
          "wait."),
    FIXED(struct keys_half, queue, CFG_COUNT, "1024", 1, 1000000,
          "Requests that may wait; more are answered 503 at once."),
    FIXED(struct keys_half, batch, CFG_COUNT, "128", 1, 256,
          "Requests that share a commit, at most."),
    FIXED(struct keys_half, check_back, CFG_BOOL, "yes", 0, 0,
          "Ask silent producers. Of several relays the one with the lease does."),
    FIXED(struct keys_half, first_check, CFG_DURATION, "60s", 0, 24 * HOUR,
          "Silence after a prepare before its producer is asked, where the prepare does not say."),
    FIXED(struct keys_half, retry_min, CFG_DURATION, "10s", 10, 24 * HOUR,
          "Wait after the first question; doubles with jitter."),
    FIXED(struct keys_half, retry_max, CFG_DURATION, "10m", 10, 24 * HOUR, "Longest such wait."),
    FIXED(struct keys_half, max_answers, CFG_COUNT, "15", 1, 1000000,
          "Answers 'unknown' before a half-message is parked. What is no answer does not count."),
    FIXED(struct keys_half, max_in_progress, CFG_COUNT, "200", 1, 1000000,
          "The same for answers 'in_progress'."),
    FIXED(struct keys_half, breaker_failures, CFG_COUNT, "5", 1, 1000000,
          "Questions without an answer, in a row, before a producer is left alone for a while."),
    FIXED(struct keys_half, breaker_min, CFG_DURATION, "1s", 10, HOUR,
          "How long, at first; doubles with jitter."),
    FIXED(struct keys_half, breaker_max, CFG_DURATION, "60s", 10, 24 * HOUR, "Longest such wait."),
    FIXED(struct keys_half, lease, CFG_DURATION, "10s", SECOND, HOUR,
          "How long a dead relay keeps others from asking in its place."),
    FIXED(struct keys_half, retention, CFG_DURATION, "168h", MINUTE, 1000 * HOUR,
          "How long a decided half-message is kept to answer repeated requests."),
    FIXED(struct keys_half, barrier_keep, CFG_DURATION, "720h", HOUR, 1000 * HOUR,
          "How long rows of half_barrier are kept (outboxctl barrier clean --keep). About an older "
          "half-message a missing row says nothing: it is parked."),
};

static const struct cfg_key producer_keys[] = {
    FIXED_CHOICE(struct keys_producer, check, "http", check_choices,
                 "http: ask its url; barrier: look into its database; none: it cannot be asked, so "
                 "what it leaves undecided is parked."),
    FIXED(struct keys_producer, url, CFG_STRING, "", 0, 2048,
          "Where to ask; {gid} in it is replaced, otherwise ?gid= is added. Redirects are not "
          "followed."),
    FIXED(struct keys_producer, token, CFG_SECRET, "", 0, 512,
          "Sent as Authorization: Bearer. Empty: none."),
    FIXED(struct keys_producer, concurrency, CFG_COUNT, "0", 0, 1024,
          "Questions under way at most. 0: 16 over HTTP, 4 through the barrier."),
    FIXED(struct keys_producer, timeout, CFG_DURATION, "5s", 10, HOUR, "Of one question by HTTP."),
    FIXED(struct keys_producer, host, CFG_STRING, "127.0.0.1", 0, 255,
          "check = barrier: host of the database with its half_barrier, the primary."),
    FIXED(struct keys_producer, port, CFG_COUNT, "3306", 1, 65535, "Its port."),
    FIXED(struct keys_producer, socket, CFG_STRING, "", 0, 107,
          "Unix socket of the server, in place of host and port. Empty: none."),
    FIXED(struct keys_producer, user, CFG_STRING, "", 0, 80,
          "User there; it needs SELECT and INSERT on half_barrier."),
    FIXED(struct keys_producer, password, CFG_SECRET, "", 0, 1024,
          "Password, better given as password_file or in the environment."),
    FIXED(struct keys_producer, database, CFG_STRING, "", 0, 64,
          "Database that holds half_barrier."),
    FIXED_CHOICE(struct keys_producer, tls, "preferred", db_tls_choices,
                 "TLS with that database, as in [source]."),
    FIXED(struct keys_producer, tls_ca_file, CFG_STRING, "", 0, 4095,
          "Certificates to trust, PEM, for the url or the database. Empty: those of the system."),
};

static const struct cfg_section sections[] = {
    {.name = "relay",
     CFG_PLAIN(struct keys_root, relay),
     CFG_KEYS(relay_keys),
     .help = "The process itself."},
    {.name = "broker",
     CFG_PLAIN(struct keys_root, broker),
     CFG_KEYS(broker_keys),
     .help = "RabbitMQ, for every lane."},
    {.name = "lane",
     CFG_PLAIN(struct keys_root, lane),
     CFG_KEYS(lane_keys),
     .help = "How lanes work. A source may have values of its own."},
    {.name = "source",
     CFG_NAMED(struct keys_root, sources, source_count, struct keys_source),
     CFG_KEYS(source_keys),
     .is_reloadable = true,
     .help = "A database with outbox tables. At least one."},
    {.name = "topic",
     CFG_NAMED(struct keys_root, topics, topic_count, struct keys_topic),
     CFG_KEYS(topic_keys),
     .is_reloadable = true,
     .help = "How a topic is published. The name is the topic, or its beginning and a '*'. The "
             "first section of the file that fits counts."},
    {.name = "exchange",
     CFG_NAMED(struct keys_root, exchanges, exchange_count, struct keys_exchange),
     CFG_KEYS(exchange_keys),
     .is_reloadable = true,
     .help = "A durable exchange. Those that are only named elsewhere need no section: they are of "
             "type topic."},
    {.name = "queue",
     CFG_NAMED(struct keys_root, queues, queue_count, struct keys_queue),
     CFG_KEYS(queue_keys),
     .is_reloadable = true,
     .help = "A queue and its bindings. Consumers may declare their own instead."},
    {.name = "half",
     CFG_PLAIN(struct keys_root, half),
     CFG_KEYS(half_keys),
     .help = "Half-messages: the API and check-back, see docs/half-messages.md."},
    {.name = "producer",
     CFG_NAMED(struct keys_root, producers, producer_count, struct keys_producer),
     CFG_KEYS(producer_keys),
     .help = "A producer of half-messages and how it is asked. Only these are ever called."},
};

/* For outbox-relay.conf.example. */
static const struct cfg_sample samples[] = {
    {"broker", "password", "/run/secrets/rabbitmq"},
    {"source", NULL, "shop"},
    {"source", "user", "obx_relay"},
    {"source", "password", "/run/secrets/mysql"},
    {"source", "database", "shop"},
    {"topic", NULL, "order.*"},
    {"exchange", NULL, "orders"},
    {"queue", NULL, "inventory"},
    {"queue", "bind", "rowpost:order.*"},
    {"queue", "arguments", "x-max-length=1000000, x-overflow=reject-publish"},
    {"half", "token", "/run/secrets/half_token"},
    {"half", "previous_token", "/run/secrets/half_token_before"},
    {"producer", NULL, "payments"},
    {"producer", "url", "https://payments.example.com/half-messages/{gid}"},
    {"producer", "token", "/run/secrets/payments_token"},
    {"producer", "password", "/run/secrets/payments_mysql"},
};

const struct cfg_schema relay_schema = {
    .sections = sections,
    .section_count = sizeof(sections) / sizeof(sections[0]),
    .root_size = sizeof(struct keys_root),
    .samples = samples,
    .sample_count = sizeof(samples) / sizeof(samples[0]),
    .check = relay_keys_check,
};

/* Own value of the source, else the one of [lane]. */
#define OWN_OR_COMMON(T, AT, key, cfg_kind, value, lo, hi, text)                                   \
    .key = source->lane.key != 0 ? source->lane.key : root->lane.key,

struct keys_lane keys_lane_of(const struct keys_root *root, const struct keys_source *source)
{
    return (struct keys_lane){LANE_KEYS(OWN_OR_COMMON, , )};
}

static bool split_at(const char *item, char separator, struct obx_bytes *before, const char **after)
{
    const char *at = strchr(item, separator);

    if (at == NULL || at == item)
        return false;
    *before = (struct obx_bytes){.p = item, .len = (size_t)(at - item)};
    *after = at + 1;
    return true;
}

bool keys_split_bind(const char *item, struct obx_bytes *exchange, const char **routing_key)
{
    return split_at(item, ':', exchange, routing_key);
}

bool keys_split_argument(const char *item, struct obx_bytes *name, const char **value)
{
    return split_at(item, '=', name, value) && **value != '\0';
}
