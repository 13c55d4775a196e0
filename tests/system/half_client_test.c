/*
 * The C client of the half-message API against a real front and database (P2, P5): the whole way,
 * what is refused, and a relay that is away, slow to come, or gone for good.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "cut_proxy.h"
#include "endpoint.h"
#include "half/api/half_http.h"
#include "obx/half.h"
#include "sql/schema.h"
#include "test_db.h"
#include "wait.h"

#define TOKEN "a-token-of-the-tests"

struct rig {
    struct test_db database;
    struct db *db;
    struct half_store *store;
    struct half_http *front;
    struct cut_proxy *proxy; /* between client and front */
    struct obx_half *half;
};

static struct obx_half *open_client(const char *url, const char *token, uint32_t timeout_ms)
{
    const struct obx_half_opts opts = {.size = sizeof(opts),
                                       .url = url,
                                       .token = token,
                                       .producer = "orders",
                                       .timeout_ms = timeout_ms};
    struct obx_half *half = NULL;
    struct obx_err err = {0};

    if (obx_half_open(&opts, &half, &err) != OBX_OK)
        fail_msg("%s", err.text);
    return half;
}

static int setup(void **state)
{
    static struct rig rig;
    static const char *const tokens[] = {TOKEN};
    struct half_store_opts store = {0};
    struct half_http_opts front = {.tokens = tokens, .token_count = 1, .takes_async = true};
    char url[64];
    struct obx_err err = {0};

    test_db_create(&rig.database, "halfclient");
    rig.db = test_db_open(&rig.database.opts);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_HALF, NULL, NULL, &err), OBX_OK);
    store.db = rig.database.opts;
    assert_int_equal(half_store_create(&store, &rig.store, &err), OBX_OK);
    front.store = rig.store;
    assert_int_equal(half_http_create(&front, &rig.front, &err), OBX_OK);
    rig.proxy = cut_proxy_create("127.0.0.1", half_http_port(rig.front));
    assert_non_null(rig.proxy);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", (unsigned)cut_proxy_port(rig.proxy));
    rig.half = open_client(url, TOKEN, 20000);
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    obx_half_close(rig->half);
    cut_proxy_destroy(rig->proxy);
    half_http_stop(rig->front);
    half_store_destroy(rig->store);
    half_http_destroy(rig->front);
    db_close(rig->db);
    test_db_drop(&rig->database);
    return 0;
}

static enum obx_code prepare(struct rig *rig, const char *gid, struct obx_err *err)
{
    const struct obx_half_message yes = {.topic = "order.paid",
                                         .ordering_key = "k",
                                         .headers = "{\"tenant\":\"a\", \"n\":12.50}",
                                         .content_type = "application/octet-stream",
                                         .payload = {.p = "a\0b\xff", .len = 4}};
    const struct obx_half_message no = {.topic = "order.dropped", .payload = bytes_of("x")};

    return obx_half_prepare(rig->half, gid, &yes, 1, &no, 1, err);
}

static void the_whole_way(void **state)
{
    struct rig *rig = *state;
    enum obx_half_state what = OBX_HALF_PARKED;
    struct obx_err err = {0};

    assert_int_equal(prepare(rig, "c-1", &err), OBX_OK);
    assert_int_equal(prepare(rig, "c-1", &err), OBX_OK);
    assert_int_equal(obx_half_lookup(rig->half, "c-1", &what, &err), OBX_OK);
    assert_int_equal(what, OBX_HALF_PREPARED);
    assert_int_equal(obx_half_commit(rig->half, "c-1", &err), OBX_OK);
    assert_int_equal(obx_half_commit(rig->half, "c-1", &err), OBX_OK);
    assert_int_equal(prepare(rig, "c-1", &err), OBX_E_CONFLICT);
    assert_non_null(strstr(err.text, "committed"));
    assert_int_equal(test_db_number(rig->db,
                                    "SELECT COUNT(*) FROM outbox WHERE topic = 'order.paid' AND "
                                    "ordering_key = 'k' AND payload = X'610062FF' AND "
                                    "content_type = 'application/octet-stream' AND "
                                    "JSON_EXTRACT(headers, '$.tenant') = 'a' AND (@@version "
                                    "NOT LIKE '%MariaDB%' OR INSTR(headers, '12.50') > 0)"),
                     1);
    assert_int_equal(obx_half_rollback(rig->half, "c-1", &err), OBX_E_CONFLICT);
    assert_non_null(strstr(err.text, "by producer"));
    assert_int_equal(prepare(rig, "c-2", &err), OBX_OK);
    assert_int_equal(obx_half_rollback(rig->half, "c-2", &err), OBX_OK);
    assert_int_equal(obx_half_lookup(rig->half, "c-2", &what, &err), OBX_OK);
    assert_int_equal(what, OBX_HALF_ROLLED_BACK);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), 2);
}

