/*
 * Asking for something to be done with rows of a resource: which rows (ids, filters, --all), whether
 * each may be asked for, the request itself, waiting for what becomes of it, a report row by row and
 * the exit status. Rows are taken up once and looked at until their fate is known; a row is about
 * forty bytes meanwhile.
 */
#ifndef CTL_REQUEST_H
#define CTL_REQUEST_H

#include "resource.h"

enum fate {
    FATE_WAITING, /* the request stands, nobody has run it yet */
    FATE_DONE,
    FATE_REFUSED /* note says why */
};

struct item {
    uint64_t id;
    const char *word;     /* of a resource with text keys: the id as it was given */
    uint32_t place, note; /* of request->places, ->notes, from 1; 0: none */
    enum fate fate;
    bool is_first; /* asked for before the others */
};

/** In the help of every such command. */
#define REQUEST_WORDS "{ID... | FILTER... | --all}"
#define REQUEST_EXITS                                                                              \
    "0 done, 2 wrong command line or configuration, 1 anything else: one was refused,\n"           \
    "is not there or is not done yet"

/** Texts of which many items have the same. */
struct texts {
    char **items; /* owned, from 1 */
    uint32_t count;
};

struct action;
struct request {
    struct session session;
    const struct action *action;
    char by[WHO_MAX];
    const char *note;
    struct obx_bytes body; /* takes the place of the one that came; absent: stays */
    char began_at[32];     /* by the database's clock, as its columns print it */
    struct item *items;    /* owned, in the order of their ids */
    size_t count, room;
    struct texts places; /* values of the action's place column */
    struct texts notes;  /* what the report says of items */
};

struct action {
    const char *done; /* what the report says of a row: "resumed" */
    /* What is written into the row's column `request`; with `run` a word for messages, or NULL. */
    const char *request;
    /* Further assignments, with " = ?" for each of set_values, and conditions on the row. */
    const char *set;
    size_t (*set_values)(const struct request *request, struct obx_value *values);
    const char *only;
    const char *state;       /* of the rows that a filter means, without --state; NULL: any */
    const char *needs_note;  /* what is said without --note; NULL: none is needed */
    bool needs_yes;          /* with a filter or --all */
    bool empty_is_failure;   /* no row fits: exit status 1 */
    const char *place;       /* JSON name of the column that says who runs requests */
    const char *first;       /* JSON name: rows where it is not NULL come first, and must be done
                                before the others are asked for; NULL: one after the other */
    const char *first_stuck; /* what is said when they are not; NULL: the others do not mind */
    /* Refuse the item where the row may not be asked for. May be NULL. */
    void (*refuse)(struct request *request, struct item *item, const struct record *record);
    /* The row is there, and the request no longer stands: what became of it. */
    enum fate (*settled)(struct request *request, struct item *item, const struct record *record);
    /* Wake who runs requests of this place. May be NULL. */
    void (*wake)(const struct request *request, const char *place);
    /* Why requests of this place still stand, one line. */
    void (*explain)(const struct request *request, const char *place, FILE *file);
    /* Instead of a request: do it, for these items; they are done unless their fate is set. */
    enum obx_code (*run)(struct request *request, struct item *items, size_t count,
                         const struct id_list *ids, struct obx_err *err);
};

/** The command of a resource's action: args->command->subject is a struct requested. */
struct requested {
    const struct resource *resource;
    const struct action *action;
};
enum ctl_exit request_command(const struct ctl_args *args);
/** The same for one row with another body. */
enum ctl_exit request_run(const struct ctl_args *args, const struct resource *resource,
                          const struct action *action, struct obx_bytes body);

/** Set an item's fate, with a note for the report. */
void item_set(struct request *request, struct item *item, enum fate fate, const char *fmt, ...)
    OBX_PRINTF(4, 5);

#endif
