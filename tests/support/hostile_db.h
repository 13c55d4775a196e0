/*
 * A program that answers as a database server would, up to a point: it offers no TLS, asks for the
 * password in every way that there is, lies about lengths, asks for files, sends without end, or
 * falls silent at a step. One thread of its own for each; keeps what it was told, in TLS too.
 */
#ifndef OBX_TEST_HOSTILE_DB_H
#define OBX_TEST_HOSTILE_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum hostile_login {
    HOSTILE_LOGIN_OK,       /* lets everybody in */
    HOSTILE_SWITCH,         /* asks for `method`, then for all that the method may be talked into */
    HOSTILE_SWITCH_TWICE,   /* asks for mysql_native_password first, and then for `method` */
    HOSTILE_SWITCH_OLD,     /* the one byte that asks for the method of 1998 */
    HOSTILE_GREETING,       /* sends `bytes` for a greeting */
    HOSTILE_LOGIN_BYTES,    /* sends `bytes` for an answer to the login */
    HOSTILE_SILENT_AT_ONCE, /* no greeting */
    HOSTILE_SILENT_LOGIN    /* no answer to the login */
};

enum hostile_query {
    HOSTILE_QUERY_OK,      /* "OK" to each */
    HOSTILE_QUERY_BYTES,   /* `bytes` for an answer, and the end */
    HOSTILE_QUERY_FILE,    /* asks for the file named by `bytes` */
    HOSTILE_QUERY_ENDLESS, /* one packet after the other, as long as somebody reads */
    HOSTILE_QUERY_SILENT,
    HOSTILE_QUERY_CLOSE
};

struct hostile_plan {
    enum hostile_login login;
    enum hostile_query query;
    bool no_tls;        /* does not offer it */
    bool no_methods;    /* claims to be a server from before there were any */
    const char *method; /* of the greeting too when it lets in; NULL: mysql_native_password */
    const void *bytes;  /* whole packets with their heads, but for HOSTILE_QUERY_FILE */
    size_t len;
    unsigned after;        /* so many queries are answered with OK before */
    const char *cert_file; /* PEM, for TLS */
    const char *key_file;
};

struct hostile_db;

/** The plan and what it points to outlive the server. Listens on all addresses of this machine.
 * NULL when it cannot. */
struct hostile_db *hostile_db_create(const struct hostile_plan *plan);
uint16_t hostile_db_port(const struct hostile_db *server);
/** Let go of all connections and of the thread. NULL is fine. What it heard may be asked for until
 * hostile_db_destroy. */
void hostile_db_stop(struct hostile_db *server);
void hostile_db_destroy(struct hostile_db *server);
/** After hostile_db_stop: whether these bytes came, in clear or within TLS. */
bool hostile_db_heard(const struct hostile_db *server, const void *bytes, size_t len);
/** After hostile_db_stop: how many bytes other than zero came when a method had been asked for
 * last. */
size_t hostile_db_answered(const struct hostile_db *server);
/** After hostile_db_stop: how many bytes came. */
size_t hostile_db_heard_len(const struct hostile_db *server);

#endif
