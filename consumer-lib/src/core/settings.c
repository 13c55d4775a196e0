/*
 * Checks and copies the options of a consumer. The texts go into one block, filled by text_keep()
 * in the order of the struct, whose size is counted by a first pass through the same list, so that
 * the two cannot disagree.
 */
#include "settings.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/partition.h"
#include "bridge/topology.h"
#include "sql/db_hosts.h"

#define DEFAULT_PREFETCH      1000
#define DEFAULT_MEMORY        ((size_t)64 * 1024 * 1024)
#define DEFAULT_BATCH_MAX     200
#define DEFAULT_BATCH_MAX_MS  100
#define DEFAULT_ATTEMPTS      30
#define DEFAULT_RETRY_MIN_MS  200
#define DEFAULT_RETRY_CAP_MS  (30 * 60 * 1000)
#define DEFAULT_RETENTION_S   (7 * 24 * 3600)
#define DEFAULT_CLEANUP_MS    10000
#define DEFAULT_DRAIN_MS      30000
#define DEFAULT_DB_TIMEOUT_MS 30000
#define DEFAULT_DB_IDLE_S     60
#define DEFAULT_LOCK_WAIT_S   3
#define DEFAULT_OUTAGE        5
#define DEFAULT_PAUSE_MAX_MS  30000
#define DB_IDLE_MAX_S         86400
#define WORKERS_MAX           256
#define BATCH_LIMIT           10000
#define QUEUE_NAME_MAX        240
#define PARTITION_TEXT_MAX    512 /* more than AMQP has room for */

/* The program may have been built with an older, shorter struct, or a newer one whose new options
 * are not used. */
static enum obx_code take_opts(struct obx_consumer_opts *to, const struct obx_consumer_opts *from,
                               struct obx_err *err)
{
    const unsigned char *bytes = (const unsigned char *)from;
    size_t size = from->size;

    memset(to, 0, sizeof(*to));
    if (size < sizeof(size))
        return obx_fail(err, OBX_E_INVALID, "opts.size is not set");
    for (size_t i = sizeof(*to); i < size; i++) {
        if (bytes[i] != 0)
            return obx_fail(err, OBX_E_INVALID,
                            "opts has options that this version of the library does not know");
    }
    memcpy(to, from, size < sizeof(*to) ? size : sizeof(*to));
    return OBX_OK;
}

static enum obx_code check_name(const char *name, const char *what, size_t max, struct obx_err *err)
{
    if (name == NULL || *name == '\0')
        return obx_fail(err, OBX_E_INVALID, "opts.%s is not set", what);
    if (strlen(name) > max)
        return obx_fail(err, OBX_E_INVALID, "opts.%s is longer than %zu bytes", what, max);
    return OBX_OK;
}

static enum obx_code check_numbers(const struct obx_consumer_opts *o, struct obx_err *err)
{
    if (o->workers > WORKERS_MAX)
        return obx_fail(err, OBX_E_INVALID, "opts.workers is above %d", WORKERS_MAX);
    if (o->partitions > PARTITIONS_MAX)
        return obx_fail(err, OBX_E_INVALID, "opts.partitions is above %d", PARTITIONS_MAX);
    if (o->batch_max > BATCH_LIMIT)
        return obx_fail(err, OBX_E_INVALID, "opts.batch_max is above %d", BATCH_LIMIT);
    if (o->db_idle_s > DB_IDLE_MAX_S)
        return obx_fail(err, OBX_E_INVALID, "opts.db_idle_s is above %d", DB_IDLE_MAX_S);
    if (o->retry_cap_ms != 0 && o->retry_min_ms > o->retry_cap_ms)
        return obx_fail(err, OBX_E_INVALID, "opts.retry_min_ms is above retry_cap_ms");
    if (o->db_tls > OBX_DB_TLS_VERIFY_FULL)
        return obx_fail(err, OBX_E_INVALID, "opts.db_tls is not one of enum obx_db_tls");
    if (o->on_dead > OBX_ON_DEAD_SKIP)
        return obx_fail(err, OBX_E_INVALID, "opts.on_dead is not one of enum obx_on_dead");
    if (o->dead_letter_exchange != NULL && o->dead_letter_queue == NULL)
        return obx_fail(err, OBX_E_INVALID,
                        "opts.dead_letter_exchange is set, dead_letter_queue is not");
    if (o->binding_count > 0 && o->bindings == NULL)
        return obx_fail(err, OBX_E_INVALID, "opts.bindings is not set");
    for (size_t i = 0; i < o->binding_count; i++) {
        const char *type = o->bindings[i].exchange_type;

        if (check_name(o->bindings[i].exchange, "bindings[].exchange", UINT8_MAX, err) != OBX_OK)
            return OBX_E_INVALID;
        if (o->partitions > 0 && type != NULL && strcmp(type, "topic") != 0)
            return obx_fail(err, OBX_E_INVALID,
                            "opts.partitions needs a topic exchange, and '%s' is %s",
                            o->bindings[i].exchange, type);
    }
    return OBX_OK;
}

