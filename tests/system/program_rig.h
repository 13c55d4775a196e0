/*
 * What the system tests of the real programs share: a database with accounts that have exactly the
 * documented grants, an exchange with a queue, a configuration file, and outbox-relay and outboxctl
 * started as an operator starts them. Everything fails the running cmocka test when it does not
 * work.
 *
 * Every log and every output stays in the rig's folder until the end of the test. Then it is
 * searched for the passwords: none may be there.
 */
#ifndef OBX_TEST_PROGRAM_RIG_H
#define OBX_TEST_PROGRAM_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "broker.h"
#include "process.h"
#include "test_db.h"

/* So long is waited for what has to happen; generous, because machines are loaded. */
enum { RIG_RELAYS = 5, RIG_WAIT_MS = 60000 };

/** A list of texts with NULL behind it, for arguments and "NAME=value" of the environment. */
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

struct program_rig {
    char dir[128];
    char config[192]; /* of every relay; relays differ by their environment */
    struct test_db test_db;
    struct test_user migrate, relay, operator, producer;
    struct broker broker;
    struct broker_admin *admin;
    struct db *root; /* may do everything in the database */
    struct db *app;  /* the producer's account: may INSERT, no more */
    char exchange[64];
    char queue[72];                  /* bound for every topic */
    struct proc *relays[RIG_RELAYS]; /* NULL: not started */
    uint16_t http_ports[RIG_RELAYS]; /* free ones, chosen at setup */
    uint16_t bell_ports[RIG_RELAYS]; /* the same, for doorbells */
    struct obx_buf out;              /* what the last program said, of rig_run_... */
    unsigned runs;
};

/** A setup of a group or of a test: rig in *state, migrated by `outboxctl migrate`, nothing
 * running. */
int program_setup(void **state);
int program_teardown(void **state);
/** A setup of a test in a group that has a rig, which costs a fraction: relays are ended, rows,
 * queue, exchange and logs are gone, the configuration is as it was. Tables and grants stay. */
int program_reset(void **state);

/** Run to the end with `--config rig->config` in front of args; env may be NULL. Returns the exit
 * status, -1 for a signal; what it said is in rig->out. */
int rig_run_relay(struct program_rig *rig, const char *const *env, const char *const *args);
int rig_run_ctl(struct program_rig *rig, const char *const *env, const char *const *args);
/** The same with nothing in front of args. */
int rig_run_ctl_bare(struct program_rig *rig, const char *const *env, const char *const *args);
int rig_run_relay_bare(struct program_rig *rig, const char *const *env, const char *const *args);
/** The last output has the text; or has it not. */
void rig_said(const struct program_rig *rig, const char *text);
void rig_said_not(const struct program_rig *rig, const char *text);

/** Start relay i; its HTTP is on http_ports[i]. */
void rig_start(struct program_rig *rig, unsigned i, const char *const *env);
/** Start it and wait until /readyz says so. */
void rig_start_ready(struct program_rig *rig, unsigned i, const char *const *env);
/** SIGTERM; the test fails unless it ends with 0. */
void rig_stop(struct program_rig *rig, unsigned i);
/** kill -9. */
void rig_kill(struct program_rig *rig, unsigned i);
/** Wait until relay i ends by itself and return its exit status. */
int rig_wait_end(struct program_rig *rig, unsigned i);
/** The path of relay i's log. Static per rig folder: copy it if it must stay. */
const char *rig_log_path(const struct program_rig *rig, unsigned i);
void rig_wait_log(struct program_rig *rig, unsigned i, const char *text);
bool rig_has_logged(const struct program_rig *rig, unsigned i, const char *text);

/** GET a page of relay i: status (0: no answer) and the body in *body (reset first). */
int rig_get(struct program_rig *rig, unsigned i, const char *path, struct obx_buf *body);
void rig_wait_ready(struct program_rig *rig, unsigned i);
/** Wait until /readyz is not ready and says the text. */
void rig_wait_unready(struct program_rig *rig, unsigned i, const char *text);
/** The value of a series of /metrics, written as there: `name{source="shop",outbox="outbox"}`. The
 * test fails when it is not there. */
double rig_metric(struct program_rig *rig, unsigned i, const char *series);
/** The same for a metric of the lane of shop/outbox. */
double rig_lane_metric(struct program_rig *rig, unsigned i, const char *name);
void rig_wait_lane_metric(struct program_rig *rig, unsigned i, const char *name, double least);

/** One committed row of the producer's account. key NULL: none. */
void rig_insert(struct program_rig *rig, const char *outbox, const char *topic, const char *key,
                const char *payload);
/** count rows of a topic in one transaction, keys k0..k<keys-1> in turn, none when keys is 0. */
void rig_fill(struct program_rig *rig, const char *outbox, const char *topic, unsigned count,
              unsigned keys);
/** Run a statement built like printf with all rights. */
void rig_sql(struct program_rig *rig, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t rig_number(struct program_rig *rig, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/** Wait until a query gives the number. */
void rig_wait_number(struct program_rig *rig, uint64_t wanted, const char *sql);
void rig_wait_empty(struct program_rig *rig, const char *outbox);
/** Another outbox table, with the rights that grants.md tells for it. */
void rig_add_outbox(struct program_rig *rig, const char *outbox);

/** The path of the program, for a test that starts it in a way of its own. */
const char *rig_outboxctl(void);
/** How often a text stands in a file. */
unsigned rig_count_in_file(const char *path, const char *text);
/** Write a file into the rig's folder; its path is in `path`. */
void rig_write(const struct program_rig *rig, const char *name, const char *text, char path[192]);
/** The text of the configuration file, to be changed and written again. Free with buf_fini. */
void rig_config_text(const struct program_rig *rig, struct obx_buf *text);

#endif
