/*
 * The rows of a configuration table that fill a struct bridge_opts: the same for both daemons. `at`
 * is the path of the bridge_opts in T, `parts` what a change restarts.
 */
#ifndef BRIDGE_BRIDGE_KEYS_H
#define BRIDGE_BRIDGE_KEYS_H

#include "base/config.h"
#include "bridge/bridge.h"

#define BRIDGE_LOGIN_KEYS(T, at, parts)                                                            \
    CFG_ROW(T, at.addresses, "addresses", CFG_STRING, "127.0.0.1:5672", 1, 4096, parts,            \
            "RabbitMQ nodes, host[:port] separated by commas; tried in turn. '[::1]:5672' for "    \
            "IPv6."),                                                                              \
        CFG_ROW(T, at.vhost, "vhost", CFG_STRING, "/", 1, 255, parts, "Virtual host."),            \
        CFG_ROW(T, at.user, "user", CFG_STRING, "guest", 1, 255, parts,                            \
                "User. RabbitMQ lets guest in from its own host only."),                           \
        CFG_ROW(T, at.password, "password", CFG_SECRET, "guest", 0, 1024, parts,                   \
                "Password, better given as password_file or in the environment.")

#define BRIDGE_TLS_KEYS(T, at, parts)                                                              \
    CFG_ROW(T, at.tls.enabled, "tls", CFG_BOOL, "no", 0, 0, parts,                                 \
            "TLS to the broker; its port is then 5671 unless another one is given."),              \
        CFG_ROW(T, at.tls.insecure, "tls_verify", CFG_NOT, "yes", 0, 0, parts,                     \
                "Verify the broker's certificate and host name."),                                 \
        CFG_ROW(T, at.tls.ca_file, "tls_ca_file", CFG_OPTIONAL, "", 0, 4095, parts,                \
                "Certificates to trust, PEM. Empty: those of the system."),                        \
        CFG_ROW(T, at.tls.cert_file, "tls_cert_file", CFG_OPTIONAL, "", 0, 4095, parts,            \
                "Our own certificate, PEM. Empty: none."),                                         \
        CFG_ROW(T, at.tls.key_file, "tls_key_file", CFG_OPTIONAL, "", 0, 4095, parts,              \
                "Its private key, PEM.")

#endif
