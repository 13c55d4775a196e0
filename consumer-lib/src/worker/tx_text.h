/*
 * What the text of a statement shows: whether it begins or ends a transaction, by itself or, as DDL
 * does, on the way.
 */
#ifndef CONSUMER_TX_TEXT_H
#define CONSUMER_TX_TEXT_H

#include <stdbool.h>

/** Whether the server would end the open transaction for it. A CALL, or a text made up by PREPARE,
 * does not show it: false. */
bool tx_text_ends(const char *sql);

#endif
