/*
 * The merge of both sides. Called by cmd_reconcile.c and by the benchmark.
 */
#include "reconcile_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "ops/resource.h"

enum {
    US_PER_S = 1000000,
    US_PER_MS = 1000,
    EDGE_MS = 1000,
    DATE_LEN = 20,
    HEX = 16,
};
enum { TIME_DIGITS = 13, DASH_AT = 8, PROGRESS_ROWS = 20000 };

const char *reconcile_kind_name(enum reconcile_kind kind)
{
    static const char *const names[] = {"missing",
                                        "extra",
                                        "rejected",
                                        "in an outbox",
                                        "parked",
                                        "delayed",
                                        "awaiting receipt",
                                        "in a queue",
                                        "waiting at the consumer",
                                        "dead at the consumer"};

    return names[kind];
}

void reconcile_report(struct reconcile *r, enum reconcile_kind kind, struct obx_bytes id,
                      struct obx_bytes topic, struct obx_bytes created)
{
    const struct reconcile_finding finding = {
        .kind = kind, .id = id, .topic = topic, .created = created};

    r->result->found[kind]++;
    if (r->opts->on_finding != NULL)
        r->opts->on_finding(&finding, r->opts->ctx);
}

/* ---- times and ids ---- */

uint64_t reconcile_id_ms(struct obx_bytes id)
{
    char digits[TIME_DIGITS];
    const char *p = id.p;

    /* "01234567-89ab-...": the milliseconds without their dash */
    if (id.len < TIME_DIGITS || p[DASH_AT] != '-')
        return 0;
    snprintf(digits, sizeof(digits), "%.8s%.4s", p, p + DASH_AT + 1);
    if (strspn(digits, "0123456789abcdef") != TIME_DIGITS - 1)
        return 0;
    return strtoull(digits, NULL, HEX);
}

/* What the ids of a millisecond begin with. */
static void prefix_of(uint64_t ms, struct id_text *out)
{
    char text[DATE_LEN];

    snprintf(text, sizeof(text), "%08" PRIx64 "-%04" PRIx64, ms >> 16 & 0xFFFFFFFF, ms & 0xFFFF);
    id_copy(out, bytes_of(text));
}

static void format_time(uint64_t us, char *out)
{
    const time_t seconds = (time_t)(us / US_PER_S);
    struct tm tm;
    char date[DATE_LEN];

    gmtime_r(&seconds, &tm);
    strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
    snprintf(out, RECONCILE_TIME_MAX, "%s.%06" PRIu64, date, us % US_PER_S);
}

/* ---- which rows are wanted ---- */

static enum obx_code build_wanted(struct reconcile *r)
{
    enum obx_code rc = OBX_OK;

    buf_add_text(&r->wanted, "(o.created_at >= ? AND o.created_at < ?");
    r->wanted_args[r->wanted_count++] = DB_TEXT(r->from);
    r->wanted_args[r->wanted_count++] = DB_TEXT(r->to);
    for (size_t i = 0; i < r->opts->topic_count && rc == OBX_OK; i++) {
        struct obx_buf *pattern = &r->patterns[i];

        buf_addf(&r->wanted, "%so.topic %s ?", i == 0 ? " AND (" : " OR ",
                 topic_operand(r->opts->topics[i], pattern));
        r->wanted_args[r->wanted_count++] = DB_BYTES(buf_bytes(pattern));
        rc = pattern->rc;
    }
    buf_add_text(&r->wanted, r->opts->topic_count > 0 ? "))" : ")");
    return rc == OBX_OK ? r->wanted.rc : rc;
}

/* ---- the merge ---- */

static enum obx_code note_extra(struct reconcile *r, struct obx_bytes id, struct obx_err *err)
{
    id_copy(&r->extra.items[r->extra.count++], id);
    return r->extra.count == RECONCILE_BATCH ? reconcile_look_extra(r, err) : OBX_OK;
}

/* In both. A row that is not wanted (another time, another topic) only explains the other side's.
 */
static void match(struct reconcile *r, const struct id_stream *ours, const struct id_stream *theirs)
{
    if (ours->number == 0)
        return;
    r->result->compared++;
    if (theirs->number != 0)
        reconcile_report(r, RECONCILE_REJECTED, ours->id, (struct obx_bytes){0},
                         (struct obx_bytes){0});
    else
        r->result->applied++;
}