static bool is_decided(void *ctx)
{
    struct rig *rig = ctx;

    return test_db_number(rig->db, "SELECT COUNT(*) FROM half_message WHERE state IN "
                                   "('committed', 'rolled_back')") == 2;
}

/* A client whose verdicts do not wait: they are applied all the same, and what nobody prepared is
 * not reported. Prepares wait as ever. */
static void verdicts_need_not_be_waited_for(void **state)
{
    struct rig *rig = *state;
    struct obx_half_opts opts = {
        .size = sizeof(opts), .token = TOKEN, .producer = "orders", .async_verdicts = 1};
    struct half_http_stats stats;
    struct obx_err err = {0};
    char url[64];

    snprintf(url, sizeof(url), "http://127.0.0.1:%u", (unsigned)half_http_port(rig->front));
    opts.url = url;
    obx_half_close(rig->half);
    assert_int_equal(obx_half_open(&opts, &rig->half, &err), OBX_OK);
    assert_int_equal(prepare(rig, "v-1", &err), OBX_OK);
    assert_int_equal(prepare(rig, "v-2", &err), OBX_OK);
    assert_int_equal(obx_half_commit(rig->half, "v-1", &err), OBX_OK);
    assert_int_equal(obx_half_rollback(rig->half, "v-2", &err), OBX_OK);
    assert_int_equal(obx_half_commit(rig->half, "nobody", &err), OBX_OK);
    assert_true(wait_until(10000, is_decided, rig));
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox WHERE topic IN "
                                             "('order.paid', 'order.dropped')"),
                     2);
    half_http_get_stats(rig->front, &stats);
    assert_int_equal(stats.async, 3);
}

static void what_may_not_be_is_refused(void **state)
{
    struct rig *rig = *state;
    const struct obx_half_message other = {.topic = "t", .payload = bytes_of("other")};
    const struct obx_half_message bad = {.topic = "t", .headers = "{", .payload = bytes_of("x")};
    enum obx_half_state what;
    struct obx_err err = {0};
    struct obx_half *stranger;
    char url[64];

    assert_int_equal(prepare(rig, "r-1", &err), OBX_OK);
    assert_int_equal(obx_half_prepare(rig->half, "r-1", &other, 1, NULL, 0, &err), OBX_E_CONFLICT);
    assert_int_equal(obx_half_prepare(rig->half, "not a gid", &other, 1, NULL, 0, &err),
                     OBX_E_INVALID);
    assert_int_equal(obx_half_prepare(rig->half, "r-2", &bad, 1, NULL, 0, &err), OBX_E_INVALID);
    assert_int_equal(obx_half_prepare(rig->half, "r-3", NULL, 0, NULL, 0, &err), OBX_E_INVALID);
    assert_int_equal(obx_half_commit(rig->half, "nobody", &err), OBX_E_NOT_FOUND);
    assert_int_equal(obx_half_lookup(rig->half, "nobody", &what, &err), OBX_E_NOT_FOUND);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", (unsigned)half_http_port(rig->front));
    stranger = open_client(url, "another-token-altogether", 2000);
    assert_int_equal(obx_half_commit(stranger, "r-1", &err), OBX_E_CONFIG);
    obx_half_close(stranger);
}

static void a_cut_connection_is_repeated_and_takes_effect_once(void **state)
{
    struct rig *rig = *state;
    struct obx_err err = {0};

    assert_int_equal(prepare(rig, "w-1", &err), OBX_OK);
    /* The answers to these get lost, in the middle or before they begin. */
    for (uint64_t bytes = 0; bytes < 300; bytes += 50) {
        char gid[32];

        snprintf(gid, sizeof(gid), "cut-%u", (unsigned)bytes);
        cut_proxy_cut_after(rig->proxy, CUT_TO_CLIENT, bytes);
        assert_int_equal(prepare(rig, gid, &err), OBX_OK);
        cut_proxy_cut_after(rig->proxy, CUT_TO_CLIENT, bytes);
        assert_int_equal(obx_half_commit(rig->half, gid, &err), OBX_OK);
    }
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), 6);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_message"), 7);
}

