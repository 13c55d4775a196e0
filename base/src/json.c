/*
 * JSON without a tree: bounds on a text before anybody parses it (json_bounds.h), checking it, and
 * walking through a checked one (json_span.h).
 *
 * The check keeps one bit for each open object or array (which of the two it is), so that nesting
 * costs no stack. The walk trusts the check: it looks for the ends of values only.
 */
#include "base/json_span.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "base/json_bounds.h"
#include "base/utf8.h"

enum { HEX_DIGITS = 4, BITS = 8, SURROGATE_HIGH = 0xd800, SURROGATE_LOW = 0xdc00 };

struct scan {
    const char *start, *at, *end;
    const char *what; /* the first fault; at says where */
    unsigned depth;
    uint8_t is_object[JSON_SPAN_DEPTH_MAX / BITS]; /* a bit for each open container */
};

static bool fail(struct scan *s, const char *what)
{
    if (s->what == NULL)
        s->what = what;
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
        at++;
    return at;
}

static bool next_is(const struct scan *s, char c)
{
    return s->at < s->end && *s->at == c;
}

/* ---- the check ---- */

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool check_escape(struct scan *s)
{
    s->at++;
    if (s->at == s->end || strchr("\"\\/bfnrtu", *s->at) == NULL || *s->at == '\0')
        return fail(s, "an escape that there is not");
    if (*s->at++ != 'u')
        return true;
    for (int i = 0; i < HEX_DIGITS; i++, s->at++)
        if (s->at == s->end || hex_value(*s->at) < 0)
            return fail(s, "\\u needs four hexadecimal digits");
    return true;
}

static bool check_string(struct scan *s)
{
    if (!next_is(s, '"'))
        return fail(s, "a string was expected");
    s->at++;
    while (s->at < s->end && *s->at != '"') {
        if ((unsigned char)*s->at < ' ')
            return fail(s, "a control character in a string");
        if (*s->at != '\\')
            s->at++;
        else if (!check_escape(s))
            return false;
    }
    if (s->at == s->end)
        return fail(s, "a string without its end");
    s->at++;
    return true;
}

static bool check_digits(struct scan *s)
{
    if (s->at == s->end || !is_digit(*s->at))
        return fail(s, "a digit was expected");
    while (s->at < s->end && is_digit(*s->at))
        s->at++;
    return true;
}

/* As RFC 8259 has it, which is narrower than what strtod(3) takes: no '+', no leading zeros, no bare
 * point. Other parsers refuse those, so a message with one would be read by some only. */
static bool check_number(struct scan *s)
{
    if (next_is(s, '-'))
        s->at++;
    if (next_is(s, '0'))
        s->at++;
    else if (!check_digits(s))
        return false;
    if (next_is(s, '.')) {
        s->at++;
        if (!check_digits(s))
            return false;
    }
    if (!next_is(s, 'e') && !next_is(s, 'E'))
        return true;
    s->at++;
    if (next_is(s, '+') || next_is(s, '-'))
        s->at++;
    return check_digits(s);
}

static bool check_word(struct scan *s, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(s->end - s->at) < len || memcmp(s->at, word, len) != 0)
        return fail(s, "a value was expected");
    s->at += len;
    return true;
}

/* By the first byte, which says what a value is. */
static bool check_scalar(struct scan *s)
{
    switch (*s->at) {
    case '"':
        return check_string(s);
    case 't':
        return check_word(s, "true");
    case 'f':
        return check_word(s, "false");
    case 'n':
        return check_word(s, "null");
    default:
        return is_digit(*s->at) || *s->at == '-' ? check_number(s)
                                                 : fail(s, "a value was expected");
    }
}

static bool in_object(const struct scan *s)
{
    const unsigned top = s->depth - 1;

    return (s->is_object[top / BITS] >> (top % BITS) & 1) != 0;
}

static bool open_container(struct scan *s)
{
    const unsigned top = s->depth;
    const uint8_t bit = (uint8_t)(1U << (top % BITS));

    if (top == JSON_SPAN_DEPTH_MAX) /* there is a bit for each level, and no more */
        return fail(s, "nested too deeply");
    if (*s->at == '{')
        s->is_object[top / BITS] |= bit;
    else
        s->is_object[top / BITS] &= (uint8_t)~bit;
    s->depth++;
    s->at = skip_blanks(s->at + 1, s->end);
    return true;
}

static bool check_name(struct scan *s)
{
    if (!check_string(s))
        return false;
    s->at = skip_blanks(s->at, s->end);
    if (!next_is(s, ':'))
        return fail(s, "a ':' was expected");
    s->at = skip_blanks(s->at + 1, s->end);
    return true;
}

