/*
 * P10: what was given is what arrives, byte for byte, by every way that a message can go: outbox,
 * delayed, half-message by HTTP and by SQL, sent again, parked and resumed, dead and replayed,
 * edited by an operator. (Notifications: notify_calls_test.c.) One table of messages, one case for
 * each way.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#undef stop /* cmocka 2 has a macro of this name */

#include <openssl/evp.h>

#include "base/bytes.h"
#include "bridge/consumer.h"
#include "consumer_opts.h"
#include "each_message.h"
#include "half/api/half_http.h"
#include "http_call.h"
#include "lane_rig.h"
#include "message_header.h"
#include "obx/consumer.h"
#include "process.h"
#include "sql/schema.h"
#include "wait.h"

#define TOKEN      "a-token-of-the-golden-test"
#define UNBOUND    "nowhere"
#define LARGE_SIZE ((size_t)14 * 1024 * 1024) /* what the servers' default packet has room for */

enum { TEXT_SIZE = 64, SQL_SIZE = 600, MIDDLE_SIZE = 300000 };

enum form { FORM_JSON = 1, FORM_TEXT = 2, FORM_BYTES = 4 }; /* how a half-message may carry it */

struct golden {
    const char *name;
    const char *topic, *key;
    struct obx_bytes payload;
    unsigned forms;
};

#define BYTES(text)                                                                                \
    {                                                                                              \
        .p = (text), .len = sizeof(text) - 1                                                       \
    }

static unsigned char middle[MIDDLE_SIZE];

static struct golden goldens[] = {
    {"numbers", "t.numbers", "k",
     BYTES("{\"a\":0.1,\"b\":12.50,\"c\":123456789012345678901234567890,\"d\":1E400,\"e\":-0.0,"
           "\"f\":0.1234567890123456789012}"),
     FORM_JSON | FORM_TEXT | FORM_BYTES},
    {"one number", "t", "k ", BYTES("12.50"), FORM_JSON | FORM_TEXT | FORM_BYTES},
    {"blanks", "t blanks", " ", BYTES("{ \"b\" : [ 1 ,\t2 ,\r\n {} ] }"),
     FORM_JSON | FORM_TEXT | FORM_BYTES},
    {"order", "t.order", NULL, BYTES("{\"b\":1,\"a\":2,\"b\":3}"),
     FORM_JSON | FORM_TEXT | FORM_BYTES},
    {"escapes", "t.\xc3\xa4", "\xe2\x82\xac\xf0\x9f\x98\x80",
     BYTES("{\"t\":\"\\u00e4\\/\\ud800\\\"\\\\\\u0000\"}"), FORM_JSON | FORM_TEXT | FORM_BYTES},
    {"quotes", "t'\"\\%_;--", "k'\"\\%_;--",
     BYTES("it's \"\\\\\" \\0 \\n %_ \x1a ; -- /* */ \xc3\xa4\r\n"), FORM_TEXT | FORM_BYTES},
    {"nul", "t", "k", BYTES("a\0b\0"), FORM_TEXT | FORM_BYTES},
    {"no utf-8", "t", "k", BYTES("\xff\xfe\0\xc3\x28\xed\xa0\x80"), FORM_BYTES},
    {"empty", "t", "k", BYTES(""), FORM_TEXT | FORM_BYTES},
    {"middle", "t", "k", {middle, MIDDLE_SIZE}, FORM_BYTES},
};

enum { GOLDENS = sizeof(goldens) / sizeof(goldens[0]) };

#define HEADERS                                                                                    \
    "{\"i\": 42, \"f\": 12.50, \"long\": 0.1234567890123456789012, \"huge\": "                     \
    "123456789012345678901234567890, \"o\": { \"b\":1.0,  \"a\":[0.10, 1E2] }, \"t\": "            \
    "\"\\u00e4 'x' \\\"\\\\\", \"yes\": true, \"nil\": null}"

