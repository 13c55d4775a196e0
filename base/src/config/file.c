/*
 * The file: lines of sections, keys and comments, see base/config.h. One line at a time, nothing is
 * kept of it but the value; every line that is none of these is a problem with its number.
 *
 * A file is at most a megabyte, and what is made of it is in proportion: a list in many lines grows
 * in place (assign.c), and after some hundred problems nobody reads on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "internal.h"

enum {
    FILE_MAX = 1024 * 1024,
    PROBLEMS_ENOUGH = 500,
    NAME_MAX_LEN = 48,
    LETTERS_A_MISTAKE = 3,
};

struct parser {
    struct cfg *cfg;
    struct cfg_report *report;
    struct obx_bytes rest;        /* the part of the file not yet read */
    struct cfg_origin here;       /* the current line */
    struct cfg_instance *current; /* NULL: before the first section, or in one that is wrong */
    bool is_skipping;             /* in a section that is wrong: one problem is enough */
};

static const char blanks[] = " \t\r\v\f";

static bool is_blank(char c)
{
    return c != '\0' && strchr(blanks, c) != NULL;
}

static struct obx_bytes trim(struct obx_bytes text)
{
    const char *p = text.p;

    while (text.len > 0 && is_blank(p[0])) {
        p++;
        text.len--;
    }
    while (text.len > 0 && is_blank(p[text.len - 1]))
        text.len--;
    return (struct obx_bytes){p, text.len};
}

/* The bytes of text before the first c, or all of it; *rest gets what follows c, absent without
 * one. */
static struct obx_bytes split(struct obx_bytes text, char c, struct obx_bytes *rest)
{
    const char *p = text.p;
    const char *at = text.len > 0 ? memchr(p, c, text.len) : NULL;

    if (at == NULL) {
        *rest = (struct obx_bytes){NULL, 0};
        return text;
    }
    *rest = (struct obx_bytes){at + 1, text.len - (size_t)(at - p) - 1};
    return (struct obx_bytes){p, (size_t)(at - p)};
}

static void complain_about_header(struct parser *parser, const char *what, struct obx_bytes header)
{
    const struct cfg_schema *schema = parser->cfg->schema;
    struct obx_buf list = {.rc = parser->report->rc};
    struct cfg_shown shown;

    for (size_t i = 0; i < schema->section_count; i++)
        buf_addf(&list, "%s[%s%s]", i > 0 ? ", " : "", schema->sections[i].name,
                 schema->sections[i].is_named ? " NAME" : "");
    parser->report->rc = list.rc;
    if (list.rc == OBX_OK)
        cfg_problem(parser->report, &parser->here, NULL, NULL, "%s: %s; sections are %s", what,
                    cfg_show(&shown, header), list.data);
    buf_fini(&list);
}

/* A section may stand in the file once; the first time may follow a plain section's default. */
static struct cfg_instance *enter(struct parser *parser, const struct cfg_section *section,
                                  struct obx_bytes name)
{
    struct cfg_instance *instance = cfg_find_instance(parser->cfg, section, name);

    if (instance == NULL)
        return cfg_add_instance(parser->cfg, parser->report, section, name, &parser->here);
    if (instance->origin.kind == CFG_FROM_FILE)
        cfg_problem(parser->report, &parser->here, instance, NULL,
                    "section given twice, first in line %u", instance->origin.line);
    else
        instance->origin = parser->here;
    return instance;
}

static void open_section(struct parser *parser, struct obx_bytes line)
{
    struct obx_bytes tail, name;
    struct obx_bytes header = {(const char *)line.p + 1, line.len - 1};
    struct obx_bytes kind = trim(split(header, ']', &tail));
    const struct cfg_section *section = NULL;

    header = kind;
    kind = split(header, ' ', &name);
    name = trim(name);
    section = cfg_find_section(parser->cfg->schema, kind);
    parser->current = NULL;
    if (bytes_is_absent(tail))
        complain_about_header(parser, "section header without ]", line);
    else if (trim(tail).len > 0 && strchr("#;", *(const char *)trim(tail).p) == NULL)
        complain_about_header(parser, "text after a section header", line);
    else if (section == NULL)
        complain_about_header(parser, "unknown section", line);
    else if (!section->is_named && !bytes_is_absent(name))
        complain_about_header(parser, "section takes no name", line);
    else
        parser->current = enter(parser, section, name);
    parser->is_skipping = parser->current == NULL;
}

