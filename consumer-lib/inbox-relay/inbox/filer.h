/*
 * The filer: a thread with a database connection of its own that files the rows which the service's
 * workers, or an operator, have ended: receipt, removal, and the look whether the next one of the
 * key has been made ready. What it does is right when it is done twice, or by two processes.
 */
#ifndef INBOX_FILER_H
#define INBOX_FILER_H

#include "base/bytes.h"
#include "counts.h"
#include "inbox.h"
#include "wake.h"

struct filer;

/** opts, counts and waker are borrowed. Connects to nothing yet. */
OBX_NODISCARD enum obx_code filer_create(const struct inbox_opts *opts, struct counts *counts,
                                         struct waker *waker, struct filer **out,
                                         struct obx_err *err);
OBX_NODISCARD enum obx_code filer_start(struct filer *filer, struct obx_err *err);
/** Ends soon; what it has claimed is filed again later. Any thread. */
void filer_stop(struct filer *filer);
bool filer_has_ended(const struct filer *filer);
/** Stop, wait, free. NULL is fine. */
void filer_destroy(struct filer *filer);

/** Rows of these keys (hashes) were committed: see whether one of them waits for nothing. Also
 * without keys it means that there is traffic. Any thread. */
void filer_look_at(struct filer *filer, const struct obx_buf *keys);
/** Another copy of a stored message has come: see whether the row is there. Any thread. */
void filer_expect(struct filer *filer, struct obx_bytes message_id, uint64_t stored_id);
/** Why it does not work; "" when it does. Any thread. */
void filer_get_trouble(struct filer *filer, char *text, size_t size);

#endif