/* The dedup table's column holds nothing else, and whatever is cut or replaced there would be
 * another group. */
static enum obx_code check_group(const char *group, struct obx_err *err)
{
    enum obx_code rc = check_name(group, "group", SETTINGS_GROUP_MAX, err);

    if (rc != OBX_OK || group == NULL)
        return rc;
    for (const char *at = group; *at != '\0'; at++) {
        if (*at <= ' ' || *at > '~')
            return obx_fail(err, OBX_E_INVALID,
                            "opts.group may have printable ASCII characters without blanks only");
    }
    return OBX_OK;
}

static enum obx_code check(const struct obx_consumer_opts *o, struct obx_err *err)
{
    enum obx_code rc = check_group(o->group, err);
    struct db_hosts hosts;

    if (rc == OBX_OK && o->db_host != NULL) {
        rc = db_hosts_parse(o->db_host, o->db_port, &hosts, err);
        if (rc != OBX_OK)
            obx_err_context(err, "opts.db_host");
    }
    if (rc == OBX_OK)
        rc = check_name(o->queue, "queue", QUEUE_NAME_MAX, err);
    if (rc == OBX_OK)
        rc = check_name(o->db_user, "db_user", UINT8_MAX, err);
    if (rc == OBX_OK)
        rc = check_name(o->db_name, "db_name", UINT8_MAX, err);
    if (rc == OBX_OK && o->dead_letter_queue != NULL)
        rc = check_name(o->dead_letter_queue, "dead_letter_queue", UINT8_MAX, err);
    if (rc == OBX_OK && o->dead_letter_exchange != NULL)
        rc = check_name(o->dead_letter_exchange, "dead_letter_exchange", UINT8_MAX, err);
    return rc == OBX_OK ? check_numbers(o, err) : rc;
}

/* Where the texts go. In the counting pass at is NULL and only used grows. */
struct texts {
    char *at;
    size_t used;
};

static const char *text_keep(struct texts *texts, const char *text, const char *fallback)
{
    const char *from = text != NULL ? text : fallback;
    char *to = texts->at == NULL ? NULL : texts->at + texts->used;

    if (from == NULL)
        return NULL;
    texts->used += strlen(from) + 1;
    if (to != NULL)
        memcpy(to, from, strlen(from) + 1);
    return to;
}

static void keep_bridge(struct bridge_opts *to, struct texts *texts,
                        const struct obx_consumer_opts *o)
{
    to->addresses = text_keep(texts, o->broker_addresses, "127.0.0.1:5672");
    to->vhost = text_keep(texts, o->broker_vhost, "/");
    to->user = text_keep(texts, o->broker_user, "guest");
    to->password = text_keep(texts, o->broker_password, "guest");
    to->connection_name = text_keep(texts, o->group, NULL);
    to->tls.ca_file = text_keep(texts, o->broker_tls_ca_file, NULL);
    to->tls.cert_file = text_keep(texts, o->broker_tls_cert_file, NULL);
    to->tls.key_file = text_keep(texts, o->broker_tls_key_file, NULL);
}