/* Less a comment, which is a ';' after a blank. */
static struct obx_bytes strip_comment(struct obx_bytes line)
{
    const char *p = line.p;

    for (size_t i = 1; i < line.len; i++) {
        if (p[i] == ';' && is_blank(p[i - 1]))
            return trim((struct obx_bytes){p, i});
    }
    return line;
}

/* "password_file" is the key password, given by a file. */
static const struct cfg_key *find_key(const struct cfg_section *section, struct obx_bytes name,
                                      bool *is_path)
{
    for (size_t i = 0; i < section->key_count; i++) {
        const struct cfg_key *key = &section->keys[i];
        const size_t len = strlen(key->name);

        *is_path =
            key->type == CFG_SECRET && name.len > len && memcmp(name.p, key->name, len) == 0 &&
            bytes_is((struct obx_bytes){(const char *)name.p + len, name.len - len}, "_file");
        if (*is_path || bytes_is(name, key->name))
            return key;
    }
    return NULL;
}

static size_t least(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;

    return ab < c ? ab : c;
}

/* Restricted edit distance; rows[0] is the row before last, rows[1] the last, rows[2] the one being
 * made. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][NAME_MAX_LEN + 1] = {{0}};

    for (size_t k = 0; k <= b_len; k++)
        rows[1][k] = k;
    for (size_t i = 1; i <= a_len; i++) {
        rows[2][0] = i;
        for (size_t k = 1; k <= b_len; k++) {
            const size_t change = a[i - 1] == b[k - 1] ? 0 : 1;

            rows[2][k] = least(rows[1][k] + 1, rows[2][k - 1] + 1, rows[1][k - 1] + change);
            if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
                rows[2][k] = least(rows[2][k], rows[0][k - 2] + 1, rows[2][k]);
        }
        memcpy(rows[0], rows[1], sizeof(rows[0]));
        memcpy(rows[1], rows[2], sizeof(rows[1]));
    }
    return rows[1][b_len];
}

/* The key that somebody probably meant: the one with the fewest letters to add, drop, change or swap,
 * when they are few. */
static const char *closest_key(const struct cfg_section *section, const char *name)
{
    const size_t len = strlen(name);
    size_t best = len / LETTERS_A_MISTAKE + 1;
    const char *found = NULL;

    if (len == 0 || len > NAME_MAX_LEN)
        return NULL;
    for (size_t i = 0; i < section->key_count; i++) {
        const char *key = section->keys[i].name;
        const size_t key_len = strlen(key);
        size_t far = key_len > NAME_MAX_LEN ? best : distance(name, len, key, key_len);

        if (far < best) {
            best = far;
            found = key;
        }
    }
    return found;
}

static void complain_about_key(struct parser *parser, struct obx_bytes name)
{
    const struct cfg_section *section = parser->current->section;
    struct obx_buf list = {.rc = parser->report->rc};
    struct cfg_shown shown;
    const char *meant = closest_key(section, cfg_show(&shown, name));

    for (size_t i = 0; i < section->key_count; i++)
        buf_addf(&list, "%s%s", i > 0 ? ", " : "", section->keys[i].name);
    parser->report->rc = list.rc;
    if (list.rc == OBX_OK)
        cfg_problem(parser->report, &parser->here, parser->current, NULL,
                    "unknown key %s%s%s%s; keys are %s", cfg_show(&shown, name),
                    meant == NULL ? "" : " (did you mean ", meant == NULL ? "" : meant,
                    meant == NULL ? "" : "?)", list.data);
    buf_fini(&list);
}

static void take_value(struct parser *parser, struct obx_bytes name, struct obx_bytes value,
                       bool is_cut)
{
    bool is_path = false;
    const struct cfg_key *key = find_key(parser->current->section, name, &is_path);

    if (key == NULL)
        complain_about_key(parser, name);
    else if (is_cut && value.len > 0 && key->type == CFG_SECRET && !is_path)
        cfg_problem(parser->report, &parser->here, parser->current, key,
                    "a ';' after a blank begins a comment, which would cut a secret that has it; "
                    "put the comment into a line of its own, or the secret into a file (%s_file)",
                    key->name);
    else
        cfg_assign(parser->cfg, parser->report, parser->current, key, is_path, value,
                   &parser->here);
}

