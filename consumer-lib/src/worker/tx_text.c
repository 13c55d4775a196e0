/* See tx_text.h. Only the first words of a statement are read, as the server reads them. */
#include "tx_text.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

static bool is_space(char c)
{
    return isspace((unsigned char)c) != 0;
}

static bool is_letter(char c)
{
    return isalnum((unsigned char)c) != 0 || c == '_';
}

static const char *skip_line(const char *at)
{
    return at + strcspn(at, "\n");
}

/* A comment that the server runs as text is what its text is: COMMIT in there commits. */
static const char *skip_comment(const char *at)
{
    const char *end = NULL;

    if (at[2] == '!' || (at[2] == 'M' && at[3] == '!')) {
        at += at[2] == '!' ? 3 : 4;
        return at + strspn(at, "0123456789");
    }
    end = strstr(at + 2, "*/");
    return end != NULL ? end + 2 : at + strlen(at);
}

/* To the next word or sign. */
static const char *skip(const char *at)
{
    for (;;) {
        if (is_space(*at) || *at == ';')
            at++;
        else if (*at == '#' || (at[0] == '-' && at[1] == '-' && (at[2] == '\0' || is_space(at[2]))))
            at = skip_line(at);
        else if (at[0] == '/' && at[1] == '*')
            at = skip_comment(at);
        else
            return at;
    }
}

/* Whether the next word is this one; then *at moves on past it. */
static bool take(const char **at, const char *word)
{
    const size_t len = strlen(word);

    *at = skip(*at);
    if (strncasecmp(*at, word, len) != 0 || is_letter((*at)[len]))
        return false;
    *at += len;
    return true;
}

/* @name, where @@name is the server's. There is a SET before it. */
static bool is_own_variable(const char *at)
{
    return at[-1] == '@' && at[-2] != '@';
}

/* SET autocommit = 1, SET @@session.autocommit := 0, SET a = 1, autocommit = 0; not in a text. */
static bool sets_autocommit(const char *at)
{
    char quote = '\0';

    for (; *at != '\0'; at++) {
        const char *after = at;

        if (quote != '\0') {
            quote = *at == quote ? '\0' : quote;
        } else if (*at == '\'' || *at == '"') {
            quote = *at;
        } else if (!is_letter(at[-1]) && !is_own_variable(at) && take(&after, "autocommit")) {
            after = skip(*after == '`' ? after + 1 : after);
            if (*after == '=' || (after[0] == ':' && after[1] == '='))
                return true;
        }
    }
    return false;
}

/* Temporary tables are the session's own: no transaction ends for them. */
static bool is_temporary(const char *at)
{
    if (take(&at, "or"))
        (void)take(&at, "replace");
    return take(&at, "temporary");
}

bool tx_text_ends(const char *sql)
{
    static const char *const always[] = {"commit", "start",  "alter", "truncate", "rename",
                                         "grant",  "revoke", "lock",  "unlock",   "flush"};
    const char *at = sql;

    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++) {
        if (take(&at, always[i]))
            return true;
    }
    if (take(&at, "begin"))
        return !take(&at, "not"); /* BEGIN NOT ATOMIC is a block of statements */
    if (take(&at, "rollback")) {
        (void)take(&at, "work");
        return !take(&at, "to");
    }
    if (take(&at, "create") || take(&at, "drop"))
        return !is_temporary(at);
    return take(&at, "set") && sets_autocommit(at);
}