static void keep_db(struct db_opts *to, struct texts *texts, const struct obx_consumer_opts *o)
{
    to->host = text_keep(texts, o->db_host, o->db_socket != NULL ? NULL : "127.0.0.1");
    to->unix_socket = text_keep(texts, o->db_socket, NULL);
    to->user = text_keep(texts, o->db_user, NULL);
    to->password = text_keep(texts, o->db_password, NULL);
    to->database = text_keep(texts, o->db_name, NULL);
    to->tls_ca_file = text_keep(texts, o->db_tls_ca_file, NULL);
    to->tls_cert_file = text_keep(texts, o->db_tls_cert_file, NULL);
    to->tls_key_file = text_keep(texts, o->db_tls_key_file, NULL);
    to->program_name = text_keep(texts, "rowpost-consumer", NULL);
}

static void keep_texts(struct settings *s, struct texts *texts, const struct obx_consumer_opts *o)
{
    s->group = text_keep(texts, o->group, NULL);
    s->queue = text_keep(texts, o->queue, NULL);
    s->dead_letter_exchange = text_keep(texts, o->dead_letter_exchange, "");
    s->dead_letter_queue = text_keep(texts, o->dead_letter_queue, NULL);
    keep_bridge(&s->bridge, texts, o);
    keep_db(&s->db, texts, o);
    for (size_t i = 0; i < o->binding_count; i++) {
        const struct obx_binding *from = &o->bindings[i];

        s->bindings[i].exchange = text_keep(texts, from->exchange, NULL);
        s->bindings[i].exchange_type = text_keep(texts, from->exchange_type, NULL);
        s->bindings[i].routing_key = text_keep(texts, from->routing_key, "");
    }
}

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value != 0 ? value : fallback;
}

static enum db_tls tls_mode(enum obx_db_tls mode)
{
    switch (mode) {
    case OBX_DB_TLS_DISABLED:
        return DB_TLS_DISABLED;
    case OBX_DB_TLS_REQUIRED:
        return DB_TLS_REQUIRED;
    case OBX_DB_TLS_VERIFY_FULL:
        return DB_TLS_VERIFY_FULL;
    case OBX_DB_TLS_PREFERRED:
        break;
    }
    return DB_TLS_PREFERRED;
}

static void keep_numbers(struct settings *s, const struct obx_consumer_opts *o)
{
    s->bridge.heartbeat_s = o->broker_heartbeat_s;
    s->bridge.tls.enabled = o->broker_tls;
    s->bridge.tls.insecure = o->broker_tls_insecure;
    s->db.port = o->db_port;
    s->db.read_timeout_ms = or_default(o->db_timeout_ms, DEFAULT_DB_TIMEOUT_MS);
    s->db.write_timeout_ms = s->db.read_timeout_ms;
    s->db.lock_wait_s = or_default(o->db_lock_wait_s, DEFAULT_LOCK_WAIT_S);
    s->db.idle_s = or_default(o->db_idle_s, DEFAULT_DB_IDLE_S);
    s->db.tls = tls_mode(o->db_tls);
    s->prefetch = (uint16_t)or_default(o->prefetch, DEFAULT_PREFETCH);
    s->max_memory_bytes = o->max_memory_bytes != 0 ? o->max_memory_bytes : DEFAULT_MEMORY;
    s->workers = or_default(o->workers, 1);
    s->batch_max = or_default(o->batch_max, DEFAULT_BATCH_MAX);
    s->batch_wait_us = o->batch_wait_us;
    s->batch_max_ms = or_default(o->batch_max_ms, DEFAULT_BATCH_MAX_MS);
    s->max_attempts = or_default(o->max_attempts, DEFAULT_ATTEMPTS);
    s->retry_min_ms = or_default(o->retry_min_ms, DEFAULT_RETRY_MIN_MS);
    s->retry_cap_ms = or_default(o->retry_cap_ms, DEFAULT_RETRY_CAP_MS);
    if (s->retry_min_ms > s->retry_cap_ms)
        s->retry_cap_ms = s->retry_min_ms;
    s->delivery_limit = o->delivery_limit != 0 ? o->delivery_limit : TOPOLOGY_DELIVERY_LIMIT;
    s->dedup_retention_s = or_default(o->dedup_retention_s, DEFAULT_RETENTION_S);
    s->cleanup_interval_ms = or_default(o->cleanup_interval_ms, DEFAULT_CLEANUP_MS);
    s->drain_timeout_ms = or_default(o->drain_timeout_ms, DEFAULT_DRAIN_MS);
    s->outage_messages = or_default(o->outage_messages, DEFAULT_OUTAGE);
    s->outage_pause_max_ms = or_default(o->outage_pause_max_ms, DEFAULT_PAUSE_MAX_MS);
}

