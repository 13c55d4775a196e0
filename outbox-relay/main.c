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

/* Takes the text. */
static int print(struct obx_buf *text)
{
    int status = status_of(text->rc);

    if (text->rc == OBX_OK)
        fwrite(text->data, 1, text->len, stdout);
    else
        fprintf(stderr, "outbox-relay: %s\n", obx_code_text(text->rc));
    buf_fini(text);
    return status;
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
    struct check_out lines = {.on_line = check_print_line, .ctx = stdout};
    struct obx_buf text = {0};
    int status;

    if (config == NULL)
        return status_of(rc);
    if (args->command == RELAY_CHECK) {
        status = check_run(config, &lines) ? EXIT_SUCCESS : EXIT_FAILURE;
    } else if (args->command == RELAY_DUMP) {
        cfg_dump(config->cfg, &text);
        status = print(&text);
    } else if (args->command == RELAY_HEALTH) {
        status = health(config);
    } else {
        status = run(config, args);
    }
    relay_config_unref(config);
    return status;
}

int main(int argc, char **argv)
{
    struct relay_args args;
    struct obx_buf text = {0};

    if (!relay_args_parse(argc, argv, &args))
        return EXIT_CONFIG;
    switch (args.command) {
    case RELAY_VERSION:
        printf("outbox-relay %s\n", OBX_VERSION);
        return EXIT_SUCCESS;
    case RELAY_HELP:
        relay_args_help(stdout);
        return EXIT_SUCCESS;
    case RELAY_HELP_CONFIG:
        cfg_reference_text(&relay_schema, &text);
        return print(&text);
    case RELAY_EXAMPLE:
        cfg_reference_example(&relay_schema, &text);
        return print(&text);
    case RELAY_CHECK:
    case RELAY_DUMP:
    case RELAY_HEALTH:
    case RELAY_RUN:
        break;
    }
    return with_config(&args);
}
