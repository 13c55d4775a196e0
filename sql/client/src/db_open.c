/*
 * Opening and closing of a connection: the login (db_login.c), then the session that db.h promises
 * (db_session.c). Called by all that need a database.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "db_login.h"
#include "db_pipe.h"
#include "db_primary.h"
#include "db_private.h"
#include "db_session.h"

unsigned db_whole_seconds(uint32_t ms, uint32_t default_ms)
{
    const uint32_t wanted = ms == 0 ? default_ms : ms;

    return wanted / DB_MS_PER_S + (wanted % DB_MS_PER_S != 0);
}

static void library_init(void)
{
    (void)mysql_library_init(0, NULL, NULL);
    db_login_register();
}

/* MariaDB puts "5.5.5-" before its version for old replicas; its own library takes that off,
 * Oracle's does not. */
static void read_version(struct db *db)
{
    static const char disguise[] = "5.5.5-";
    const char *version = mysql_get_server_info(db->mysql);

    db->is_mariadb = strstr(version, "MariaDB") != NULL;
    if (db->is_mariadb && strncmp(version, disguise, sizeof(disguise) - 1) == 0)
        version += sizeof(disguise) - 1;
    (void)snprintf(db->version, sizeof(db->version), "%s", version);
    db->connection_id = mysql_thread_id(db->mysql);
}

static enum obx_code set_up(struct db *db, const struct db_opts *opts, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    read_version(db);
    db->read_timeout_ms = DB_MS_PER_S * db_whole_seconds(opts->read_timeout_ms, DB_IO_MS);
    rc = db_session_set(db, opts, err);
    if (rc == OBX_OK)
        return OBX_OK;
    rc = db_connect_code(rc);
    if (err != NULL)
        err->code = rc;
    obx_err_context(err, "setting the session up");
    return rc;
}

enum obx_code db_open_one(const struct db_opts *opts, struct db **out, struct obx_err *err)
{
    struct db_pipe_guard guard;
    enum obx_code rc = OBX_OK;
    struct db *db = obx_calloc(1, sizeof(*db));

    *out = NULL;
    if (db == NULL)
        return obx_fail(err, OBX_E_NOMEM, "database connection");
    db_pipe_enter(&guard);
    db->mysql = mysql_init(NULL);
    rc = db->mysql == NULL ? obx_fail(err, OBX_E_NOMEM, "database connection")
                           : db_login(db, opts, err);
    db_pipe_leave(&guard);
    if (rc == OBX_OK)
        rc = set_up(db, opts, err);
    if (rc == OBX_OK) {
        *out = db;
        db = NULL; /* moved to the caller */
    }
    db_close(db);
    return rc;
}

enum obx_code db_open(const struct db_opts *opts, struct db **out, struct obx_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct db_opts one = *opts;
    struct db_hosts hosts;

    *out = NULL;
    pthread_once(&once, library_init);
    if (opts->host == NULL && opts->unix_socket != NULL)
        return db_open_one(opts, out, err);
    if (db_hosts_parse(opts->host, opts->port, &hosts, err) != OBX_OK) {
        if (err != NULL)
            err->code = OBX_E_DB_CONNECT;
        return OBX_E_DB_CONNECT;
    }
    if (hosts.count > 1) {
        (void)mysql_thread_init(); /* the connection comes from another thread */
        return db_primary_find(opts, &hosts, out, err);
    }
    one.host = hosts.at[0].name;
    one.port = hosts.at[0].port;
    return db_open_one(&one, out, err);
}

void db_close(struct db *db)
{
    struct db_pipe_guard guard;

    if (db == NULL)
        return;
    db_pipe_enter(&guard);
    /* The connection first: the server frees its statements with it, so closing them sends nothing.
     */
    if (db->mysql != NULL)
        mysql_close(db->mysql);
    db_pipe_leave(&guard);
    db_stmts_close(db);
    obx_free(db);
}

void db_thread_end(void)
{
    mysql_thread_end();
}

void *db_native(struct db *db)
{
    return db->mysql;
}

const char *db_server_version(const struct db *db)
{
    return db->version;
}

bool db_server_is_mariadb(const struct db *db)
{
    return db->is_mariadb;
}

uint64_t db_connection_id(const struct db *db)
{
    return db->connection_id;
}
