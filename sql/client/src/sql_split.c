/* Cuts a file of SQL into statements; see sql_split.h. Called by schema.c. */
#include "sql_split.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define UNCLOSED SIZE_MAX

static bool is_space(char c)
{
    return isspace((unsigned char)c) != 0;
}

/* The place after the quoted text that begins at `at`. A doubled quote stands for itself, so does
 * what follows a backslash. */
static size_t past_quoted(const char *text, size_t len, size_t at)
{
    const char quote = text[at];

    for (size_t i = at + 1; i < len; i++) {
        if (text[i] == '\\' && quote != '`') {
            i++;
        } else if (text[i] == quote) {
            if (i + 1 >= len || text[i + 1] != quote)
                return i + 1;
            i++;
        }
    }
    return UNCLOSED;
}

static bool is_c_comment(const char *text, size_t len, size_t at)
{
    return len - at >= 2 && text[at] == '/' && text[at + 1] == '*';
}

/* The place after the comment at `at`, or `at` itself when none begins there. */
static size_t past_comment(const char *text, size_t len, size_t at)
{
    const bool is_dashes = len - at >= 2 && text[at] == '-' && text[at + 1] == '-' &&
                           (len - at == 2 || is_space(text[at + 2]));
    const char *end;

    if (text[at] == '#' || is_dashes) {
        end = memchr(text + at, '\n', len - at);
        return end == NULL ? len : (size_t)(end - text) + 1;
    }
    if (!is_c_comment(text, len, at))
        return at;
    for (size_t i = at + 2; i + 1 < len; i++) {
        if (text[i] == '*' && text[i + 1] == '/')
            return i + 2;
    }
    return UNCLOSED;
}

/* The first place that is neither white space nor a comment nor a lone semicolon. */
static size_t past_nothing(const char *text, size_t len)
{
    size_t at = 0;

    while (at < len && at != UNCLOSED) {
        /* A comment that the server runs when its version fits. */
        const bool is_hint = is_c_comment(text, len, at) && len - at >= 3 &&
                             (text[at + 2] == '!' || text[at + 2] == 'M');
        size_t after = is_hint ? at : past_comment(text, len, at);

        if (after == at) {
            if (!is_space(text[at]) && text[at] != ';')
                return at;
            after++;
        }
        at = after;
    }
    return at;
}

enum sql_split_result sql_split(struct obx_bytes *rest, struct obx_bytes *statement)
{
    const char *text = rest->p;
    const size_t start = past_nothing(text, rest->len);
    size_t at = start;
    size_t end = 0;

    if (start == UNCLOSED)
        return SQL_SPLIT_BROKEN;
    if (start >= rest->len)
        return SQL_SPLIT_END;
    while (at < rest->len && text[at] != ';') {
        /* A quoted text, a comment, or one character. */
        size_t after = past_comment(text, rest->len, at);

        if (after == at && text[at] != '\0' && strchr("'\"`", text[at]) != NULL)
            after = past_quoted(text, rest->len, at);
        else if (after == at)
            after++;
        if (after == UNCLOSED)
            return SQL_SPLIT_BROKEN;
        at = after;
    }
    end = at;
    while (end > start && is_space(text[end - 1]))
        end--;
    *statement = (struct obx_bytes){text + start, end - start};
    at += at < rest->len; /* the semicolon */
    *rest = (struct obx_bytes){text + at, rest->len - at};
    return SQL_SPLIT_STATEMENT;
}
