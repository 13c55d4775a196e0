/*
 * A strict reader of Prometheus' text format, version 0.0.4, for tests: what a scraper forgives is
 * an error here. A family is whole and there once, HELP and TYPE stand before its samples, a series
 * is there once, counters end in _total, buckets of a histogram grow up to +Inf, which is _count.
 */
#ifndef OBX_TEST_PROM_TEXT_H
#define OBX_TEST_PROM_TEXT_H

#include <stddef.h>

struct prom_sample {
    char series[256]; /* as written: name and labels */
    double value;
};

struct prom_family {
    char name[128];
    char type[16];
    struct prom_sample *samples;
    size_t count;
};

struct prom_text {
    struct prom_family *families;
    size_t count;
};

/** Read a page; the running cmocka test fails at the first thing that is not right. */
void prom_read(const char *text, struct prom_text *out);
void prom_fini(struct prom_text *text);
/** The family, or NULL. */
const struct prom_family *prom_find(const struct prom_text *text, const char *name);
/** The value of a series written as on the page; the test fails when it is not there. */
double prom_value(const struct prom_text *text, const char *series);

#endif
