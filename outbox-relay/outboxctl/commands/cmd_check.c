/*
 * outboxctl check: the checks of outbox-relay --check, as text or as JSON; and outboxctl ring.
 */
#include <stdio.h>

#include <jansson.h>

#include "config/config_or_say.h"
#include "obx/doorbell.h"
#include "outboxctl/ctl_args.h"
#include "outboxctl/print/json_print.h"
#include "preflight/check.h"

extern char **environ;

static void add_json_line(const struct check_line *line, void *ctx)
{
    json_array_append_new(ctx, json_pack("{s:b, s:s, s:s, s:s}", "ok", line->is_ok, "subject",
                                         line->subject, "detail", line->detail, "fix", line->fix));
}

/* As a list at the end: each line is printed when it is known only for people. */
static bool check_as_json(const struct relay_config *config)
{
    json_t *lines = json_array();
    struct check_out out = {.on_line = add_json_line, .ctx = lines};
    bool is_ok = check_run(config, &out);

    json_print(lines);
    json_decref(lines);
    return is_ok;
}

static struct relay_config *load(const struct ctl_args *args, enum ctl_exit *status)
{
    enum obx_code rc = OBX_OK;
    struct relay_config *config = config_or_say("outboxctl", args->config, environ, &rc);

    *status = rc == OBX_OK ? CTL_OK : rc == OBX_E_CONFIG ? CTL_USAGE : CTL_FAILED;
    return config;
}

static enum ctl_exit run_check(const struct ctl_args *args)
{
    struct check_out out = {.on_line = check_print_line, .ctx = stdout};
    enum ctl_exit status = CTL_OK;
    struct relay_config *config = load(args, &status);
    bool is_ok;

    if (config == NULL)
        return status;
    is_ok = args->json ? check_as_json(config) : check_run(config, &out);
    relay_config_unref(config);
    return is_ok ? CTL_OK : CTL_FAILED;
}

static enum ctl_exit run_ring(const struct ctl_args *args)
{
    const char *outbox = args->word_count == 0 ? NULL : args->words[0]; /* NULL: all of them */
    enum ctl_exit status = CTL_OK;
    struct obx_err err = {0};
    struct relay_config *config;

    if (args->word_count > 1)
        return ctl_usage(args, "ring takes one outbox at most");
    config = load(args, &status);
    if (config == NULL)
        return status;
    if (config->doorbell_socket == NULL) {
        fprintf(stderr, "outboxctl: the configuration has no doorbell_socket in [relay]\n");
        status = CTL_USAGE;
    } else if (obx_doorbell_ring(config->doorbell_socket, outbox, &err) != OBX_OK) {
        fprintf(stderr, "outboxctl: %s\n", err.text);
        status = CTL_FAILED;
    } else if (args->json) {
        json_t *object = json_pack("{s:b, s:s?}", "rung", 1, "outbox", outbox);

        json_print(object);
        json_decref(object);
    }
    relay_config_unref(config);
    return status;
}

const struct ctl_command check_commands[] = {
    {.name = "check",
     .options = CTL_BIT(CONFIG) | CTL_BIT(JSON),
     .summary = "check that everything a relay needs is there",
     .help = "Looks at configuration, databases, schema, grants, broker and topology; changes\n"
             "nothing. One line for each thing: ok, or FAILED with what to do. The same as\n"
             "outbox-relay --check.\n",
     .run = run_check},
    {.name = "ring",
     .options = CTL_BIT(CONFIG) | CTL_BIT(JSON),
     .words = "[OUTBOX]",
     .summary = "make the relay poll at once",
     .help = "Rings the doorbell of the relay that runs with this configuration on this machine,\n"
             "so that it looks at the outbox at once. Without OUTBOX all of its lanes are rung.\n",
     .run = run_ring},
    {0}};
