/*
 * The HTTP client against endpoints that are honest, silent, endless, lying: what is sent, what is
 * believed, and that everything has an end. No proxy of the environment, no redirect.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoint.h"
#include "service/http_client.h"
#include "wait.h"

enum { ANSWER_MAX = 4096, TIMEOUT_MS = 20000, SHORT_MS = 300, WAIT_MS = 20000 };

/* What the endpoint is to answer, and what it saw last. */
static struct {
    struct endpoint_answer answer;
    char path[128], body[256], type[64], agent[64];
} scene;
static struct endpoint *endpoint;
/* An endpoint that says nothing does not say when it has looked at the scene, either. */
static pthread_mutex_t scene_lock = PTHREAD_MUTEX_INITIALIZER;

static void answer(const struct endpoint_request *request, struct endpoint_answer *out, void *ctx)
{
    const char *type = endpoint_header(request, "Content-Type");
    const char *agent = endpoint_header(request, "User-Agent");

    (void)ctx;
    (void)pthread_mutex_lock(&scene_lock);
    snprintf(scene.path, sizeof(scene.path), "%s", request->path);
    snprintf(scene.body, sizeof(scene.body), "%s", request->body);
    snprintf(scene.type, sizeof(scene.type), "%s", type == NULL ? "" : type);
    snprintf(scene.agent, sizeof(scene.agent), "%s", agent == NULL ? "" : agent);
    *out = scene.answer;
    (void)pthread_mutex_unlock(&scene_lock);
}

static int set_up(void **state)
{
    (void)state;
    memset(&scene, 0, sizeof(scene));
    scene.answer.status = 200;
    endpoint = endpoint_create_full(answer, NULL);
    return endpoint == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    endpoint_destroy(endpoint);
    return 0;
}

/* A copy of an answer. */
struct seen {
    unsigned calls;
    enum obx_code rc;
    unsigned status;
    char body[256], header[128], why[256];
};

static void on_done(const struct http_answer *got, void *ctx)
{
    struct seen *seen = ctx;

    seen->calls++;
    seen->rc = got->rc;
    seen->status = got->status;
    (void)bytes_to_text(got->body, seen->body, sizeof(seen->body));
    snprintf(seen->header, sizeof(seen->header), "%s", got->header);
    snprintf(seen->why, sizeof(seen->why), "%s", got->why);
}

static struct http_request request_for(char url[64], uint32_t timeout_ms)
{
    snprintf(url, 64, "http://127.0.0.1:%u/x?y=1", (unsigned)endpoint_port(endpoint));
    return (struct http_request){.method = HTTP_GET,
                                 .url = url,
                                 .timeout_ms = timeout_ms,
                                 .answer_max = ANSWER_MAX,
                                 .keep_max = 5,
                                 .want_header = "retry-after"};
}

static struct seen ask(uint32_t timeout_ms)
{
    char url[64];
    struct http_request request = request_for(url, timeout_ms);
    struct seen seen = {.calls = 0};
    struct obx_err err = {0};

    if (http_client_once(&request, on_done, &seen, &err) != OBX_OK)
        fail_msg("%s", err.text);
    assert_int_equal(seen.calls, 1);
    return seen;
}

static void an_answer_is_bounded_and_kept(void **state)
{
    struct seen seen;

    (void)state;
    snprintf(scene.answer.body, sizeof(scene.answer.body), "hello world");
    snprintf(scene.answer.retry_after, sizeof(scene.answer.retry_after), "120");
    scene.answer.status = 503;
    seen = ask(TIMEOUT_MS);
    assert_int_equal(seen.rc, OBX_OK);
    assert_int_equal(seen.status, 503);
    assert_string_equal(seen.body, "hello");
    assert_int_equal(http_retry_after_ms(seen.header, 0), 120000);
    assert_string_equal(scene.path, "/x?y=1");
    assert_string_equal(scene.agent, "rowpost");
}

static void a_post_carries_its_body_and_headers(void **state)
{
    char url[64];
    struct http_request request = request_for(url, TIMEOUT_MS);
    struct http_headers headers = {0};
    struct seen seen = {.calls = 0};
    struct obx_err err = {0};

    (void)state;
    assert_int_equal(http_headers_add(&headers, "Content-Type", "text/x"), OBX_OK);
    assert_int_equal(http_headers_add(&headers, "X-Empty", ""), OBX_OK);
    assert_int_equal(http_headers_add(&headers, "X-Forged", "a\r\nHost: b"), OBX_E_INVALID);
    request.method = HTTP_POST;
    request.headers = &headers;
    request.body = bytes_of("a body");
    assert_int_equal(http_client_once(&request, on_done, &seen, &err), OBX_OK);
    assert_int_equal(seen.status, 200);
    assert_string_equal(scene.body, "a body");
    assert_string_equal(scene.type, "text/x");
    http_headers_fini(&headers);
}

