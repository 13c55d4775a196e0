/*
 * Logging: one line is one event: time, level, module, event, then typed key=value pairs. Bodies
 * and secrets are never logged. The default sink is none, so the library is silent; the programs
 * install one with log_start. Thread-safe: a line
 * is formatted on the caller's stack and handed to the sink whole.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "obx/bytes.h"
#include "obx/err.h"

/** No line is longer, without its newline; a longer one is cut and ends in the mark cut=true. With
 * its newline it is what a pipe takes in one piece. */
#define LOG_LINE_MAX 4095

enum log_level { LOG_LVL_DEBUG, LOG_LVL_INFO, LOG_LVL_WARN, LOG_LVL_ERROR, LOG_LVL_OFF };
enum log_format { LOG_FMT_TEXT, LOG_FMT_JSON };

enum log_kv_type { LOG_KV_STR, LOG_KV_BYTES, LOG_KV_U64, LOG_KV_I64, LOG_KV_BOOL };

struct log_kv {
    const char *key;
    enum log_kv_type type;
    union {
        const char *str;
        struct obx_bytes bytes;
        uint64_t u64;
        int64_t i64;
        bool yes;
    } v;
};

#define KV_STR(k, x)   ((struct log_kv){.key = (k), .type = LOG_KV_STR, .v.str = (x)})
#define KV_BYTES(k, x) ((struct log_kv){.key = (k), .type = LOG_KV_BYTES, .v.bytes = (x)})
#define KV_U64(k, x)   ((struct log_kv){.key = (k), .type = LOG_KV_U64, .v.u64 = (x)})
#define KV_I64(k, x)   ((struct log_kv){.key = (k), .type = LOG_KV_I64, .v.i64 = (x)})
#define KV_BOOL(k, x)  ((struct log_kv){.key = (k), .type = LOG_KV_BOOL, .v.yes = (x)})
/* Text and code of an error, as two pairs: error="deadline passed: ..." code=OBX_E_TIMEOUT. */
#define KV_ERR(e) KV_STR("error", (e)->text), KV_STR("code", obx_code_name((e)->code))

/** Gets one finished line without a newline, with a NUL at line[len]. Runs on the thread that logs;
 * must not log itself. */
typedef void log_sink_fn(enum log_level level, const char *line, size_t len, void *ctx);

/** Set once at start, before threads. sink NULL makes logging silent again. */
void log_setup(enum log_level min_level, enum log_format format, log_sink_fn *sink, void *ctx);
/** Change the threshold at any time, any thread (a reload). */
void log_set_level(enum log_level min_level);
bool log_enabled(enum log_level level);
/**
 * The log of a program: lines go to fd, written by a thread of their own, so that no other thread
 * waits for their reader. When more than 256 KiB wait, lines are dropped, counted, and a line
 * says how many are missing once they flow again. Call it once, before other threads start.
 * OBX_E_SYSTEM.
 */
OBX_NODISCARD enum obx_code log_start(enum log_level min_level, enum log_format format, int fd,
                                      struct obx_err *err);
/** Wait up to wait_ms until what was logged is written. Any thread; at once without log_start. */
void log_flush(uint32_t wait_ms);
/** The same, and end the thread; one that stands in a write stays and keeps nobody from exiting. */
void log_end(uint32_t wait_ms);
/** Lines dropped since log_start. Any thread. */
uint64_t log_dropped(void);
void log_event(enum log_level level, const char *module, const char *event, const struct log_kv *kv,
               size_t kv_count);

/** OBX_LOG(LOG_LVL_WARN, "lane", "publish.nacked", KV_U64("row", id), KV_U64("tries", n)); at least
 * one pair. */
#define OBX_LOG(level, module, event, ...)                                                         \
    do {                                                                                           \
        if (log_enabled(level)) {                                                                  \
            const struct log_kv obx_log_kv_[] = {__VA_ARGS__};                                     \
            log_event(level, module, event, obx_log_kv_,                                           \
                      sizeof(obx_log_kv_) / sizeof(obx_log_kv_[0]));                               \
        }                                                                                          \
    } while (0)

/** Lets one event through per interval and counts the others. Zero-initialise; one per place; not
 * thread-safe. */
struct log_limit {
    uint64_t next_ms;
    uint64_t dropped;
};
/** True when the event may be logged now; then *dropped is how many were held back since the last
 * one. */
bool log_limit_pass(struct log_limit *limit, uint32_t interval_ms, uint64_t *dropped);

#endif
