/*
 * The part of one relay in sharing the lanes of one source: a thread that says in outbox_relay that
 * this relay is there, reads who else is and who holds which lease, and works out which lanes are to
 * be somebody else's (share.h). It gives and takes nothing: the lanes act on it, and only a lease
 * makes an owner.
 *
 * When the database does not answer, nothing is known, and no lane is somebody else's: then everybody
 * stands by for everything, as without sharing. See docs/adr/0035-fleet.md for the states and what
 * each crash leaves.
 */
#ifndef FLEET_FLEET_H
#define FLEET_FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/wake.h"
#include "sql/db.h"

enum { FLEET_ADDRESS_MAX = 64 };

struct fleet;

/** All is borrowed and outlives the fleet. */
struct fleet_opts {
    const char *source; /* for the log */
    struct db_opts db;
    const char *relay;   /* unique name of this process, as in the leases */
    const char *version; /* of the program */
    const char *address; /* where it hears doorbells of other relays; NULL: nowhere */
    uint32_t weight;
    uint32_t lease_ms; /* of the lanes */
    const char *const *outboxes;
    size_t outbox_count;
    const struct wake *news; /* called when something has changed */
};

struct fleet_view {
    size_t relays;                  /* that share, this one among them; 0: not known */
    size_t mine;                    /* lanes that this one is to have */
    char trouble[OBX_ERR_TEXT_MAX]; /* why it is not known; "" */
};

/** Start the thread. On failure *out is NULL. OBX_E_NOMEM, OBX_E_SYSTEM. */
OBX_NODISCARD enum obx_code fleet_create(const struct fleet_opts *opts, struct fleet **out,
                                         struct obx_err *err);
/** Ask it to take its row away and end; returns at once. */
void fleet_stop(struct fleet *fleet);
bool fleet_has_ended(struct fleet *fleet);
/** Waits for the thread: for a statement, and a database's deadlines. NULL is fine. */
void fleet_destroy(struct fleet *fleet);
/** Whether another relay is to have this lane; then where it hears doorbells ("": nowhere). Any
 * thread. */
bool fleet_is_elsewhere(struct fleet *fleet, const char *outbox, char address[FLEET_ADDRESS_MAX]);
void fleet_get_view(struct fleet *fleet, struct fleet_view *out);

#endif
