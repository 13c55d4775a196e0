/*
 * System tests of the rights in sql/schema/grants.md: each account can do all of its work with
 * them, and nothing of what it has no business with. The accounts are made from the page itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "sql/schema.h"
#include "test_db.h"

static struct test_db test;
static struct test_user user;
static struct db *admin; /* may do everything in the database */
static struct db *db;    /* the account under test */
static struct obx_err err;

static const enum schema_side sides[] = {SCHEMA_PRODUCER, SCHEMA_CONSUMER, SCHEMA_HALF,
                                         SCHEMA_BARRIER,  SCHEMA_NOTIFY,   SCHEMA_JOURNAL,
                                         SCHEMA_INBOX};
enum { SIDES = sizeof(sides) / sizeof(sides[0]) };

static int make_database(void **state)
{
    (void)state;
    obx_err_clear(&err);
    test_db_create(&test, "grants");
    admin = test_db_open(&test.opts);
    return 0;
}

static int drop_database(void **state)
{
    (void)state;
    db_close(db);
    db_close(admin);
    db = NULL;
    test_user_drop(&user);
    test_db_drop(&test);
    return 0;
}

static void migrate(struct db *on)
{
    for (size_t i = 0; i < SIDES; i++) {
        if (schema_migrate(on, sides[i], NULL, NULL, &err) != OBX_OK)
            fail_msg("%s: %s", schema_side_name(sides[i]), err.text);
    }
}

static void become(const char *role)
{
    test_user_create(&user, &test, role);
    db = test_db_open(&user.opts);
}

static void allowed(const char *const *statements, size_t count)
{
    for (size_t i = 0; i < count; i++)
        test_db_run(db, statements[i]);
}

static void denied(const char *const *statements, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        enum obx_code code = db_exec(db, statements[i], DB_NO_ARGS, NULL, &err);

        if (code != OBX_E_DB_DENIED)
            fail_msg("%s: %s", statements[i], code == OBX_OK ? "not denied" : err.text);
    }
}

#define ALLOWED(...)                                                                               \
    allowed((const char *const[]){__VA_ARGS__},                                                    \
            sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))
