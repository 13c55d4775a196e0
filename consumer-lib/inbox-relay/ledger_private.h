/* What the files of the ledger share. */
#ifndef NOTIFY_LEDGER_PRIVATE_H
#define NOTIFY_LEDGER_PRIVATE_H

#include "ledger.h"

enum { LEDGER_US_PER_MS = 1000 };

/** BEGIN and the check of the lease, which also renews it. On failure nothing is open. */
OBX_NODISCARD enum obx_code ledger_begin(struct ledger *ledger, struct obx_err *err);
/** COMMIT. On failure nothing is open. */
OBX_NODISCARD enum obx_code ledger_commit(struct ledger *ledger, struct obx_err *err);
/** Start, go on with and end a JSON array of ids in ledger->ids. */
OBX_NODISCARD enum obx_code ledger_add_id(struct ledger *ledger, uint64_t id);
/** The array, ended; "[]" when nothing was added. Absent: no memory. */
struct obx_bytes ledger_ids(struct ledger *ledger);

#endif
