/* The attributes of an event in a pack that have a place of their own in a message; what pack_write.c
 * and pack_read.c share. */
#ifndef BRIDGE_PACK_NAMES_H
#define BRIDGE_PACK_NAMES_H

#include "obx/bytes.h"

#include <stdbool.h>
#include <string.h>

/** In this order they are written, but for the data, which comes last. */
enum pack_attribute {
    ATTR_SPECVERSION,
    ATTR_ID,
    ATTR_SOURCE,
    ATTR_TYPE,
    ATTR_TIME,
    ATTR_PARTITIONKEY,
    ATTR_OUTBOX_ID,
    ATTR_HEADERS,
    ATTR_DATACONTENTTYPE,
    ATTR_DATA,
    ATTR_DATA_BASE64
};
enum { ATTRS = ATTR_DATA_BASE64 + 1 };

#define PACK_PREFIX "cloudEvents_"
/** The app-id of what the relay sends. */
#define PACK_SENDER "rowpost"

/** name: in the event. header: of a message that is sent alone; NULL: it is no header there, or all
 * of them. */
static const struct {
    const char *name, *header;
} pack_attributes[ATTRS] = {
    [ATTR_SPECVERSION] = {"specversion", PACK_PREFIX "specversion"},
    [ATTR_ID] = {"id", PACK_PREFIX "id"},
    [ATTR_SOURCE] = {"source", PACK_PREFIX "source"},
    [ATTR_TYPE] = {"type", PACK_PREFIX "type"},
    [ATTR_TIME] = {"time", PACK_PREFIX "time"},
    [ATTR_PARTITIONKEY] = {"partitionkey", PACK_PREFIX "partitionkey"},
    [ATTR_OUTBOX_ID] = {"obxoutboxid", "x-obx-outbox-id"},
    [ATTR_HEADERS] = {"obxheaders", NULL},
    [ATTR_DATACONTENTTYPE] = {"datacontenttype", NULL},
    [ATTR_DATA] = {"data", NULL},
    [ATTR_DATA_BASE64] = {"data_base64", NULL},
};

/** Headers that are attributes of every event under their own name. */
static inline bool pack_is_trace(struct obx_bytes name)
{
    return (name.len == sizeof("traceparent") - 1 &&
            memcmp(name.p, "traceparent", name.len) == 0) ||
           (name.len == sizeof("tracestate") - 1 && memcmp(name.p, "tracestate", name.len) == 0);
}

#endif
