/*
 * The whole chain under hostile defaults of the server: whatever a server sets for new sessions,
 * rows are published, parked and resumed, half-messages prepared and committed, messages applied,
 * each once and with the bytes that were given. One row of a table is one server; a variable that
 * is missing here is missing in sql/client/src/db_session.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "consumer_opts.h"
#include "half/half.h"
#include "lane_rig.h"
#include "obx/consumer.h"
#include "sql/schema.h"

enum { TEXT_MAX = 512, PLAIN_ROWS = 4, ALL_ROWS = PLAIN_ROWS + 2 };

/* What each message carries: what a mode or a character set would change. */
#define PAYLOAD "a\\b 'c' \"d\" || \xc3\xa9 \xf0\x9f\x98\x80 end  "

enum { TOGETHER = 4 };

struct setting {
    struct {
        const char *name; /* of the global variable; NULL: none */
        const char *value;
    } vars[TOGETHER];
};

static const struct setting of_both[] = {
    {{{"sql_safe_updates", "1"}}},
    {{{"completion_type", "1"}}}, /* CHAIN */
    {{{"completion_type", "2"}}}, /* RELEASE: every COMMIT ends the connection */
    {{{"sql_select_limit", "1"}}},
    {{{"max_join_size", "1"}}},
    {{{"sql_big_selects", "0"}, {"max_join_size", "1"}, {"sql_buffer_result", "1"}}},
    {{{"sql_mode", "'ANSI_QUOTES,PIPES_AS_CONCAT,IGNORE_SPACE'"}}},
    {{{"sql_mode", "'NO_BACKSLASH_ESCAPES'"}}},
    {{{"sql_mode", "'PAD_CHAR_TO_FULL_LENGTH,ONLY_FULL_GROUP_BY'"}}},
    {{{"sql_mode", "'NO_AUTO_VALUE_ON_ZERO,NO_UNSIGNED_SUBTRACTION'"}}},
    {{{"sql_mode", "''"}, {"sql_notes", "0"}}},
    {{{"time_zone", "'+05:30'"}, {"lc_time_names", "'de_DE'"}, {"lc_messages", "'de_DE'"}}},
    {{{"character_set_server", "'latin1'"},
      {"character_set_client", "'latin1'"},
      {"character_set_connection", "'latin1'"},
      {"character_set_results", "'latin1'"}}},
    {{{"collation_connection", "'utf8mb4_turkish_ci'"},
      {"collation_server", "'utf8mb4_turkish_ci'"}}},
    {{{"init_connect", "'SET autocommit = 0, sql_safe_updates = 1, completion_type = 1'"}}},
    {{{"foreign_key_checks", "0"}, {"unique_checks", "0"}}},
    {{{"wait_timeout", "1"}, {"interactive_timeout", "1"}}},
    {{{"innodb_lock_wait_timeout", "1"},
      {"lock_wait_timeout", "1"},
      {"net_read_timeout", "1"},
      {"net_write_timeout", "1"}}},
    {{{"sql_auto_is_null", "1"},
      {"explicit_defaults_for_timestamp", "0"},
      {"group_concat_max_len", "4"},
      {"div_precision_increment", "0"}}},
    {{{"low_priority_updates", "1"},
      {"sql_quote_show_create", "0"},
      {"eq_range_index_dive_limit", "1"},
      {"max_sort_length", "64"}}},
    {{{"optimizer_switch",
       "'index_merge=off,mrr=on,index_condition_pushdown=off,derived_merge=off,materialization=off,"
       "semijoin=off'"},
      {"optimizer_search_depth", "1"}}},
};

static const struct setting of_mariadb[] = {
    {{{"tx_read_only", "1"}}},
    {{{"tx_isolation", "'SERIALIZABLE'"}}},
    {{{"tx_isolation", "'READ-UNCOMMITTED'"}, {"autocommit", "0"}}},
    {{{"sql_mode", "''"}, {"check_constraint_checks", "0"}}},
    {{{"sql_mode", "'ORACLE'"}}},
    {{{"max_statement_time", "0.0001"}}},
    {{{"idle_transaction_timeout", "1"}, {"idle_write_transaction_timeout", "1"}}},
    {{{"binlog_format", "'STATEMENT'"}, {"max_recursive_iterations", "1"}}},
    {{{"in_predicate_conversion_threshold", "2"}, {"tmp_memory_table_size", "0"}}},
    {{{"optimizer_switch", "'rowid_filter=off,extended_keys=off,split_materialized=off'"}}},
};