#define DENIED(...)                                                                                \
    denied((const char *const[]){__VA_ARGS__},                                                     \
           sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static void rights_to_migrate(void **state)
{
    (void)state;
    become("migrate");
    migrate(db);
    migrate(db);
    assert_int_equal(schema_add_outbox(db, "outbox_bulk", &err), OBX_OK);
    for (size_t i = 0; i < SIDES; i++)
        assert_int_equal(schema_check(db, sides[i], &err), OBX_OK);
    DENIED("INSERT INTO outbox (topic, payload) VALUES ('t', 'p')", "DELETE FROM outbox",
           "SELECT payload FROM outbox_parked", "SELECT gid FROM half_message",
           "DELETE FROM rowpost_schema", "DROP TABLE outbox");
}

static void rights_of_the_relay(void **state)
{
    (void)state;
    migrate(admin);
    test_db_run(admin, "CREATE TABLE orders (id INT PRIMARY KEY)");
    test_db_run(admin, "INSERT INTO outbox (topic, payload) VALUES ('t', 'p'), ('t', 'p'), "
                       "('t', 'p'), ('t', 'p'), ('t', 'p')");
    become("relay");
    assert_int_equal(schema_check(db, SCHEMA_PRODUCER, &err), OBX_OK);
    assert_int_equal(schema_check(db, SCHEMA_HALF, &err), OBX_OK);
    ALLOWED(
        "INSERT INTO outbox_lease (outbox, owner, epoch, expires_at) VALUES ('outbox', 'me', 1, "
        "UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE epoch = epoch + 1",
        "START TRANSACTION", "SELECT epoch FROM outbox_lease WHERE outbox = 'outbox' FOR UPDATE",
        "UPDATE outbox_lease SET expires_at = UTC_TIMESTAMP(6) + INTERVAL 10 SECOND "
        "WHERE outbox = 'outbox' AND owner = 'me' AND epoch = 1",
        "SELECT id, message_id, topic, ordering_key, headers, content_type, payload, created_at "
        "FROM outbox WHERE id > 0 ORDER BY id LIMIT 1000",
        "DELETE FROM outbox WHERE id IN (1)", "DELETE FROM outbox WHERE id BETWEEN 2 AND 2",
        "DELETE o FROM (SELECT 3 AS id) k JOIN outbox o ON o.id = k.id",
        "INSERT INTO outbox_parked (outbox, id, message_id, topic, ordering_key, headers, "
        "content_type, payload, created_at, reason_code) SELECT 'outbox', id, message_id, topic, "
        "ordering_key, headers, content_type, payload, created_at, 'OBX_E_FORMAT' FROM outbox",
        "DELETE FROM outbox WHERE id = 4", "UPDATE outbox_parked SET request = NULL",
        "SELECT parked_id FROM outbox_parked WHERE outbox = 'outbox' FOR UPDATE", "COMMIT",
        "INSERT INTO outbox (id, message_id, topic, ordering_key, headers, content_type, payload, "
        "created_at) SELECT id, message_id, topic, ordering_key, headers, content_type, payload, "
        "created_at FROM outbox_parked WHERE id = 4",
        "DELETE FROM outbox_parked", "DELETE FROM outbox_lease",
        "INSERT INTO outbox_relay (relay, outboxes, version, weight, expires_at) VALUES ('me', "
        "'outbox', '1', 1, UTC_TIMESTAMP(6))",
        "UPDATE outbox_relay SET weight = 2", "SELECT relay FROM outbox_relay",
        "DELETE FROM outbox_relay");
    ALLOWED(
        "START TRANSACTION",
        "INSERT INTO outbox (topic, payload, receipt_from) VALUES ('t', 'p', 'g')",
        "INSERT INTO outbox_awaiting (message_id, outbox, id, topic, content_type, payload, "
        "created_at, receipt_from, next_send_at) SELECT message_id, 'outbox', id, topic, "
        "content_type, payload, created_at, receipt_from, created_at FROM outbox WHERE "
        "receipt_from IS NOT NULL "
        "ON DUPLICATE KEY UPDATE sends = sends + 1",
        "INSERT INTO outbox_receipt (message_id, consumer_group, outcome) SELECT message_id, 'g', "
        "'applied' FROM outbox_awaiting ON DUPLICATE KEY UPDATE consumer_group = "
        "outbox_receipt.consumer_group",
        "SELECT a.message_id FROM outbox_awaiting a JOIN outbox_receipt r USING (message_id) FOR "
        "UPDATE",
        "UPDATE outbox_awaiting SET next_send_at = UTC_TIMESTAMP(6)", "DELETE FROM outbox_awaiting",
        "DELETE FROM outbox_receipt",
        "SELECT id FROM outbox_delayed WHERE deliver_at < UTC_TIMESTAMP(6) FOR UPDATE SKIP LOCKED",
        "DELETE FROM outbox_delayed", "INSERT INTO outbox_secret (version, secret) VALUES (1, 'x')",
        "SELECT version, secret FROM outbox_secret",
        "INSERT INTO outbox_audit (action, actor, note, outbox, id, message_id, topic, "
        "reason_code) VALUES ('discard', '', '', 'outbox', 1, 'm', 't', '')",
        "SELECT audit_id FROM outbox_audit FOR UPDATE SKIP LOCKED", "DELETE FROM outbox_audit",
        "ROLLBACK");
    ALLOWED("INSERT INTO half_message (gid, producer) VALUES ('g', 'p')",
            "INSERT INTO half_part (gid, topic, payload) VALUES ('g', 't', 'p')",
            "UPDATE half_message SET state = 'committed', next_check_at = NULL",
            "INSERT INTO outbox (topic, payload) SELECT topic, payload FROM half_part",
            "DELETE FROM half_part",
            "INSERT INTO half_history (gid, event, actor) VALUES ('g', 'e', 'a')",
            "DELETE FROM half_message",
            ("DELETE FROM half_history WHERE NOT EXISTS (SELECT 1 FROM half_message m "
             "WHERE m.gid = half_history.gid)"),
            "SELECT reason FROM half_barrier", "INSERT INTO half_barrier (gid) VALUES ('g')",
            ("INSERT INTO outbox_journal (is_custom, message_id, outbox, topic, created_at) "
             "SELECT 1, message_id, 'outbox', topic, created_at FROM outbox "
             "ON DUPLICATE KEY UPDATE settled_at = VALUES(settled_at)"),
            "DELETE FROM outbox_journal WHERE is_custom = 1");
    DENIED("UPDATE outbox SET topic = 'x'", "DELETE FROM rowpost_schema",
           "DELETE FROM half_barrier",
           "INSERT INTO rowpost_schema (side, version, name) VALUES ('producer', 9, 'x')",
           "SELECT id FROM orders", "CREATE TABLE x (id INT)", "DROP TABLE outbox",
           "ALTER TABLE outbox ADD COLUMN x INT", "TRUNCATE TABLE outbox",
           "DELETE FROM outbox_secret", "UPDATE outbox_audit SET note = ''",
           "INSERT INTO outbox_delayed (topic, payload, deliver_at) VALUES ('t', 'p', NOW())",
           "SELECT * FROM inbox_applied");
}

static void rights_of_an_operator(void **state)
{
    (void)state;
    migrate(admin);
    test_db_run(admin, "INSERT INTO outbox_parked (outbox, id, message_id, topic, content_type, "
                       "payload, created_at, reason_code) VALUES ('outbox', 1, 'm', 't', 'c', 'p', "
                       "UTC_TIMESTAMP(6), 'r')");
    become("operator");
    assert_int_equal(schema_check(db, SCHEMA_PRODUCER, &err), OBX_OK);
    ALLOWED("SELECT * FROM outbox_parked", "SELECT * FROM outbox_lease",
            "SELECT COUNT(*) FROM (SELECT 1 FROM outbox LIMIT 1000) x",
            "UPDATE outbox_parked SET request = 'resume', requested_at = UTC_TIMESTAMP(6), "
            "requested_by = 'me', request_note = 'edited' WHERE parked_id = 1 AND request IS NULL",
            "UPDATE inbox_call SET state = 'waiting', due_at = UTC_TIMESTAMP(6), "
            "attempts = 0 WHERE id IN (1, 2)",
            "INSERT INTO inbox_endpoint (consumer_group, endpoint) VALUES ('g', 'e') "
            "ON DUPLICATE KEY UPDATE is_paused = 1",
            "SELECT message_id FROM outbox_journal WHERE is_custom = 0",
            "SELECT message_id FROM inbox_applied WHERE consumer_group = 'g'",
            "SELECT state FROM inbox_parked", "SELECT message_id FROM outbox_delayed",
            "SELECT message_id FROM outbox_awaiting", "SELECT state FROM inbox",
            "SELECT actor FROM inbox_audit", "SELECT message_id, topic, verdict FROM half_part");
    DENIED("SELECT payload FROM half_part", "UPDATE inbox SET state = 'done'",
           "UPDATE inbox_call SET body = ''", "DELETE FROM inbox_call", "DELETE FROM inbox_applied",
           "DELETE FROM outbox_parked", "DELETE FROM outbox_audit",
           "UPDATE outbox_parked SET payload = ''", "UPDATE outbox_lease SET epoch = 9",
           "DELETE FROM outbox", "INSERT INTO outbox (topic, payload) VALUES ('t', 'p')");
}

static void rights_of_a_half_operator(void **state)
{
    (void)state;
    migrate(admin);
    test_db_run(admin, "INSERT INTO half_message (gid, producer) VALUES ('g', 'p')");
    become("half-operator");
    assert_int_equal(schema_check(db, SCHEMA_HALF, &err), OBX_OK);
    ALLOWED("START TRANSACTION", "SELECT state FROM half_message WHERE gid = 'g' FOR UPDATE",
            "UPDATE half_message SET state = 'committed', note = 'n' WHERE gid = 'g'",
            "INSERT INTO outbox (topic, payload) SELECT topic, payload FROM half_part",
            "DELETE FROM half_part WHERE gid = 'g'",
            "INSERT INTO half_history (gid, event, actor) VALUES ('g', 'verdict', 'o')", "COMMIT",
            "SELECT * FROM half_history", "SELECT owner FROM outbox_lease");
    DENIED("DELETE FROM half_message", "DELETE FROM half_history", "DELETE FROM outbox",
           "INSERT INTO outbox (id, topic, payload) VALUES (18446744073709551610, 't', 'p')",
           "UPDATE half_part SET payload = 'x'", "UPDATE outbox_lease SET epoch = 9");
}

static void rights_of_a_half_producer(void **state)
{
    (void)state;
    migrate(admin);
    become("half-producer");
    ALLOWED("START TRANSACTION", "INSERT INTO half_message (gid, producer) VALUES ('g', 'p')",
            "INSERT INTO half_part (gid, verdict, seq, topic, payload) "
            "VALUES ('g', 'commit', 0, 't', 'p')",
            "COMMIT", "START TRANSACTION",
            "SELECT state FROM half_message WHERE gid = 'g' FOR UPDATE",
            "UPDATE half_message SET state = 'committed', next_check_at = NULL, "
            "decided_at = UTC_TIMESTAMP(6), decided_by = 'producer' WHERE gid = 'g'",
            "INSERT INTO outbox (message_id, topic, ordering_key, headers, content_type, payload) "
            "SELECT message_id, topic, ordering_key, headers, content_type, payload "
            "FROM half_part WHERE gid = 'g' AND verdict = 'commit' ORDER BY seq",
            "DELETE FROM half_part WHERE gid = 'g'", "COMMIT");
    DENIED("DELETE FROM half_message", "UPDATE half_message SET note = 'x'", "DELETE FROM outbox",
           "INSERT INTO outbox (id, topic, payload) VALUES (18446744073709551610, 't', 'p')",
           "INSERT INTO half_message (gid, producer, decided_by) VALUES ('h', 'p', 'operator:me')",
           "SELECT * FROM half_history");
}

static void rights_at_the_barrier(void **state)
{
    (void)state;
    migrate(admin);
    become("barrier");
    ALLOWED("INSERT INTO half_barrier (gid) VALUES ('g')", "SELECT reason FROM half_barrier");
    DENIED("DELETE FROM half_barrier", "UPDATE half_barrier SET reason = 'commit'");
}

static void rights_to_clean_the_barrier(void **state)
{
    (void)state;
    migrate(admin);
    become("barrier-clean");
    assert_int_equal(schema_check(db, SCHEMA_BARRIER, &err), OBX_OK);
    ALLOWED("SELECT gid FROM half_barrier ORDER BY gid LIMIT 1000", "DELETE FROM half_barrier");
    DENIED("INSERT INTO half_barrier (gid) VALUES ('g')", "SELECT gid FROM half_message");
}

static void rights_of_a_producer(void **state)
{
    (void)state;
    migrate(admin);
    become("producer");
    ALLOWED("START TRANSACTION", "INSERT INTO outbox (topic, payload) VALUES ('t', 'p')",
            "INSERT INTO outbox (message_id, topic, ordering_key, headers, content_type, payload) "
            "VALUES ('own', 't', 'k', '{\"a\": \"b\"}', 'text/plain', 'p'), "
            "('own2', 't', NULL, NULL, 'text/plain', '')",
            "COMMIT");
    assert_int_equal(test_db_number(admin, "SELECT COUNT(*) FROM outbox"), 3);
    ALLOWED("INSERT INTO outbox (topic, payload, receipt_from, on_rejected) VALUES ('t', 'p', 'g', "
            "'t.undo')",
            "INSERT INTO outbox_delayed (message_id, topic, payload, deliver_at) VALUES ('m', 't', "
            "'p', UTC_TIMESTAMP(6) + INTERVAL 1 DAY)",
            "DELETE FROM outbox_delayed WHERE message_id = 'm'",
            "SELECT outcome, reason FROM outbox_receipt WHERE message_id = 'm'");
    /* The last one would be the end of the table's counter, and of everybody's transactions. */
    DENIED("INSERT INTO outbox (id, topic, payload) VALUES (18446744073709551610, 't', 'p')",
           "INSERT INTO outbox (id, topic, payload) VALUES (NULL, 't', 'p')",
           "INSERT INTO outbox (topic, payload, created_at) VALUES ('t', 'p', NOW())",
           "INSERT INTO outbox_delayed (id, topic, payload, deliver_at) VALUES "
           "(18446744073709551610, 't', 'p', UTC_TIMESTAMP(6))");
    if (db_server_is_mariadb(db)) /* MySQL does not know the word */
        DENIED("INSERT INTO outbox (topic, payload) VALUES ('t', 'p') RETURNING id");
    DENIED("SELECT id FROM outbox", "DELETE FROM outbox", "UPDATE outbox SET topic = 'x'",
           "SELECT * FROM outbox_parked", "DELETE FROM outbox_lease", "SELECT * FROM outbox_secret",
           "SELECT payload FROM outbox_delayed", "SELECT * FROM outbox_awaiting",
           ("INSERT INTO outbox_receipt (message_id, consumer_group, outcome) VALUES ('m', 'g', "
            "'applied')"));
}

#define PARK_ONE                                                                                   \
    "INSERT INTO inbox_parked (consumer_group, message_id, ordering_key, lane, state, next_at, "   \
    "attempts, replay_until, queue, properties, body, size) VALUES ('g', 'm', 'k', 1, 'dead', "    \
    "NULL, 1, UTC_TIMESTAMP(6), 'q', '', '', 0)"

static void rights_of_a_consumer(void **state)
{
    (void)state;
    migrate(admin);
    become("consumer");
    assert_int_equal(schema_check(db, SCHEMA_CONSUMER, &err), OBX_OK);
    ALLOWED(
        "INSERT INTO inbox_applied (consumer_group, message_id) VALUES ('g', 'a'), ('g', 'b')",
        "SELECT message_id FROM inbox_applied WHERE consumer_group = 'g' AND message_id IN ('a', "
        "'b')",
        "DELETE FROM inbox_applied WHERE consumer_group = 'g' AND message_id <= 'a' "
        "AND applied_at < UTC_TIMESTAMP(6) ORDER BY message_id LIMIT 1000",
        "INSERT INTO inbox_applied (consumer_group, message_id, outcome, reason) "
        "VALUES ('g', 'c', 'rejected', 'no such order')",
        "SELECT 1 FROM inbox_applied FORCE INDEX (PRIMARY) WHERE consumer_group = 'g' AND "
        "message_id = 'z' FOR UPDATE NOWAIT",
        "INSERT INTO inbox_parked_piece (parked_id, n, piece) VALUES (1, 0, 'x')",
        "SELECT piece FROM inbox_parked_piece WHERE parked_id = 1 AND n = 0",
        "DELETE FROM inbox_parked_piece WHERE parked_id = 1",
        "INSERT INTO inbox_audit (action, actor, note, consumer_group, parked_id, message_id, "
        "topic, "
        "reason_code) VALUES ('discard', '', '', 'g', 1, 'm', 't', '')",
        "SELECT audit_id FROM inbox_audit FOR UPDATE SKIP LOCKED", "DELETE FROM inbox_audit",
        PARK_ONE, "SELECT id FROM inbox_parked WHERE id = 1 FOR UPDATE SKIP LOCKED",
        "UPDATE inbox_parked SET attempts = attempts + 1, claim = 7, claim_size = 1 WHERE id = 1",
        "DELETE FROM inbox_parked WHERE id = 1",
        "INSERT INTO inbox_member (consumer_group, queue, member, partitions, seen_at) VALUES "
        "('g', 'q', 'm', 8, UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE partitions = 8",
        "SELECT member FROM inbox_member", "DELETE FROM inbox_member");
    DENIED("UPDATE inbox_applied SET message_id = 'c'", "SELECT id FROM outbox",
           "INSERT INTO outbox (topic, payload) VALUES ('t', 'p')");
}

static void rights_of_a_notifier(void **state)
{
    (void)state;
    migrate(admin);
    become("notifier");
    assert_int_equal(schema_check(db, SCHEMA_CONSUMER, &err), OBX_OK);
    assert_int_equal(schema_check(db, SCHEMA_NOTIFY, &err), OBX_OK);
    ALLOWED("INSERT INTO inbox_applied (consumer_group, message_id) VALUES ('g', 'a')",
            "INSERT INTO inbox_call (consumer_group, endpoint, message_id, topic, body) "
            "VALUES ('g', 'e', 'm', 't', 'b')",
            "UPDATE inbox_call SET state = 'delivered', due_at = NULL WHERE id = 1",
            "DELETE FROM inbox_call WHERE id = 1",
            "INSERT INTO inbox_endpoint (consumer_group, endpoint) VALUES ('g', 'e') "
            "ON DUPLICATE KEY UPDATE is_paused = 1",
            "INSERT INTO inbox_lease (consumer_group) VALUES ('g')",
            "UPDATE inbox_lease SET epoch = epoch + 1");
    DENIED("SELECT id FROM outbox", "DELETE FROM inbox_lease",
           "UPDATE inbox_applied SET message_id = 'c'");
}

static void rights_of_a_consumers_operator(void **state)
{
    (void)state;
    migrate(admin);
    test_db_run(admin, PARK_ONE);
    become("consumer operator");
    assert_int_equal(schema_check(db, SCHEMA_CONSUMER, &err), OBX_OK);
    ALLOWED("SELECT id, message_id, body FROM inbox_parked WHERE state = 'dead'",
            "UPDATE inbox_parked SET request = 'replay', requested_at = UTC_TIMESTAMP(6), "
            "requested_by = 'me', request_note = 'why', next_at = UTC_TIMESTAMP(6), "
            "body = 'edited', size = 6, is_edited = 1 "
            "WHERE id = 1 AND state = 'dead' AND request IS NULL");
    DENIED("UPDATE inbox_parked SET state = 'waiting'", "UPDATE inbox_parked SET attempts = 0",
           "DELETE FROM inbox_parked", "DELETE FROM inbox_applied",
           "SELECT message_id FROM inbox_applied");
}

#define STORE_ONE                                                                                  \
    "INSERT INTO inbox (queue, state, due_at, message_id, topic, size, payload) "                  \
    "VALUES ('orders', 'ready', UTC_TIMESTAMP(6), 'm', 't', 1, 'p')"

static void rights_of_inbox_relay(void **state)
{
    (void)state;
    migrate(admin);
    become("inbox-relay");
    assert_int_equal(schema_check(db, SCHEMA_CONSUMER, &err), OBX_OK);
    assert_int_equal(schema_check(db, SCHEMA_INBOX, &err), OBX_OK);
    ALLOWED("INSERT INTO inbox_applied (consumer_group, message_id, outcome) "
            "VALUES ('g', 'm', 'stored')",
            "UPDATE inbox_applied SET outcome = NULL WHERE message_id = 'm'", STORE_ONE,
            "UPDATE inbox SET state = 'kept'", "DELETE FROM inbox");
    DENIED("SELECT id FROM outbox", "SELECT id FROM inbox_call", "TRUNCATE inbox");
}

static void rights_of_an_inbox_worker(void **state)
{
    (void)state;
    migrate(admin);
    test_db_run(admin, STORE_ONE);
    become("inbox worker");
    ALLOWED("START TRANSACTION",
            "SELECT id, payload FROM inbox WHERE queue = 'orders' FOR UPDATE SKIP LOCKED",
            "UPDATE inbox SET state = 'done', due_at = UTC_TIMESTAMP(6) WHERE state = 'ready'",
            "COMMIT");
    DENIED(STORE_ONE, "DELETE FROM inbox", "UPDATE inbox SET payload = 'q'",
           "UPDATE inbox SET after_id = 0", "SELECT message_id FROM inbox_applied",
           "DELETE FROM inbox_applied", "SELECT id FROM inbox_parked", "TRUNCATE inbox",
           "SELECT receipt_token FROM inbox", "SELECT * FROM inbox");
}

static void rights_of_an_inbox_operator(void **state)
{
    (void)state;
    migrate(admin);
    test_db_run(admin, STORE_ONE);
    become("inbox operator");
    assert_int_equal(schema_check(db, SCHEMA_INBOX, &err), OBX_OK);
    ALLOWED("SELECT id, message_id, reason FROM inbox WHERE queue = 'orders' AND state = 'dead'",
            "SELECT id FROM inbox WHERE id IN (1) FOR UPDATE SKIP LOCKED",
            "INSERT INTO inbox_audit (action, actor, note, consumer_group, parked_id, message_id, "
            "topic, ordering_key, reason_code) SELECT 'inbox-discard', 'me', 'why', queue, id, "
            "message_id, topic, ordering_key, reason_code FROM inbox",
            "UPDATE inbox SET state = 'discarded', due_at = UTC_TIMESTAMP(6) WHERE id = 1");
    DENIED("UPDATE inbox SET payload = 'q'", "DELETE FROM inbox", "DELETE FROM inbox_applied",
           "DELETE FROM inbox_audit", "UPDATE inbox_audit SET actor = 'you'",
           "INSERT INTO inbox_audit (done_at) VALUES ('2020-01-01')");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_database, drop_database)

static const char *const roles[] = {
    "migrate",           "relay",       "operator",      "half-operator", "half-producer",
    "barrier",           "producer",    "barrier-clean", "consumer",      "notifier",
    "consumer operator", "inbox-relay", "inbox worker",  "inbox operator"};

/* A block is run by test_user_create only where its sides are; there each statement has to run.
 * Each step adds a side, and has the roles that get more by it. */
static void each_block_runs_where_its_sides_are(void **state)
{
    static const struct {
        bool is_new; /* in a database of its own */
        enum schema_side side;
        const char *roles[5];
    } steps[] = {
        {false, SCHEMA_PRODUCER, {"migrate", "relay", "operator", "producer"}},
        {false, SCHEMA_JOURNAL, {"relay", "operator"}},
        {false, SCHEMA_HALF, {"relay", "operator", "half-operator", "half-producer"}},
        {true, SCHEMA_BARRIER, {"relay", "barrier", "barrier-clean"}},
        {true, SCHEMA_CONSUMER, {"operator", "consumer", "consumer operator"}},
        {false, SCHEMA_NOTIFY, {"operator", "notifier"}},
        {false, SCHEMA_INBOX, {"operator", "inbox-relay", "inbox worker", "inbox operator"}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (steps[i].is_new) {
            db_close(admin);
            test_db_drop(&test);
            test_db_create(&test, "grants");
            admin = test_db_open(&test.opts);
        }
        assert_int_equal(schema_migrate(admin, steps[i].side, NULL, NULL, &err), OBX_OK);
        for (size_t k = 0; steps[i].roles[k] != NULL; k++) {
            test_user_create(&user, &test, steps[i].roles[k]);
            test_user_drop(&user);
        }
    }
    migrate(admin);
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        test_user_create(&user, &test, roles[i]);
        assert_int_equal(user.skipped, 0); /* no block has a side that there is not */
        if (i + 1 < sizeof(roles) / sizeof(roles[0]))
            test_user_drop(&user);
    }
}

enum { PAGE_MAX = 1 << 16, ORM_STATEMENTS = 6 };

/* What docs/orm.md says that each object mapper sends, with the documented rights. */
static void object_mappers_can_write(void **state)
{
    static char page[PAGE_MAX];
    FILE *file = fopen(GRANTS_ORM_PAGE, "r");
    unsigned count = 0;
    char *at = page;

    (void)state;
    assert_non_null(file);
    page[fread(page, 1, sizeof(page) - 1, file)] = '\0';
    (void)fclose(file);
    migrate(admin);
    become("producer");
    while ((at = strstr(at, "```sql\n")) != NULL) {
        char *sql = at + strlen("```sql\n");
        char *end = strstr(sql, ";\n```");

        assert_non_null(end);
        *end = '\0';
        test_db_run(db, sql);
        count++;
        at = end + 1;
    }
    assert_true(count >= ORM_STATEMENTS);
    assert_int_equal(test_db_number(admin, "SELECT COUNT(*) FROM outbox WHERE message_id LIKE "
                                           "'________-____-7___-____-____________'"),
                     count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_block_runs_where_its_sides_are, make_database,
                                        drop_database),
        cmocka_unit_test_setup_teardown(object_mappers_can_write, make_database, drop_database),
        TEST(rights_to_migrate),
        TEST(rights_of_the_relay),
        TEST(rights_of_an_operator),
        TEST(rights_of_a_producer),
        TEST(rights_of_a_consumer),
        TEST(rights_of_a_half_operator),
        TEST(rights_of_a_half_producer),
        TEST(rights_at_the_barrier),
        TEST(rights_to_clean_the_barrier),
        TEST(rights_of_a_notifier),
        TEST(rights_of_a_consumers_operator),
        TEST(rights_of_inbox_relay),
        TEST(rights_of_an_inbox_worker),
        TEST(rights_of_an_inbox_operator),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    db_thread_end();
    return failed;
}
