/*
 * The transactions of receipts. See receipt_batch.h.
 *
 * The order of locks is the same for everybody who runs this: rows of outbox_awaiting by message
 * id, then rows of outbox_receipt by message id and group.
 */
#include "receipt_batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crash.h"
#include "outbox/receipt_key.h"

/* Below the length from which a server makes something else of a list of literals. */
enum { CLEAN_PAGE = 500 };

/* A message of the batch. */
struct entry {
    struct obx_bytes message_id; /* borrowed from the receipts */
    const struct receipt *only;  /* its one receipt in the batch; NULL: it has several, or none */
    struct receipt_tally tally;  /* groups borrow from awaited */
    bool is_awaited;
    bool is_compensated; /* by this transaction, or before */
    char outbox[RECEIPT_OUTBOX_NAME];
};

struct run {
    struct receipt_batch *batch;
    struct db *db;
    const struct receipt *receipts; /* NULL: a recheck */
    size_t receipt_count;
    struct entry *entries; /* by message id, each once */
    size_t count;
    struct db_rows *awaited;
    bool is_all_new; /* no receipt of the batch was there before */
    struct receipt_counts counts;
};

void receipt_batch_fini(struct receipt_batch *batch)
{
    buf_fini(&batch->text);
    buf_fini(&batch->ids);
    buf_fini(&batch->done);
    for (size_t i = 0; i < batch->outbox_count; i++) {
        compensate_fini(&batch->outboxes[i]->comp);
        obx_free(batch->outboxes[i]);
    }
    obx_free(batch->outboxes);
    batch->outboxes = NULL;
    batch->outbox_count = 0;
}

/* ---- entries ---- */

