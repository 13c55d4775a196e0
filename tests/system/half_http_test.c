/*
 * The half-message API over HTTP on a real database (P2, P5, P6): answers, refusals, overload, and
 * the database going away between request and answer.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#undef stop /* cmocka 2 has a macro of this name */

#include "base/bytes.h"
#include "cut_proxy.h"
#include "half/api/half_http.h"
#include "http_call.h"
#include "http_hostile.h"
#include "http_raw.h"
#include "sql/schema.h"
#include "test_db.h"
#include "wait.h"

#define TOKEN "a-token-of-the-tests"
#define ROOT  "/v1/half-messages"

struct rig {
    struct test_db database;
    struct db *db;
    struct half_store *store;
    struct half_http *front;
    uint16_t port;
};

static void start(struct rig *rig, const struct half_store_opts *store_opts, uint32_t max_body)
{
    static const char *const tokens[] = {"an-older-token-of-the-tests", TOKEN};
    struct half_http_opts opts = {.tokens = tokens,
                                  .token_count = 2,
                                  .takes_async = true, /* as with check_back, the default */
                                  .limits = {.body_bytes = max_body}};
    struct obx_err err = {0};

    assert_int_equal(half_store_create(store_opts, &rig->store, &err), OBX_OK);
    opts.store = rig->store;
    assert_int_equal(half_http_create(&opts, &rig->front, &err), OBX_OK);
    rig->port = half_http_port(rig->front);
}

static void stop(struct rig *rig)
{
    half_http_stop(rig->front);
    half_store_destroy(rig->store);
    half_http_destroy(rig->front);
    rig->store = NULL;
    rig->front = NULL;
}

static int setup_database(void **state)
{
    static struct rig rig;
    struct obx_err err = {0};

    memset(&rig, 0, sizeof(rig));
    test_db_create(&rig.database, "halfhttp");
    rig.db = test_db_open(&rig.database.opts);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_PRODUCER, NULL, NULL, &err), OBX_OK);
    assert_int_equal(schema_migrate(rig.db, SCHEMA_HALF, NULL, NULL, &err), OBX_OK);
    *state = &rig;
    return 0;
}

static int setup(void **state)
{
    struct half_store_opts opts = {0};

    setup_database(state);
    opts.db = ((struct rig *)*state)->database.opts;
    start(*state, &opts, 64 * 1024);
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    if (rig->front != NULL)
        stop(rig);
    db_close(rig->db);
    test_db_drop(&rig->database);
    return 0;
}

static long post(struct rig *rig, const char *path, const char *body, struct http_answer *answer)
{
    struct http_call call = {
        .method = "POST", .port = rig->port, .path = path, .token = TOKEN, .body = body};

    http_call(&call, answer);
    return answer->status;
}

static long get(struct rig *rig, const char *path, struct http_answer *answer)
{
    struct http_call call = {.port = rig->port, .path = path, .token = TOKEN};

    http_call(&call, answer);
    return answer->status;
}

#define PREPARE(gid)                                                                               \
    "{\"gid\":\"" gid                                                                              \
    "\",\"producer\":\"orders\",\"commit\":[{\"topic\":\"t\",\"payload\":{\"n\":1}}]}"

static void the_whole_way_by_http(void **state)
{
    struct rig *rig = *state;
    struct http_answer answer;

    assert_int_equal(post(rig, ROOT, PREPARE("h-1"), &answer), 201);
    assert_non_null(strstr(answer.body, "\"state\":\"prepared\""));
    assert_int_equal(post(rig, ROOT, PREPARE("h-1"), &answer), 200);
    assert_non_null(strstr(answer.body, "\"repeated\":true"));
    assert_int_equal(get(rig, ROOT "/h-1", &answer), 200);
    assert_non_null(strstr(answer.body, "\"prepared_at\":\"20"));
    assert_int_equal(post(rig, ROOT "/h-1/commit", "", &answer), 200);
    assert_non_null(strstr(answer.body, "\"state\":\"committed\""));
    assert_int_equal(post(rig, ROOT "/h-1/commit", "", &answer), 200);
    assert_non_null(strstr(answer.body, "\"repeated\":true"));
    assert_int_equal(post(rig, ROOT "/h-1/rollback", "", &answer), 409);
    assert_non_null(strstr(answer.body, "\"reason\":\"already_committed\""));
    assert_non_null(strstr(answer.body, "\"decided_by\":\"producer\""));
    assert_non_null(strstr(answer.body, "\"decided_at\":\"20"));
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), 1);
    assert_int_equal(post(rig, ROOT "/never-heard-of/commit", "", &answer), 404);
    assert_non_null(strstr(answer.body, "\"reason\":\"unknown_gid\""));
}

