/* The bridge's own copy of bridge_opts: defaults filled in, addresses taken apart. See options.c.
 */
#ifndef BRIDGE_OPTIONS_H
#define BRIDGE_OPTIONS_H

#include "bridge/bridge.h"

struct address {
    char *host; /* into the options' own text */
    uint16_t port;
};

struct options {
    struct address *addresses;
    size_t address_count;
    char *address_text; /* cut up: the hosts point into it */
    char *vhost;
    char *user;
    char *password;
    char *connection_name;
    char *ca_file;
    char *cert_file;
    char *key_file;
    bool tls;
    bool insecure;
    uint32_t connect_timeout_ms;
    uint32_t rpc_timeout_ms;
    uint32_t heartbeat_s;
    uint32_t reconnect_min_ms;
    uint32_t reconnect_cap_ms;
};

/**
 * Copy and check. On failure options needs no options_fini.
 * @return OBX_OK; OBX_E_CONFIG (addresses, a missing user, limits); OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code options_init(struct options *options, const struct bridge_opts *opts,
                                         struct obx_err *err);
/** Free and zero; the password's memory is wiped. */
void options_fini(struct options *options);
/** Overwrite what was secret, before its memory is freed. */
void options_wipe(char *text, size_t len);

#endif
