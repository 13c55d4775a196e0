/*
 * Owns the copies of what bridge_opts points to and the parsed list of addresses. Made once at
 * creation, read-only afterwards. Called by link.c.
 */
#include "options.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

enum {
    PORT_AMQP = 5672,
    PORT_AMQPS = 5671,
    HOST_MAX = 255,
    PORT_MAX = 65535,
    DECIMAL = 10,
};

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value != 0 ? value : fallback;
}

/* NULL stays NULL. False only when memory ran out. */
static bool copy(char **dst, const char *text)
{
    if (text == NULL)
        return true;
    *dst = obx_strdup(text);
    return *dst != NULL;
}

static enum obx_code parse_port(const char *text, uint16_t *port, struct obx_err *err)
{
    char *end = NULL;
    const unsigned long value = strtoul(text, &end, DECIMAL);

    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value == 0 || value > PORT_MAX)
        return obx_fail(err, OBX_E_CONFIG, "broker port '%s' is not a number from 1 to 65535",
                        text);
    *port = (uint16_t)value;
    return OBX_OK;
}

/* What a name or an IPv4 address is made of; whether it exists is the resolver's to say. */
static bool is_host_name(const char *host)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

    return host[0] != '\0' && strlen(host) <= HOST_MAX && strspn(host, allowed) == strlen(host);
}

/* Cuts "[host]" off the front; *rest is what follows. */
static enum obx_code parse_bracketed(char *text, struct address *address, char **rest,
                                     struct obx_err *err)
{
    char *end = strchr(text, ']');
    struct in6_addr any;

    if (end == NULL)
        return obx_fail(err, OBX_E_CONFIG, "broker address '%s' lacks a closing ]", text);
    *end = '\0';
    *rest = end + 1;
    address->host = text + 1;
    if (inet_pton(AF_INET6, address->host, &any) != 1 || ((*rest)[0] != '\0' && (*rest)[0] != ':'))
        return obx_fail(err, OBX_E_CONFIG,
                        "in brackets stands an IPv6 address, and :port may follow: not '[%s]%s'",
                        address->host, *rest);
    return OBX_OK;
}

/* Cuts "[host]:port", "host:port" or "host" in place, blanks around it too. Port is left alone when
 * there is none. */
static enum obx_code parse_address(char *text, struct address *address, struct obx_err *err)
{
    const bool is_bracketed = text[strspn(text, " \t")] == '[';
    char *rest;
    char *colon;
    size_t len;
    enum obx_code rc = OBX_OK;

    text += strspn(text, " \t");
    for (len = strlen(text); len > 0 && strchr(" \t", text[len - 1]) != NULL; len--)
        text[len - 1] = '\0';
    if (strstr(text, "://") != NULL || strchr(text, '@') != NULL)
        /* Not with the text itself: a URL may hold a password. */
        return obx_fail(err, OBX_E_CONFIG,
                        "a broker address is host[:port], not a URL: leave out amqp:// (for "
                        "amqps:// say tls = yes), and give user, password and vhost by keys of "
                        "their own");
    colon = strchr(text, ':');
    rest = colon != NULL ? colon : text + len;
    address->host = text;
    if (is_bracketed)
        rc = parse_bracketed(text, address, &rest, err);
    else if (colon != NULL && strchr(colon + 1, ':') != NULL)
        rc = obx_fail(err, OBX_E_CONFIG, "write an IPv6 broker address in brackets: [%s]", text);
    if (rc != OBX_OK)
        return rc;
    if (*rest == ':') {
        *rest++ = '\0';
        rc = parse_port(rest, &address->port, err);
    }
    if (rc == OBX_OK && !is_bracketed && !is_host_name(address->host))
        rc = obx_fail(err, OBX_E_CONFIG, "'%s' is no host name", address->host);
    return rc;
}

static enum obx_code parse_addresses(struct options *options, const char *text, struct obx_err *err)
{
    size_t count = 1;
    char *next;