static const char *const header_values[][2] = {
    {"i", "number 42"},
    {"f", "double 12.5"},
    {"long", "text 0.1234567890123456789012"},
    {"huge", "text 123456789012345678901234567890"},
    {"o", "text { \"b\":1.0,  \"a\":[0.10, 1E2] }"},
    {"t", "text \xc3\xa4 'x' \"\\"},
    {"yes", "true"},
    {"nil", "null"},
    {NULL, NULL},
};

/* ---- looking at what came ---- */

struct expected {
    char id[TEXT_SIZE];
    const struct golden *golden;
    const char *content_type;
    unsigned times;
};

struct wanted {
    struct lane_rig *rig;
    struct expected *items;
    size_t count;
    unsigned times; /* each of them */
    unsigned packs; /* that came */
    struct bridge_consumer *consumer;
    char wrong[3 * SQL_SIZE]; /* the first difference; "" none */
};

static void differ(struct wanted *wanted, const struct expected *item, const char *what)
{
    if (wanted->wrong[0] == '\0')
        (void)snprintf(wanted->wrong, sizeof(wanted->wrong), "%s (%s): %s", item->id,
                       item->golden->name, what);
}

static void describe(char *text, size_t size, enum obx_header_type type, struct obx_bytes string,
                     int64_t i64, double f64, bool yes)
{
    switch (type) {
    case OBX_H_TEXT:
        (void)snprintf(text, size, "text %.*s", (int)string.len, (const char *)string.p);
        break;
    case OBX_H_I64:
        (void)snprintf(text, size, "number %lld", (long long)i64);
        break;
    case OBX_H_F64:
        (void)snprintf(text, size, "double %.17g", f64);
        break;
    case OBX_H_BOOL:
        (void)snprintf(text, size, "%s", yes ? "true" : "false");
        break;
    case OBX_H_NULL:
        (void)snprintf(text, size, "null");
        break;
    }
}

static void check_header(struct wanted *wanted, const struct expected *item, const char *name,
                         const char *given, const char *came)
{
    char text[2 * SQL_SIZE];

    (void)snprintf(text, sizeof(text), "header %s is %s, not %s", name, came, given);
    if (strcmp(given, came) != 0)
        differ(wanted, item, text);
}

static struct expected *find_expected(struct wanted *wanted, struct obx_bytes id)
{
    for (size_t i = 0; i < wanted->count; i++)
        if (bytes_is(id, wanted->items[i].id))
            return &wanted->items[i];
    return NULL;
}

static void check_bytes(struct wanted *wanted, const struct expected *item, const char *what,
                        struct obx_bytes given, struct obx_bytes came)
{
    char text[SQL_SIZE] = "";

    if (bytes_equal(given, came) || (given.len == 0 && came.len == 0))
        return;
    (void)snprintf(text, sizeof(text), "%s: %zu bytes, not %zu: %.*s", what, came.len, given.len,
                   came.len < 200 ? (int)came.len : 200, (const char *)came.p);
    differ(wanted, item, text);
}

static void check_message(const struct bridge_message *msg, void *ctx)
{
    struct wanted *wanted = ctx;
    const char *const(*headers)[2] = header_values;
    struct expected *item = find_expected(wanted, msg->message_id);
    const struct obx_header *key = message_header(msg, "cloudEvents_partitionkey");

    if (item == NULL)
        return; /* of an earlier case */
    item->times++;
    check_bytes(wanted, item, "payload", item->golden->payload, msg->body);
    check_bytes(wanted, item, "topic", bytes_of(item->golden->topic), msg->type);
    check_bytes(wanted, item, "content type", bytes_of(item->content_type), msg->content_type);
    check_bytes(wanted, item, "key", bytes_of(item->golden->key),
                key == NULL ? (struct obx_bytes){0} : key->v.text);
    for (; (*headers)[0] != NULL; headers++) {
        const struct obx_header *header = message_header(msg, (*headers)[0]);
        char came[SQL_SIZE] = "not there";

        if (header != NULL)
            describe(came, sizeof(came), header->type, header->v.text, header->v.i64, header->v.f64,
                     header->type == OBX_H_BOOL && header->v.yes);
        check_header(wanted, item, (*headers)[0], (*headers)[1], came);
    }
}