static void what_may_not_be_is_refused(void **state)
{
    struct rig *rig = *state;
    struct http_answer answer;
    struct http_call call = {
        .method = "POST", .port = rig->port, .path = ROOT, .body = PREPARE("x")};
    static char large[100 * 1024];

    http_call(&call, &answer);
    assert_int_equal(answer.status, 401);
    call.token = "a-token-of-the-testz";
    http_call(&call, &answer);
    assert_int_equal(answer.status, 401);
    call.path = ROOT "/x/commit";
    http_call(&call, &answer);
    assert_int_equal(answer.status, 401);
    call = (struct http_call){.method = "POST",
                              .port = rig->port,
                              .path = ROOT,
                              .token = TOKEN,
                              .body = PREPARE("x"),
                              .content_type = "text/plain"};
    http_call(&call, &answer);
    assert_int_equal(answer.status, 415);
    call = (struct http_call){
        .method = "DELETE", .port = rig->port, .path = ROOT "/x", .token = TOKEN};
    http_call(&call, &answer);
    assert_int_equal(answer.status, 405);
    assert_int_equal(get(rig, "/", &answer), 404);
    assert_int_equal(get(rig, ROOT "extra", &answer), 404);
    assert_int_equal(get(rig, ROOT "/a%20b", &answer), 404);
    assert_int_equal(post(rig, ROOT, "{", &answer), 400);
    assert_non_null(strstr(answer.body, "\"reason\":\"bad_json\""));
    assert_int_equal(post(rig, ROOT, PREPARE("x") "}", &answer), 400);
    memset(large, ' ', sizeof(large) - 1);
    assert_int_equal(post(rig, ROOT, large, &answer), 413);
    assert_non_null(strstr(answer.body, "\"reason\":\"too_large\""));
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_message"), 0);
}

static long without_token(struct rig *rig, const char *path, struct http_answer *answer)
{
    struct http_call call = {.port = rig->port, .path = path};

    http_call(&call, answer);
    return answer->status;
}

static long list(struct rig *rig, const char *query, struct http_answer *answer)
{
    struct http_call call = {.port = rig->port, .path = query, .token = TOKEN};

    http_call(&call, answer);
    return answer->status;
}

static unsigned occurrences(const char *text, const char *word)
{
    unsigned count = 0;

    while ((text = strstr(text, word)) != NULL) {
        count++;
        text++;
    }
    return count;
}

static void lists_go_page_by_page(void **state)
{
    struct rig *rig = *state;
    struct http_answer answer;

    test_db_run(rig->db, "INSERT INTO half_message (gid, producer, state) VALUES "
                         "('l-1', 'a', 'parked'), ('l-2', 'a', 'prepared'), "
                         "('l-3', 'b', 'parked'), ('l-4', 'a', 'parked'), "
                         "('l-5', 'a', 'committed')");
    assert_int_equal(list(rig, ROOT "?state=parked&limit=2", &answer), 200);
    assert_int_equal(occurrences(answer.body, "\"gid\""), 2);
    assert_non_null(strstr(answer.body, "\"l-1\""));
    assert_non_null(strstr(answer.body, "\"next\":\"l-3\""));
    assert_int_equal(list(rig, ROOT "?state=parked&limit=2&after=l%2D3", &answer), 200);
    assert_int_equal(occurrences(answer.body, "\"gid\""), 1);
    assert_non_null(strstr(answer.body, "\"l-4\""));
    assert_non_null(strstr(answer.body, "\"next\":null"));
    assert_int_equal(list(rig, ROOT "?producer=a", &answer), 200);
    assert_int_equal(occurrences(answer.body, "\"gid\""), 4);
    assert_int_equal(list(rig, ROOT "?state=lost", &answer), 400);
    assert_int_equal(list(rig, ROOT "?stat=parked", &answer), 400);
    assert_non_null(strstr(answer.body, "\"reason\":\"unknown_field\""));
    assert_int_equal(list(rig, ROOT "?limit=501", &answer), 400);
    assert_int_equal(list(rig, ROOT "?after=%zz", &answer), 400);
    assert_int_equal(without_token(rig, ROOT, &answer), 401);
}

