/* The resources of ops as pages: which there are, what may be done with them by whom. */
#ifndef CONSOLE_ROWS_H
#define CONSOLE_ROWS_H

#include "ops/resources.h"
#include "page.h"

struct rows_action {
    const char *name, *label; /* of the parameter, on the button */
    const struct action *action;
    enum console_role role; /* the least that may */
    const char *what;       /* what will become of the messages, for the page that asks again */
};

/** One kind of row. */
struct rows {
    const char *path, *title;
    const struct resource *resource;
    bool is_consumer; /* in a consumer's database, else in a source */
    const struct rows_action *actions;
    size_t action_count;
    /* Groups: columns of `groups` are topic, reason, another name or NULL, count, first, last. NULL: the
     * kind has none. Reads no more than 10001 rows. */
    const char *groups;
    const char *group_of; /* the parameter of the third column; NULL: none */
};

/** That of "/parked", "/parked/row", "/parked/act". */
const struct rows *rows_of(const char *path);
/** args->text from the page's parameters; args->text of the note and others stay NULL. False: the page
 * says what is wrong. */
bool rows_args(struct page *page, const struct rows *rows, struct ctl_args *args);
/** The database of the page, and a session on it. False: the page says why not. */
bool rows_open(struct page *page, const struct rows *rows, const struct ctl_args *args,
               struct target *target, struct session *session);
void rows_close(struct page *page, struct session *session);
/** Why this person may not press the button; NULL: may. */
const char *rows_refusal(const struct page *page, const struct rows_action *action);

#endif
