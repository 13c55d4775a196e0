/*
 * An event becomes a line, and the line goes to the sink.
 *
 * A line is built on the caller's stack, from units (a key, an escaped character, a number) that are
 * written whole or not at all. The first unit that does not fit ends the line: what is open is closed
 * and the mark cut=true is added, for which room is kept. So a JSON line is valid JSON whatever its
 * length.
 *
 * The log's only mutable state: threshold, format and sink. The sink is set once before threads
 * start; the threshold may change at any time.
 */
#include "base/log.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "log_format.h"

/* Room for a closing quote and the mark, in the longer of the two formats. */
#define TAIL_MAX sizeof("\",\"cut\":true}")
#define BODY_MAX (LOG_LINE_MAX - TAIL_MAX)
/* A longer value is quoted even if it need not be: only what is quoted can be shortened. */
#define BARE_MAX 255

struct line {
    char *p;
    size_t len;
    bool is_json;
    bool is_cut;
};

static bool put(struct line *line, const char *unit, size_t len)
{
    if (line->is_cut || line->len >= BODY_MAX || len > BODY_MAX - line->len) {
        line->is_cut = true;
        return false;
    }
    memcpy(line->p + line->len, unit, len);
    line->len += len;
    return true;
}

static bool put_text(struct line *line, const char *text)
{
    return put(line, text, strlen(text));
}

/* For what the kept room is for. */
static void put_tail(struct line *line, const char *text)
{
    memcpy(line->p + line->len, text, strlen(text));
    line->len += strlen(text);
}

static const char *short_escape(uint32_t cp)
{
    switch (cp) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        return NULL;
    }
}

/* The first character of b, escaped as the format needs it. Returns how many bytes of b it took; 0
 * when the line is full. */
static size_t put_char(struct line *line, struct obx_bytes b)
{
    uint32_t cp = 0;
    size_t len = utf8_next(b, &cp);
    const char *known = short_escape(cp);
    char escape[8];

    if (len == 0) { /* no UTF-8: JSON has no way to write such a byte, and gets U+FFFD for it */
        snprintf(escape, sizeof(escape), "\\x%02x", *(const unsigned char *)b.p);
        return put_text(line, line->is_json ? "\xEF\xBF\xBD" : escape) ? 1 : 0;
    }
    if (known != NULL)
        return put_text(line, known) ? len : 0;
    /* C1 too: a terminal takes 0x9B for the beginning of a command. */
    if (cp < 0x20 || (cp >= 0x7F && cp <= 0x9F)) {
        snprintf(escape, sizeof(escape), "\\u%04x", (unsigned)cp);
        return put_text(line, escape) ? len : 0;
    }
    return put(line, b.p, len) ? len : 0;
}

/* True when a well-formed string stands, even a shortened one. */
static bool put_quoted(struct line *line, struct obx_bytes b)
{
    const char *p = b.p;
    size_t at = 0;

    if (!put(line, "\"", 1))
        return false;
    while (at < b.len) {
        size_t taken = put_char(line, (struct obx_bytes){p + at, b.len - at});

        if (taken == 0)
            break;
        at += taken;
    }
    put_tail(line, "\"");
    return true;
}

/* Whether a value can stand in a text line without quotes. */
static bool is_bare(struct obx_bytes b)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "_-.,:;/@+*#%()[]{}<>|~!?$&^";
    const char *p = b.p;

    for (size_t i = 0; i < b.len; i++) {
        if (p[i] == '\0' || strchr(safe, p[i]) == NULL)
            return false;
    }
    return b.len > 0 && b.len <= BARE_MAX;
}

static bool put_string(struct line *line, struct obx_bytes b)
{
    if (bytes_is_absent(b))
        return put_text(line, "null");
    if (!line->is_json && is_bare(b))
        return put(line, b.p, b.len);
    return put_quoted(line, b);
}

static bool put_value(struct line *line, const struct log_kv *kv)
{
    char number[32];

    switch (kv->type) {
    case LOG_KV_STR:
        return put_string(line, bytes_of(kv->v.str));
    case LOG_KV_BYTES:
        return put_string(line, kv->v.bytes);
    case LOG_KV_U64:
        snprintf(number, sizeof(number), "%" PRIu64, kv->v.u64);
        return put_text(line, number);
    case LOG_KV_I64:
        snprintf(number, sizeof(number), "%" PRId64, kv->v.i64);
        return put_text(line, number);
    case LOG_KV_BOOL:
        return put_text(line, kv->v.yes ? "true" : "false");
    }
    return false;
}

