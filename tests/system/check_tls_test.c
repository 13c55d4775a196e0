/*
 * Check-back over TLS (P5): a producer whose certificate is not to be trusted, or is another
 * host's, is not heard, whatever it says; one with the right certificate is. The server is
 * `openssl s_server`, which answers with files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "half/checkback/ask_http.h"
#include "process.h"
#include "test_db.h"
#include "wait.h"

enum { DEADLINE_MS = 30000, ASK_MS = 5000, PORT_TRIES = 20, TURN_MS = 20 };

struct rig {
    char dir[64];
    struct proc *servers[2]; /* on 127.0.0.1 and 127.0.0.2, with the certificate of the first */
    unsigned ports[2];
};

static void write_file(const struct rig *rig, const char *name, const char *text)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", rig->dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* On a port of chance; the first that nobody has. */
static bool start_server(struct rig *rig, unsigned i)
{
    char script[512], port[32], log[96];
    const char *const argv[] = {"sh", "-c", script, NULL};
    const struct proc_opts opts = {.argv = argv, .log_path = log};

    snprintf(log, sizeof(log), "%s/log%u", rig->dir, i);
    rig->ports[i] = 20000 + (unsigned)rand() % 10000;
    snprintf(port, sizeof(port), "%u:%u", i + 1, rig->ports[i]);
    snprintf(script, sizeof(script),
             "cd %s && exec openssl s_server -WWW -accept 127.0.0.%s "
             "-cert \"$(dirname \"$OBX_TEST_TLS_CA\")/server.pem\" "
             "-key \"$(dirname \"$OBX_TEST_TLS_CA\")/server-key.pem\"",
             rig->dir, port);
    rig->servers[i] = proc_start(&opts);
    assert_non_null(rig->servers[i]);
    if (proc_wait_log(rig->servers[i], 0, "ACCEPT", DEADLINE_MS))
        return true;
    proc_destroy(rig->servers[i]);
    rig->servers[i] = NULL;
    return false;
}

static int setup(void **state)
{
    static struct rig rig;

    srand((unsigned)getpid());
    snprintf(rig.dir, sizeof(rig.dir), "/tmp/obx-check-tls-XXXXXX");
    assert_non_null(mkdtemp(rig.dir));
    write_file(&rig, "g-1", "{\"state\":\"committed\"}");
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned k = 0; rig.servers[i] == NULL && k < PORT_TRIES; k++)
            (void)start_server(&rig, i);
        assert_non_null(rig.servers[i]);
    }
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    char path[128];

    for (unsigned i = 0; i < 2; i++) {
        proc_destroy(rig->servers[i]);
        snprintf(path, sizeof(path), "%s/log%u", rig->dir, i);
        (void)remove(path);
    }
    snprintf(path, sizeof(path), "%s/g-1", rig->dir);
    (void)remove(path);
    (void)rmdir(rig->dir);
    return 0;
}

struct heard {
    bool is_done;
    enum check_answer answer;
    char why[ASK_WHY_MAX];
};

static void on_answer(const struct http_answer *answer, void *ctx)
{
    struct heard *heard = ctx;

    heard->is_done = true;
    heard->answer = ask_http_read(answer, heard->why);
}

static struct heard ask(const struct rig *rig, unsigned server, const char *ca_file)
{
    char url[128];
    const struct ask_target target = {.url = url, .ca_file = ca_file, .timeout_ms = ASK_MS};
    struct heard heard = {0};
    struct http_client *client = NULL;
    struct obx_err err = {0};

    snprintf(url, sizeof(url), "https://127.0.0.%u:%u/{gid}", server + 1, rig->ports[server]);
    assert_int_equal(http_client_create(4, &client, &err), OBX_OK);
    assert_int_equal(ask_http_start(client, &target, "g-1", on_answer, &heard, &err), OBX_OK);
    for (int64_t end_ms = wait_now_ms() + DEADLINE_MS; !heard.is_done && wait_now_ms() < end_ms;)
        http_client_service(client, TURN_MS);
    http_client_destroy(client);
    assert_true(heard.is_done);
    return heard;
}

static void a_trusted_certificate_is_heard(void **state)
{
    struct heard heard = ask(*state, 0, test_env("OBX_TEST_TLS_CA"));

    if (heard.answer != CHECK_COMMITTED)
        fail_msg("%s", heard.why);
}

static void a_certificate_of_nobody_we_know_is_not(void **state)
{
    struct heard heard = ask(*state, 0, NULL);

    assert_int_equal(heard.answer, CHECK_NO_ANSWER);
    assert_non_null(strstr(heard.why, "certificate"));
}

/* The certificate is for localhost and 127.0.0.1. */
static void a_certificate_of_another_host_is_not(void **state)
{
    struct heard heard = ask(*state, 1, test_env("OBX_TEST_TLS_CA"));

    if (heard.answer == CHECK_NO_ANSWER && strstr(heard.why, "certificate") == NULL &&
        strstr(heard.why, "subject") == NULL)
        fail_msg("refused, but not for its name: %s", heard.why);
    assert_int_equal(heard.answer, CHECK_NO_ANSWER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trusted_certificate_is_heard),
        cmocka_unit_test(a_certificate_of_nobody_we_know_is_not),
        cmocka_unit_test(a_certificate_of_another_host_is_not),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
