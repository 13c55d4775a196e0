/*
 * Looks at everything a relay needs and changes nothing: databases, their schema and grants, the
 * broker, the topology. Used by `outbox-relay --check` and `outboxctl check`. Waits for servers:
 * not for the main thread of a running relay.
 */
#ifndef DAEMON_CHECK_H
#define DAEMON_CHECK_H

#include "config/relay_config.h"

/** One thing that was looked at. Texts are borrowed for the call. */
struct check_line {
    bool is_ok;
    const char *subject; /* "database shop", "exchange rowpost" */
    const char *detail;  /* what was found */
    const char *fix;     /* what to do; "" when is_ok */
};
typedef void check_line_fn(const struct check_line *line, void *ctx);

struct check_out {
    check_line_fn *on_line;
    void *ctx;
    unsigned failed; /* counted here */
};

/** Look at all of it; on_line is called once for each thing. Returns whether none failed. */
bool check_run(const struct relay_config *config, struct check_out *out);
/** A check_line_fn that prints "ok ..." or "FAILED ... | fix: ..." to the FILE * in ctx. */
check_line_fn check_print_line;

/** How many messages are ready in a queue of the configured broker, and how many consumers it has.
 * Errors as bridge_queue_depth. */
OBX_NODISCARD enum obx_code check_queue_depth(const struct relay_config *config, const char *queue,
                                              uint64_t *messages, uint64_t *consumers,
                                              struct obx_err *err);

/* For the files of the check. */
void check_ok(struct check_out *out, const char *subject, const char *fmt, ...) OBX_PRINTF(3, 4);
void check_failed(struct check_out *out, const char *subject, const char *detail, const char *fix);
void check_source(const struct source_config *source, struct check_out *out);
void check_half(const struct relay_config *config, struct check_out *out);
void check_broker(const struct relay_config *config, struct check_out *out);

#endif
