/* The statements behind members.h. Each is a transaction of its own. */
#include "members.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "sql/schema.h"

enum { CLEAN_MS = 60 * 1000 };

#define US_PER_MS UINT64_C(1000)

/* Rows of processes that were killed stay for an hour, for those who look at the table. */
static const char sql_clean[] = "DELETE FROM inbox_member WHERE consumer_group = ? AND queue = ?"
                                " AND seen_at < UTC_TIMESTAMP(6) - INTERVAL 1 HOUR";

static const char sql_beat[] =
    "INSERT INTO inbox_member (consumer_group, queue, member, partitions, seen_at)"
    " VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6))"
    " ON DUPLICATE KEY UPDATE partitions = ?, seen_at = UTC_TIMESTAMP(6)";

static const char sql_list[] =
    "SELECT member, partitions FROM inbox_member WHERE consumer_group = ? AND queue = ?"
    " AND seen_at > UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND ORDER BY member LIMIT ?";

static const char sql_leave[] =
    "DELETE FROM inbox_member WHERE consumer_group = ? AND queue = ? AND member = ?";

void members_init(struct members *members, const struct settings *settings)
{
    *members = (struct members){.settings = settings};
    /* The random part makes it another one, the process is for those who look at the table. */
    (void)snprintf(members->name, sizeof(members->name), "%ld-%016" PRIx64, (long)getpid(),
                   random_u64());
}

static void disconnect(struct members *members)
{
    db_close(members->db);
    members->db = NULL;
}

void members_fini(struct members *members)
{
    disconnect(members);
    buf_fini(&members->names);
}

void members_end(struct members *members)
{
    disconnect(members);
    db_thread_end();
}

static enum obx_code connect(struct members *members, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    if (members->db != NULL)
        return OBX_OK;
    rc = db_open(&members->settings->db, &members->db, err);
    return rc == OBX_OK ? schema_check(members->db, SCHEMA_CONSUMER, err) : rc;
}

/* The names go into one buffer, which moves while it grows: pointers into it are taken at the end. */
static enum obx_code keep_rows(struct members *members, struct db_rows *rows, struct obx_err *err)
{
    size_t at = 0, count = 0;

    members->others = 0;
    buf_reset(&members->names);
    while (db_rows_next(rows) && count < SHARE_MEMBERS_MAX) {
        const struct obx_bytes name = db_rows_bytes(rows, 0);

        if (db_rows_u64(rows, 1) != members->settings->partitions) {
            members->others++;
            continue;
        }
        buf_add(&members->names, name.p, name.len);
        members->list[count++].name.len = name.len;
    }
    members->count = members->names.rc == OBX_OK ? count : 0;
    for (size_t i = 0; i < members->count; i++) {
        members->list[i].name.p = members->names.data + at;
        at += members->list[i].name.len;
    }
    return members->names.rc == OBX_OK ? OBX_OK : obx_fail(err, OBX_E_NOMEM, "members");
}

static enum obx_code beat(struct members *members, struct obx_err *err)
{
    const struct settings *s = members->settings;
    struct db_rows *rows = NULL;
    enum obx_code rc = db_exec(members->db, sql_beat,
                               DB_ARGS(DB_TEXT(s->group), DB_TEXT(s->queue), DB_TEXT(members->name),
                                       DB_U64(s->partitions), DB_U64(s->partitions)),
                               NULL, err);

    if (rc == OBX_OK)
        rc = db_query(members->db, sql_list,
                      DB_ARGS(DB_TEXT(s->group), DB_TEXT(s->queue),
                              DB_U64(MEMBERS_GONE_MS * US_PER_MS), DB_U64(SHARE_MEMBERS_MAX)),
                      &rows, err);
    if (rc == OBX_OK)
        rc = keep_rows(members, rows, err);
    db_rows_free(rows);
    return rc;
}

enum obx_code members_beat(struct members *members, struct obx_err *err)
{
    const struct settings *s = members->settings;
    enum obx_code rc = connect(members, err);

    if (rc == OBX_OK)
        rc = beat(members, err);
    if (rc == OBX_OK && clock_now_ms() - members->cleaned_ms >= CLEAN_MS) {
        members->cleaned_ms = clock_now_ms();
        rc = db_exec(members->db, sql_clean, DB_ARGS(DB_TEXT(s->group), DB_TEXT(s->queue)), NULL,
                     err);
    }
    if (rc != OBX_OK)
        disconnect(members);
    return rc;
}

void members_leave(struct members *members)
{
    const struct settings *s = members->settings;

    if (members->db == NULL)
        return;
    /* What fails here costs the others five seconds. */
    if (db_exec(members->db, sql_leave,
                DB_ARGS(DB_TEXT(s->group), DB_TEXT(s->queue), DB_TEXT(members->name)), NULL,
                NULL) != OBX_OK)
        disconnect(members);
}
