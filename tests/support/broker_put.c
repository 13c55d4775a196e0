/*
 * For tests written in bash: put a message into a queue, or delete the queue.
 * usage: broker_put QUEUE MESSAGE_ID BODY | broker_put --delete QUEUE; the broker is
 * OBX_TEST_AMQP_...
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker.h"

int main(int argc, char **argv)
{
    struct broker broker;
    struct broker_admin *admin = NULL;

    if (!broker_from_env(&broker) || argc < 3) {
        (void)fprintf(stderr, "usage: broker_put QUEUE MESSAGE_ID BODY | --delete QUEUE\n");
        return 2;
    }
    admin = broker_admin_open(&broker);
    if (strcmp(argv[1], "--delete") == 0)
        broker_delete_queue(admin, argv[2]);
    else if (argc == 4)
        broker_put(admin, argv[1], argv[2], argv[3]);
    broker_admin_close(admin);
    return EXIT_SUCCESS;
}
