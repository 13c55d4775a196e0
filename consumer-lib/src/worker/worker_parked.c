/*
 * A worker and the rows of inbox_parked: when it looks at them, and what it takes up. Every row
 * belongs to one worker of a process, by its lane, which is also the worker that gets the
 * deliveries of the row's key; so within a process nobody adds a row to a key while another removes
 * one.
 *
 * The look costs one query by index. It is made when a row is known to be due; once a second for
 * what others may have written (another process, an operator); and while deliveries are waiting to
 * be applied, not more often than every BUSY_MS, so that a few failing messages cost the others
 * little.
 */
#include "worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "parked_due.h"

enum {
    LOOK_MS = 1000,
    RARELY_MS = 10 * 1000,
    BUSY_MS = 100,
    AGAIN_MS = 10,
    FAILED_MS = 1000,
    ORPHANS_MS = 2000,
    ORPHANS_SHARE = 50, /* the search may take this part of the time */
    MEMORY_SHARE = 4,   /* rows taken up take this part of the memory allowance at most */
    COUNT_MAX = 1000,
};

static bool is_running(const struct worker *worker)
{
    return shared_phase(worker->shared) == OBX_CONSUMER_RUNNING;
}

uint64_t worker_parked_due_ms(const struct worker *worker)
{
    uint64_t due = worker->parked_due_ms;

    if (worker->confirmed.head != NULL)
        return 0;
    /* What is taken up is tried first: its claim may be over before, and would look like a dead
     * process's. */
    if (!is_running(worker) || worker->rows_held > 0)
        return UINT64_MAX;
    if (worker->ready.head != NULL && due < worker->parked_looked_ms + BUSY_MS)
        due = worker->parked_looked_ms + BUSY_MS;
    return due;
}

bool worker_parked_is_due(const struct worker *worker)
{
    return worker_parked_due_ms(worker) <= clock_now_ms();
}

static void look_in(struct worker *worker, uint64_t wait_ms)
{
    uint64_t due = clock_now_ms() + wait_ms;

    worker->has_parked = true;
    if (due < worker->parked_due_ms)
        worker->parked_due_ms = due;
}

/* The first worker counts the group's rows; as long as there are none, the others look rarely. */
static bool may_skip(const struct worker *worker)
{
    return worker->index != 0 && !worker->has_parked &&
           counters_get(&worker->shared->counters, CNT_PARKED_ROWS) == 0 &&
           clock_now_ms() < worker->parked_looked_ms + RARELY_MS;
}

void worker_parked_note(struct worker *worker, const struct apply_report *report)
{
    if (report->due_in_ms != APPLY_NEVER)
        look_in(worker, report->due_in_ms > AGAIN_MS ? report->due_in_ms : AGAIN_MS);
}

static void went_wrong(struct worker *worker, const struct obx_err *err)
{
    worker->parked_due_ms = clock_now_ms() + FAILED_MS;
    worker_set_trouble(worker, err);
    OBX_LOG(LOG_LVL_WARN, "consumer", "parked.failed",
            KV_STR("group", worker->shared->settings.group), KV_U64("worker", worker->index),
            KV_ERR(err));
    if (obx_code_action(err->code) != OBX_DO_RETRY || err->code == OBX_E_TIMEOUT)
        worker_disconnect(worker);
}

/* ------------------------------------------------------------------ confirmed dead letters */

static void remove_confirmed(struct worker *worker)
{
    struct obx_err err = {0};
    struct item *item = NULL;

    if (due_remove_letters(store_db_handle(worker->db), &worker->shared->settings,
                           &worker->confirmed, &err) != OBX_OK) {
        went_wrong(worker, &err);
        return;
    }
    while ((item = item_list_pop(&worker->confirmed)) != NULL) {
        item->outcome = ITEM_DROPPED;
        item_list_push(&worker->back, item);
    }
    look_in(worker, 0);
}

/* ------------------------------------------------------------------ what is due */

static void file(struct worker *worker, struct due_taken *taken)
{
    struct item_list ready = {0};
    struct item *item = NULL;

    while ((item = item_list_pop(&taken->items)) != NULL)
        item_list_push(item->outcome == ITEM_LETTER ? &worker->back : &ready, item);
    counters_add(&worker->shared->counters, CNT_TAKEN_UP, ready.count);
    worker->rows_held += ready.count;
    worker->letters_out += taken->letters;
    item_list_prepend(&worker->ready, &ready);
}

