/*
 * What every crash test stands on: fresh databases and queues, relays and consumers as real
 * programs, and the way back to quiet.
 *
 * A scene belongs to the thread of the test. Its calls fail the running test, with the cause, when
 * something that is not under test goes wrong. Programs log to files in the scene's folder, which
 * is kept when the test fails.
 */
#ifndef CRASH_SCENE_H
#define CRASH_SCENE_H

#include "crash/audit.h"
#include "crash/load.h"
#include "process.h"

#define SCENE_QUEUE      "obx-crash"
#define SCENE_DEAD_QUEUE "obx-crash.dead"
#define SCENE_RECEIPTS   "rowpost.receipts.crash"
/* The consumers' group. */
#define SCENE_GROUP "crash"
#define SCENE_TOPIC "crash.order"
/* The consumers reject it. */
#define SCENE_POISON_TOPIC "crash.poison"
/* No queue is bound for it until scene_bind_late. */
#define SCENE_LATE_TOPIC "crash-late.order"

enum {
    SCENE_ACTORS = 2,           /* relays, and consumers, at most */
    SCENE_QUIET_MS = 120 * 1000 /* longest wait for everything to come through */
};

enum scene_role { SCENE_RELAY, SCENE_CONSUMER };
enum scene_line { SCENE_TO_DATABASE, SCENE_TO_BROKER };
const char *scene_role_name(enum scene_role role);

struct scene;
struct cut_proxy;

/** Both servers' coordinates, made from the environment, for a producer. Static strings. */
struct db_opts scene_producer_opts(void);
/** Databases, tables, users and configuration files, made again; the queues of an earlier scene are
 * removed. */
struct scene *scene_create(void);
/** Kill what still runs and close. NULL is fine. */
void scene_destroy(struct scene *scene);
/** A connection of the scene's own that reaches both databases; made again when the server was
 * restarted. */
struct db *scene_db(struct scene *scene);

/** From now on the relays pack messages. Before the first start. */
void scene_pack(struct scene *scene);

/** Start relay or consumer number `index`. crash: value of OBX_CRASH ("point:N"), NULL for none. */
void scene_start(struct scene *scene, enum scene_role role, unsigned index, const char *crash);
/** The program, or NULL when it is not running because it was never started or was ended by the
 * scene. */
struct proc *scene_proc(struct scene *scene, enum scene_role role, unsigned index);
/** kill -9. Success when it has ended already. */
void scene_kill(struct scene *scene, enum scene_role role, unsigned index);
/** SIGTERM; the test fails unless it ends with status 0. Nothing when it is not running. */
void scene_stop(struct scene *scene, enum scene_role role, unsigned index);
/** From now on each program reaches each of its servers through a proxy of its own. Before the
 * first start. */
void scene_put_proxies(struct scene *scene);
/** The proxy between a program and a server; NULL when there is none. */
struct cut_proxy *scene_proxy(struct scene *scene, enum scene_role role, unsigned index,
                              enum scene_line line);
/** tests/support/servers COMMAND SERVER. */
void scene_server(struct scene *scene, const char *command, const char *server);

/** Bind the queue for SCENE_LATE_TOPIC too. */
void scene_bind_late(struct scene *scene);
/** Run outboxctl with the relay's configuration and the arguments, NULL at the end; the test fails
 * unless it succeeds. */
void scene_outboxctl(struct scene *scene, const char *const *arguments);

/** How many messages are applied. */
uint64_t scene_count_applied(struct scene *scene);
/** Wait until so many more messages are applied; the test fails when they are not in time. */
void scene_wait_applied(struct scene *scene, uint64_t more);
/**
 * Wait until the outbox is empty and everything committed is applied, stop the programs in good
 * order, and audit. Relay 0 and consumer 0 are started if nobody is there to do the work. Prints
 * the report; the test fails unless it is clean.
 */
void scene_finish(struct scene *scene);
/** The same after the broker has lost its data: then the order of a key's messages is not promised.
 */
void scene_finish_unordered(struct scene *scene);
/** The same where damage is expected: the audit is for the caller to judge. */
void scene_settle(struct scene *scene, struct audit_report *report);
/** The same when the dead-letter queue is to hold so many messages. */
void scene_finish_with_dead(struct scene *scene, uint64_t least, uint64_t most);

#endif
