/* Portions by primary key. Called by reconcile.c. */
#include "id_stream.h"

#include <string.h>

enum { PORTION = 5000 };

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

static enum obx_code read_portion(struct id_stream *stream, struct obx_err *err)
{
    enum obx_code rc;

    /* The present row borrows from the portion that goes. */
    db_rows_free(stream->rows);
    stream->rows = NULL;
    stream->args[stream->arg_count] = DB_BYTES(id_bytes(&stream->last));
    stream->args[stream->arg_count + 1] = DB_U64(PORTION);
    rc = db_query(stream->db, stream->sql, stream->args, stream->arg_count + 2, &stream->rows, err);
    if (rc == OBX_OK)
        stream->is_last = db_rows_count(stream->rows) < PORTION;
    return rc;
}

enum obx_code id_stream_next(struct id_stream *stream, bool *has_row, struct obx_err *err)
{
    enum obx_code rc = stream->rows == NULL ? read_portion(stream, err) : OBX_OK;

    *has_row = rc == OBX_OK && db_rows_next(stream->rows);
    if (rc == OBX_OK && !*has_row && !stream->is_last) {
        rc = read_portion(stream, err);
        *has_row = rc == OBX_OK && db_rows_next(stream->rows);
    }
    if (*has_row) {
        stream->id = db_rows_bytes(stream->rows, 0);
        stream->number = db_rows_u64(stream->rows, 1);
        id_copy(&stream->last, stream->id);
        stream->read++;
    }
    return rc;
}

void id_stream_fini(struct id_stream *stream)
{
    db_rows_free(stream->rows);
    stream->rows = NULL;
}
