/*
 * The checks: database, schema, rights, broker, queue; and each endpoint by a connection (TCP and
 * TLS, verified as a call would) over which nothing is sent. Called by main.c.
 *
 * A check that fails does not end the others: a person who sets up a server wants the whole list, with
 * what to do about each line, and not one more line at each try.
 */
#include "check.h"

#include <string.h>

#include "bridge/topology.h"
#include "service/http_client.h"
#include "sql/schema.h"

struct checking {
    FILE *out;
    unsigned failed;
};

OBX_PRINTF(3, 4)
static void say_ok(const struct checking *checking, const char *subject, const char *fmt, ...)
{
    va_list args;

    fprintf(checking->out, "ok      %s: ", subject);
    va_start(args, fmt);
    vfprintf(checking->out, fmt, args);
    va_end(args);
    fputc('\n', checking->out);
}

static void say_failed(struct checking *checking, const char *subject, const char *why,
                       const char *fix)
{
    fprintf(checking->out, "FAILED  %s: %s | fix: %s\n", subject, why, fix);
    checking->failed++;
}

/* ---- database ---- */

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static bool has_inbox(const struct notify_config *config)
{
    for (size_t i = 0; i < config->queue_count; i++) {
        if (config->queues[i].to == QUEUE_TO_INBOX)
            return true;
    }
    return false;
}

static enum obx_code try_all(struct db *db, const char *const *statements, size_t count,
                             struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < count && rc == OBX_OK; i++)
        rc = db_exec(db, statements[i], DB_NO_ARGS, NULL, err);
    return rc;
}

/* Every statement of the program, on no row, undone; the first that is refused. Tried and not looked
 * up in the grants: rights come by role, wildcard, proxy user and column, and only the server adds
 * them up. */
static enum obx_code try_rights(struct db *db, const struct notify_config *config,
                                struct obx_err *err)
{
    static const char *const always[] = {
        "INSERT INTO inbox_applied (consumer_group, message_id) SELECT '', '' FROM DUAL WHERE 1 = "
        "0",
        "DELETE FROM inbox_applied WHERE consumer_group = ''",
        "DELETE FROM inbox_parked WHERE id = 0",
        "UPDATE inbox_parked SET attempts = 0 WHERE id = 0",
    };
    static const char *const to_http[] = {
        ("INSERT INTO inbox_call (consumer_group, endpoint, message_id, topic, body)"
         " SELECT '', '', '', '', '' FROM DUAL WHERE 1 = 0"),
        "UPDATE inbox_call SET attempts = 0 WHERE id = 0",
        "DELETE FROM inbox_call WHERE id = 0",
        ("INSERT INTO inbox_endpoint (consumer_group, endpoint)"
         " SELECT '', '' FROM DUAL WHERE 1 = 0"),
        "UPDATE inbox_endpoint SET is_paused = 1 WHERE consumer_group = ''",
        "INSERT INTO inbox_lease (consumer_group) SELECT '' FROM DUAL WHERE 1 = 0",
        "UPDATE inbox_lease SET epoch = 0 WHERE consumer_group = ''",
    };
    static const char *const to_inbox[] = {
        ("INSERT INTO inbox (queue, state, message_id, topic, size, payload)"
         " SELECT '', 'ready', '', '', 0, '' FROM DUAL WHERE 1 = 0"),
        "UPDATE inbox SET attempts = 0 WHERE id = 0",
        "DELETE FROM inbox WHERE id = 0",
        "UPDATE inbox_applied SET outcome = NULL WHERE consumer_group = '' AND message_id = ''",
    };
    static const char *const shared[] = {
        ("INSERT INTO inbox_member (consumer_group, queue, member, partitions, seen_at)"
         " SELECT '', '', '', 0, UTC_TIMESTAMP(6) FROM DUAL WHERE 1 = 0"),
        "UPDATE inbox_member SET partitions = 0 WHERE consumer_group = ''",
        "DELETE FROM inbox_member WHERE consumer_group = ''",
    };
    enum obx_code rc = db_begin(db, err);

    for (size_t i = 0; rc == OBX_OK && i < config->queue_count; i++) {
        if (config->queues[i].inbox.consumer.partitions > 0)
            rc = try_all(db, shared, COUNT_OF(shared), err);
    }
    if (rc == OBX_OK)
        rc = try_all(db, always, COUNT_OF(always), err);
    if (rc == OBX_OK && config->endpoint_count > 0)
        rc = try_all(db, to_http, COUNT_OF(to_http), err);
    if (rc == OBX_OK && has_inbox(config))
        rc = try_all(db, to_inbox, COUNT_OF(to_inbox), err);
    (void)db_rollback(db, NULL);
    return rc;
}

/* The fix is a command that can be pasted. */
static void check_schema(struct checking *checking, struct db *db, enum schema_side side)
{
    struct obx_err err = {0};
    char fix[96];

    snprintf(fix, sizeof(fix), "outboxctl migrate --side %s --db mysql://...",
             schema_side_name(side));
    if (schema_check(db, side, &err) == OBX_OK)
        say_ok(checking, "schema", "%s is at version %u", schema_side_name(side),
               (unsigned)schema_latest(side));
    else
        say_failed(checking, "schema", err.text, fix);
}

