/*
 * Lists of row ids for statements. See id_list.h.
 *
 * The text is a whole JSON array at any time, so that it can be given to a statement as it stands;
 * an id that is added takes the place of the closing bracket. What is between the brackets is the
 * list of literals.
 */
#include "id_list.h"

#include <inttypes.h>

#include "base/crash.h"

void id_list_fini(struct id_list *list)
{
    buf_fini(&list->ids);
    buf_fini(&list->sql);
    list->count = 0;
}

void id_list_clear(struct id_list *list)
{
    buf_reset(&list->ids);
    list->count = 0;
}

enum obx_code id_list_add(struct id_list *list, uint64_t id, struct obx_err *err)
{
    const size_t had = list->ids.len;

    /* Nothing is appended when memory is short, so that putting the bracket back undoes it. */
    list->ids.len -= had > 0;
    if (buf_addf(&list->ids, had == 0 ? "[%" PRIu64 "]" : ",%" PRIu64 "]", id) != OBX_OK) {
        list->ids.len = had;
        return obx_fail(err, OBX_E_NOMEM, "list of %zu ids", list->count + 1);
    }
    list->count++;
    return OBX_OK;
}

enum obx_code id_list_set(struct id_list *list, const uint64_t *ids, size_t count,
                          struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    id_list_clear(list);
    for (size_t i = 0; i < count && rc == OBX_OK; i++)
        rc = id_list_add(list, ids[i], err);
    return rc;
}

struct obx_bytes id_list_json(const struct id_list *list)
{
    static const char empty[] = "[]";

    return list->count == 0 ? bytes_of(empty) : buf_bytes(&list->ids);
}

enum obx_code id_list_statement(struct id_list *list, const char *before, const char *after,
                                struct obx_bytes *sql, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    OBX_ASSERT(list->count > 0);
    buf_reset(&list->sql);
    rc = buf_add_text(&list->sql, before);
    if (rc == OBX_OK)
        rc = buf_add(&list->sql, list->ids.data + 1, list->ids.len - 2);
    if (rc == OBX_OK)
        rc = buf_add_text(&list->sql, after);
    *sql = buf_bytes(&list->sql);
    return rc == OBX_OK ? OBX_OK : obx_fail(err, rc, "statement over %zu ids", list->count);
}
