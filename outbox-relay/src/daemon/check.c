/*
 * The order of the checks, and how a line is printed.
 */
#include "check.h"

#include <stdarg.h>
#include <stdio.h>

enum { DETAIL_MAX = 512 };

void check_ok(struct check_out *out, const char *subject, const char *fmt, ...)
{
    char detail[DETAIL_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(detail, sizeof(detail), fmt, args);
    va_end(args);
    out->on_line(&(struct check_line){true, subject, detail, ""}, out->ctx);
}

void check_failed(struct check_out *out, const char *subject, const char *detail, const char *fix)
{
    out->failed++;
    out->on_line(&(struct check_line){false, subject, detail, fix}, out->ctx);
}

void check_print_line(const struct check_line *line, void *ctx)
{
    FILE *file = ctx;

    if (line->is_ok)
        fprintf(file, "ok      %s: %s\n", line->subject, line->detail);
    else
        fprintf(file, "FAILED  %s: %s | fix: %s\n", line->subject, line->detail, line->fix);
}

bool check_run(const struct relay_config *config, struct check_out *out)
{
    out->failed = 0;
    check_ok(out, "configuration", "%zu sources, %zu outboxes, %zu topic rules",
             config->source_count, relay_config_lane_count(config), config->rule_count);
    for (size_t i = 0; i < config->source_count; i++)
        check_source(&config->sources[i], out);
    check_broker(config, out);
    return out->failed == 0;
}
