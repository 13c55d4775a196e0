/*
 * The checks of half-messages: their tables and rights at the source, and for each producer that is
 * asked through the barrier the barrier's database. A producer that is asked over HTTP is not
 * called: it need not run yet.
 */
#include <stdio.h>

#include "check_db.h"
#include "half/checkback/checkback.h"

static const struct check_trial half_trials[] = {
    {"SELECT", "half_message", "SELECT state FROM half_message WHERE gid = ''"},
    {"INSERT", "half_message",
     "INSERT INTO half_message (gid, producer) SELECT '', '' FROM DUAL WHERE FALSE"},
    {"UPDATE", "half_message", "UPDATE half_message SET note = NULL WHERE FALSE LIMIT 1"},
    {"DELETE", "half_message", "DELETE FROM half_message WHERE FALSE LIMIT 1"},
    {"SELECT", "half_part", "SELECT topic FROM half_part WHERE gid = ''"},
    {"INSERT", "half_part",
     "INSERT INTO half_part (gid, topic, payload) SELECT '', '', '' FROM DUAL WHERE FALSE"},
    {"DELETE", "half_part", "DELETE FROM half_part WHERE FALSE LIMIT 1"},
    {"SELECT", "half_history", "SELECT event FROM half_history WHERE id = 0"},
    {"INSERT", "half_history",
     "INSERT INTO half_history (gid, event, actor) SELECT '', '', '' FROM DUAL WHERE FALSE"},
    {"DELETE", "half_history", "DELETE FROM half_history WHERE FALSE LIMIT 1"},
};
static const struct check_trial barrier_trials[] = {
    {"SELECT", "half_barrier", "SELECT reason FROM half_barrier WHERE gid = ''"},
    {"INSERT", "half_barrier", "INSERT INTO half_barrier (gid) SELECT '' FROM DUAL WHERE FALSE"},
};
enum {
    HALF_TRIALS = sizeof(half_trials) / sizeof(half_trials[0]),
    BARRIER_TRIALS = sizeof(barrier_trials) / sizeof(barrier_trials[0]),
};

/* The trials inside a transaction that is rolled back. */
static void try_all(struct check_visit *visit, const char *subject,
                    const struct check_trial *trials, size_t count, const char *ok)
{
    struct obx_err err = {0};

    if (db_begin(visit->db, &err) != OBX_OK) {
        check_db_failed(visit, subject, &err);
        return;
    }
    check_db_trials(visit, subject, trials, count, ok);
    (void)db_rollback(visit->db, NULL);
}

static void check_messages(const struct source_config *source, struct check_out *out)
{
    static const char subject[] = "half-messages";
    char section[CHECK_SUBJECT_MAX];
    struct check_visit visit = {
        .where = {section, &source->lane.db, "outboxctl migrate --side half"}, .out = out};
    struct obx_err err = {0};

    snprintf(section, sizeof(section), "[source %s]", source->name);
    /* That the server is away or old is said of the source already. */
    if (db_open(visit.where.db, &visit.db, &err) != OBX_OK) {
        check_db_failed(&visit, subject, &err);
        return;
    }
    check_db_account(&visit);
    if (check_db_side(&visit, subject, SCHEMA_HALF))
        try_all(&visit, subject, half_trials, HALF_TRIALS,
                "half-messages can be prepared and decided");
    db_close(visit.db);
}

static void check_barrier(const struct check_producer *producer, struct check_out *out)
{
    char section[CHECK_SUBJECT_MAX];
    char subject[CHECK_SUBJECT_MAX];
    struct check_visit visit = {
        .where = {section, &producer->db, "outboxctl migrate --side barrier"},
        .out = out,
        .is_unproved = true}; /* the relay's account may not read its version */

    snprintf(section, sizeof(section), "[producer %s]", producer->name);
    snprintf(subject, sizeof(subject), "producer %s", producer->name);
    if (!check_db_open(&visit, subject))
        return;
    try_all(&visit, subject, barrier_trials, BARRIER_TRIALS, "its barrier can be asked");
    db_close(visit.db);
}

void check_half(const struct relay_config *config, struct check_out *out)
{
    const struct source_config *source = NULL;

    if (config->half.source[0] == '\0')
        return;
    source = relay_config_source(config, config->half.source);
    if (source != NULL)
        check_messages(source, out);
    for (size_t i = 0; i < config->producer_count; i++) {
        if (config->producers[i].kind == CHECK_BY_BARRIER)
            check_barrier(&config->producers[i], out);
    }
}