static int compare_bytes(struct obx_bytes a, struct obx_bytes b)
{
    size_t least = a.len < b.len ? a.len : b.len;
    int order = least == 0 ? 0 : memcmp(a.p, b.p, least);

    if (order != 0)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

static int compare_entries(const void *a, const void *b)
{
    return compare_bytes(((const struct entry *)a)->message_id,
                         ((const struct entry *)b)->message_id);
}

static struct entry *find_entry(const struct run *run, struct obx_bytes message_id)
{
    const struct entry key = {.message_id = message_id};

    return bsearch(&key, run->entries, run->count, sizeof(key), compare_entries);
}

static void sort_entries(struct run *run)
{
    size_t kept = 0;

    qsort(run->entries, run->count, sizeof(*run->entries), compare_entries);
    for (size_t i = 0; i < run->count; i++) {
        if (kept == 0 || compare_entries(&run->entries[kept - 1], &run->entries[i]) != 0)
            run->entries[kept++] = run->entries[i];
        else
            run->entries[kept - 1].only = NULL;
    }
    run->count = kept;
}

static enum obx_code list_ids(struct run *run, struct obx_err *err)
{
    struct obx_buf *ids = &run->batch->ids;

    buf_reset(ids);
    for (size_t i = 0; i < run->count; i++)
        (void)db_add_to_list(run->db, ids, run->entries[i].message_id);
    return ids->rc == OBX_OK ? OBX_OK : obx_fail(err, ids->rc, "list of messages");
}

static enum obx_code build(struct run *run, const char *before, const struct obx_buf *list,
                           const char *after, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    buf_reset(&run->batch->text);
    rc = buf_addf(&run->batch->text, "%s%s%s", before, list->data, after);
    return rc == OBX_OK ? OBX_OK : obx_fail(err, rc, "statement over receipts");
}

/* ---- the rows that await them ---- */

/* Locks them, in the order of their ids; not those that somebody else has, who may be stopped. */
static enum obx_code lock_awaiting(struct run *run, struct obx_err *err)
{
    enum obx_code rc = build(run,
                             "SELECT message_id, outbox, receipt_from FROM outbox_awaiting"
                             " FORCE INDEX (PRIMARY) WHERE message_id IN (",
                             &run->batch->ids, ") ORDER BY message_id FOR UPDATE SKIP LOCKED", err);

    if (rc == OBX_OK)
        rc = db_query_text(run->db, buf_bytes(&run->batch->text), &run->awaited, err);
    return rc;
}

/* The rows of a result are good only while they are the current one: the texts are copied. */
static void take_awaiting(struct run *run, char *texts, size_t text_size)
{
    size_t used = 0;

    while (db_rows_next(run->awaited)) {
        struct entry *entry = find_entry(run, db_rows_bytes(run->awaited, 0));
        struct obx_bytes from = db_rows_bytes(run->awaited, 2);
        char *copy = texts + used;

        if (entry == NULL || from.len > text_size - used)
            continue;
        (void)bytes_to_text(db_rows_bytes(run->awaited, 1), entry->outbox, sizeof(entry->outbox));
        if (from.len > 0)
            memcpy(copy, from.p, from.len);
        used += from.len;
        entry->is_awaited = receipt_groups_parse((struct obx_bytes){.p = copy, .len = from.len},
                                                 &entry->tally.groups);
    }
}

/* ---- writing them down ---- */

static void add_row(struct run *run, const struct receipt *receipt)
{
    struct obx_buf *text = &run->batch->text;

    buf_add_text(text, run->counts.noted == 0 ? "(" : ",(");
    (void)db_add_literal(run->db, text, receipt->message_id);
    buf_add_text(text, ",");
    (void)db_add_literal(run->db, text, receipt->group);
    buf_add_text(text, receipt->is_rejected ? ",'rejected'," : ",'applied',");
    (void)db_add_literal(run->db, text, receipt->reason); /* absent: NULL */
    buf_add_text(text, ")");
}

static int compare_receipts(const void *a, const void *b)
{
    const struct receipt *x = *(const struct receipt *const *)a;
    const struct receipt *y = *(const struct receipt *const *)b;
    int order = compare_bytes(x->message_id, y->message_id);

    return order != 0 ? order : compare_bytes(x->group, y->group);
}

/* As a rule none is there yet, and then nothing has to be read again. What is there stays as it is.
 */
static enum obx_code insert_text(struct run *run, struct obx_err *err)
{
    struct obx_buf *text = &run->batch->text;
    enum obx_code rc = db_exec_text(run->db, buf_bytes(text), NULL, err);

    run->is_all_new = rc == OBX_OK;
    if (rc != OBX_E_DB_DUPLICATE)
        return rc;
    obx_err_clear(err);
    if (buf_add_text(text, " ON DUPLICATE KEY UPDATE consumer_group ="
                           " outbox_receipt.consumer_group") != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "statement over receipts");
    return db_exec_text(run->db, buf_bytes(text), NULL, err);
}

static enum obx_code insert_receipts(struct run *run, struct obx_err *err)
{
    const struct receipt *sorted[RECEIPT_BATCH_MAX];
    struct obx_buf *text = &run->batch->text;

    for (size_t i = 0; i < run->receipt_count; i++)
        sorted[i] = &run->receipts[i];
    qsort(sorted, run->receipt_count, sizeof(const struct receipt *), compare_receipts);
    buf_reset(text);
    buf_add_text(text, "INSERT INTO outbox_receipt (message_id, consumer_group, outcome,"
                       " reason) VALUES ");
    for (size_t i = 0; i < run->receipt_count; i++) {
        const struct entry *entry = find_entry(run, sorted[i]->message_id);

        if (entry->is_awaited &&
            receipt_groups_find(&entry->tally.groups, sorted[i]->group) == SIZE_MAX) {
            run->counts.unasked++; /* the message does not ask this group */
            continue;
        }
        add_row(run, sorted[i]);
        run->counts.noted++;
    }
    if (text->rc != OBX_OK)
        return obx_fail(err, text->rc, "statement over receipts");
    return run->counts.noted == 0 ? OBX_OK : insert_text(run, err);
}

/* ---- settling ---- */

static enum obx_code make_outbox(const char *name, struct receipt_outbox **out, struct obx_err *err)
{
    struct receipt_outbox *outbox = obx_calloc(1, sizeof(*outbox));
    struct obx_buf table = {0};
    enum obx_code rc = outbox == NULL ? OBX_E_NOMEM : db_add_identifier(&table, name);

    *out = NULL;
    if (rc == OBX_OK) {
        (void)snprintf(outbox->name, sizeof(outbox->name), "%s", name);
        rc = compensate_init(&outbox->comp, table.data, err);
    } else {
        rc = obx_fail(err, rc, "compensation into outbox %s", name);
    }
    buf_fini(&table);
    if (rc != OBX_OK) {
        obx_free(outbox);
        return rc;
    }
    *out = outbox;
    return OBX_OK;
}

static enum obx_code find_outbox(struct receipt_batch *batch, const char *name,
                                 struct receipt_outbox **out, struct obx_err *err)
{
    struct receipt_outbox **more = NULL;
    enum obx_code rc = OBX_OK;

    *out = NULL;
    for (size_t i = 0; i < batch->outbox_count; i++) {
        if (strcmp(batch->outboxes[i]->name, name) == 0) {
            *out = batch->outboxes[i];
            return OBX_OK;
        }
    }
    more =
        obx_realloc(batch->outboxes, (batch->outbox_count + 1) * sizeof(struct receipt_outbox *));
    if (more == NULL)
        return obx_fail(err, OBX_E_NOMEM, "compensation into outbox %s", name);
    batch->outboxes = more;
    rc = make_outbox(name, out, err);
    if (rc == OBX_OK)
        batch->outboxes[batch->outbox_count++] = *out;
    return rc;
}

static enum obx_code reject(struct run *run, struct entry *entry, struct obx_bytes group,
                            struct obx_bytes reason, struct obx_err *err)
{
    const struct compensate_item item = {
        .message_id = entry->message_id, .group = group, .reason = reason};
    struct receipt_outbox *outbox = NULL;
    bool is_first = false;
    uint64_t before = 0;
    enum obx_code rc = find_outbox(run->batch, entry->outbox, &outbox, err);

    entry->is_compensated = true;
    if (outbox == NULL)
        return rc;
    before = outbox->comp.sent;
    rc = compensate_run(&outbox->comp, run->db, &item, &is_first, err);
    run->counts.compensations += outbox->comp.sent - before;
    return rc;
}

static enum obx_code count_one(struct run *run, struct entry *entry, struct obx_bytes group,
                               bool is_rejected, struct obx_bytes reason, struct obx_err *err)
{
    if (!receipt_tally_add(&entry->tally, group, is_rejected) || !is_rejected ||
        entry->is_compensated)
        return OBX_OK;
    return reject(run, entry, group, reason, err);
}

/* Messages that ask one group, whose one receipt is new: nothing else can have been said of them.
 * The others stay in the list of ids. */
static enum obx_code tally_simple(struct run *run, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    buf_reset(&run->batch->ids);
    for (size_t i = 0; i < run->count && rc == OBX_OK; i++) {
        struct entry *entry = &run->entries[i];

        if (!entry->is_awaited)
            continue;
        if (run->is_all_new && entry->only != NULL && entry->tally.groups.count == 1)
            rc = count_one(run, entry, entry->only->group, entry->only->is_rejected,
                           entry->only->reason, err);
        else if (db_add_to_list(run->db, &run->batch->ids, entry->message_id) != OBX_OK)
            rc = obx_fail(err, OBX_E_NOMEM, "list of messages");
    }
    return rc;
}

static enum obx_code tally_others(struct run *run, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = build(run,
                             "SELECT message_id, consumer_group, outcome, reason FROM"
                             " outbox_receipt FORCE INDEX (PRIMARY) WHERE message_id IN (",
                             &run->batch->ids, ") AND consumer_group <> ''", err);

    if (rc == OBX_OK)
        rc = db_query_text(run->db, buf_bytes(&run->batch->text), &rows, err);
    while (rc == OBX_OK && db_rows_next(rows)) {
        struct entry *entry = find_entry(run, db_rows_bytes(rows, 0));
        bool is_rejected = bytes_is(db_rows_bytes(rows, 2), "rejected");

        if (entry != NULL && entry->is_awaited)
            rc = count_one(run, entry, db_rows_bytes(rows, 1), is_rejected, db_rows_bytes(rows, 3),
                           err);
    }
    db_rows_free(rows);
    return rc;
}

static enum obx_code delete_complete(struct run *run, struct obx_err *err)
{
    struct obx_buf *done = &run->batch->done;
    uint64_t deleted = 0;
    enum obx_code rc = OBX_OK;

    buf_reset(done);
    for (size_t i = 0; i < run->count; i++) {
        const struct entry *entry = &run->entries[i];

        if (!entry->is_awaited || !receipt_tally_is_complete(&entry->tally))
            continue;
        run->counts.settled++;
        run->counts.rejected += entry->tally.is_rejected;
        (void)db_add_to_list(run->db, done, entry->message_id);
    }
    if (done->rc != OBX_OK)
        return obx_fail(err, done->rc, "list of settled messages");
    if (done->len == 0)
        return OBX_OK;
    rc = build(run, "DELETE a FROM outbox_awaiting a FORCE INDEX (PRIMARY) WHERE a.message_id IN (",
               done, ")", err);
    if (rc == OBX_OK)
        rc = db_exec_text(run->db, buf_bytes(&run->batch->text), &deleted, err);
    if (rc == OBX_OK && deleted != run->counts.settled)
        rc = obx_fail(err, OBX_E_CONFLICT, "%llu messages to settle, %llu deleted",
                      (unsigned long long)run->counts.settled, (unsigned long long)deleted);
    return rc;
}

static enum obx_code do_within(struct run *run, char *texts, size_t text_size, struct obx_err *err)
{
    enum obx_code rc = lock_awaiting(run, err);

    if (rc == OBX_OK)
        take_awaiting(run, texts, text_size);
    if (rc == OBX_OK && run->receipts != NULL)
        rc = insert_receipts(run, err);
    if (rc == OBX_OK)
        rc = tally_simple(run, err);
    if (rc == OBX_OK && run->batch->ids.len > 0)
        rc = tally_others(run, err);
    if (rc == OBX_OK)
        rc = delete_complete(run, err);
    return rc;
}

static enum obx_code transact(struct run *run, struct obx_err *err)
{
    size_t text_size = run->count * (RECEIPT_GROUP_MAX + 1) * RECEIPT_GROUPS_MAX;
    char *texts = obx_malloc(text_size + 1);
    enum obx_code rc = OBX_OK;

    if (texts == NULL)
        return obx_fail(err, OBX_E_NOMEM, "receipts");
    rc = list_ids(run, err);
    if (rc == OBX_OK)
        rc = db_begin(run->db, err);
    if (rc != OBX_OK)
        goto out;
    rc = do_within(run, texts, text_size, err);
    if (rc != OBX_OK) {
        (void)db_rollback(run->db, NULL);
        goto out;
    }
    OBX_CRASH_POINT("receipts-before-commit");
    rc = db_commit(run->db, err);
    if (rc == OBX_OK)
        OBX_CRASH_POINT("receipts-committed");
    else if (rc != OBX_E_DB_COMMIT_UNKNOWN)
        (void)db_rollback(run->db, NULL);
out:
    obx_free(texts);
    return rc;
}

static enum obx_code run_all(struct run *run, struct receipt_counts *counts, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    run->batch->early_count = 0;
    if (run->count == 0)
        return OBX_OK;
    sort_entries(run);
    rc = transact(run, err);
    db_rows_free(run->awaited);
    if (rc != OBX_OK)
        return rc;
    run->batch->early_count = 0;
    for (size_t i = 0; i < run->count; i++) {
        if (run->entries[i].is_awaited)
            continue;
        run->counts.early++;
        if (run->batch->early_count < RECEIPT_BATCH_MAX)
            run->batch->early[run->batch->early_count++] = run->entries[i].message_id;
    }
    *counts = run->counts;
    return OBX_OK;
}

enum obx_code receipt_batch_run(struct receipt_batch *batch, struct db *db,
                                const struct receipt *receipts, size_t count,
                                struct receipt_counts *counts, struct obx_err *err)
{
    struct run run = {.batch = batch, .db = db, .receipts = receipts, .receipt_count = count};
    enum obx_code rc = OBX_OK;

    memset(counts, 0, sizeof(*counts));
    run.entries = obx_calloc(count + 1, sizeof(*run.entries));
    if (run.entries == NULL)
        return obx_fail(err, OBX_E_NOMEM, "%zu receipts", count);
    for (size_t i = 0; i < count; i++)
        run.entries[i] = (struct entry){.message_id = receipts[i].message_id, .only = &receipts[i]};
    run.count = count;
    rc = run_all(&run, counts, err);
    obx_free(run.entries);
    return rc;
}

/* Without locks: as a rule none of them awaits anything any more. */
static enum obx_code keep_awaited(struct run *run, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    size_t kept = 0;
    enum obx_code rc = list_ids(run, err);

    if (rc == OBX_OK)
        rc = build(run,
                   "SELECT message_id FROM outbox_awaiting FORCE INDEX (PRIMARY) WHERE message_id"
                   " IN (",
                   &run->batch->ids, ")", err);
    if (rc == OBX_OK)
        rc = db_query_text(run->db, buf_bytes(&run->batch->text), &rows, err);
    if (rc != OBX_OK)
        return rc;
    while (db_rows_next(rows)) {
        struct entry *entry = find_entry(run, db_rows_bytes(rows, 0));

        if (entry != NULL)
            entry->is_awaited = true;
    }
    db_rows_free(rows);
    for (size_t i = 0; i < run->count; i++) {
        if (run->entries[i].is_awaited)
            run->entries[kept++] = (struct entry){.message_id = run->entries[i].message_id};
    }
    run->count = kept;
    return OBX_OK;
}

enum obx_code receipt_batch_again(struct receipt_batch *batch, struct db *db,
                                  const struct obx_bytes *ids, size_t count,
                                  struct receipt_counts *counts, struct obx_err *err)
{
    struct run run = {.batch = batch, .db = db};
    enum obx_code rc = OBX_OK;

    memset(counts, 0, sizeof(*counts));
    run.entries = obx_calloc(count + 1, sizeof(*run.entries));
    if (run.entries == NULL)
        return obx_fail(err, OBX_E_NOMEM, "%zu messages", count);
    for (size_t i = 0; i < count; i++)
        run.entries[i].message_id = ids[i];
    run.count = count;
    sort_entries(&run);
    rc = keep_awaited(&run, err);
    if (rc == OBX_OK)
        rc = run_all(&run, counts, err);
    obx_free(run.entries);
    return rc;
}

/* ---- retention ---- */

/* The messages of a page that have an old receipt, as literals in ids; the cursor goes after the
 * page. */
static enum obx_code find_old(struct receipt_batch *batch, struct db *db, char *cursor,
                              uint64_t retention_ms, bool *is_end, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(
        db,
        "SELECT message_id, received_at < UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND"
        " FROM outbox_receipt FORCE INDEX (PRIMARY) WHERE message_id > ?"
        " ORDER BY message_id, consumer_group LIMIT ?",
        DB_ARGS(DB_U64(retention_ms * 1000), DB_TEXT(cursor), DB_U64(CLEAN_PAGE)), &rows, err);

    buf_reset(&batch->ids);
    if (rc != OBX_OK)
        return rc;
    *is_end = db_rows_count(rows) < CLEAN_PAGE;
    while (rc == OBX_OK && db_rows_next(rows)) {
        struct obx_bytes id = db_rows_bytes(rows, 0);

        if (db_rows_u64(rows, 1) != 0 && !bytes_is(id, cursor))
            rc = db_add_to_list(db, &batch->ids, id);
        (void)bytes_to_text(id, cursor, RECEIPT_ID_MAX + 1);
    }
    db_rows_free(rows);
    if (*is_end)
        cursor[0] = '\0';
    return rc == OBX_OK ? OBX_OK : obx_fail(err, rc, "list of old receipts");
}

enum obx_code receipt_batch_clean(struct receipt_batch *batch, struct db *db, char *cursor,
                                  uint64_t retention_ms, uint64_t *removed, bool *is_end,
                                  struct obx_err *err)
{
    enum obx_code rc = find_old(batch, db, cursor, retention_ms, is_end, err);

    *removed = 0;
    if (rc != OBX_OK || batch->ids.len == 0)
        return rc;
    buf_reset(&batch->text);
    rc = buf_addf(&batch->text,
                  "DELETE r FROM outbox_receipt r FORCE INDEX (PRIMARY) LEFT JOIN outbox_awaiting a"
                  " ON a.message_id = r.message_id WHERE r.message_id IN (%s) AND r.received_at <"
                  " UTC_TIMESTAMP(6) - INTERVAL %llu MICROSECOND AND a.message_id IS NULL",
                  batch->ids.data, (unsigned long long)retention_ms * 1000);
    if (rc != OBX_OK)
        return obx_fail(err, rc, "statement over old receipts");
    return db_exec_text(db, buf_bytes(&batch->text), removed, err);
}
