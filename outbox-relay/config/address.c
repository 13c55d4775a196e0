/*
 * Reads numeric socket addresses. Called by the configuration checks and the doorbell.
 */
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { HOST_MAX = 64, PORT_MAX = 65535, DECIMAL = 10 };

static bool parse_port(const char *text, uint16_t *port)
{
    char *end = NULL;
    long value;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    value = strtol(text, &end, DECIMAL);
    if (errno != 0 || *end != '\0' || value < 1 || value > PORT_MAX)
        return false;
    *port = (uint16_t)value;
    return true;
}

/* Splits "1.2.3.4:5" and "[::1]:5" into host and port text. */
static bool split(const char *text, char host[HOST_MAX], const char **port, bool *is_v6)
{
    const char *start = text;
    const char *end;

    *is_v6 = text[0] == '[';
    if (*is_v6) {
        start = text + 1;
        end = strstr(start, "]:");
        *port = end == NULL ? NULL : end + 2;
    } else {
        end = strrchr(start, ':');
        *port = end == NULL ? NULL : end + 1;
    }
    if (end == NULL || end == start || end - start >= HOST_MAX)
        return false;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    return true;
}

bool address_parse(const char *text, struct address *out)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    const char *port_text = NULL;
    char host[HOST_MAX];
    uint16_t port = 0;
    bool is_v6 = false;

    memset(out, 0, sizeof(*out));
    if (!split(text, host, &port_text, &is_v6) || !parse_port(port_text, &port))
        return false;
    v4.sin_port = htons(port);
    v6.sin6_port = htons(port);
    if (is_v6 && inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        memcpy(&out->sa, &v6, sizeof(v6));
        out->len = sizeof(v6);
    } else if (!is_v6 && inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(&out->sa, &v4, sizeof(v4));
        out->len = sizeof(v4);
    }
    return out->len != 0;
}

bool address_is_any(const struct address *address)
{
    struct sockaddr_in6 v6;
    struct sockaddr_in v4;

    if (address->sa.ss_family == AF_INET6) {
        memcpy(&v6, &address->sa, sizeof(v6));
        return IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr);
    }
    memcpy(&v4, &address->sa, sizeof(v4));
    return v4.sin_addr.s_addr == htonl(INADDR_ANY);
}
