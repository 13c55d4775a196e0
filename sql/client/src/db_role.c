/*
 * What a server is among others, and what that means for those who use it. See sql/db.h. Called by
 * db_primary.c, which chooses by it, and by --check.
 */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "db_primary.h"

enum { LONG_MS = 3600 * 1000 };

/* A number to some servers, a word to others: MariaDB 12 has read_only with three kinds of "on". */
bool db_value_is_on(struct obx_bytes value)
{
    return value.len > 0 && !bytes_is(value, "0") && !bytes_is(value, "OFF");
}

/* Not "SELECT @@name": a variable that the server does not know would be an error, and which ones it
 * knows depends on product, version and plugins. */
static const char sql_role[] =
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('hostname', 'port', 'server_id', 'server_uuid',"
    " 'datadir', 'read_only', 'innodb_read_only', 'log_bin', 'wsrep_on', 'wsrep_cluster_name',"
    " 'group_replication_group_name', 'group_replication_single_primary_mode',"
    " 'rpl_semi_sync_master_enabled', 'rpl_semi_sync_source_enabled',"
    " 'rpl_semi_sync_master_wait_point', 'rpl_semi_sync_source_wait_point',"
    " 'rpl_semi_sync_master_timeout', 'rpl_semi_sync_source_timeout')";

static bool ends_with(const char *name, const char *tail)
{
    const size_t len = strlen(name), tail_len = strlen(tail);

    return len >= tail_len && strcmp(name + len - tail_len, tail) == 0;
}

/* MySQL calls the primary of semi-synchronous replication "source" since 8.0.26; the ends are the
 * same. */
static void take_semi_sync(struct db_role *role, const char *name, const struct db_rows *rows)
{
    if (ends_with(name, "_enabled"))
        role->is_semi_sync = db_value_is_on(db_rows_bytes(rows, 1));
    else if (ends_with(name, "_wait_point"))
        role->waits_after_sync = bytes_is(db_rows_bytes(rows, 1), "AFTER_SYNC");
    else
        role->semi_sync_ms = db_rows_u64(rows, 1);
}

static void take_variable(struct db_role *role, const struct db_rows *rows, bool *is_single)
{
    const struct obx_bytes value = db_rows_bytes(rows, 1);
    const bool is_on = db_value_is_on(value);
    char name[64];

    bytes_to_text(db_rows_bytes(rows, 0), name, sizeof(name));
    if (strcmp(name, "read_only") == 0 || strcmp(name, "innodb_read_only") == 0)
        role->is_read_only = role->is_read_only || is_on;
    else if (strcmp(name, "log_bin") == 0)
        role->has_log = is_on;
    else if (strcmp(name, "wsrep_on") == 0)
        role->is_galera = is_on;
    else if (strcmp(name, "group_replication_single_primary_mode") == 0)
        *is_single = is_on;
    else if (strncmp(name, "rpl_semi_sync", strlen("rpl_semi_sync")) == 0)
        take_semi_sync(role, name, rows);
    else if (strcmp(name, "group_replication_group_name") == 0 && value.len > 0) {
        role->is_group = true;
        bytes_to_text(value, role->cluster, sizeof(role->cluster));
    } else if (strcmp(name, "wsrep_cluster_name") == 0) {
        if (role->cluster[0] == '\0')
            bytes_to_text(value, role->cluster, sizeof(role->cluster));
    } else {
        const size_t len = strlen(role->identity);

        (void)snprintf(role->identity + len, sizeof(role->identity) - len, "%s=%.*s;", name,
                       (int)value.len, (const char *)value.p);
    }
}

enum obx_code db_ask_role(struct db *db, struct db_role *role, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    bool is_single = true;
    enum obx_code rc = db_query_text(db, bytes_of(sql_role), &rows, err);

    *role = (struct db_role){.is_read_only = false};
    while (rc == OBX_OK && db_rows_next(rows))
        take_variable(role, rows, &is_single);
    db_rows_free(rows);
    role->is_multi_primary = role->is_galera || (role->is_group && !is_single);
    if (!role->is_galera && !role->is_group)
        role->cluster[0] = '\0'; /* MariaDB has a name for a cluster that there is not */
    return rc;
}

const char *db_role_warning(const struct db_role *role, bool has_several)
{
    if (role->is_galera)
        return "Galera: order holds only while everybody, producers too, writes to the same node: "
               "name it first in host everywhere, or let a proxy send all to one node. A COMMIT "
               "may "
               "fail with a deadlock (certification) and is run again";
    if (role->is_multi_primary)
        return "group replication with several primaries: order holds only while everybody, "
               "producers too, writes to the same member: name it first in host everywhere. A "
               "COMMIT may be undone (certification, error 3101) and is run again";
    if (role->is_group)
        return NULL; /* one primary; a COMMIT is answered when a majority has it */
    if (role->is_semi_sync && !role->waits_after_sync)
        return "semi-synchronous replication waits AFTER_COMMIT: others see a transaction before "
               "the "
               "replica has it, and a failover can take back what was published. Set "
               "rpl_semi_sync_*_wait_point = AFTER_SYNC";
    if (role->is_semi_sync && role->semi_sync_ms < LONG_MS)
        return "semi-synchronous replication goes on without its replica after "
               "rpl_semi_sync_*_timeout: from then on a failover loses what was answered. Set it "
               "to "
               "days where standing still is better than losing";
    if (!role->is_semi_sync && has_several)
        return "replication is asynchronous as far as can be seen: a failover loses the last "
               "transactions, and messages of them may have been published. Semi-synchronous "
               "replication (AFTER_SYNC) loses none";
    return NULL;
}
