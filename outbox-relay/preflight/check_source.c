/*
 * The checks of one source: its database, the sides that the configuration needs there, tables, and
 * every right that a lane uses. The rights are tried inside a transaction that is rolled back.
 */
#include <stdio.h>
#include <string.h>

#include "check_db.h"
#include "check_fix.h"
#include "sql/schema.h"

static const struct check_trial outbox_trials[] = {
    {"SELECT", NULL, "SELECT id, receipt_from FROM %s WHERE id = 0"},
    {"INSERT", NULL,
     "INSERT INTO %s (id, message_id, topic, payload) SELECT 0, '', '', '' FROM DUAL WHERE FALSE"},
    {"DELETE", NULL, "DELETE FROM %s WHERE FALSE LIMIT 1"},
};
static const struct check_trial common_trials[] = {
    {"SELECT", "outbox_parked", "SELECT parked_id FROM outbox_parked WHERE parked_id = 0"},
    {"INSERT", "outbox_parked",
     "INSERT INTO outbox_parked (outbox, id, message_id, topic, content_type, payload, created_at,"
     " reason_code) SELECT '', 0, '', '', '', '', UTC_TIMESTAMP(6), '' FROM DUAL WHERE FALSE"},
    {"UPDATE", "outbox_parked", "UPDATE outbox_parked SET request = NULL WHERE FALSE LIMIT 1"},
    {"DELETE", "outbox_parked", "DELETE FROM outbox_parked WHERE FALSE LIMIT 1"},
    {"SELECT", "outbox_lease", "SELECT owner FROM outbox_lease WHERE outbox = ''"},
    {"INSERT", "outbox_lease", "INSERT INTO outbox_lease (outbox) SELECT '' FROM DUAL WHERE FALSE"},
    {"UPDATE", "outbox_lease", "UPDATE outbox_lease SET owner = '' WHERE FALSE LIMIT 1"},
    {"SELECT", "outbox_relay", "SELECT relay FROM outbox_relay WHERE relay = ''"},
    {"INSERT", "outbox_relay",
     "INSERT INTO outbox_relay (relay, outboxes, version, weight, expires_at) SELECT '', '', '', 0,"
     " UTC_TIMESTAMP(6) FROM DUAL WHERE FALSE"},
    {"UPDATE", "outbox_relay", "UPDATE outbox_relay SET weight = 0 WHERE FALSE LIMIT 1"},
    {"DELETE", "outbox_relay", "DELETE FROM outbox_relay WHERE FALSE LIMIT 1"},
    {"SELECT", "outbox_delayed", "SELECT id FROM outbox_delayed WHERE id = 0"},
    {"DELETE", "outbox_delayed", "DELETE FROM outbox_delayed WHERE FALSE LIMIT 1"},
    {"SELECT", "outbox_awaiting", "SELECT id FROM outbox_awaiting WHERE message_id = ''"},
    {"INSERT", "outbox_awaiting",
     "INSERT INTO outbox_awaiting (message_id, outbox, id, topic, content_type, payload, "
     "created_at,"
     " receipt_from, next_send_at) SELECT '', '', 0, '', '', '', UTC_TIMESTAMP(6), '',"
     " UTC_TIMESTAMP(6) FROM DUAL WHERE FALSE"},
    {"UPDATE", "outbox_awaiting", "UPDATE outbox_awaiting SET sends = 1 WHERE FALSE LIMIT 1"},
    {"DELETE", "outbox_awaiting", "DELETE FROM outbox_awaiting WHERE FALSE LIMIT 1"},
    {"SELECT", "outbox_receipt", "SELECT outcome FROM outbox_receipt WHERE message_id = ''"},
    {"INSERT", "outbox_receipt",
     "INSERT INTO outbox_receipt (message_id, consumer_group, outcome) SELECT '', '', 'applied'"
     " FROM DUAL WHERE FALSE"},
    {"UPDATE", "outbox_receipt", "UPDATE outbox_receipt SET reason = NULL WHERE FALSE LIMIT 1"},
    {"DELETE", "outbox_receipt", "DELETE FROM outbox_receipt WHERE FALSE LIMIT 1"},
    {"SELECT", "outbox_secret", "SELECT version FROM outbox_secret WHERE version = 0"},
    {"INSERT", "outbox_secret",
     "INSERT INTO outbox_secret (version, secret) SELECT 0, '' FROM DUAL WHERE FALSE"},
    {"SELECT", "outbox_audit", "SELECT audit_id FROM outbox_audit WHERE audit_id = 0"},
    {"INSERT", "outbox_audit",
     "INSERT INTO outbox_audit (action, actor, note, outbox, id, message_id, topic, reason_code)"
     " SELECT '', '', '', '', 0, '', '', '' FROM DUAL WHERE FALSE"},
    {"DELETE", "outbox_audit", "DELETE FROM outbox_audit WHERE FALSE LIMIT 1"},
};
static const struct check_trial journal_trials[] = {
    {"SELECT", "outbox_journal",
     "SELECT topic FROM outbox_journal WHERE is_custom = 0 AND message_id = ''"},
    {"INSERT", "outbox_journal",
     "INSERT INTO outbox_journal (is_custom, message_id, outbox, topic, created_at) SELECT 0, '', "
     "'',"
     " '', UTC_TIMESTAMP(6) FROM DUAL WHERE FALSE"},
    {"UPDATE", "outbox_journal", "UPDATE outbox_journal SET topic = '' WHERE FALSE LIMIT 1"},
    {"DELETE", "outbox_journal", "DELETE FROM outbox_journal WHERE FALSE LIMIT 1"},
};
enum {
    JOURNAL_TRIALS = sizeof(journal_trials) / sizeof(journal_trials[0]),
    OUTBOX_TRIALS = sizeof(outbox_trials) / sizeof(outbox_trials[0]),
    COMMON_TRIALS = sizeof(common_trials) / sizeof(common_trials[0]),
};

