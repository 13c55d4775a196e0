/* See publish_opts.h. */
#include "publish_opts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    DECIMAL = 10,
    US_PER_S = 1000000,
    NS_PER_US = 1000,
    P50 = 50,
    P99 = 99,
    PERCENT = 100,
};

_Noreturn static void usage(const char *what)
{
    (void)fprintf(
        stderr,
        "%s\nusage: PROGRAM --queue NAME [--count N] [--window N] [--size BYTES] [--rate N]\n"
        "               [--exchange NAME --key KEY] [--like-relay 1]\n"
        "The broker is the one of: eval \"$(tests/support/servers env)\"\n",
        what);
    exit(2);
}

static uint64_t number(const char *text)
{
    char *end = NULL;
    const unsigned long long value = strtoull(text, &end, DECIMAL);

    if (text[0] < '0' || text[0] > '9' || *end != '\0')
        usage("not a number");
    return value;
}

static void set_option(struct publish_opts *opts, const char *name, const char *value)
{
    if (strcmp(name, "--queue") == 0)
        opts->queue = value;
    else if (strcmp(name, "--exchange") == 0)
        opts->exchange = value;
    else if (strcmp(name, "--key") == 0)
        opts->key = value;
    else if (strcmp(name, "--like-relay") == 0)
        opts->is_like_relay = number(value);
    else if (strcmp(name, "--count") == 0)
        opts->count = number(value);
    else if (strcmp(name, "--window") == 0)
        opts->window = number(value);
    else if (strcmp(name, "--size") == 0)
        opts->body_len = number(value);
    else if (strcmp(name, "--rate") == 0)
        opts->rate = number(value);
    else
        usage(name);
}

static const char *from_env(const char *name)
{
    const char *value = getenv(name);

    if (value == NULL)
        usage(name);
    return value;
}

void publish_opts_parse(struct publish_opts *opts, int argc, char **argv)
{
    *opts = (struct publish_opts){.count = 100000, .window = 2000, .body_len = 256};
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            usage("an option without a value");
        set_option(opts, argv[i], argv[i + 1]);
    }
    if (opts->exchange == NULL) {
        opts->exchange = "";
        opts->key = opts->queue;
    }
    if (opts->queue == NULL || opts->key == NULL || opts->count == 0 || opts->window == 0)
        usage("no queue, no messages or no window");
    opts->host = from_env("OBX_TEST_AMQP_HOST");
    opts->user = from_env("OBX_TEST_AMQP_USER");
    opts->password = from_env("OBX_TEST_AMQP_PASSWORD");
    opts->vhost = from_env("OBX_TEST_AMQP_VHOST");
    opts->port = (int)number(from_env("OBX_TEST_AMQP_PORT"));
}

void publish_id(uint64_t n, char id[PUBLISH_ID_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";
    static const char pattern[] = "01920000-7000-8000-0000-000000000000";

    memcpy(id, pattern, PUBLISH_ID_LEN + 1);
    for (int at = PUBLISH_ID_LEN - 1; n > 0 && id[at] != '-'; at--, n /= sizeof(digits) - 1)
        id[at] = digits[n % (sizeof(digits) - 1)];
}

uint64_t publish_now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * US_PER_S + (uint64_t)now.tv_nsec / NS_PER_US;
}

void publish_wait_due(const struct publish_opts *opts, uint64_t start_us, uint64_t n)
{
    const uint64_t due_us = start_us + n * US_PER_S / opts->rate;
    const struct timespec due = {.tv_sec = (time_t)(due_us / US_PER_S),
                                 .tv_nsec = (long)(due_us % US_PER_S) * NS_PER_US};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) != 0)
        continue;
}

void publish_print_rate(const struct publish_opts *opts, uint64_t start_us)
{
    const uint64_t us = publish_now_us() - start_us;

    (void)printf("rate %" PRIu64 "\n", opts->count * US_PER_S / (us > 0 ? us : 1));
}

static int compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

void publish_print_latency(uint64_t *us, size_t count)
{
    qsort(us, count, sizeof(*us), compare);
    (void)printf("p50_us %" PRIu64 "\np99_us %" PRIu64 "\n", us[(count - 1) * P50 / PERCENT],
                 us[(count - 1) * P99 / PERCENT]);
}
