/*
 * outboxctl dead replay, edit-replay and discard. What they write into a dead row is carried out by
 * a consumer of its group, within a second where one runs.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cmd_dead.h"
#include "outboxctl/print/human.h"
#include "outboxctl/print/progress.h"
#include "outboxctl/who.h"

enum {
    PAGE = 500,
    TOTAL_MAX = 1000000,
    IDS_MAX = 1000,
    TURNS_A_SECOND = 10, /* so many portions are written in a second when there is a limit */
    POLL_MS = 100,
    MS_PER_S = 1000,
    NS_PER_MS = 1000000,
    REASONS_MAX = 20, /* lines on what was refused */
    READ_SIZE = 65536,
};

/* One run of a command. */
struct run {
    const struct ctl_args *args;
    const struct target *target;
    struct db *db;
    struct dead_request request;
    struct dead_filter filter;
    uint64_t rate; /* messages in a second; 0: no limit */
    uint64_t found, marked;
    uint64_t first, last; /* ids that were marked are between these */
    uint32_t complaints;
};

static enum ctl_exit usage(const char *what)
{
    fprintf(stderr, "outboxctl: %s\n", what);
    return CTL_USAGE;
}

static void pause_ms(uint64_t wait_ms)
{
    const struct timespec pause = {.tv_sec = (time_t)(wait_ms / MS_PER_S),
                                   .tv_nsec = (long)(wait_ms % MS_PER_S) * NS_PER_MS};

    nanosleep(&pause, NULL);
}

/* ---- marking ---- */

static const char *why_refused(const struct db_rows *rows)
{
    if (!bytes_is(db_rows_bytes(rows, DEAD_STATE), "dead"))
        return "is not dead";
    if (db_rows_u64(rows, DEAD_IS_TOLD) != 0)
        return "its producer is told that it was rejected, and acts on that; --force if it shall "
               "take effect nevertheless";
    if (db_rows_u64(rows, DEAD_IS_OLD) != 0)
        return "older than the dedup rows are kept: nothing may tell any more whether a copy was "
               "applied; --force if you know";
    return "somebody else was first";
}

static bool is_markable(const struct run *run, const struct db_rows *rows)
{
    return bytes_is(db_rows_bytes(rows, DEAD_STATE), "dead") &&
           db_rows_is_null(rows, DEAD_REQUEST) &&
           (strcmp(run->request.action, "replay") != 0 ||
            (db_rows_u64(rows, DEAD_IS_TOLD) == 0 && db_rows_u64(rows, DEAD_IS_OLD) == 0));
}

static void complain_about(struct run *run, const struct db_rows *rows)
{
    const struct obx_bytes request = db_rows_bytes(rows, DEAD_REQUEST);

    if (run->complaints++ >= REASONS_MAX)
        return;
    if (!bytes_is_absent(request))
        fprintf(stderr, "outboxctl: %" PRIu64 ": has a request, %.*s\n", db_rows_u64(rows, DEAD_ID),
                (int)request.len, (const char *)request.p);
    else
        fprintf(stderr, "outboxctl: %" PRIu64 ": %s\n", db_rows_u64(rows, DEAD_ID),
                why_refused(rows));
}

/* Mark the page's rows that can be; the rest is complained about. */
static enum obx_code mark_page(struct run *run, struct db_rows *rows, struct obx_err *err)
{
    struct obx_buf ids = {0};
    uint64_t marked = 0;
    enum obx_code rc = OBX_OK;

    while (rc == OBX_OK && db_rows_next(rows)) {
        uint64_t id = db_rows_u64(rows, DEAD_ID);

        run->filter.after = id;
        run->found++;
        if (!is_markable(run, rows)) {
            complain_about(run, rows);
            continue;
        }
        if (run->first == 0)
            run->first = id;
        run->last = id;
        rc = buf_addf(&ids, ids.len == 0 ? "%" PRIu64 : ",%" PRIu64, id);
    }
    if (rc != OBX_OK)
        rc = obx_fail(err, rc, "list of messages");
    else if (ids.len > 0)
        rc = dead_mark(run->db, ids.data, &run->request, &marked, err);
    run->marked += marked;
    buf_fini(&ids);
    return rc;
}

static uint32_t page_of(const struct run *run)
{
    uint64_t page = run->rate / TURNS_A_SECOND;

    if (run->rate == 0 || page > PAGE)
        return PAGE;
    return page == 0 ? 1 : (uint32_t)page;
}

