/* One HTTP request from a test, over libcurl. Needs libcurl's global state only; any thread. */
#ifndef OBX_TEST_HTTP_CALL_H
#define OBX_TEST_HTTP_CALL_H

#include <stddef.h>
#include <stdint.h>

struct http_answer {
    long status;     /* 0: no answer at all (refused, reset, timed out) */
    char body[8192]; /* cut to fit, NUL-terminated */
    size_t body_len;
};

struct http_call {
    const char *method; /* NULL: GET */
    uint16_t port;      /* on 127.0.0.1 */
    const char *path;
    const char *token;        /* NULL: none */
    const char *content_type; /* NULL: application/json, when there is a body */
    const char *body;         /* NULL: none */
    size_t body_len;          /* 0: strlen(body) */
    long timeout_ms;          /* 0: 10000 */
};

void http_call(const struct http_call *call, struct http_answer *answer);

#endif