/* Nothing at all is allowed: the server says so of a table that is not there, too. */
static void failed_outbox_denied(struct check_visit *visit, const char *subject, const char *outbox,
                                 const struct obx_err *err)
{
    char fix[CHECK_FIX_MAX];

    snprintf(fix, sizeof(fix),
             "if the table is missing: outboxctl migrate --outbox %s; then GRANT SELECT, INSERT, "
             "DELETE ON `%s`.`%s` TO %s",
             outbox, visit->where.db->database, outbox, visit->account);
    check_failed(visit->out, subject, err->text, fix);
}

static void failed_outbox(struct check_visit *visit, const char *subject, const char *outbox,
                          const struct obx_err *err)
{
    char fix[CHECK_FIX_MAX];

    if (err->code != OBX_E_DB_NO_TABLE) {
        check_db_failed(visit, subject, err);
        return;
    }
    /* `outboxctl migrate` has recorded that it made this one, and does not make it again. */
    if (strcmp(outbox, "outbox") == 0)
        snprintf(
            fix, sizeof(fix),
            "it was dropped or renamed, or stands in another database than `%s`: rename it "
            "back, or, where it is to be made again, empty: outboxctl migrate --print, and its "
            "CREATE TABLE",
            visit->where.db->database);
    else
        snprintf(fix, sizeof(fix), "run: outboxctl migrate --outbox %s", outbox);
    check_failed(visit->out, subject, err->text, fix);
}

static void check_outbox(struct check_visit *visit, const char *source, const char *outbox)
{
    char subject[CHECK_SUBJECT_MAX];
    struct obx_err errs[OUTBOX_TRIALS] = {{0}};
    size_t denied = 0, other = OUTBOX_TRIALS;

    snprintf(subject, sizeof(subject), "outbox %s/%s", source, outbox);
    if (schema_check_outbox(visit->db, outbox, &errs[0]) == OBX_E_DB_SCHEMA) {
        char fix[CHECK_FIX_MAX];

        snprintf(fix, sizeof(fix),
                 "correct outboxes in %s; outboxctl migrate --outbox NAME makes another outbox",
                 visit->where.section);
        check_failed(visit->out, subject, errs[0].text, fix);
        return;
    }
    for (size_t i = 0; i < OUTBOX_TRIALS; i++) {
        enum obx_code rc = check_db_trial(visit->db, &outbox_trials[i], outbox, &errs[i]);

        denied += rc == OBX_E_DB_DENIED;
        if (rc != OBX_OK && rc != OBX_E_DB_DENIED)
            other = i;
    }
    if (other < OUTBOX_TRIALS)
        failed_outbox(visit, subject, outbox, &errs[other]);
    else if (denied == OUTBOX_TRIALS)
        failed_outbox_denied(visit, subject, outbox, &errs[0]);
    else if (denied == 0)
        check_ok(visit->out, subject, "there, with the rights to read, delete and resume");
    for (size_t i = 0; i < OUTBOX_TRIALS && denied < OUTBOX_TRIALS; i++) {
        if (errs[i].code == OBX_E_DB_DENIED)
            check_db_failed_grant(visit, subject, outbox_trials[i].right, outbox, &errs[i]);
    }
}

static void check_tables(struct check_visit *visit, const struct source_config *source,
                         const char *subject)
{
    char grants[CHECK_SUBJECT_MAX];
    struct obx_err err = {0};

    if (db_begin(visit->db, &err) != OBX_OK) {
        check_db_failed(visit, subject, &err);
        return;
    }
    for (size_t i = 0; i < source->outbox_count; i++)
        check_outbox(visit, source->name, source->outboxes[i]);
    snprintf(grants, sizeof(grants), "grants %s", source->name);
    check_db_trials(visit, grants, common_trials, COMMON_TRIALS,
                    "lease, parked, awaiting and delayed messages can be read and written");
    (void)db_rollback(visit->db, NULL);
}

static void check_journal(struct check_visit *visit, const struct source_config *source)
{
    char subject[CHECK_SUBJECT_MAX];

    snprintf(subject, sizeof(subject), "journal %s", source->name);
    visit->where.migrate = "outboxctl migrate --side journal";
    if (check_db_side(visit, subject, SCHEMA_JOURNAL))
        check_db_trials(visit, subject, journal_trials, JOURNAL_TRIALS,
                        "the journal can be read and written");
}

void check_source(const struct source_config *source, struct check_out *out)
{
    char section[CHECK_SUBJECT_MAX];
    char subject[CHECK_SUBJECT_MAX];
    struct check_visit visit = {.where = {section, &source->lane.db, "outboxctl migrate"},
                                .out = out};

    snprintf(section, sizeof(section), "[source %s]", source->name);
    snprintf(subject, sizeof(subject), "database %s", source->name);
    if (!check_db_open(&visit, subject))
        return;
    snprintf(subject, sizeof(subject), "schema %s", source->name);
    if (check_db_side(&visit, subject, SCHEMA_PRODUCER))
        check_tables(&visit, source, subject);
    if (source->lane.journal)
        check_journal(&visit, source);
    db_close(visit.db);
}
