/*
 * The key table. A new key is one row here, beside the field that it fills: parsing, checks,
 * environment variable, --dump, the reference, the example and what a reload restarts follow from
 * the row. The rows of a database, a broker, a port and the log are shared with inbox-relay.
 */
#include "relay_keys.h"

#include "base/log_keys.h"
#include "base/partition.h"
#include "bridge/bridge_keys.h"
#include "bridge/pack.h"
#include "service/http_keys.h"
#include "sql/db_keys.h"

/* What the keys of these sections restart. */
#define LANES RESTARTS_LANE
#define BOTH  (RESTARTS_LANE | RESTARTS_TOPOLOGY)

static const char *const topology_choices[] = {"declare", "verify", "no", NULL};
static const char *const check_choices[] = {"http", "barrier", "none", NULL};
static const char *const role_choices[] = {"reader", "operator", "admin", NULL};
static const char *const park_choices[] = {"freeze", "skip", NULL};
const char *const keys_exchange_types[] = {"topic", "direct", "fanout", "headers", NULL};
const char *const keys_queue_types[] = {"quorum", "classic", NULL};

#define ROW(field, key, kind, value, lo, hi, parts, text)                                          \
    CFG_ROW(struct relay_config, field, key, kind, value, lo, hi, parts, text)
#define NUMBER(field, key, kind, number, lo, hi, parts, text)                                      \
    CFG_NUMBER(struct relay_config, field, key, kind, number, lo, hi, parts, text)

static const struct cfg_key relay_keys[] = {
    ROW(name, "name", CFG_OPTIONAL, "", 0, 64, CFG_PROCESS,
        "Name of this relay in leases, logs and status. Process id and a random part are added "
        "to it. Empty: the name of the host."),
    LOG_KEYS(struct relay_config),
    HTTP_PAGES_KEYS(struct relay_config, http, "8377", "/healthz, /readyz, /metrics and /status"),
    ROW(http_token, "http_token", CFG_SECRET, "", 0, 512, CFG_PROCESS,
        "Needed as Authorization: Bearer for /metrics and /status, 16 characters at least; better "
        "given "
        "as http_token_file. /healthz and /readyz stay open. Empty: nothing is needed."),
    ROW(doorbell_socket, "doorbell_socket", CFG_OPTIONAL, "", 0, 107, CFG_PROCESS,
        "Path of the Unix datagram socket on which applications ring after a commit (mode 0660). "
        "Empty: none."),
    ROW(doorbell_address, "doorbell_address", CFG_OPTIONAL, "", 0, 63, CFG_PROCESS,
        "Numeric host:port on which rings come in by UDP, from other relays and from applications "
        "elsewhere; '[::1]:8378' for IPv6. A ring costs one look at the table and carries nothing, "
        "but has no password: choose an address that only your own machines reach. Empty: none."),
    ROW(advertise_address, "advertise_address", CFG_OPTIONAL, "", 0, 63, CFG_PROCESS,
        "Numeric host:port that other relays pass rings on to while this one owns a lane. Empty: "
        "doorbell_address, unless that listens on all addresses."),
    NUMBER(drain_ms, "drain", CFG_DURATION, LANE_DEFAULT_drain_ms, 0, CFG_HOUR, LANES,
           "How long a stop waits for the confirms of what is published already. What stays "
           "unconfirmed is published again by the next owner."),
    ROW(share, "share", CFG_BOOL, "no", 0, 0, CFG_PROCESS,
        "yes: share the outboxes of each source with the other relays that drain the same ones and "
        "say so too. Each takes its part, gives the rest away when another one joins, and takes "
        "what a dead one had. no: the first one has them all, the others stand by."),
    ROW(weight, "weight", CFG_COUNT, "1", 0, 1000, CFG_PROCESS,
        "With share: this relay's part beside those of the others. 0: none, as long as another one "
        "is there."),
    ROW(alert_url, "alert_url", CFG_OPTIONAL, "", 0, 2048, CFG_PROCESS,
        "Called (POST, a short JSON text) after messages were parked. Best effort: at most once "
        "per alert_interval, five seconds for the answer, and nobody waits for it. Empty: nobody "
        "is "
        "called."),
    ROW(alert_interval_ms, "alert_interval", CFG_DURATION, "60s", 10, 24 * CFG_HOUR, CFG_PROCESS,
        "Least time between two such calls."),
};

