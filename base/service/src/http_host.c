/* The Host of a request. */
#include "http_host.h"

#include <string.h>
#include <strings.h>

#include <arpa/inet.h>

enum { HOST_MAX = 255 };

/* The host without its port, and without the brackets of an IPv6 address. False: malformed. */
static bool split(const char *text, char *host, bool *is_bracketed)
{
    const char *start = text, *end;

    *is_bracketed = *text == '[';
    if (*is_bracketed) {
        start = text + 1;
        end = strchr(start, ']');
    } else {
        end = text + strcspn(text, ":");
    }
    if (end == NULL || end == start || end - start > HOST_MAX)
        return false;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    end += *is_bracketed ? 1 : 0;
    return *end == '\0' || (*end == ':' && end[1 + strspn(end + 1, "0123456789")] == '\0');
}

static bool is_name(const char *host)
{
    return host[strspn(
               host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")] == '\0';
}

bool http_host_is_ours(const char *text, char *const *names, size_t count)
{
    char host[HOST_MAX + 1];
    unsigned char address[sizeof(struct in6_addr)];
    bool is_bracketed;

    if (!split(text, host, &is_bracketed))
        return false;
    if (is_bracketed)
        return inet_pton(AF_INET6, host, address) == 1;
    if (!is_name(host))
        return false;
    if (strcasecmp(host, "localhost") == 0 || inet_pton(AF_INET, host, address) == 1)
        return true;
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], "*") == 0 || strcasecmp(names[i], host) == 0)
            return true;
    return false;
}
