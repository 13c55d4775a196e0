/*
 * The list of a trace, and the asking of one place after the other. Called by cmd_trace.c and by the
 * console's workers.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "ops/json_value.h"
#include "trace_private.h"

enum { US_PER_S = 1000000, TIME_MAX = 48, ROOM = 32, ENTRIES_MAX = 2000 };
/* The time of a place: the client libraries count whole seconds, and round up. */
enum { SHARES = 3, LEAST_MS = 200 };

const char *trace_kind_name(enum trace_kind kind)
{
    static const char *const names[] = {"fact", "nothing", "unknown", "failed"};

    return names[kind];
}

/* ---- entries ---- */

/* An ordering key may have had any number of messages: the list says when it has had enough. */
static struct trace_entry *new_entry(struct tracer *tracer, enum trace_kind kind, const char *table)
{
    struct trace *out = tracer->out;
    struct obx_buf source = {0};
    struct trace_entry *entry;

    if (out->count >= ENTRIES_MAX)
        return NULL;
    if (out->count == out->room) {
        size_t room = out->room == 0 ? ROOM : out->room * 2;
        struct trace_entry *items = obx_realloc(out->items, room * sizeof(*items));

        if (items == NULL)
            return NULL;
        out->items = items;
        out->room = room;
    }
    if (buf_addf(&source, table == NULL ? "%s" : "table %s of %s",
                 table == NULL ? tracer->place->name : table, tracer->place->name) != OBX_OK) {
        buf_fini(&source);
        return NULL;
    }
    entry = &out->items[out->count++];
    *entry = (struct trace_entry){.kind = kind, .source = source.data};
    return entry;
}

enum obx_code trace_add(struct tracer *tracer, enum trace_kind kind, const char *table,
                        const char *fmt, ...)
{
    struct trace_entry *entry = new_entry(tracer, kind, table);
    struct obx_buf text = {0};
    va_list args;

    if (entry == NULL)
        return tracer->out->count >= ENTRIES_MAX ? OBX_OK : OBX_E_NOMEM;
    va_start(args, fmt);
    buf_addvf(&text, fmt, args);
    va_end(args);
    entry->text = text.data;
    return text.rc;
}

void trace_fini(struct trace *trace)
{
    for (size_t i = 0; i < trace->count; i++) {
        obx_free(trace->items[i].source);
        obx_free(trace->items[i].text);
        json_decref(trace->items[i].fields);
    }
    obx_free(trace->items);
    memset(trace, 0, sizeof(*trace));
}

/* ---- statements ---- */

bool trace_has_side(const struct tracer *tracer, enum schema_side side)
{
    return (tracer->sides >> side & 1U) != 0;
}

/* As a text, not prepared: MariaDB 10.11 plans the second run of some prepared statements as a scan,
 * and a trace is asked for once. */
enum obx_code trace_query(struct tracer *tracer, const struct obx_buf *sql, struct db_rows **rows,
                          struct obx_err *err)
{
    if (sql->rc != OBX_OK)
        return obx_fail(err, sql->rc, "query");
    if (tracer->opts->on_statement != NULL)
        tracer->opts->on_statement(tracer->db, buf_bytes(sql), tracer->opts->ctx);
    tracer->out->statements++;
    return db_query_text(tracer->db, buf_bytes(sql), rows, err);
}

void trace_add_sql(struct tracer *tracer, struct obx_buf *buf, const char *sql,
                   struct obx_bytes value)
{
    for (; *sql != '\0'; sql++) {
        if (*sql == '?') {
            /* A consumer keeps bytes, and finds them whatever they are. */
            buf_add_text(buf, tracer->place->is_consumer ? "_binary" : "");
            (void)db_add_literal(tracer->db, buf, value);
        } else
            buf_add(buf, sql, 1);
    }
}

static struct obx_bytes wanted(const struct tracer *tracer)
{
    return bytes_of(tracer->opts->id != NULL ? tracer->opts->id : tracer->opts->key);
}

/* The row's columns stand with the first thing that it says. */
static json_t *fields_of(const struct trace_lookup *lookup, const struct db_rows *rows)
{
    json_t *fields = json_object();

    for (unsigned i = 0; i < lookup->field_count; i++)
        record_set_json(fields, &lookup->fields[i], rows, (unsigned)(2 * lookup->event_count) + i);
    return fields;
}

