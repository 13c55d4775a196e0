/*
 * The relay's host has a wrong clock (trap: leases and deadlines by the client's clock): by an hour
 * fast, by an hour slow, and jumping while it works. Prepare, first silence, check, lease and
 * retention go by the database's clock, so nothing changes.
 *
 * The wall clock of this program is a wrong one: clock_gettime, gettimeofday and time below stand
 * in for the C library's, for the client libraries as well. The monotonic clock is left alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "endpoint.h"
#include "half/api/half_http.h"
#include "half/checkback/checkback.h"
#include "http_call.h"
#include "sql/schema.h"
#include "test_db.h"
#include "wait.h"

#define TOKEN "a-token-of-the-tests"
#define ROOT  "/v1/half-messages"

enum { HOUR = 3600, FIRST_CHECK_MS = 600, NS_PER_US = 1000, DEADLINE_MS = 30000 };

static atomic_long skew_s;

int clock_gettime(clockid_t id, struct timespec *ts)
{
    long rc = syscall(SYS_clock_gettime, id, ts);

    if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        ts->tv_sec += atomic_load(&skew_s);
    return (int)rc;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec ts;

    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    *tv = (struct timeval){.tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / NS_PER_US};
    return 0;
}

time_t time(time_t *out)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    if (out != NULL)
        *out = ts.tv_sec;
    return ts.tv_sec;
}

struct rig {
    struct test_db database;
    struct db *db;
    struct endpoint *endpoint;
    struct half_store *store;
    struct half_http *front;
    struct checkback *check;
    char url[128];
    struct check_producer producer;
};

/* Every question makes the clock jump, when the test is the one about jumps. */
static atomic_bool is_jumping;

static void honest(const char *path, struct endpoint_answer *answer, void *ctx)
{
    (void)path;
    (void)ctx;
    if (atomic_load(&is_jumping))
        atomic_store(&skew_s, atomic_load(&skew_s) <= 0 ? HOUR : -HOUR);
    snprintf(answer->body, sizeof(answer->body), "{\"state\":\"committed\"}");
}

static void start(struct rig *rig)
{
    static const char *const tokens[] = {TOKEN};
    struct half_store_opts store = {.db = rig->database.opts};
    struct half_http_opts front = {
        .tokens = tokens, .token_count = 1, .first_check_ms = FIRST_CHECK_MS};
    struct checkback_opts check = {.db = rig->database.opts,
                                   .owner = "test",
                                   .producers = &rig->producer,
                                   .producer_count = 1,
                                   .poll_ms = 20,
                                   .lease_ms = 1000,
                                   .retention_s = 60};
    struct obx_err err = {0};

    snprintf(rig->url, sizeof(rig->url), "http://127.0.0.1:%u/check",
             (unsigned)endpoint_port(rig->endpoint));
    rig->producer =
        (struct check_producer){.name = "orders", .kind = CHECK_BY_HTTP, .url = rig->url};
    assert_int_equal(half_store_create(&store, &rig->store, &err), OBX_OK);
    front.store = check.store = rig->store;
    assert_int_equal(half_http_create(&front, &rig->front, &err), OBX_OK);
    assert_int_equal(checkback_create(&check, &rig->check, &err), OBX_OK);
}

static int setup(void **state)
{
    static struct rig rig;
    struct obx_err err = {0};

    test_db_create(&rig.database, "clock");
    rig.db = test_db_open(&rig.database.opts);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_HALF, NULL, NULL, &err), OBX_OK);
    rig.endpoint = endpoint_create(honest, &rig);
    *state = &rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    checkback_destroy(rig->check);
    half_http_stop(rig->front);
    half_store_destroy(rig->store);
    half_http_destroy(rig->front);
    endpoint_destroy(rig->endpoint);
    db_close(rig->db);
    test_db_drop(&rig->database);
    atomic_store(&skew_s, 0);
    atomic_store(&is_jumping, false);
    return 0;
}

static void prepare(struct rig *rig, const char *gid)
{
    char body[256];
    struct http_call call = {.method = "POST",
                             .port = half_http_port(rig->front),
                             .path = ROOT,
                             .token = TOKEN,
                             .body = body};
    struct http_answer answer;

    snprintf(
        body, sizeof(body),
        "{\"gid\":\"%s\",\"producer\":\"orders\",\"commit\":[{\"topic\":\"t\",\"payload\":1}]}",
        gid);
    http_call(&call, &answer);
    assert_int_equal(answer.status, 201);
}

static bool is_all_committed(void *ctx)
{
    struct rig *rig = ctx;

    return test_db_number(rig->db, "SELECT COUNT(*) FROM half_message WHERE state = 'prepared'") ==
           0;
}

/* Checked after the silence by the database's clock, not at once and not in an hour; the decided
 * row, which is younger than the retention, stays. */
static void expect_all_is_well(struct rig *rig, long skew)
{
    enum { MESSAGES = 5 };

    atomic_store(&skew_s, skew);
    start(rig);
    for (unsigned i = 0; i < MESSAGES; i++) {
        char gid[16];

        snprintf(gid, sizeof(gid), "g-%u", i);
        prepare(rig, gid);
    }
    if (!wait_until(DEADLINE_MS, is_all_committed, rig))
        fail_msg("nobody was asked");
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM half_message WHERE state = 'committed' AND "
                                "decided_by = 'check' AND decided_at >= prepared_at + INTERVAL "
                                "600000 MICROSECOND AND decided_at < prepared_at + INTERVAL 1 "
                                "MINUTE AND ABS(TIMESTAMPDIFF(SECOND, prepared_at, "
                                "UTC_TIMESTAMP(6))) < 60"),
        MESSAGES);
    assert_int_equal(
        test_db_number(rig->db, "SELECT COUNT(*) FROM outbox_lease WHERE owner = 'test' AND "
                                "ABS(TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), expires_at)) < 60"),
        1);
}

static void an_hour_fast(void **state)
{
    assert_true(time(NULL) > 0);
    expect_all_is_well(*state, HOUR);
    assert_true(time(NULL) - HOUR > 0);
}

static void an_hour_slow(void **state)
{
    expect_all_is_well(*state, -HOUR);
}

static void jumping_to_and_fro(void **state)
{
    atomic_store(&is_jumping, true);
    expect_all_is_well(*state, HOUR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_hour_fast, setup, teardown),
        cmocka_unit_test_setup_teardown(an_hour_slow, setup, teardown),
        cmocka_unit_test_setup_teardown(jumping_to_and_fro, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
