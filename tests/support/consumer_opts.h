/* Where a consumer of a test finds its broker and its database. */
#ifndef SUPPORT_CONSUMER_OPTS_H
#define SUPPORT_CONSUMER_OPTS_H

#include "broker.h"
#include "obx/consumer.h"
#include "sql/db.h"

/** Everything else is as by default. Borrows from both. */
static inline struct obx_consumer_opts consumer_opts(const struct broker *broker,
                                                     const struct db_opts *db, const char *group,
                                                     const char *queue)
{
    return (struct obx_consumer_opts){.size = sizeof(struct obx_consumer_opts),
                                      .group = group,
                                      .queue = queue,
                                      .broker_addresses = broker->address,
                                      .broker_vhost = broker->vhost,
                                      .broker_user = broker->user,
                                      .broker_password = broker->password,
                                      .db_host = db->host,
                                      .db_port = db->port,
                                      .db_user = db->user,
                                      .db_password = db->password,
                                      .db_name = db->database};
}

#endif
