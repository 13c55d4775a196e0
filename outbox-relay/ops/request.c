/*
 * The engine behind resume, discard, replay, resend and the verdicts. Requests are written in
 * portions of bounded size, each in a statement of its own: of two programs that ask for the same row
 * at the same time one gets it.
 */
#include "request.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"

enum {
    PAGE = 1000,
    PORTION = 500,
    VALUES_MAX = 8,
    SAME_MAX = 64,       /* texts among which one is looked for */
    TURNS_A_SECOND = 10, /* portions that are written in a second when there is a rate */
    LOOK_MIN_MS = 20,
    LOOK_MAX_MS = 500,
    MS_PER_S = 1000,
    NS_PER_MS = 1000000,
};

/* ---- items ---- */

/* The number of a text, which is kept once for what comes close together; 0 without memory, where a
 * report that says less is better than none. */
static uint32_t keep_text(struct texts *texts, struct obx_bytes text)
{
    uint32_t first = texts->count > SAME_MAX ? texts->count - SAME_MAX : 0;
    char **items;

    for (uint32_t i = texts->count; i > first; i--)
        if (bytes_is(text, texts->items[i]))
            return i;
    items = obx_realloc(texts->items, (texts->count + 2) * sizeof(*items));
    if (items == NULL)
        return 0;
    texts->items = items;
    items[texts->count + 1] = bytes_dup(text);
    return items[texts->count + 1] == NULL ? 0 : ++texts->count;
}

static void free_texts(struct texts *texts)
{
    for (uint32_t i = 1; i <= texts->count; i++)
        obx_free(texts->items[i]);
    obx_free(texts->items);
}

void item_set(struct request *request, struct item *item, enum fate fate, const char *fmt, ...)
{
    struct obx_buf text = {0};
    va_list args;

    va_start(args, fmt);
    buf_addvf(&text, fmt, args);
    va_end(args);
    item->note = text.len == 0 ? 0 : keep_text(&request->notes, buf_bytes(&text));
    item->fate = fate;
    buf_fini(&text);
}

/* The new item is good until the next one is added. NULL: err says why. */
static struct item *add_item(struct request *request, struct obx_err *err)
{
    if (request->count == request->room) {
        size_t room = request->room == 0 ? PAGE : request->room * 2;
        struct item *items = obx_realloc(request->items, room * sizeof(*items));

        if (items == NULL) {
            (void)obx_fail(err, OBX_E_NOMEM, "list of rows");
            return NULL;
        }
        request->items = items;
        request->room = room;
    }
    request->items[request->count] = (struct item){0};
    return &request->items[request->count++];
}

size_t request_count(const struct request *request, enum fate fate)
{
    size_t count = 0;

    for (size_t i = 0; i < request->count; i++)
        count += request->items[i].fate == fate;
    return count;
}

/* ---- which rows ---- */

static enum obx_code take_row(struct request *request, const struct record *record,
                              struct obx_err *err)
{
    const struct action *action = request->action;
    struct item *item = add_item(request, err);

    if (item == NULL)
        return OBX_E_NOMEM;
    item->id = db_rows_u64(record->rows, 0);
    item->is_first = action->first != NULL && !bytes_is_absent(record_text(record, action->first));
    if (action->place != NULL)
        item->place = keep_text(&request->places, record_text(record, action->place));
    if (action->refuse != NULL)
        action->refuse(request, item, record);
    return OBX_OK;
}

/* Of the ids that were given, those without a row. They come last, out of order, which nobody minds:
 * they are refused, and only what is pending is matched with rows. */
static enum obx_code add_missing(struct request *request, struct obx_err *err)
{
    const struct ctl_args *args = request->session.args;
    const size_t found = request->count;

    for (size_t i = 0; i < args->word_count; i++) {
        struct item *item;
        uint64_t id = 0;
        size_t k = 0;

        (void)ctl_parse_number(args->words[i], UINT64_MAX, &id);
        while (k < found && request->items[k].id != id)
            k++;
        if (k < found)
            continue;
        item = add_item(request, err);
        if (item == NULL)
            return OBX_E_NOMEM;
        item->id = id;
        item_set(request, item, FATE_REFUSED, "there is no %s %" PRIu64,
                 request->session.resource->noun, id);
    }
    return OBX_OK;
}