/* A pair of which nothing well-formed fits is taken back. */
static void put_pair(struct line *line, const struct log_kv *kv)
{
    size_t start = line->len;
    bool stands = false;

    if (line->is_json)
        stands = put(line, ",", 1) && put_quoted(line, bytes_of(kv->key)) && put(line, ":", 1);
    else
        stands = put(line, " ", 1) && put_text(line, kv->key) && put(line, "=", 1);
    if (!stands || !put_value(line, kv))
        line->len = start;
}

static const char *level_name(enum log_level level)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};

    return (size_t)level < sizeof(names) / sizeof(names[0]) ? names[level] : "off";
}

/* Time, level, module and event. They are short words of ours, so all of them always fit. */
static void put_head(struct line *line, const struct log_record *record)
{
    const time_t seconds = (time_t)(record->wall_us / 1000000u);
    struct tm utc = {0};
    char time_text[64];

    /* UTC, whatever the machine's zone is: lines of several machines are sorted by it. */
    gmtime_r(&seconds, &utc);
    snprintf(time_text, sizeof(time_text), "%04d-%02d-%02dT%02d:%02d:%02d.%06uZ",
             utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
             (unsigned)(record->wall_us % 1000000u));
    if (line->is_json) {
        const struct log_kv head[] = {KV_STR("level", level_name(record->level)),
                                      KV_STR("module", record->module),
                                      KV_STR("event", record->event)};

        put_text(line, "{\"ts\":");
        put_quoted(line, bytes_of(time_text));
        for (size_t i = 0; i < sizeof(head) / sizeof(head[0]); i++)
            put_pair(line, &head[i]);
        return;
    }
    put_text(line, time_text);
    put(line, " ", 1);
    put_text(line, level_name(record->level));
    put(line, " ", 1);
    put_text(line, record->module);
    put(line, " ", 1);
    put_text(line, record->event);
}

size_t log_format_line(enum log_format format, const struct log_record *record, char *line)
{
    struct line out = {.p = line, .is_json = format == LOG_FMT_JSON};

    put_head(&out, record);
    for (size_t i = 0; i < record->kv_count && !out.is_cut; i++)
        put_pair(&out, &record->kv[i]);
    if (out.is_cut)
        put_tail(&out, out.is_json ? ",\"cut\":true" : " cut=true");
    if (out.is_json)
        put_tail(&out, "}");
    return out.len;
}

/* ---- the sink ---- */

static struct {
    _Atomic int min_level;
    enum log_format format;
    log_sink_fn *sink; /* NULL: silent */
    void *ctx;
} setup;

void log_setup(enum log_level min_level, enum log_format format, log_sink_fn *sink, void *ctx)
{
    setup.format = format;
    setup.sink = sink;
    setup.ctx = ctx;
    log_set_level(min_level);
}

void log_set_level(enum log_level min_level)
{
    atomic_store_explicit(&setup.min_level, (int)min_level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return setup.sink != NULL && level < LOG_LVL_OFF &&
           (int)level >= atomic_load_explicit(&setup.min_level, memory_order_relaxed);
}

struct log_record log_record_now(enum log_level level, const char *module, const char *event,
                                 const struct log_kv *kv, size_t kv_count)
{
    return (struct log_record){.wall_us = clock_wall_us(),
                               .level = level,
                               .module = module,
                               .event = event,
                               .kv = kv,
                               .kv_count = kv_count};
}

void log_event(enum log_level level, const char *module, const char *event, const struct log_kv *kv,
               size_t kv_count)
{
    const struct log_record record = log_record_now(level, module, event, kv, kv_count);
    char line[LOG_LINE_MAX + 1];
    size_t len = 0;

    if (!log_enabled(level))
        return;
    len = log_format_line(setup.format, &record, line);
    line[len] = '\0';
    setup.sink(level, line, len, setup.ctx);
}

bool log_limit_pass(struct log_limit *limit, uint32_t interval_ms, uint64_t *dropped)
{
    uint64_t now = clock_now_ms();

    if (now < limit->next_ms) {
        limit->dropped++;
        return false;
    }
    *dropped = limit->dropped;
    limit->next_ms = now + interval_ms;
    limit->dropped = 0;
    return true;
}
