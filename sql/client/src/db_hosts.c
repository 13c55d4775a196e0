/*
 * Lists of servers. See sql/db_hosts.h.
 *
 * Nothing of a list reaches the client libraries as it was written: MariaDB's takes "a,b" for two
 * hosts, of which it tries the second when nobody answers at the first, replica or not, and "a=b" for
 * a list of options.
 */
#include "sql/db_hosts.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_PORT = 3306, DECIMAL = 10, PORT_DIGITS_MAX = 5 };

static const char blanks[] = " \t";

static bool parse_port(const char *text, size_t len, uint16_t *port)
{
    char digits[PORT_DIGITS_MAX + 1] = "";
    unsigned long number = 0;

    if (len == 0 || len > PORT_DIGITS_MAX || strspn(text, "0123456789") < len)
        return false;
    memcpy(digits, text, len);
    number = strtoul(digits, NULL, DECIMAL);
    *port = (uint16_t)number;
    return number > 0 && number <= UINT16_MAX;
}

/* "name", "name:port", "::1", "[::1]", "[::1]:port": item of len bytes without blanks around it. */
static bool parse_one(const char *item, size_t len, struct db_host *out)
{
    const char *end = item + len;
    const char *name = item;
    const char *name_end = end;
    const char *colon = memchr(item, ':', len);
    const char *port = NULL;

    if (len > 0 && item[0] == '[') {
        name++;
        name_end = memchr(item, ']', len);
        if (name_end == NULL)
            return false;
        port = name_end + 1 < end ? name_end + 1 : NULL;
        if (port != NULL && *port++ != ':')
            return false;
    } else if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon - 1)) == NULL) {
        /* One colon: a port. Two: an address of IPv6, which has none then. */
        name_end = colon;
        port = colon + 1;
    }
    len = (size_t)(name_end - name);
    if (len == 0 || len > DB_HOST_NAME_MAX)
        return false;
    memcpy(out->name, name, len);
    out->name[len] = '\0';
    /* None of them is part of a name, and each is something else to one of the libraries. */
    if (strpbrk(out->name, "[]=; \t@/") != NULL)
        return false;
    return port == NULL || parse_port(port, (size_t)(end - port), &out->port);
}

static bool is_known(const struct db_hosts *hosts, const struct db_host *host)
{
    for (size_t i = 0; i < hosts->count; i++) {
        if (strcmp(hosts->at[i].name, host->name) == 0 && hosts->at[i].port == host->port)
            return true;
    }
    return false;
}

enum obx_code db_hosts_parse(const char *list, uint16_t port, struct db_hosts *out,
                             struct obx_err *err)
{
    const char *at = list == NULL || list[0] == '\0' ? "127.0.0.1" : list;
    bool has_more = true;

    memset(out, 0, sizeof(*out));
    while (has_more) {
        const size_t whole = strcspn(at, ",");
        struct db_host host = {.port = port == 0 ? DEFAULT_PORT : port};
        size_t len = whole;

        while (len > 0 && strchr(blanks, at[0]) != NULL) {
            at++;
            len--;
        }
        has_more = at[len] == ',';
        list = at + len + 1; /* the next one */
        while (len > 0 && strchr(blanks, at[len - 1]) != NULL)
            len--;
        if (!parse_one(at, len, &host))
            return obx_fail(err, OBX_E_INVALID, "'%.*s' is not a host or host:port",
                            (int)(len < DB_HOST_NAME_MAX ? len : DB_HOST_NAME_MAX), at);
        /* Asked twice it would be two servers that take writes. */
        if (is_known(out, &host))
            return obx_fail(err, OBX_E_INVALID, "%s is there twice", host.name);
        if (out->count == DB_HOSTS_MAX)
            return obx_fail(err, OBX_E_INVALID, "more than %d hosts", DB_HOSTS_MAX);
        out->at[out->count++] = host;
        at = list;
    }
    return OBX_OK;
}

const char *db_host_show(const struct db_host *host, char text[DB_HOST_SHOWN_MAX])
{
    const bool is_v6 = strchr(host->name, ':') != NULL;

    (void)snprintf(text, DB_HOST_SHOWN_MAX, "%s%s%s:%u", is_v6 ? "[" : "", host->name,
                   is_v6 ? "]" : "", (unsigned)host->port);
    return text;
}