static enum obx_code take_ours(struct reconcile *r, const struct id_stream *ours,
                               struct obx_err *err)
{
    if (ours->number == 0)
        return OBX_OK;
    r->result->compared++;
    id_copy(&r->missing.items[r->missing.count++], ours->id);
    return r->missing.count == RECONCILE_BATCH ? reconcile_look_missing(r, err) : OBX_OK;
}

static enum obx_code merge(struct reconcile *r, struct id_stream *ours, struct id_stream *theirs,
                           struct obx_err *err)
{
    bool has_ours = false, has_theirs = false;
    enum obx_code rc = id_stream_next(ours, &has_ours, err);

    if (rc == OBX_OK)
        rc = id_stream_next(theirs, &has_theirs, err);
    while (rc == OBX_OK && (has_ours || has_theirs)) {
        int order = !has_theirs ? -1 : !has_ours ? 1 : id_compare(ours->id, theirs->id);

        if (order == 0)
            match(r, ours, theirs);
        else if (order < 0)
            rc = take_ours(r, ours, err);
        else
            rc = note_extra(r, theirs->id, err);
        if (rc == OBX_OK && order <= 0)
            rc = id_stream_next(ours, &has_ours, err);
        if (rc == OBX_OK && order >= 0)
            rc = id_stream_next(theirs, &has_theirs, err);
        if ((ours->read + theirs->read) % PROGRESS_ROWS == 0 && has_ours &&
            r->opts->on_progress != NULL)
            r->opts->on_progress(reconcile_id_ms(ours->id) * US_PER_MS, r->opts->ctx);
    }
    r->result->rows += ours->read + theirs->read;
    return rc;
}

static enum obx_code finish_looks(struct reconcile *r, struct obx_err *err)
{
    enum obx_code rc = reconcile_look_missing(r, err);

    return rc == OBX_OK ? reconcile_look_extra(r, err) : rc;
}

static enum obx_code build_journal(struct reconcile *r, struct obx_buf *sql, const char *upper)
{
    return buf_addf(sql,
                    "SELECT o.message_id, %s FROM outbox_journal o WHERE o.is_custom = %d%s"
                    " AND o.message_id > ? ORDER BY o.message_id LIMIT ?",
                    r->wanted.data, r->is_custom, upper);
}

static void add_wanted_args(const struct reconcile *r, struct id_stream *stream)
{
    for (size_t i = 0; i < r->wanted_count; i++)
        stream->args[stream->arg_count++] = r->wanted_args[i];
}

/* Ids that begin with their time: a range of time is a range of ids, on both sides. */
static enum obx_code compare_timed(struct reconcile *r, struct obx_err *err)
{
    struct id_stream ours = {.db = r->opts->source_scan};
    struct id_stream theirs = {.db = r->opts->consumer_scan,
                               .sql =
                                   "SELECT message_id, outcome IS NOT NULL FROM inbox_applied"
                                   " WHERE consumer_group = ? AND message_id < ? AND message_id > ?"
                                   " ORDER BY message_id LIMIT ?"};
    struct id_text low, high;
    struct obx_buf sql = {0};
    enum obx_code rc;

    r->is_custom = false;
    prefix_of(r->opts->from_us / US_PER_MS - EDGE_MS, &low);
    prefix_of(r->opts->to_us / US_PER_MS + EDGE_MS + 1, &high);
    ours.last = theirs.last = low;
    add_wanted_args(r, &ours);
    ours.args[ours.arg_count++] = DB_BYTES(id_bytes(&high));
    theirs.args[theirs.arg_count++] = DB_TEXT(r->opts->group);
    theirs.args[theirs.arg_count++] = DB_BYTES(id_bytes(&high));
    rc = build_journal(r, &sql, " AND o.message_id < ?");
    ours.sql = sql.data;
    rc = rc == OBX_OK ? merge(r, &ours, &theirs, err) : obx_fail(err, rc, "journal");
    if (rc == OBX_OK)
        rc = finish_looks(r, err);
    id_stream_fini(&ours);
    id_stream_fini(&theirs);
    buf_fini(&sql);
    return rc;
}