/* max_body is set above its default here, because the database's packet is larger than that: what
 * the database can never take is not to be sent again. */
static void what_the_database_cannot_take_is_too_large(void **state)
{
    static const char head[] = "{\"gid\":\"p-1\",\"producer\":\"orders\",\"commit\":[{\"topic\":"
                               "\"t\",\"payload_base64\":\"";
    static const char tail[] = "\"}]}";
    struct rig *rig = *state;
    struct half_store_opts opts = {0};
    struct http_answer answer;
    size_t packet = test_db_number(rig->db, "SELECT @@max_allowed_packet");
    size_t len = (packet / 3 + 1) * 4;
    char *body = malloc(sizeof(head) + len + sizeof(tail));

    assert_non_null(body);
    assert_true(packet <= (size_t)64 * 1024 * 1024); /* both products' default at most */
    memcpy(body, head, sizeof(head));
    memset(body + sizeof(head) - 1, 'A', len);
    memcpy(body + sizeof(head) - 1 + len, tail, sizeof(tail));
    opts.db = rig->database.opts;
    start(rig, &opts, (uint32_t)(len + sizeof(head) + sizeof(tail)));
    assert_int_equal(post(rig, ROOT, body, &answer), 413);
    assert_non_null(strstr(answer.body, "\"reason\":\"too_large\""));
    assert_int_equal(post(rig, ROOT, PREPARE("p-2"), &answer), 201);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_message"), 1);
    free(body);
}

/* A half-message that somebody's transaction holds: 503, and the others are served meanwhile. */
static void what_is_held_is_busy(void **state)
{
    struct rig *rig = *state;
    struct http_answer answer;
    struct db *other = test_db_open(&rig->database.opts);

    assert_int_equal(post(rig, ROOT, PREPARE("b-1"), &answer), 201);
    test_db_run(other, "START TRANSACTION");
    test_db_run(other, "UPDATE half_message SET note = 'held'");
    assert_int_equal(post(rig, ROOT "/b-1/commit", "", &answer), 503);
    assert_non_null(strstr(answer.body, "\"reason\":\"busy\""));
    assert_int_equal(get(rig, ROOT "/b-1", &answer), 200);
    assert_int_equal(post(rig, ROOT, PREPARE("b-2"), &answer), 201);
    db_close(other);
    assert_int_equal(post(rig, ROOT "/b-1/commit", "", &answer), 200);
}

struct caller {
    struct rig *rig;
    unsigned index, accepted, refused;
};

static void *call_many(void *arg)
{
    struct caller *caller = arg;
    struct http_answer answer;
    char body[256];

    for (unsigned i = 0; i < 5; i++) {
        struct http_call call = {.method = "POST",
                                 .port = caller->rig->port,
                                 .path = ROOT,
                                 .token = TOKEN,
                                 .body = body};

        snprintf(
            body, sizeof(body),
            "{\"gid\":\"o-%u-%u\",\"producer\":\"p\",\"commit\":[{\"topic\":\"t\",\"payload\":1}]}",
            caller->index, i);
        http_call(&call, &answer);
        if (answer.status == 201)
            caller->accepted++;
        else if (answer.status == 503 && strstr(answer.body, "\"reason\":\"overloaded\"") != NULL)
            caller->refused++;
    }
    return NULL;
}

static bool was_overloaded(void *ctx)
{
    struct rig *rig = ctx;
    struct half_store_stats stats;

    half_store_get_stats(rig->store, &stats);
    return stats.overloads >= 10;
}

/* With the table locked nothing can run: the queue fills, the rest is refused at once,
 * and no answer is lost. */
static void overload_is_refused_and_what_was_accepted_is_there(void **state)
{
    enum { CALLERS = 24 };
    struct rig *rig = *state;
    struct half_store_opts opts = {.workers = 1, .queue_max = 4, .batch_max = 4};
    struct caller callers[CALLERS];
    pthread_t threads[CALLERS];
    unsigned accepted = 0, refused = 0;

    opts.db = rig->database.opts;
    start(rig, &opts, 0);
    test_db_run(rig->db, "LOCK TABLES half_message WRITE, half_part WRITE");
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.rig = rig, .index = i};
        assert_int_equal(pthread_create(&threads[i], NULL, call_many, &callers[i]), 0);
    }
    assert_true(wait_until(10000, was_overloaded, rig));
    test_db_run(rig->db, "UNLOCK TABLES");
    for (unsigned i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        accepted += callers[i].accepted;
        refused += callers[i].refused;
    }
    assert_int_equal(accepted + refused, CALLERS * 5);
    assert_true(refused >= 10);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_message"), accepted);
}

