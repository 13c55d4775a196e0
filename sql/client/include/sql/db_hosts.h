/*
 * A list of the servers among which one is the primary, as a person writes it:
 * "db1, db2:3307, [fd00::1]:3308". Pure. Proved by tests/unit/db_hosts_test.c.
 */
#ifndef SQL_DB_HOSTS_H
#define SQL_DB_HOSTS_H

#include <stddef.h>
#include <stdint.h>

#include "obx/err.h"

enum { DB_HOSTS_MAX = 9, DB_HOST_NAME_MAX = 255, DB_HOST_SHOWN_MAX = DB_HOST_NAME_MAX + 10 };

struct db_host {
    char name[DB_HOST_NAME_MAX + 1]; /* a name or an address, without brackets */
    uint16_t port;
};

struct db_hosts {
    struct db_host at[DB_HOSTS_MAX];
    size_t count; /* 1 at least */
};

/**
 * Take the list apart. port: of those that name none (0: 3306). An address of IPv6 with a port stands
 * in brackets. NULL or "" is 127.0.0.1.
 * @return OBX_OK; OBX_E_INVALID: what is wrong with it is in err
 */
OBX_NODISCARD enum obx_code db_hosts_parse(const char *list, uint16_t port, struct db_hosts *out,
                                           struct obx_err *err);
/** "db1:3306", "[fd00::1]:3306"; returns text. */
const char *db_host_show(const struct db_host *host, char text[DB_HOST_SHOWN_MAX]);

#endif
