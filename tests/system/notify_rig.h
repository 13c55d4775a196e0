/*
 * What the system tests of inbox-relay share: a database, an exchange and a queue of their own, a
 * configuration file, the program as a process, and receivers that write down every call and verify
 * its signature by themselves. Everything fails the running cmocka test when it does not work.
 */
#ifndef OBX_TEST_NOTIFY_RIG_H
#define OBX_TEST_NOTIFY_RIG_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/publisher.h"
#include "broker.h"
#include "endpoint.h"
#include "process.h"
#include "test_db.h"

enum { RIG_WAIT_MS = 40000, RIG_CALLS_MAX = 4096, RIG_SECRET_MAX = 4 };

/** One call as it came. */
struct rig_call {
    char id[80]; /* webhook-id */
    char topic[80], key[80], content_type[80];
    char body[128];
    unsigned attempt;
    uint64_t timestamp_s;
    unsigned signatures;           /* how many there were */
    bool verified[RIG_SECRET_MAX]; /* by the receiver's nth secret */
    int64_t at_ms;                 /* wait_now_ms() */
};

struct receiver;
/** Decide on the answer to the nth call (from 0); runs on the endpoint's thread. */
typedef void receiver_fn(const struct rig_call *call, size_t n, struct endpoint_answer *answer);

struct receiver {
    struct endpoint *endpoint;
    receiver_fn *decide;                 /* NULL: 200 */
    const char *secrets[RIG_SECRET_MAX]; /* plain text */
    pthread_mutex_t lock;
    struct rig_call *calls; /* RIG_CALLS_MAX */
    size_t count;
};

struct receiver *receiver_create(receiver_fn *decide);
void receiver_destroy(struct receiver *receiver);
uint16_t receiver_port(const struct receiver *receiver);
size_t receiver_count(struct receiver *receiver);
/** A copy of the nth call. */
struct rig_call receiver_call(struct receiver *receiver, size_t n);
/** How many calls had this id. */
size_t receiver_times(struct receiver *receiver, const char *id);
/** Wait until there were so many calls. */
void receiver_wait(struct receiver *receiver, size_t count);

struct notify_rig {
    struct test_db test_db;
    struct test_user account; /* of the program: the documented rights and no others */
    struct broker broker;
    struct broker_admin *admin;
    struct db *db;
    struct bridge_publisher *publisher;
    uint64_t published, confirmed;
    char exchange[64], queue[64];
    char config_path[256], log_path[256];
    uint16_t http_port;
    struct proc *procs[2];
};

int notify_rig_setup(void **state);
int notify_rig_teardown(void **state);

/** Write the configuration: the ordinary sections with `more` lines in [notify], then the sections
 * of the endpoints, built like printf. */
void notify_rig_config(struct notify_rig *rig, const char *more, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/** Start the program as process `which` (0, 1) with `env` ("NAME=value", or NULL) added; does not
 * wait. */
void notify_rig_start(struct notify_rig *rig, int which, const char *env);
/** Wait until process 0 owns the calls and consumes. */
void notify_rig_wait_owner(struct notify_rig *rig);
/** TERM and a good end. */
void notify_rig_stop(struct notify_rig *rig, int which);
/** SIGKILL. */
void notify_rig_kill(struct notify_rig *rig, int which);
/** Run the program with one argument behind --config; its exit status. Output goes to log_path. */
int notify_rig_command(struct notify_rig *rig, const char *argument);
/** Whether the log of all processes has the text; waits for it. */
void notify_rig_wait_log(struct notify_rig *rig, const char *text);

/** Publish a message, confirmed. The queue is bound once the program was an owner. */
void notify_rig_publish(struct notify_rig *rig, const char *id, const char *topic,
                        const char *body);
/** The same with any bytes. */
void notify_rig_publish_bytes(struct notify_rig *rig, const char *id, const char *topic,
                              struct obx_bytes body);
/** count messages "<prefix>-<i>". */
void notify_rig_fill(struct notify_rig *rig, const char *prefix, int count, const char *topic);
/** Wait until the query gives the number. */
void notify_rig_wait_number(struct notify_rig *rig, uint64_t wanted, const char *sql);
uint64_t notify_rig_number(struct notify_rig *rig, const char *sql);
/** The value of a metric of process 0, by the beginning of its line; -1: not there. */
double notify_rig_metric(struct notify_rig *rig, const char *line);

#endif
