/*
 * What holds for every command of outboxctl, whichever it is: --json, exit statuses in its help, one
 * name for one thing in JSON; and for every list: what it reads does not grow with its table.
 * OBX_TEST_ROWS=1000000 for large tables, by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "ops/request.h"
#include "outboxctl/ctl_args.h"
#include "outboxctl/print/resource_page.h"
#include "process.h"
#include "sql/schema.h"
#include "test_db.h"

enum { ROWS = 20000, FEW = 51, TIMEOUT_MS = 60000, OUTPUT_MAX = 65536 };

static struct {
    struct test_db database;
    struct db *db;
    struct target target;
    char password_file[96], log[96], url[256];
    uint64_t rows;
} rig;

/* ---- set-up ---- */

/* As rows n of the table numbers. */
static const char *const fills[] = {
    /* Two frozen keys with many followers, and a key that is rare. */
    "INSERT INTO outbox_parked (outbox, id, message_id, topic, ordering_key, content_type, payload,"
    " created_at, reason_code, holds_key, blocked_by) SELECT IF(n % 2, 'outbox', 'outbox_b'), n,"
    " CONCAT('p-', n), 't', IF(n % 1000 = 999, 'rare', 'hot'), 'c', 'x', UTC_TIMESTAMP(6), 'r',"
    " n < 3, IF(n < 3, NULL, 2 - n % 2) FROM numbers",
    "INSERT INTO outbox_audit (action, actor, note, outbox, id, message_id, topic, reason_code)"
    " SELECT 'discard', 'a', 'n', 'outbox', n, CONCAT('p-', n), 't', 'r' FROM numbers",
    "INSERT INTO inbox_parked (consumer_group, message_id, ordering_key, lane, state, reason_code,"
    " replay_until, queue, topic, properties, body, size, is_reported) SELECT IF(n % 2, 'g', 'h'),"
    " CONCAT('d-', n), IF(n % 1000 = 999, 'rare', 'hot'), 1, 'dead', 'r', UTC_TIMESTAMP(6), 'q',"
    " 't', 'a=b', 'x', 1, n % 3 = 0 FROM numbers",
    "INSERT INTO inbox_audit (action, actor, note, consumer_group, parked_id, message_id, topic,"
    " reason_code) SELECT 'discard', 'a', 'n', 'g', n, CONCAT('d-', n), 't', 'r' FROM numbers",
    "INSERT INTO inbox_call (consumer_group, endpoint, state, message_id, topic, body) SELECT 'g',"
    " CONCAT('e', n % 3), IF(n % 1000 = 999, 'given_up', 'delivered'), CONCAT('c-', n), 't', 'x'"
    " FROM numbers",
    /* A backlog without keys in one queue; in the other a frozen key with many followers, dead ones in
     * great number, one that was replayed. */
    "INSERT INTO inbox (id, queue, state, due_at, key_hash, after_id, message_id, topic,"
    " ordering_key, reason_code, size, payload) SELECT n, IF(n % 2, 'q', 'r'), CASE WHEN n % 2 THEN"
    " 'ready' WHEN n % 4 THEN 'dead' ELSE 'blocked' END, IF(n % 2, UTC_TIMESTAMP(6), NULL), IF(n % "
    "4,"
    " NULL, UNHEX(LEFT(SHA2(IF(n % 1000, 'hot', 'rare'), 256), 32))), n - 1, CONCAT('i-', n), 't',"
    " IF(n % 4, NULL, IF(n % 1000, 'hot', 'rare')), 'r', 1, 'x' FROM numbers",
    "UPDATE inbox SET state = 'ready', due_at = UTC_TIMESTAMP(6) WHERE id = 19998",
    /* Mostly decided, and more parked than anybody can look at; in the order of their times, so that
     * what is parked comes last, which is how an outage leaves it. */
    "INSERT INTO half_message (gid, producer, state, next_check_at) SELECT CONCAT('h-', LPAD(n, 9,"
    " '0')), CONCAT('p', n % 5), IF(n > 10000, 'parked', IF(n % 1000 = 999, 'rolled_back',"
    " 'committed')), NULL FROM numbers",
    "INSERT INTO half_message (gid, producer, state) VALUES ('a-0', 'p1', 'prepared')",
    "INSERT INTO half_part (gid, topic, payload) VALUES ('a-0', 't', 'x')",
    "INSERT INTO half_history (gid, event, actor) VALUES ('a-0', 'asked', 'check')",
};