static enum obx_code add_row(struct tracer *tracer, const struct trace_lookup *lookup,
                             const char *table, const struct db_rows *rows)
{
    bool is_first = true;

    for (unsigned i = 0; i < lookup->event_count; i++) {
        const struct obx_bytes text = db_rows_bytes(rows, 2 * i + 1);
        struct trace_entry *entry;

        if (bytes_is_absent(text))
            continue;
        entry = new_entry(tracer, TRACE_FACT, table);
        if (entry == NULL)
            return tracer->out->count >= ENTRIES_MAX ? OBX_OK : OBX_E_NOMEM;
        entry->at_us = db_rows_u64(rows, 2 * i);
        entry->rank = lookup->events[i].rank;
        entry->text = bytes_dup(text);
        entry->fields = is_first && lookup->field_count > 0 ? fields_of(lookup, rows) : NULL;
        is_first = false;
        if (entry->text == NULL)
            return OBX_E_NOMEM;
    }
    return OBX_OK;
}

enum obx_code trace_look_from(struct tracer *tracer, const struct trace_lookup *lookup,
                              const char *table, const char *from, size_t *found,
                              struct obx_err *err)
{
    struct obx_buf sql = {0};
    struct db_rows *rows = NULL;
    enum obx_code rc;

    for (size_t i = 0; i < lookup->event_count; i++)
        buf_addf(&sql, "%sTIMESTAMPDIFF(MICROSECOND, '1970-01-01', %s), %s",
                 i == 0 ? "SELECT " : ", ", lookup->events[i].at, lookup->events[i].text);
    for (size_t i = 0; i < lookup->field_count; i++)
        buf_addf(&sql, ", %s", lookup->fields[i].sql);
    trace_add_sql(tracer, &sql, from, wanted(tracer));
    rc = trace_query(tracer, &sql, &rows, err);
    *found = rc == OBX_OK ? db_rows_count(rows) : 0;
    while (rc == OBX_OK && db_rows_next(rows))
        rc = add_row(tracer, lookup, table, rows);
    db_rows_free(rows);
    buf_fini(&sql);
    return rc;
}

enum obx_code trace_look(struct tracer *tracer, const struct trace_lookup *lookup, size_t *found,
                         struct obx_err *err)
{
    const char *from = tracer->opts->id != NULL ? lookup->by_id : lookup->by_key;
    enum obx_code rc;

    *found = 0;
    if (from == NULL || !trace_has_side(tracer, lookup->side))
        return OBX_OK;
    rc = trace_look_from(tracer, lookup, lookup->table, from, found, err);
    /* An account without the right to one table can still say what the others know. */
    if (rc == OBX_E_DB_DENIED || rc == OBX_E_DB_NO_TABLE || rc == OBX_E_DB_QUERY)
        return trace_add(tracer, TRACE_UNKNOWN, lookup->table,
                         "unknown, because the database refuses to say it: %s",
                         err == NULL ? "" : err->text);
    if (rc == OBX_OK && *found == 0 && lookup->nothing != NULL)
        rc = trace_add(tracer, TRACE_NOTHING, lookup->table, "%s", lookup->nothing);
    return rc;
}

/* ---- places ---- */

static enum obx_code read_sides(struct tracer *tracer, struct obx_err *err)
{
    struct obx_buf sql = {0};
    struct db_rows *rows = NULL;
    enum obx_code rc;

    buf_add_text(&sql, "SELECT DISTINCT side FROM rowpost_schema");
    rc = trace_query(tracer, &sql, &rows, err);
    while (rc == OBX_OK && db_rows_next(rows))
        for (unsigned side = 0; side < SCHEMA_SIDE_COUNT; side++)
            if (bytes_is(db_rows_bytes(rows, 0), schema_side_name((enum schema_side)side)))
                tracer->sides |= 1U << side;
    db_rows_free(rows);
    buf_fini(&sql);
    return rc;
}

/* A part of what is left, so that a place which does not answer leaves time for those after it. False:
 * nothing is left. */
static bool share_time(const struct tracer *tracer, struct db_opts *db)
{
    const uint64_t now_ms = clock_now_ms();
    uint64_t share_ms;

    if (tracer->opts->due_ms == 0)
        return true;
    if (now_ms + LEAST_MS >= tracer->opts->due_ms)
        return false;
    share_ms = (tracer->opts->due_ms - now_ms) / SHARES;
    db->connect_timeout_ms = db->read_timeout_ms = db->write_timeout_ms = (uint32_t)share_ms;
    return true;
}

/* A place that fails says so in a line of its own, and the others go on. */
static enum obx_code ask_place(struct tracer *tracer)
{
    struct db_opts db = tracer->place->db;
    struct obx_err err = {0};
    enum obx_code rc = OBX_E_TIMEOUT;