/* The first answer is as whole as any later one, and tells the ids of the messages. */
static void first_answers_are_whole(void **state)
{
    static const char body[] = "{\"gid\":\"w-1\",\"producer\":\"orders\",\"commit\":[{\"topic\":"
                               "\"t\",\"payload\":1},{\"topic\":\"t\",\"payload\":2,"
                               "\"message_id\":\"my-own\"}],\"rollback\":[{\"topic\":\"r\","
                               "\"payload\":3,\"message_id\":\"undone\"}]}";
    struct rig *rig = *state;
    struct http_answer first, again;
    const char *ids;

    assert_int_equal(post(rig, ROOT, body, &first), 201);
    assert_non_null(strstr(first.body, "\"prepared_at\":\"20"));
    assert_non_null(strstr(first.body, "\"next_check_at\":\"20"));
    assert_non_null(strstr(first.body, "\"producer\":\"orders\""));
    ids = strstr(first.body, "\"message_ids\":{\"commit\":[\"");
    assert_non_null(ids);
    assert_non_null(strstr(ids, "\",\"my-own\"],\"rollback\":[\"undone\"]}"));
    assert_int_equal(post(rig, ROOT, body, &again), 200);
    assert_string_equal(strstr(again.body, "\"message_ids\""), ids);
    assert_int_equal(get(rig, ROOT "/w-1", &again), 200);
    assert_string_equal(strstr(again.body, "\"message_ids\""), ids);
    assert_int_equal(post(rig, ROOT "/w-1/commit", "", &first), 200);
    assert_non_null(strstr(first.body, "\"decided_at\":\"20"));
    assert_non_null(strstr(first.body, "\"decided_by\":\"producer\""));
    assert_non_null(strstr(first.body, "\"prepared_at\":\"20"));
    assert_non_null(strstr(first.body, "\"next_check_at\":null"));
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox WHERE message_id = "
                                             "'my-own'"),
                     1);
    assert_int_equal(get(rig, ROOT "/w-1", &again), 200);
    assert_null(strstr(again.body, "message_ids"));
}

/* Somebody's SQL has written messages and no half-message: this gid can never be prepared, and
 * repeating it does not help. Its neighbours in the batch are prepared. */
static void messages_without_a_half_message_are_a_conflict(void **state)
{
    struct rig *rig = *state;
    struct http_answer answer;

    test_db_run(rig->db, "INSERT INTO half_part (gid, topic, payload) VALUES ('p-1', 't', 'x')");
    assert_int_equal(post(rig, ROOT, PREPARE("p-1"), &answer), 409);
    assert_non_null(strstr(answer.body, "\"reason\":\"gid_reused\""));
    assert_int_equal(post(rig, ROOT, PREPARE("p-2"), &answer), 201);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_message"), 1);
}

/* Said a hundred times, written down ten. */
static void repeated_conflicts_are_bounded(void **state)
{
    struct rig *rig = *state;
    struct http_answer answer;

    assert_int_equal(post(rig, ROOT, PREPARE("c-1"), &answer), 201);
    assert_int_equal(post(rig, ROOT "/c-1/commit", "", &answer), 200);
    for (int i = 0; i < 100; i++)
        assert_int_equal(post(rig, ROOT "/c-1/rollback", "", &answer), 409);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_history"), 10);
}

/* A client may encode any character of a path. */
static void a_gid_may_be_encoded(void **state)
{
    struct rig *rig = *state;
    struct http_answer answer;

    assert_int_equal(post(rig, ROOT, PREPARE("e-1:a~"), &answer), 201);
    assert_int_equal(get(rig, ROOT "/e%2D1%3Aa%7e", &answer), 200);
    assert_non_null(strstr(answer.body, "\"gid\":\"e-1:a~\""));
    assert_int_equal(post(rig, ROOT "/%65-1:a~/commit", "", &answer), 200);
    assert_int_equal(get(rig, ROOT "/e-1%3aa%7E", &answer), 200);
    assert_non_null(strstr(answer.body, "\"state\":\"committed\""));
    assert_int_equal(get(rig, ROOT "/e-1:a~%00", &answer), 404);
    assert_int_equal(get(rig, ROOT "/e-1%2Fcommit", &answer), 404);
}

