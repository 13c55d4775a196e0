/*
 * One row on its way through a call: made by the keeper, called by the caller, given back with its
 * result, recorded and freed by the keeper. It belongs to one thread at a time.
 */
#ifndef NOTIFY_JOB_H
#define NOTIFY_JOB_H

#include "notify_config.h"
#include "outlet.h"

enum call_end {
    CALL_NOT_MADE,  /* given back as it was: recalled, or a stop. No attempt */
    CALL_DELIVERED, /* 2xx, whole and in time */
    CALL_FAILED,    /* anything else */
    CALL_GONE       /* 410: the endpoint wants no more */
};

enum { CALL_WHY_MAX = 200 };

struct call_result {
    enum call_end end;
    unsigned status;         /* 0: no answer */
    uint32_t retry_after_ms; /* 0: not asked for */
    uint64_t took_us;
    char why[CALL_WHY_MAX]; /* UTF-8 without control characters; "" for a success */
};

struct job {
    struct job *next;
    struct notify_config *config; /* a reference */
    const struct endpoint_config *endpoint;
    struct outlet *outlet;
    uint64_t id;
    uint64_t epoch;    /* of the lease under which it was read */
    uint32_t attempts; /* calls made before */
    /* Fit for a header: bytes that may not stand there are written as %XX. "" absent. */
    char *message_id, *topic, *ordering_key, *content_type, *source, *traceparent, *created_at;
    struct obx_buf texts; /* which holds them */
    struct obx_buf body;
    struct call_result result;
};

/** NULL is fine. */
void job_destroy(struct job *job);

/** At its end. A job is in one list at a time. */
void job_list_add(struct job_list *list, struct job *job);
/** Takes the first; NULL when it is empty. */
struct job *job_list_take(struct job_list *list);

enum { JOB_TEXTS = 7 };
/** Set the texts, in the order of the members; absent ones become "". OBX_E_NOMEM. */
OBX_NODISCARD enum obx_code job_set_texts(struct job *job, const struct obx_bytes *texts);

#endif
