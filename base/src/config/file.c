/*
 * The file, read with inih.
 *
 * inih as distributions build it gives no line numbers, says nothing about a section without keys,
 * cuts section names at 49 bytes and joins indented lines to the one before. So the reader
 * callback, which inih calls for one line at a time, counts the lines, takes out section headers
 * and indentation, and refuses what inih would cut; comments, keys and values are inih's. The
 * handler runs before the next line is read, so the line is known.
 */
#include <ini.h>
#include <string.h>

#include "internal.h"

enum { FILE_MAX = 1024 * 1024 };

struct parser {
    struct cfg *cfg;
    struct cfg_report *report;
    struct obx_bytes rest;        /* the part of the file not yet read */
    struct cfg_origin here;       /* the current line */
    struct cfg_instance *current; /* NULL: before the first section, or in one that is wrong */
    bool is_skipping;             /* in a section that is wrong: one problem is enough */
    bool is_unanswered;           /* inih has a line from which no key came yet */
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

/* The bytes of text before the first c, or all of it; *rest gets what is behind c, absent without
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

static struct obx_bytes next_line(struct parser *parser)
{
    parser->here.line++;
    return trim(split(parser->rest, '\n', &parser->rest));
}

static void out_section_list(struct cfg_out *out, const struct cfg_schema *schema)
{
    for (size_t i = 0; i < schema->section_count; i++)
        cfg_outf(out, "%s[%s%s]", i > 0 ? ", " : "", schema->sections[i].name,
                 schema->sections[i].is_named ? " NAME" : "");
}

static void complain_about_header(struct parser *parser, const char *what, struct obx_bytes header)
{
    struct obx_buf list = {0};
    struct cfg_out out = {.buf = &list, .rc = parser->report->rc};
    struct cfg_shown shown;

    out_section_list(&out, parser->cfg->schema);
    parser->report->rc = out.rc;
    if (out.rc == OBX_OK)
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

static void check_answer(struct parser *parser)
{
    if (parser->is_unanswered && !parser->is_skipping)
        cfg_problem(parser->report, &parser->here, NULL, NULL, "neither [section] nor key = value");
    parser->is_unanswered = false;
}

/* What inih shall see of a line: at most room bytes, nothing of it when the line is no key. */
static struct obx_bytes screen(struct parser *parser, struct obx_bytes line, size_t room)
{
    static const struct obx_bytes nothing = {"", 0};
    const char *p = line.p;

    if (line.len == 0 || p[0] == '#' || p[0] == ';')
        return nothing;
    if (memchr(p, '\0', line.len) != NULL) {
        cfg_problem(parser->report, &parser->here, NULL, NULL, "NUL byte in the line");
        return nothing;
    }
    if (p[0] == '[') {
        open_section(parser, line);
        return nothing;
    }
    if (line.len > room) {
        cfg_problem(
            parser->report, &parser->here, NULL, NULL,
            "line of %zu bytes, %zu are allowed; a list may be given in several lines, each "
            "with its key",
            line.len, room);
        return nothing;
    }
    return line;
}

/* inih's fgets: the next line into buffer of size bytes, newline and NUL included; NULL at the end.
 */
static char *read_line(char *buffer, int size, void *ctx)
{
    struct parser *parser = ctx;
    struct obx_bytes line;

    check_answer(parser);
    if (bytes_is_absent(parser->rest) || parser->report->rc != OBX_OK)
        return NULL;
    line = screen(parser, next_line(parser), (size_t)size - sizeof("\n"));
    parser->is_unanswered = line.len > 0;
    memcpy(buffer, line.p, line.len);
    memcpy(buffer + line.len, "\n", sizeof("\n"));
    return buffer;
}

static const struct cfg_key *find_key(const struct cfg_section *section, const char *name,
                                      bool *is_path)
{
    for (size_t i = 0; i < section->key_count; i++) {
        const struct cfg_key *key = &section->keys[i];
        const size_t len = strlen(key->name);

        *is_path = key->type == CFG_SECRET && strncmp(name, key->name, len) == 0 &&
                   strcmp(name + len, "_file") == 0;
        if (*is_path || strcmp(name, key->name) == 0)
            return key;
    }
    return NULL;
}

static void complain_about_key(struct parser *parser, const char *name)
{
    const struct cfg_section *section = parser->current->section;
    struct obx_buf list = {0};
    struct cfg_out out = {.buf = &list, .rc = parser->report->rc};
    const char *meant = cfg_closest_key(section, name);
    struct cfg_shown shown;

    for (size_t i = 0; i < section->key_count; i++)
        cfg_outf(&out, "%s%s", i > 0 ? ", " : "", section->keys[i].name);
    parser->report->rc = out.rc;
    if (out.rc == OBX_OK)
        cfg_problem(parser->report, &parser->here, parser->current, NULL,
                    "unknown key %s%s%s%s; keys are %s", cfg_show(&shown, bytes_of(name)),
                    meant == NULL ? "" : " (did you mean ", meant == NULL ? "" : meant,
                    meant == NULL ? "" : "?)", list.data);
    buf_fini(&list);
}

static void take_key(struct parser *parser, const char *name, const char *value)
{
    const struct cfg_key *key = NULL;
    struct cfg_shown shown;
    bool is_path = false;

    parser->is_unanswered = false;
    if (parser->is_skipping)
        return;
    if (parser->current == NULL) {
        cfg_problem(parser->report, &parser->here, NULL, NULL, "key %s before the first [section]",
                    cfg_show(&shown, bytes_of(name)));
        return;
    }
    key = find_key(parser->current->section, name, &is_path);
    if (key == NULL)
        complain_about_key(parser, name);
    else
        cfg_assign(parser->cfg, parser->report, parser->current, key, is_path, value,
                   &parser->here);
}

/* inih may be built to call for sections (name is NULL), for keys without a value, and with the
 * line. */
#if INI_HANDLER_LINENO
static int on_key(void *ctx, const char *section, const char *name, const char *value, int lineno)
#else
static int on_key(void *ctx, const char *section, const char *name, const char *value)
#endif
{
#if INI_HANDLER_LINENO
    (void)lineno;
#endif
    (void)section;
    if (name != NULL && value != NULL)
        take_key(ctx, name, value);
    return 1;
}

static void parse(struct cfg *cfg, struct cfg_report *report, struct obx_bytes text)
{
    struct parser parser = {
        .cfg = cfg, .report = report, .rest = text, .here = {.kind = CFG_FROM_FILE}};

    if (text.len >= 3 && memcmp(text.p, "\xEF\xBB\xBF", 3) == 0)
        parser.rest = (struct obx_bytes){(const char *)text.p + 3, text.len - 3};
    /* A positive result is the first line without a key; lines without a key are reported here. */
    if (ini_parse_stream(read_line, &parser, on_key, &parser) < 0)
        report->rc = OBX_E_NOMEM;
    check_answer(&parser);
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