static int raw(struct rig *rig, const char *request, struct obx_buf *answer)
{
    return http_raw_request(rig->port, request, strlen(request), answer);
}

/* Whatever is refused says so in JSON, and 405 says what would do. */
static void refusals_are_json(void **state)
{
    static const struct {
        const char *line, *fields;
        int status;
        const char *says;
    } refusals[] = {
        {"TRACE " ROOT, "", 405, "Allow: GET, HEAD, POST\r\n"},
        {"OPTIONS " ROOT "/x", "", 405, "Allow: GET, HEAD\r\n"},
        {"PUT " ROOT "/x/commit", "", 405, "Allow: POST\r\n"},
        {"GET " ROOT "/x/rollback", "", 405, "Allow: POST\r\n"},
        {"BREW " ROOT, "", 405, "\"reason\":\"method\""},
        {"GET " ROOT "/x", "", 401, "WWW-Authenticate: Bearer\r\n"},
        {"GET /", "", 404, "\"reason\":\"no_such_path\""},
        {"GET " ROOT "/x/commit/y", "", 404, "\"reason\":\"no_such_path\""},
        {"GET " ROOT "/", "Authorization: Bearer " TOKEN "\r\n", 404, "\"unknown_gid\""},
        {"POST " ROOT, "Content-Length: 1, 2\r\n", 400, "\"reason\":\"bad_request\""},
        {"GET http://elsewhere" ROOT, "", 421, "\"reason\":\"misdirected\""},
    };
    struct rig *rig = *state;
    struct obx_buf answer = {0};
    char request[512];

    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        snprintf(request, sizeof(request), "%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n",
                 refusals[i].line, refusals[i].fields);
        assert_int_equal(raw(rig, request, &answer), refusals[i].status);
        assert_non_null(strstr(answer.data, "Content-Type: application/json\r\n"));
        assert_non_null(strstr(answer.data, "\r\n\r\n{\"error\":{\"reason\":"));
        assert_non_null(strstr(answer.data, refusals[i].says));
    }
    buf_fini(&answer);
}

