/*
 * The sentences. Called by check_db.c and check_broker.c.
 */
#include "check_fix.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    MYSQL_TOO_MANY_CONNECTIONS = 1040,
    MYSQL_DB_ACCESS_DENIED = 1044,
    MYSQL_NO_SUCH_DB = 1049,
    MYSQL_HOST_BLOCKED = 1129,
    MYSQL_HOST_NOT_ALLOWED = 1130,
    MYSQL_USER_CONNECTIONS = 1203,
    MYSQL_USER_LIMIT = 1226,
    MYSQL_MUST_CHANGE_PASSWORD = 1820,
    MYSQL_PASSWORD_EXPIRED = 1862,
    MYSQL_ACCOUNT_LOCKED = 3118,
    MARIADB_ACCOUNT_LOCKED = 4151,
    AMQP_NOT_ALLOWED = 530,
};

static void say(char fix[CHECK_FIX_MAX], const char *text)
{
    snprintf(fix, CHECK_FIX_MAX, "%s", text);
}

/* The first key of a file that is named and cannot be read; NULL: all can. */
static const char *unreadable(const char *const keys[3], const char *const paths[3], size_t *which)
{
    for (size_t i = 0; i < 3; i++) {
        if (paths[i] != NULL && access(paths[i], R_OK) != 0) {
            *which = i;
            return keys[i];
        }
    }
    return NULL;
}

/* The part that TLS has in common for both servers. section: "[broker]". */
static void fix_tls(const char *section, const char *const paths[3], const struct obx_err *err,
                    char fix[CHECK_FIX_MAX])
{
    static const char *const keys[3] = {"tls_ca_file", "tls_cert_file", "tls_key_file"};
    size_t which = 0;
    const char *key = unreadable(keys, paths, &which);

    if (key != NULL)
        snprintf(fix, CHECK_FIX_MAX, "correct %s in %s: %s is not there or may not be read", key,
                 section, paths[which]);
    else if (strstr(err->text, "certificate") != NULL)
        snprintf(fix, CHECK_FIX_MAX,
                 "set tls_ca_file in %s to the authority that has signed the server's certificate, "
                 "and name the server as its certificate does",
                 section);
    else
        snprintf(fix, CHECK_FIX_MAX,
                 "the port speaks no TLS, or another version of it: correct the port or the tls "
                 "keys in %s",
                 section);
}

static void fix_connect(const struct check_where *where, const struct obx_err *err,
                        char fix[CHECK_FIX_MAX])
{
    const struct db_opts *db = where->db;

    if (strstr(err->text, "both take writes") != NULL)
        snprintf(
            fix, CHECK_FIX_MAX,
            "SET GLOBAL read_only = 1 on the one that is not the primary, and read_only = 1 in "
            "the configuration of both servers");
    else if (db->unix_socket == NULL && strchr(db->host, ',') != NULL)
        snprintf(fix, CHECK_FIX_MAX, "start the database servers, or correct host (%.200s) in %s",
                 db->host, where->section);
    else if (db->unix_socket != NULL)
        snprintf(fix, CHECK_FIX_MAX, "start the database server, or correct socket (%s) in %s",
                 db->unix_socket, where->section);
    else
        snprintf(fix, CHECK_FIX_MAX,
                 "start the database server, or correct host and port (%s:%u) in %s", db->host,
                 (unsigned)db->port, where->section);
}

/* What the server itself says is most exact. False: nothing is known of this number. */
static bool fix_number(const struct check_where *where, int number, char fix[CHECK_FIX_MAX])
{
    const char *user = where->db->user;

    switch (number) {
    case MYSQL_DB_ACCESS_DENIED:
    case MYSQL_NO_SUCH_DB:
        /* Both: an account that may not use a database is not told whether there is one. */
        snprintf(fix, CHECK_FIX_MAX,
                 "correct database in %s, or, as an administrator: CREATE DATABASE `%s`; then %s, "
                 "and the grants for '%s' that sql/schema/grants.md lists",
                 where->section, where->db->database, where->migrate, user);
        return true;
    case MYSQL_TOO_MANY_CONNECTIONS:
        say(fix, "the server has no connection left: raise max_connections, or find who holds them "
                 "(SHOW PROCESSLIST)");
        return true;
    case MYSQL_USER_CONNECTIONS:
    case MYSQL_USER_LIMIT:
        snprintf(fix, CHECK_FIX_MAX,
                 "the account '%s' has used up a limit of its own: raise it (ALTER USER ... WITH "
                 "MAX_USER_CONNECTIONS)",
                 user);
        return true;
    case MYSQL_HOST_BLOCKED:
        say(fix, "the server has blocked this machine after many failed connections: FLUSH HOSTS");
        return true;
    case MYSQL_HOST_NOT_ALLOWED:
        snprintf(fix, CHECK_FIX_MAX,
                 "the account '%s' may not log in from this machine: make it for this host, or for "
                 "'%%'",
                 user);
        return true;
    case MYSQL_MUST_CHANGE_PASSWORD:
    case MYSQL_PASSWORD_EXPIRED:
        snprintf(
            fix, CHECK_FIX_MAX,
            "the password of '%s' has expired: set a new one (ALTER USER ... IDENTIFIED BY) and "
            "give it in %s; for an account of a program: ALTER USER ... PASSWORD EXPIRE NEVER",
            user, where->section);
        return true;
    case MYSQL_ACCOUNT_LOCKED:
    case MARIADB_ACCOUNT_LOCKED:
        snprintf(fix, CHECK_FIX_MAX, "the account '%s' is locked: ALTER USER ... ACCOUNT UNLOCK",
                 user);
        return true;
    default:
        return false;
    }
}

