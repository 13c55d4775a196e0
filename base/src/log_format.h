/* Turns one event into one line (log.c). log_writer.c makes lines of its own with it. */
#ifndef BASE_LOG_FORMAT_H
#define BASE_LOG_FORMAT_H

#include "base/log.h"

/** One event, everything borrowed. */
struct log_record {
    uint64_t wall_us;
    enum log_level level;
    const char *module;
    const char *event;
    const struct log_kv *kv;
    size_t kv_count;
};

struct log_record log_record_now(enum log_level level, const char *module, const char *event,
                                 const struct log_kv *kv, size_t kv_count);
/** Write the line without newline and without NUL into line of LOG_LINE_MAX bytes; returns its
 * length. Any thread. */
size_t log_format_line(enum log_format format, const struct log_record *record, char *line);

#endif