static void fill(void)
{
    char sql[64];

    test_db_run(rig.db, "CREATE TABLE numbers (n BIGINT PRIMARY KEY)");
    test_db_run(rig.db, "INSERT INTO numbers VALUES (1)");
    for (uint64_t have = 1; have < rig.rows; have *= 2)
        test_db_run(rig.db, "INSERT INTO numbers SELECT n + (SELECT MAX(n) FROM (SELECT n FROM"
                            " numbers) AS m) FROM numbers");
    snprintf(sql, sizeof(sql), "DELETE FROM numbers WHERE n > %llu", (unsigned long long)rig.rows);
    test_db_run(rig.db, sql);
    for (size_t i = 0; i < sizeof(fills) / sizeof(fills[0]); i++)
        test_db_run(rig.db, fills[i]);
    test_db_run(rig.db, "ANALYZE TABLE outbox_parked, outbox_audit, inbox_parked, inbox_audit,"
                        " inbox_call, half_message, inbox");
}

static int setup(void **state)
{
    static const enum schema_side sides[] = {SCHEMA_PRODUCER, SCHEMA_CONSUMER, SCHEMA_HALF,
                                             SCHEMA_NOTIFY,   SCHEMA_BARRIER,  SCHEMA_INBOX};
    const char *rows = getenv("OBX_TEST_ROWS");
    struct obx_err err = {0};
    FILE *file;

    (void)state;
    rig.rows = rows == NULL ? ROWS : strtoull(rows, NULL, 10);
    test_db_create(&rig.database, "ctlres");
    rig.db = test_db_open(&rig.database.opts);
    for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++)
        assert_int_equal(schema_migrate(rig.db, sides[i], NULL, NULL, &err), OBX_OK);
    fill();
    rig.target = (struct target){.source = "shop"};
    snprintf(rig.password_file, sizeof(rig.password_file), "ctl_resources.%s.pw",
             rig.database.name);
    snprintf(rig.log, sizeof(rig.log), "ctl_resources.%s.out", rig.database.name);
    snprintf(rig.url, sizeof(rig.url), "mysql://%s@%s:%u/%s", rig.database.opts.user,
             rig.database.opts.host, (unsigned)rig.database.opts.port, rig.database.name);
    file = fopen(rig.password_file, "w");
    assert_non_null(file);
    fprintf(file, "%s\n", rig.database.opts.password);
    assert_int_equal(fclose(file), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    db_close(rig.db);
    test_db_drop(&rig.database);
    (void)remove(rig.password_file);
    (void)remove(rig.log);
    db_thread_end();
    return 0;
}