void check_fix_database(const struct check_where *where, const struct obx_err *err,
                        char fix[CHECK_FIX_MAX])
{
    const struct db_opts *db = where->db;

    if (fix_number(where, err->sys, fix))
        return;
    if (err->code == OBX_E_DB_AUTH)
        snprintf(fix, CHECK_FIX_MAX,
                 "correct user and password in %s, or make the account '%s' as "
                 "sql/schema/grants.md shows",
                 where->section, db->user);
    else if (err->code == OBX_E_DB_CONNECT || err->code == OBX_E_DB_GONE)
        fix_connect(where, err, fix);
    else if (err->code == OBX_E_TIMEOUT)
        snprintf(
            fix, CHECK_FIX_MAX,
            "look whether the server answers at all and is a database (host, port), or lengthen "
            "the timeouts in %s",
            where->section);
    else if (err->code == OBX_E_DB_TLS && strstr(err->text, "asks for the password") != NULL)
        snprintf(fix, CHECK_FIX_MAX,
                 "set tls = verify-full and tls_ca_file in %s, or reach the server by a socket or "
                 "the loopback",
                 where->section);
    else if (err->code == OBX_E_DB_TLS)
        fix_tls(where->section,
                (const char *const[3]){db->tls_ca_file, db->tls_cert_file, db->tls_key_file}, err,
                fix);
    else if (err->code == OBX_E_DB_NO_TABLE)
        snprintf(fix, CHECK_FIX_MAX, "run: %s, as a user who may create tables", where->migrate);
    else if (err->code == OBX_E_DB_SCHEMA)
        snprintf(fix, CHECK_FIX_MAX,
                 "where it is older: run %s; where it is newer: install a newer version of "
                 "outbox-relay",
                 where->migrate);
    else if (err->code == OBX_E_DB_READ_ONLY)
        snprintf(fix, CHECK_FIX_MAX,
                 "name the primary in %s, or all servers, separated by commas: the one that takes "
                 "writes is used",
                 where->section);
    else
        say(fix, "see the text");
}

static void fix_broker_login(const struct bridge_opts *broker, const struct obx_err *err,
                             char fix[CHECK_FIX_MAX])
{
    if (strstr(err->text, "vhost") != NULL && err->sys == AMQP_NOT_ALLOWED)
        snprintf(fix, CHECK_FIX_MAX,
                 "correct vhost in [broker], or: rabbitmqctl add_vhost %s; rabbitmqctl "
                 "set_permissions -p %s %s '^rowpost$' '^rowpost$' '^$' (its exchanges and queues)",
                 broker->vhost, broker->vhost, broker->user);
    else
        snprintf(fix, CHECK_FIX_MAX,
                 "correct user and password in [broker], or: rabbitmqctl add_user %s; rabbitmqctl "
                 "set_permissions -p %s %s '^rowpost$' '^rowpost$' '^$' (its exchanges and queues)",
                 broker->user, broker->vhost, broker->user);
}

void check_fix_broker(const struct relay_config *config, const char *section,
                      const struct obx_err *err, char fix[CHECK_FIX_MAX])
{
    const struct bridge_opts *broker = &config->broker;

    if (err->code == OBX_E_MQ_AUTH)
        fix_broker_login(broker, err, fix);
    else if (err->code == OBX_E_MQ_CONNECT || err->code == OBX_E_MQ_GONE)
        say(fix, "start RabbitMQ, or correct addresses in [broker]; a port that speaks TLS needs "
                 "tls = yes");
    else if (err->code == OBX_E_TIMEOUT)
        say(fix, "look whether the broker answers at all, or lengthen the timeouts in [broker]");
    else if (err->code == OBX_E_MQ_TLS)
        fix_tls("[broker]",
                (const char *const[3]){broker->tls.ca_file, broker->tls.cert_file,
                                       broker->tls.key_file},
                err, fix);
    else if (err->code == OBX_E_MQ_TOPOLOGY)
        snprintf(fix, CHECK_FIX_MAX, "make %s fit what the broker has, or delete it there",
                 section == NULL ? "the configuration" : section);
    else if (err->code == OBX_E_MQ_PROTOCOL)
        say(fix, "correct addresses in [broker]: what answers there is no RabbitMQ, or speaks TLS "
                 "and needs tls = yes");
    else if (err->code == OBX_E_MQ_DENIED)
        snprintf(fix, CHECK_FIX_MAX,
                 "let the user configure, write and read: rabbitmqctl set_permissions -p %s %s "
                 "'.*' '.*' '.*'",
                 broker->vhost, broker->user);
    else
        say(fix, "see the text");
}