static void check_database(struct checking *checking, const struct notify_config *config)
{
    struct obx_err err = {0};
    struct db *db = NULL;

    if (db_open(&config->db, &db, &err) != OBX_OK) {
        say_failed(checking, "database", err.text, "see [database]; is the server up?");
        return;
    }
    say_ok(checking, "database", "%s, %s", config->db.database, db_server_version(db));
    check_schema(checking, db, SCHEMA_CONSUMER);
    if (config->endpoint_count > 0)
        check_schema(checking, db, SCHEMA_NOTIFY);
    if (has_inbox(config))
        check_schema(checking, db, SCHEMA_INBOX);
    if (try_rights(db, config, &err) == OBX_OK)
        say_ok(checking, "rights", "all there");
    else
        say_failed(checking, "rights", err.text,
                   "sql/schema/grants.md, under notifier or inbox-relay");
    db_close(db);
}

/* ---- broker ---- */

static void check_queue(struct checking *checking, const struct notify_config *config,
                        const char *name)
{
    const struct topology_queue queue = {.name = name};
    const struct topology topology = {.queues = &queue, .queue_count = 1};
    struct obx_err err = {0};

    /* Passively: a check that declared the queue would change what it is to look at. */
    if (bridge_topology_apply(&config->broker, &topology, TOPOLOGY_VERIFY, &err) == OBX_OK)
        say_ok(checking, "queue", "%s is there", queue.name);
    else if (config->declares)
        say_ok(checking, "queue", "%s is not there yet; it is declared at the start", queue.name);
    else
        say_failed(checking, "queue", err.text, "make it, or set topology = declare in [broker]");
}

static void check_queues(struct checking *checking, const struct notify_config *config,
                         const struct obx_consumer_opts *opts)
{
    char name[UINT8_MAX + 1];

    if (opts->partitions == 0)
        check_queue(checking, config, opts->queue);
    for (unsigned i = 0; i < opts->partitions; i++) {
        (void)snprintf(name, sizeof(name), "%s.%u", opts->queue, i);
        check_queue(checking, config, name);
    }
}

static void check_broker(struct checking *checking, const struct notify_config *config)
{
    struct obx_err err = {0};

    if (bridge_check(&config->broker, &err) != OBX_OK) {
        say_failed(checking, "broker", err.text, "see [broker]; is RabbitMQ up?");
        return;
    }
    say_ok(checking, "broker", "connected to %s, vhost %s", config->broker.addresses,
           config->broker.vhost);
    if (config->endpoint_count > 0)
        check_queues(checking, config, &config->consumer);
    for (size_t i = 0; i < config->queue_count; i++) {
        if (config->queues[i].to == QUEUE_TO_INBOX)
            check_queues(checking, config, &config->queues[i].inbox.consumer);
    }
}

/* ---- endpoints ---- */

struct connected {
    bool is_there;
    char why[OBX_ERR_TEXT_MAX];
};

static void on_connected(const struct http_answer *answer, void *ctx)
{
    struct connected *connected = ctx;

    connected->is_there = answer->rc == OBX_OK;
    snprintf(connected->why, sizeof(connected->why), "%s", answer->why);
}

/* As far as TLS and no further: a request would be a call, which a receiver counts and answers. */
static void connect_only(const struct endpoint_config *endpoint, struct connected *connected)
{
    const struct http_request request = {.method = HTTP_CONNECT_ONLY,
                                         .url = endpoint->url,
                                         .timeout_ms = endpoint->connect_timeout_ms,
                                         .ca_file = endpoint->tls_ca_file,
                                         .is_unverified = !endpoint->tls_verify};
    struct obx_err err = {0};

    if (http_client_once(&request, on_connected, connected, &err) != OBX_OK)
        snprintf(connected->why, sizeof(connected->why), "%s", err.text);
}

static void check_endpoint(struct checking *checking, const struct endpoint_config *endpoint)
{
    struct connected connected = {.is_there = false};
    char subject[NOTIFY_NAME_MAX + 16];
    const char *signs = endpoint->keys.count == 0 ? "not signed" : "signed";

    connect_only(endpoint, &connected);
    snprintf(subject, sizeof(subject), "endpoint %s", endpoint->name);
    if (!connected.is_there)
        say_failed(checking, subject, connected.why,
                   "its url, certificate or network; calls would fail the same way");
    else if (strncmp(endpoint->url, "https:", strlen("https:")) != 0)
        say_ok(checking, subject, "connected, %s, not encrypted (http)", signs);
    else
        say_ok(checking, subject, "connected, %s, TLS%s", signs,
               endpoint->tls_verify ? " verified" : " NOT verified");
}

bool notify_check(const struct notify_config *config, FILE *out)
{
    struct checking checking = {.out = out};

    say_ok(&checking, "configuration", "%zu endpoints, %zu queues", config->endpoint_count,
           config->queue_count);
    check_database(&checking, config);
    check_broker(&checking, config);
    for (size_t i = 0; i < config->endpoint_count; i++)
        check_endpoint(&checking, &config->endpoints[i]);
    return checking.failed == 0;
}
