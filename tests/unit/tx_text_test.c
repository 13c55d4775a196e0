/* Statements that end a transaction, as their text shows it, and those that look like it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "obx/consumer.h"
#include "worker/tx.h"
#include "worker/tx_text.h"

static const char *const ending[] = {
    "COMMIT",
    "commit work",
    "  \n\tCommit;",
    "/* why */ COMMIT",
    "-- why\nCOMMIT",
    "# why\nROLLBACK",
    "/*!40101 COMMIT */",
    "/*M!100100 COMMIT */",
    "ROLLBACK",
    "ROLLBACK WORK",
    "ROLLBACK AND CHAIN",
    "BEGIN",
    "BEGIN WORK",
    "START TRANSACTION READ ONLY",
    "CREATE TABLE t (id INT)",
    "CREATE OR REPLACE TABLE t (id INT)",
    "CREATE INDEX i ON t (id)",
    "DROP TABLE t",
    "ALTER TABLE t ADD c INT",
    "TRUNCATE t",
    "RENAME TABLE t TO u",
    "LOCK TABLES t WRITE",
    "UNLOCK TABLES",
    "GRANT SELECT ON t TO u",
    "SET autocommit = 1",
    "SET @@session.autocommit := 0",
    "SET SESSION autocommit=1",
    "SET `autocommit` = 1",
    "SET @a = 'autocommit', autocommit = 1",
};

static const char *const going_on[] = {
    "",
    ";",
    "/* COMMIT",
    "-- COMMIT",
    "/* COMMIT */ UPDATE t SET commit = 1",
    "INSERT INTO t VALUES ('COMMIT')",
    "SELECT 1",
    "(SELECT 1)",
    "COMMITS",
    "commit_all",
    "ROLLBACK TO mine",
    "ROLLBACK WORK TO SAVEPOINT mine",
    "SAVEPOINT mine",
    "RELEASE SAVEPOINT mine",
    "BEGIN NOT ATOMIC SELECT 1; END",
    "CREATE TEMPORARY TABLE t (id INT)",
    "CREATE OR REPLACE TEMPORARY TABLE t (id INT)",
    "DROP TEMPORARY TABLE t",
    "SET @autocommit = 1",
    "SET @a = 'autocommit = 1'",
    "SET @a = \"autocommit = 1\"",
    "SET @a = @@autocommit",
    "SET my_autocommit = 1",
    "CALL apply_order(?)",
    "UPDATE t SET autocommit = 1",
};

static void what_ends_a_transaction_shows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++) {
        if (!tx_text_ends(ending[i]))
            fail_msg("not found: %s", ending[i]);
    }
    for (size_t i = 0; i < sizeof(going_on) / sizeof(going_on[0]); i++) {
        if (tx_text_ends(going_on[i]))
            fail_msg("refused: %s", going_on[i]);
    }
}

/* There is no database here: nothing may be sent. */
static void it_is_refused_before_it_is_sent(void **state)
{
    struct obx_tx tx;
    struct obx_rows *rows = NULL;
    struct obx_err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++) {
        tx_init(&tx, NULL);
        assert_int_equal(obx_tx_exec(&tx, ending[i], OBX_NO_ARGS, NULL, &err), OBX_E_INVALID);
        assert_true(err.text[0] != '\0');
        assert_int_equal(obx_tx_query(&tx, ending[i], OBX_NO_ARGS, &rows, &err), OBX_E_INVALID);
        assert_null(rows);
        assert_true(tx.is_refused);
        assert_int_equal(tx.failed.code, OBX_OK); /* the transaction goes on */
        tx_fini(&tx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_ends_a_transaction_shows),
        cmocka_unit_test(it_is_refused_before_it_is_sent),
    };

    return cmocka_run_group_tests_name("tx_text", tests, NULL, NULL);
}
