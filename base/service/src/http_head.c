/* Parsing of request heads. */
#include "http_head.h"

#include <string.h>
#include <strings.h>

#include "base/bytes.h"

static const struct http_fault no_fault = {0};

static struct http_fault fault(int status, const char *text)
{
    return (struct http_fault){.status = status, .text = text};
}

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_alnum(text[i]) && (text[i] == '\0' || strchr("!#$%&'*+-.^_`|~", text[i]) == NULL))
            return false;
    return len > 0;
}

/* Nothing that ends or hides a line: no controls but the tab. */
static bool is_value(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

size_t http_head_find_end(const char *text, size_t len, struct http_fault *out)
{
    size_t line = 0;
    const char *lf;

    *out = no_fault;
    while ((lf = memchr(text + line, '\n', len - line)) != NULL) {
        size_t end = (size_t)(lf - text);

        if (end == 0 || text[end - 1] != '\r') {
            *out = fault(400, "a line must end in CR LF");
            return 0;
        }
        if (end - line == 1 && line > 0)
            return end + 1;
        if (end - line == 1) {
            *out = fault(400, "the request begins with an empty line");
            return 0;
        }
        line = end + 1;
    }
    return 0;
}

bool http_field_line(char *line, size_t len, struct http_head_field *out)
{
    char *colon = memchr(line, ':', len);
    char *value, *end = line + len;

    if (colon == NULL || !is_token(line, (size_t)(colon - line)))
        return false;
    value = colon + 1;
    if (!is_value(value, (size_t)(end - value)))
        return false;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *colon = '\0';
    *end = '\0';
    *out = (struct http_head_field){.name = line, .value = value};
    return true;
}

const char *http_head_field(const struct http_head *head, const char *name)
{
    for (size_t i = 0; i < head->field_count; i++)
        if (strcasecmp(head->fields[i].name, name) == 0)
            return head->fields[i].value;
    return NULL;
}

static size_t count_fields(const struct http_head *head, const char *name)
{
    size_t count = 0;

    for (size_t i = 0; i < head->field_count; i++)
        count += strcasecmp(head->fields[i].name, name) == 0;
    return count;
}

/* Printable ASCII with whole percent-escapes. */
static bool is_target(const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p <= ' ' || *p >= 0x7f || *p == '#')
            return false;
        if (*p == '%' && (hex_value(p[1]) < 0 || hex_value(p[2]) < 0))
            return false;
    }
    return true;
}

/* "/path?query", or the same after "http://authority" as proxies send it. */
static struct http_fault parse_target(char *target, struct http_head *out)
{
    char *path = target, *query;
    size_t scheme_len = strncasecmp(target, "https://", 8) == 0  ? 8
                        : strncasecmp(target, "http://", 7) == 0 ? 7
                                                                 : 0;

    if (!is_target(target))
        return fault(400, "the target of the request is malformed");
    if (scheme_len > 0) {
        out->host = target + scheme_len;
        path = target + scheme_len + strcspn(target + scheme_len, "/?");
        if (*path != '/')
            return fault(400, "the target of the request has no path");
        /* The authority needs an end of its own: it moves over the scheme. */
        memmove(target, out->host, (size_t)(path - out->host));
        target[path - out->host] = '\0';
        out->host = target;
    }
    if (*path != '/')
        return fault(400, "the target of the request must begin with '/'");
    query = strchr(path, '?');
    if (query != NULL)
        *query++ = '\0';
    out->path = bytes_of(path);
    out->query = query;
    return no_fault;
}

/* "METHOD target HTTP/1.1" */
static struct http_fault parse_line(char *line, size_t len, struct http_head *out)
{
    char *target = memchr(line, ' ', len);
    char *version = target == NULL ? NULL : strchr(target + 1, ' ');

    if (memchr(line, '\0', len) != NULL || version == NULL ||
        !is_token(line, (size_t)(target - line)))
        return fault(400, "no HTTP request");
    *target++ = '\0';
    *version++ = '\0';
    if (strcmp(version, "HTTP/1.0") == 0)
        out->wants_close = true;
    else if (strcmp(version, "HTTP/1.1") != 0)
        return strlen(version) == strlen("HTTP/1.1") && strncmp(version, "HTTP/", 5) == 0
                   ? fault(505, "HTTP/1.0 or 1.1")
                   : fault(400, "no HTTP request");
    out->method = line;
    return parse_target(target, out);
}

