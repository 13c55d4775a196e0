/*
 * Asking for something to be done with rows of a resource: which rows (ids, filters, --all), whether
 * each may be asked for, the request itself, waiting for what becomes of it, a report row by row and
 * the exit status. Rows are taken up once and looked at until their fate is known; a row is about
 * forty bytes meanwhile.
 */
#ifndef OPS_REQUEST_H
#define OPS_REQUEST_H

#include <stdio.h>

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

/** Texts of which many items have the same. */
struct texts {
    char **items; /* owned, from 1 */
    uint32_t count;
};

enum { REQUEST_IDS_MAX = 1000 /* ids that may be given one by one */ };

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
    const char *until;   /* no row after this key, so that what came since somebody looked is left
                            alone; NULL: whatever is there */
    size_t max;          /* stop taking up rows soon after so many; 0: never */
    /* So many of them by now. NULL: nobody wants to know. */
    void (*on_progress)(const struct request *request, const char *word, uint64_t done,
                        uint64_t total);
    void *ctx; /* for on_progress */
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

/** What is asked for in these commands: subject of outboxctl's. */
struct requested {
    const struct resource *resource;
    const struct action *action;
};

/** Take up the rows that are meant: ids, or all that fit. OBX_E_NOMEM, any OBX_E_DB_*. */
OBX_NODISCARD enum obx_code request_collect(struct request *request, struct obx_err *err);
/** Ask for what is pending, and wait for what becomes of it, args->wait_s at most. OBX_E_TIMEOUT:
 * a part was left alone because what had to come first is not done yet. */
OBX_NODISCARD enum obx_code request_perform(struct request *request, struct obx_err *err);
void request_fini(struct request *request);
/** How many have this fate. */
size_t request_count(const struct request *request, enum fate fate);
/** "resumed", "requested" or "refused". */
const char *request_word(const struct request *request, enum fate fate);
/** What the report says of an item; NULL: nothing. */
const char *request_note(const struct request *request, const struct item *item);
/** Why what is not done yet stands, a line for each place. */
void request_explain(const struct request *request, FILE *file);
/** Whether a filter, a state or --all says which rows are meant. */
bool request_has_filter(const struct ctl_args *args, const struct resource *resource);

/** Set an item's fate, with a note for the report. */
void item_set(struct request *request, struct item *item, enum fate fate, const char *fmt, ...)
    OBX_PRINTF(4, 5);

#endif