static void take_key(struct parser *parser, struct obx_bytes whole)
{
    const struct obx_bytes line = strip_comment(whole);
    const char *p = line.p;
    size_t at = 0;
    struct obx_bytes name;
    struct cfg_shown shown;

    while (at < line.len && p[at] != '=' && p[at] != ':')
        at++;
    name = trim((struct obx_bytes){p, at});
    if (at == line.len)
        cfg_problem(parser->report, &parser->here, NULL, NULL, "neither [section] nor key = value");
    else if (parser->current == NULL)
        cfg_problem(parser->report, &parser->here, NULL, NULL, "key %s before the first [section]",
                    cfg_show(&shown, name));
    else
        take_value(parser, name, trim((struct obx_bytes){p + at + 1, line.len - at - 1}),
                   line.len < whole.len);
}

static void take_line(struct parser *parser, struct obx_bytes line)
{
    const char *p = line.p;

    if (line.len == 0 || p[0] == '#' || p[0] == ';')
        return;
    /* Everything that reads the values takes NUL for their end: what follows would be lost. */
    if (memchr(p, '\0', line.len) != NULL)
        cfg_problem(parser->report, &parser->here, NULL, NULL, "NUL byte in the line");
    else if (p[0] == '[')
        open_section(parser, line);
    else if (!parser->is_skipping)
        take_key(parser, line);
}

static void parse(struct cfg *cfg, struct cfg_report *report, struct obx_bytes text)
{
    struct parser parser = {
        .cfg = cfg, .report = report, .rest = text, .here = {.kind = CFG_FROM_FILE}};

    if (text.len > FILE_MAX) {
        cfg_problem(report, &(struct cfg_origin){.kind = CFG_FROM_DEFAULT}, NULL, NULL,
                    "more than %d bytes", FILE_MAX);
        return;
    }
    /* Some editors put a mark of UTF-8 in front, which nobody sees: the first section would not be
     * one. */
    if (text.len >= 3 && memcmp(text.p, "\xEF\xBB\xBF", 3) == 0)
        parser.rest = (struct obx_bytes){(const char *)text.p + 3, text.len - 3};
    while (!bytes_is_absent(parser.rest) && report->rc == OBX_OK &&
           report->count < PROBLEMS_ENOUGH) {
        parser.here.line++;
        take_line(&parser, trim(split(parser.rest, '\n', &parser.rest)));
    }
}

/* ---- reading a whole small file ---- */

/* Also what a secret's file holds (load.c). In the words of the person who has to fix it, who need not know which system call it was. */
static enum obx_code cannot_read(struct obx_err *err, int sys)
{
    char text[128] = "unknown error";

    (void)strerror_r(sys, text, sizeof(text));
    if (err != NULL) {
        *err = (struct obx_err){.code = OBX_E_SYSTEM, .sys = sys};
        (void)snprintf(err->text, sizeof(err->text), "cannot be read: %s", text);
    }
    return OBX_E_SYSTEM;
}

/* Special files are fine (a pipe, /dev/stdin), endless ones hit the limit. */
static enum obx_code read_all(int fd, size_t max, struct obx_buf *out, struct obx_err *err)
{
    char piece[4096];
    size_t total = 0;

    for (;;) {
        ssize_t got = read(fd, piece, sizeof(piece));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return cannot_read(err, errno);
        if (got == 0)
            return OBX_OK;
        total += (size_t)got;
        if (total > max) /* before it is kept: the file may be endless */
            return obx_fail(err, OBX_E_TOO_LARGE, "%zu bytes", max);
        if (buf_add(out, piece, (size_t)got) != OBX_OK)
            return obx_fail(err, OBX_E_NOMEM, "file of %zu bytes", total);
    }
}

enum obx_code cfg_slurp(const char *path, size_t max, struct obx_buf *out, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return cannot_read(err, errno);
    rc = read_all(fd, max, out, err);
    close(fd);
    return rc;
}

void cfg_read_file(struct cfg *cfg, struct cfg_report *report, const struct cfg_input *input)
{
    const struct cfg_origin whole = {.kind = CFG_FROM_DEFAULT};
    struct obx_buf content = {0};
    struct obx_err err = {0};

    if (!bytes_is_absent(input->text)) {
        parse(cfg, report, input->text);
        return;
    }
    if (input->path == NULL)
        return;
    if (cfg_slurp(input->path, FILE_MAX, &content, &err) == OBX_OK)
        parse(cfg, report, buf_bytes(&content));
    else if (err.code == OBX_E_NOMEM)
        report->rc = OBX_E_NOMEM;
    else
        cfg_problem(report, &whole, NULL, NULL, "%s", err.text);
    buf_fini(&content);
}