static void on_delivery(struct bridge_delivery *delivery, void *ctx)
{
    struct wanted *wanted = ctx;

    wanted->packs += each_message(delivery, check_message, wanted) > 0;
    assert_int_equal(
        bridge_consumer_ack(wanted->consumer, delivery->epoch, delivery->tag, false, NULL), OBX_OK);
    bridge_delivery_free(delivery);
}

static bool all_came(void *ctx)
{
    struct wanted *wanted = ctx;

    bridge_consumer_service(wanted->consumer);
    for (size_t i = 0; i < wanted->count; i++)
        if (wanted->items[i].times < wanted->times)
            return false;
    return true;
}

/* Take messages off the rig's queue until each has come as often as wanted, and compare them. */
static void receive(struct wanted *wanted)
{
    const struct bridge_consumer_opts opts = {.bridge = wanted->rig->opts.bridge,
                                              .queue = wanted->rig->queue,
                                              .on_delivery = on_delivery,
                                              .ctx = wanted};
    bool came;

    assert_int_equal(bridge_consumer_create(&opts, &wanted->consumer, NULL), OBX_OK);
    came = wait_until(RIG_WAIT_MS, all_came, wanted);
    bridge_consumer_service(wanted->consumer);
    bridge_consumer_destroy(wanted->consumer);
    if (wanted->wrong[0] != '\0')
        fail_msg("%s", wanted->wrong);
    for (size_t i = 0; !came && i < wanted->count; i++)
        if (wanted->items[i].times < wanted->times)
            fail_msg("%s came %u times", wanted->items[i].id, wanted->items[i].times);
}

static struct expected *expect(struct wanted *wanted, const struct golden *golden, const char *way,
                               const char *content_type)
{
    struct expected *item = &wanted->items[wanted->count];

    *item = (struct expected){.golden = golden, .content_type = content_type};
    (void)snprintf(item->id, sizeof(item->id), "%s-%zu", way, wanted->count);
    wanted->count++;
    return item;
}

/* ---- the rig ---- */

static int setup(void **state)
{
    struct lane_rig *rig = NULL;

    if (rig_setup(state) != 0)
        return -1;
    rig = *state;
    for (size_t i = 0; i < sizeof(middle); i++)
        middle[i] = (unsigned char)(i * 2654435761U >> 13);
    for (size_t i = 0; i < GOLDENS; i++)
        rig_bind(rig, goldens[i].topic);
    return 0;
}