/* Every wanted one is looked up: its place at the consumer is not near its neighbours'. */
static enum obx_code look_up_all(struct reconcile *r, struct id_stream *ours, struct obx_err *err)
{
    bool has_ours = false;
    enum obx_code rc = id_stream_next(ours, &has_ours, err);

    while (rc == OBX_OK && has_ours) {
        rc = take_ours(r, ours, err);
        if (rc == OBX_OK)
            rc = id_stream_next(ours, &has_ours, err);
    }
    r->result->rows += ours->read;
    return rc == OBX_OK ? reconcile_look_missing(r, err) : rc;
}

/* The whole group, for ids that the source does not know and that have no time in them. */
static enum obx_code look_back_all(struct reconcile *r, struct obx_err *err)
{
    struct id_stream theirs = {
        .db = r->opts->consumer_scan,
        .sql = "SELECT message_id, applied_at >= ? AND applied_at < ? FROM inbox_applied"
               " WHERE consumer_group = ? AND message_id > ? ORDER BY message_id LIMIT ?",
        .args = {DB_TEXT(r->from), DB_TEXT(r->to), DB_TEXT(r->opts->group)},
        .arg_count = 3};
    bool has_theirs = false;
    enum obx_code rc = id_stream_next(&theirs, &has_theirs, err);

    while (rc == OBX_OK && has_theirs) {
        if (theirs.number != 0 && reconcile_id_ms(theirs.id) == 0)
            rc = note_extra(r, theirs.id, err);
        if (rc == OBX_OK)
            rc = id_stream_next(&theirs, &has_theirs, err);
    }
    r->result->rows += theirs.read;
    id_stream_fini(&theirs);
    return rc == OBX_OK ? reconcile_look_extra(r, err) : rc;
}

static enum obx_code compare_custom(struct reconcile *r, struct obx_err *err)
{
    struct id_stream ours = {.db = r->opts->source_scan};
    struct obx_buf sql = {0};
    enum obx_code rc = OBX_OK;

    r->is_custom = true;
    add_wanted_args(r, &ours);
    rc = build_journal(r, &sql, "");
    ours.sql = sql.data;
    rc = rc == OBX_OK ? look_up_all(r, &ours, err) : obx_fail(err, rc, "journal");
    if (rc == OBX_OK && r->opts->all_ids)
        rc = look_back_all(r, err);
    id_stream_fini(&ours);
    buf_fini(&sql);
    return rc;
}

/* ---- all of it ---- */

static void free_all(struct reconcile *r)
{
    for (size_t i = 0; i < RECONCILE_TOPICS_MAX; i++)
        buf_fini(&r->patterns[i]);
    buf_fini(&r->wanted);
    buf_fini(&r->sql);
    buf_fini(&r->json);
    obx_free(r->suspects);
    obx_free(r->is_known);
    obx_free(r);
}

enum obx_code reconcile_run(const struct reconcile_opts *opts, struct reconcile_result *result,
                            struct obx_err *err)
{
    struct reconcile *r = obx_calloc(1, sizeof(*r));
    enum obx_code rc = OBX_OK;

    memset(result, 0, sizeof(*result));
    if (r == NULL)
        return obx_fail(err, OBX_E_NOMEM, "comparison");
    r->opts = opts;
    r->result = result;
    r->suspects = obx_calloc(RECONCILE_SUSPECTS, sizeof(*r->suspects));
    r->is_known = obx_calloc(RECONCILE_SUSPECTS, sizeof(*r->is_known));
    format_time(opts->from_us, r->from);
    format_time(opts->to_us, r->to);
    if (r->suspects == NULL || r->is_known == NULL || build_wanted(r) != OBX_OK)
        rc = obx_fail(err, OBX_E_NOMEM, "comparison");
    if (rc == OBX_OK)
        rc = compare_timed(r, err);
    if (rc == OBX_OK)
        rc = compare_custom(r, err);
    if (rc == OBX_OK)
        rc = reconcile_flush_suspects(r, err);
    if (rc == OBX_OK)
        rc = reconcile_on_the_way(r, err);
    free_all(r);
    return rc;
}