    if (text == NULL || text[strspn(text, " \t")] == '\0')
        return obx_fail(err, OBX_E_CONFIG, "no broker address");
    options->address_text = obx_strdup(text);
    for (const char *at = text; *at != '\0'; at++)
        count += *at == ',';
    options->addresses = obx_calloc(count, sizeof(*options->addresses));
    if (options->address_text == NULL || options->addresses == NULL)
        return obx_fail(err, OBX_E_NOMEM, "broker addresses");
    for (char *part = options->address_text; part != NULL; part = next) {
        struct address *address = &options->addresses[options->address_count++];

        next = strchr(part, ',');
        if (next != NULL)
            *next++ = '\0';
        address->port = options->tls ? PORT_AMQPS : PORT_AMQP;
        if (parse_address(part, address, err) != OBX_OK)
            return OBX_E_CONFIG;
    }
    return OBX_OK;
}

bool bridge_addresses_are_valid(const char *addresses, char *why, size_t why_size)
{
    const char *general = obx_code_text(OBX_E_CONFIG);
    struct options options = {.tls = false};
    struct obx_err err = {0};
    const enum obx_code rc = parse_addresses(&options, addresses, &err);
    const char *text = err.text;

    options_fini(&options);
    if (strncmp(text, general, strlen(general)) == 0 && text[strlen(general)] == ':')
        text += strlen(general) + 2; /* what the configuration's own message says already */
    (void)snprintf(why, why_size, "%s", text);
    return rc == OBX_OK;
}

/* False when memory ran out. */
static bool fill(struct options *options, const struct bridge_opts *opts)
{
    options->connect_timeout_ms = or_default(opts->connect_timeout_ms, BRIDGE_CONNECT_MS);
    options->rpc_timeout_ms = or_default(opts->rpc_timeout_ms, BRIDGE_RPC_MS);
    options->heartbeat_s = or_default(opts->heartbeat_s, BRIDGE_HEARTBEAT_S);
    options->reconnect_min_ms = or_default(opts->reconnect_min_ms, BRIDGE_RECONNECT_MIN_MS);
    options->reconnect_cap_ms = or_default(opts->reconnect_cap_ms, BRIDGE_RECONNECT_CAP_MS);
    if (options->reconnect_cap_ms < options->reconnect_min_ms)
        options->reconnect_cap_ms = options->reconnect_min_ms;
    options->tls = opts->tls.enabled;
    options->insecure = opts->tls.insecure;
    return copy(&options->vhost, opts->vhost != NULL ? opts->vhost : "/") &&
           copy(&options->user, opts->user) &&
           copy(&options->password, opts->password != NULL ? opts->password : "") &&
           copy(&options->connection_name, opts->connection_name) &&
           copy(&options->ca_file, opts->tls.ca_file) &&
           copy(&options->cert_file, opts->tls.cert_file) &&
           copy(&options->key_file, opts->tls.key_file);
}

static enum obx_code check(const struct bridge_opts *opts, struct obx_err *err)
{
    if (opts->user == NULL)
        return obx_fail(err, OBX_E_CONFIG, "no broker user");
    if (opts->heartbeat_s > UINT16_MAX)
        return obx_fail(err, OBX_E_CONFIG, "broker heartbeat of %u s", opts->heartbeat_s);
    if ((opts->tls.cert_file == NULL) != (opts->tls.key_file == NULL))
        return obx_fail(err, OBX_E_CONFIG,
                        "broker TLS: a certificate needs a key and a key a certificate");
    return OBX_OK;
}

enum obx_code options_init(struct options *options, const struct bridge_opts *opts,
                           struct obx_err *err)
{
    enum obx_code rc = check(opts, err);

    memset(options, 0, sizeof(*options));
    if (rc != OBX_OK)
        return rc;
    if (!fill(options, opts))
        rc = obx_fail(err, OBX_E_NOMEM, "broker options");
    else
        rc = parse_addresses(options, opts->addresses, err);
    if (rc != OBX_OK)
        options_fini(options);
    return rc;
}

/* Through a volatile pointer, so that the compiler does not drop stores to memory that is freed
 * next. */
void options_wipe(char *text, size_t len)
{
    volatile char *p = text;

    for (size_t i = 0; i < len; i++)
        p[i] = '\0';
}

void options_fini(struct options *options)
{
    if (options->password != NULL)
        options_wipe(options->password, strlen(options->password));
    obx_free(options->password);
    obx_free(options->addresses);
    obx_free(options->address_text);
    obx_free(options->vhost);
    obx_free(options->user);
    obx_free(options->connection_name);
    obx_free(options->ca_file);
    obx_free(options->cert_file);
    obx_free(options->key_file);
    memset(options, 0, sizeof(*options));
}
