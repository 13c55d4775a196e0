/*
 * outboxctl: reads the command line and runs the one command.
 */
#include <stdio.h>

#include "config/version.h"
#include "ctl_args.h"
#include "sql/db.h"

int main(int argc, char **argv)
{
    struct ctl_args args;
    enum ctl_exit status;

    if (!ctl_args_parse(argc, argv, &args))
        return CTL_USAGE;
    if (args.wants_version) {
        printf("outboxctl %s\n", OBX_VERSION);
        return CTL_OK;
    }
    if (args.wants_help) {
        ctl_help(stdout, args.command);
        return CTL_OK;
    }
    status = args.command->run(&args);
    db_thread_end();
    /* A pipe that was closed or a full disk: the output is not whole, which is no success. */
    if (fflush(stdout) != 0 && status == CTL_OK) {
        fprintf(stderr, "outboxctl: the output could not be written\n");
        status = CTL_FAILED;
    }
    return status;
}
