/*
 * The barrier for TCC participants, on a real queue and database: null compensation, no hanging,
 * idempotent Confirm and Cancel, and a Cancel that meets a Try which still runs (P3, P5).
 *
 * A message's body is "<step> <gid> <branch>". The handler asks the barrier, does what it says to
 * an account, and writes the answer down, all in its one transaction.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "consumer_rig.h"
#include "obx/barrier.h"
#include "sql/schema.h"
#include "wait.h"

enum { AMOUNT = 10, WORD_MAX = 32 };

static const char *const answer_names[] = {"go", "repeat", "none", "refused"};

/* What each step does to the account when the barrier lets it. */
static const char *effect_of(const char *step)
{
    if (strcmp(step, "try") == 0)
        return "UPDATE account SET balance = balance - 10, frozen = frozen + 10";
    if (strcmp(step, "confirm") == 0)
        return "UPDATE account SET frozen = frozen - 10";
    return "UPDATE account SET frozen = frozen - 10, balance = balance + 10";
}

static enum obx_code ask(struct obx_tx *tx, const char *step, const char *gid, const char *branch,
                         enum obx_barrier *answer, struct obx_err *err)
{
    if (strcmp(step, "try") == 0)
        return obx_barrier_try(tx, bytes_of(gid), branch, answer, err);
    if (strcmp(step, "confirm") == 0)
        return obx_barrier_confirm(tx, bytes_of(gid), branch, answer, err);
    return obx_barrier_cancel(tx, bytes_of(gid), branch, answer, err);
}

static enum obx_verdict take_step(const struct obx_message *msg, struct obx_tx *tx, void *ctx)
{
    char text[128], step[WORD_MAX] = "", gid[WORD_MAX] = "", branch[WORD_MAX] = "";
    enum obx_barrier answer = OBX_BARRIER_REFUSED;
    struct obx_err err = {0};

    (void)ctx;
    (void)bytes_to_text(msg->body, text, sizeof(text));
    if (sscanf(text, "%31s %31s %31s", step, gid, branch) < 2)
        return OBX_REJECT;
    if (ask(tx, step, gid, branch, &answer, &err) != OBX_OK)
        return OBX_RETRY;
    if (answer == OBX_BARRIER_GO && obx_tx_exec(tx, effect_of(step), OBX_NO_ARGS, NULL, &err) != 0)
        return OBX_RETRY;
    return obx_tx_exec(tx, "INSERT INTO answer (body, answer) VALUES (?, ?)",
                       OBX_ARGS(obx_data(msg->body), obx_text(answer_names[answer])), NULL,
                       &err) == OBX_OK
               ? OBX_APPLIED
               : OBX_RETRY;
}

static int setup(void **state)
{
    struct obx_err err = {0};
    int failed = rig_setup(state);
    struct rig *rig = *state;

    if (failed != 0)
        return failed;
    assert_int_equal(schema_migrate(rig->db, SCHEMA_BARRIER, NULL, NULL, &err), OBX_OK);
    test_db_run(rig->db, "CREATE TABLE account (balance INT NOT NULL, frozen INT NOT NULL)");
    test_db_run(rig->db, "INSERT INTO account VALUES (100, 0)");
    test_db_run(rig->db, "CREATE TABLE answer (id INT AUTO_INCREMENT PRIMARY KEY, "
                         "body VARCHAR(64) NOT NULL, answer VARCHAR(16) NOT NULL)");
    rig->opts.workers = 1;
    return 0;
}

static void put(struct rig *rig, const char *body)
{
    static unsigned number;
    char id[32];

    snprintf(id, sizeof(id), "m-%u", ++number);
    rig_put(rig, id, "one-key", body);
}

struct goal {
    struct rig *rig;
    unsigned count;
};

static bool has_answers(void *ctx)
{
    const struct goal *goal = ctx;

    return rig_number(goal->rig, "SELECT COUNT(*) FROM answer") >= goal->count;
}

static void wait_answers(struct rig *rig, unsigned count)
{
    struct goal goal = {rig, count};

    assert_true(wait_until(RIG_WAIT_MS, has_answers, &goal));
}

struct step {
    const char *body, *answer;
};

static void expect_answers(struct rig *rig, const struct step *steps, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char sql[256];

        snprintf(sql, sizeof(sql),
                 "SELECT COUNT(*) FROM answer WHERE id = %u AND body = '%s' AND answer = '%s'",
                 i + 1, steps[i].body, steps[i].answer);
        if (rig_number(rig, sql) != 1)
            fail_msg("step %u, \"%s\", was not answered \"%s\"", i, steps[i].body, steps[i].answer);
    }
}