/* The body of a caller without a token is not read: one that never comes keeps nobody waiting. */
static void the_token_is_looked_at_first(void **state)
{
    struct rig *rig = *state;
    struct half_http_stats stats;
    struct obx_buf answer = {0};

    for (int i = 0; i < 100; i++)
        assert_int_equal(raw(rig,
                             "POST " ROOT " HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                             "application/json\r\nContent-Length: 60000\r\n\r\n{",
                             &answer),
                         401);
    half_http_get_stats(rig->front, &stats);
    assert_int_equal(stats.http.bytes_in_flight, 0);
    assert_int_equal(stats.unauthorized, 100);
    buf_fini(&answer);
}

/* More silent callers than there are connections, and than the process had descriptors: an honest
 * one is served, and so is the database. */
static void silent_callers_keep_nobody_out(void **state)
{
    enum { SILENT = 1100 };
    struct rig *rig = *state;
    const struct rlimit descriptors = {.rlim_cur = 2048, .rlim_max = 4096};
    struct http_hostile target = {.port = rig->port,
                                  .get = ROOT,
                                  .post = ROOT,
                                  .fields = "Authorization: Bearer " TOKEN "\r\n"};
    struct half_http_stats stats;
    struct http_answer answer;
    static int silent[SILENT];

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
    for (int i = 0; i < SILENT; i++) {
        silent[i] = http_raw_connect(rig->port);
        assert_true(silent[i] >= 0);
    }
    assert_int_equal(post(rig, ROOT, PREPARE("s-1"), &answer), 201);
    assert_true(http_hostile_is_served(&target));
    half_http_get_stats(rig->front, &stats);
    assert_in_range(stats.http.connections, 1, 512);
    assert_true(stats.http.cut_off >= SILENT - 512);
    for (int i = 0; i < SILENT; i++)
        (void)close(silent[i]);
}

static void a_hostile_peer_changes_nothing(void **state)
{
    struct rig *rig = *state;
    struct http_hostile target = {.port = rig->port,
                                  .get = ROOT,
                                  .post = ROOT,
                                  .fields = "Authorization: Bearer " TOKEN "\r\n"
                                            "Content-Type: application/json\r\n"};

    http_hostile_smuggle(&target);
    http_hostile_mutate(&target, 18, 500);
    http_hostile_pipeline(&target, 200);
    http_hostile_abort(&target, 24, 200);
    assert_true(http_hostile_is_served(&target));
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_message"), 0);
}

/* Nobody could ever be asked about it. */
static void a_producer_that_nobody_configured_is_refused(void **state)
{
    static const char *const tokens[] = {TOKEN};
    static const char *const producers[] = {"orders", "bank"};
    struct rig *rig = *state;
    struct half_store_opts store_opts = {.db = rig->database.opts};
    struct half_http_opts opts = {
        .tokens = tokens, .token_count = 1, .producers = producers, .producer_count = 2};
    struct http_answer answer;

    assert_int_equal(half_store_create(&store_opts, &rig->store, NULL), OBX_OK);
    opts.store = rig->store;
    opts.open_lookup = true;
    assert_int_equal(half_http_create(&opts, &rig->front, NULL), OBX_OK);
    rig->port = half_http_port(rig->front);
    assert_int_equal(post(rig, ROOT, PREPARE("k-1"), &answer), 201);
    assert_int_equal(without_token(rig, ROOT "/k-1", &answer), 200);
    assert_int_equal(without_token(rig, ROOT, &answer), 401);
    assert_int_equal(post(rig, ROOT,
                          "{\"gid\":\"k-2\",\"producer\":\"order\",\"commit\":[{\"topic\":"
                          "\"t\",\"payload\":1}]}",
                          &answer),
                     400);
    assert_non_null(strstr(answer.body, "\"reason\":\"unknown_producer\""));
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_message"), 1);
}

static bool is_up(void *ctx)
{
    struct rig *rig = ctx;
    struct half_store_stats stats;

    half_store_get_stats(rig->store, &stats);
    return stats.is_up;
}

static uint64_t sent_by_server(struct cut_proxy *proxy)
{
    struct cut_stats stats;

    cut_proxy_get_stats(proxy, &stats);
    return stats.passed[CUT_TO_CLIENT];
}

/* The answer to COMMIT is swallowed: the caller is told that the outcome is unknown, repeats, and
 * it is there once. */
static void an_unknown_commit_is_said_and_a_repeat_settles_it(void **state)
{
    struct rig *rig = *state;
    struct half_store_opts opts = {.workers = 1};
    struct http_answer answer;
    struct cut_proxy *proxy = cut_proxy_create("127.0.0.1", rig->database.opts.port);
    uint64_t before;

    assert_non_null(proxy);
    opts.db = rig->database.opts;
    opts.db.host = "127.0.0.1";
    opts.db.port = cut_proxy_port(proxy);
    opts.db.tls = DB_TLS_DISABLED;
    start(rig, &opts, 0);
    assert_true(wait_until(10000, is_up, rig));
    /* Learn how many bytes the server sends for one whole prepare (not the first one, for which the
     * session is set up), then cut one byte short of it. */
    assert_int_equal(post(rig, ROOT, PREPARE("u-0"), &answer), 201);
    before = sent_by_server(proxy);
    assert_int_equal(post(rig, ROOT, PREPARE("u-1"), &answer), 201);
    before = sent_by_server(proxy) - before;
    cut_proxy_cut_after(proxy, CUT_TO_CLIENT, before - 1);
    assert_int_equal(post(rig, ROOT, PREPARE("u-2"), &answer), 503);
    assert_non_null(strstr(answer.body, "\"reason\":\"outcome_unknown\""));
    assert_true(wait_until(10000, is_up, rig));
    assert_int_equal(post(rig, ROOT, PREPARE("u-2"), &answer), 200);
    assert_non_null(strstr(answer.body, "\"repeated\":true"));
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_message"), 3);
    stop(rig);
    cut_proxy_destroy(proxy);
}

/* ---- verdicts that do not wait ---- */

static int commit_async(struct rig *rig, const char *gid, const char *prefer,
                        struct obx_buf *answer)
{
    char request[512];

    snprintf(request, sizeof(request),
             "POST " ROOT "/%s/commit HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " TOKEN
             "\r\nContent-Length: 0\r\nPrefer: %s\r\n\r\n",
             gid, prefer);
    return raw(rig, request, answer);
}

static bool is_committed(void *ctx)
{
    struct http_answer answer;

    return get(ctx, ROOT "/a-1", &answer) == 200 &&
           strstr(answer.body, "\"state\":\"committed\"") != NULL;
}

static bool has_lost_two(void *ctx)
{
    struct half_http_stats stats;

    half_http_get_stats(((struct rig *)ctx)->front, &stats);
    return stats.async_lost == 2;
}

/* 202 says that it is queued, and nothing more: it is applied soon, and one that cannot be is
 * counted. Without the preference the answer is the outcome. */
static void a_verdict_need_not_be_waited_for(void **state)
{
    struct rig *rig = *state;
    struct half_http_stats stats;
    struct obx_buf answer = {0};
    struct http_answer plain;

    assert_int_equal(post(rig, ROOT, PREPARE("a-1"), &plain), 201);
    assert_int_equal(commit_async(rig, "a-1", "wait=5, Respond-Async; x", &answer), 202);
    assert_non_null(strstr(answer.data, "Preference-Applied: respond-async\r\n"));
    assert_non_null(
        strstr(answer.data, "{\"gid\":\"a-1\",\"state\":\"accepted\",\"verdict\":\"commit\"}"));
    assert_true(wait_until(10000, is_committed, rig));
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM outbox"), 1);
    /* Again, of one that nobody has prepared, and of one that was rolled back. */
    assert_int_equal(commit_async(rig, "a-1", "respond-async", &answer), 202);
    assert_int_equal(commit_async(rig, "a-2", "respond-async", &answer), 202);
    assert_int_equal(post(rig, ROOT, PREPARE("a-3"), &plain), 201);
    assert_int_equal(post(rig, ROOT "/a-3/rollback", "", &plain), 200);
    assert_int_equal(commit_async(rig, "a-3", "respond-async", &answer), 202);
    assert_true(wait_until(10000, has_lost_two, rig));
    half_http_get_stats(rig->front, &stats);
    assert_int_equal(stats.async, 4);
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_history WHERE gid = 'a-3' "
                                             "AND event = 'conflict'"),
                     1);
    assert_int_equal(commit_async(rig, "a-3", "respond-asynchronously", &answer), 409);
    buf_fini(&answer);
}

