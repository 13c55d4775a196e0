/*
 * A row becomes a delivery that no broker has made, and that an item: so a handler sees the same
 * message that it would have seen at once.
 */
#include "parked_item.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "props.h"

enum {
    COL_ID,
    COL_MESSAGE_ID,
    COL_ATTEMPTS,
    COL_EXCHANGE,
    COL_ROUTING_KEY,
    COL_PROPERTIES,
    COL_BODY,
    COL_REASON_CODE,
    COL_REASON,
    COL_FIRST_FAILED_AT,
    COL_LAST_FAILED_AT
};

/* All bytes of the message in one block behind the struct and its headers, as the bridge does. */
static struct obx_bytes place(char **at, struct obx_bytes from)
{
    struct obx_bytes to = {*at, from.len};

    if (from.len > 0)
        memcpy(*at, from.p, from.len);
    *at += from.len;
    return to;
}

static struct bridge_delivery *make_delivery(const struct db_rows *rows,
                                             const struct obx_buf *whole_body)
{
    const struct obx_bytes props = db_rows_bytes(rows, COL_PROPERTIES);
    const struct obx_bytes id = db_rows_bytes(rows, COL_MESSAGE_ID);
    const struct obx_bytes exchange = db_rows_bytes(rows, COL_EXCHANGE);
    const struct obx_bytes routing_key = db_rows_bytes(rows, COL_ROUTING_KEY);
    const struct obx_bytes body =
        whole_body != NULL ? buf_bytes(whole_body) : db_rows_bytes(rows, COL_BODY);
    const size_t headers = props_header_count(props) * sizeof(struct obx_header);
    const size_t size = sizeof(struct bridge_delivery) + headers + props.len + id.len +
                        exchange.len + routing_key.len + body.len;
    struct bridge_delivery *delivery = obx_calloc(1, size);
    char *at = NULL;

    if (delivery == NULL)
        return NULL;
    at = (char *)(delivery + 1) + headers;
    props_read(props, at, (struct obx_header *)(void *)(delivery + 1), &delivery->msg);
    at += props.len;
    delivery->memory_bytes = size;
    delivery->redelivered = true;
    delivery->msg.message_id = place(&at, id);
    delivery->msg.exchange = place(&at, exchange);
    delivery->msg.routing_key = place(&at, routing_key);
    delivery->msg.body = place(&at, body);
    return delivery;
}

static enum obx_code code_of(struct obx_bytes name)
{
    static const enum obx_code codes[] = {
#define OBX_X(code, value, action, text) code,
        OBX_CODES(OBX_X)
#undef OBX_X
    };

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (bytes_is(name, obx_code_name(codes[i])))
            return codes[i];
    }
    return OBX_E_HANDLER;
}

enum obx_code parked_item_create(const struct db_rows *rows, const struct obx_buf *whole_body,
                                 struct counters *counters, struct item **out)
{
    struct bridge_delivery *delivery = make_delivery(rows, whole_body);
    struct item *item = NULL;

    *out = NULL;
    if (delivery == NULL)
        return OBX_E_NOMEM;
    if (item_create(delivery, counters, &item) != OBX_OK) {
        bridge_delivery_free(delivery);
        return OBX_E_NOMEM;
    }
    /* One that came without an id has the one under which it was parked. */
    item->msg.message_id = delivery->msg.message_id;
    item->parked_id = db_rows_u64(rows, COL_ID);
    item->attempts = (uint32_t)db_rows_u64(rows, COL_ATTEMPTS);
    item->why.code = code_of(db_rows_bytes(rows, COL_REASON_CODE));
    (void)bytes_to_text(db_rows_bytes(rows, COL_REASON), item->why.text, sizeof(item->why.text));
    (void)bytes_to_text(db_rows_bytes(rows, COL_FIRST_FAILED_AT), item->first_failed_at,
                        sizeof(item->first_failed_at));
    (void)bytes_to_text(db_rows_bytes(rows, COL_LAST_FAILED_AT), item->last_failed_at,
                        sizeof(item->last_failed_at));
    *out = item;
    return OBX_OK;
}
