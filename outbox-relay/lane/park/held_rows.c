/*
 * Rows that are left out for a while. See held_rows.h.
 */
#include "held_rows.h"

#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/random.h"

enum { MIN_MS = 500, FORGET_MS = 120 * 1000 };

/* What has been tried again and not come back is no longer kept in mind. */
static void expire(struct held_rows *held)
{
    uint64_t now_ms = clock_now_ms();
    size_t kept = 0;

    for (size_t i = 0; i < held->count; i++) {
        if (held->rows[i].until_ms + FORGET_MS > now_ms)
            held->rows[kept++] = held->rows[i];
    }
    held->count = kept;
}

/* 64 names at most: a search costs less than an index. */
static struct held_row *find(struct held_rows *held, const char *name)
{
    for (size_t i = 0; i < held->count; i++) {
        if (strcmp(held->rows[i].name, name) == 0)
            return &held->rows[i];
    }
    return NULL;
}

/* A new one, in the place of the one that is due first when there is no room. */
static struct held_row *make(struct held_rows *held)
{
    struct held_row *row = &held->rows[0];

    if (held->count < HELD_ROWS_MAX) {
        row = &held->rows[held->count++];
    } else {
        for (size_t i = 1; i < held->count; i++) {
            if (held->rows[i].until_ms < row->until_ms)
                row = &held->rows[i];
        }
    }
    memset(row, 0, sizeof(*row));
    return row;
}

void held_rows_add(struct held_rows *held, struct obx_bytes name, uint32_t cap_ms,
                   const struct obx_err *why)
{
    char text[HELD_NAME_MAX + 1];
    struct held_row *row = NULL;

    (void)bytes_to_text(name, text, sizeof(text));
    expire(held);
    row = find(held, text);
    if (row == NULL)
        row = make(held);
    (void)snprintf(row->name, sizeof(row->name), "%s", text);
    row->attempts++;
    row->until_ms = clock_now_ms() + backoff_nth_ms(MIN_MS, cap_ms, row->attempts, random_u64());
    (void)snprintf(held->why, sizeof(held->why), "%s", why->text);
}

void held_rows_add_id(struct held_rows *held, uint64_t id, uint32_t cap_ms,
                      const struct obx_err *why)
{
    char name[HELD_NAME_MAX + 1];

    (void)snprintf(name, sizeof(name), "%llu", (unsigned long long)id);
    held_rows_add(held, bytes_of(name), cap_ms, why);
}

static size_t active(const struct held_rows *held)
{
    uint64_t now_ms = clock_now_ms();
    size_t count = 0;

    for (size_t i = 0; i < held->count; i++)
        count += held->rows[i].until_ms > now_ms;
    return count;
}

bool held_rows_is_full(const struct held_rows *held)
{
    return active(held) == HELD_ROWS_MAX;
}

const char *held_rows_why(const struct held_rows *held)
{
    return active(held) > 0 ? held->why : NULL;
}

void held_rows_clear(struct held_rows *held)
{
    held->count = 0;
}

/* By the statement, and not after it: or a page full of held rows would hide what comes after them. */
enum obx_code held_rows_exclude(struct held_rows *held, struct db *db, struct obx_buf *sql,
                                const char *column)
{
    uint64_t now_ms = clock_now_ms();
    bool is_first = true;
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < held->count && rc == OBX_OK; i++) {
        if (held->rows[i].until_ms <= now_ms)
            continue;
        rc = is_first ? buf_addf(sql, " AND %s NOT IN (", column) : buf_add_text(sql, ",");
        if (rc == OBX_OK)
            rc = db_add_literal(db, sql, bytes_of(held->rows[i].name));
        is_first = false;
    }
    return rc == OBX_OK && !is_first ? buf_add_text(sql, ")") : rc;
}
