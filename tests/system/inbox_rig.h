/*
 * What the tests of the inbox share: a consumer_rig with the tables of the inbox beside, inbox-relay
 * as a process with the rights of its role, and workers that use the documented statements with the
 * rights of theirs. Workers write into `applied`, as the rig's own handler does, so that rig_audit
 * judges them.
 */
#ifndef OBX_TEST_INBOX_RIG_H
#define OBX_TEST_INBOX_RIG_H

#include "consumer_rig.h"
#include "inbox_contract.h"
#include "process.h"

enum { INBOX_WORKERS_MAX = 4 };

/** What a worker does with a message; runs on its thread, in its transaction. */
enum inbox_act { INBOX_ACT_DONE, INBOX_ACT_RETRY, INBOX_ACT_REJECT, INBOX_ACT_DIE };
typedef enum inbox_act inbox_act_fn(const struct inbox_taken *taken);

struct inbox_rig {
    struct rig *rig;
    struct test_user relay_user, worker_user;
    struct db_opts worker_opts;
    char dir[64], config[96], log[96], wake[96];
    struct proc *relay[2];
    struct inbox_workers *workers; /* that run */
};

/** cmocka set-up and tear-down; the state is a struct inbox_rig. */
int inbox_rig_setup(void **state);
int inbox_rig_teardown(void **state);

/** Write the configuration; lines are appended to [queue orders]. Called once by the set-up. */
void inbox_rig_configure(struct inbox_rig *rig, const char *lines);
/** Start inbox-relay, the first or a second one; env "NAME=value" or NULL. */
void inbox_rig_start(struct inbox_rig *rig, int which, const char *env);
/** SIGTERM, and wait for a good end. */
void inbox_rig_stop(struct inbox_rig *rig, int which);

struct inbox_workers;
/** Threads that work the inbox off until they are stopped, one team at a time. act NULL: always done.
 * The tear-down stops those that a failed test has left: they read what it frees. */
struct inbox_workers *inbox_workers_start(struct inbox_rig *rig, int count, inbox_act_fn *act);
/** How many messages they have done. Stops and frees. */
uint64_t inbox_workers_stop(struct inbox_workers *workers);
/** One message in a transaction of its own: the act of its script. False: there was none. from may be
 * NULL. */
bool inbox_work_once(struct db *db, struct inbox_from *from, inbox_act_fn *act,
                     struct obx_err *err);

/** Publish with a receipt asked for from group-a. */
void inbox_rig_put_asking(struct inbox_rig *rig, const char *id, const char *key, const char *body,
                          const char *receipt_queue);

#endif
