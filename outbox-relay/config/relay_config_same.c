/*
 * Comparison of two configurations by what they do, not by what was written: a reload restarts a
 * lane exactly when something that the lane was made from differs, a password in its file included.
 */
#include "relay_config.h"

#include <string.h>

static bool same_text(const char *a, const char *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return strcmp(a, b) == 0;
}

static bool same_db(const struct db_opts *a, const struct db_opts *b)
{
    return same_text(a->host, b->host) && a->port == b->port &&
           same_text(a->unix_socket, b->unix_socket) && same_text(a->user, b->user) &&
           same_text(a->password, b->password) && same_text(a->database, b->database) &&
           a->connect_timeout_ms == b->connect_timeout_ms &&
           a->read_timeout_ms == b->read_timeout_ms && a->write_timeout_ms == b->write_timeout_ms &&
           a->lock_wait_s == b->lock_wait_s && a->tls == b->tls &&
           same_text(a->tls_ca_file, b->tls_ca_file) &&
           same_text(a->tls_cert_file, b->tls_cert_file) &&
           same_text(a->tls_key_file, b->tls_key_file);
}

static bool same_tls(const struct bridge_tls *a, const struct bridge_tls *b)
{
    return a->enabled == b->enabled && a->insecure == b->insecure &&
           same_text(a->ca_file, b->ca_file) && same_text(a->cert_file, b->cert_file) &&
           same_text(a->key_file, b->key_file);
}

static bool same_broker(const struct bridge_opts *a, const struct bridge_opts *b)
{
    return same_text(a->addresses, b->addresses) && same_text(a->vhost, b->vhost) &&
           same_text(a->user, b->user) && same_text(a->password, b->password) &&
           a->connect_timeout_ms == b->connect_timeout_ms &&
           a->rpc_timeout_ms == b->rpc_timeout_ms && a->heartbeat_s == b->heartbeat_s &&
           a->reconnect_min_ms == b->reconnect_min_ms &&
           a->reconnect_cap_ms == b->reconnect_cap_ms && same_tls(&a->tls, &b->tls);
}

static bool same_rules(const struct lane_opts *a, const struct lane_opts *b)
{
    if (a->rule_count != b->rule_count)
        return false;
    for (size_t i = 0; i < a->rule_count; i++) {
        const struct topic_rule *x = &a->rules[i];
        const struct topic_rule *y = &b->rules[i];

        if (!same_text(x->pattern, y->pattern) || !same_text(x->exchange, y->exchange) ||
            !same_text(x->routing_key, y->routing_key) || x->on_park != y->on_park ||
            x->max_attempts != y->max_attempts)
            return false;
    }
    return true;
}

static bool same_tuning(const struct lane_opts *a, const struct lane_opts *b)
{
    return a->window == b->window && a->key_window == b->key_window &&
           a->batch_rows == b->batch_rows && a->inline_bytes == b->inline_bytes &&
           a->max_body_bytes == b->max_body_bytes && a->settle_max_rows == b->settle_max_rows &&
           a->settle_max_age_ms == b->settle_max_age_ms && a->poll_min_ms == b->poll_min_ms &&
           a->poll_max_ms == b->poll_max_ms && a->sweep_ms == b->sweep_ms &&
           a->lease_ms == b->lease_ms && a->max_attempts == b->max_attempts &&
           a->retry_min_ms == b->retry_min_ms && a->retry_cap_ms == b->retry_cap_ms &&
           a->confirm_timeout_ms == b->confirm_timeout_ms && a->drain_ms == b->drain_ms &&
           a->receipt_timeout_ms == b->receipt_timeout_ms &&
           a->receipt_cap_ms == b->receipt_cap_ms && a->max_sends == b->max_sends &&
           a->delayed_poll_ms == b->delayed_poll_ms && a->journal == b->journal &&
           a->journal_retention_ms == b->journal_retention_ms &&
           same_text(a->receipt_queue, b->receipt_queue);
}

bool source_config_same_lane(const struct source_config *a, const struct source_config *b)
{
    return same_text(a->name, b->name) && same_text(a->lane.exchange, b->lane.exchange) &&
           same_db(&a->lane.db, &b->lane.db) && same_broker(&a->lane.bridge, &b->lane.bridge) &&
           same_rules(&a->lane, &b->lane) && same_tuning(&a->lane, &b->lane);
}

static bool same_queue(const struct topology_queue *a, const struct topology_queue *b)
{
    if (!same_text(a->name, b->name) || !same_text(a->type, b->type) ||
        a->single_active_consumer != b->single_active_consumer || a->arg_count != b->arg_count)
        return false;
    for (size_t i = 0; i < a->arg_count; i++) {
        if (!same_text(a->args[i].name, b->args[i].name) ||
            !same_text(a->args[i].text, b->args[i].text) || a->args[i].number != b->args[i].number)
            return false;
    }
    return true;
}

static bool same_binding(const struct topology_binding *a, const struct topology_binding *b)
{
    return same_text(a->exchange, b->exchange) && same_text(a->queue, b->queue) &&
           same_text(a->routing_key, b->routing_key);
}

static bool same_topology(const struct topology *a, const struct topology *b)
{
    if (a->exchange_count != b->exchange_count || a->queue_count != b->queue_count ||
        a->binding_count != b->binding_count)
        return false;
    for (size_t i = 0; i < a->exchange_count; i++) {
        if (!same_text(a->exchanges[i].name, b->exchanges[i].name) ||
            !same_text(a->exchanges[i].type, b->exchanges[i].type))
            return false;
    }
    for (size_t i = 0; i < a->queue_count; i++) {
        if (!same_queue(&a->queues[i], &b->queues[i]))
            return false;
    }
    for (size_t i = 0; i < a->binding_count; i++) {
        if (!same_binding(&a->bindings[i], &b->bindings[i]))
            return false;
    }
    return true;
}

bool relay_config_same_topology(const struct relay_config *a, const struct relay_config *b)
{
    return a->topology_policy == b->topology_policy && same_broker(&a->broker, &b->broker) &&
           same_topology(&a->topology, &b->topology);
}
