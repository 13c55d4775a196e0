/*
 * What the files of the simulated database share: a statement that runs, and its result. Only
 * lane_sim_db.c, lane_sim_producers.c and lane_sim_sql.c include it.
 */
#ifndef LANE_SIM_CALL_H
#define LANE_SIM_CALL_H

#include "lane_sim.h"

enum { SIM_COLUMNS = 10, SIM_INLINE = 100 /* bytes of a payload that come with its batch */ };

struct cell {
    bool is_null;
    uint64_t number;
    struct obx_bytes text;
};

struct db_rows {
    size_t count, cap, at; /* at: 1-based, 0 before the first */
    struct cell (*rows)[SIM_COLUMNS];
};

/** A statement, its values, and what comes of it. */
struct call {
    const char *sql;
    const struct obx_value *args;
    uint64_t affected;
    struct db_rows *rows; /* NULL: it has no result */
};

extern const char *const sim_key_names[SIM_KEYS];
extern const char *const sim_topic_names[SIM_TOPICS];

/* lane_sim_db.c */
struct cell *call_add_row(struct call *call);
struct cell cell_number(uint64_t n);
/** NULL for NULL. */
struct cell cell_text(const char *text);
/** The row, which is about to be changed: a rollback puts it back as it is. */
struct sim_row *sim_change(struct sim_row *row);

/* lane_sim_producers.c */
/** NULL: none. */
const char *sim_key_of(const struct sim_row *row);
/** The place of the first row with this id or a higher one. */
size_t sim_from(uint64_t id);

/* lane_sim_side.c: statements */
enum obx_code sim_journal_write(struct call *call);
enum obx_code sim_delayed_find(struct call *call);
enum obx_code sim_delayed_lock(struct call *call);
enum obx_code sim_delayed_move(struct call *call);
enum obx_code sim_delayed_delete(struct call *call);

/* lane_sim_receipts.c: statements */
enum obx_code sim_read_secrets(struct call *call);
enum obx_code sim_read_early(struct call *call);
enum obx_code sim_await(struct call *call);
enum obx_code sim_find_overdue(struct call *call);
enum obx_code sim_lock_overdue(struct call *call);
enum obx_code sim_read_receipts(struct call *call);
enum obx_code sim_find_on_way(struct call *call);
enum obx_code sim_park_missing(struct call *call);
enum obx_code sim_send_again(struct call *call);
enum obx_code sim_put_off(struct call *call);
enum obx_code sim_end_awaiting(struct call *call);
enum obx_code sim_end_discarded(struct call *call);

/* lane_sim_sql.c */
/** Run it, by its text; the failing of the test when it is none that the lane is known to use. */
enum obx_code call_run(struct call *call);
/** Whether it changes anything. */
bool call_writes(const struct call *call);

#endif