/* Whatever it does, the call ends, and is no success. */
static void liars_and_mutes_come_to_an_end(void **state)
{
    static const struct {
        enum endpoint_mode mode;
        enum obx_code rc; /* OBX_OK: any failure */
    } cases[] = {
        {ENDPOINT_SILENT, OBX_E_TIMEOUT}, {ENDPOINT_CLOSE, OBX_OK},
        {ENDPOINT_HUGE, OBX_E_TOO_LARGE}, {ENDPOINT_ENDLESS, OBX_E_TIMEOUT},
        {ENDPOINT_GARBAGE, OBX_OK},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct seen seen;

        (void)pthread_mutex_lock(&scene_lock);
        scene.answer.mode = cases[i].mode;
        (void)pthread_mutex_unlock(&scene_lock);
        /* Only what never ends needs a short time; the others end by themselves, however slowly. */
        seen = ask(cases[i].rc == OBX_E_TIMEOUT ? SHORT_MS : TIMEOUT_MS);
        assert_int_not_equal(seen.rc, OBX_OK);
        assert_true(cases[i].rc == OBX_OK || seen.rc == cases[i].rc);
        assert_string_not_equal(seen.why, "");
    }
}

static void a_redirect_is_an_answer(void **state)
{
    struct seen seen;

    (void)state;
    scene.answer.status = 302;
    snprintf(scene.answer.location, sizeof(scene.answer.location), "http://127.0.0.1:%u/there",
             (unsigned)endpoint_port(endpoint));
    seen = ask(TIMEOUT_MS);
    assert_int_equal(seen.rc, OBX_OK);
    assert_int_equal(seen.status, 302);
    assert_int_equal(endpoint_requests(endpoint), 1);
}

static void only_http_is_spoken(void **state)
{
    static const char *const urls[] = {"file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://h/",
                                       "http://127.0.0.1:1/", "no url"};
    struct obx_err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        const struct http_request request = {
            .url = urls[i], .timeout_ms = TIMEOUT_MS, .answer_max = 10, .keep_max = 10};
        struct seen seen = {.calls = 0};

        assert_int_equal(http_client_once(&request, on_done, &seen, &err), OBX_OK);
        assert_int_equal(seen.rc, OBX_E_SYSTEM);
        assert_string_equal(seen.body, "");
    }
}

static bool has_two_requests(void *ctx)
{
    (void)ctx;
    return endpoint_requests(endpoint) == 2;
}

/* Calls to a mute endpoint beside another one: places are bounded, a cancel ends them at once. */
static void places_are_bounded_and_cancelled(void **state)
{
    char url[64];
    struct http_request request = request_for(url, TIMEOUT_MS);
    struct http_client *client = NULL;
    struct seen seen[3] = {{.calls = 0}};
    struct obx_err err = {0};
    int64_t until_ms = wait_now_ms() + WAIT_MS;

    (void)state;
    scene.answer.mode = ENDPOINT_SILENT;
    assert_int_equal(http_client_create(2, &client, &err), OBX_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(http_client_start(client, &request, on_done, &seen[i], &err), OBX_OK);
    assert_int_equal(http_client_start(client, &request, on_done, &seen[2], &err), OBX_E_FULL);
    while (!has_two_requests(NULL) && wait_now_ms() < until_ms)
        http_client_service(client, 10);
    assert_true(has_two_requests(NULL));
    assert_int_equal(http_client_in_flight(client), 2);
    http_client_cancel(client);
    assert_int_equal(http_client_in_flight(client), 0);
    assert_int_equal(seen[0].rc, OBX_E_CLOSED);
    assert_int_equal(seen[1].calls, 1);
    assert_int_equal(seen[2].calls, 0);
    assert_int_equal(http_client_start(client, &request, on_done, &seen[2], &err), OBX_OK);
    http_client_destroy(client); /* with one in flight */
    assert_int_equal(seen[2].calls, 0);
}

static void a_look_sends_nothing(void **state)
{
    char url[64];
    struct http_request request = request_for(url, TIMEOUT_MS);
    struct seen seen = {.calls = 0};
    struct obx_err err = {0};

    (void)state;
    request.method = HTTP_CONNECT_ONLY;
    assert_int_equal(http_client_once(&request, on_done, &seen, &err), OBX_OK);
    assert_int_equal(seen.rc, OBX_OK);
    assert_int_equal(endpoint_requests(endpoint), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_is_bounded_and_kept),
        TEST(a_post_carries_its_body_and_headers),
        TEST(liars_and_mutes_come_to_an_end),
        TEST(a_redirect_is_an_answer),
        TEST(only_http_is_spoken),
        TEST(places_are_bounded_and_cancelled),
        TEST(a_look_sends_nothing),
    };

    /* With this proxy nothing would arrive. */
    (void)setenv("http_proxy", "http://127.0.0.1:1", 1);
    (void)setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
