/*
 * Message ids of one table in the order of its primary key, read in portions, the next one by a
 * thread of its own while the present one is worked on: memory for two portions, whatever the
 * table's size. While a stream is open its connection is the stream's alone.
 */
#ifndef CTL_ID_STREAM_H
#define CTL_ID_STREAM_H

#include "base/bytes.h"
#include "base/thread.h"
#include "sql/db.h"

enum { ID_STREAM_ARGS = 24, ID_MAX = 255 };

/** A message id by value. */
struct id_text {
    size_t len;
    char bytes[ID_MAX + 1]; /* with a NUL after it */
};
/** As memcmp: the order of both tables. */
int id_compare(struct obx_bytes a, struct obx_bytes b);
void id_copy(struct id_text *to, struct obx_bytes from);
struct obx_bytes id_bytes(const struct id_text *id);

struct id_portion;

struct id_stream {
    struct db *db;
    /* Selects (message_id, a number); its last two places are the id to go on after, and how many
     * rows: `... AND message_id > ? ... ORDER BY message_id LIMIT ?`. */
    const char *sql;
    struct obx_value args[ID_STREAM_ARGS]; /* those before the last two */
    size_t arg_count;
    struct id_text last; /* set to where to begin */
    /* The present row, good until the next call. */
    struct obx_bytes id;
    uint64_t number;
    uint64_t read; /* rows so far */

    /* Private. */
    struct id_portion *now, *next;
    size_t at;
    struct thread thread; /* reads next */
};

/** Go to the next (first: the first) row; *has_row false after the last. Any OBX_E_DB_*. */
OBX_NODISCARD enum obx_code id_stream_next(struct id_stream *stream, bool *has_row,
                                           struct obx_err *err);
/** Waits for the portion that is being read. */
void id_stream_fini(struct id_stream *stream);

#endif
