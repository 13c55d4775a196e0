/*
 * The simulated database's connection: results, transactions, what may fail. See lane_sim.h.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lane_sim_call.h"
#include "sql/schema.h"

struct db {
    bool is_lost;
    uint64_t statements;
};

static struct db connections[SIM_LANES]; /* of each slot */

static struct db *current(void)
{
    return &connections[sim->running - sim->slots];
}

/* ---- results ---- */

struct cell *call_add_row(struct call *call)
{
    struct db_rows *rows = call->rows;

    if (rows->count == rows->cap) {
        rows->cap = rows->cap == 0 ? 16 : rows->cap * 2;
        rows->rows = realloc(rows->rows, rows->cap * sizeof(rows->rows[0]));
        if (rows->rows == NULL)
            abort();
    }
    memset(&rows->rows[rows->count], 0, sizeof(rows->rows[0]));
    return rows->rows[rows->count++];
}

struct cell cell_number(uint64_t n)
{
    return (struct cell){.number = n, .text = {.p = "", .len = 0}};
}

struct cell cell_text(const char *t)
{
    return t == NULL ? (struct cell){.is_null = true} : (struct cell){.text = bytes_of(t)};
}

bool sim_rows_next(struct db_rows *rows) WRAPS(db_rows_next);
bool sim_rows_next(struct db_rows *rows)
{
    return rows->at < rows->count ? (rows->at++, true) : false;
}

size_t sim_rows_count(const struct db_rows *rows) WRAPS(db_rows_count);
size_t sim_rows_count(const struct db_rows *rows)
{
    return rows->count;
}

struct obx_bytes sim_rows_bytes(const struct db_rows *rows, unsigned column) WRAPS(db_rows_bytes);
struct obx_bytes sim_rows_bytes(const struct db_rows *rows, unsigned column)
{
    return rows->rows[rows->at - 1][column].text;
}

uint64_t sim_rows_u64(const struct db_rows *rows, unsigned column) WRAPS(db_rows_u64);
uint64_t sim_rows_u64(const struct db_rows *rows, unsigned column)
{
    return rows->rows[rows->at - 1][column].number;
}

void sim_rows_free(struct db_rows *rows) WRAPS(db_rows_free);
void sim_rows_free(struct db_rows *rows)
{
    if (rows != NULL)
        free(rows->rows);
    free(rows);
}

/* ---- writing under an undo log ---- */

struct sim_row *sim_change(struct sim_row *row)
{
    if (!sim->in_tx)
        return row;
    if (sim->undo_count == SIM_UNDO)
        sim_fail("a transaction of more than %d changes", SIM_UNDO);
    sim->undo[sim->undo_count++] = (struct undo){.row = (size_t)(row - sim->rows), .was = *row};
    return row;
}

static void roll_back(void)
{
    if (!sim->in_tx)
        return;
    while (sim->undo_count > 0) {
        const struct undo *undo = &sim->undo[--sim->undo_count];

        sim->rows[undo->row] = undo->was;
    }
    sim->lease = sim->lease_was;
    sim->in_tx = false;
}

static void end_snapshot(void)
{
    sim->snapshot_seq = UINT64_MAX;
}

static enum obx_code lose(struct obx_err *err)
{
    sim->losses++;
    current()->is_lost = true;
    end_snapshot();
    roll_back();
    return obx_fail(err, OBX_E_DB_GONE, "simulated");
}

static void pass_time(void)
{
    sim->now_us += (sim->statement_us + sim_below(sim->statement_us * 8)) / 2;
    sim_db_step();
}

static enum obx_code run(struct call *call, struct obx_err *err)
{
    bool writes = call_writes(call);
    enum obx_code rc = OBX_OK;

    sim->queries++;
    current()->statements++;
    pass_time();
    if (!sim->is_calm && sim_chance(sim->chaos.db_loss))
        return lose(err);
    if (!sim->is_calm && writes && sim_chance(sim->chaos.db_wait))
        return obx_fail(err, OBX_E_DB_LOCK_WAIT, "simulated");
    rc = call_run(call);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "simulated");
    if (writes || (call->rows != NULL && call->rows->count > 0))
        sim->work++;
    if (!sim->is_calm && sim_chance(sim->chaos.db_loss))
        return lose(err); /* it was done, the answer did not come */
    pass_time();
    return OBX_OK;
}

/* ---- in the place of sql/client ---- */

enum obx_code sim_exec(struct db *db, const char *sql, const struct obx_value *args, size_t count,
                       uint64_t *affected, struct obx_err *err) WRAPS(db_exec);
enum obx_code sim_exec(struct db *db, const char *sql, const struct obx_value *args, size_t count,
                       uint64_t *affected, struct obx_err *err)
{
    struct call call = {.sql = sql, .args = args};
    enum obx_code rc = run(&call, err);

    (void)db;
    (void)count;
    if (affected != NULL)
        *affected = call.affected;
    return rc;
}

enum obx_code sim_query(struct db *db, const char *sql, const struct obx_value *args, size_t count,
                        struct db_rows **rows, struct obx_err *err) WRAPS(db_query);
enum obx_code sim_query(struct db *db, const char *sql, const struct obx_value *args, size_t count,
                        struct db_rows **rows, struct obx_err *err)
{
    struct call call = {.sql = sql, .args = args, .rows = calloc(1, sizeof(struct db_rows))};
    enum obx_code rc = run(&call, err);

    (void)db;
    (void)count;
    *rows = call.rows;
    if (rc != OBX_OK) {
        sim_rows_free(call.rows);
        *rows = NULL;
    }
    return rc;
}