static const struct cfg_key broker_keys[] = {
    BRIDGE_LOGIN_KEYS(struct relay_config, broker, BOTH),
    ROW(exchange, "exchange", CFG_STRING, "rowpost", 1, 255, BOTH,
        "Exchange for every topic without a [topic] section that names another one."),
    CFG_CHOICE(struct relay_config, topology_policy, "topology", "declare", topology_choices,
               RESTARTS_TOPOLOGY,
               "declare: make the exchanges, queues and bindings that are missing; verify: change "
               "nothing, wait until exchanges and queues are there; no: do not look. Nothing is "
               "published before it was done once; what the broker refuses to declare holds up its "
               "own topics only."),
    BRIDGE_TLS_KEYS(struct relay_config, broker, BOTH),
    NUMBER(broker.connect_timeout_ms, "connect_timeout", CFG_DURATION, BRIDGE_CONNECT_MS, 100,
           5 * CFG_MINUTE, BOTH, "For TCP, TLS and login together."),
    NUMBER(broker.rpc_timeout_ms, "rpc_timeout", CFG_DURATION, BRIDGE_RPC_MS, 100, 5 * CFG_MINUTE,
           BOTH, "For any other answer of the broker that is waited for."),
    NUMBER(broker.heartbeat_s, "heartbeat", CFG_SECONDS, BRIDGE_HEARTBEAT_S *CFG_SECOND, CFG_SECOND,
           10 * CFG_MINUTE, BOTH,
           "AMQP heartbeat, whole seconds; a broker silent for twice as long is given up."),
    NUMBER(broker.reconnect_min_ms, "reconnect_min", CFG_DURATION, BRIDGE_RECONNECT_MIN_MS, 1,
           CFG_HOUR, BOTH,
           "First wait after a lost connection; doubles with jitter up to reconnect_max."),
    NUMBER(broker.reconnect_cap_ms, "reconnect_max", CFG_DURATION, BRIDGE_RECONNECT_CAP_MS, 1,
           CFG_HOUR, BOTH, "Longest wait between two attempts to connect."),
};

