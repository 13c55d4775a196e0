/* Asking for something to be done with rows, as a command. */
#ifndef CTL_REPORT_H
#define CTL_REPORT_H

#include "ops/request.h"
#include "outboxctl/ctl_args.h"

/** In the help of every such command. */
#define REQUEST_WORDS "{ID... | FILTER... | --all}"
#define REQUEST_EXITS                                                                              \
    "0 done, 2 wrong command line or configuration, 1 anything else: one was refused,\n"           \
    "is not there or is not done yet"

/** The command of a resource's action: args->command->subject is a struct requested. */
enum ctl_exit request_command(const struct ctl_args *args);
/** The same for one row with another body. */
enum ctl_exit request_run(const struct ctl_args *args, const struct resource *resource,
                          const struct action *action, struct obx_bytes body);

#endif