/* What sets up the session, and a snapshot, in two statements. */
enum obx_code sim_exec_text(struct db *db, struct obx_bytes sql, uint64_t *affected,
                            struct obx_err *err) WRAPS(db_exec_text);
enum obx_code sim_exec_text(struct db *db, struct obx_bytes sql, uint64_t *affected,
                            struct obx_err *err)
{
    if (strncmp(sql.p, "SET ", 4) != 0 && strncmp(sql.p, "START ", 6) != 0)
        return sim_exec(db, sql.p, NULL, 0, affected, err);
    sim->queries++;
    current()->statements++;
    pass_time();
    if (!sim->is_calm && sim_chance(sim->chaos.db_loss))
        return lose(err);
    if (strstr(sql.p, "CONSISTENT SNAPSHOT") != NULL)
        sim->snapshot_seq = sim->next_seq;
    return OBX_OK;
}

enum obx_code sim_query_text(struct db *db, struct obx_bytes sql, struct db_rows **rows,
                             struct obx_err *err) WRAPS(db_query_text);
enum obx_code sim_query_text(struct db *db, struct obx_bytes sql, struct db_rows **rows,
                             struct obx_err *err)
{
    return sim_query(db, sql.p, NULL, 0, rows, err);
}

enum obx_code sim_begin(struct db *db, struct obx_err *err) WRAPS(db_begin);
enum obx_code sim_begin(struct db *db, struct obx_err *err)
{
    (void)db;
    sim->queries++;
    current()->statements++;
    if (!sim->is_calm && sim_chance(sim->chaos.db_loss))
        return lose(err);
    sim->in_tx = true;
    sim->undo_count = 0;
    sim->lease_was = sim->lease;
    return OBX_OK;
}

/* What this transaction has parked behind a head has its head in outbox_parked. */
static void check_parked(void)
{
    for (size_t i = 0; i < sim->undo_count; i++) {
        const struct sim_row *row = &sim->rows[sim->undo[i].row];
        const struct sim_row *head = sim_parked(row->blocked_by);

        if (row->state == SIM_PARKED && sim->undo[i].was.state == SIM_LIVE &&
            row->blocked_by != 0 && (head == NULL || !head->holds_key))
            sim_fail("row %llu is parked behind %llu, which is not parked",
                     (unsigned long long)row->id, (unsigned long long)row->blocked_by);
    }
}

enum obx_code sim_commit(struct db *db, struct obx_err *err) WRAPS(db_commit);
enum obx_code sim_commit(struct db *db, struct obx_err *err)
{
    (void)db;
    sim->queries++;
    current()->statements++;
    check_parked();
    sim->now_us += 500 + sim_below(4000);
    sim_db_step();
    if (!sim->is_calm && sim_chance(sim->chaos.db_loss)) {
        if (sim_chance(2))
            sim->in_tx = false;
        (void)lose(err);
        return obx_fail(err, OBX_E_DB_COMMIT_UNKNOWN, "simulated");
    }
    if (!sim->is_calm && sim_chance(sim->chaos.db_wait)) {
        roll_back();
        return obx_fail(err, OBX_E_DB_DEADLOCK, "simulated");
    }
    sim->in_tx = false;
    return OBX_OK;
}

enum obx_code sim_rollback(struct db *db, struct obx_err *err) WRAPS(db_rollback);
enum obx_code sim_rollback(struct db *db, struct obx_err *err)
{
    (void)db;
    (void)err;
    end_snapshot();
    roll_back();
    return OBX_OK;
}

enum obx_code sim_open(const struct db_opts *opts, struct db **out, struct obx_err *err)
    WRAPS(db_open);
enum obx_code sim_open(const struct db_opts *opts, struct db **out, struct obx_err *err)
{
    (void)opts;
    *out = NULL;
    sim->now_us += 2000;
    if (!sim->is_calm && sim_chance(sim->chaos.db_loss / 8))
        return obx_fail(err, OBX_E_DB_CONNECT, "simulated");
    *out = current();
    **out = (struct db){.is_lost = false};
    return OBX_OK;
}

void sim_close(struct db *db) WRAPS(db_close);
void sim_close(struct db *db)
{
    (void)db;
}

uint64_t sim_statements(const struct db *db) WRAPS(db_statements);
uint64_t sim_statements(const struct db *db)
{
    return db->statements;
}

bool sim_is_lost(const struct db *db) WRAPS(db_is_lost);
bool sim_is_lost(const struct db *db)
{
    return db->is_lost;
}

const char *sim_server_version(const struct db *db) WRAPS(db_server_version);
const char *sim_server_version(const struct db *db)
{
    (void)db;
    return "10.11.6-MariaDB";
}

bool sim_server_is_mariadb(const struct db *db) WRAPS(db_server_is_mariadb);
bool sim_server_is_mariadb(const struct db *db)
{
    (void)db;
    return true;
}

void sim_thread_end(void) WRAPS(db_thread_end);
void sim_thread_end(void)
{
}

enum obx_code sim_add_literal(struct db *db, struct obx_buf *buf, struct obx_bytes text)
    WRAPS(db_add_literal);
enum obx_code sim_add_literal(struct db *db, struct obx_buf *buf, struct obx_bytes text)
{
    (void)db;
    return buf_addf(buf, "'%.*s'", (int)text.len, (const char *)text.p);
}

enum obx_code sim_schema_check(struct db *db, enum schema_side side, struct obx_err *err)
    WRAPS(schema_check);
enum obx_code sim_schema_check(struct db *db, enum schema_side side, struct obx_err *err)
{
    (void)db;
    (void)side;
    (void)err;
    return OBX_OK;
}