static const struct setting of_mysql[] = {
    {{{"transaction_read_only", "1"}}},
    {{{"transaction_isolation", "'SERIALIZABLE'"}}},
    {{{"transaction_isolation", "'READ-UNCOMMITTED'"}, {"autocommit", "0"}}},
    {{{"max_execution_time", "1"}}}, /* milliseconds */
    {{{"sql_require_primary_key", "1"}, {"sql_generate_invisible_primary_key", "1"}}},
    {{{"default_collation_for_utf8mb4", "'utf8mb4_general_ci'"}, {"sql_log_off", "1"}}},
    {{{"session_track_transaction_info", "'CHARACTERISTICS'"},
      {"session_track_state_change", "1"},
      {"session_track_schema", "0"},
      {"session_track_system_variables", "'*'"}}},
    {{{"cte_max_recursion_depth", "1"},
      {"range_optimizer_max_mem_size", "1"},
      {"tmp_table_size", "1024"},
      {"internal_tmp_mem_storage_engine", "'MEMORY'"}}},
    {{{"optimizer_switch", "'use_index_extensions=off,skip_scan=off,prefer_ordering_index=off,"
                           "derived_condition_pushdown="
                           "off,subquery_to_derived=on,batched_key_access=on,mrr_cost_based=off'"},
      {"optimizer_prune_level", "0"}}},
};

struct chain {
    struct lane_rig *rig;
    struct db *root; /* opened before the first change */
    struct obx_consumer *consumer;
};

static struct chain chain;
static const struct setting *changed; /* has to be restored */

/* ---- the server ---- */

static void change(const struct setting *setting)
{
    char sql[TEXT_MAX];

    for (size_t i = 0; i < TOGETHER && setting->vars[i].name != NULL; i++) {
        (void)snprintf(sql, sizeof(sql), "SET @keep%zu = @@GLOBAL.%s", i, setting->vars[i].name);
        test_db_run(chain.root, sql);
    }
    changed = setting;
    for (size_t i = 0; i < TOGETHER && setting->vars[i].name != NULL; i++) {
        (void)snprintf(sql, sizeof(sql), "SET GLOBAL %s = %s", setting->vars[i].name,
                       setting->vars[i].value);
        test_db_run(chain.root, sql);
    }
}

/* Also after a round that failed: the server serves other tests. */
static void restore(void)
{
    char sql[TEXT_MAX];

    for (size_t i = 0; changed != NULL && i < TOGETHER && changed->vars[i].name != NULL; i++) {
        (void)snprintf(sql, sizeof(sql), "SET GLOBAL %s = @keep%zu", changed->vars[i].name, i);
        test_db_run(chain.root, sql);
    }
    changed = NULL;
}

/* ---- the chain ---- */

static enum obx_verdict apply(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    struct obx_err err = {0};

    (void)ctx;
    return obx_tx_exec(tx, "INSERT INTO applied (message_id, body) VALUES (?, ?)",
                       OBX_ARGS(obx_data(msg->message_id), obx_data(msg->body)), NULL,
                       &err) == OBX_OK
               ? OBX_APPLIED
               : OBX_RETRY;
}

static void start_consumer(void)
{
    const struct lane_rig *rig = chain.rig;
    const struct obx_consumer_opts opts =
        consumer_opts(&rig->broker, &rig->test_db.opts, "group-a", rig->queue);
    struct obx_err err = {0};

    if (obx_consumer_open(&opts, &chain.consumer, &err) != OBX_OK ||
        obx_consumer_subscribe(chain.consumer, apply, NULL, &err) != OBX_OK ||
        obx_consumer_start(chain.consumer, &err) != OBX_OK)
        fail_msg("consumer: %s", err.text);
}

static void stop_consumer(void)
{
    struct obx_err err = {0};

    if (obx_consumer_drain(chain.consumer, RIG_WAIT_MS, &err) != OBX_OK)
        fail_msg("drain: %s", err.text);
    obx_consumer_close(chain.consumer);
    chain.consumer = NULL;
}

static void half_run(struct db *db, struct half_request *req)
{
    struct obx_err err = {0};
    bool has_rows = false;

    if (half_batch_run(db, "outbox", &req, 1, &has_rows, &err) != OBX_OK ||
        req->answer != HALF_ANS_OK)
        fail_msg("half-message: %s %s", err.text, req->err.text);
}

/* Prepared and committed, each on a session of its own, as a request after a restart is. */
static void half_message(const char *gid)
{
    const struct half_part part = {
        .on = HALF_COMMIT, .topic = bytes_of("t"), .payload = bytes_of(PAYLOAD)};
    struct half_request prepare = {.kind = HALF_REQ_PREPARE,
                                   .gid = bytes_of(gid),
                                   .producer = bytes_of("orders"),
                                   .first_check_ms = 60000,
                                   .parts = &part,
                                   .part_count = 1};
    struct half_request commit = {.kind = HALF_REQ_VERDICT,
                                  .gid = bytes_of(gid),
                                  .verdict = HALF_COMMIT,
                                  .actor = "producer"};
    struct half_request *requests[] = {&prepare, &commit};

    for (size_t i = 0; i < 2; i++) {
        struct obx_err err = {0};
        struct db *db = NULL;

        if (db_open(&chain.rig->test_db.opts, &db, &err) != OBX_OK)
            fail_msg("%s", err.text);
        half_run(db, requests[i]);
        db_close(db);
    }
}

