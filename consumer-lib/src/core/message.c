/* Maps a delivery to the message that a handler sees. */
#include "message.h"

#include <string.h>

#include "base/bytes.h"

#define CE_PREFIX_LEN 12 /* "cloudEvents:" and "cloudEvents_" */

static void read_attribute(struct obx_message *msg, struct obx_bytes name, struct obx_bytes value)
{
    if (bytes_is(name, "id") && bytes_is_absent(msg->message_id))
        msg->message_id = value;
    else if (bytes_is(name, "type") && bytes_is_absent(msg->topic))
        msg->topic = value;
    else if (bytes_is(name, "source"))
        msg->source = value;
    else if (bytes_is(name, "partitionkey"))
        msg->ordering_key = value;
    else if (bytes_is(name, "time"))
        msg->created_us = message_time_us(value);
}

static void read_header(struct obx_message *msg, const struct obx_header *header)
{
    const char *name = header->name.p;

    if (header->type == OBX_H_TEXT) {
        /* Both prefixes are the CloudEvents binding's: ':' is no legal character for JMS clients. */
        if (header->name.len > CE_PREFIX_LEN &&
            memcmp(name, "cloudEvents", CE_PREFIX_LEN - 1) == 0 &&
            (name[CE_PREFIX_LEN - 1] == ':' || name[CE_PREFIX_LEN - 1] == '_'))
            read_attribute(
                msg, (struct obx_bytes){name + CE_PREFIX_LEN, header->name.len - CE_PREFIX_LEN},
                header->v.text);
        else if (bytes_is(header->name, "traceparent"))
            msg->traceparent = header->v.text;
    } else if (header->type == OBX_H_I64 && header->v.i64 > 0 &&
               bytes_is(header->name, "x-obx-outbox-id")) {
        msg->outbox_id = (uint64_t)header->v.i64;
    }
}

/* A property that is there but empty says as little as an absent one. */
static struct obx_bytes not_empty(struct obx_bytes bytes)
{
    return bytes.len > 0 ? bytes : (struct obx_bytes){0};
}

uint64_t message_read(struct obx_message *msg, const struct bridge_delivery *delivery)
{
    uint64_t event_us = 0;
    const struct bridge_message *from = &delivery->msg;

    *msg = (struct obx_message){
        .message_id = not_empty(from->message_id),
        .topic = not_empty(from->type),
        .content_type = from->content_type,
        .body = from->body,
        .redelivered = delivery->redelivered,
        .headers = from->headers,
        .header_count = from->header_count,
    };
    for (size_t i = 0; i < from->header_count; i++)
        read_header(msg, &from->headers[i]);
    msg->message_id = not_empty(msg->message_id);
    msg->topic = not_empty(msg->topic);
    if (bytes_is_absent(msg->topic))
        msg->topic = from->routing_key;
    event_us = msg->created_us;
    if (event_us == 0)
        msg->created_us = from->timestamp_s * UINT64_C(1000000);
    return event_us;
}

const struct obx_header *obx_message_header(const struct obx_message *msg, const char *name)
{
    for (size_t i = 0; i < msg->header_count; i++) {
        if (bytes_is(msg->headers[i].name, name))
            return &msg->headers[i];
    }
    return NULL;
}