/* After a value: close what ends here. *more tells whether another value must follow. */
static bool close_containers(struct scan *s, bool *more)
{
    *more = false;
    while (s->depth > 0) {
        s->at = skip_blanks(s->at, s->end);
        if (next_is(s, ',')) {
            s->at = skip_blanks(s->at + 1, s->end);
            *more = true;
            return !in_object(s) || check_name(s);
        }
        if (!next_is(s, in_object(s) ? '}' : ']'))
            return fail(s,
                        in_object(s) ? "a ',' or '}' was expected" : "a ',' or ']' was expected");
        s->at++;
        s->depth--;
    }
    return true;
}

/* Up to the end of one value, nested ones included. */
static bool check_value(struct scan *s)
{
    bool more = true;

    while (more) {
        if (s->at == s->end)
            return fail(s, "a value was expected");
        if (*s->at == '{' || *s->at == '[') {
            if (!open_container(s))
                return false;
            if (!next_is(s, in_object(s) ? '}' : ']')) {
                if (in_object(s) && !check_name(s))
                    return false;
                continue;
            }
        } else if (!check_scalar(s)) {
            return false;
        }
        if (!close_containers(s, &more))
            return false;
    }
    return true;
}

static size_t first_bad_byte(struct obx_bytes text)
{
    uint32_t cp = 0;
    size_t at = 0;
    size_t len = 0;

    while (at < text.len) {
        len = utf8_next((struct obx_bytes){(const char *)text.p + at, text.len - at}, &cp);
        if (len == 0)
            break;
        at += len;
    }
    return at;
}

bool json_span_check(struct obx_bytes text, struct obx_bytes *value, struct json_span_fault *fault)
{
    struct scan s = {.start = text.len == 0 ? "" : text.p};

    *value = (struct obx_bytes){0};
    if (!utf8_is_valid(text)) {
        *fault = (struct json_span_fault){"bytes that are not UTF-8", first_bad_byte(text)};
        return false;
    }
    s.end = s.start + text.len;
    s.at = skip_blanks(s.start, s.end);
    value->p = s.at;
    if (check_value(&s)) {
        value->len = (size_t)(s.at - (const char *)value->p);
        s.at = skip_blanks(s.at, s.end);
        if (s.at == s.end)
            return true;
        (void)fail(&s, "something after the value");
    }
    *value = (struct obx_bytes){0};
    *fault = (struct json_span_fault){s.what, (size_t)(s.at - s.start)};
    return false;
}

/* ---- the walk ---- */

enum json_span_type json_span_type(struct obx_bytes value)
{
    switch (*(const char *)value.p) {
    case '{':
        return JSON_SPAN_OBJECT;
    case '[':
        return JSON_SPAN_ARRAY;
    case '"':
        return JSON_SPAN_STRING;
    case 't':
        return JSON_SPAN_TRUE;
    case 'f':
        return JSON_SPAN_FALSE;
    case 'n':
        return JSON_SPAN_NULL;
    default:
        return JSON_SPAN_NUMBER;
    }
}

struct json_span_rest json_span_enter(struct obx_bytes container)
{
    const char *start = container.p;

    return (struct json_span_rest){start + 1, start + container.len - 1};
}

