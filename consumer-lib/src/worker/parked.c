/* See parked.h. */
#include "parked.h"

#include "base/clock.h"
#include "base/log.h"

enum {
    ASK_MS = 1000,
    RARELY_MS = 10 * 1000,
    BUSY_MS = 100,
    AGAIN_MS = 10,
    FAILED_MS = 1000,
    FREE_MS = 2000,
    FREE_SHARE = 50,  /* the search may take this part of the time */
    MEMORY_SHARE = 4, /* rows taken up take this part of the memory allowance at most */
    COUNT_MAX = 1000,
    ROWS_MAX = 1000,
};

void parked_init(struct parked *parked, struct shared *shared, unsigned worker)
{
    *parked = (struct parked){.shared = shared, .worker = worker};
}

void parked_fini(struct parked *parked)
{
    buf_fini(&parked->free_from);
}

uint64_t parked_due_ms(const struct parked *parked, bool is_busy)
{
    if (parked->confirmed.head != NULL)
        return parked->confirmed_due_ms;
    /* What is taken up is tried first: its claim may expire before, and would look like a dead
     * process's. */
    if (shared_phase(parked->shared) != OBX_CONSUMER_RUNNING || parked->rows_held > 0)
        return UINT64_MAX;
    if (is_busy && parked->due_ms < parked->asked_ms + BUSY_MS)
        return parked->asked_ms + BUSY_MS;
    return parked->due_ms;
}

static void ask_in(struct parked *parked, uint64_t wait_ms)
{
    const uint64_t due = clock_now_ms() + wait_ms;

    parked->has_rows = true;
    if (due < parked->due_ms)
        parked->due_ms = due;
}

void parked_note(struct parked *parked, uint64_t due_in_ms)
{
    if (due_in_ms != APPLY_NEVER)
        ask_in(parked, due_in_ms > AGAIN_MS ? due_in_ms : AGAIN_MS);
}

/* ------------------------------------------------------------------ dead letters */

bool parked_take_letter(struct parked *parked, struct item *item)
{
    parked->letters_out--;
    if (item->state != ITEM_CONFIRMED)
        return false;
    item_list_push(&parked->confirmed, item);
    return true;
}

static enum obx_code remove_confirmed(struct parked *parked, const struct store *store,
                                      struct item_list *back, struct obx_err *err)
{
    struct item *item = NULL;
    enum obx_code rc = store->ops->remove_letters(store->ctx, &parked->confirmed, err);

    parked->confirmed_due_ms = rc == OBX_OK ? 0 : clock_now_ms() + FAILED_MS;
    if (rc != OBX_OK)
        return rc;
    while ((item = item_list_pop(&parked->confirmed)) != NULL) {
        item_set(item, ITEM_DROPPED);
        item_list_push(back, item);
    }
    ask_in(parked, 0); /* their keys may go on */
    return OBX_OK;
}

/* ------------------------------------------------------------------ what is due */

static enum obx_code take_due(struct parked *parked, const struct store *store,
                              struct item_list *ready, struct item_list *back, struct obx_err *err)
{
    const struct settings *settings = &parked->shared->settings;
    const size_t batch = settings->batch_max < ROWS_MAX ? settings->batch_max : ROWS_MAX;
    const struct due_opts opts = {
        .settings = settings,
        .counters = &parked->shared->counters,
        .worker = parked->worker,
        .workers = settings->workers,
        .max_rows = parked->rows_max != 0 && parked->rows_max < batch ? parked->rows_max : batch,
        .max_bytes = settings->max_memory_bytes / MEMORY_SHARE / settings->workers,
        .takes_letters = parked->letters_out == 0,
    };
    struct due_taken taken;
    struct item_list rows = {0};
    struct item *item = NULL;
    enum obx_code rc = store->ops->take_due(store->ctx, &opts, &taken, err);

    parked->asked_ms = clock_now_ms();
    if (rc != OBX_OK)
        return rc;
    if (taken.next_ms < AGAIN_MS)
        taken.next_ms = AGAIN_MS;
    parked->due_ms = parked->asked_ms + (taken.next_ms < ASK_MS ? taken.next_ms : ASK_MS);
    parked->has_rows = taken.has_rows;
    while ((item = item_list_pop(&taken.items)) != NULL)
        item_list_push(item->state == ITEM_LETTER ? back : &rows, item);
    counters_add(&parked->shared->counters, CNT_TAKEN_UP, rows.count);
    parked->rows_held += rows.count;
    parked->letters_out += taken.letters;
    item_list_prepend(ready, &rows);
    return OBX_OK;
}

/* ------------------------------------------------------------------ now and then */

static enum obx_code count_rows(struct parked *parked, const struct store *store,
                                struct obx_err *err)
{
    uint64_t rows = 0;
    enum obx_code rc = OBX_OK;

    if (parked->worker != 0 || clock_now_ms() < parked->counted_ms + ASK_MS)
        return OBX_OK;
    parked->counted_ms = clock_now_ms();
    rc = store->ops->count_parked(store->ctx, COUNT_MAX, &rows, err);
    if (rc == OBX_OK)
        atomic_store(&parked->shared->counters.value[CNT_PARKED_ROWS], rows);
    return rc;
}

static enum obx_code free_keys(struct parked *parked, const struct store *store,
                               struct obx_err *err)
{
    const uint64_t started_ms = clock_now_ms();
    uint64_t found = 0;
    uint64_t wait_ms = 0;
    enum obx_code rc = OBX_OK;

    if (parked->worker != 0 || started_ms < parked->free_due_ms ||
        counters_get(&parked->shared->counters, CNT_PARKED_ROWS) == 0)
        return OBX_OK;
    rc = store->ops->free_keys(store->ctx, &parked->free_from, &found, err);
    wait_ms = (clock_now_ms() - started_ms) * FREE_SHARE;
    parked->free_due_ms = clock_now_ms() + (wait_ms > FREE_MS ? wait_ms : FREE_MS);
    if (rc == OBX_OK && found > 0) {
        OBX_LOG(LOG_LVL_DEBUG, "consumer", "parked.keys_freed",
                KV_STR("group", parked->shared->settings.group), KV_U64("rows", found));
        ask_in(parked, 0);
    }
    return rc;
}

enum obx_code parked_turn(struct parked *parked, const struct store *store, struct item_list *ready,
                          struct item_list *back, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;
    const bool knows_of_none =
        !parked->has_rows && counters_get(&parked->shared->counters, CNT_PARKED_ROWS) == 0;

    if (parked->confirmed.head != NULL) {
        rc = remove_confirmed(parked, store, back, err);
    } else if (parked->worker != 0 && knows_of_none &&
               clock_now_ms() < parked->asked_ms + RARELY_MS) {
        /* The first worker counts the group's rows; as long as there are none, the others ask
         * rarely. */
        parked->due_ms = clock_now_ms() + ASK_MS;
    } else {
        rc = take_due(parked, store, ready, back, err);
        if (rc == OBX_OK)
            rc = count_rows(parked, store, err);
        if (rc == OBX_OK)
            rc = free_keys(parked, store, err);
    }
    if (rc != OBX_OK)
        parked->due_ms = clock_now_ms() + FAILED_MS;
    return rc;
}
