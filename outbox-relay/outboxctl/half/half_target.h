/* Which database the half commands are about: the source that [half] names, or the one of --db. */
#ifndef CTL_HALF_TARGET_H
#define CTL_HALF_TARGET_H

#include "half/half.h"
#include "outboxctl/target.h"

struct half_target {
    struct targets targets;
    const struct target *target; /* one of targets */
    const char *outbox;          /* where the messages of a verdict go */
    struct db *db;
};

/** Resolve and connect; what is wrong goes to stderr. Close with half_target_close on success. */
enum ctl_exit half_target_open(const struct ctl_args *args, struct half_target *out);
void half_target_close(struct half_target *half);

#endif
