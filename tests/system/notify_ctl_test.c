/*
 * outboxctl notify: what inbox-relay has recorded is listed, shown, sent again and held back by
 * the real program with the operator's account.
 */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "notify_rig.h"
#include "wait.h"

#define ENDPOINT                                                                                   \
    "[endpoint to]\nurl = http://127.0.0.1:%u/hook\ntopics = #\nsign = no\nschedule = 0s\n"
#define DELIVERED "SELECT COUNT(*) FROM inbox_call WHERE state = 'delivered'"

enum { URL_MAX = 600, ARGS_MAX = 16, OUT_MAX = 16384 };

struct scene {
    struct notify_rig *rig;
    struct test_user operator;
    char url[URL_MAX];
    char out[OUT_MAX]; /* what the last command said */
};

static void add_escaped(char *url, const char *text)
{
    size_t len = strlen(url);

    for (; *text != '\0' && len + 4 < URL_MAX; text++)
        len +=
            (size_t)snprintf(url + len, URL_MAX - len,
                             isalnum((unsigned char)*text) ? "%c" : "%%%02X", (unsigned char)*text);
}

static struct scene make_scene(struct notify_rig *rig)
{
    struct scene scene = {.rig = rig, .url = "mysql://"};
    const struct db_opts *db = NULL;

    test_user_create(&scene.operator, & rig->test_db, "operator");
    db = &scene.operator.opts;
    add_escaped(scene.url, db->user);
    snprintf(scene.url + strlen(scene.url), URL_MAX - strlen(scene.url), ":");
    add_escaped(scene.url, db->password);
    snprintf(scene.url + strlen(scene.url), URL_MAX - strlen(scene.url), "@%s:%u/%s", db->host,
             db->port, db->database);
    return scene;
}

/* "notify" and the arguments. */
static int notify(struct scene *scene, const char *const *args)
{
    const char *argv[ARGS_MAX] = {NOTIFY_OUTBOXCTL, "--db", scene->url, "notify"};
    char path[300];
    const struct proc_opts opts = {.argv = argv, .log_path = path};
    struct proc_exit how = {0};
    size_t count = 4, len = 0;
    FILE *file;

    snprintf(path, sizeof(path), "%s.ctl", scene->rig->log_path);
    for (; *args != NULL && count + 1 < ARGS_MAX; args++)
        argv[count++] = *args;
    assert_true(proc_run(&opts, RIG_WAIT_MS, &how));
    file = fopen(path, "r");
    assert_non_null(file);
    len = fread(scene->out, 1, sizeof(scene->out) - 1, file);
    scene->out[len] = '\0';
    fclose(file);
    remove(path);
    if (getenv("OBX_TEST_LOG") != NULL)
        print_message("%s", scene->out);
    return how.code;
}
#define NOTIFY(scene, ...) notify(scene, (const char *const[]){__VA_ARGS__, NULL})

static void said(const struct scene *scene, const char *text)
{
    if (strstr(scene->out, text) == NULL)
        fail_msg("not said: %s\n%s", text, scene->out);
}

static void not_twice(const struct rig_call *call, size_t n, struct endpoint_answer *answer)
{
    (void)call;
    answer->status = n < 3 ? 503 : 200;
    snprintf(answer->body, sizeof(answer->body), "not now");
}

static void what_was_given_up_is_sent_again(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(not_twice);
    struct scene scene = make_scene(rig);

    notify_rig_config(rig, "", ENDPOINT, receiver_port(to));
    notify_rig_start(rig, 0, NULL);
    notify_rig_wait_owner(rig);
    notify_rig_publish(rig, "one", "order.a", "body of one");
    notify_rig_publish(rig, "two", "order.b", "x");
    notify_rig_publish(rig, "three", "other", "x");
    notify_rig_wait_number(rig, 3, "SELECT COUNT(*) FROM inbox_call WHERE state = 'given_up'");
    assert_int_equal(NOTIFY(&scene, "list", "--state", "given_up", "--topic", "order.*"), 0);
    said(&scene, "one");
    said(&scene, "two");
    said(&scene, "HTTP 503: not now");
    assert_null(strstr(scene.out, "three"));
    assert_int_equal(NOTIFY(&scene, "list", "--json", "--limit", "1"), 0);
    said(&scene, "\"last_status\": 503");
    assert_int_equal(NOTIFY(&scene, "show", "1"), 0);
    said(&scene, "body of one");
    said(&scene, "given_up");
    assert_int_equal(NOTIFY(&scene, "show", "1", "--payload", "raw"), 0);
    assert_string_equal(scene.out, "body of one");
    /* Nothing without saying what; nothing that is not there. */
    assert_int_equal(NOTIFY(&scene, "resend"), 2);
    assert_int_equal(NOTIFY(&scene, "resend", "1", "--all"), 2);
    assert_int_equal(NOTIFY(&scene, "resend", "x"), 2);
    assert_int_equal(NOTIFY(&scene, "list", "--state", "lost"), 2);
    assert_int_equal(NOTIFY(&scene, "resend", "99"), 1);
    assert_int_equal(NOTIFY(&scene, "show", "99"), 1);
    assert_int_equal(notify_rig_number(rig, DELIVERED), 0);
    assert_int_equal(NOTIFY(&scene, "resend", "1"), 0);
    said(&scene, "1 due again");
    notify_rig_wait_number(rig, 1, DELIVERED " AND message_id = 'one' AND attempts = 1");
    assert_int_equal(NOTIFY(&scene, "resend", "--endpoint", "to"), 0);
    said(&scene, "2 due again");
    notify_rig_wait_number(rig, 3, DELIVERED);
    /* A delivered one is sent again only when it is named. */
    assert_int_equal(NOTIFY(&scene, "resend", "--all"), 1);
    assert_int_equal(NOTIFY(&scene, "resend", "--message", "one"), 0);
    receiver_wait(to, 7);
    assert_int_equal(receiver_times(to, "one"), 3);
    notify_rig_stop(rig, 0);
    test_user_drop(&scene.operator);
    receiver_destroy(to);
}

static void a_paused_endpoint_waits(void **state)
{
    struct notify_rig *rig = *state;
    struct receiver *to = receiver_create(NULL);
    struct scene scene = make_scene(rig);

    notify_rig_config(rig, "", ENDPOINT, receiver_port(to));
    notify_rig_start(rig, 0, NULL);
    notify_rig_wait_owner(rig);
    assert_int_equal(NOTIFY(&scene, "pause"), 2);
    assert_int_equal(NOTIFY(&scene, "resume", "nobody"), 1);
    assert_int_equal(NOTIFY(&scene, "pause", "to", "--note", "they move house"), 0);
    notify_rig_wait_log(rig, "endpoint.paused endpoint=to");
    notify_rig_fill(rig, "m", 10, "t");
    notify_rig_wait_number(rig, 10, "SELECT COUNT(*) FROM inbox_call");
    assert_int_equal(NOTIFY(&scene, "list"), 0);
    said(&scene, "paused");
    assert_int_equal(NOTIFY(&scene, "show", "1"), 0);
    said(&scene, "they move house");
    assert_int_equal(receiver_count(to), 0);
    assert_int_equal(NOTIFY(&scene, "resume", "to"), 0);
    notify_rig_wait_number(rig, 10, DELIVERED " AND attempts = 1");
    notify_rig_stop(rig, 0);
    test_user_drop(&scene.operator);
    receiver_destroy(to);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, notify_rig_setup, notify_rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_given_up_is_sent_again),
        TEST(a_paused_endpoint_waits),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    db_thread_end();
    return failed;
}
