/*
 * A list of row ids on its way into a statement: the one idiom there is for it.
 *
 * As a parameter it is a JSON array that the statement joins first (ID_LIST_TABLE, then
 * STRAIGHT_JOIN with FORCE INDEX (PRIMARY)): each id is one look-up, however small the table is,
 * where DELETE ... IN (...) scans a small table and waits for rows of others. Statements that lock
 * what they read take the ids as literals instead, with the index forced: beside JSON_TABLE MySQL
 * refuses FOR UPDATE (3569). Both servers look up up to 999 literals one by one; MariaDB makes a
 * join of more. Proved by tests/system/plans_test.c and row_delete_test.c.
 */
#ifndef TABLES_ID_LIST_H
#define TABLES_ID_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "obx/err.h"
#include "sql/db.h"

/** The list as a table k with the column id; its value is ID_LIST_ARG. */
#define ID_LIST_TABLE "JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$')) k"

/** Zero-initialise. */
struct id_list {
    struct obx_buf ids; /* "[1,2,3]"; nothing while it is empty */
    struct obx_buf sql; /* of id_list_statement */
    size_t count;
};

void id_list_fini(struct id_list *list);
void id_list_clear(struct id_list *list);
/** Append one. OBX_E_NOMEM, and the list is as before. */
OBX_NODISCARD enum obx_code id_list_add(struct id_list *list, uint64_t id, struct obx_err *err);
/** The list becomes these. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code id_list_set(struct id_list *list, const uint64_t *ids, size_t count,
                                        struct obx_err *err);
/** The value for ID_LIST_TABLE. Borrowed from the list. */
#define ID_LIST_ARG(list) DB_BYTES(id_list_json(list))
struct obx_bytes id_list_json(const struct id_list *list);
/**
 * The text `before` (ending in "IN (") + the ids + `after` (beginning with ")"). Borrowed from the
 * list until its next statement. The list is not empty. OBX_E_NOMEM.
 */
OBX_NODISCARD enum obx_code id_list_statement(struct id_list *list, const char *before,
                                              const char *after, struct obx_bytes *sql,
                                              struct obx_err *err);

#endif
