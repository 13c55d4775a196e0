/*
 * The rows of a configuration table that fill a struct db_opts: the same wherever a program is told
 * of a database. `at` is the path of the db_opts in T, `parts` what a change restarts.
 */
#ifndef SQL_DB_KEYS_H
#define SQL_DB_KEYS_H

#include "base/config.h"
#include "sql/db.h"

static const char *const db_tls_choices[] = {"preferred", "disabled", "required", "verify-full",
                                             NULL};

/** Where the server is. */
#define DB_ADDRESS_KEYS(T, at, parts, host_help)                                                   \
    CFG_ROW(                                                                                       \
        T, at.host, "host", CFG_STRING, "127.0.0.1", 0, 1023, parts,                               \
        host_help                                                                                  \
        " Or several, host or host:port separated by commas: the one that takes writes is used, "  \
        "and another one after a failover."),                                                      \
        CFG_ROW(T, at.port, "port", CFG_COUNT, "3306", 1, 65535, parts,                            \
                "Port of hosts that name none."),                                                  \
        CFG_ROW(T, at.unix_socket, "socket", CFG_OPTIONAL, "", 0, 107, parts,                      \
                "Unix socket of the server, in place of host and port. Empty: none.")

/** Who logs in there, and to what. needed: NULL where user and database must be given, else "". */
#define DB_LOGIN_KEYS(T, at, parts, needed, user_help, database_help)                              \
    CFG_ROW(T, at.user, "user", CFG_STRING, needed, (needed) == NULL, 80, parts, user_help),       \
        CFG_ROW(T, at.password, "password", CFG_SECRET, "", 0, 1024, parts,                        \
                "Password, better given as password_file or in the environment."),                 \
        CFG_ROW(T, at.database, "database", CFG_STRING, needed, (needed) == NULL, 64, parts,       \
                database_help)

#define DB_TLS_KEYS(T, at, parts)                                                                  \
    CFG_CHOICE(                                                                                    \
        T, at.tls, "tls", "preferred", db_tls_choices, parts,                                      \
        "preferred: TLS if the server offers it, nothing verified; required: TLS or nothing, the " \
        "certificate verified if tls_ca_file is given; verify-full: certificate and host name "    \
        "verified. A line that is not verified, neither a socket nor the loopback, never carries " \
        "the password itself: what asks for it (MySQL's caching_sha2_password) is refused "        \
        "there."),                                                                                 \
        CFG_ROW(T, at.tls_ca_file, "tls_ca_file", CFG_OPTIONAL, "", 0, 4095, parts,                \
                "Certificates to trust, PEM. Empty: those of the system."),                        \
        CFG_ROW(T, at.tls_cert_file, "tls_cert_file", CFG_OPTIONAL, "", 0, 4095, parts,            \
                "Our own certificate, PEM. Empty: none."),                                         \
        CFG_ROW(T, at.tls_key_file, "tls_key_file", CFG_OPTIONAL, "", 0, 4095, parts,              \
                "Its private key, PEM.")

#endif
