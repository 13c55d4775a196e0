/*
 * Where the values of a JSON text stand in its bytes.
 *
 * A parser that makes a tree and prints it again changes what it was given: 12.50 becomes 12.5, a
 * long decimal is cut, blanks go. Here a value stays the run of bytes that it is, and the caller that
 * carries one carries those bytes. No allocation, no recursion, no state; time is linear in the
 * text. Any thread. Proved by tests/unit/json_span_test.c and tests/fuzz/json_span_fuzz.c, which
 * holds it against jansson.
 */
#ifndef BASE_JSON_SPAN_H
#define BASE_JSON_SPAN_H

#include <stdbool.h>
#include <stddef.h>

#include "obx/bytes.h"

/** Objects and arrays within each other, at most. */
#define JSON_SPAN_DEPTH_MAX 512

/** What is wrong with a text, and where. */
struct json_span_fault {
    const char *what; /* static */
    size_t at;        /* byte, from 0 */
};

/**
 * Whether text is one JSON value as RFC 8259 has it, in UTF-8, with nothing but blanks around it.
 * *value then is the value without those blanks. Strings are checked as far as their grammar goes:
 * a lone surrogate (\ud800) is for json_span_decode to refuse. Names of an object may repeat.
 */
bool json_span_check(struct obx_bytes text, struct obx_bytes *value, struct json_span_fault *fault);

enum json_span_type {
    JSON_SPAN_OBJECT,
    JSON_SPAN_ARRAY,
    JSON_SPAN_STRING,
    JSON_SPAN_NUMBER,
    JSON_SPAN_TRUE,
    JSON_SPAN_FALSE,
    JSON_SPAN_NULL
};

/** Of a value that json_span_check has passed, or that stands within such a one. The same holds for
 * all below. */
enum json_span_type json_span_type(struct obx_bytes value);

/** The rest of an object or array. What has been passed over is not read again. */
struct json_span_rest {
    const char *at, *end;
};

struct json_span_rest json_span_enter(struct obx_bytes container);
/** The next member, false after the last. name is a string value, with its quotes. */
bool json_span_next_member(struct json_span_rest *rest, struct obx_bytes *name,
                           struct obx_bytes *value);
bool json_span_next_element(struct json_span_rest *rest, struct obx_bytes *value);

/**
 * The text that a string value stands for, written to dst, which has room for string.len - 2 bytes
 * and may be the string's own place. False for a lone surrogate, which stands for no text.
 */
bool json_span_decode(struct obx_bytes string, char *dst, size_t *len);
/** What stands between the quotes, and whether that is the text itself, without any escape. */
bool json_span_is_plain(struct obx_bytes string, struct obx_bytes *inner);

#endif
