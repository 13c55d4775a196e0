/*
 * A row of the outbox as a message: properties, CloudEvents attributes, application headers. See
 * docs/message-format.md.
 *
 * Borrows from the row; what it makes itself lives in the envelope until the next build. One
 * thread. Proved by tests/unit/envelope_test.c.
 */
#ifndef RELAY_ENVELOPE_H
#define RELAY_ENVELOPE_H

#include "bridge/bridge.h"
#include "outbox_row.h"

/** What an application's headers may take in a message, names, values and their lengths: they have
 * to fit into one frame (131072 bytes, as brokers have it), beside ours and what the broker adds.
 */
#define ENVELOPE_HEADERS_MAX 114688

struct envelope;

/** source and outbox make the CloudEvents source, "/source/outbox". On failure *out is NULL.
 * OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code envelope_create(const char *source, const char *outbox,
                                            struct envelope **out, struct obx_err *err);
void envelope_destroy(struct envelope *envelope);

struct receipt_keys;
/** From now on rows that ask for receipts carry the queue to send them to and a token made with
 * keys; without, they are refused. Both are borrowed and outlive the envelope. */
void envelope_offer_receipts(struct envelope *envelope, const char *queue,
                             const struct receipt_keys *keys);

/**
 * Fill msg from row, but for exchange and routing key. msg borrows from row and envelope, until the
 * next build.
 * @return OBX_OK; OBX_E_FORMAT: this row can never be a message (topic empty, too long or with a
 * NUL byte; message id empty or with a NUL byte; headers not a JSON object, malformed, larger
 * than ENVELOPE_HEADERS_MAX, or with a name that is too long, reserved or there twice; a list of
 * groups that cannot be read): the text says which;
 * OBX_E_CONFIG: it asks for receipts and none are offered; OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code envelope_build(struct envelope *envelope, const struct outbox_row *row,
                                           struct bridge_message *msg, struct obx_err *err);

/**
 * Whether envelope_build would make a message of such a row, as far as the row itself tells: for
 * a caller that accepts messages and has to refuse at once what would be parked later. OBX_OK,
 * OBX_E_FORMAT, OBX_E_NOMEM. Any thread.
 */
OBX_NODISCARD enum obx_code envelope_check(const struct outbox_row *row, struct obx_err *err);

#endif
