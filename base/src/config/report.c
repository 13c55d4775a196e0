/*
 * Problems: every line that tells a person where a value came from and what is wrong with it is
 * made here. Text that came from outside is cleaned before it is shown, so that it cannot forge a
 * line.
 */
#include <string.h>

#include "base/crash.h"
#include "base/url_text.h"
#include "base/utf8.h"
#include "internal.h"

const char *cfg_show(struct cfg_shown *shown, struct obx_bytes text)
{
    static const char more[] = "...";
    const size_t room = sizeof(shown->text) - sizeof(more);
    const size_t len = utf8_cut(text, room);
    const char *p = text.p;
    uint32_t cp = 0;

    if (len > 0)
        memcpy(shown->text, p, len);
    memcpy(shown->text + len, more, sizeof(more));
    if (len == text.len)
        shown->text[len] = '\0';
    for (size_t at = 0; at < len;) {
        const size_t char_len = utf8_next((struct obx_bytes){p + at, len - at}, &cp);
        const size_t step = char_len > 0 ? char_len : 1;

        if (char_len == 0 || cp < 0x20 || (cp >= 0x7F && cp <= 0x9F))
            memset(shown->text + at, '?', step);
        at += step;
    }
    return shown->text;
}

void cfg_out_origin(struct obx_buf *out, const struct cfg *cfg, const struct cfg_origin *origin)
{
    switch (origin->kind) {
    case CFG_FROM_DEFAULT:
        buf_addf(out, "default");
        return;
    case CFG_FROM_FILE:
        buf_addf(out, "%s:%u", cfg->path, origin->line);
        return;
    case CFG_FROM_ENV:
        buf_addf(out, "%s", origin->variable);
        return;
    }
}

void cfg_out_shown(struct obx_buf *out, const struct cfg_key *key, const char *text)
{
    if (key->type == CFG_SECRET && text[0] != '\0')
        buf_addf(out, "***");
    else
        url_add_shown(out, bytes_of(text));
}

void cfg_out_section(struct obx_buf *out, const struct cfg_instance *instance)
{
    buf_addf(out, "%s", instance->section->name);
    if (instance->name != NULL)
        buf_addf(out, ".%s", instance->name);
}

static void out_head(struct obx_buf *out, const struct cfg *cfg, const struct cfg_origin *origin,
                     const struct cfg_instance *instance, const struct cfg_key *key)
{
    /* What is missing has no line: it is a problem of the file as a whole. */
    if (origin->kind == CFG_FROM_DEFAULT)
        buf_addf(out, "%s", cfg->path);
    else
        cfg_out_origin(out, cfg, origin);
    buf_addf(out, ": ");
    if (instance == NULL)
        return;
    cfg_out_section(out, instance);
    if (key != NULL)
        buf_addf(out, ".%s", key->name);
    buf_addf(out, ": ");
}

OBX_PRINTF(5, 0)
static void vproblem(struct cfg_report *report, const struct cfg_origin *origin,
                     const struct cfg_instance *instance, const struct cfg_key *key,
                     const char *fmt, va_list args)
{
    struct obx_buf line = {.rc = report->rc};

    out_head(&line, report->cfg, origin, instance, key);
    report->rc = buf_addvf(&line, fmt, args);
    if (report->rc == OBX_OK && ++report->count == 1)
        bytes_to_text(buf_bytes(&line), report->first, sizeof(report->first));
    /* The rest is only counted: a file of another program would fill a terminal with problems. */
    if (report->rc == OBX_OK && report->lines != NULL && report->count <= CFG_PROBLEMS_MAX)
        report->rc = buf_addf(report->lines, "%s\n", line.data);
    buf_fini(&line);
}

void cfg_problem(struct cfg_report *report, const struct cfg_origin *origin,
                 const struct cfg_instance *instance, const struct cfg_key *key, const char *fmt,
                 ...)
{
    va_list args;

    va_start(args, fmt);
    vproblem(report, origin, instance, key, fmt, args);
    va_end(args);
}

void cfg_complain(struct cfg_report *report, const char *section, const char *name, const char *key,
                  const char *fmt, ...)
{
    static const struct cfg_origin nowhere = {.kind = CFG_FROM_DEFAULT};
    const struct cfg_section *found = cfg_find_section(report->cfg->schema, bytes_of(section));
    const struct cfg_instance *instance = cfg_find_instance(report->cfg, found, bytes_of(name));
    const struct cfg_origin *origin = instance == NULL ? &nowhere : &instance->origin;
    const struct cfg_key *row = NULL;
    va_list args;

    OBX_ASSERT(found != NULL && (instance != NULL || (name == NULL && key == NULL)));
    if (key != NULL) {
        row = cfg_find_key(found, key);
        OBX_ASSERT(row != NULL);
        origin = &instance->values[row - found->keys].origin;
    }
    va_start(args, fmt);
    vproblem(report, origin, instance, row, fmt, args);
    va_end(args);
}

enum obx_code cfg_judge(struct cfg_report *report, struct obx_err *err)
{
    const unsigned unseen = report->count > CFG_PROBLEMS_MAX ? report->count - CFG_PROBLEMS_MAX : 0;

    if (report->rc == OBX_OK && report->lines != NULL && unseen > 0)
        report->rc = buf_addf(report->lines, "and %u more\n", unseen);
    if (report->rc != OBX_OK)
        return obx_fail(err, report->rc, "loading the configuration");
    if (report->count == 1)
        return obx_fail(err, OBX_E_CONFIG, "%s", report->first);
    if (report->count > 1)
        return obx_fail(err, OBX_E_CONFIG, "%u problems, the first: %s", report->count,
                        report->first);
    return OBX_OK;
}
