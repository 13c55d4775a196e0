/*
 * The numbered, forward-only migrations of sql/schema, built into the programs, and the version
 * table that records them. Everything here runs on the caller's connection and thread.
 */
#ifndef SQL_SCHEMA_H
#define SQL_SCHEMA_H

#include "sql/db.h"

/** How many sides there are. */
#define SCHEMA_SIDE_COUNT 7
/** Each side is versioned by itself; several may live in one database. */
enum schema_side {
    SCHEMA_PRODUCER, /* outbox, parked, lease: a source */
    SCHEMA_CONSUMER, /* dedup: where a consumer applies */
    SCHEMA_HALF,     /* half-messages: beside the outbox of a source */
    SCHEMA_BARRIER,  /* the barrier: where a half-message's local transaction runs */
    SCHEMA_NOTIFY,   /* notifications: where inbox-relay consumes, beside the consumer side */
    SCHEMA_JOURNAL,  /* what was published, for reconcile: beside the outbox of a source */
    SCHEMA_INBOX     /* the inbox table: where inbox-relay stores, beside the consumer side */
};

struct schema_step {
    enum schema_side side;
    uint32_t version; /* 1, 2, ... */
    const char *name; /* file name without folder and extension */
    const char *sql;  /* the file, whole */
};
/** "producer", "consumer", "half", "barrier", "notify", "journal" or "inbox". */
const char *schema_side_name(enum schema_side side);
/** The migrations of one side in order; *count of them. Static. */
const struct schema_step *schema_steps(enum schema_side side, size_t *count);
/** The newest version this program knows. */
uint32_t schema_latest(enum schema_side side);

/** What the database has: 0 when there is no version table or no row for the side. */
OBX_NODISCARD enum obx_code schema_version(struct db *db, enum schema_side side, uint32_t *version,
                                           struct obx_err *err);
/**
 * Whether this program can work with the database's schema.
 * @return OBX_OK; OBX_E_DB_NO_TABLE (none: says to run `outboxctl migrate`); OBX_E_DB_SCHEMA
 * (older: says so; newer than this program knows: says to upgrade it); any OBX_E_DB_*
 */
OBX_NODISCARD enum obx_code schema_check(struct db *db, enum schema_side side, struct obx_err *err);

/** Called before each step that will be applied. */
typedef void schema_progress_fn(const struct schema_step *step, void *ctx);
/**
 * Apply what is missing, under a named lock so that two runs do not collide; each step is recorded
 * when its statements are through. A step that was cut off half-way is run again (every statement
 * of a step is safe to repeat). Doing nothing is success. The producer's side ends with further
 * outbox tables: those that lack a column which `outbox` has got since are given it.
 */
OBX_NODISCARD enum obx_code schema_migrate(struct db *db, enum schema_side side,
                                           schema_progress_fn *progress, void *ctx,
                                           struct obx_err *err);
/** Make one more outbox table with the definition of `outbox`; when it exists, give it the columns
 * that it lacks. name: 1-64 of [A-Za-z0-9_]. OBX_E_DB_SCHEMA when a table of that name is there
 * that is no outbox; OBX_E_DB_NO_TABLE before `outbox` itself is there. Needs CREATE and SELECT on
 * outbox. */
OBX_NODISCARD enum obx_code schema_add_outbox(struct db *db, const char *name, struct obx_err *err);
/** Whether a table of that name, if there is one, is an outbox: OBX_E_DB_SCHEMA when it is not. */
OBX_NODISCARD enum obx_code schema_check_outbox(struct db *db, const char *name,
                                                struct obx_err *err);

#endif
