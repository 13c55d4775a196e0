/*
 * Packs: several messages of one route as one message of the broker, in the CloudEvents JSON batch
 * format. See docs/adr/0029-packing.md and docs/message-format.md.
 *
 * Both directions stand here, because they are one promise: what pack_read gives is, property by
 * property and byte by byte, what a consumer would have got had each message been sent alone. What
 * cannot be carried so is refused by pack_add and goes alone. Bytes are never parsed and printed
 * again: a JSON payload is embedded as it is and cut out as it is. One thread. Proved by
 * tests/unit/pack_test.c and tests/fuzz/pack_fuzz.c.
 */
#ifndef BRIDGE_PACK_H
#define BRIDGE_PACK_H

#include "base/bytes.h"
#include "bridge/consumer.h"

enum {
    PACK_EVENTS_MAX = 1000,           /* messages in a pack; a receiver takes no more */
    PACK_BYTES_MAX = 4 * 1024 * 1024, /* of its body; a receiver takes no more */
};

/** The type of a pack's content, and the header that says how many messages it has. */
#define PACK_CONTENT_TYPE "application/cloudevents-batch+json"
#define PACK_COUNT_HEADER "x-obx-pack"

/** The pack that is being put together. Zero-initialise; its memory is used again by the next. */
struct pack_writer {
    struct obx_buf body;
    struct obx_buf headers;        /* scratch: of one message, those that are no attributes */
    uint64_t ids[PACK_EVENTS_MAX]; /* hashes */
    size_t count;
    size_t max_events, max_bytes;
    struct obx_header count_header;
};

void pack_writer_fini(struct pack_writer *writer);
/** Begin a pack of at most so many messages (1 to PACK_EVENTS_MAX) and bytes (at most
 * PACK_BYTES_MAX). */
void pack_begin(struct pack_writer *writer, size_t max_events, size_t max_bytes);

enum pack_answer {
    PACK_ADDED,
    PACK_FULL,  /* it has no room in this pack any more */
    PACK_UNFIT, /* it has to go alone: it is too large, has the id of another one in this pack, or
                   could not come out as it went in, or not be read by everybody */
    PACK_NOMEM
};
/** Add a message; nothing of it is borrowed. Unless the answer is PACK_ADDED the pack is as before. */
enum pack_answer pack_add(struct pack_writer *writer, const struct bridge_message *msg);
/** The pack as a message, but for exchange and routing key; it borrows from the writer until the
 * next pack_begin. OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code pack_end(struct pack_writer *writer, struct bridge_message *msg);

/** Whether a message says that it is a pack, by the header that no application can set. A batch of events
 * that has it not is the payload of somebody who sends batches, and no affair of ours. */
bool pack_is(const struct bridge_message *msg);

/**
 * Take a pack apart, all of it or nothing. On success *events is a heap array (obx_free) of *count
 * deliveries (at least one; bridge_delivery_free), in the order of the pack, each independent of it
 * and with its epoch, tag and redelivered. timestamp_s is left to the receiver, who reads
 * cloudEvents_time.
 * @return OBX_OK; OBX_E_TOO_LARGE (bytes, messages), OBX_E_FORMAT (not of Rowpost, no JSON, too deep,
 * cut off, of two sources, an attribute that is missing, there twice or of a wrong type, an id that is there
 * twice): the pack will never be readable, and err says why; OBX_E_NOMEM
 */
OBX_NODISCARD enum obx_code pack_read(const struct bridge_delivery *pack,
                                      struct bridge_delivery ***events, size_t *count,
                                      struct obx_err *err);

#endif
