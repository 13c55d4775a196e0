/* A page at work: what was asked, by whom, and what is written for it. */
#ifndef CONSOLE_PAGE_H
#define CONSOLE_PAGE_H

#include <jansson.h>

#include "access.h"
#include "console.h"
#include "html.h"
#include "ops/session.h"
#include "params.h"

enum page_format { FORMAT_HTML, FORMAT_CSV, FORMAT_JSON };
enum { PAGE_PATH_MAX = 512, SAMPLES = 360, SAMPLE_MS = 10000 };

/** An hour of this relay, one sample every SAMPLE_MS. */
struct sample {
    uint64_t confirmed, waiting, oldest_us;
};
struct samples {
    struct sample items[SAMPLES];
    size_t count, next;
};

struct page {
    /* What was asked. */
    const struct console_config *console; /* limits, prefix, roles */
    struct relay_config *config; /* the databases; a reference for as long as it is at work */
    char path[PAGE_PATH_MAX];    /* decoded, without the prefix */
    const char *rest;            /* of path, after that of the route: "/m/ID" */
    struct params params;
    enum page_format format;
    struct access access;
    uint64_t due_ms; /* monotonic: who asked is told then that there was no answer */
    /* For pages that are written on the main thread; NULL in a worker. */
    const struct console_view *view;
    const struct samples *samples;
    /* What comes of it. */
    struct obx_buf out;
    int status;
    const char *type;
    char location[3 * PAGE_PATH_MAX]; /* of a redirect, with its query; "" */
    uint64_t statements;
};

typedef void page_fn(struct page *page);

/* ---- page.c: the frame ---- */

/** The head of a page, its navigation and its title; nothing in CSV and JSON. */
void page_begin(struct page *page, const char *title);
void page_end(struct page *page);
/** A whole page that says this. */
void page_say(struct page *page, int status, const char *title, const char *fmt, ...)
    OBX_PRINTF(4, 5);
/** The database at a place has refused or did not answer. */
void page_fail(struct page *page, const char *place, const struct obx_err *err);
/** A link to a path of ours; label is text. */
void page_link(struct page *page, const char *path, const char *name, const char *value,
               const char *label);
/** A button that may be disabled: reason says why, NULL when it may be pressed. */
void page_button(struct page *page, const char *name, const char *value, const char *label,
                 const char *reason);
/** The query of this page without some names, as "&a=b", for links that go on from it. */
void page_add_query(struct page *page, const char *without, const char *and_without);
/** Write root and give it up. */
void page_json(struct page *page, json_t *root);
void page_svg_line(struct page *page, const uint64_t *values, size_t count, const char *label);

/* ---- places.c: databases by their name ---- */

/** A source, or with is_consumer a [consumer NAME]: that of the parameter `at`, or the only one. False:
 * the page says what there is to choose from. */
bool page_target(struct page *page, bool is_consumer, struct target *target);
/** Connect with what is left of the page's time. False: the page says why not. */
bool page_open(struct page *page, const struct target *target, struct db **db);
/** The same for one of several places of a page: with a part of that time, so that one which does not
 * answer leaves some for the others. False: nothing was written. */
bool page_open_one(struct page *page, const struct target *target, struct db **db);
void page_close(struct page *page, struct db *db);

/* ---- the pages ---- */

page_fn page_overview, page_search, page_message, page_rows, page_row, page_act, page_fleet,
    page_frozen, page_actions;

#endif
