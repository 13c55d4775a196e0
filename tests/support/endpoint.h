/*
 * An HTTP endpoint of a test's own, on a free port of 127.0.0.1 in a thread of its own: a producer
 * that is asked, honest, slow, dead or lying.
 */
#ifndef OBX_TEST_ENDPOINT_H
#define OBX_TEST_ENDPOINT_H

#include <stddef.h>
#include <stdint.h>

struct endpoint;

enum endpoint_mode {
    ENDPOINT_ANSWER,  /* status and body */
    ENDPOINT_SILENT,  /* takes the request and never answers */
    ENDPOINT_CLOSE,   /* closes without an answer */
    ENDPOINT_ENDLESS, /* a body that goes on and on, a little at a time */
    ENDPOINT_HUGE,    /* a 10 MB body */
    ENDPOINT_GARBAGE  /* bytes that are no HTTP */
};

struct endpoint_answer {
    enum endpoint_mode mode;
    int status;
    char body[256];
    char location[256]; /* of a redirect; "" none */
    char retry_after[64];
    unsigned delay_ms; /* before it is sent; ENDPOINT_ANSWER only */
};

/** Decide on the answer to one request; runs on the endpoint's thread. path has the query in it. */
typedef void endpoint_fn(const char *path, struct endpoint_answer *answer, void *ctx);

struct endpoint *endpoint_create(endpoint_fn *decide, void *ctx);

/** A request with all there is of it; borrowed for the call. */
struct endpoint_request {
    const char *path;
    const char *body; /* with a NUL behind it */
    size_t body_len;
    const void *headers; /* for endpoint_header */
};
/** NULL when the request has no such header. */
const char *endpoint_header(const struct endpoint_request *request, const char *name);
typedef void endpoint_request_fn(const struct endpoint_request *request,
                                 struct endpoint_answer *answer, void *ctx);
/** As endpoint_create, for a test that looks at the whole request. */
struct endpoint *endpoint_create_full(endpoint_request_fn *decide, void *ctx);
void endpoint_destroy(struct endpoint *endpoint);
uint16_t endpoint_port(const struct endpoint *endpoint);
/** Requests that arrived so far. */
uint64_t endpoint_requests(const struct endpoint *endpoint);

#endif
