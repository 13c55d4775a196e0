/* What the files of the ledger share. */
#ifndef NOTIFY_LEDGER_PRIVATE_H
#define NOTIFY_LEDGER_PRIVATE_H

#include "ledger.h"

enum { LEDGER_US_PER_MS = 1000 };

/** Rows of inbox_call by their ids, as a table n. */
#define LEDGER_OF_IDS                                                                              \
    " " ID_LIST_TABLE " STRAIGHT_JOIN inbox_call n FORCE INDEX (PRIMARY) ON n.id = k.id"

#endif
