/* A strict reader of the text format; see prom_text.h. */
#include "prom_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A line that is read from the left. */
struct reader {
    const char *line;
    const char *at;
};

static void wrong(const struct reader *reader, const char *what)
{
    fail_msg("%s, at \"%.40s\" of: %s", what, reader->at, reader->line);
}

static void expect(struct reader *reader, char c)
{
    if (*reader->at != c)
        wrong(reader, "another character was expected");
    reader->at++;
}

static bool is_name_start(char c)
{
    return isalpha((unsigned char)c) || c == '_' || c == ':';
}

static void skip_name(struct reader *reader)
{
    if (!is_name_start(*reader->at))
        wrong(reader, "no name");
    while (is_name_start(*reader->at) || isdigit((unsigned char)*reader->at))
        reader->at++;
}

/* "..." in which a backslash stands before a backslash, a quote or n. */
static void skip_label_value(struct reader *reader)
{
    expect(reader, '"');
    while (*reader->at != '"') {
        if (*reader->at == '\\') {
            reader->at++;
            if (*reader->at == '\0' || strchr("\\\"n", *reader->at) == NULL)
                wrong(reader, "a backslash before nothing special");
        }
        if (*reader->at == '\0')
            wrong(reader, "a label without an end");
        reader->at++;
    }
    reader->at++;
}

static void skip_labels(struct reader *reader)
{
    expect(reader, '{');
    do {
        skip_name(reader);
        expect(reader, '=');
        skip_label_value(reader);
    } while (*reader->at == ',' && reader->at++ != NULL);
    expect(reader, '}');
}

static double read_number(struct reader *reader)
{
    char *end = NULL;
    double value;

    if (!isdigit((unsigned char)*reader->at) && *reader->at != '-' && *reader->at != '+')
        wrong(reader, "no number");
    value = strtod(reader->at, &end);
    if (end == reader->at || *end != '\0')
        wrong(reader, "no number, or something behind it");
    return value;
}

static void copy(char *dst, size_t size, const char *from, const char *to)
{
    assert_true((size_t)(to - from) < size);
    memcpy(dst, from, (size_t)(to - from));
    dst[to - from] = '\0';
}

/* ---------------------------------------------------------------- families */

static struct prom_family *last(struct prom_text *text)
{
    return text->count == 0 ? NULL : &text->families[text->count - 1];
}

static void add_family(struct prom_text *text, struct reader *reader)
{
    char name[128];
    const char *start = reader->at;

    skip_name(reader);
    copy(name, sizeof(name), start, reader->at);
    expect(reader, ' ');
    if (*reader->at == '\0')
        wrong(reader, "HELP without words");
    if (prom_find(text, name) != NULL)
        wrong(reader, "a family for the second time");
    text->families = realloc(text->families, (text->count + 1) * sizeof(*text->families));
    assert_non_null(text->families);
    memset(&text->families[text->count], 0, sizeof(*text->families));
    memcpy(text->families[text->count].name, name, sizeof(name));
    text->count++;
}

static void set_type(struct prom_text *text, struct reader *reader)
{
    static const char *const types[] = {"counter", "gauge", "histogram", "summary"};
    struct prom_family *family = last(text);
    size_t len;
    bool is_known = false;

    if (family == NULL || family->type[0] != '\0' || family->count > 0) {
        wrong(reader, "TYPE not behind its HELP");
        return;
    }
    len = strlen(family->name);
    if (strncmp(reader->at, family->name, len) != 0 || reader->at[len] != ' ')
        wrong(reader, "TYPE of another family");
    reader->at += len + 1;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        is_known = is_known || strcmp(reader->at, types[i]) == 0;
    if (!is_known)
        wrong(reader, "an unknown type");
    snprintf(family->type, sizeof(family->type), "%s", reader->at);
    if (strcmp(family->type, "counter") == 0 &&
        (len < 6 || strcmp(family->name + len - 6, "_total") != 0))
        wrong(reader, "a counter that does not end in _total");
}

static bool is_one_of(const char *text, const char *const *list)
{
    for (; *list != NULL; list++) {
        if (strcmp(text, *list) == 0)
            return true;
    }
    return false;
}

/* Whether a sample of this name may stand in the family. */
static bool belongs(const struct prom_family *family, const char *name)
{
    static const char *const histogram[] = {"_bucket", "_sum", "_count", NULL};
    static const char *const summary[] = {"", "_sum", "_count", NULL};
    static const char *const plain[] = {"", NULL};
    const size_t len = strlen(family->name);

    if (strncmp(name, family->name, len) != 0)
        return false;
    if (strcmp(family->type, "histogram") == 0)
        return is_one_of(name + len, histogram);
    return is_one_of(name + len, strcmp(family->type, "summary") == 0 ? summary : plain);
}

static bool has_series(const struct prom_family *family, const char *series)
{
    for (size_t i = 0; i < family->count; i++) {
        if (strcmp(family->samples[i].series, series) == 0)
            return true;
    }
    return false;
}

