/*
 * Publishes receipts over a connection of its own, made when the first one is due. Belongs to the
 * filer's thread. What does not go out is forgotten: its rows are claimed for some seconds, and are
 * filed again after that.
 */
#ifndef INBOX_REPORTER_H
#define INBOX_REPORTER_H

#include "counts.h"
#include "filing.h"

struct reporter;

OBX_NODISCARD enum obx_code reporter_create(const struct inbox_opts *opts, struct counts *counts,
                                            struct reporter **out, struct obx_err *err);
void reporter_destroy(struct reporter *reporter);
/** Take them; the list is empty afterwards. */
void reporter_add(struct reporter *reporter, struct report_list *reports);
/** Whether there is no room for a round of reports. */
bool reporter_is_full(const struct reporter *reporter);
/** Read confirms, publish what is new. */
void reporter_service(struct reporter *reporter);
/** Those whose receipts are confirmed, or have no queue to go to; at most FILING_MAX, the caller's. */
struct report_list reporter_take_done(struct reporter *reporter);
/** For poll(2); -1 when not connected. */
int reporter_fd(const struct reporter *reporter);
uint64_t reporter_next_due_ms(const struct reporter *reporter);

#endif
