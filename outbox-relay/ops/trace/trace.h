/*
 * The story of one message: everything that the tables of sources and consumers know of it, in the
 * order of time. `outboxctl trace` and the console's page of a message show the same list.
 *
 * Nothing is written, and every statement reads along an index or a bounded number of rows: the
 * tables on the hot path have no index of message ids, and get none for this. What cannot be known
 * is an entry, too, which says why; a database that does not answer is one as well, and the others
 * are asked all the same. Proved by tests/system/trace_test.c.
 *
 * One thread; it waits for databases, each no longer than its place says.
 */
#ifndef OPS_TRACE_H
#define OPS_TRACE_H

#include <jansson.h>

#include "config/relay_config.h"
#include "sql/db.h"

enum trace_kind {
    TRACE_FACT,    /* a row says so */
    TRACE_NOTHING, /* looked for, and no row is there */
    TRACE_UNKNOWN, /* could not be looked for, or only in part: the text says why */
    TRACE_FAILED   /* the database has refused or did not answer */
};

struct trace_entry {
    uint64_t at_us; /* since 1970 by the clock of that database; 0: no time is known */
    enum trace_kind kind;
    unsigned rank; /* of facts, how much it says of where the message is now; 0: nothing */
    char *source;  /* "table inbox_applied of stock" */
    char *text;
    json_t *fields; /* columns of the row by their JSON names; NULL: no row, or said before */
};

/** A database to be asked. */
struct trace_place {
    const char *name;
    struct db_opts db; /* with times as short as the caller needs */
    bool is_consumer;
    /* Of a source: its outbox tables (none: those that the database knows) and whether the journal is
     * kept. */
    const char *const *outboxes;
    size_t outbox_count;
    bool has_journal;
};

struct trace_opts {
    const struct trace_place *places;
    size_t place_count;
    const char *id;  /* a message id, or the gid of a half-message; NULL: the key says it */
    const char *key; /* an ordering key: what is known of its messages; NULL: the id says it */
    uint64_t
        due_ms; /* monotonic: what has not been asked by then is not asked, and each place gets no
                        more than its share of the time that is left; 0: there is time */
    /* Every statement before it runs, for a test. NULL: nobody looks. */
    void (*on_statement)(struct db *db, struct obx_bytes sql, void *ctx);
    void *ctx;
};

/** Zero-initialise; free with trace_fini. */
struct trace {
    struct trace_entry *items; /* facts in the order of time, then the rest */
    size_t count, room;
    const struct trace_entry
        *now;            /* the fact that says where the message is; NULL: none is known */
    uint64_t statements; /* that were run for it, sessions not counted */
};

/** Ask them all. OBX_E_NOMEM; what a database says against it is an entry and no error. */
OBX_NODISCARD enum obx_code trace_run(const struct trace_opts *opts, struct trace *out,
                                      struct obx_err *err);
void trace_fini(struct trace *trace);
/** "fact", "nothing", "unknown", "failed". */
const char *trace_kind_name(enum trace_kind kind);
/** {"id": ..., "now": ..., "entries": [...]}; NULL without memory. */
json_t *trace_json(const struct trace_opts *opts, const struct trace *trace);

/** The places of a configuration: its sources and [consumer] sections, *count of them, with timeout_ms
 * for each answer. Free with obx_free; texts are borrowed from the configuration. NULL: no memory. */
struct trace_place *trace_places(const struct relay_config *config, uint32_t timeout_ms,
                                 size_t *count);

#endif
