/*
 * The command line and the configuration of the real programs: every key of the reference can be
 * given in the file and in the environment, what is wrong is named with file and line, and the exit
 * statuses are the documented ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program_rig.h"

/* ---------------------------------------------------------------- every key */

/* One key as --help-config shows it. */
struct key {
    char section[32];
    char name[32];
    char type[96]; /* "a number from 1 to 65535" */
    char variable[96];
    char def[64];
    bool is_named; /* the section has a name */
    bool is_secret;
};

enum { KEYS_MAX = 256 };

struct keys {
    struct key items[KEYS_MAX];
    size_t count;
};

static void read_default_line(struct key *key, const char *line)
{
    const char *variable = strstr(line, "OBX_");

    assert_non_null(variable);
    snprintf(key->variable, sizeof(key->variable), "%s", variable);
    if (strncmp(line, "      default ", 14) == 0)
        snprintf(key->def, sizeof(key->def), "%.*s", (int)strcspn(line + 14, ";"), line + 14);
}

static bool is_key_line(const char *line)
{
    return strncmp(line, "  ", 2) == 0 && islower((unsigned char)line[2]) &&
           strstr(line, " = ") != NULL;
}

/* The reference is read, so that a key that is added later is tried too. */
static void read_reference(struct program_rig *rig, struct keys *keys)
{
    char *rest, *line;
    char section[32] = "";

    assert_int_equal(rig_run_relay_bare(rig, NULL, WORDS("--help-config")), 0);
    memset(keys, 0, sizeof(*keys));
    for (rest = rig->out.data; (line = strsep(&rest, "\n")) != NULL;) {
        struct key *key = &keys->items[keys->count == 0 ? 0 : keys->count - 1];

        if (line[0] == '[') {
            snprintf(section, sizeof(section), "%.*s", (int)strcspn(line + 1, "]"), line + 1);
        } else if (is_key_line(line)) {
            assert_true(keys->count < KEYS_MAX);
            key = &keys->items[keys->count++];
            sscanf(line, "  %31s", key->name);
            snprintf(key->type, sizeof(key->type), "%s", strstr(line, " = ") + 3);
            snprintf(key->section, sizeof(key->section), "%.*s", (int)strcspn(section, " "),
                     section);
            key->is_named = strchr(section, ' ') != NULL;
        } else if (strstr(line, "also as ") != NULL) {
            key->is_secret = true;
        } else if (keys->count > 0 && key->variable[0] == '\0' && strstr(line, "OBX_") != NULL) {
            read_default_line(key, line);
        }
    }
    assert_true(keys->count > 100);
}

/* The default of a key; a source's own value, which is 0, stands for the one of [lane]. */
static const char *default_of(const struct keys *keys, const struct key *key)
{
    if (strcmp(key->section, "source") != 0 || key->def[0] != '0')
        return key->def;
    for (size_t i = 0; i < keys->count; i++) {
        if (strcmp(keys->items[i].section, "lane") == 0 &&
            strcmp(keys->items[i].name, key->name) == 0)
            return keys->items[i].def;
    }
    return key->def;
}

/* A value that fits the key, differs from its default, and is close to it, so that it goes with the
 * defaults of other keys: one more of the same unit, or the last choice. */
static void value_for(const struct keys *keys, const struct key *key, char *value, size_t size)
{
    const char *def = default_of(keys, key);
    char *unit = NULL;
    long number = strtol(def, &unit, 10);

    if (strncmp(key->type, "one of ", 7) == 0)
        snprintf(value, size, "%s", strrchr(key->type, ' ') + 1);
    else if (strncmp(key->type, "true or false", 13) == 0)
        snprintf(value, size, "%s", def[0] == 'n' ? "yes" : "no");
    else if (strstr(key->name, "url") != NULL)
        snprintf(value, size, "http://127.0.0.1/{gid}");
    else if (strncmp(key->type, "a text", 6) == 0 || strncmp(key->type, "a list", 6) == 0)
        snprintf(value, size, "v");
    else
        snprintf(value, size, "%ld%.*s", number + 1, (int)strcspn(unit, " "), unit);
}

/* Values that a text has to have. */
static const struct {
    const char *key, *value;
} special[] = {
    {"relay.doorbell_address", "127.0.0.1:8378"},
    {"source.receipt_queue", "rowpost.receipts.v"},
    {"relay.http_token", "a-token-of-the-tests"},
    {"exchange.type", "topic"}, /* others have no partitions */
    {"queue.bind", "e:y"},
    {"console.prefix", "/v"},
    {"console.reader_token", "a-token-of-readers"},
    {"console.operator_token", "a-token-of-operators"},
    {"console.admin_token", "a-token-of-admins"},
    {"console.proxy_peers", "127.0.0.1"},
    {"queue.arguments", "x-max-length=7"},
};