static void insert(const char *topic, const char *key)
{
    struct obx_err err = {0};

    if (db_exec(chain.rig->db, "INSERT INTO outbox (topic, ordering_key, payload) VALUES (?, ?, ?)",
                DB_ARGS(DB_TEXT(topic), DB_TEXT(key), DB_TEXT(PAYLOAD)), NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
}

/* One row that no queue takes, given up, and resumed when one does. */
static void park_and_resume(size_t round)
{
    char topic[32];

    (void)snprintf(topic, sizeof(topic), "nowhere%zu", round);
    insert(topic, "k1");
    rig_wait_number(chain.rig, 1, "SELECT COUNT(*) FROM outbox_parked");
    rig_bind(chain.rig, topic);
    rig_run(chain.rig, "UPDATE outbox_parked SET request = 'resume',"
                       " requested_at = UTC_TIMESTAMP(6), requested_by = 'test'");
    rig_wait_number(chain.rig, 0, "SELECT COUNT(*) FROM outbox_parked");
}

static void run_chain(size_t round)
{
    char gid[32];

    (void)snprintf(gid, sizeof(gid), "g%zu", round);
    rig_run(chain.rig, "DELETE FROM applied");
    start_consumer();
    rig_start(chain.rig);
    for (int i = 0; i < PLAIN_ROWS; i++)
        insert("t", i % 2 == 0 ? "k0" : NULL);
    half_message(gid);
    park_and_resume(round);
    rig_wait_number(chain.rig, ALL_ROWS, "SELECT COUNT(*) FROM applied");
    rig_wait_empty(chain.rig);
    rig_drain_lane(chain.rig->lane);
    chain.rig->lane = NULL;
    stop_consumer();
}

static void each_once_with_its_bytes(void)
{
    char hex[2 * sizeof(PAYLOAD)];
    size_t len = 0;

    for (const char *c = PAYLOAD; *c != '\0'; c++)
        len += (size_t)snprintf(hex + len, sizeof(hex) - len, "%02X", (unsigned)(unsigned char)*c);
    assert_int_equal(rig_number(chain.rig,
                                "SELECT COUNT(DISTINCT message_id) FROM applied WHERE HEX(body) = "
                                "'%s'",
                                hex),
                     ALL_ROWS);
    assert_int_equal(rig_number(chain.rig, "SELECT COUNT(*) FROM applied"), ALL_ROWS);
    /* Published once: nothing was left in the outbox to be sent again. */
    assert_int_equal(broker_count(chain.rig->admin, chain.rig->queue), 0);
}

static void run_setting(const struct setting *setting, size_t round)
{
    print_message("%s = %s, ...\n", setting->vars[0].name, setting->vars[0].value);
    change(setting);
    run_chain(round);
    restore();
    each_once_with_its_bytes();
}

static void run_settings(const struct setting *settings, size_t count)
{
    static size_t round;

    for (size_t i = 0; i < count; i++)
        run_setting(&settings[i], round++);
}

static void the_chain_runs_whatever_the_defaults_are(void **state)
{
    (void)state;
    run_settings(of_both, sizeof(of_both) / sizeof(of_both[0]));
    if (db_server_is_mariadb(chain.root))
        run_settings(of_mariadb, sizeof(of_mariadb) / sizeof(of_mariadb[0]));
    else
        run_settings(of_mysql, sizeof(of_mysql) / sizeof(of_mysql[0]));
}

/* ---- set-up ---- */

static int setup(void **state)
{
    struct db_opts root = test_db_root_opts();
    struct obx_err err = {0};

    if (rig_setup(state) != 0)
        return -1;
    chain.rig = *state;
    chain.rig->opts.max_attempts = 1; /* parked at the first return: the chain has to be short */
    if (schema_migrate(chain.rig->db, SCHEMA_HALF, NULL, NULL, &err) != OBX_OK ||
        schema_migrate(chain.rig->db, SCHEMA_CONSUMER, NULL, NULL, &err) != OBX_OK)
        fail_msg("%s", err.text);
    rig_run(chain.rig, "CREATE TABLE applied (seq BIGINT AUTO_INCREMENT PRIMARY KEY,"
                       " message_id VARBINARY(255) NOT NULL, body BLOB NOT NULL) ENGINE=InnoDB");
    chain.root = test_db_open(&root);
    return 0;
}

static int teardown(void **state)
{
    restore();
    obx_consumer_close(chain.consumer);
    db_close(chain.root);
    return rig_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_chain_runs_whatever_the_defaults_are, setup, teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    db_thread_end();
    return failed;
}
