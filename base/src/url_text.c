/* Passwords out of URLs. See base/url_text.h. */
#include "base/url_text.h"

#include <stdbool.h>
#include <string.h>

/* Where the next "://" ends; text.len when there is none. */
static size_t find_authority(struct obx_bytes text, size_t from)
{
    const char *p = text.p;

    for (size_t i = from; i + 3 <= text.len; i++) {
        if (memcmp(p + i, "://", 3) == 0)
            return i + 3;
    }
    return text.len;
}

/* How far it goes until one of the marks; a URL in a list ends at a comma or a blank. */
static size_t span_to(struct obx_bytes text, size_t from, const char *marks)
{
    const char *p = text.p;
    size_t at = from;

    while (at < text.len && p[at] != '\0' && strchr(marks, p[at]) == NULL)
        at++;
    return at;
}

/* Behind the last '@' of an authority; `from` when there is none. */
static size_t skip_user(struct obx_bytes text, size_t from, size_t end)
{
    const char *p = text.p;

    for (size_t at = end; at > from; at--) {
        if (p[at - 1] == '@')
            return at;
    }
    return from;
}

enum obx_code url_add_shown(struct obx_buf *out, struct obx_bytes text)
{
    const char *p = text.p;
    size_t at = 0;

    while (at < text.len) {
        const size_t authority = find_authority(text, at);
        const size_t host = skip_user(text, authority, span_to(text, authority, "/?# \t"));
        const size_t next = find_authority(text, host);
        const size_t tail = span_to(text, host, "?#, \t");
        const size_t query = next < text.len && next - 3 < tail ? next - 3 : tail;
        const bool has_query = query < text.len && p[query] == '?';

        buf_add(out, p + at, authority - at);
        if (host > authority)
            buf_add_text(out, "***@");
        buf_add(out, p + host, query - host);
        if (has_query)
            buf_add_text(out, "?***");
        at = has_query ? span_to(text, query, "#, \t") : query;
    }
    return out->rc;
}