/* What would be complained about alone, or what the key needs beside it. */
static const struct {
    const char *key;
    const char *env[3];
} beside[] = {
    {"relay.advertise_address",
     {"OBX_RELAY_ADVERTISE_ADDRESS=127.0.0.1:8379", "OBX_RELAY_DOORBELL_ADDRESS=127.0.0.1:8378"}},
    {"broker.tls_cert_file", {"OBX_BROKER_TLS_CERT_FILE=v", "OBX_BROKER_TLS_KEY_FILE=w"}},
    {"broker.tls_key_file", {"OBX_BROKER_TLS_KEY_FILE=v", "OBX_BROKER_TLS_CERT_FILE=w"}},
    {"source.tls_cert_file", {"OBX_SOURCE_SHOP_TLS_CERT_FILE=v", "OBX_SOURCE_SHOP_TLS_KEY_FILE=w"}},
    {"source.tls_key_file", {"OBX_SOURCE_SHOP_TLS_KEY_FILE=v", "OBX_SOURCE_SHOP_TLS_CERT_FILE=w"}},
    {"console.http_port", {"OBX_CONSOLE_HTTP_PORT=1", "OBX_CONSOLE_ADMIN_TOKEN=0123456789abcdef"}},
    {"queue.partitions", {"OBX_QUEUE_Q_PARTITIONS=1", "OBX_EXCHANGE_E_PARTITIONS=1"}},
    {"half.source", {"OBX_HALF_SOURCE=shop", "OBX_HALF_TOKEN=0123456789abcdef"}},
};

static const char base_config[] = "[relay]\n[broker]\n[lane]\n[half]\n"
                                  "[source shop]\nuser = u\ndatabase = d\n"
                                  "[topic t]\n[exchange e]\n[queue q]\n"
                                  "[producer p]\ncheck = none\n"
                                  "[consumer c]\nuser = u\ndatabase = d\n";

/* "source" has the section [source shop] in base_config, and so on. */
static const char *name_of(const struct key *key)
{
    static const char *const names[][2] = {{"source", "shop"}, {"topic", "t"},
                                           {"exchange", "e"},  {"queue", "q"},
                                           {"producer", "p"},  {"consumer", "c"}};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i][0], key->section) == 0)
            return names[i][1];
    }
    fail_msg("no name for [%s]", key->section);
    return NULL;
}

/* OBX_SOURCE_<NAME>_HOST with the name in it. */
static void variable_of(const struct key *key, char *out, size_t size)
{
    const char *mark = strstr(key->variable, "<NAME>");
    char upper[16];

    if (mark == NULL) {
        snprintf(out, size, "%s", key->variable);
        return;
    }
    snprintf(upper, sizeof(upper), "%s", name_of(key));
    for (char *c = upper; *c != '\0'; c++)
        *c = (char)toupper((unsigned char)*c);
    snprintf(out, size, "%.*s%s%s", (int)(mark - key->variable), key->variable, upper, mark + 6);
}

static void choose_value(const struct keys *keys, const struct key *key, char *value, size_t size)
{
    char full[80];

    snprintf(full, sizeof(full), "%s.%s", key->section, key->name);
    value_for(keys, key, value, size);
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
        if (strcmp(special[i].key, full) == 0)
            snprintf(value, size, "%s", special[i].value);
    }
}

static const char *const *company_of(const struct key *key)
{
    char full[80];

    snprintf(full, sizeof(full), "%s.%s", key->section, key->name);
    for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
        if (strcmp(beside[i].key, full) == 0)
            return beside[i].env;
    }
    return NULL;
}

static void try_by_environment(struct program_rig *rig, const struct keys *keys,
                               const struct key *key)
{
    const char *const *company = company_of(key);
    char variable[128], value[64], setting[200], wanted[256];

    variable_of(key, variable, sizeof(variable));
    choose_value(keys, key, value, sizeof(value));
    snprintf(setting, sizeof(setting), "%s=%s", variable, value);
    if (rig_run_relay(rig, company != NULL ? company : WORDS(setting), WORDS("--dump")) != 0)
        fail_msg("%s: %s", setting, rig->out.data);
    if (company != NULL)
        snprintf(value, sizeof(value), "%s", strchr(company[0], '=') + 1);
    if (key->is_secret)
        snprintf(wanted, sizeof(wanted), "\n; %s\n%s = ***\n", variable, key->name);
    else
        snprintf(wanted, sizeof(wanted), "\n%s = %s ; %s\n", key->name, value, variable);
    rig_said(rig, wanted);
}

