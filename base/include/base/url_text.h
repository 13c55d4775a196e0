/*
 * A URL as it may be shown, in a dump, a log or an answer: what stands for a password in it is
 * "***". Pure. Proved by tests/unit/config_print_test.c.
 */
#ifndef BASE_URL_TEXT_H
#define BASE_URL_TEXT_H

#include "base/bytes.h"

/** Append text; of each URL in it without user and password (`//user:pw@host`) and without the
 * values of its query (`?token=...`), which are often keys. OBX_E_NOMEM. */
enum obx_code url_add_shown(struct obx_buf *out, struct obx_bytes text);

#endif
