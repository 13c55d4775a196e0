/*
 * The order of the checks, and how a line is printed.
 */
#include "check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/config.h"
#include "base/utf8.h"

enum { DETAIL_MAX = 512, DELETE = 0x7F, LAST_C1 = 0x9F };

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

/* Much of it is from servers: nothing of that may move a terminal's cursor. */
static void print_clean(FILE *file, const char *text)
{
    const size_t all = strlen(text);

    for (size_t at = 0, len = 0; at < all; at += len == 0 ? 1 : len) {
        uint32_t cp = 0;

        len = utf8_next((struct obx_bytes){text + at, all - at}, &cp);
        if (len > 0 && cp >= ' ' && (cp < DELETE || cp > LAST_C1))
            (void)fwrite(text + at, 1, len, file);
        else
            fputc('?', file);
    }
}

void check_print_line(const struct check_line *line, void *ctx)
{
    FILE *file = ctx;

    fputs(line->is_ok ? "ok      " : "FAILED  ", file);
    print_clean(file, line->subject);
    fputs(": ", file);
    print_clean(file, line->detail);
    if (!line->is_ok) {
        fputs(" | fix: ", file);
        print_clean(file, line->fix);
    }
    fputc('\n', file);
}

/* A warning, no failure: it works. */
static void check_files(const struct relay_config *config, struct check_out *out)
{
    struct obx_buf lines = {0};
    char *rest = NULL;

    if (cfg_exposed(config->cfg, &lines) == OBX_OK && lines.len > 0) {
        for (char *line = strtok_r(lines.data, "\n", &rest); line != NULL;
             line = strtok_r(NULL, "\n", &rest))
            check_ok(out, "secrets", "WARNING: %s", line);
    }
    buf_fini(&lines);
}

/* What the relay cannot see: who reads the queues that packs get into. */
static void check_packs(const struct relay_config *config, struct check_out *out)
{
    for (size_t i = 0; i < config->rule_count; i++) {
        const struct topic_rule *rule = &config->rules[i];

        if (rule->pack > 1)
            check_ok(out, "packs",
                     "up to %u messages or %u bytes of [topic %s] in one, to exchange %s; its "
                     "consumers have to take packs apart, as consumer-lib and inbox-relay do "
                     "(docs/message-format.md)",
                     rule->pack, rule->pack_bytes, rule->pattern,
                     rule->exchange != NULL ? rule->exchange : config->exchange);
    }
}

bool check_run(const struct relay_config *config, struct check_out *out)
{
    out->failed = 0;
    check_ok(out, "configuration", "%zu sources, %zu outboxes, %zu topic rules",
             config->source_count, relay_config_lane_count(config), config->rule_count);
    check_files(config, out);
    check_packs(config, out);
    for (size_t i = 0; i < config->source_count; i++)
        check_source(&config->sources[i], out);
    check_half(config, out);
    check_broker(config, out);
    return out->failed == 0;
}
