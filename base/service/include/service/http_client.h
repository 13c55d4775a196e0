/*
 * The HTTP client: every call that a program of ours makes goes through it, so that there is one
 * rule for all of them.
 *
 * Only what was configured is called: no proxy of the environment, no redirect, http and https and
 * nothing else. Certificate and host name are verified unless the request says otherwise. The time
 * of a call, the headers and the body of an answer are bounded; a longer answer is a failed call.
 *
 * Many calls at once on one thread, on curl's multi interface; connections are kept open between
 * calls. Proved by tests/unit/http_client_test.c.
 */
#ifndef SERVICE_HTTP_CLIENT_H
#define SERVICE_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

struct http_client;

enum http_method {
    HTTP_GET,
    HTTP_POST,
    HTTP_CONNECT_ONLY /* TCP and TLS, and nothing is sent: a look */
};

/** Lines of a request. Zero-initialise; free with http_headers_fini. */
struct http_headers {
    struct obx_buf lines; /* each with a NUL after it */
};
void http_headers_fini(struct http_headers *headers);
/** Nothing when the value is NULL or ""; a line end in it is refused. OBX_E_INVALID, OBX_E_NOMEM.
 */
OBX_NODISCARD enum obx_code http_headers_add(struct http_headers *headers, const char *name,
                                             const char *value);

/** Everything is borrowed for the call of http_client_start, but the body: until done. */
struct http_request {
    enum http_method method;
    const char *url;
    const struct http_headers *headers; /* NULL: none */
    struct obx_bytes body;              /* of a POST */
    uint32_t timeout_ms;                /* of all of it; needed */
    uint32_t connect_ms;                /* for name, TCP and TLS; 0: timeout_ms */
    size_t answer_max;                  /* bytes of body; more is a failure */
    size_t keep_max;                    /* of them, how many are kept to be looked at */
    const char *want_header;            /* an answer's header of this name is kept; NULL: none */
    const char *user_agent;             /* NULL: "rowpost" */
    const char *ca_file;                /* certificates to trust, PEM; NULL: those of the system */
    bool is_unverified;                 /* neither certificate nor host name is looked at */
};

/** How a call ended. Borrowed for the call of http_done_fn. */
struct http_answer {
    enum obx_code rc;      /* OBX_OK: there is a status; OBX_E_TIMEOUT; OBX_E_TOO_LARGE: the answer;
                              OBX_E_CLOSED: cancelled; OBX_E_SYSTEM: no connection, or broken */
    unsigned status;       /* also of an answer that came in part; 0: none */
    struct obx_bytes body; /* at most keep_max */
    const char *header;    /* the value of want_header, cut at 127 bytes; "" */
    const char *why;       /* of a failure, a text of the outside; "" */
    uint64_t took_us;
};
/** Runs inside http_client_service and http_client_cancel; may start another call. */
typedef void http_done_fn(const struct http_answer *answer, void *ctx);

/** For at most max_calls at once. On failure *out is NULL. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code http_client_create(uint32_t max_calls, struct http_client **out,
                                               struct obx_err *err);
/** What is in flight ends without a word to anybody. NULL is fine. */
void http_client_destroy(struct http_client *client);
/** Cut off what is in flight: done with OBX_E_CLOSED. */
void http_client_cancel(struct http_client *client);
/**
 * Start a call; done is called after OBX_OK only.
 * @return OBX_OK; OBX_E_FULL - max_calls are in flight; OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code http_client_start(struct http_client *client,
                                              const struct http_request *request,
                                              http_done_fn *done, void *ctx, struct obx_err *err);
/** Send, receive and report; waits at most wait_ms for something to happen, or for _wake. */
void http_client_service(struct http_client *client, int wait_ms);
/** End a wait of http_client_service. Any thread. */
void http_client_wake(struct http_client *client);
uint32_t http_client_in_flight(const struct http_client *client);
/** One call, waited for: done has run when this returns OBX_OK. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code http_client_once(const struct http_request *request, http_done_fn *done,
                                             void *ctx, struct obx_err *err);

/** What a Retry-After asks for: seconds, or a date; in milliseconds from now_us on (microseconds
 * since 1970). 0 when it is neither, or over. */
uint64_t http_retry_after_ms(const char *value, uint64_t now_us);

#endif