/* No faster than so many in a second, counted from the start. */
static void keep_to_rate(const struct run *run, uint64_t started_ms)
{
    uint64_t due_ms = run->rate == 0 ? 0 : started_ms + run->found * MS_PER_S / run->rate;
    uint64_t now_ms = clock_now_ms();

    if (due_ms > now_ms)
        pause_ms(due_ms - now_ms);
}

static enum obx_code mark_all(struct run *run, struct obx_err *err)
{
    const uint64_t started_ms = clock_now_ms();
    struct progress progress;
    uint64_t expected = 0;
    size_t found = 0;
    enum obx_code rc = dead_count(run->db, &run->filter, TOTAL_MAX, &expected, err);

    run->filter.limit = page_of(run);
    progress_begin(&progress, "requested", expected);
    while (rc == OBX_OK) {
        struct db_rows *rows = NULL;

        rc = dead_find(run->db, &run->filter, &rows, err);
        if (rc == OBX_OK) {
            found = db_rows_count(rows);
            rc = mark_page(run, rows, err);
        }
        db_rows_free(rows);
        progress_set(&progress, run->found < expected ? run->found : expected);
        if (rc != OBX_OK || found < run->filter.limit)
            break;
        keep_to_rate(run, started_ms);
    }
    progress_end(&progress);
    return rc;
}

/* ---- waiting until it is done ---- */

static enum obx_code wait_done(struct run *run, uint64_t *left, struct obx_err *err)
{
    const uint64_t due_ms = clock_now_ms() + (uint64_t)run->args->wait_s * MS_PER_S;
    struct progress progress;
    enum obx_code rc = OBX_OK;

    *left = run->marked;
    if (run->marked == 0)
        return OBX_OK;
    progress_begin(&progress, "carried out", run->marked);
    for (;;) {
        rc = dead_count_requested(run->db, run->first, run->last, left, err);
        if (rc != OBX_OK || *left == 0 || clock_now_ms() >= due_ms)
            break;
        progress_set(&progress, *left < run->marked ? run->marked - *left : 0);
        pause_ms(POLL_MS);
    }
    progress_end(&progress);
    return rc;
}

static const char *word_of(const struct run *run, bool is_done)
{
    if (!is_done)
        return "requested";
    return strcmp(run->request.action, "discard") == 0 ? "discarded" : "replayed";
}

static void report(const struct run *run, uint64_t left)
{
    uint64_t done = run->marked > left ? run->marked - left : 0;
    char number[HUMAN_MAX];

    if (run->args->json) {
        printf("{\"found\": %" PRIu64 ", \"requested\": %" PRIu64 ", \"done\": %" PRIu64 "}\n",
               run->found, run->marked, done);
        return;
    }
    if (run->found == 0)
        printf("no dead message is like that\n");
    else
        printf("%s %s\n", human_count(done, false, number), word_of(run, true));
    if (left > 0)
        printf("%s requested: a consumer of the group carries it out as soon as one runs\n",
               human_count(left, false, number));
}

static enum ctl_exit carry_out(struct run *run)
{
    struct obx_err err = {0};
    uint64_t left = 0;
    enum obx_code rc = mark_all(run, &err);

    if (rc == OBX_OK)
        rc = wait_done(run, &left, &err);
    if (rc != OBX_OK) {
        target_complain(run->target, &err);
        return CTL_FAILED;
    }
    if (run->complaints > REASONS_MAX)
        fprintf(stderr, "outboxctl: and %" PRIu32 " more\n", run->complaints - REASONS_MAX);
    report(run, left);
    if (run->found == 0 || run->marked < run->found)
        return CTL_FAILED;
    /* Whoever does not wait asks for the request to be written, and that it is. */
    return left > 0 && run->args->wait_s > 0 ? CTL_FAILED : CTL_OK;
}

/* ---- the command line ---- */

static bool has_filter(const struct ctl_args *args)
{
    return args->all || args->text[CTL_GROUP] != NULL || args->text[CTL_TOPIC] != NULL ||
           args->text[CTL_REASON] != NULL || args->text[CTL_KEY] != NULL;
}

static bool add_ids(const struct ctl_args *args, struct obx_buf *ids)
{
    for (size_t i = 0; i < args->word_count; i++) {
        uint64_t id = 0;

        if (!dead_parse_id(args->words[i], &id)) {
            fprintf(stderr, "outboxctl: %s is no ID, as dead list shows it\n", args->words[i]);
            return false;
        }
        if (buf_addf(ids, i == 0 ? "%" PRIu64 : ",%" PRIu64, id) != OBX_OK)
            return false;
    }
    return true;
}

static enum ctl_exit check_request(const struct ctl_args *args)
{
    uint64_t rate = 0;

