/* Runs tests/support/db_pair. See db_pair.h. */
#include "db_pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMMAND_MAX = 512, LINE_MAX_LEN = 256 };

static FILE *open_pair(const char *arguments)
{
    char command[COMMAND_MAX];
    FILE *pipe = NULL;

    snprintf(command, sizeof(command), "'%s/tests/support/db_pair' %s", DB_PAIR_SOURCE_DIR,
             arguments);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    return pipe;
}

void db_pair(const char *command, unsigned node)
{
    char arguments[64];
    FILE *pipe = NULL;

    snprintf(arguments, sizeof(arguments), node == 0 ? "%s" : "%s %u", command, node);
    pipe = open_pair(arguments);
    while (fgetc(pipe) != EOF)
        continue;
    if (pclose(pipe) != 0)
        fail_msg("db_pair %s failed", arguments);
}

/* Lines of "export NAME=VALUE", of values that need no quoting. */
void db_pair_take_env(void)
{
    static const char word[] = "export ";
    char line[LINE_MAX_LEN];
    FILE *pipe = open_pair("env");

    while (fgets(line, sizeof(line), pipe) != NULL) {
        char *value = strchr(line, '=');

        line[strcspn(line, "\n")] = '\0';
        assert_non_null(value);
        *value++ = '\0';
        assert_int_equal(setenv(line + sizeof(word) - 1, value, 1), 0);
    }
    assert_int_equal(pclose(pipe), 0);
}