static void every_key_by_environment(void **state)
{
    struct program_rig *rig = *state;
    static struct keys keys;

    read_reference(rig, &keys);
    rig_write(rig, "all.conf", base_config, rig->config);
    for (size_t i = 0; i < keys.count; i++)
        try_by_environment(rig, &keys, &keys.items[i]);
}

/* A whole file in which every key stands, made of the reference. */
static void write_all(const struct keys *keys, struct obx_buf *text)
{
    const char *section = "";

    for (size_t i = 0; i < keys->count; i++) {
        const struct key *key = &keys->items[i];
        const char *const *company = company_of(key);
        char value[64];

        if (strcmp(section, key->section) != 0) {
            section = key->section;
            assert_int_equal(buf_addf(text, "[%s%s%s]\n", section, key->is_named ? " " : "",
                                      key->is_named ? name_of(key) : ""),
                             OBX_OK);
        }
        choose_value(keys, key, value, sizeof(value));
        if (company != NULL)
            snprintf(value, sizeof(value), "%s", strchr(company[0], '=') + 1);
        if (strstr(key->name, "token") != NULL)
            snprintf(value, sizeof(value), "0123456789abcdef-%.40s", key->name);
        assert_int_equal(buf_addf(text, "%s = %s\n", key->name, value), OBX_OK);
    }
}

static void every_key_by_file(void **state)
{
    struct program_rig *rig = *state;
    static struct keys keys;
    struct obx_buf text = {0};

    read_reference(rig, &keys);
    write_all(&keys, &text);
    rig_write(rig, "all.conf", text.data, rig->config);
    buf_fini(&text);
    if (rig_run_relay(rig, NULL, WORDS("--dump")) != 0)
        fail_msg("%s", rig->out.data);
    rig_said_not(rig, "; default\n");
    rig_said_not(rig, "0123456789abcdef");
    /* Named sections come from the environment alone, too. */
    assert_int_equal(rig_run_relay_bare(rig,
                                        WORDS("OBX_SOURCES=shop", "OBX_SOURCE_SHOP_USER=u",
                                              "OBX_SOURCE_SHOP_DATABASE=d"),
                                        WORDS("--dump")),
                     0);
    rig_said(rig, "[source shop]");
}

/* ---------------------------------------------------------------- mistakes */

static void expect_mistake(struct program_rig *rig, const char *text, const char *where,
                           const char *what)
{
    char place[256];

    rig_write(rig, "bad.conf", text, rig->config);
    assert_int_equal(rig_run_relay(rig, NULL, WORDS("--check")), 2);
    snprintf(place, sizeof(place), "%s%s", rig->config, where);
    rig_said(rig, place);
    rig_said(rig, what);
    /* The tool and the daemon say the same. */
    assert_int_equal(rig_run_ctl(rig, NULL, WORDS("check")), 2);
    rig_said(rig, place);
    assert_int_equal(rig_run_relay(rig, NULL, (const char *const[]){NULL}), 2);
    rig_said(rig, place);
}

#define GOOD "[source shop]\nuser = u\ndatabase = d\n"

static void mistakes_name_file_and_line(void **state)
{
    struct program_rig *rig = *state;

    expect_mistake(rig, GOOD "[relay]\nhttp_prt = 1\n", ":5: ", "did you mean http_port?");
    expect_mistake(rig, GOOD "[relay]\nhttp_port = 99999\n", ":5: ", "0 to 65535");
    expect_mistake(rig, GOOD "[sauce x]\n", ":4: ", "unknown section");
    expect_mistake(rig, GOOD "[lane]\npoll_max = 5 parsec\n", ":5: ", "duration");
    expect_mistake(rig, GOOD "[relay]\nthis is no setting\n", ":5: ", "");
    expect_mistake(rig, "[source shop]\nuser = u\n", ":1: ", "database");
    expect_mistake(rig, GOOD "outboxes = a b\n", ":4: ", "is not a table name");
    expect_mistake(rig, GOOD "[lane]\npoll_min = 1s\n", ":5: ", "longer than poll_max");
    expect_mistake(rig, GOOD "[relay]\ndrain = 1m\n", "", "not longer than relay.drain");
}