/* Where nobody asks, a lost verdict would be lost: the preference is not taken up. */
static void without_check_back_every_verdict_waits(void **state)
{
    static const char *const tokens[] = {TOKEN};
    struct rig *rig = *state;
    struct half_store_opts store_opts = {.db = rig->database.opts};
    struct half_http_opts opts = {.tokens = tokens, .token_count = 1};
    struct obx_buf answer = {0};

    assert_int_equal(half_store_create(&store_opts, &rig->store, NULL), OBX_OK);
    opts.store = rig->store;
    assert_int_equal(half_http_create(&opts, &rig->front, NULL), OBX_OK);
    rig->port = half_http_port(rig->front);
    assert_int_equal(commit_async(rig, "a-9", "respond-async", &answer), 404);
    buf_fini(&answer);
}

/* ---- callers that stop half-way ---- */

/* A prepare with a payload of len bytes, as a whole request; free it. */
static char *large_request(const char *gid, size_t len, size_t *size)
{
    char head[512], *request;
    int body_len = snprintf(head, sizeof(head),
                            "{\"gid\":\"%s\",\"producer\":\"orders\",\"commit\":[{\"topic\":\"t\","
                            "\"payload\":\"\"}]}",
                            gid) +
                   (int)len;
    int head_len =
        snprintf(head, sizeof(head),
                 "POST " ROOT " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " TOKEN
                 "\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                 "{\"gid\":\"%s\",\"producer\":\"orders\",\"commit\":[{\"topic\":\"t\","
                 "\"payload\":\"",
                 body_len, gid);

    *size = (size_t)head_len + len + strlen("\"}]}");
    request = malloc(*size + 1);
    assert_non_null(request);
    memcpy(request, head, (size_t)head_len);
    memset(request + head_len, 'x', len);
    memcpy(request + head_len + len, "\"}]}", strlen("\"}]}") + 1);
    return request;
}

static void send_bytes(int fd, const char *p, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, p, len, MSG_NOSIGNAL);

        assert_true(sent > 0);
        p += sent;
        len -= (size_t)sent;
    }
}

static bool has_bytes_in_flight(void *ctx)
{
    struct half_http_stats stats;

    half_http_get_stats(((struct rig *)ctx)->front, &stats);
    return stats.http.bytes_in_flight > 0;
}

static bool has_none_in_flight(void *ctx)
{
    return !has_bytes_in_flight(ctx);
}

/* The head came before the stop, the body after the store was gone: refused, and the store is not
 * asked any more. */
