/*
 * What the checks of databases have in common: reachable, new enough, the schema of a side, and
 * rights, tried with statements that touch no row. Used by check_source.c and check_half.c.
 */
#ifndef DAEMON_CHECK_DB_H
#define DAEMON_CHECK_DB_H

#include "check.h"
#include "check_fix.h"
#include "sql/db.h"
#include "sql/schema.h"

enum { CHECK_SUBJECT_MAX = 192, CHECK_ACCOUNT_MAX = 192 };

/** One database while it is looked at. */
struct check_visit {
    struct check_where where;
    struct check_out *out;
    struct db *db;
    bool is_unproved;                /* no schema was looked at: a denied table may be missing */
    char account[CHECK_ACCOUNT_MAX]; /* 'user'@'host' as GRANT wants it */
};

/** One right and a statement that needs it and no other one. */
struct check_trial {
    const char *right;
    const char
        *table; /* NULL: the table that is named to check_db_trial, which stands for the %s */
    const char *sql;
};

/** Connect and look at the server; false after a FAILED line. Close with db_close. */
bool check_db_open(struct check_visit *visit, const char *subject);
/** Whether it makes sense to look at the tables. */
bool check_db_side(struct check_visit *visit, const char *subject, enum schema_side side);
OBX_NODISCARD enum obx_code check_db_trial(struct db *db, const struct check_trial *trial,
                                           const char *table, struct obx_err *err);
/** Find out whom the server took us for; check_db_open does it too. */
void check_db_account(struct check_visit *visit);
/** Each of them; one ok line when all went well. */
void check_db_trials(struct check_visit *visit, const char *subject,
                     const struct check_trial *trials, size_t count, const char *ok);
void check_db_failed(struct check_visit *visit, const char *subject, const struct obx_err *err);
void check_db_failed_grant(struct check_visit *visit, const char *subject, const char *rights,
                           const char *table, const struct obx_err *err);

#endif