static void mistakes_of_the_environment(void **state)
{
    struct program_rig *rig = *state;

    assert_int_equal(rig_run_relay(rig, WORDS("OBX_SOURCE_SHOP_PRT=1"), WORDS("--check")), 2);
    rig_said(rig, "OBX_SOURCE_SHOP_PRT: unknown variable");
    assert_int_equal(rig_run_relay(rig, WORDS("OBX_RELAY_HTTP_PORT=x"), WORDS("--check")), 2);
    rig_said(rig, "OBX_RELAY_HTTP_PORT");
    assert_int_equal(
        rig_run_relay(rig, WORDS("OBX_SOURCE_SHOP_PASSWORD_FILE=/no/such/file"), WORDS("--check")),
        2);
    rig_said(rig, "/no/such/file");
}

static void a_file_that_is_not_there(void **state)
{
    struct program_rig *rig = *state;

    assert_int_equal(rig_run_relay_bare(rig, NULL, WORDS("--config", "/no/such.conf")), 2);
    rig_said(rig, "/no/such.conf");
    rig_said(rig, "No such file");
    rig_said_not(rig, "system call");
    assert_int_equal(rig_run_relay_bare(rig, WORDS("OBX_CONFIG=/no/such.conf"), WORDS("--check")),
                     2);
    rig_said(rig, "/no/such.conf");
    assert_int_equal(rig_run_relay_bare(rig, NULL, WORDS("--config", rig->dir)), 2);
    rig_said(rig, rig->dir);
}

static void secrets_from_files(void **state)
{
    struct program_rig *rig = *state;
    char path[192], setting[256], good[128];

    snprintf(good, sizeof(good), "%s\n", rig->relay.opts.password);
    rig_write(rig, "secret", good, path);
    snprintf(setting, sizeof(setting), "OBX_SOURCE_SHOP_PASSWORD_FILE=%s", path);
    assert_int_equal(
        rig_run_relay(rig, WORDS("OBX_SOURCE_SHOP_PASSWORD=", setting), WORDS("--check")), 2);
    rig_said(rig, "OBX_SOURCE_SHOP_PASSWORD");
    assert_int_equal(rig_run_relay(rig, WORDS(setting), WORDS("--check")), 0);
}

/* ---------------------------------------------------------------- the command line */

static void help_teaches(void **state)
{
    struct program_rig *rig = *state;
    static const char *const taught[] = {
        "usage: outbox-relay", "--config FILE", "--check", "--dump",
        "--help-config",       "--health",      "SIGTERM", "SIGHUP",
        "exit status",         "OBX_CONFIG"};

    assert_int_equal(rig_run_relay_bare(rig, NULL, WORDS("--help")), 0);
    for (size_t i = 0; i < sizeof(taught) / sizeof(taught[0]); i++)
        rig_said(rig, taught[i]);
    assert_int_equal(rig_run_relay_bare(rig, NULL, WORDS("-h")), 0);
    assert_int_equal(rig_run_relay_bare(rig, NULL, WORDS("--version")), 0);
    rig_said(rig, "outbox-relay ");
}

static void wrong_command_lines(void **state)
{
    struct program_rig *rig = *state;

    assert_int_equal(rig_run_relay(rig, NULL, WORDS("--chek")), 2);
    rig_said(rig, "--help");
    assert_int_equal(rig_run_relay(rig, NULL, WORDS("--check", "--dump")), 2);
    rig_said(rig, "one command");
    assert_int_equal(rig_run_relay(rig, NULL, WORDS("shop")), 2);
    rig_said(rig, "'shop'");
    assert_int_equal(rig_run_relay_bare(rig, NULL, WORDS("--config")), 2);
    assert_int_equal(rig_run_relay(rig, WORDS("OBX_RELAY_HTTP_PORT=1"), WORDS("--health")), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_by_environment),
        cmocka_unit_test(every_key_by_file),
        cmocka_unit_test(mistakes_name_file_and_line),
        cmocka_unit_test_setup(mistakes_of_the_environment, program_reset),
        cmocka_unit_test(a_file_that_is_not_there),
        cmocka_unit_test_setup(secrets_from_files, program_reset),
        cmocka_unit_test(help_teaches),
        cmocka_unit_test_setup(wrong_command_lines, program_reset),
    };

    return cmocka_run_group_tests(tests, program_setup, program_teardown);
}
