/*
 * A consumer of a partitioned queue: for each partition that this process owns a consumer of that
 * one queue, as if it had been opened by itself; and the thread that opens and closes them. See
 * docs/adr/0030-partitions.md. Proved by tests/system/consumer_partitions_test.c.
 */
#ifndef CONSUMER_PARTITIONS_H
#define CONSUMER_PARTITIONS_H

#include "consumer_object.h"

/** For outer, whose settings name the number. Nothing runs yet. OBX_E_NOMEM, OBX_E_SYSTEM */
OBX_NODISCARD enum obx_code partitions_create(struct obx_consumer *outer, struct partitions **out,
                                              struct obx_err *err);
/** The thread has ended or was never started. NULL is fine. */
void partitions_destroy(struct partitions *partitions);
/** Start the thread. It obeys outer's requests to stop and to drain, and ends with outer's phase
 * STOPPED. OBX_E_SYSTEM */
OBX_NODISCARD enum obx_code partitions_start(struct partitions *partitions, struct obx_err *err);
void partitions_join(struct partitions *partitions);
/** Declare or verify all partitions; for fail_fast. As topology_prepare. */
OBX_NODISCARD enum obx_code partitions_prepare(const struct settings *settings,
                                               struct obx_err *err);

/** The sums over what is open and what was. Any thread. */
void partitions_get_stats(struct partitions *partitions, struct obx_consumer_stats *out);
void partitions_get_last_errors(struct partitions *partitions, struct obx_err *broker,
                                struct obx_err *database);

#endif
