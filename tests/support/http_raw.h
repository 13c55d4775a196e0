/*
 * HTTP by hand, for tests that look at every byte of an answer or send what no client library
 * sends. On 127.0.0.1; any thread.
 */
#ifndef OBX_TEST_HTTP_RAW_H
#define OBX_TEST_HTTP_RAW_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/** A connected socket, or -1. It waits at most 30 s in each read and write. */
int http_raw_connect(uint16_t port);
/** Read until the peer closes, or for 30 s without a byte; what came is in *out (reset first,
 * NUL-terminated). Closes fd. */
void http_raw_read_all(int fd, struct obx_buf *out);
/** Close with a reset, as the kernel does for a process that is killed with bytes unread. */
void http_raw_reset(int fd);
/** Send a whole request and read the whole answer, head included. Returns the status of the answer,
 * 0 when there was none. */
int http_raw_request(uint16_t port, const char *request, size_t len, struct obx_buf *answer);
/** GET a path; only the body is left in *body. Returns the status, 0 when there was no answer. */
int http_raw_get(uint16_t port, const char *path, struct obx_buf *body);

#endif
