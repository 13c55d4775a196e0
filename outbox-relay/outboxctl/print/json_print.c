/* Called by the commands that know --json. */
#include "json_print.h"

#include <stdio.h>
#include <stdlib.h>

enum { DELETE = 0x7F };

static void print(const json_t *json, size_t flags)
{
    char *text = json_dumps(json, flags | JSON_ENSURE_ASCII);

    if (text == NULL) {
        fprintf(stderr, "outboxctl: out of memory\n");
        return;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == DELETE)
            fputs("\\u007f", stdout);
        else
            putchar(*c);
    }
    free(text);
}

void json_print_part(const json_t *json)
{
    print(json, 0);
}

void json_print(const json_t *json)
{
    print(json, JSON_INDENT(2));
    putchar('\n');
}

void json_print_page(json_t *items, const char *next)
{
    json_t *page = json_pack("{s:O, s:s?}", "items", items, "next", next);

    json_print(page);
    json_decref(page);
}
