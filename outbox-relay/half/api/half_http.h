/*
 * The API server of half-messages: its own thread and event loop before a half_store. Bounded in
 * every direction: by the HTTP server, and by the store's queue. The contract is docs/openapi.yaml.
 */
#ifndef RELAY_HALF_HTTP_H
#define RELAY_HALF_HTTP_H

#include "half/half.h"
#include "service/http.h"

struct half_http;

/** Defaults of half_http_opts. */
enum {
    HALF_HTTP_CONNECTIONS = 512,
    HALF_HTTP_BODY_BYTES = 4 * 1024 * 1024,
    HALF_HTTP_FIRST_CHECK_MS = 60000
};

struct half_http_opts {
    const char *address; /* NULL: 127.0.0.1 */
    uint16_t port;       /* 0: any free one, see half_http_port */
    const char *const
        *tokens; /* any of them may write; more than one for a rotation; borrowed for the call */
    size_t token_count; /* 0: refused, a writing API without a token is not started */
    bool open_lookup;   /* a gid is looked up without a token too */
    /** `Prefer: respond-async` on a verdict: answered 202 once it is queued. Only where check-back
     * finds out about one that is lost. */
    bool takes_async;
    /** Those that a prepare may name, borrowed for the call. NULL: any. */
    const char *const *producers;
    size_t producer_count;
    struct http_limits limits; /* 0 in connections, body_bytes: HALF_HTTP_... */
    const char *const *hosts;  /* as in http_opts, like the certificate; borrowed for the call */
    size_t host_count;
    const char *tls_cert_file, *tls_key_file;
    uint32_t first_check_ms;  /* where a prepare does not say; 0: HALF_HTTP_FIRST_CHECK_MS */
    struct half_store *store; /* borrowed: outlives the front's half_http_destroy, see there */
};

struct half_http_stats {
    uint64_t requests, refused, unauthorized, overloaded;
    uint64_t answered;       /* by the store, whatever the answer */
    uint64_t latency_us_sum; /* from the whole request to the answer, of those */
    uint64_t async;          /* verdicts answered 202 before they were applied */
    uint64_t async_lost;     /* of those: not applied (database away, held, refused) */
    struct http_stats http;
};

/** Listens and starts the thread. OBX_E_CONFIG (no token), OBX_E_SYSTEM (address), OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code half_http_create(const struct half_http_opts *opts,
                                             struct half_http **out, struct obx_err *err);
/** The port it listens on. */
uint16_t half_http_port(const struct half_http *front);
/** Stop listening; requests from now on are answered 503, and none reaches the store once this has
 * returned. First step of a stop: destroy the store next, then the front. */
void half_http_stop(struct half_http *front);
/** After the store was destroyed, so that no request is running. What the kernel
 * has not taken of the answers by then is tried for a tenth of a second. NULL is fine. */
void half_http_destroy(struct half_http *front);
void half_http_get_stats(struct half_http *front, struct half_http_stats *out);

#endif