static void refuse_twice(const char *path, struct endpoint_answer *answer, void *ctx)
{
    unsigned *calls = ctx;

    (void)path;
    answer->status = ++*calls <= 2 ? 503 : 200;
    snprintf(answer->body, sizeof(answer->body), "{\"gid\":\"g\",\"state\":\"committed\"}");
}

/* What a 200, 404 or 409 may say without being the relay's answer. The call's number chooses. */
static const struct {
    int status;
    const char *body;
} strangers[] = {
    {200, "ok"},
    {200, ""},
    {200, "{}"},
    {200, "{\"state\":\"committed\"}"},
    {200, "{\"gid\":\"g\"}"},
    {200, "{\"gid\":\"another\",\"state\":\"committed\"}"},
    {200, "{\"gid\":\"g\",\"state\":\"prepared\"}"},
    {200, "{\"gid\":\"g\",\"state\":\"rolled_back\"}"},
    {200, "{\"gid\":\"g\",\"state\":\"committed\"} x"},
    {201, "<html>200 OK</html>"},
    {202,
     "{\"gid\":\"g\",\"state\":\"accepted\",\"verdict\":\"commit\"}"}, /* nobody asked for it */
    {404, "<html>404 Not Found</html>"},
    {409, "{\"error\":\"conflict\"}"},
};
enum { STRANGERS = sizeof(strangers) / sizeof(strangers[0]), IN_A_ROW = 4 };

static void answer_as_a_stranger(const char *path, struct endpoint_answer *answer, void *ctx)
{
    unsigned *calls = ctx;
    unsigned n = (*calls)++;
    bool is_good = n % (IN_A_ROW + 1) == IN_A_ROW;

    (void)path;
    n = (n - n / (IN_A_ROW + 1)) % STRANGERS;
    answer->status = is_good ? 200 : strangers[n].status;
    snprintf(answer->body, sizeof(answer->body), "%s",
             is_good ? "{\"gid\":\"g\",\"state\":\"committed\"}" : strangers[n].body);
}

/* Whatever answers, and with what: only what names gid and state is believed. */
static void an_answer_that_is_not_the_relays_is_none(void **state)
{
    unsigned calls = 0;
    struct endpoint *endpoint = endpoint_create(answer_as_a_stranger, &calls);
    struct obx_half *half;
    struct obx_err err = {0};
    char url[64];

    (void)state;
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", (unsigned)endpoint_port(endpoint));
    half = open_client(url, TOKEN, 60000);
    for (unsigned wanted = IN_A_ROW + 1; calls < STRANGERS; wanted += IN_A_ROW + 1) {
        assert_int_equal(obx_half_commit(half, "g", &err), OBX_OK);
        assert_int_equal(calls, wanted);
    }
    obx_half_close(half);
    /* Without a good one in time the outcome is not known, and the text says why. */
    calls = 0;
    half = open_client(url, TOKEN, 1);
    assert_int_equal(obx_half_commit(half, "g", &err), OBX_E_TIMEOUT);
    obx_half_close(half);
    endpoint_destroy(endpoint);
}

static void never(const char *path, struct endpoint_answer *answer, void *ctx)
{
    (void)path;
    (void)ctx;
    answer->mode = ENDPOINT_SILENT;
}

static void overload_is_waited_for_and_silence_is_not_for_ever(void **state)
{
    unsigned calls = 0;
    struct endpoint *busy = endpoint_create(refuse_twice, &calls);
    struct endpoint *silent = endpoint_create(never, NULL);
    struct obx_half *half;
    struct obx_err err = {0};
    uint64_t start_ms;
    char url[64];

    (void)state;
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", (unsigned)endpoint_port(busy));
    half = open_client(url, TOKEN, 20000);
    assert_int_equal(obx_half_commit(half, "g", &err), OBX_OK);
    obx_half_close(half);
    assert_int_equal(endpoint_requests(busy), 3);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", (unsigned)endpoint_port(silent));
    half = open_client(url, TOKEN, 300);
    start_ms = clock_now_ms();
    assert_int_equal(obx_half_commit(half, "g", &err), OBX_E_TIMEOUT);
    assert_true(clock_now_ms() - start_ms < 10000);
    obx_half_close(half);
    endpoint_destroy(busy);
    endpoint_destroy(silent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_whole_way, setup, teardown),
        cmocka_unit_test_setup_teardown(verdicts_need_not_be_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(what_may_not_be_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cut_connection_is_repeated_and_takes_effect_once, setup,
                                        teardown),
        cmocka_unit_test(an_answer_that_is_not_the_relays_is_none),
        cmocka_unit_test(overload_is_waited_for_and_silence_is_not_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