/* Every row that fits, page by page. */
static enum obx_code collect_rows(struct request *request, const struct id_list *ids,
                                  struct obx_err *err)
{
    struct record record = {.resource = request->session.resource};
    struct selection selection = {
        .ids = ids, .limit = ids == NULL ? PAGE : REQUEST_IDS_MAX, .until = request->until};
    struct db_rows *rows = NULL;
    enum obx_code rc = OBX_OK;
    char after[24];

    if (request->session.args->text[CTL_STATE] == NULL)
        selection.state = request->action->state;
    else
        (void)resource_state(request->session.args, record.resource, &selection.state);
    do {
        db_rows_free(rows);
        rc = resource_select(&request->session, &selection, &rows, err);
        record.rows = rows;
        while (rc == OBX_OK && db_rows_next(rows))
            rc = take_row(request, &record, err);
        if (request->count > 0)
            snprintf(after, sizeof(after), "%" PRIu64, request->items[request->count - 1].id);
        selection.after = after;
    } while (rc == OBX_OK && ids == NULL && db_rows_count(rows) == PAGE &&
             (request->max == 0 || request->count < request->max));
    db_rows_free(rows);
    return rc == OBX_OK && ids != NULL ? add_missing(request, err) : rc;
}

/* Ids that are texts are not looked for first: what runs them says what became of each. */
static enum obx_code collect_words(struct request *request, struct obx_err *err)
{
    for (size_t i = 0; i < request->session.args->word_count; i++) {
        struct item *item = add_item(request, err);

        if (item == NULL)
            return OBX_E_NOMEM;
        item->word = request->session.args->words[i];
    }
    return OBX_OK;
}

enum obx_code request_collect(struct request *request, struct obx_err *err)
{
    const struct ctl_args *args = request->session.args;
    struct id_list ids = {0};
    enum obx_code rc = OBX_OK;

    if (request->session.resource->has_text_key)
        return collect_words(request, err);
    for (size_t i = 0; i < args->word_count && rc == OBX_OK; i++) {
        uint64_t id = 0;

        (void)ctl_parse_number(args->words[i], UINT64_MAX, &id);
        rc = id_list_add(&ids, id, err);
    }
    if (rc == OBX_OK)
        rc = collect_rows(request, ids.count > 0 ? &ids : NULL, err);
    id_list_fini(&ids);
    return rc;
}

/* ---- asking ---- */

static void say_progress(const struct request *request, const char *word, uint64_t done,
                         uint64_t total)
{
    if (request->on_progress != NULL)
        request->on_progress(request, word, done, total);
}

static bool is_pending(const struct item *item, bool is_first)
{
    return item->fate == FATE_WAITING && item->is_first == is_first;
}

static size_t pending(const struct request *request, bool is_first)
{
    size_t count = 0;

    for (size_t i = 0; i < request->count; i++)
        count += is_pending(&request->items[i], is_first);
    return count;
}

/* The ids of the next pending items from *at on, max of them at most. */
static enum obx_code next_portion(const struct request *request, bool is_first, size_t *at,
                                  size_t max, struct id_list *ids, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    id_list_clear(ids);
    for (; *at < request->count && ids->count < max && rc == OBX_OK; (*at)++)
        if (is_pending(&request->items[*at], is_first))
            rc = id_list_add(ids, request->items[*at].id, err);
    return rc;
}

/* Write the request on those of the rows that have none and for which it may be. */
static enum obx_code mark(const struct request *request, const struct id_list *ids,
                          struct obx_err *err)
{
    const struct resource *resource = request->session.resource;
    const struct action *action = request->action;
    struct obx_value args[VALUES_MAX] = {ID_LIST_ARG(ids), DB_TEXT(action->request),
                                         DB_TEXT(request->by), DB_TEXT(request->note)};
    size_t count = 4;
    struct obx_buf sql = {0};
    enum obx_code rc;

    buf_addf(&sql,
             "UPDATE " ID_LIST_TABLE
             " STRAIGHT_JOIN %s t FORCE INDEX (PRIMARY) ON k.id = %s SET t.request = ?,"
             " t.requested_at = UTC_TIMESTAMP(6), t.requested_by = ?, t.request_note = ?%s"
             " WHERE t.request IS NULL%s",
             resource->table, resource->key, action->set == NULL ? "" : action->set,
             action->only == NULL ? "" : action->only);