static struct http_fault parse_length(struct http_head *out)
{
    const char *text = http_head_field(out, "Content-Length");

    if (text == NULL)
        return no_fault;
    if (count_fields(out, "Content-Length") > 1)
        return fault(400, "more than one Content-Length");
    if (*text == '\0' || text[strspn(text, "0123456789")] != '\0')
        return fault(400, "Content-Length must be digits");
    for (const char *p = text; *p != '\0'; p++) {
        if (out->length > (UINT64_MAX - 9) / 10)
            return fault(413, "the body is too large");
        out->length = out->length * 10 + (uint64_t)(*p - '0');
    }
    out->has_length = true;
    return no_fault;
}

static struct http_fault parse_encoding(struct http_head *out, bool is_1_0)
{
    const char *text = http_head_field(out, "Transfer-Encoding");

    if (text == NULL)
        return no_fault;
    if (is_1_0 || out->has_length || count_fields(out, "Transfer-Encoding") > 1)
        return fault(400, "Transfer-Encoding beside a Content-Length, twice, or in HTTP/1.0");
    if (strcasecmp(text, "chunked") != 0)
        return fault(501, "the only Transfer-Encoding is chunked");
    out->is_chunked = true;
    return no_fault;
}

/* One Host in HTTP/1.1; an absolute target is stronger, but the field must be there all the same.
 */
static struct http_fault parse_host(struct http_head *out, bool is_1_0)
{
    size_t count = count_fields(out, "Host");

    if (count > 1 || (count == 0 && !is_1_0))
        return fault(400, "exactly one Host is needed");
    if (out->host == NULL)
        out->host = http_head_field(out, "Host");
    return no_fault;
}

static bool list_has(const char *list, const char *word)
{
    const size_t len = strlen(word);

    while (*list != '\0') {
        size_t item = strcspn(list, ", \t");

        if (item == len && strncasecmp(list, word, len) == 0)
            return true;
        list += item;
        list += strspn(list, ", \t");
    }
    return false;
}

static struct http_fault read_meaning(struct http_head *out)
{
    const bool is_1_0 = out->wants_close;
    const char *expect = http_head_field(out, "Expect");
    struct http_fault found = parse_length(out);

    if (found.status == 0)
        found = parse_encoding(out, is_1_0);
    if (found.status == 0)
        found = parse_host(out, is_1_0);
    for (size_t i = 0; i < out->field_count; i++)
        if (strcasecmp(out->fields[i].name, "Connection") == 0 &&
            list_has(out->fields[i].value, "close"))
            out->wants_close = true;
    if (found.status != 0 || expect == NULL || is_1_0)
        return found;
    if (strcasecmp(expect, "100-continue") != 0)
        return fault(417, "the only expectation that is met is 100-continue");
    out->expects_continue = true;
    return no_fault;
}

struct http_fault http_head_parse(char *text, size_t len, struct http_head *out)
{
    struct http_fault found = no_fault;
    char *end = text + len - 2; /* of the fields: the empty line */
    char *line = text;

    memset(out, 0, offsetof(struct http_head, fields));
    out->field_count = 0;
    while (found.status == 0 && line < end) {
        char *eol = memchr(line, '\n', (size_t)(end - line));
        size_t line_len = (size_t)(eol - line) - 1;

        line[line_len] = '\0';
        if (line == text)
            found = parse_line(line, line_len, out);
        else if (out->field_count == HTTP_FIELDS_MAX)
            found = fault(431, "too many fields");
        else if (!http_field_line(line, line_len, &out->fields[out->field_count++]))
            found = fault(400, "a malformed field");
        line = eol + 1;
    }
    return found.status == 0 ? read_meaning(out) : found;
}

bool http_chunk_size(const char *line, size_t len, uint64_t *size)
{
    size_t digits = 0;

    *size = 0;
    while (digits < len && hex_value(line[digits]) >= 0) {
        if (digits == sizeof(*size) * 2 - 1) /* no more than what cannot overflow */
            return false;
        *size = *size * 16 + (uint64_t)hex_value(line[digits++]);
    }
    if (digits == 0 || !is_value(line, len))
        return false;
    return digits == len || line[digits] == ';';
}
