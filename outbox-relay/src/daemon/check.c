/*
 * The order of the checks, how a line is printed, and what to do about each kind of failure.
 */
#include "check.h"

#include <stdarg.h>
#include <stdio.h>

enum { DETAIL_MAX = 512 };

struct fix {
    enum obx_code code;
    const char *text;
};

/* One sentence for whoever reads a FAILED line. A code without one needs none: its text says it. */
static const struct fix fixes[] = {
    {OBX_E_DB_CONNECT,
     "start the database server, or correct host, port, socket or database of the source"},
    {OBX_E_DB_AUTH, "correct user and password of the source, or create the user"},
    {OBX_E_DB_TLS, "correct the tls keys of the source"},
    {OBX_E_DB_DENIED, "grant what is missing; docs/operations.md lists the grants of the relay"},
    {OBX_E_DB_NO_TABLE, "run: outboxctl migrate, as a user who may create tables"},
    {OBX_E_DB_SCHEMA, "older: run outboxctl migrate; newer: upgrade this program"},
    {OBX_E_DB_READ_ONLY, "connect to the primary"},
    {OBX_E_TIMEOUT, "look whether the server answers at all, or lengthen the timeout"},
    {OBX_E_MQ_CONNECT, "start RabbitMQ, or correct addresses in [broker]"},
    {OBX_E_MQ_AUTH, "correct user, password and vhost in [broker], or create them: rabbitmqctl "
                    "add_user, add_vhost, set_permissions"},
    {OBX_E_MQ_TLS, "correct the tls keys in [broker]"},
    {OBX_E_MQ_TOPOLOGY, "make the section fit what the broker has, or delete it there"},
    {OBX_E_MQ_DENIED, "give the user configure and write permission: rabbitmqctl set_permissions"},
};

static const char *fix_for(enum obx_code code)
{
    for (size_t i = 0; i < sizeof(fixes) / sizeof(fixes[0]); i++) {
        if (fixes[i].code == code)
            return fixes[i].text;
    }
    return "see the text";
}

void check_ok(struct check_out *out, const char *subject, const char *fmt, ...)
{
    char detail[DETAIL_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(detail, sizeof(detail), fmt, args);
    va_end(args);
    out->on_line(&(struct check_line){true, subject, detail, ""}, out->ctx);
}

void check_failed_fix(struct check_out *out, const char *subject, const char *detail,
                      const char *fix)
{
    out->failed++;
    out->on_line(&(struct check_line){false, subject, detail, fix}, out->ctx);
}

void check_failed(struct check_out *out, const char *subject, const struct obx_err *err)
{
    check_failed_fix(out, subject, err->text, fix_for(err->code));
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