static void run_steps(struct rig *rig, const struct step *steps, unsigned count)
{
    struct obx_consumer *consumer;

    rig_declare(rig);
    for (unsigned i = 0; i < count; i++)
        put(rig, steps[i].body);
    rig_flush(rig);
    consumer = rig_start(rig, take_step, NULL);
    wait_answers(rig, count);
    rig_stop(consumer);
    expect_answers(rig, steps, count);
}
#define RUN_STEPS(rig, steps) run_steps(rig, steps, sizeof(steps) / sizeof((steps)[0]))

static void expect_account(struct rig *rig, unsigned balance, unsigned frozen)
{
    assert_int_equal(rig_number(rig, "SELECT balance FROM account"), balance);
    assert_int_equal(rig_number(rig, "SELECT frozen FROM account"), frozen);
}

static void a_cancel_without_its_try_does_nothing_and_keeps_it_out(void **state)
{
    static const struct step steps[] = {{"cancel g-1", "none"},
                                        {"try g-1", "refused"},
                                        {"cancel g-1", "none"},
                                        {"try g-1", "refused"},
                                        {"confirm g-1", "refused"}};

    RUN_STEPS(*state, steps);
    expect_account(*state, 100, 0);
}

static void the_second_of_the_same_does_nothing(void **state)
{
    static const struct step steps[] = {{"try g-1", "go"},        {"try g-1", "repeat"},
                                        {"confirm g-1", "go"},    {"confirm g-1", "repeat"},
                                        {"try g-2", "go"},        {"cancel g-2", "go"},
                                        {"cancel g-2", "repeat"}, {"try g-2", "repeat"}};

    RUN_STEPS(*state, steps);
    expect_account(*state, 90, 0);
}

static void confirm_and_cancel_exclude_each_other(void **state)
{
    static const struct step steps[] = {{"try g-1", "go"},         {"confirm g-1", "go"},
                                        {"cancel g-1", "refused"}, {"try g-2", "go"},
                                        {"cancel g-2", "go"},      {"confirm g-2", "refused"},
                                        {"confirm g-3", "refused"}};

    RUN_STEPS(*state, steps);
    expect_account(*state, 90, 0);
}

static void branches_of_one_gid_are_apart(void **state)
{
    static const struct step steps[] = {{"try g-1 a", "go"},
                                        {"cancel g-1 b", "none"},
                                        {"try g-1 b", "refused"},
                                        {"confirm g-1 a", "go"}};

    RUN_STEPS(*state, steps);
    expect_account(*state, 90, 0);
}

static bool is_cancel_waiting(void *rig)
{
    return rig_number(rig,
                      "SELECT COUNT(*) FROM information_schema.processlist WHERE "
                      "info LIKE 'INSERT INTO half_barrier (gid, branch%' AND db = DATABASE()") > 0;
}

/* The Try is a call to the participant in these two, as in the example: a transaction of its own,
 * and still open when the Cancel comes. */
static void cancel_beside_an_open_try(struct rig *rig, const char *end, const char *answer)
{
    struct db *open_try = test_db_open(&rig->test_db.opts);
    struct obx_consumer *consumer;
    const struct step step = {"cancel g-1", answer};

    rig->opts.db_lock_wait_s = 1;
    rig->opts.max_attempts = 100;
    rig->opts.retry_min_ms = 50;
    rig->opts.retry_cap_ms = 200;
    test_db_run(open_try, "BEGIN");
    test_db_run(open_try,
                "INSERT INTO half_barrier (gid, op, reason) VALUES ('g-1', 'try', 'try')");
    test_db_run(open_try, "UPDATE account SET balance = balance - 10, frozen = frozen + 10");
    rig_declare(rig);
    put(rig, step.body);
    rig_flush(rig);
    consumer = rig_start(rig, take_step, NULL);
    assert_true(wait_until(RIG_WAIT_MS, is_cancel_waiting, rig));
    assert_int_equal(rig_number(rig, "SELECT COUNT(*) FROM answer"), 0);
    test_db_run(open_try, end);
    wait_answers(rig, 1);
    rig_stop(consumer);
    expect_answers(rig, &step, 1);
    expect_account(rig, 100, 0);
    db_close(open_try);
}

static void a_cancel_waits_for_an_open_try_and_undoes_it(void **state)
{
    cancel_beside_an_open_try(*state, "COMMIT", "go");
}

static void a_cancel_waits_for_an_open_try_that_rolls_back(void **state)
{
    cancel_beside_an_open_try(*state, "ROLLBACK", "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_cancel_without_its_try_does_nothing_and_keeps_it_out,
                                        setup, rig_teardown),
        cmocka_unit_test_setup_teardown(the_second_of_the_same_does_nothing, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(confirm_and_cancel_exclude_each_other, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(branches_of_one_gid_are_apart, setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_cancel_waits_for_an_open_try_and_undoes_it, setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_cancel_waits_for_an_open_try_that_rolls_back, setup,
                                        rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
