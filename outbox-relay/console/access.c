/*
 * Called by console.c for each request, before anything of its body is read.
 */
#include "access.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/bytes.h"
#include "base/utf8.h"

enum { CREDENTIALS_MAX = 1024 };

const char *console_role_name(enum console_role role)
{
    static const char *const names[] = {"nobody", "reader", "operator", "admin"};

    return names[role];
}

/* ---- tokens ---- */

static int value_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(digits, c);

    return at == NULL ? -1 : (int)(at - digits);
}

/* Base64 as RFC 7617 sends it. False: it is none, has a NUL in it, or does not fit. */
static bool decode_base64(const char *text, char *dst, size_t size)
{
    unsigned bits = 0, count = 0;
    size_t len = 0;

    for (; *text != '\0' && *text != '='; text++) {
        const int value = value_of(*text);

        if (value < 0 || len + 1 >= size)
            return false;
        bits = (bits << 6 | (unsigned)value) & 0xFFFFFFU;
        count += 6;
        if (count >= 8) {
            count -= 8;
            dst[len] = (char)(bits >> count & 0xFFU);
            if (dst[len++] == '\0')
                return false;
        }
    }
    dst[len] = '\0';
    return strspn(text, "=") == strlen(text) && strlen(text) <= 2;
}

/* Every one is compared, so that the time says nothing of which it might have been. */
static enum console_role role_of_token(const struct console_config *config, const char *token)
{
    const char *const tokens[] = {config->reader_token, config->operator_token,
                                  config->admin_token};
    enum console_role role = ROLE_NONE;

    for (unsigned i = 0; i < 3; i++) {
        const bool is_set = tokens[i] != NULL && tokens[i][0] != '\0';

        if (bytes_equal_constant_time(bytes_of(token), bytes_of(is_set ? tokens[i] : NULL)) &&
            is_set)
            role = (enum console_role)(ROLE_READER + i);
    }
    return role;
}

/* A name is recorded with what is done: cut, and without what could be taken for something else. */
static void set_who(struct access *access, const char *name)
{
    bytes_to_text(bytes_of(name == NULL ? "" : name), access->who, sizeof(access->who));
    utf8_make_valid(access->who);
    for (char *c = access->who; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7F)
            *c = '?';
    if (access->who[0] == '\0')
        snprintf(access->who, sizeof(access->who), "%s", console_role_name(access->role));
}

static struct access by_token(const struct console_config *config, const char *authorization)
{
    struct access access = {.role = ROLE_NONE};
    char text[CREDENTIALS_MAX];
    char *token = NULL;

    if (strncasecmp(authorization, "Bearer ", strlen("Bearer ")) == 0) {
        access.role = role_of_token(config, authorization + strlen("Bearer "));
        set_who(&access, NULL);
        return access;
    }
    if (strncasecmp(authorization, "Basic ", strlen("Basic ")) != 0 ||
        !decode_base64(authorization + strlen("Basic "), text, sizeof(text)))
        return access;
    token = strchr(text, ':');
    if (token == NULL)
        return access;
    *token++ = '\0';
    access.role = role_of_token(config, token);
    set_who(&access, text);
    return access;
}

/* ---- a proxy ---- */

static bool is_proxy(const struct console_config *config, const char *peer)
{
    for (size_t i = 0; peer != NULL && i < config->proxy_peer_count; i++)
        if (strcmp(config->proxy_peers[i], peer) == 0)
            return true;
    return false;
}

struct access access_of(const struct console_config *config, const struct access_claim *claim)
{
    struct access access = {.role = ROLE_NONE};

    if (claim->authorization != NULL)
        access = by_token(config, claim->authorization);
    if (access.role != ROLE_NONE || !is_proxy(config, claim->peer) || claim->user == NULL ||
        claim->role == NULL)
        return access;
    for (unsigned role = ROLE_READER; role <= ROLE_ADMIN; role++)
        if (strcmp(claim->role, console_role_name((enum console_role)role)) == 0)
            access.role = (enum console_role)role;
    set_who(&access, claim->user);
    return access;
}

/* ---- cross-site requests ---- */

/* A browser sends credentials of its own accord, whichever page has made it ask; and it says from
 * where. One that says nothing of it at all is none, or is too old to be let in: without either
 * field only a Bearer token goes, which no foreign page can make a browser send. */
bool access_is_ours(const struct access_claim *claim)
{
    const char *host;

    if (claim->fetch_site != NULL)
        return strcmp(claim->fetch_site, "same-origin") == 0 ||
               strcmp(claim->fetch_site, "none") == 0;
    if (claim->origin == NULL)
        return claim->authorization != NULL &&
               strncasecmp(claim->authorization, "Bearer ", strlen("Bearer ")) == 0;
    host = strstr(claim->origin, "://");
    return host != NULL && claim->host != NULL &&
           strcasecmp(host + strlen("://"), claim->host) == 0;
}