static void a_body_that_ends_after_the_stop_is_refused(void **state)
{
    struct rig *rig = *state;
    size_t size = 0;
    char *request = large_request("late-1", 30000, &size);
    struct obx_buf answer = {0};
    int fd = http_raw_connect(rig->port);

    send_bytes(fd, request, size - 1000);
    assert_true(wait_until(10000, has_bytes_in_flight, rig));
    half_http_stop(rig->front);
    half_store_destroy(rig->store);
    rig->store = NULL;
    send_bytes(fd, request + size - 1000, 1000);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    http_raw_read_all(fd, &answer);
    assert_true(answer.len > 0);
    assert_non_null(strstr(answer.data, " 503 "));
    assert_non_null(strstr(answer.data, "\"reason\":\"stopping\""));
    half_http_destroy(rig->front);
    rig->front = NULL;
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_message"), 0);
    buf_fini(&answer);
    free(request);
}

static bool has_no_connection(void *ctx)
{
    struct half_http_stats stats;

    half_http_get_stats(((struct rig *)ctx)->front, &stats);
    return stats.http.connections == 0;
}

enum { GONE = 2, GONE_BYTES = 50000 };

static bool has_answered(void *ctx)
{
    struct half_http_stats stats;

    half_http_get_stats(((struct rig *)ctx)->front, &stats);
    return stats.answered == GONE;
}

struct waiting {
    struct rig *rig;
    uint64_t wanted;
};

static bool wait_in_store(void *ctx)
{
    struct waiting *waiting = ctx;
    struct half_store_stats stats;

    half_store_get_stats(waiting->rig->store, &stats);
    return stats.waiting >= waiting->wanted;
}

/* P9: the database stands still, and callers send large bodies and go. What they sent waits in the
 * store, so it counts against body_memory until it is done; then it is given back. busy_ms is
 * longer than its default, so that nothing is answered before the test lets it. */
static void what_the_gone_have_sent_still_counts(void **state)
{
    struct rig *rig = *state;
    struct half_store_opts opts = {.workers = 1, .busy_ms = 120000};
    struct half_http_stats stats;

    opts.db = rig->database.opts;
    start(rig, &opts, 64 * 1024);
    test_db_run(rig->db, "LOCK TABLES half_message WRITE, half_part WRITE, half_history WRITE");
    for (unsigned i = 0; i < GONE; i++) {
        struct waiting waiting = {rig, i + 1};
        char gid[32];
        size_t size = 0;
        char *request;
        int fd = http_raw_connect(rig->port);

        snprintf(gid, sizeof(gid), "gone-%u", i);
        request = large_request(gid, GONE_BYTES, &size);
        send_bytes(fd, request, size);
        assert_true(wait_until(20000, wait_in_store, &waiting));
        http_raw_reset(fd);
        assert_true(wait_until(10000, has_no_connection, rig));
        free(request);
    }
    half_http_get_stats(rig->front, &stats);
    assert_int_equal(stats.answered, 0);
    assert_true(stats.http.bytes_in_flight >= (uint64_t)GONE * GONE_BYTES);
    test_db_run(rig->db, "UNLOCK TABLES");
    assert_true(wait_until(20000, has_answered, rig));
    assert_true(wait_until(10000, has_none_in_flight, rig));
    assert_int_equal(test_db_number(rig->db, "SELECT COUNT(*) FROM half_message"), GONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_whole_way_by_http, setup, teardown),
        cmocka_unit_test_setup_teardown(what_may_not_be_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_go_page_by_page, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_held_is_busy, setup, teardown),
        cmocka_unit_test_setup_teardown(what_the_database_cannot_take_is_too_large, setup_database,
                                        teardown),
        cmocka_unit_test_setup_teardown(first_answers_are_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(messages_without_a_half_message_are_a_conflict, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(repeated_conflicts_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(a_gid_may_be_encoded, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals_are_json, setup, teardown),
        cmocka_unit_test_setup_teardown(the_token_is_looked_at_first, setup, teardown),
        cmocka_unit_test_setup_teardown(silent_callers_keep_nobody_out, setup, teardown),
        cmocka_unit_test_setup_teardown(a_hostile_peer_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_verdict_need_not_be_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(without_check_back_every_verdict_waits, setup_database,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_body_that_ends_after_the_stop_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_the_gone_have_sent_still_counts, setup_database,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_producer_that_nobody_configured_is_refused,
                                        setup_database, teardown),
        cmocka_unit_test_setup_teardown(overload_is_refused_and_what_was_accepted_is_there,
                                        setup_database, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_commit_is_said_and_a_repeat_settles_it,
                                        setup_database, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
