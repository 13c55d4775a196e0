/* Called by the commands that know --json. */
#include "json_print.h"

#include <stdio.h>
#include <stdlib.h>

enum { DELETE = 0x7F };

void json_print(const json_t *json)
{
    char *text = json_dumps(json, JSON_INDENT(2) | JSON_ENSURE_ASCII);

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
    putchar('\n');
    free(text);
}
