/*
 * Jobs, lists of them, and texts made fit for an HTTP header. A job has one owner at a time (keeper,
 * handover, caller), which is why neither a job nor a list has a lock.
 */
#include "job.h"

#include "base/alloc.h"

void job_destroy(struct job *job)
{
    if (job == NULL)
        return;
    notify_config_unref(job->config);
    buf_fini(&job->texts);
    buf_fini(&job->body);
    obx_free(job);
}

void job_list_add(struct job_list *list, struct job *job)
{
    job->next = NULL;
    if (list->last != NULL)
        list->last->next = job;
    else
        list->first = job;
    list->last = job;
    list->count++;
}

struct job *job_list_take(struct job_list *list)
{
    struct job *job = list->first;

    if (job == NULL)
        return NULL;
    list->first = job->next;
    if (list->first == NULL)
        list->last = NULL;
    list->count--;
    job->next = NULL;
    return job;
}

/* Visible ASCII stands for itself, a blank too inside; '%' and all else is written as %XX, so that
 * a message cannot add a header, and the receiver can get the bytes back. `but` is one more
 * character that is not to stand there; 0: none. */
static enum obx_code add_header_text(struct obx_buf *buf, struct obx_bytes text, char but)
{
    const unsigned char *p = text.p;
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < text.len && rc == OBX_OK; i++) {
        bool is_inner_blank = p[i] == ' ' && i > 0 && i + 1 < text.len;

        if ((p[i] > ' ' && p[i] < 0x7F && p[i] != '%' && p[i] != (unsigned char)but) ||
            is_inner_blank)
            rc = buf_add(buf, &p[i], 1);
        else
            rc = buf_addf(buf, "%%%02X", p[i]);
    }
    return rc == OBX_OK ? buf_add(buf, "", 1) : rc;
}

enum obx_code job_set_texts(struct job *job, const struct obx_bytes *texts)
{
    char **const members[JOB_TEXTS] = {&job->message_id,   &job->topic,  &job->ordering_key,
                                       &job->content_type, &job->source, &job->traceparent,
                                       &job->created_at};
    size_t starts[JOB_TEXTS];
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < JOB_TEXTS && rc == OBX_OK; i++) {
        starts[i] = job->texts.len;
        /* What is signed is the id, the time and the body, joined by dots. */
        rc = add_header_text(&job->texts, texts[i], i == 0 ? '.' : '\0');
    }
    /* Only now: the buffer may have moved with each text. */
    for (size_t i = 0; i < JOB_TEXTS && rc == OBX_OK; i++)
        *members[i] = job->texts.data + starts[i];
    return rc;
}