/* X(T, AT, field, key, type, min, max, help): the tuning of a lane, wherever it stands. */
#define LANE_KEYS(X, T, AT)                                                                        \
    X(T, AT, window, "window", CFG_COUNT, 1, 65535,                                                \
      "Messages published and not yet confirmed, at most.")                                        \
    X(T, AT, key_window, "key_window", CFG_COUNT, 1, 65535,                                        \
      "The same for one ordering key. 1 keeps the order whatever the broker refuses; more is "     \
      "faster for a few hot keys, and a refused message may then come after its followers.")       \
    X(T, AT, batch_rows, "batch_rows", CFG_COUNT, 1, 10000, "Rows read at once.")                  \
    X(T, AT, inline_bytes, "inline_size", CFG_SIZE, 1, 16 * CFG_MIB,                               \
      "Payloads up to this size are read with their batch, larger ones one by one.")               \
    X(T, AT, max_body_bytes, "max_body", CFG_SIZE, CFG_KIB, 512 * CFG_MIB,                         \
      "Larger payloads are parked. RabbitMQ has a limit of its own (max_message_size).")           \
    X(T, AT, settle_max_rows, "settle_rows", CFG_COUNT, 1, 10000,                                  \
      "Confirmed rows deleted at once, at most.")                                                  \
    X(T, AT, settle_max_age_ms, "settle_age", CFG_DURATION, 1, CFG_MINUTE,                         \
      "How long a confirmed row waits for others to be deleted with it.")                          \
    X(T, AT, poll_min_ms, "poll_min", CFG_DURATION, 1, CFG_MINUTE,                                 \
      "Pause between two looks at a busy table.")                                                  \
    X(T, AT, poll_max_ms, "poll_max", CFG_DURATION, 1, CFG_HOUR, "The same for an idle one.")      \
    X(T, AT, sweep_ms, "sweep", CFG_DURATION, 10, CFG_HOUR,                                        \
      "How often rows of transactions that committed late are looked for.")                        \
    X(T, AT, lease_ms, "lease", CFG_DURATION, CFG_SECOND, CFG_HOUR,                                \
      "How long a dead relay's outbox stays its own before another relay takes over.")             \
    X(T, AT, max_attempts, "max_attempts", CFG_COUNT, 1, 1000000,                                  \
      "Tries of one message that the broker refuses or cannot route before it is parked.")         \
    X(T, AT, retry_min_ms, "retry_min", CFG_DURATION, 1, CFG_HOUR,                                 \
      "First wait between two tries; doubles with jitter.")                                        \
    X(T, AT, retry_cap_ms, "retry_max", CFG_DURATION, 1, 24 * CFG_HOUR,                            \
      "Longest wait between two tries.")                                                           \
    X(T, AT, confirm_timeout_ms, "confirm_timeout", CFG_DURATION, CFG_SECOND, CFG_HOUR,            \
      "A confirm that takes longer makes the relay give up the connection and publish again.")     \
    X(T, AT, receipt_timeout_ms, "receipt_timeout", CFG_DURATION, 10, 24 * CFG_HOUR,               \
      "A message that asks for receipts is sent again when they do not come for so long; doubles " \
      "with each send.")                                                                           \
    X(T, AT, receipt_cap_ms, "receipt_retry_max", CFG_DURATION, 10, 168 * CFG_HOUR,                \
      "Longest wait before such a message is sent again.")                                         \
    X(T, AT, max_sends, "max_sends", CFG_COUNT, 1, 1000000,                                        \
      "Sends without receipts before such a message is parked. All waits together must be "        \
      "shorter than the consumers' dedup retention.")                                              \
    X(T, AT, delayed_poll_ms, "delayed_poll", CFG_DURATION, 1, CFG_HOUR,                           \
      "How often delayed messages that are due are looked for.")

