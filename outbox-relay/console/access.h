/*
 * Who asks, and what that person may do. Pure: it sees only what the request said. Proved by
 * tests/unit/console_parts_test.c and tests/system/console_test.c.
 */
#ifndef CONSOLE_ACCESS_H
#define CONSOLE_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "config/relay_config.h"

enum console_role { ROLE_NONE, ROLE_READER, ROLE_OPERATOR, ROLE_ADMIN };
enum { ACCESS_WHO_MAX = 64 };

/** What a request said of itself; NULL: nothing. */
struct access_claim {
    const char *peer;          /* its address */
    const char *authorization; /* the field */
    const char *user, *role;   /* the fields that a trusted proxy sets */
    const char *fetch_site, *origin, *host;
};

struct access {
    enum console_role role;
    char who[ACCESS_WHO_MAX]; /* the name that was given; of a token without one, its role */
};

const char *console_role_name(enum console_role role);
/**
 * By a token (Authorization: Bearer, or Basic with any name), or by the fields of a proxy, which
 * count from a configured peer only. ROLE_NONE: neither. Takes the same time for any wrong token.
 */
struct access access_of(const struct console_config *config, const struct access_claim *claim);
/** Whether a POST comes from a page of ours, or from no browser at all. */
bool access_is_ours(const struct access_claim *claim);

#endif
