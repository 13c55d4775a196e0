/*
 * Packs on their way through the I/O thread. A pack is taken apart when it comes: each of its
 * messages becomes an item like any other, and the pack itself one that stands for the delivery. It
 * goes to no worker, and waits in the list of unanswered deliveries until the last of its messages
 * has been dealt with. See docs/adr/0029-packing.md. Owned by the I/O thread.
 */
#ifndef CONSUMER_PACKS_H
#define CONSUMER_PACKS_H

#include "core/item.h"

/**
 * Make the items of a delivery that is a pack. On success *pack stands for the delivery, messages
 * are its messages in order, each with its item->pack, and the delivery is freed. Otherwise it stays
 * the caller's, and nothing was made.
 * @return OBX_OK; OBX_E_FORMAT, OBX_E_TOO_LARGE: it can never be taken apart, for err; OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code packs_open(struct bridge_delivery *delivery, struct counters *counters,
                                       struct item **pack, struct item_list *messages,
                                       struct obx_err *err);
/**
 * A message of a pack has been dealt with, or (false) was dropped; it is not touched. Returns its
 * pack when it was the last one, otherwise NULL. With pack->is_incomplete the broker has to deliver
 * the pack again: some of its messages were dropped.
 */
struct item *packs_leave(const struct item *message, bool is_dealt_with);

#endif
