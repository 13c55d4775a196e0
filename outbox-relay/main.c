/*
 * outbox-relay: reads the command line, loads the configuration, runs the one command. Exit status
 * 0, 2 for a wrong configuration or command line, 1 for anything else.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/log.h"
#include "config/config_or_say.h"
#include "config/relay_keys.h"
#include "config/version.h"
#include "daemon/daemon.h"
#include "daemon/relay_args.h"
#include "preflight/check.h"
#include "service/http_get.h"

enum { EXIT_CONFIG = 2, HEALTH_TIMEOUT_MS = 3000, HTTP_OK = 200, LOG_END_MS = 1000 };

extern char **environ;

static int status_of(enum obx_code rc)
{
    if (rc == OBX_OK)
        return EXIT_SUCCESS;
    return rc == OBX_E_CONFIG ? EXIT_CONFIG : EXIT_FAILURE;
}

static int print(enum obx_code rc, struct obx_buf *text)
{
    if (rc == OBX_OK)
        fwrite(text->data, 1, text->len, stdout);
    else
        fprintf(stderr, "outbox-relay: %s\n", obx_code_text(rc));
    buf_fini(text);
    return status_of(rc);
}

static int dump(const struct relay_config *config)
{
    struct obx_buf text = {0};

    return print(cfg_dump(config->cfg, &text), &text);
}

static int help_config(void)
{
    struct obx_buf text = {0};

    return print(cfg_reference_text(&relay_schema, &text), &text);
}

static int example(void)
{
    struct obx_buf text = {0};

    return print(cfg_reference_example(&relay_schema, &text), &text);
}

static int check(const struct relay_config *config)
{
    struct check_out out = {.on_line = check_print_line, .ctx = stdout};

    return check_run(config, &out) ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int health(const struct relay_config *config)
{
    const struct http_get_opts opts = {.address = config->http.address,
                                       .port = config->http.port,
                                       .path = "/healthz",
                                       .is_tls = *config->http.tls_cert_file != '\0',
                                       .timeout_ms = HEALTH_TIMEOUT_MS};
    struct obx_buf body = {0};
    struct obx_err err = {0};
    int status = 0;

    if (http_get(&opts, &status, &body, &err) != OBX_OK)
        fprintf(stderr, "outbox-relay: %s\n", err.text);
    else if (status != HTTP_OK)
        fprintf(stderr, "outbox-relay: /healthz answers %d\n", status);
    buf_fini(&body);
    return status == HTTP_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void warn_of_files(const struct relay_config *config)
{
    struct obx_buf lines = {0};
    char *rest = NULL;

    if (cfg_exposed(config->cfg, &lines) == OBX_OK && lines.len > 0) {
        for (char *line = strtok_r(lines.data, "\n", &rest); line != NULL;
             line = strtok_r(NULL, "\n", &rest))
            OBX_LOG(LOG_LVL_WARN, "config", "secret.exposed", KV_STR("what", line));
    }
    buf_fini(&lines);
}

static int run(struct relay_config *config, const struct relay_args *args)
{
    const struct daemon_opts opts = {
        .config = config, .config_path = args->config_path, .env = environ};
    struct obx_err err = {0};
    enum obx_code rc;

    rc = log_start(config->log_level, config->log_format, STDERR_FILENO, &err);
    if (rc != OBX_OK) {
        fprintf(stderr, "outbox-relay: %s\n", err.text);
        return status_of(rc);
    }
    warn_of_files(config);
    rc = daemon_run(&opts, &err);
    if (rc != OBX_OK)
        OBX_LOG(LOG_LVL_ERROR, "daemon", "start.failed", KV_ERR(&err));
    log_end(LOG_END_MS);
    return status_of(rc);
}

static int with_config(const struct relay_args *args)
{
    enum obx_code rc = OBX_OK;
    struct relay_config *config = config_or_say("outbox-relay", args->config_path, environ, &rc);
    int status;

    if (config == NULL)
        return status_of(rc);
    if (args->command == RELAY_CHECK)
        status = check(config);
    else if (args->command == RELAY_DUMP)
        status = dump(config);
    else if (args->command == RELAY_HEALTH)
        status = health(config);
    else
        status = run(config, args);
    relay_config_unref(config);
    return status;
}

int main(int argc, char **argv)
{
    struct relay_args args;

    if (!relay_args_parse(argc, argv, &args))
        return EXIT_CONFIG;
    if (args.command == RELAY_VERSION)
        printf("outbox-relay %s\n", OBX_VERSION);
    else if (args.command == RELAY_HELP)
        relay_args_help(stdout);
    else if (args.command == RELAY_HELP_CONFIG)
        return help_config();
    else if (args.command == RELAY_EXAMPLE)
        return example();
    else
        return with_config(&args);
    return EXIT_SUCCESS;
}
