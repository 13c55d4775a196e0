/* The one writer of Prometheus' text format, for the pages of both daemons. */
#include "service/prometheus.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { US_PER_S = 1000000, BOUND_MAX = 32 };

void prom_head(struct obx_buf *buf, const char *name, const char *type, const char *help)
{
    buf_addf(buf, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void add_label(struct obx_buf *buf, char before, const struct prom_label *label)
{
    buf_addf(buf, "%c%s=\"", before, label->name);
    for (const char *c = label->value; *c != '\0'; c++) {
        if (*c == '\n')
            buf_add_text(buf, "\\n");
        else if (*c == '"' || *c == '\\')
            buf_addf(buf, "\\%c", *c);
        else
            buf_add(buf, c, 1);
    }
    buf_add_text(buf, "\"");
}

/* name<suffix>{labels, one more} and a blank. */
static void add_series(struct obx_buf *buf, const char *name, const char *suffix,
                       const struct prom_label *labels, const struct prom_label *more)
{
    char before = '{';

    buf_addf(buf, "%s%s", name, suffix);
    for (; labels != NULL && labels->name != NULL; labels++) {
        add_label(buf, before, labels);
        before = ',';
    }
    if (more != NULL) {
        add_label(buf, before, more);
        before = ',';
    }
    buf_add_text(buf, before == ',' ? "} " : " ");
}

void prom_sample(struct obx_buf *buf, const char *name, const struct prom_label *labels,
                 uint64_t value)
{
    add_series(buf, name, "", labels, NULL);
    buf_addf(buf, "%" PRIu64 "\n", value);
}

static void add_us(struct obx_buf *buf, uint64_t us)
{
    /* Not as a double: a start time in microseconds has more digits than %g shows. */
    buf_addf(buf, "%" PRIu64 ".%06" PRIu64 "\n", us / US_PER_S, us % US_PER_S);
}

void prom_sample_us(struct obx_buf *buf, const char *name, const struct prom_label *labels,
                    uint64_t us)
{
    add_series(buf, name, "", labels, NULL);
    add_us(buf, us);
}

void prom_sample_hist(struct obx_buf *buf, const char *name, const struct prom_label *labels,
                      const struct hist *hist)
{
    struct hist_step step = {0};
    struct hist_view view = {0};
    char bound[BOUND_MAX];
    const struct prom_label le = {"le", bound};

    if (hist != NULL)
        hist_snapshot(hist, &view);
    while (hist_walk(&view, &step)) {
        if (step.le_us == UINT64_MAX)
            snprintf(bound, sizeof(bound), "+Inf");
        else
            snprintf(bound, sizeof(bound), "%g", (double)step.le_us / US_PER_S);
        add_series(buf, name, "_bucket", labels, &le);
        buf_addf(buf, "%" PRIu64 "\n", step.count);
    }
    add_series(buf, name, "_sum", labels, NULL);
    add_us(buf, view.sum_us);
    add_series(buf, name, "_count", labels, NULL);
    buf_addf(buf, "%" PRIu64 "\n", view.total);
}

void prom_number(struct obx_buf *buf, const char *name, const char *type, const char *help,
                 uint64_t value)
{
    prom_head(buf, name, type, help);
    prom_sample(buf, name, NULL, value);
}

void prom_number_us(struct obx_buf *buf, const char *name, const char *type, const char *help,
                    uint64_t us)
{
    prom_head(buf, name, type, help);
    prom_sample_us(buf, name, NULL, us);
}

static uint64_t read_u64(const void *number)
{
    uint64_t value;

    /* The offset says where it lies, and nothing about its alignment to the compiler. */
    memcpy(&value, number, sizeof(value));
    return value;
}

void prom_table(struct obx_buf *buf, const struct prom_row *rows, size_t row_count,
                const struct prom_series *series, size_t series_count,
                uint64_t (*read)(const void *number))
{
    /* The format wants all samples of a metric together: rows outside, series inside. */
    for (size_t i = 0; i < row_count && series_count > 0; i++) {
        prom_head(buf, rows[i].name, rows[i].type, rows[i].help);
        for (size_t k = 0; k < series_count; k++)
            prom_sample(
                buf, rows[i].name, series[k].labels,
                (read != NULL ? read : read_u64)((const char *)series[k].numbers + rows[i].offset));
    }
}
