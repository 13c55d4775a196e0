/* What the benchmark programs share: see numbers.h. */
#include "bench/numbers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USAGE = 2, DECIMAL = 10, PERCENT = 100 };

const char *text_option(int argc, char **argv, const char *name, const char *fallback)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], name) != 0)
            continue;
        if (i + 1 < argc)
            return argv[i + 1];
        fprintf(stderr, "%s: %s needs a value\n", argv[0], name);
        exit(USAGE);
    }
    return fallback;
}

uint64_t number_option(int argc, char **argv, const char *name, uint64_t fallback)
{
    const char *text = text_option(argc, argv, name, NULL);
    char *end = NULL;
    uint64_t value = 0;

    if (text == NULL)
        return fallback;
    errno = 0;
    value = strtoull(text, &end, DECIMAL);
    if (errno != 0 || *text < '0' || *text > '9' || *end != '\0') {
        fprintf(stderr, "%s: %s is not a number: %s\n", argv[0], name, text);
        exit(USAGE);
    }
    return value;
}

const char *const *command_after_dashes(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], "--") == 0)
            return (const char *const *)(argv + i + 1);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;

    return (*left > *right) - (*left < *right);
}

uint64_t percentile(uint64_t *values, size_t count, double percent)
{
    size_t at = (size_t)((double)count * percent / PERCENT);

    if (count == 0)
        return 0;
    qsort(values, count, sizeof(*values), compare);
    return values[at < count ? at : count - 1];
}

void bench_die(const char *what, const struct obx_err *err)
{
    fprintf(stderr, "bench: %s%s%s\n", what, err != NULL ? ": " : "", err != NULL ? err->text : "");
    exit(1);
}

static const char *need_env(const char *name)
{
    const char *value = getenv(name);

    if (value == NULL) {
        fprintf(stderr, "bench: %s is not set; run: eval \"$(tests/support/servers env)\"\n", name);
        exit(USAGE);
    }
    return value;
}

struct db *bench_open_db(const char *database)
{
    const struct db_opts opts = {
        .host = need_env("OBX_TEST_DB_HOST"),
        .port = (uint16_t)strtoul(need_env("OBX_TEST_DB_PORT"), NULL, DECIMAL),
        .user = need_env("OBX_TEST_DB_USER"),
        .password = need_env("OBX_TEST_DB_PASSWORD"),
        .database = database,
        .program_name = "rowpost-bench",
    };
    struct db *db = NULL;
    struct obx_err err = {0};

    if (db_open(&opts, &db, &err) != OBX_OK)
        bench_die("connect", &err);
    return db;
}
