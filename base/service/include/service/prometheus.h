/*
 * Writes Prometheus' text format. A failed append sticks to the buffer, so nothing here returns it.
 * Proved by tests/unit/metrics_test.c, line by line.
 */
#ifndef SERVICE_PROMETHEUS_H
#define SERVICE_PROMETHEUS_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/hist.h"

#define PROM_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/** Lists of labels end with one without a name; NULL: none. Values are escaped. */
struct prom_label {
    const char *name, *value;
};

/** HELP and TYPE of a metric, before all of its samples. type: counter, gauge, ... */
void prom_head(struct obx_buf *buf, const char *name, const char *type, const char *help);
void prom_sample(struct obx_buf *buf, const char *name, const struct prom_label *labels,
                 uint64_t value);
/** In seconds, with six places. */
void prom_sample_us(struct obx_buf *buf, const char *name, const struct prom_label *labels,
                    uint64_t us);
/** One series of a histogram of microseconds; NULL: one without any durations. */
void prom_sample_hist(struct obx_buf *buf, const char *name, const struct prom_label *labels,
                      const struct hist *hist);

/** A metric without labels. */
void prom_number(struct obx_buf *buf, const char *name, const char *type, const char *help,
                 uint64_t value);
void prom_number_us(struct obx_buf *buf, const char *name, const char *type, const char *help,
                    uint64_t us);

/** A metric as a row: a number that lies at offset in a struct of numbers. */
struct prom_row {
    const char *name, *type, *help;
    size_t offset;
};
#define PROM_ROW(T, member, name, type, help)                                                      \
    {                                                                                              \
        name, type, help, offsetof(T, member)                                                      \
    }

/** One struct of numbers and whose they are. */
struct prom_series {
    struct prom_label labels[3]; /* two at most */
    const void *numbers;
};

/** Each row with the number of each series. read: how a number is read; NULL: as a uint64_t. */
void prom_table(struct obx_buf *buf, const struct prom_row *rows, size_t row_count,
                const struct prom_series *series, size_t series_count,
                uint64_t (*read)(const void *number));

#endif
