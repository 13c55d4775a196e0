/*
 * The head of an HTTP/1.x request, parsed strictly: what two programs could read in two ways is
 * refused. Lines end in CR LF; no control characters, no folded lines, no blank before a colon;
 * Content-Length once, in digits; Transfer-Encoding only "chunked", and never with a
 * Content-Length; exactly one Host. No I/O; every byte is hostile. Called by http.c.
 */
#ifndef SERVICE_HTTP_HEAD_H
#define SERVICE_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "obx/bytes.h"

enum { HTTP_HEAD_MAX = 8192, HTTP_FIELDS_MAX = 64 };

struct http_head_field {
    const char *name, *value;
};

/** All texts point into the text that was parsed. */
struct http_head {
    const char *method;
    struct obx_bytes path;
    const char *query; /* NULL: none */
    const char *host;  /* of the target if it is absolute, else the field's; NULL: none (1.0) */
    bool wants_close;
    bool is_chunked;
    bool has_length;
    uint64_t length;
    bool expects_continue;
    struct http_head_field fields[HTTP_FIELDS_MAX];
    size_t field_count;
};

/** A refusal: 0 is none. Texts are static. */
struct http_fault {
    int status; /* 400, 411, 413, 417, 431, 501, 505 */
    const char *text;
};

/** Where the head ends: its length with the empty line, 0 when it is not whole yet. A line that
 * does not end in CR LF makes *fault. */
size_t http_head_find_end(const char *text, size_t len, struct http_fault *fault);
/** Parse text (len bytes as http_head_find_end said; changed in place). */
struct http_fault http_head_parse(char *text, size_t len, struct http_head *out);
/** The value of the first field of this name; NULL: none. */
const char *http_head_field(const struct http_head *head, const char *name);
/** The size of a chunk and its ignored extension, without CR LF. False: not one. */
bool http_chunk_size(const char *line, size_t len, uint64_t *size);
/** Whether it is a well-formed field line, without CR LF; splits it in place when it is. */
bool http_field_line(char *line, size_t len, struct http_head_field *out);

#endif