    if (args->word_count > 0 && has_filter(args))
        return usage("either IDs, or a filter, or --all");
    if (args->word_count == 0 && !has_filter(args))
        return usage("which messages? IDs, a filter, or --all");
    if (args->word_count > IDS_MAX)
        return usage("so many IDs: use a filter");
    if (args->text[CTL_RATE] != NULL && (!dead_parse_id(args->text[CTL_RATE], &rate) || rate == 0))
        return usage("--rate is how many messages a second");
    return CTL_OK;
}

static enum ctl_exit request(const struct ctl_args *args, const struct target *target,
                             struct db *db, const struct dead_request *what)
{
    char who[WHO_MAX];
    struct run run = {
        .args = args, .target = target, .db = db, .request = *what, .filter = dead_filter_of(args)};
    struct obx_buf ids = {0};
    enum ctl_exit status = add_ids(args, &ids) ? CTL_OK : CTL_USAGE;

    who_am_i(who);
    run.request.by = who;
    run.request.note = args->text[CTL_NOTE];
    if (args->text[CTL_RATE] != NULL)
        (void)dead_parse_id(args->text[CTL_RATE], &run.rate);
    if (ids.len > 0) {
        run.filter.ids = ids.data;
        run.filter.state = NULL; /* one that is not dead is complained about */
    }
    if (status == CTL_OK)
        status = carry_out(&run);
    if (ids.len > 0 && status == CTL_OK && run.found < args->word_count) {
        fprintf(stderr, "outboxctl: some of the IDs are not there\n");
        status = CTL_FAILED;
    }
    buf_fini(&ids);
    return status;
}

static enum ctl_exit replay(const struct ctl_args *args, const struct target *target, struct db *db)
{
    const struct dead_request what = {.action = args->force ? "force-replay" : "replay"};

    return request(args, target, db, &what);
}

enum ctl_exit cmd_dead_replay(const struct ctl_args *args)
{
    enum ctl_exit status = check_request(args);

    return status == CTL_OK ? dead_run(args, replay) : status;
}

static enum ctl_exit discard(const struct ctl_args *args, const struct target *target,
                             struct db *db)
{
    const struct dead_request what = {.action = "discard"};

    return request(args, target, db, &what);
}

enum ctl_exit cmd_dead_discard(const struct ctl_args *args)
{
    enum ctl_exit status = check_request(args);

    if (status != CTL_OK)
        return status;
    if (args->text[CTL_NOTE] == NULL || args->text[CTL_NOTE][0] == '\0')
        return usage("discarding is for ever: say why with --note TEXT");
    if (args->word_count == 0 && !args->yes)
        return usage("this discards every message that fits, for ever; add --yes if it shall");
    return dead_run(args, discard);
}

/* ---- edit-replay ---- */

/* To its end: a body that was read in part would be replayed as if it were the whole. */
static bool read_to_end(FILE *file, struct obx_buf *body)
{
    size_t got = 0;

    do {
        if (buf_reserve(body, READ_SIZE) != OBX_OK)
            return false;
        got = fread(body->data + body->len, 1, READ_SIZE, file);
        body->len += got;
    } while (got > 0);
    return ferror(file) == 0;
}

static enum ctl_exit read_body(const char *path, struct obx_buf *body)
{
    const bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "re");
    bool is_whole = false;

    if (file == NULL) {
        fprintf(stderr, "outboxctl: --body %s cannot be opened\n", path);
        return CTL_USAGE;
    }
    is_whole = read_to_end(file, body);
    if (!is_stdin)
        fclose(file);
    if (is_whole)
        return CTL_OK;
    fprintf(stderr, "outboxctl: --body %s cannot be read\n", path);
    return CTL_FAILED;
}

static enum ctl_exit edit(const struct ctl_args *args, const struct target *target, struct db *db)
{
    struct obx_buf body = {0};
    enum ctl_exit status = read_body(args->text[CTL_BODY], &body);
    const struct obx_bytes bytes = {.p = body.data, .len = body.len};
    const struct dead_request what = {.action = args->force ? "force-replay" : "replay",
                                      .body = &bytes};

    if (status == CTL_OK)
        status = request(args, target, db, &what);
    buf_fini(&body);
    return status;
}

enum ctl_exit cmd_dead_edit_replay(const struct ctl_args *args)
{
    if (args->word_count != 1)
        return usage("dead edit-replay takes one ID, as dead list shows it");
    if (args->text[CTL_BODY] == NULL)
        return usage("which body? --body FILE, or - for standard input");
    if (args->text[CTL_NOTE] == NULL || args->text[CTL_NOTE][0] == '\0')
        return usage("a message is changed: say why with --note TEXT");
    return dead_run(args, edit);
}