static void keep_choices(struct settings *s, const struct obx_consumer_opts *o)
{
    s->binding_count = o->binding_count;
    s->declare_topology = o->declare_topology;
    s->single_active_consumer = o->single_active_consumer || o->partitions > 0;
    s->partitions = o->partitions;
    s->classic_queue = o->classic_queue;
    s->skips_dead = o->on_dead == OBX_ON_DEAD_SKIP;
    s->no_cleanup = o->no_cleanup;
    s->accept_older_than_retention = o->accept_older_than_retention;
    s->fail_fast = o->fail_fast;
}

enum obx_code settings_init(struct settings *settings, const struct obx_consumer_opts *opts,
                            struct obx_err *err)
{
    struct obx_consumer_opts o;
    struct texts texts = {0};
    enum obx_code rc = take_opts(&o, opts, err);

    memset(settings, 0, sizeof(*settings));
    if (rc == OBX_OK)
        rc = check(&o, err);
    if (rc != OBX_OK)
        return rc;
    settings->bindings = obx_calloc(o.binding_count + 1, sizeof(*settings->bindings));
    if (settings->bindings == NULL)
        return obx_fail(err, OBX_E_NOMEM, "options");
    keep_texts(settings, &texts, &o);
    texts = (struct texts){.at = obx_malloc(texts.used)};
    if (texts.at == NULL) {
        settings_fini(settings);
        return obx_fail(err, OBX_E_NOMEM, "options");
    }
    settings->text = texts.at;
    keep_texts(settings, &texts, &o);
    keep_numbers(settings, &o);
    keep_choices(settings, &o);
    return OBX_OK;
}

/* The texts that differ: the queue's name, and the routing keys with the partition in front. */
static void keep_partition(struct settings *s, struct texts *texts, const struct settings *whole,
                           unsigned partition)
{
    char name[PARTITION_TEXT_MAX];

    (void)snprintf(name, sizeof(name), "%s.%u", whole->queue, partition);
    s->queue = text_keep(texts, name, NULL);
    for (size_t i = 0; i < whole->binding_count; i++) {
        s->bindings[i] = whole->bindings[i];
        (void)snprintf(name, sizeof(name), "%u.%s", partition, whole->bindings[i].routing_key);
        s->bindings[i].routing_key = text_keep(texts, name, NULL);
    }
}

enum obx_code settings_partition(const struct settings *whole, unsigned partition,
                                 struct settings *out, struct obx_err *err)
{
    struct texts texts = {0};

    *out = *whole;
    out->partitions = 0;
    out->worker_base = partition * whole->workers;
    out->fail_fast = false; /* was looked at, for all */
    out->text = NULL;
    out->bindings = obx_calloc(whole->binding_count + 1, sizeof(*out->bindings));
    if (out->bindings != NULL) {
        keep_partition(out, &texts, whole, partition);
        texts = (struct texts){.at = obx_malloc(texts.used)};
        out->text = texts.at;
    }
    if (out->text == NULL) {
        settings_fini(out);
        return obx_fail(err, OBX_E_NOMEM, "partition %u", partition);
    }
    keep_partition(out, &texts, whole, partition);
    return OBX_OK;
}

void settings_fini(struct settings *settings)
{
    obx_free(settings->bindings);
    obx_free(settings->text);
    memset(settings, 0, sizeof(*settings));
}