/* The two below need no bound: in a text that was checked each end is there. */
static const char *skip_string(const char *at)
{
    for (at++; *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at + 1;
}

static const char *skip_container(const char *at)
{
    size_t depth = 0;

    do {
        if (*at == '"') {
            at = skip_string(at);
            continue;
        }
        depth += *at == '{' || *at == '[' ? 1 : 0;
        depth -= *at == '}' || *at == ']' ? 1 : 0;
        at++;
    } while (depth > 0);
    return at;
}

static struct obx_bytes take_value(struct json_span_rest *rest)
{
    const char *start = rest->at;

    if (*start == '"')
        rest->at = skip_string(start);
    else if (*start == '{' || *start == '[')
        rest->at = skip_container(start);
    else
        while (rest->at < rest->end && strchr(", \t\r\n", *rest->at) == NULL)
            rest->at++;
    return (struct obx_bytes){start, (size_t)(rest->at - start)};
}

/* To the next value, over the comma that stands before it. */
static bool find_next(struct json_span_rest *rest)
{
    rest->at = skip_blanks(rest->at, rest->end);
    if (rest->at < rest->end && *rest->at == ',')
        rest->at = skip_blanks(rest->at + 1, rest->end);
    return rest->at < rest->end;
}

bool json_span_next_member(struct json_span_rest *rest, struct obx_bytes *name,
                           struct obx_bytes *value)
{
    if (!find_next(rest))
        return false;
    *name = take_value(rest);
    rest->at = skip_blanks(rest->at, rest->end);
    rest->at = skip_blanks(rest->at + 1, rest->end); /* the colon */
    *value = take_value(rest);
    return true;
}

bool json_span_next_element(struct json_span_rest *rest, struct obx_bytes *value)
{
    if (!find_next(rest))
        return false;
    *value = take_value(rest);
    return true;
}

/* ---- strings ---- */

static uint32_t hex4(const char *at)
{
    uint32_t unit = 0;

    for (int i = 0; i < HEX_DIGITS; i++)
        unit = unit << 4 | (uint32_t)hex_value(at[i]);
    return unit;
}

/* The character of \uXXXX, or of two that make one, at *at, which stands after the 'u'. */
static bool take_unicode(const char **at, const char *end, uint32_t *cp)
{
    uint32_t low = 0;

    *cp = hex4(*at);
    *at += HEX_DIGITS;
    /* Half of a pair is no character: there are no bytes of UTF-8 for it, and a utf8mb4 column would
     * refuse the row. */
    if (*cp < SURROGATE_HIGH || *cp > 0xdfff)
        return true;
    if (*cp >= SURROGATE_LOW || end - *at < HEX_DIGITS + 2 || (*at)[0] != '\\' || (*at)[1] != 'u')
        return false;
    low = hex4(*at + 2);
    if (low < SURROGATE_LOW || low > 0xdfff)
        return false;
    *at += HEX_DIGITS + 2;
    *cp = 0x10000 + ((*cp - SURROGATE_HIGH) << 10) + (low - SURROGATE_LOW);
    return true;
}

/* At most four bytes for the six of an escape, or for the twelve of a pair of them. */
static char *put_utf8(char *dst, uint32_t cp)
{
    if (cp < 0x80) {
        *dst++ = (char)cp;
        return dst;
    }
    if (cp < 0x800) {
        *dst++ = (char)(0xc0 | cp >> 6);
    } else {
        if (cp < 0x10000) {
            *dst++ = (char)(0xe0 | cp >> 12);
        } else {
            *dst++ = (char)(0xf0 | cp >> 18);
            *dst++ = (char)(0x80 | (cp >> 12 & 0x3f));
        }
        *dst++ = (char)(0x80 | (cp >> 6 & 0x3f));
    }
    *dst++ = (char)(0x80 | (cp & 0x3f));
    return dst;
}

/* Of the escapes that are one letter; the check has let no others through. */
static char unescape(char c)
{
    static const char from[] = "bfnrt";
    static const char to[] = "\b\f\n\r\t";
    const char *found = strchr(from, c);

    if (found == NULL)
        return c;
    return to[found - from];
}

/* What is written never overtakes what is read: each escape is longer than what it stands for. */
bool json_span_decode(struct obx_bytes string, char *dst, size_t *len)
{
    const char *at = (const char *)string.p + 1;
    const char *end = at + string.len - 2;
    char *out = dst;
    uint32_t cp = 0;

    while (at < end) {
        if (*at != '\\') {
            *out++ = *at++;
            continue;
        }
        at += 2;
        if (at[-1] != 'u') {
            *out++ = unescape(at[-1]);
            continue;
        }
        if (!take_unicode(&at, end, &cp))
            return false;
        out = put_utf8(out, cp);
    }
    *len = (size_t)(out - dst);
    return true;
}

bool json_span_is_plain(struct obx_bytes string, struct obx_bytes *inner)
{
    *inner = (struct obx_bytes){(const char *)string.p + 1, string.len - 2};
    return memchr(inner->p, '\\', inner->len) == NULL;
}

/* ---- bounds ---- */

struct count {
    size_t depth, deepest;
    size_t values;
    bool in_string;
    bool is_escaped; /* the byte before was a backslash within a string */
};

/* Whatever begins a value or follows one counts it: each value has a mark of its own, but the
 * outermost, which is counted at the start. */
static void count_mark(struct count *count, char c)
{
    if (c == '{' || c == '[') {
        count->values++;
        count->depth++;
        if (count->depth > count->deepest)
            count->deepest = count->depth;
    } else if (c == '}' || c == ']') {
        count->depth -= count->depth > 0 ? 1 : 0;
    } else if (c == ',' || c == ':') {
        count->values++;
    } else if (c == '"') {
        count->in_string = true;
    }
}

enum obx_code json_bounds_check(struct obx_bytes text, const struct json_bounds *bounds,
                                struct obx_err *err)
{
    const char *p = text.p;
    struct count count = {.values = 1};

    if (text.len > bounds->bytes)
        return obx_fail(err, OBX_E_TOO_LARGE, "JSON of %zu bytes; %zu are allowed", text.len,
                        bounds->bytes);
    for (size_t i = 0; i < text.len; i++) {
        /* Marks within a string are text. An escaped quote does not end it, and an escaped backslash
         * escapes nothing: without the flag, "\\" would hide all that follows from the count. */
        if (!count.in_string)
            count_mark(&count, p[i]);
        else if (count.is_escaped)
            count.is_escaped = false;
        else if (p[i] == '\\')
            count.is_escaped = true;
        else if (p[i] == '"')
            count.in_string = false;
        if (count.deepest > bounds->depth)
            return obx_fail(err, OBX_E_TOO_LARGE, "JSON deeper than %zu levels", bounds->depth);
        if (count.values > bounds->values)
            return obx_fail(err, OBX_E_TOO_LARGE, "JSON of more than %zu values", bounds->values);
    }
    return OBX_OK;
}