static uint64_t next_look_ms(const struct due_taken *taken)
{
    if (taken->next_ms < AGAIN_MS)
        return AGAIN_MS;
    return taken->next_ms < LOOK_MS ? taken->next_ms : LOOK_MS;
}

static enum obx_code take_due(struct worker *worker, struct obx_err *err)
{
    const struct settings *settings = &worker->shared->settings;
    const struct due_opts opts = {
        .settings = settings,
        .counters = &worker->shared->counters,
        .worker = worker->index,
        .workers = settings->workers,
        .max_rows = settings->batch_max < DUE_ROWS_MAX ? settings->batch_max : DUE_ROWS_MAX,
        .max_bytes = settings->max_memory_bytes / MEMORY_SHARE / settings->workers,
        .takes_letters = worker->letters_out == 0,
    };
    struct due_taken taken;
    enum obx_code rc = due_take(store_db_handle(worker->db), &opts, &taken, err);

    worker->parked_looked_ms = clock_now_ms();
    if (rc != OBX_OK)
        return rc;
    worker->parked_due_ms = worker->parked_looked_ms + next_look_ms(&taken);
    worker->has_parked = taken.has_rows;
    file(worker, &taken);
    return OBX_OK;
}

/* ------------------------------------------------------------------ now and then */

/* The level for the statistics, counted up to a limit: a table of millions is not walked for it. */
static enum obx_code count_rows(struct worker *worker, struct obx_err *err)
{
    struct db *db = store_db_handle(worker->db);
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;

    if (worker->index != 0 || clock_now_ms() < worker->counted_ms + LOOK_MS)
        return OBX_OK;
    worker->counted_ms = clock_now_ms();
    rc = db_query(
        db,
        "SELECT COUNT(*) FROM (SELECT 1 FROM inbox_parked WHERE consumer_group = ? LIMIT ?) AS t",
        DB_ARGS(DB_TEXT(worker->shared->settings.group), DB_U64(COUNT_MAX)), &rows, err);
    if (rc == OBX_OK && db_rows_next(rows))
        atomic_store(&worker->shared->counters.value[CNT_PARKED_ROWS], db_rows_u64(rows, 0));
    db_rows_free(rows);
    return rc == OBX_OK ? db_commit(db, err) : rc;
}

static enum obx_code find_orphans(struct worker *worker, struct obx_err *err)
{
    uint64_t started_ms = clock_now_ms();
    uint64_t found = 0;
    uint64_t wait_ms = 0;
    enum obx_code rc = OBX_OK;

    if (worker->index != 0 || started_ms < worker->orphans_due_ms ||
        counters_get(&worker->shared->counters, CNT_PARKED_ROWS) == 0)
        return OBX_OK;
    rc = due_find_orphans(store_db_handle(worker->db), &worker->shared->settings,
                          &worker->orphans_from, &found, err);
    wait_ms = (clock_now_ms() - started_ms) * ORPHANS_SHARE;
    worker->orphans_due_ms = clock_now_ms() + (wait_ms > ORPHANS_MS ? wait_ms : ORPHANS_MS);
    if (rc == OBX_OK && found > 0) {
        OBX_LOG(LOG_LVL_DEBUG, "consumer", "parked.orphans",
                KV_STR("group", worker->shared->settings.group), KV_U64("rows", found));
        look_in(worker, 0);
    }
    return rc;
}

void worker_parked_turn(struct worker *worker)
{
    struct obx_err err = {0};
    enum obx_code rc = OBX_OK;

    if (may_skip(worker) && worker->confirmed.head == NULL) {
        worker->parked_due_ms = clock_now_ms() + LOOK_MS;
        return;
    }
    worker->used_ms = clock_now_ms();
    if (worker->confirmed.head != NULL) {
        remove_confirmed(worker);
        return;
    }
    rc = take_due(worker, &err);
    if (rc == OBX_OK)
        rc = count_rows(worker, &err);
    if (rc == OBX_OK)
        rc = find_orphans(worker, &err);
    if (rc != OBX_OK)
        went_wrong(worker, &err);
}

void worker_parked_give_back(struct worker *worker, const struct item_list *items)
{
    struct obx_err err = {0};

    if (worker->db == NULL || items->head == NULL)
        return;
    /* When it fails, they are due when their claims are: a little later. */
    if (due_give_back(store_db_handle(worker->db), items, &err) != OBX_OK)
        OBX_LOG(LOG_LVL_INFO, "consumer", "parked.not_given_back",
                KV_STR("group", worker->shared->settings.group), KV_ERR(&err));
}
