/* Portions by primary key. Called by reconcile.c. */
#include "id_stream.h"

#include <string.h>

#include "base/alloc.h"

enum { PORTION = 5000 };

struct id_portion {
    struct obx_buf bytes; /* of all ids, one after the other */
    struct {
        uint32_t at, len;
        uint64_t number;
    } rows[PORTION];
    size_t count;
    enum obx_code rc;
    struct obx_err err;
};

int id_compare(struct obx_bytes a, struct obx_bytes b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = memcmp(a.p, b.p, len);

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

void id_copy(struct id_text *to, struct obx_bytes from)
{
    to->len = from.len < ID_MAX ? from.len : ID_MAX;
    if (to->len > 0)
        memcpy(to->bytes, from.p, to->len);
    to->bytes[to->len] = '\0';
}

struct obx_bytes id_bytes(const struct id_text *id)
{
    return (struct obx_bytes){.p = id->bytes, .len = id->len};
}

/* ---- reading ---- */

/* Copied out of the result, which is freed before the portion is worked on: two portions of ids are
 * a megabyte, two results several. */
static enum obx_code add_row(struct id_portion *portion, const struct db_rows *rows)
{
    struct obx_bytes id = db_rows_bytes(rows, 0);
    size_t row = portion->count;

    if (portion->bytes.len > UINT32_MAX - ID_MAX || id.len > ID_MAX)
        return OBX_E_TOO_LARGE;
    portion->rows[row].at = (uint32_t)portion->bytes.len;
    portion->rows[row].len = (uint32_t)id.len;
    portion->rows[row].number = db_rows_u64(rows, 1);
    portion->count++;
    return buf_add(&portion->bytes, id.p, id.len);
}

/* On either thread; what it touches is its own meanwhile. */
static void read_next(struct id_stream *stream)
{
    struct id_portion *portion = stream->next;
    struct db_rows *rows = NULL;

    portion->count = 0;
    buf_reset(&portion->bytes);
    stream->args[stream->arg_count] = DB_BYTES(id_bytes(&stream->last));
    stream->args[stream->arg_count + 1] = DB_U64(PORTION);
    portion->rc = db_query(stream->db, stream->sql, stream->args, stream->arg_count + 2, &rows,
                           &portion->err);
    while (portion->rc == OBX_OK && portion->count < PORTION && db_rows_next(rows)) {
        portion->rc = add_row(portion, rows);
        if (portion->rc != OBX_OK)
            (void)obx_fail(&portion->err, portion->rc, "portion of ids");
    }
    db_rows_free(rows);
}

static struct obx_bytes id_at(const struct id_portion *portion, size_t row)
{
    return (struct obx_bytes){.p = portion->bytes.data + portion->rows[row].at,
                              .len = portion->rows[row].len};
}

static void *thread_main(void *arg)
{
    read_next(arg);
    db_thread_end();
    return NULL;
}

/* A portion that is not full was the last one. */
static void start_reading(struct id_stream *stream)
{
    if (stream->now->count < PORTION)
        return;
    id_copy(&stream->last, id_at(stream->now, stream->now->count - 1));
    if (thread_start(&stream->thread, thread_main, stream, "a portion of ids", NULL) != OBX_OK)
        read_next(stream);
}

static enum obx_code take_next(struct id_stream *stream, struct obx_err *err)
{
    struct id_portion *done = stream->now;

    thread_join(&stream->thread);
    stream->now = stream->next;
    stream->next = done;
    stream->at = 0;
    if (stream->now->rc != OBX_OK) {
        if (err != NULL)
            *err = stream->now->err;
        return stream->now->rc;
    }
    start_reading(stream);
    return OBX_OK;
}

/* The first portion is read at once: without it there is nothing to work on meanwhile. */
static enum obx_code begin(struct id_stream *stream, struct obx_err *err)
{
    stream->now = obx_calloc(1, sizeof(*stream->now));
    stream->next = obx_calloc(1, sizeof(*stream->next));
    if (stream->now == NULL || stream->next == NULL)
        return obx_fail(err, OBX_E_NOMEM, "portions of ids");
    read_next(stream);
    return take_next(stream, err);
}

enum obx_code id_stream_next(struct id_stream *stream, bool *has_row, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    *has_row = false;
    if (stream->now == NULL)
        rc = begin(stream, err);
    else if (stream->at == stream->now->count && stream->now->count == PORTION)
        rc = take_next(stream, err);
    if (rc != OBX_OK || stream->at == stream->now->count)
        return rc;
    stream->id = id_at(stream->now, stream->at);
    stream->number = stream->now->rows[stream->at].number;
    stream->at++;
    stream->read++;
    *has_row = true;
    return OBX_OK;
}

static void free_portion(struct id_portion *portion)
{
    if (portion != NULL)
        buf_fini(&portion->bytes);
    obx_free(portion);
}

void id_stream_fini(struct id_stream *stream)
{
    thread_join(&stream->thread);
    free_portion(stream->now);
    free_portion(stream->next);
    stream->now = stream->next = NULL;
}