    if (action->set_values != NULL)
        count += action->set_values(request, args + count);
    rc = sql.rc != OBX_OK ? obx_fail(err, sql.rc, "query")
                          : db_exec(request->session.db, sql.data, args, count, NULL, err);
    buf_fini(&sql);
    return rc;
}

/* Write the requests, or do it at once where nobody else has to. */
static enum obx_code run_portion(struct request *request, struct item *items, size_t count,
                                 const struct id_list *ids, struct obx_err *err)
{
    enum obx_code rc;

    if (request->action->run == NULL)
        return mark(request, ids, err);
    rc = request->action->run(request, items, count, ids, err);
    for (size_t i = 0; i < count && rc == OBX_OK; i++)
        if (items[i].fate == FATE_WAITING)
            items[i].fate = FATE_DONE;
    return rc;
}

static void pause_ms(uint64_t ms)
{
    const struct timespec pause = {.tv_sec = (time_t)(ms / MS_PER_S),
                                   .tv_nsec = (long)(ms % MS_PER_S) * NS_PER_MS};

    nanosleep(&pause, NULL);
}

/* No faster than so many rows in a second, counted from the start. */
static void keep_to_rate(uint64_t rate, uint64_t began_ms, uint64_t done)
{
    uint64_t due_ms = rate == 0 ? 0 : began_ms + done * MS_PER_S / rate;
    uint64_t now_ms = clock_now_ms();

    if (due_ms > now_ms)
        pause_ms(due_ms - now_ms);
}

/* Small portions for a low rate: a second's worth at once would be a burst. */
static size_t portion_of(uint64_t rate)
{
    if (rate == 0 || rate / TURNS_A_SECOND > PORTION)
        return PORTION;
    return rate < TURNS_A_SECOND ? 1 : (size_t)(rate / TURNS_A_SECOND);
}

static enum obx_code ask_all(struct request *request, bool is_first, struct obx_err *err)
{
    const uint64_t began_ms = clock_now_ms();
    const size_t total = pending(request, is_first);
    const char *word = request->action->run == NULL ? "requested" : request->action->done;
    struct id_list ids = {0};
    enum obx_code rc = OBX_OK;
    uint64_t rate = 0;
    size_t done = 0;

    if (request->session.args->text[CTL_RATE] != NULL)
        (void)ctl_parse_number(request->session.args->text[CTL_RATE], UINT32_MAX, &rate);
    for (size_t at = 0; rc == OBX_OK;) {
        size_t first = at;

        rc = next_portion(request, is_first, &at, portion_of(rate), &ids, err);
        if (rc != OBX_OK || ids.count == 0)
            break;
        rc = run_portion(request, &request->items[first], at - first, &ids, err);
        done += ids.count;
        say_progress(request, word, done, total);
        if (done < total)
            keep_to_rate(rate, began_ms, done);
    }
    id_list_fini(&ids);
    return rc;
}

/* A wake-up that is lost costs the time until the next poll, so nobody looks whether it arrived. */
static void wake_all(const struct request *request)
{
    for (uint32_t i = 1; request->action->wake != NULL && i <= request->places.count; i++)
        request->action->wake(request, request->places.items[i]);
}

/* ---- waiting ---- */

static void judge(struct request *request, struct item *item, const struct record *record)
{
    const struct obx_bytes standing = record_text(record, "request");

    if (bytes_is_absent(standing))
        item->fate = request->action->settled(request, item, record);
    else if (!bytes_is(standing, request->action->request))
        item_set(request, item, FATE_REFUSED, "has another request: %.*s", (int)standing.len,
                 (const char *)standing.p);
}

/* Rows and the items from first to last are both in the order of their ids. */
static void match_rows(struct request *request, size_t first, size_t last, bool is_first,
                       struct db_rows *rows)
{
    const struct record record = {.resource = request->session.resource, .rows = rows};
    bool has_row = db_rows_next(rows);

    for (size_t i = first; i < last; i++) {
        struct item *item = &request->items[i];

        if (!is_pending(item, is_first))
            continue;
        while (has_row && db_rows_u64(rows, 0) < item->id)
            has_row = db_rows_next(rows);
        if (has_row && db_rows_u64(rows, 0) == item->id)
            judge(request, item, &record);
        else
            item->fate = FATE_DONE;
    }
}

