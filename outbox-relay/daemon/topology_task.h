/*
 * Declares or verifies the topology on a thread of its own, because that waits for the broker and
 * the main thread may not wait. It tries until it succeeds, with a capped backoff; then it rests
 * until it is given another configuration or is asked to do it again (a broker that came back may
 * have lost everything).
 *
 * All calls come from the main thread; the thread shares nothing but their mailbox.
 */
#ifndef DAEMON_TOPOLOGY_TASK_H
#define DAEMON_TOPOLOGY_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "config/relay_config.h"

struct topology_task;

struct topology_view {
    bool is_wanted; /* false: topology = no */
    bool is_done;   /* all of the configuration given last is there, as far as is known */
    bool is_open;   /* lanes may publish: it was done once, or all of it was declared but what the
                       broker refuses, which is the trouble of its own topics alone. One that only
                       verifies waits until everything is there */
    char trouble[OBX_ERR_TEXT_MAX]; /* why it is not done, or why the last repetition failed; ""
                                       none */
    uint64_t tries;
    uint64_t failures;
};

/** Start the thread. On failure *out is NULL. OBX_E_SYSTEM, OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code topology_task_create(struct topology_task **out, struct obx_err *err);
/**
 * Ask the thread to end and wait for it. An attempt in progress ends first: at most a
 * connect, an rpc and a reconnect wait, so topology_task_stop comes earlier and this after the
 * lanes have drained. NULL is fine.
 */
void topology_task_destroy(struct topology_task *task);
/** Ask the thread to end; returns at once. */
void topology_task_stop(struct topology_task *task);
/** Whether the thread has ended, so that destroy will not wait. */
bool topology_task_has_ended(struct topology_task *task);
/** Work for this configuration from now on. Takes a reference of its own and gives the one before
 * back. */
void topology_task_set(struct topology_task *task, struct relay_config *config);
/** Do it once more. It stays done if the broker cannot be reached, not if it refuses. */
void topology_task_repeat(struct topology_task *task);
/** How it stands, for the pages. Leaves the news to the one who waits for them. */
void topology_task_view(struct topology_task *task, struct topology_view *out);
/** Make the descriptor quiet again; the caller looks at the view after that, and acts on it. */
void topology_task_take_news(struct topology_task *task);
/** Becomes readable whenever the view has changed. */
int topology_task_fd(const struct topology_task *task);

#endif
