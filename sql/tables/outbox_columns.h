/*
 * The columns that a message has in every table it rescans through (outbox, outbox_delayed,
 * outbox_awaiting, outbox_parked, half_part), so that a copy from one to the next names all of
 * them, and a new one is added here once.
 */
#ifndef TABLES_OUTBOX_COLUMNS_H
#define TABLES_OUTBOX_COLUMNS_H

/** By what a person knows a message: lists, logs, the audit tables. */
#define MESSAGE_NAME_COLUMNS "message_id, topic, ordering_key"

/** What a producer writes. A table that gives created_at again takes just these. */
#define MESSAGE_COLUMNS                                                                            \
    MESSAGE_NAME_COLUMNS ", headers, content_type, payload, receipt_from, on_rejected"

/** What outbox, outbox_awaiting and outbox_parked have in common, but for id. */
#define OUTBOX_COLUMNS MESSAGE_COLUMNS ", created_at"

#endif
