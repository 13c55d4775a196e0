/*
 * inbox-relay: reads the command line, loads the configuration, runs the one command. Exit status
 * 0, 2 for a wrong configuration or command line (starting it again does not help, and the systemd
 * unit does not), 1 for anything else.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "check.h"
#include "notifier.h"

enum { EXIT_CONFIG = 2, LOG_END_MS = 1000 };
enum command { RUN, CHECK, DUMP, HELP_CONFIG, EXAMPLE, VERSION, HELP, WRONG };

extern char **environ;

static const char help[] =
    "usage: inbox-relay --config FILE [COMMAND]\n"
    "\n"
    "Passes messages from RabbitMQ on: into an inbox table, from which a service takes them with\n"
    "plain SQL, or to HTTP endpoints. For these a message is recorded once for each endpoint "
    "whose\n"
    "topics match, and called (POST, signed, the body unchanged) until the endpoint answers 2xx "
    "or\n"
    "its schedule ends.\n"
    "\n"
    "  --config FILE   configuration; without it OBX_CONFIG names the file, and without that the\n"
    "                  environment variables alone are the configuration\n"
    "\n"
    "Without a command it runs until SIGTERM or SIGINT: then it awaits the calls in flight "
    "(drain);\n"
    "a second signal cuts them off. SIGHUP loads the configuration again, endpoints included.\n"
    "\n"
    "  --check         check configuration, database, schema, rights, broker and endpoints, "
    "change\n"
    "                  nothing, call nobody, and say line by line what is wrong\n"
    "  --dump          print the configuration in force and where each value comes from\n"
    "  --help-config   print every key with its meaning, its default and its variable\n"
    "  --example       print a configuration file to begin with: every key with its default\n"
    "  --version       print the version\n"
    "  --help          print this\n"
    "\n"
    "A first configuration:\n"
    "\n"
    "  [broker]\n"
    "  addresses = 127.0.0.1:5672\n"
    "  [database]                        tables: outboxctl migrate --side consumer,notify --db "
    "...\n"
    "  user = obx_inbox\n"
    "  password_file = /etc/rowpost/notify.password\n"
    "  database = notify\n"
    "  [endpoint billing]\n"
    "  url = https://billing.example.org/hooks/orders\n"
    "  topics = order.*, payment.#\n"
    "  secrets_file = /etc/rowpost/billing.secret      openssl rand -base64 32 | sed s/^/whsec_/\n"
    "\n"
    "Or, into an inbox (tables: --side consumer,inbox; see docs/inbox.md):\n"
    "\n"
    "  [queue orders]\n"
    "  topics = order.*\n"
    "\n"
    "What was called, given up or paused: outboxctl notify list; see docs/notifications.md.\n"
    "\n"
    "exit status: 0 all went well, 2 the configuration or the command line is wrong, 1 anything "
    "else\n";

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'}, {"check", no_argument, NULL, CHECK},
    {"dump", no_argument, NULL, DUMP},        {"help-config", no_argument, NULL, HELP_CONFIG},
    {"example", no_argument, NULL, EXAMPLE},  {"version", no_argument, NULL, VERSION},
    {"help", no_argument, NULL, HELP},        {NULL, 0, NULL, 0},
};

/* One command at a time: of two, a person would get the output of one and believe both. */
static enum command parse(int argc, char **argv, const char **path)
{
    enum command command = RUN;
    int option;

    *path = getenv("OBX_CONFIG");
    while ((option = getopt_long(argc, argv, "c:", options, NULL)) != -1) {
        if (option == '?')
            return WRONG;
        if (option == 'c')
            *path = optarg;
        else if (command != RUN && command != (enum command)option)
            command = WRONG;
        else
            command = (enum command)option;
    }
    if (optind < argc || command == WRONG) {
        fprintf(stderr, "inbox-relay: %s; see --help\n",
                optind < argc ? "words that are not understood" : "one command at a time");
        return WRONG;
    }
    return command;
}

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
    buf_fini(text);
    return status_of(rc);
}

static int run(struct notify_config *config, const char *path)
{
    const struct notifier_opts opts = {.config = config, .path = path, .env = environ};
    struct obx_err err = {0};
    enum obx_code rc;

    /* Before this errors go to standard error as they are; from here on every line has the log's form,
     * and a reader of it that stands still cannot hold up the program. */
    rc = log_start(config->log_level, config->log_format, STDERR_FILENO, &err);
    if (rc != OBX_OK) {
        fprintf(stderr, "inbox-relay: %s\n", err.text);
        return status_of(rc);
    }
    rc = notifier_run(&opts, &err);
    if (rc != OBX_OK)
        OBX_LOG(LOG_LVL_ERROR, "notify", "start.failed", KV_ERR(&err));
    log_end(LOG_END_MS);
    return status_of(rc);
}

static int with_config(enum command command, const char *path)
{
    const struct cfg_input input = {.path = path, .env = environ};
    struct notify_config *config = NULL;
    struct obx_buf problems = {0};
    struct obx_buf text = {0};
    struct obx_err err = {0};
    enum obx_code rc = notify_config_load(&input, &config, &problems, &err);
    int status;

    /* All problems of the file at once, each with its line. */
    if (rc != OBX_OK)
        fprintf(stderr, "%s%s", problems.len > 0 ? problems.data : err.text,
                problems.len > 0 ? "" : "\n");
    buf_fini(&problems);
    if (rc != OBX_OK)
        return status_of(rc);
    if (command == RUN)
        return run(config, path); /* which takes it: a reload puts another in its place */
    if (command == CHECK)
        status = notify_check(config, stdout) ? EXIT_SUCCESS : EXIT_FAILURE;
    else
        status = print(cfg_dump(config->cfg, &text), &text);
    notify_config_unref(config);
    return status;
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    struct obx_buf text = {0};
    enum command command = parse(argc, argv, &path);

    if (command == WRONG)
        return EXIT_CONFIG;
    if (command == VERSION)
        printf("inbox-relay %s\n", OBX_VERSION);
    else if (command == HELP)
        fputs(help, stdout);
    else if (command == HELP_CONFIG)
        return print(cfg_reference_text(&notify_schema, &text), &text);
    else if (command == EXAMPLE)
        return print(cfg_reference_example(&notify_schema, &text), &text);
    else
        return with_config(command, path);
    return EXIT_SUCCESS;
}
