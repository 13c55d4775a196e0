/*
 * The rows of a configuration table that fill the options of a port: those of http_opts, or of a
 * struct that has fields of the same names. `at` is its path in T. A change restarts the process.
 */
#ifndef SERVICE_HTTP_KEYS_H
#define SERVICE_HTTP_KEYS_H

#include "base/config.h"
#include "service/http.h"

#define HTTP_KEYS(T, at, port_default, connections_default, address_help, port_help, hosts_help,   \
                  connections_help, cert_help)                                                     \
    CFG_ROW(T, at.address, "http_address", CFG_STRING, "127.0.0.1", 1, 255, CFG_PROCESS,           \
            address_help),                                                                         \
        CFG_ROW(T, at.port, "http_port", CFG_COUNT, port_default, 0, 65535, CFG_PROCESS,           \
                port_help),                                                                        \
        CFG_LIST_ROW(T, at.hosts, at.host_count, "http_hosts", "", 0, 64, CFG_PROCESS,             \
                     hosts_help),                                                                  \
        CFG_NUMBER(T, at.limits.connections, "http_connections", CFG_COUNT, connections_default,   \
                   4, 65535, CFG_PROCESS, connections_help),                                       \
        CFG_ROW(T, at.tls_cert_file, "http_tls_cert_file", CFG_STRING, "", 0, 4095, CFG_PROCESS,   \
                cert_help),                                                                        \
        CFG_ROW(T, at.tls_key_file, "http_tls_key_file", CFG_STRING, "", 0, 4095, CFG_PROCESS,     \
                "Its private key, PEM.")

/** The port with a daemon's own pages, which are named in address_help. */
#define HTTP_PAGES_KEYS(T, at, port_default, pages)                                                \
    HTTP_KEYS(T, at, port_default, HTTP_CONNECTIONS,                                               \
              "Address for " pages ". Without a token anybody reads them: keep it on the "         \
              "loopback, or on an address that only the monitoring reaches.",                      \
              "Port of http_address. 0: no HTTP.",                                                 \
              "Names under which callers reach this port, beside localhost, IP addresses and "     \
              "http_address; what another Host header asks for is answered 421, so that no web "   \
              "page can read it through a name of its own. *: any name.",                          \
              "Connections to that port at once; to make room the one that is worth least is "     \
              "closed.",                                                                           \
              "Certificate of that port with its chain, PEM. Empty: HTTP without TLS.")

#endif