#define LANE_ROW(T, AT, field, key, cfg_kind, lo, hi, text)                                        \
    CFG_NUMBER(T, AT.field, key, cfg_kind, LANE_DEFAULT_##field, lo, hi, LANES, text),
#define SOURCE_ROW(T, AT, field, key, cfg_kind, lo, hi, text)                                      \
    {.name = (key),                                                                                \
     .type = (cfg_kind),                                                                           \
     CFG_FIELD(T, AT.field),                                                                       \
     .like = "lane",                                                                               \
     .def = "0",                                                                                   \
     .min = (lo),                                                                                  \
     .max = (hi),                                                                                  \
     .restarts = LANES,                                                                            \
     .help = "As in [lane], for this source alone. 0: the value of [lane]."},

static const struct cfg_key lane_keys[] = {LANE_KEYS(LANE_ROW, struct relay_config, lane)};

#undef ROW
#undef NUMBER
#define ROW(field, key, kind, value, lo, hi, parts, text)                                          \
    CFG_ROW(struct source_config, field, key, kind, value, lo, hi, parts, text)
#define NUMBER(field, key, kind, number, lo, hi, parts, text)                                      \
    CFG_NUMBER(struct source_config, field, key, kind, number, lo, hi, parts, text)

static const struct cfg_key source_keys[] = {
    DB_ADDRESS_KEYS(struct source_config, lane.db, LANES | RESTARTS_DATABASE,
                    "Host of the database server, the primary."),
    DB_LOGIN_KEYS(struct source_config, lane.db, LANES | RESTARTS_DATABASE, NULL,
                  "User of the relay in this database. sql/schema/grants.md lists its rights.",
                  "Database that holds the outbox tables."),
    CFG_LIST_ROW(struct source_config, outboxes, outbox_count, "outboxes", "outbox", 1, 256, 0,
                 "Outbox tables. Each gets a lane: a thread, a database connection and a broker "
                 "connection."),
    DB_TLS_KEYS(struct source_config, lane.db, LANES | RESTARTS_DATABASE),
    NUMBER(lane.db.connect_timeout_ms, "connect_timeout", CFG_DURATION, DB_CONNECT_MS, CFG_SECOND,
           5 * CFG_MINUTE, LANES, "For connecting to the server; whole seconds."),
    NUMBER(lane.db.read_timeout_ms, "read_timeout", CFG_DURATION, DB_IO_MS, CFG_SECOND, CFG_HOUR,
           LANES, "For an answer of the server; whole seconds."),
    NUMBER(lane.db.write_timeout_ms, "write_timeout", CFG_DURATION, DB_IO_MS, CFG_SECOND, CFG_HOUR,
           LANES, "For sending to the server; whole seconds."),
    NUMBER(lane.db.lock_wait_s, "lock_wait", CFG_SECONDS, DB_LOCK_WAIT_S *CFG_SECOND, CFG_SECOND,
           CFG_HOUR, LANES, "How long a statement waits for a row lock; whole seconds."),
    ROW(lane.receipt_queue, "receipt_queue", CFG_OPTIONAL, "", 0, 255, BOTH,
        "Queue to which consumers report what they have applied, declared by the relay; its name "
        "begins with rowpost.receipts. A process reads it for this source. Empty: messages that "
        "ask for receipts are parked."),
    ROW(lane.journal, "journal", CFG_BOOL, "no", 0, 0, LANES,
        "Keep id, topic and times of what was published in outbox_journal, so that `outboxctl "
        "reconcile` can compare it with what a consumer applied. Needs the tables of the side "
        "journal, and costs a row a message."),
    NUMBER(lane.journal_retention_ms, "journal_retention", CFG_DURATION,
           LANE_DEFAULT_journal_retention_ms, CFG_MINUTE, 1000 * CFG_HOUR, LANES,
           "How long it is kept."),
    ROW(receipt_retention_ms, "receipt_retention", CFG_DURATION, "168h", CFG_MINUTE,
        1000 * CFG_HOUR, RESTARTS_RECEIPTS,
        "How long reports are kept after the message was settled."),
    LANE_KEYS(SOURCE_ROW, struct source_config, lane)};

static const struct cfg_key topic_keys[] = {
    CFG_ROW(struct topic_rule, exchange, "exchange", CFG_OPTIONAL, "", 0, 255, BOTH,
            "Exchange for these topics. Empty: that of [broker]."),
    CFG_ROW(struct topic_rule, routing_key, "routing_key", CFG_OPTIONAL, "", 0, 255, LANES,
            "Routing key for these topics. Empty: the topic itself."),
    CFG_CHOICE(struct topic_rule, on_park, "on_park", "freeze", park_choices, LANES,
               "What becomes of the followers of a parked message with the same ordering key. "
               "freeze: they are parked after it, in order, until an operator decides; skip: they "
               "go on."),
    CFG_ROW(struct topic_rule, max_attempts, "max_attempts", CFG_COUNT, "0", 0, 1000000, LANES,
            "Tries of one message before it is parked. 0: as in [lane]."),
    CFG_ROW(struct topic_rule, pack, "pack", CFG_COUNT, "1", 1, PACK_EVENTS_MAX, LANES,
            "Messages of these topics, of one exchange and routing key, that may share one message "
            "of RabbitMQ, a pack. What is ready to go together goes together; nothing waits for "
            "company. consumer-lib and inbox-relay take packs apart, other consumers have to: "
            "docs/message-format.md. 1: no packs."),
    CFG_NUMBER(struct topic_rule, pack_bytes, "pack_bytes", CFG_SIZE, LANE_PACK_BYTES, CFG_KIB,
               PACK_BYTES_MAX, LANES,
               "Size of a pack, at most. What is larger than that, or than lane.inline_size, goes "
               "alone."),
};

static const struct cfg_key exchange_keys[] = {
    CFG_CHOICE(struct exchange_config, type, "type", "topic", keys_exchange_types,
               RESTARTS_TOPOLOGY, "Type of the exchange."),
    CFG_ROW(
        struct exchange_config, partitions, "partitions", CFG_COUNT, "0", 0, PARTITIONS_MAX, BOTH,
        "Share the ordering keys of the exchange out among so many queues: the routing key of a "
        "message is the number of its partition, a dot, and what it would be otherwise. 0: not "
        "at all. Needs type = topic. To change it, drain first: docs/partitions.md."),
};

static const struct cfg_key queue_keys[] = {
    CFG_CHOICE(struct queue_config, type, "type", "quorum", keys_queue_types, RESTARTS_TOPOLOGY,
               "Type of the queue; always durable."),
    CFG_ROW(struct queue_config, bind, "bind", CFG_LIST, "", 0, 256, RESTARTS_TOPOLOGY,
            "Bindings, exchange:routing.key each. The exchange ends at the first colon."),
    CFG_ROW(struct queue_config, single_active_consumer, "single_active_consumer", CFG_BOOL, "no",
            0, 0, RESTARTS_TOPOLOGY,
            "One consumer at a time gets messages, which keeps their order across consumers."),
    CFG_ROW(
        struct queue_config, partitions, "partitions", CFG_COUNT, "0", 0, PARTITIONS_MAX,
        RESTARTS_TOPOLOGY,
        "As many queues as the exchange has partitions, NAME.0, NAME.1 and on, one for each and "
        "all with a single active consumer. 0: one queue, which gets all partitions."),
    CFG_ROW(struct queue_config, arguments, "arguments", CFG_LIST, "", 0, 64, RESTARTS_TOPOLOGY,
            "More arguments, x-name=value each; a value of digits is sent as a number."),
};

/* [half] and [producer] restart the process as a whole. */
#undef ROW
#undef NUMBER
#define ROW(T, field, key, kind, value, lo, hi, text)                                              \
    CFG_ROW(T, field, key, kind, value, lo, hi, CFG_PROCESS, text)
#define NUMBER(T, field, key, kind, number, lo, hi, text)                                          \
    CFG_NUMBER(T, field, key, kind, number, lo, hi, CFG_PROCESS, text)

static const struct cfg_key half_keys[] = {
    ROW(struct half_config, source, "source", CFG_STRING, "", 0, 64,
        "The [source NAME] whose database has the half-message tables. Empty: no half-messages."),
    ROW(struct half_config, store.outbox, "outbox", CFG_STRING, "outbox", 1, 64,
        "Outbox table of that source that the messages go to."),
    HTTP_KEYS(struct half_config, api, "8379", HALF_HTTP_CONNECTIONS,
              "Address of the API. Without http_tls_cert_file keep it on the loopback: tokens go "
              "over the line as they are.",
              "Port of http_address. 0: no API, only check-back for those who prepare by SQL.",
              "As in [relay], for the API.",
              "Connections to the API at once. To make room the one that is worth least is closed, "
              "never one whose request is being worked on.",
              "Certificate of the API with its chain, PEM. Empty: HTTP without TLS."),
    ROW(struct half_config, api.limits.per_address, "http_per_address", CFG_COUNT, "0", 0, 65535,
        "Of these, from one IPv4 address or one IPv6 /64 network. 0: as many as http_connections."),
    ROW(struct half_config, token, "token", CFG_SECRET, "", 0, 512,
        "Callers send it as Authorization: Bearer; 16 characters at least. Better given as "
        "token_file or in the environment."),
    ROW(struct half_config, previous_token, "previous_token", CFG_SECRET, "", 0, 512,
        "Accepted as well, while callers change over to another token."),
    ROW(struct half_config, api.open_lookup, "open_lookup", CFG_BOOL, "no", 0, 0,
        "A caller that knows a gid may look it up without the token."),
    NUMBER(struct half_config, api.limits.body_bytes, "max_body", CFG_SIZE, HALF_HTTP_BODY_BYTES,
           CFG_KIB, 64 * CFG_MIB,
           "Largest body of a prepare. The database's max_allowed_packet must be twice as large."),
    ROW(struct half_config, api.limits.in_flight_bytes, "body_memory", CFG_SIZE, "64MiB", CFG_KIB,
        1024 * CFG_MIB,
        "Bytes of all bodies that are being read or worked on; above it requests are answered 503 "
        "with Retry-After. Never less than max_body."),
    NUMBER(struct half_config, store.workers, "workers", CFG_COUNT, HALF_WORKERS, 1, 64,
           "Database connections that run requests; each shares its commits among all that "
           "wait."),
    NUMBER(struct half_config, store.queue_max, "queue", CFG_COUNT, HALF_QUEUE_MAX, 1, 1000000,
           "Requests that may wait; more are answered 503 at once."),
    NUMBER(struct half_config, store.batch_max, "batch", CFG_COUNT, HALF_BATCH_MAX, 1, 256,
           "Requests that share a commit, at most."),
    ROW(struct half_config, check_back, "check_back", CFG_BOOL, "yes", 0, 0,
        "Ask silent producers. Of several relays the one with the lease does."),
    ROW(struct half_config, api.first_check_ms, "first_check", CFG_DURATION, "60s", 1,
        24 * CFG_HOUR,
        "Silence after a prepare before its producer is asked, where the prepare does not say."),
    NUMBER(struct half_config, check.backoff_min_ms, "retry_min", CFG_DURATION,
           CHECK_BACKOFF_MIN_MS, 10, 24 * CFG_HOUR,
           "Wait after the first question; doubles with jitter."),
    NUMBER(struct half_config, check.backoff_cap_ms, "retry_max", CFG_DURATION,
           CHECK_BACKOFF_CAP_MS, 10, 24 * CFG_HOUR, "Longest such wait."),
    NUMBER(struct half_config, check.max_answers, "max_answers", CFG_COUNT, CHECK_MAX_ANSWERS, 1,
           1000000,
           "Answers 'unknown' before a half-message is parked. What is no answer does not count."),
    NUMBER(struct half_config, check.max_in_progress, "max_in_progress", CFG_COUNT,
           CHECK_MAX_IN_PROGRESS, 1, 1000000, "The same for answers 'in_progress'."),
    NUMBER(struct half_config, check.breaker_failures, "breaker_failures", CFG_COUNT,
           CHECK_BREAKER_FAILURES, 1, 1000000,
           "Questions without an answer, in a row, before a producer is left alone for a while."),
    NUMBER(struct half_config, check.breaker_min_ms, "breaker_min", CFG_DURATION,
           CHECK_BREAKER_MIN_MS, 10, CFG_HOUR, "How long, at first; doubles with jitter."),
    NUMBER(struct half_config, check.breaker_cap_ms, "breaker_max", CFG_DURATION,
           CHECK_BREAKER_CAP_MS, 10, 24 * CFG_HOUR, "Longest such wait."),
    NUMBER(struct half_config, check.lease_ms, "lease", CFG_DURATION, CHECK_LEASE_MS, CFG_SECOND,
           CFG_HOUR, "How long a dead relay keeps others from asking in its place."),
    NUMBER(struct half_config, check.retention_s, "retention", CFG_SECONDS,
           CHECK_RETENTION_S *CFG_SECOND, CFG_MINUTE, 1000 * CFG_HOUR,
           "How long a decided half-message is kept to answer repeated requests."),
    NUMBER(
        struct half_config, check.barrier_keep_s, "barrier_keep", CFG_SECONDS,
        CHECK_BARRIER_KEEP_S *CFG_SECOND, CFG_HOUR, 1000 * CFG_HOUR,
        "How long rows of half_barrier are kept (outboxctl barrier clean --keep). About an older "
        "half-message a missing row says nothing: it is parked."),
};

static const struct cfg_key producer_keys[] = {
    CFG_CHOICE(struct check_producer, kind, "check", "http", check_choices, CFG_PROCESS,
               "http: ask its url; barrier: look into its database; none: it cannot be asked, so "
               "what it leaves undecided is parked."),
    ROW(struct check_producer, url, "url", CFG_OPTIONAL, "", 0, 2048,
        "Where to ask; {gid} in it is replaced, otherwise ?gid= is added. Redirects are not "
        "followed."),
    ROW(struct check_producer, token, "token", CFG_SECRET, "", 0, 512,
        "Sent as Authorization: Bearer. Empty: none."),
    ROW(struct check_producer, concurrency, "concurrency", CFG_COUNT, "0", 0, 1024,
        "Questions in flight at most. 0: 16 over HTTP, 4 through the barrier."),
    NUMBER(struct check_producer, timeout_ms, "timeout", CFG_DURATION, CHECK_ASK_MS, 10, CFG_HOUR,
           "Of one question by HTTP."),
    DB_ADDRESS_KEYS(struct check_producer, db, CFG_PROCESS,
                    "check = barrier: host of the database with its half_barrier, the primary."),
    DB_LOGIN_KEYS(struct check_producer, db, CFG_PROCESS, "",
                  "User there; it needs SELECT and INSERT on half_barrier.",
                  "Database that holds half_barrier."),
    CFG_CHOICE(struct check_producer, db.tls, "tls", "preferred", db_tls_choices, CFG_PROCESS,
               "TLS with that database, as in [source]."),
    ROW(struct check_producer, ca_file, "tls_ca_file", CFG_OPTIONAL, "", 0, 4095,
        "Certificates to trust, PEM, for the url or the database. Empty: those of the system."),
};

/* Taken as they are by who asks next; nothing has to be started again. */
static const struct cfg_key consumer_keys[] = {
    DB_ADDRESS_KEYS(struct consumer_config, db, 0,
                    "Host of the database in which the consumer applies messages."),
    DB_LOGIN_KEYS(struct consumer_config, db, 0, NULL,
                  "User there; SELECT on the tables is enough to look, see sql/schema/grants.md.",
                  "Database that holds inbox_applied."),
    DB_TLS_KEYS(struct consumer_config, db, 0),
};

static const struct cfg_key console_keys[] = {
    HTTP_KEYS(
        struct console_config, http, "0", HTTP_CONNECTIONS,
        "Address of the console. Without http_tls_cert_file keep it on the loopback, or behind "
        "a proxy with TLS: tokens go over the line as they are.",
        "Port of http_address. 0: no console.", "As in [relay], for the console.",
        "Connections to the console at once.",
        "Certificate of the console with its chain, PEM. Empty: HTTP without TLS."),
    ROW(struct console_config, prefix, "prefix", CFG_STRING, "", 0, 128,
        "What every path begins with, as a proxy passes it on: /rowpost. Empty: nothing."),
    ROW(struct console_config, reader_token, "reader_token", CFG_SECRET, "", 0, 512,
        "Password of those who may look; 16 characters at least. Better given as "
        "reader_token_file. Empty: none."),
    ROW(struct console_config, operator_token, "operator_token", CFG_SECRET, "", 0, 512,
        "The same of those who may also resume, replay, send and ask again."),
    ROW(struct console_config, admin_token, "admin_token", CFG_SECRET, "", 0, 512,
        "The same of those who may also discard, replay by force, and decide half-messages."),
    CFG_LIST_ROW(struct console_config, proxy_peers, proxy_peer_count, "proxy_peers", "", 0, 16,
                 CFG_PROCESS,
                 "Addresses of proxies that have checked who asks, and say so in the two headers "
                 "below. From anywhere else the headers mean nothing."),
    ROW(struct console_config, proxy_user_header, "proxy_user_header", CFG_STRING,
        "X-Forwarded-User", 1, 64, "Header with the name, from proxy_peers."),
    ROW(struct console_config, proxy_role_header, "proxy_role_header", CFG_STRING, "X-Rowpost-Role",
        1, 64, "Header with the role: reader, operator or admin, from proxy_peers."),
    CFG_CHOICE(struct console_config, payloads, "payloads", "admin", role_choices, CFG_PROCESS,
               "The least role that may see payloads, headers and properties."),
    ROW(struct console_config, threads, "threads", CFG_COUNT, "2", 1, 16,
        "Pages that may be at work on databases at once; 32 more may wait."),
    ROW(struct console_config, deadline_ms, "deadline", CFG_DURATION, "5s", CFG_SECOND, CFG_MINUTE,
        "A page whose database does not answer says so after this time."),
};

static const struct cfg_section sections[] = {
    {.name = "relay",
     .item_size = sizeof(struct relay_config),
     CFG_KEYS(relay_keys),
     .help = "The process itself."},
    {.name = "broker",
     .item_size = sizeof(struct relay_config),
     CFG_KEYS(broker_keys),
     .help = "RabbitMQ, for every lane."},
    {.name = "lane",
     .item_size = sizeof(struct relay_config),
     CFG_KEYS(lane_keys),
     .help = "How lanes work. A source may have values of its own."},
    {.name = "source",
     CFG_NAMED(struct relay_config, sources, source_count, struct source_config, name),
     CFG_KEYS(source_keys),
     .help = "A database with outbox tables. At least one."},
    {.name = "topic",
     CFG_NAMED(struct relay_config, rules, rule_count, struct topic_rule, pattern),
     CFG_KEYS(topic_keys),
     .restarts = LANES,
     .help = "How a topic is published. The name is the topic, or its beginning and a '*'. The "
             "first section of the file that fits counts."},
    {.name = "exchange",
     CFG_NAMED(struct relay_config, exchanges, exchange_count, struct exchange_config, name),
     CFG_KEYS(exchange_keys),
     .restarts = RESTARTS_TOPOLOGY,
     .help = "A durable exchange. Those that are only named elsewhere need no section: they are of "
             "type topic."},
    {.name = "queue",
     CFG_NAMED(struct relay_config, queues, queue_count, struct queue_config, name),
     CFG_KEYS(queue_keys),
     .restarts = RESTARTS_TOPOLOGY,
     .help = "A queue and its bindings. Consumers may declare their own instead."},
    {.name = "half",
     CFG_PLAIN(struct relay_config, half),
     CFG_KEYS(half_keys),
     .help = "Half-messages: the API and check-back, see docs/half-messages.md."},
    {.name = "producer",
     CFG_NAMED(struct relay_config, producers, producer_count, struct check_producer, name),
     CFG_KEYS(producer_keys),
     .restarts = CFG_PROCESS,
     .help = "A producer of half-messages and how it is asked. Only these are ever called."},
    {.name = "consumer",
     CFG_NAMED(struct relay_config, consumers, consumer_count, struct consumer_config, name),
     CFG_KEYS(consumer_keys),
     .help = "A consumer's database, for `outboxctl trace` and the console. The lanes have nothing "
             "to do with it."},
    {.name = "console",
     CFG_PLAIN(struct relay_config, console),
     CFG_KEYS(console_keys),
     .help = "Pages for operators, see docs/console.md."},
};

/* For outbox-relay.conf.example. */
static const struct cfg_sample samples[] = {
    {"relay", "http_token", "/run/secrets/relay_http_token"},
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
    {"console", "reader_token", "/run/secrets/console_reader"},
    {"console", "operator_token", "/run/secrets/console_operator"},
    {"console", "admin_token", "/run/secrets/console_admin"},
    {"consumer", NULL, "stock"},
    {"consumer", "user", "obx_operator"},
    {"consumer", "password", "/run/secrets/stock_mysql"},
    {"consumer", "database", "stock"},
};

const struct cfg_schema relay_schema = {
    .sections = sections,
    .section_count = sizeof(sections) / sizeof(sections[0]),
    .root_size = sizeof(struct relay_config),
    .samples = samples,
    .sample_count = sizeof(samples) / sizeof(samples[0]),
    .check = relay_keys_check,
    .finish = relay_config_finish,
};