/* What has become of the pending ones. */
static enum obx_code look(struct request *request, bool is_first, struct obx_err *err)
{
    struct id_list ids = {0};
    enum obx_code rc = OBX_OK;

    for (size_t at = 0; rc == OBX_OK;) {
        size_t first = at;
        struct selection selection = {.ids = &ids, .limit = PORTION};
        struct db_rows *rows = NULL;

        rc = next_portion(request, is_first, &at, PORTION, &ids, err);
        if (rc != OBX_OK || ids.count == 0)
            break;
        rc = resource_select(&request->session, &selection, &rows, err);
        if (rc == OBX_OK)
            match_rows(request, first, at, is_first, rows);
        db_rows_free(rows);
    }
    id_list_fini(&ids);
    return rc;
}

/* Looks at growing intervals, and for no more than half of the time, until nothing is pending or the
 * time has passed. */
static enum obx_code await(struct request *request, bool is_first, uint64_t due_ms,
                           struct obx_err *err)
{
    uint64_t interval_ms = LOOK_MIN_MS;
    enum obx_code rc = OBX_OK;

    for (;;) {
        const uint64_t now_ms = clock_now_ms();
        uint64_t spent_ms;

        rc = look(request, is_first, err);
        say_progress(request, request->action->done,
                     request->count - request_count(request, FATE_WAITING), request->count);
        if (rc != OBX_OK || pending(request, is_first) == 0 || now_ms >= due_ms)
            break;
        spent_ms = clock_now_ms() - now_ms;
        pause_ms(spent_ms > interval_ms ? spent_ms : interval_ms);
        if (interval_ms < LOOK_MAX_MS)
            interval_ms *= 2;
    }
    return rc;
}

/* Requests stand in the rows from here on: if this program is stopped now, they are run all the
 * same, and a second run of the command finds them. */
static enum obx_code ask_and_await(struct request *request, bool is_first, uint64_t due_ms,
                                   struct obx_err *err)
{
    enum obx_code rc = pending(request, is_first) == 0 ? OBX_OK : ask_all(request, is_first, err);

    if (rc != OBX_OK || pending(request, is_first) == 0)
        return rc;
    wake_all(request);
    return await(request, is_first, due_ms, err);
}

enum obx_code request_perform(struct request *request, struct obx_err *err)
{
    const uint64_t due_ms = clock_now_ms() + (uint64_t)request->session.args->wait_s * MS_PER_S;
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(request->session.db, "SELECT CAST(UTC_TIMESTAMP(6) AS CHAR)",
                                DB_NO_ARGS, &rows, err);

    if (rc == OBX_OK && db_rows_next(rows))
        (void)bytes_to_text(db_rows_bytes(rows, 0), request->began_at, sizeof(request->began_at));
    db_rows_free(rows);
    if (rc == OBX_OK)
        rc = ask_and_await(request, true, due_ms, err);
    if (rc != OBX_OK || pending(request, false) == 0)
        return rc;
    if (request->action->first_stuck != NULL && pending(request, true) > 0)
        return obx_fail(err, OBX_E_TIMEOUT, "%s", request->action->first_stuck);
    return ask_and_await(request, false, due_ms, err);
}

const char *request_note(const struct request *request, const struct item *item)
{
    return item->note == 0 ? NULL : request->notes.items[item->note];
}

const char *request_word(const struct request *request, enum fate fate)
{
    return fate == FATE_DONE      ? request->action->done
           : fate == FATE_WAITING ? "requested"
                                  : "refused";
}

void request_explain(const struct request *request, FILE *file)
{
    for (uint32_t place = 1; place <= request->places.count; place++) {
        size_t i = 0;

        while (i < request->count &&
               (request->items[i].fate != FATE_WAITING || request->items[i].place != place))
            i++;
        if (i < request->count)
            request->action->explain(request, request->places.items[place], file);
    }
}

bool request_has_filter(const struct ctl_args *args, const struct resource *resource)
{
    bool is_given = args->text[CTL_ALL] != NULL || args->text[CTL_STATE] != NULL;

    for (size_t i = 0; i < resource->filter_count; i++)
        is_given = is_given || args->text[resource->filters[i].option] != NULL;
    return is_given;
}

void request_fini(struct request *request)
{
    obx_free(request->items);
    free_texts(&request->places);
    free_texts(&request->notes);
}