static void add_sample(struct prom_text *text, struct reader *reader)
{
    struct prom_family *family = last(text);
    struct prom_sample sample = {0};
    char name[128];

    skip_name(reader);
    copy(name, sizeof(name), reader->line, reader->at);
    if (*reader->at == '{')
        skip_labels(reader);
    copy(sample.series, sizeof(sample.series), reader->line, reader->at);
    expect(reader, ' ');
    sample.value = read_number(reader);
    if (family == NULL || family->type[0] == '\0' || !belongs(family, name)) {
        wrong(reader, "a sample outside of its family");
        return;
    }
    if (has_series(family, sample.series))
        wrong(reader, "a series for the second time");
    if (strcmp(family->type, "counter") == 0 && sample.value < 0)
        wrong(reader, "a counter below 0");
    family->samples = realloc(family->samples, (family->count + 1) * sizeof(sample));
    assert_non_null(family->samples);
    family->samples[family->count++] = sample;
}

/* ---------------------------------------------------------------- histograms */

/* The labels of a series less `le`, which is the last one; "" when it has none. */
static void labels_without_le(const char *series, char out[256])
{
    const char *brace = strchr(series, '{');
    const char *le;

    snprintf(out, 256, "%s", brace == NULL ? "" : brace);
    le = strstr(out, "le=\"");
    if (le != NULL) {
        size_t at = (size_t)(le - out);

        if (at > 1)
            snprintf(out + at - 1, 256 - at + 1, "}");
        else
            out[0] = '\0';
    }
}

static double le_of(const char *series)
{
    const char *le = strstr(series, "le=\"");

    assert_non_null(le);
    return strtod(le + 4, NULL);
}

static double number_in(const struct prom_family *family, const char *suffix, const char *labels)
{
    char series[512];

    snprintf(series, sizeof(series), "%s%s%s", family->name, suffix, labels);
    for (size_t i = 0; i < family->count; i++) {
        if (strcmp(family->samples[i].series, series) == 0)
            return family->samples[i].value;
    }
    fail_msg("there is no %s", series);
    return 0;
}

static void check_bucket(const struct prom_family *family, size_t i)
{
    const struct prom_sample *now = &family->samples[i];
    char labels[256], before[256] = "";

    labels_without_le(now->series, labels);
    if (i > 0)
        labels_without_le(family->samples[i - 1].series, before);
    if (i > 0 && strcmp(labels, before) == 0) {
        if (le_of(now->series) <= le_of(family->samples[i - 1].series) ||
            now->value < family->samples[i - 1].value)
            fail_msg("%s does not go on from the bucket before", now->series);
    }
    if (isinf(le_of(now->series))) {
        assert_true(number_in(family, "_count", labels) == now->value);
        assert_true(number_in(family, "_sum", labels) >= 0);
    }
}

static void check_histogram(const struct prom_family *family)
{
    size_t ends = 0, counts = 0;

    for (size_t i = 0; i < family->count; i++) {
        const char *suffix = family->samples[i].series + strlen(family->name);

        if (strncmp(suffix, "_bucket{", 8) == 0) {
            check_bucket(family, i);
            ends += isinf(le_of(family->samples[i].series)) != 0;
        }
        counts += strncmp(suffix, "_count", 6) == 0;
    }
    assert_int_equal(ends, counts);
}

/* ---------------------------------------------------------------- the page */

static void read_line(struct prom_text *out, char *line)
{
    struct reader reader = {.line = line, .at = line};

    if (strncmp(line, "# HELP ", 7) == 0) {
        reader.at += 7;
        add_family(out, &reader);
    } else if (strncmp(line, "# TYPE ", 7) == 0) {
        reader.at += 7;
        set_type(out, &reader);
    } else {
        add_sample(out, &reader);
    }
}

void prom_read(const char *text, struct prom_text *out)
{
    char *lines = strdup(text);
    char *rest = lines;
    char *line;

    memset(out, 0, sizeof(*out));
    assert_non_null(lines);
    assert_true(text[0] != '\0' && text[strlen(text) - 1] == '\n');
    while ((line = strsep(&rest, "\n")) != NULL && rest != NULL)
        read_line(out, line);
    free(lines);
    for (size_t i = 0; i < out->count; i++) {
        if (out->families[i].type[0] == '\0')
            fail_msg("%s has no TYPE", out->families[i].name);
        if (strcmp(out->families[i].type, "histogram") == 0)
            check_histogram(&out->families[i]);
    }
}

void prom_fini(struct prom_text *text)
{
    for (size_t i = 0; i < text->count; i++)
        free(text->families[i].samples);
    free(text->families);
    memset(text, 0, sizeof(*text));
}

const struct prom_family *prom_find(const struct prom_text *text, const char *name)
{
    for (size_t i = 0; i < text->count; i++) {
        if (strcmp(text->families[i].name, name) == 0)
            return &text->families[i];
    }
    return NULL;
}

double prom_value(const struct prom_text *text, const char *series)
{
    for (size_t i = 0; i < text->count; i++) {
        const struct prom_family *family = &text->families[i];

        for (size_t k = 0; k < family->count; k++) {
            if (strcmp(family->samples[k].series, series) == 0)
                return family->samples[k].value;
        }
    }
    fail_msg("there is no series %s", series);
    return 0;
}