    if (!share_time(tracer, &db))
        (void)obx_fail(&err, rc, "others took all of the time");
    else
        rc = db_open(&db, &tracer->db, &err);
    if (rc == OBX_OK)
        rc = read_sides(tracer, &err);
    if (rc == OBX_OK)
        rc = tracer->place->is_consumer ? trace_ask_consumer(tracer, &err)
                                        : trace_ask_source(tracer, &err);
    db_close(tracer->db);
    if (rc == OBX_OK || rc == OBX_E_NOMEM)
        return rc;
    return trace_add(tracer, TRACE_FAILED, NULL,
                     "unknown, because the database has not answered: %s", err.text);
}

/* Facts by their time, and of one time in the order in which they were asked for; then what is not
 * known. */
static int compare(const void *a, const void *b)
{
    const struct trace_entry *x = a, *y = b;

    if ((x->at_us == 0) != (y->at_us == 0))
        return x->at_us == 0 ? 1 : -1;
    return x->at_us < y->at_us ? -1 : x->at_us > y->at_us;
}

/* qsort is not stable, and lists are short. */
static void sort(struct trace *out)
{
    for (size_t i = 1; i < out->count; i++) {
        const struct trace_entry entry = out->items[i];
        size_t k = i;

        for (; k > 0 && compare(&out->items[k - 1], &entry) > 0; k--)
            out->items[k] = out->items[k - 1];
        out->items[k] = entry;
    }
}

enum obx_code trace_run(const struct trace_opts *opts, struct trace *out, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < opts->place_count && rc == OBX_OK; i++) {
        struct tracer tracer = {.opts = opts, .out = out, .place = &opts->places[i]};

        rc = ask_place(&tracer);
        buf_fini(&tracer.scratch);
    }
    sort(out);
    for (size_t i = 0; i < out->count; i++)
        if (out->items[i].rank > 0 && (out->now == NULL || out->items[i].rank >= out->now->rank))
            out->now = &out->items[i];
    return rc == OBX_OK ? OBX_OK : obx_fail(err, rc, "trace");
}

struct trace_place *trace_places(const struct relay_config *config, uint32_t timeout_ms,
                                 size_t *count)
{
    const size_t wanted_count = config->source_count + config->consumer_count;
    struct trace_place *places = obx_calloc(wanted_count + 1, sizeof(*places));

    *count = 0;
    if (places == NULL)
        return NULL;
    for (size_t i = 0; i < config->source_count; i++) {
        const struct source_config *source = &config->sources[i];

        places[(*count)++] = (struct trace_place){.name = source->name,
                                                  .db = source->lane.db,
                                                  .outboxes = source->outboxes,
                                                  .outbox_count = source->outbox_count,
                                                  .has_journal = source->lane.journal};
    }
    for (size_t i = 0; i < config->consumer_count; i++)
        places[(*count)++] = (struct trace_place){
            .name = config->consumers[i].name, .db = config->consumers[i].db, .is_consumer = true};
    for (size_t i = 0; i < *count; i++) {
        places[i].db.connect_timeout_ms = timeout_ms;
        places[i].db.read_timeout_ms = timeout_ms;
        places[i].db.write_timeout_ms = timeout_ms;
        places[i].db.program_name = "rowpost trace";
    }
    return places;
}

/* ---- JSON ---- */

static void set_time(json_t *object, const char *name, uint64_t at_us)
{
    const time_t seconds = (time_t)(at_us / US_PER_S);
    char date[TIME_MAX], text[2 * TIME_MAX];
    struct tm tm;

    if (at_us == 0 || gmtime_r(&seconds, &tm) == NULL ||
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm) == 0) {
        json_object_set_new(object, name, json_null());
        return;
    }
    snprintf(text, sizeof(text), "%s.%06" PRIu64, date, at_us % US_PER_S);
    json_set_time(object, name, bytes_of(text));
}

json_t *trace_json(const struct trace_opts *opts, const struct trace *trace)
{
    json_t *root = json_object(), *entries = json_array();

    json_set_text(root, opts->id != NULL ? "id" : "key",
                  bytes_of(opts->id != NULL ? opts->id : opts->key));
    json_set_text(root, "now", bytes_of(trace->now == NULL ? NULL : trace->now->text));
    for (size_t i = 0; i < trace->count; i++) {
        const struct trace_entry *entry = &trace->items[i];
        json_t *object = json_pack("{s:s}", "kind", trace_kind_name(entry->kind));

        set_time(object, "at", entry->at_us);
        json_set_text(object, "source", bytes_of(entry->source));
        json_set_text(object, "text", bytes_of(entry->text));
        if (entry->fields != NULL)
            json_object_set(object, "fields", entry->fields);
        json_array_append_new(entries, object);
    }
    if (json_object_set_new(root, "entries", entries) == 0)
        return root;
    json_decref(root);
    return NULL;
}
