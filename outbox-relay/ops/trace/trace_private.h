/* What the files of the trace share. */
#ifndef OPS_TRACE_PRIVATE_H
#define OPS_TRACE_PRIVATE_H

#include "base/bytes.h"
#include "ops/resource.h"
#include "trace.h"

/** Rows of a table without an index that are looked at in one go: some milliseconds on any server. */
enum { TRACE_WINDOW = 2000 };

/** Something that a row says: its time and its sentence, both SQL; a sentence that is NULL is none. */
struct trace_event {
    const char *at;
    const char *text;
    unsigned rank;
};

/** Where to look: one statement, one entry for each event of each row it returns. */
struct trace_lookup {
    const char *table;
    enum schema_side side;
    /* FROM and WHERE by message id and by ordering key, with '?' for it; NULL: not by that. '~' is the
     * list of values in `of`. */
    const char *by_id;
    const char *by_key;
    const struct trace_event *events;
    size_t event_count;
    const struct column *fields;
    size_t field_count;
    const char *nothing; /* what it means that there is no row; NULL: nothing worth a line */
};
#define EVENTS_OF(array)    .events = (array), .event_count = sizeof(array) / sizeof((array)[0])
#define TRACE_FIELDS(array) .fields = (array), .field_count = sizeof(array) / sizeof((array)[0])

/** A trace at work on one place. */
struct tracer {
    const struct trace_opts *opts;
    struct trace *out;
    const struct trace_place *place;
    struct db *db;
    unsigned sides;      /* bits: which the database has */
    uint64_t applied_us; /* when a group of this database has applied it; 0: none has */
    struct obx_buf scratch;
};

/** Add an entry; text and fields are taken as they are, fields is given over. */
OBX_NODISCARD enum obx_code trace_add(struct tracer *tracer, enum trace_kind kind,
                                      const char *table, const char *fmt, ...) OBX_PRINTF(4, 5);
/** Run a text statement of the trace. Any OBX_E_DB_*. */
OBX_NODISCARD enum obx_code trace_query(struct tracer *tracer, const struct obx_buf *sql,
                                        struct db_rows **rows, struct obx_err *err);
/** Append sql with what is looked for, as a literal, in the place of each '?'. */
void trace_add_sql(struct tracer *tracer, struct obx_buf *buf, const char *sql,
                   struct obx_bytes value);
/** Look; *found is how many rows there were. */
OBX_NODISCARD enum obx_code trace_look(struct tracer *tracer, const struct trace_lookup *lookup,
                                       size_t *found, struct obx_err *err);
/** The same with another FROM, for a table of another name. */
OBX_NODISCARD enum obx_code trace_look_from(struct tracer *tracer,
                                            const struct trace_lookup *lookup, const char *table,
                                            const char *from, size_t *found, struct obx_err *err);
bool trace_has_side(const struct tracer *tracer, enum schema_side side);

/** A table that has ids in about the order of their times, and no index of what is looked for. */
struct trace_window {
    const char *table;     /* quoted */
    const char *time;      /* the column: "created_at" */
    const char *condition; /* "t.message_id = ?" */
    struct obx_bytes value;
    uint64_t near_us; /* when the row may have been written; 0: not known */
};
/** Ids of rows that fit, max of them at most, among the first and last rows of the table and those
 * written about near_us. *is_whole: that was all of the table. */
OBX_NODISCARD enum obx_code trace_find(struct tracer *tracer, const struct trace_window *window,
                                       uint64_t *ids, size_t max, size_t *count, bool *is_whole,
                                       struct obx_err *err);

/* ---- trace_source.c, trace_consumer.c: what there is to ask of a place ---- */

OBX_NODISCARD enum obx_code trace_ask_source(struct tracer *tracer, struct obx_err *err);
OBX_NODISCARD enum obx_code trace_ask_consumer(struct tracer *tracer, struct obx_err *err);

#endif
