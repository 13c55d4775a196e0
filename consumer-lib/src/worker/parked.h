/*
 * A worker and the rows of inbox_parked: when it asks for what is due, and what it takes up. Every
 * row belongs to one worker of a process, by its lane, which is also the worker that gets the
 * deliveries of the row's key; so within a process nobody adds a row to a key while another removes
 * one.
 *
 * Asking costs one query by index. It is done when a row is known to be due; once a second for what
 * others may have written (another process, an operator); and while deliveries are waiting to be
 * applied, not more often than every tenth of a second, so that a few failing messages cost the
 * others little. Knows nothing of batches and connections: the worker acts on what it returns.
 */
#ifndef CONSUMER_PARKED_H
#define CONSUMER_PARKED_H

#include "apply/apply.h"
#include "base/bytes.h"
#include "core/shared.h"

struct parked {
    struct shared *shared; /* borrowed */
    unsigned worker;
    uint64_t due_ms;            /* when it asks again */
    uint64_t asked_ms;          /* when it has asked last */
    bool has_rows;              /* it knows of rows of its own lanes */
    uint64_t free_due_ms;       /* when keys that wait for nothing are looked for, */
    struct obx_buf free_from;   /* after this one */
    uint64_t counted_ms;        /* when all of the group's rows were counted last */
    size_t rows_held;           /* rows under our claim that the worker has */
    size_t rows_max;            /* so many are taken up at once; 0: as the settings say */
    size_t letters_out;         /* dead letters that the I/O thread has */
    struct item_list confirmed; /* dead letters whose rows can go, */
    uint64_t confirmed_due_ms;  /* not before this, after a failure */
};

void parked_init(struct parked *parked, struct shared *shared, unsigned worker);
/** confirmed is empty by now. */
void parked_fini(struct parked *parked);
/** When there will be something to do, at the latest; UINT64_MAX: not before something happens.
 * is_busy: deliveries wait to be applied. */
uint64_t parked_due_ms(const struct parked *parked, bool is_busy);
/**
 * Do what is due, in transactions of its own. What was taken up is put before what ready has; what is
 * for the I/O thread goes to back. After a failure it asks again a second later, and no earlier.
 */
OBX_NODISCARD enum obx_code parked_turn(struct parked *parked, const struct store *store,
                                        struct item_list *ready, struct item_list *back,
                                        struct obx_err *err);
/** After a batch: rows of it were written, or are there, and one is due in so long. */
void parked_note(struct parked *parked, uint64_t due_in_ms);
/** A letter has come back from the I/O thread, CONFIRMED or DROPPED; true: it was kept, so that its
 * row is removed in the next turn. */
bool parked_take_letter(struct parked *parked, struct item *item);

#endif