/* The exit status of the program with a command's words and some more; what it printed is in out. */
static int run(const char *command, const char *const *more, char *out)
{
    char words[64];
    const char *argv[32] = {CTL_PROGRAM};
    const struct proc_opts opts = {.argv = argv, .log_path = rig.log};
    struct proc_exit how = {0};
    size_t count = 1, len = 0;
    char *save = NULL;
    FILE *file;

    snprintf(words, sizeof(words), "%s", command);
    for (char *word = strtok_r(words, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
        argv[count++] = word;
    for (; *more != NULL; more++)
        argv[count++] = *more;
    (void)remove(rig.log);
    assert_true(proc_run(&opts, TIMEOUT_MS, &how));
    file = fopen(rig.log, "r");
    assert_non_null(file);
    len = fread(out, 1, OUTPUT_MAX - 1, file);
    out[len] = '\0';
    (void)fclose(file);
    return how.code;
}
#define DATABASE   "--db", rig.url, "--password-file", rig.password_file
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ---- the command line ---- */

static void every_command_has_json_and_states_its_exit_statuses(void **state)
{
    static char out[OUTPUT_MAX];
    size_t count = 0;

    (void)state;
    for (const struct ctl_command *at = ctl_command_next(NULL); at != NULL;
         at = ctl_command_next(at), count++) {
        assert_int_equal(run(at->name, WORDS("--help"), out), 0);
        if ((at->options & CTL_BIT(JSON)) == 0 || strstr(out, "\n  --json ") == NULL ||
            strstr(out, "\nexit status: 0 ") == NULL || strstr(out, "2 wrong command line") == NULL)
            fail_msg("%s --help: %s", at->name, out);
        assert_non_null(strstr(out, at->name));
        assert_true(run(at->name, WORDS("--no-such-option"), out) == 2);
    }
    assert_true(count >= 31);
}

/* An option that a command takes is explained by its help, and no other is. */
static void every_help_explains_its_options(void **state)
{
    static const char *const names[] = {
#define NAME_OF(id, name, value, help) "\n  --" name " ",
        CTL_OPTIONS(NAME_OF)};
    static char out[OUTPUT_MAX];
    const uint64_t of_all = CTL_TARGET | CTL_BIT(HELP);

    (void)state;
    for (const struct ctl_command *at = ctl_command_next(NULL); at != NULL;
         at = ctl_command_next(at)) {
        assert_int_equal(run(at->name, WORDS("--help"), out), 0);
        for (unsigned i = 0; i < CTL_OPTION_COUNT; i++) {
            bool is_its_own = (at->options >> i & 1U) != 0;

            if ((of_all >> i & 1U) == 0 && is_its_own != (strstr(out, names[i]) != NULL))
                fail_msg("%s: --%s", at->name, names[i]);
        }
    }
}

/* ---- names ---- */

/* Every resource that has a list. */
#define EACH_LIST(at)                                                                              \
    for (const struct ctl_command *at = ctl_command_next(NULL); at != NULL;                        \
         at = ctl_command_next(at))                                                                \
        if (at->run == resource_list)

/* The names that scripts may rely on; a new one is added here, none is changed. */
static const char *const vocabulary[] = {"action",
                                         "age_ms",
                                         "at",
                                         "attempts",
                                         "actor",
                                         "blocked_by",
                                         "checks_answered",
                                         "checks_asked",
                                         "content_type",
                                         "created_at",
                                         "decided_at",
                                         "decided_by",
                                         "detail",
                                         "done_at",
                                         "due_at",
                                         "endpoint",
                                         "event",
                                         "exchange",
                                         "first_failed_at",
                                         "followers",
                                         "followers_capped",
                                         "gid",
                                         "group",
                                         "headers",
                                         "history",
                                         "holds_key",
                                         "id",
                                         "is_edited",
                                         "is_paused",
                                         "is_reported",
                                         "is_too_old",
                                         "last_at",
                                         "last_failed_at",
                                         "last_status",
                                         "max_attempts",
                                         "message_id",
                                         "message_source",
                                         "messages",
                                         "next_at",
                                         "next_check_at",
                                         "note",
                                         "on",
                                         "ordering_key",
                                         "outbox",
                                         "parked_at",
                                         "parked_id",
                                         "pause_note",
                                         "payload",
                                         "payload_bytes",
                                         "pieces",
                                         "prepared_at",
                                         "producer",
                                         "properties",
                                         "queue",
                                         "reason",
                                         "reason_code",
                                         "receipt_to",
                                         "received_at",
                                         "recorded_at",
                                         "replay_until",
                                         "replays",
                                         "request",
                                         "requested_at",
                                         "requested_by",
                                         "routing_key",
                                         "row_id",
                                         "size_bytes",
                                         "source",
                                         "state",
                                         "topic",
                                         "traceparent"};

static bool is_known(const char *name)
{
    for (size_t i = 0; i < sizeof(vocabulary) / sizeof(vocabulary[0]); i++)
        if (strcmp(vocabulary[i], name) == 0)
            return true;
    return false;
}

/* Names of an object, and of what is in it: known, and of the same type wherever they are met. */
static void check_object(const char *command, json_t *object, json_t *types)
{
    const char *name;
    json_t *value;

    json_object_foreach(object, name, value)
    {
        const json_t *before = json_object_get(types, name);
        size_t i;
        json_t *item;

        if (!is_known(name))
            fail_msg("%s: the name %s is in no list", command, name);
        json_array_foreach(value, i, item) check_object(command, item, types);
        if (json_is_null(value))
            continue;
        if (before != NULL && json_typeof(value) != json_integer_value(before) &&
            !(json_is_boolean(value) && json_integer_value(before) == JSON_TRUE))
            fail_msg("%s: %s has another type than elsewhere", command, name);
        json_object_set_new(types, name,
                            json_integer(json_is_boolean(value) ? JSON_TRUE : json_typeof(value)));
        if (strlen(name) > 3 && strcmp(name + strlen(name) - 3, "_at") == 0)
            assert_int_equal(strlen(json_string_value(value)), 27); /* RFC 3339, UTC */
    }
}

static json_t *parse(const char *command, const char *text)
{
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);

    if (root == NULL)
        fail_msg("%s: %s\n%s", command, error.text, text);
    return root;
}

static void check_list(const struct ctl_command *at, json_t *types, char *key)
{
    static char out[OUTPUT_MAX];
    json_t *root, *item;
    size_t i;

    assert_int_equal(run(at->name, WORDS("--json", "--limit", "3", DATABASE), out), 0);
    root = parse(at->name, out);
    assert_int_equal(json_object_size(root), 2);
    assert_int_equal(json_array_size(json_object_get(root, "items")), 3);
    json_array_foreach(json_object_get(root, "items"), i, item) check_object(at->name, item, types);
    assert_true(json_is_string(json_object_get(root, "next")));
    snprintf(key, 32, "%s", json_string_value(json_object_get(root, "next")));
    json_decref(root);
    /* The next page begins after it; the last one says that it is. */
    assert_int_equal(run(at->name, WORDS("--json", "--limit", "3", "--after", key, DATABASE), out),
                     0);
    root = parse(at->name, out);
    assert_int_equal(json_array_size(json_object_get(root, "items")), 3);
    assert_true(strcmp(json_string_value(json_object_get(root, "next")), key) != 0);
    json_decref(root);
}

static void json_has_one_name_for_one_thing(void **state)
{
    static char out[OUTPUT_MAX];
    json_t *types = json_object();
    json_t *root = NULL;
    char key[32];

    (void)state;
    EACH_LIST(at)
    {
        check_list(at, types, key);
        for (const struct ctl_command *show = ctl_command_next(NULL); show != NULL;
             show = ctl_command_next(show)) {
            if (show->run != resource_show || show->subject != at->subject)
                continue;
            assert_int_equal(run(show->name, WORDS(key, "--json", DATABASE), out), 0);
            root = parse(show->name, out);
            check_object(show->name, root, types);
            json_decref(root);
        }
    }
    assert_int_equal(run("half show", WORDS("a-0", "--json", DATABASE), out), 0);
    root = parse("half show", out);
    check_object("half show", root, types);
    json_decref(root);
    json_decref(types);
}

/* What came of a request has one form, too, whether anything did or not. */
static void reports_have_one_form(void **state)
{
    static const char *const commands[][6] = {
        {"parked resume", "999999999"},
        {"parked discard", "999999999", "--note", "n"},
        {"dead replay", "999999999"},
        {"dead discard", "999999999", "--note", "n"},
        {"inbox replay", "999999999"},
        {"inbox discard", "999999999", "--note", "n"},
        {"notify resend", "999999999"},
        {"half commit", "none", "--note", "n"},
        {"half rollback", "none", "--note", "n"},
        {"half resume", "none", "--note", "n"},
    };
    static char out[OUTPUT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        const char *const *words = commands[i];
        const char *more[16] = {words[1], "--json", DATABASE, words[2], words[3], NULL};
        const json_t *item;
        json_t *root;

        assert_int_equal(run(words[0], more, out), 1);
        root = parse(words[0], out);
        assert_int_equal(json_object_size(root), 5);
        assert_int_equal(json_integer_value(json_object_get(root, "found")), 1);
        assert_int_equal(json_integer_value(json_object_get(root, "done")), 0);
        assert_int_equal(json_integer_value(json_object_get(root, "requested")), 0);
        assert_int_equal(json_integer_value(json_object_get(root, "refused")), 1);
        item = json_array_get(json_object_get(root, "items"), 0);
        assert_string_equal(json_string_value(json_object_get(item, "result")), "refused");
        assert_true(json_is_string(json_object_get(item, "note")));
        json_decref(root);
    }
}

/* ---- what lists read ---- */

struct look {
    const char *command;
    enum ctl_option options[3]; /* CTL_OPTION_COUNT: no more */
    const char *values[3];
    uint64_t found; /* rows of its first page */
};
#define NONE CTL_OPTION_COUNT

static const struct look looks[] = {
    {"parked list", {NONE}, {NULL}, FEW},
    {"parked list", {CTL_OUTBOX, NONE}, {"outbox_b"}, FEW},
    {"parked list", {CTL_KEY, NONE}, {"hot"}, FEW},
    {"parked list", {CTL_KEY, NONE}, {"rare"}, 20},
    {"parked list", {CTL_KEY, CTL_OUTBOX, NONE}, {"rare", "outbox"}, 20},
    {"parked list", {CTL_KEY, NONE}, {"none"}, 0},
    {"parked history", {NONE}, {NULL}, FEW},
    {"parked history", {CTL_MESSAGE, NONE}, {"p-77"}, 1},
    {"dead list", {NONE}, {NULL}, FEW},
    {"dead list", {CTL_GROUP, NONE}, {"h"}, FEW},
    {"dead list", {CTL_KEY, NONE}, {"hot"}, FEW},
    {"dead list", {CTL_KEY, NONE}, {"rare"}, 20},
    {"dead history", {NONE}, {NULL}, FEW},
    {"dead history", {CTL_MESSAGE, NONE}, {"d-77"}, 1},
    {"inbox list", {NONE}, {NULL}, FEW},
    {"inbox list", {CTL_QUEUE, NONE}, {"r"}, FEW},
    {"inbox list", {CTL_QUEUE, NONE}, {"q"}, 0},
    {"inbox list", {CTL_STATE, NONE}, {"blocked"}, FEW},
    {"inbox list", {CTL_STATE, NONE}, {"ready"}, FEW},
    {"inbox list", {CTL_STATE, CTL_QUEUE, NONE}, {"ready", "r"}, 1},
    {"inbox list", {CTL_STATE, NONE}, {"done"}, 0},
    {"inbox list", {CTL_STATE, NONE}, {"kept"}, 0},
    {"inbox list", {CTL_STATE, NONE}, {"any"}, FEW},
    {"inbox list", {CTL_STATE, CTL_KEY, NONE}, {"blocked", "hot"}, FEW},
    {"inbox list", {CTL_STATE, CTL_KEY, NONE}, {"blocked", "rare"}, 20},
    {"notify list", {NONE}, {NULL}, FEW},
    {"notify list", {CTL_STATE, NONE}, {"given_up"}, 20},
    {"notify list", {CTL_STATE, NONE}, {"waiting"}, 0},
    {"notify list", {CTL_STATE, CTL_ENDPOINT, NONE}, {"given_up", "e0"}, 7},
    {"notify list", {CTL_MESSAGE, NONE}, {"c-77"}, 1},
    {"half list", {NONE}, {NULL}, FEW}, /* the parked ones */
    {"half list", {CTL_PRODUCER, NONE}, {"p2"}, FEW},
    {"half list", {CTL_STATE, NONE}, {"committed"}, FEW},
    {"half list", {CTL_STATE, NONE}, {"rolled_back"}, 10},
    {"half list", {CTL_STATE, NONE}, {"prepared"}, 1},
    {"half list", {CTL_STATE, NONE}, {"any"}, FEW},
    {"half list", {CTL_AFTER, NONE}, {"h-000015000"}, FEW},
};

static const struct ctl_command *find(const char *name)
{
    const struct ctl_command *at = ctl_command_next(NULL);

    while (at != NULL && strcmp(at->name, name) != 0)
        at = ctl_command_next(at);
    assert_non_null(at);
    return at;
}

/* A page costs what is on it, times a few for what is merged; as few when nothing fits. */
static void lists_read_what_they_show(void **state)
{
    const uint64_t bound = 40 * FEW;

    (void)state;
    for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++) {
        const struct look *look = &looks[i];
        struct ctl_args args = {.command = find(look->command)};
        struct session session = {
            .args = &args, .resource = args.command->subject, .target = &rig.target, .db = rig.db};
        struct selection selection = {.limit = FEW, .is_page = true};
        struct db_rows *rows = NULL;
        struct obx_err err = {0};
        uint64_t before, read, found;

        for (size_t k = 0; look->options[k] != NONE; k++)
            args.text[look->options[k]] = look->values[k];
        selection.after = args.text[CTL_AFTER];
        if (session.resource->states != NULL)
            assert_true(resource_state(&args, session.resource, &selection.state));
        before = test_db_rows_read(rig.db);
        if (resource_select(&session, &selection, &rows, &err) != OBX_OK)
            fail_msg("%s", err.text);
        read = test_db_rows_read(rig.db) - before;
        found = db_rows_count(rows);
        print_message("%6llu of %llu  %s %s\n", (unsigned long long)read, (unsigned long long)bound,
                      look->command, look->values[0] == NULL ? "" : look->values[0]);
        if (found != look->found && rig.rows == ROWS)
            fail_msg("%s %s: %llu rows", look->command, look->values[0], (unsigned long long)found);
        if (read > bound)
            fail_msg("%s %s: %llu rows read", look->command, look->values[0],
                     (unsigned long long)read);
        db_rows_free(rows);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_has_json_and_states_its_exit_statuses),
        cmocka_unit_test(every_help_explains_its_options),
        cmocka_unit_test(json_has_one_name_for_one_thing),
        cmocka_unit_test(reports_have_one_form),
        cmocka_unit_test(lists_read_what_they_show),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