static void run(struct lane_rig *rig, const char *sql, const struct obx_value *args, size_t count)
{
    struct obx_err err = {0};

    if (db_exec(rig->db, sql, args, count, NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
}

static void insert(struct lane_rig *rig, const char *sql, const struct expected *item,
                   const char *topic)
{
    run(rig, sql,
        DB_ARGS(DB_TEXT(item->id), DB_TEXT(topic), DB_TEXT(item->golden->key), DB_TEXT(HEADERS),
                DB_BYTES(item->golden->payload)));
}

#define INTO(table, more_columns, more_values)                                                     \
    "INSERT INTO " table " (message_id, topic, ordering_key, headers, payload" more_columns        \
    ") VALUES (?, ?, ?, ?, "                                                                       \
    "?" more_values ")"

/* All goldens by one statement; the lane is started, and what it sends is compared. Returns how many
 * packs there were. */
static unsigned by_insert(struct lane_rig *rig, const char *way, const char *sql, unsigned times)
{
    struct expected items[GOLDENS];
    struct wanted wanted = {.rig = rig, .items = items, .times = times};

    for (size_t i = 0; i < GOLDENS; i++)
        insert(rig, sql, expect(&wanted, &goldens[i], way, "application/json"), goldens[i].topic);
    rig_start(rig);
    receive(&wanted);
    return wanted.packs;
}

static void outbox(void **state)
{
    (void)by_insert(*state, "outbox", INTO("outbox", "", ""), 1);
}

/* All topics by one route, so that they share packs. */
static void packed(void **state)
{
    static const struct topic_rule rule = {.pattern = "*", .routing_key = "t", .pack = 100};
    struct lane_rig *rig = *state;

    rig->opts.rules = &rule;
    rig->opts.rule_count = 1;
    assert_int_equal(by_insert(rig, "packed", INTO("outbox", "", ""), 1), 1);
}

static void delayed(void **state)
{
    (void)by_insert(*state, "delayed", INTO("outbox_delayed", ", deliver_at", ", UTC_TIMESTAMP(6)"),
                    1);
}

static void sent_again(void **state)
{
    struct lane_rig *rig = *state;

    rig->opts.receipt_queue = "rowpost.receipts.golden";
    rig->opts.receipt_timeout_ms = 100;
    (void)by_insert(rig, "again", INTO("outbox", ", receipt_from", ", 'g'"), 2);
}

/* ---- half-messages ---- */

struct api {
    struct half_store *store;
    struct half_http *front;
};

static void start_api(struct lane_rig *rig, struct api *api)
{
    static const char *const tokens[] = {TOKEN};
    struct half_store_opts store = {.db = rig->test_db.opts};
    struct half_http_opts front = {
        .tokens = tokens, .token_count = 1, .limits = {.body_bytes = LARGE_SIZE * 2}};
    struct obx_err err = {0};

    assert_int_equal(schema_migrate(rig->db, SCHEMA_HALF, NULL, NULL, &err), OBX_OK);
    assert_int_equal(half_store_create(&store, &api->store, &err), OBX_OK);
    front.store = api->store;
    assert_int_equal(half_http_create(&front, &api->front, &err), OBX_OK);
}

static void stop_api(struct api *api)
{
    half_http_stop(api->front);
    half_store_destroy(api->store);
    half_http_destroy(api->front);
}

static void add(struct obx_buf *buf, const char *text)
{
    assert_int_equal(buf_add_text(buf, text), OBX_OK);
}

static void add_string(struct obx_buf *buf, struct obx_bytes text)
{
    const unsigned char *p = text.p;

    add(buf, "\"");
    for (size_t i = 0; i < text.len; i++) {
        if (p[i] < ' ' || p[i] == '"' || p[i] == '\\')
            assert_int_equal(buf_addf(buf, "\\u%04x", p[i]), OBX_OK);
        else
            assert_int_equal(buf_add(buf, &p[i], 1), OBX_OK);
    }
    add(buf, "\"");
}

static void add_payload(struct obx_buf *body, struct obx_bytes payload, enum form form)
{
    if (form == FORM_BYTES) {
        size_t len = (payload.len + 2) / 3 * 4;

        add(body, "\"payload_base64\":\"");
        assert_int_equal(buf_reserve(body, len + 1), OBX_OK);
        EVP_EncodeBlock((unsigned char *)body->data + body->len, payload.p, (int)payload.len);
        body->len += len;
        add(body, "\"");
    } else {
        add(body, "\"payload\": ");
        if (form == FORM_TEXT)
            add_string(body, payload);
        else
            assert_int_equal(buf_add(body, payload.p, payload.len), OBX_OK);
    }
}

static void post(struct api *api, const char *path, struct obx_bytes body, long status)
{
    struct http_answer answer;
    struct http_call call = {.method = "POST",
                             .port = half_http_port(api->front),
                             .path = path,
                             .token = TOKEN,
                             .body = body.p,
                             .body_len = body.len,
                             .timeout_ms = RIG_WAIT_MS};

    http_call(&call, &answer);
    if (answer.status != status)
        fail_msg("%s: %ld %s", path, answer.status, answer.body);
}

static void prepare_and_commit(struct api *api, const struct expected *item, enum form form)
{
    struct obx_buf body = {0};
    char path[200];

    assert_int_equal(buf_addf(&body,
                              "{\"gid\":\"%s\",\"producer\":\"orders\",\"commit\":[{\"message_id\":"
                              "\"%s\",\"headers\":%s , ",
                              item->id, item->id, HEADERS),
                     OBX_OK);
    add_payload(&body, item->golden->payload, form);
    add(&body, " , \"topic\":");
    add_string(&body, bytes_of(item->golden->topic));
    if (item->golden->key != NULL) {
        add(&body, ",\"ordering_key\":");
        add_string(&body, bytes_of(item->golden->key));
    }
    add(&body, "}]}");
    post(api, "/v1/half-messages", buf_bytes(&body), 201);
    buf_fini(&body);
    (void)snprintf(path, sizeof(path), "/v1/half-messages/%s/commit", item->id);
    post(api, path, bytes_of(""), 200);
}

static const char *type_of(enum form form)
{
    return form == FORM_JSON   ? "application/json"
           : form == FORM_TEXT ? "text/plain; charset=utf-8"
                               : "application/octet-stream";
}

static void half_by_http(void **state)
{
    struct lane_rig *rig = *state;
    struct expected items[GOLDENS * 3];
    struct wanted wanted = {.rig = rig, .items = items, .times = 1};
    struct api api;

    start_api(rig, &api);
    for (size_t i = 0; i < GOLDENS; i++)
        for (unsigned form = FORM_JSON; form <= FORM_BYTES; form *= 2)
            if ((goldens[i].forms & form) != 0)
                prepare_and_commit(&api, expect(&wanted, &goldens[i], "http", type_of(form)), form);
    rig_start(rig);
    receive(&wanted);
    stop_api(&api);
}

/* As docs/half-messages.md has it; half_sql_test runs the page's own blocks. */
static void half_by_sql(void **state)
{
    struct lane_rig *rig = *state;
    struct expected items[GOLDENS];
    struct wanted wanted = {.rig = rig, .items = items, .times = 1};
    struct obx_err err = {0};

    assert_int_equal(schema_migrate(rig->db, SCHEMA_HALF, NULL, NULL, &err), OBX_OK);
    for (size_t i = 0; i < GOLDENS; i++)
        insert(rig, INTO("half_part", ", gid", ", UUID()"),
               expect(&wanted, &goldens[i], "sql", "application/json"), goldens[i].topic);
    rig_run(rig, "INSERT INTO outbox (message_id, topic, ordering_key, headers, content_type,"
                 " payload, receipt_from, on_rejected)"
                 " SELECT message_id, topic, ordering_key, headers, content_type, payload,"
                 " receipt_from, on_rejected FROM half_part");
    rig_start(rig);
    receive(&wanted);
}

/* ---- parked and resumed ---- */

static void parked_and_resumed(void **state)
{
    struct lane_rig *rig = *state;
    static struct golden lost[GOLDENS];
    struct expected items[GOLDENS];
    struct wanted wanted = {.rig = rig, .items = items, .times = 1};

    rig->opts.max_attempts = 1;
    for (size_t i = 0; i < GOLDENS; i++) {
        lost[i] = goldens[i];
        lost[i].topic = UNBOUND;
        insert(rig, INTO("outbox", "", ""), expect(&wanted, &lost[i], "parked", "application/json"),
               UNBOUND);
    }
    rig_start(rig);
    rig_wait_number(rig, GOLDENS, "SELECT COUNT(*) FROM outbox_parked");
    rig_bind(rig, UNBOUND);
    rig_run(rig, "UPDATE outbox_parked SET request = 'resume', requested_at = UTC_TIMESTAMP(6),"
                 " requested_by = 'test'");
    receive(&wanted);
}

/* ---- dead and replayed ---- */

/* A handler that rejects everything once, and compares what it is given each time. Runs on the
 * consumer's threads, so a difference is kept for the test's own. */
struct bin {
    struct wanted wanted;
    pthread_mutex_t lock;
    unsigned rounds; /* after so many it is applied */
    const struct obx_bytes
        *edited; /* what the payload is from the second time on; NULL: the same */
};

static void check_given(struct bin *bin, const struct obx_message *msg, struct expected *item)
{
    struct wanted *wanted = &bin->wanted;
    const char *const(*headers)[2] = header_values;

    check_bytes(wanted, item, "payload",
                item->times > 1 && bin->edited != NULL ? *bin->edited : item->golden->payload,
                msg->body);
    check_bytes(wanted, item, "topic", bytes_of(item->golden->topic), msg->topic);
    check_bytes(wanted, item, "key", bytes_of(item->golden->key), msg->ordering_key);
    check_bytes(wanted, item, "content type", bytes_of(item->content_type), msg->content_type);
    for (; (*headers)[0] != NULL; headers++) {
        const struct obx_header *header = obx_message_header(msg, (*headers)[0]);
        char came[SQL_SIZE] = "not there";

        if (header != NULL)
            describe(came, sizeof(came),
                     header->type == OBX_H_TEXT   ? OBX_H_TEXT
                     : header->type == OBX_H_I64  ? OBX_H_I64
                     : header->type == OBX_H_F64  ? OBX_H_F64
                     : header->type == OBX_H_BOOL ? OBX_H_BOOL
                                                  : OBX_H_NULL,
                     header->v.text, header->v.i64, header->v.f64,
                     header->type == OBX_H_BOOL && header->v.yes);
        check_header(wanted, item, (*headers)[0], (*headers)[1], came);
    }
}

static enum obx_verdict handle(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct bin *bin = ctx;
    struct expected *item = find_expected(&bin->wanted, msg->message_id);
    enum obx_verdict verdict = OBX_APPLIED;

    (void)tx;
    if (item == NULL)
        return OBX_APPLIED;
    pthread_mutex_lock(&bin->lock);
    item->times++;
    check_given(bin, msg, item);
    if (item->times < bin->rounds)
        verdict = OBX_REJECT;
    pthread_mutex_unlock(&bin->lock);
    return verdict;
}

static struct obx_consumer *start_consumer(struct lane_rig *rig, struct bin *bin)
{
    const struct obx_consumer_opts opts =
        consumer_opts(&rig->broker, &rig->test_db.opts, "golden", rig->queue);
    struct obx_consumer *consumer = NULL;
    struct obx_err err = {0};

    if (schema_migrate(rig->db, SCHEMA_CONSUMER, NULL, NULL, &err) != OBX_OK ||
        obx_consumer_open(&opts, &consumer, &err) != OBX_OK ||
        obx_consumer_subscribe(consumer, handle, bin, &err) != OBX_OK ||
        obx_consumer_start(consumer, &err) != OBX_OK)
        fail_msg("consumer: %s", err.text);
    return consumer;
}

static void stop_consumer(struct obx_consumer *consumer, const struct bin *bin)
{
    struct obx_err err = {0};

    if (obx_consumer_drain(consumer, RIG_WAIT_MS, &err) != OBX_OK)
        fail_msg("drain: %s", err.text);
    obx_consumer_close(consumer);
    if (bin->wanted.wrong[0] != '\0')
        fail_msg("%s", bin->wanted.wrong);
}

#define DEAD "SELECT COUNT(*) FROM inbox_parked WHERE state = 'dead' AND request IS NULL"
#define LEFT "SELECT COUNT(*) FROM inbox_parked"
#define REPLAY                                                                                     \
    "UPDATE inbox_parked SET request = 'replay', requested_at = UTC_TIMESTAMP(6), requested_by = " \
    "'test', next_at = UTC_TIMESTAMP(6)"

static void dead_and_replayed(void **state)
{
    struct lane_rig *rig = *state;
    static struct golden single[GOLDENS];
    struct expected items[GOLDENS];
    struct bin bin = {.wanted = {.rig = rig, .items = items}, .rounds = 2};
    struct obx_consumer *consumer = NULL;
    char keys[GOLDENS][TEXT_SIZE];

    pthread_mutex_init(&bin.lock, NULL);
    for (size_t i = 0; i < GOLDENS; i++) {
        /* Keys of their own: behind a dead one the next of its key would wait. */
        single[i] = goldens[i];
        if (goldens[i].key != NULL) {
            (void)snprintf(keys[i], sizeof(keys[i]), "%zu%s", i, goldens[i].key);
            single[i].key = keys[i];
        }
        insert(rig, INTO("outbox", "", ""),
               expect(&bin.wanted, &single[i], "dead", "application/json"), single[i].topic);
    }
    rig_start(rig);
    rig_wait_empty(rig);
    consumer = start_consumer(rig, &bin);
    rig_wait_number(rig, GOLDENS, DEAD);
    rig_run(rig, REPLAY);
    rig_wait_number(rig, 0, LEFT);
    stop_consumer(consumer, &bin);
    for (size_t i = 0; i < GOLDENS; i++)
        assert_int_equal(items[i].times, 2);
    pthread_mutex_destroy(&bin.lock);
}

/* `outboxctl dead edit-replay --body FILE`: the file's bytes, and everything else as it was. */
static void edited_by_an_operator(void **state)
{
    static const char body[] = "{ \"total\": 12.50,\0\xff \"n\": 0.10 }\n";
    static const struct obx_bytes edited = {body, sizeof(body) - 1};
    struct lane_rig *rig = *state;
    struct expected items[1];
    struct bin bin = {.wanted = {.rig = rig, .items = items}, .rounds = 2, .edited = &edited};
    struct obx_consumer *consumer = NULL;
    char path[] = "golden_body.XXXXXX";
    char url[600];
    char id[32];
    const char *argv[] = {GOLDEN_OUTBOXCTL, "--db", url,      "dead", "edit-replay", id,
                          "--body",         path,   "--note", "typo", NULL};
    const struct proc_opts opts = {.argv = argv};
    struct proc_exit how = {0};
    int fd = mkstemp(path);

    assert_true(fd >= 0 && write(fd, body, edited.len) == (ssize_t)edited.len);
    close(fd);
    pthread_mutex_init(&bin.lock, NULL);
    insert(rig, INTO("outbox", "", ""),
           expect(&bin.wanted, &goldens[0], "edit", "application/json"), goldens[0].topic);
    rig_start(rig);
    rig_wait_empty(rig);
    consumer = start_consumer(rig, &bin);
    rig_wait_number(rig, 1, DEAD);
    (void)snprintf(url, sizeof(url), "mysql://%s:%s@%s:%u/%s", rig->test_db.opts.user,
                   rig->test_db.opts.password, rig->test_db.opts.host, rig->test_db.opts.port,
                   rig->test_db.opts.database);
    (void)snprintf(id, sizeof(id), "%llu",
                   (unsigned long long)rig_number(rig, "SELECT id FROM inbox_parked"));
    assert_true(proc_run(&opts, RIG_WAIT_MS, &how) && how.code == 0);
    rig_wait_number(rig, 0, LEFT);
    stop_consumer(consumer, &bin);
    assert_int_equal(items[0].times, 2);
    pthread_mutex_destroy(&bin.lock);
    (void)unlink(path);
}

/* ---- large ones ---- */

/* Each way of storing a large one once: outbox, half-message by HTTP, dead. */
static void large_ones(void **state)
{
    struct lane_rig *rig = *state;
    unsigned char *bytes = malloc(LARGE_SIZE);
    struct golden large = {"large", "t", NULL, {bytes, LARGE_SIZE}, FORM_BYTES};
    struct expected items[2];
    struct bin bin = {.wanted = {.rig = rig, .items = items}, .rounds = 2};
    struct obx_consumer *consumer = NULL;
    struct api api;

    assert_non_null(bytes);
    for (size_t i = 0; i < LARGE_SIZE; i++)
        bytes[i] = (unsigned char)(i * 2654435761U >> 11);
    pthread_mutex_init(&bin.lock, NULL);
    insert(rig, INTO("outbox", "", ""), expect(&bin.wanted, &large, "large", "application/json"),
           "t");
    start_api(rig, &api);
    prepare_and_commit(&api, expect(&bin.wanted, &large, "large-half", "application/octet-stream"),
                       FORM_BYTES);
    stop_api(&api);
    rig_start(rig);
    rig_wait_empty(rig);
    consumer = start_consumer(rig, &bin);
    rig_wait_number(rig, 2, DEAD);
    rig_run(rig, REPLAY);
    rig_wait_number(rig, 0, LEFT);
    stop_consumer(consumer, &bin);
    assert_int_equal(items[0].times, 2);
    assert_int_equal(items[1].times, 2);
    pthread_mutex_destroy(&bin.lock);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(outbox, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(packed, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(delayed, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(sent_again, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(half_by_http, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(half_by_sql, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(parked_and_resumed, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(dead_and_replayed, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(edited_by_an_operator, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(large_ones, setup, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
