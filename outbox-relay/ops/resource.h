/*
 * A resource: a table with rows that have a reason, as tables of columns, filters and paths into its
 * indexes. From these the engine makes the SELECT, the list, the page of one row, JSON, and what
 * asks for something to be done with rows (request.h). In every piece of SQL the table is `t`.
 *
 * JSON names are one vocabulary over all resources: the same name for the same thing. Proved by
 * tests/system/outboxctl_resources_test.c.
 */
#ifndef OPS_RESOURCE_H
#define OPS_RESOURCE_H

#include <jansson.h>

#include "base/bytes.h"
#include "ops/session.h"
#include "sql/schema.h"
#include "tables/id_list.h"

enum column_kind {
    COLUMN_TEXT,
    COLUMN_NUMBER,
    COLUMN_BOOL,
    COLUMN_TIME,  /* DATETIME(6) in UTC: RFC 3339 in JSON, whole seconds for people */
    COLUMN_SIZE,  /* bytes: "1.5 KiB" for people */
    COLUMN_LINES, /* a text with a field of the page for each of its lines */
    COLUMN_PAYLOAD
};

struct column {
    const char *sql;
    const char *json;  /* NULL: for people only */
    const char *head;  /* in the list, a '>' before it aligns to the right; NULL: not there */
    const char *label; /* on the page of one row; NULL: not there */
    enum column_kind kind;
    bool only_shown; /* too large for a list: read for one row alone. Such columns come last */
};

/** A condition when the option is given; its value takes the place of '?'. */
struct filter {
    enum ctl_option option;
    const char *sql; /* "t.outbox = ?"; for --topic the column alone */
};

/** How a page is read without reading the table. */
struct path {
    enum ctl_option option; /* for when it is given; CTL_STATE: for a state, also by default */
    const char *except; /* in these states, with blanks between them, and in any, it is not used */
    bool for_one_page;  /* no good for what reads page after page */
    const char *index;  /* or several, for the server to choose from */
    /* Which values the index begins with (its '?' is the option's): each has a part of its own, read
     * in the order of the key as far as the page needs. NULL: the index needs no help. */
    const char *values;
    const char *condition;      /* of a part, on its value or values */
    enum ctl_option options[2]; /* which say the same of each value: other values have no part */
    const char *splits[2]; /* conditions that exclude each other and together say nothing: within
                              each the rest of the index is in the order of the key. NULL: none */
};

/** A number that is too dear for the statement of a list: counted for single rows, up to a limit. */
struct counted {
    const char *json;
    const char *when; /* JSON name of a column: for rows where it is true */
    const char *sql;  /* of a row's key and the limit */
};

/** Rows of another table that belong to one: shown below it. */
struct detail {
    const char *json;
    const char *from; /* " FROM half_part t WHERE t.gid = ? ORDER BY ... LIMIT 50" */
    const struct column *columns;
    size_t column_count;
};

struct record;
struct resource {
    const char *noun;  /* "parked message" */
    const char *group; /* of its commands: "parked" */
    const char *none;  /* what an empty list says */
    enum schema_side side;
    const char *table; /* "outbox_parked" */
    const char *join;  /* further tables; NULL: none */
    const char *key;   /* its primary key, "t.id": the first column */
    bool has_text_key;
    bool is_latest_first;
    const struct column *columns;
    size_t column_count;
    const struct filter *filters;
    size_t filter_count;
    const char *const *states; /* what --state may be, NULL after the last; NULL: there are none */
    const char *state;         /* of a list without --state; NULL: any */
    const struct path *paths;
    size_t path_count;
    const struct counted *counted; /* NULL: nothing */
    const struct detail *details;
    size_t detail_count;
    /* A payload that the server does not take at once is in so many pieces as the column `pieces`
     * says: a statement for one, by the row's key and a number from 0. NULL: it never is. */
    const char *piece;
    /* A text for people that depends on several columns, in place of that of a column that has a
     * head or a label and no JSON name; true when it is this one. May be NULL. */
    bool (*describe)(const struct record *record, const struct column *column, struct obx_buf *out);
    /* Which of several sources it is in; NULL: there may be only one. */
    const struct target *(*choose)(const struct targets *targets);
};
#define COLUMNS_OF(array) .columns = (array), .column_count = sizeof(array) / sizeof((array)[0])
#define FILTERS_OF(array) .filters = (array), .filter_count = sizeof(array) / sizeof((array)[0])
#define PATHS_OF(array)   .paths = (array), .path_count = sizeof(array) / sizeof((array)[0])
#define DETAILS_OF(array) .details = (array), .detail_count = sizeof(array) / sizeof((array)[0])

/** A row at hand. */
struct record {
    const struct resource *resource;
    const struct db_rows *rows;
    bool is_page; /* the page of one row, not a list */
    uint64_t counted;
    bool is_capped;
};
/** A column by its JSON name, which must be read. */
struct obx_bytes record_text(const struct record *record, const char *json);
uint64_t record_number(const struct record *record, const char *json);

/** The column as it is for people; room has HUMAN_MAX bytes. Absent for NULL. */
struct obx_bytes record_cell(const struct column *column, const struct db_rows *rows, unsigned at,
                             char *room);
/** The resource's own words for a column; false: it has none, the cell says it. */
bool record_describe(const struct record *record, const struct column *column, struct obx_buf *out);
/** Set a column in an object; nothing where it has no JSON name. */
void record_set_json(json_t *object, const struct column *column, const struct db_rows *rows,
                     unsigned at);
/** The row as an object, which says of which source it is, so that lists of several databases can be
 * put together. is_whole: with the columns of the page of one row. */
json_t *record_json(const struct session *session, const struct record *record, bool is_whole);
/** Count what is too dear for the list, up to a limit: record->counted. */
OBX_NODISCARD enum obx_code record_count(const struct session *session, struct record *record,
                                         struct obx_err *err);
/** The rows of a detail that belong to a key. Free with db_rows_free. */
OBX_NODISCARD enum obx_code detail_select(struct db *db, const struct detail *detail,
                                          const char *key, struct db_rows **rows,
                                          struct obx_err *err);

/* ---- select.c ---- */

/** Which rows: key or ids, or what the options of the command line and the state say. */
struct selection {
    const char *key;           /* this one alone; NULL: any */
    const struct id_list *ids; /* these; NULL: any */
    const char *state;         /* NULL: any */
    const char *after; /* the key of the last row of the page before; NULL: from the first */
    const char *until; /* no row after this key; NULL: to the last */
    uint32_t limit;
    bool is_page;  /* no more than this page is wanted */
    bool is_whole; /* columns of the page of one row, too */
};
/** Rows of the resource that fit the options and the selection, in the order of the key. Free with
 * db_rows_free. */
OBX_NODISCARD enum obx_code resource_select(struct session *session,
                                            const struct selection *selection, struct db_rows **out,
                                            struct obx_err *err);
/** --state, or what stands for it; false when it is none of the states. */
bool resource_state(const struct ctl_args *args, const struct resource *resource,
                    const char **state);
/** Whether text may be a key of the resource. */
bool resource_key_is_valid(const struct resource *resource, const char *text);
/** Append a topic as what the operator takes that it returns: "LIKE" where a '*' at the end stands
 * for the rest, otherwise "=". */
const char *topic_operand(const char *topic, struct obx_buf *out);

#endif
