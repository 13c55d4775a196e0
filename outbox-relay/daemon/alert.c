/*
 * The alert. What was parked is the growth of the counters; what could not be said stays pending
 * and is said with the next call. The thread gets one body at a time.
 */
#include "alert.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "half_role.h"
#include "service/http_client.h"

enum { STATUS_GOOD = 200, STATUS_GOOD_END = 300, ANSWER_MAX = 64 * 1024, WAIT_MS = 1000 };

struct alert {
    struct alert_opts opts;
    char *url;
    struct http_client *client; /* the thread's */
    atomic_bool stop;
    struct thread thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock: */
    char *body;       /* to be sent; jansson's */
    uint64_t in_body; /* parked messages that it is about; 0: no call is in flight */
    uint64_t pending; /* parked messages that no call was about yet */
    struct alert_stats stats;
    /* The main thread's: */
    uint64_t due_ms;
    uint64_t last; /* the counters as they were seen last */
};

/* ---- the thread ---- */

/* One call, of the thread. */
struct post {
    bool is_done, is_good;
};

static void on_done(const struct http_answer *answer, void *ctx)
{
    struct post *post = ctx;

    post->is_done = true;
    post->is_good =
        answer->rc == OBX_OK && answer->status >= STATUS_GOOD && answer->status < STATUS_GOOD_END;
    if (!post->is_good && answer->rc != OBX_E_CLOSED)
        OBX_LOG(LOG_LVL_WARN, "alert", "alert.failed", KV_STR("why", answer->why),
                KV_U64("status", answer->status));
}

/* The answer says yes by its status; its body is nobody's business. A stop does not wait for it. */
static bool post_body(struct alert *alert, const char *body)
{
    struct http_headers headers = {0};
    const struct http_request request = {.method = HTTP_POST,
                                         .url = alert->url,
                                         .headers = &headers,
                                         .body = bytes_of(body),
                                         .timeout_ms = alert->opts.timeout_ms,
                                         .answer_max = ANSWER_MAX,
                                         .user_agent = "rowpost-alert"};
    struct post post = {.is_done = false};
    enum obx_code rc = http_headers_add(&headers, "Content-Type", "application/json");

    if (rc == OBX_OK)
        rc = http_client_start(alert->client, &request, on_done, &post, NULL);
    while (rc == OBX_OK && !post.is_done && !atomic_load(&alert->stop))
        http_client_service(alert->client, WAIT_MS);
    http_client_cancel(alert->client);
    http_headers_fini(&headers);
    return post.is_good;
}

/* The lock is held before and after. */
static void send_body(struct alert *alert)
{
    char *body = alert->body;
    bool is_answered = false;

    alert->body = NULL;
    (void)pthread_mutex_unlock(&alert->lock);
    is_answered = post_body(alert, body);
    free(body);
    (void)pthread_mutex_lock(&alert->lock);
    if (is_answered) {
        alert->stats.sent++;
        alert->pending -= alert->in_body;
    } else {
        alert->stats.failed++;
    }
    alert->in_body = 0;
}

static void *run(void *ctx)
{
    struct alert *alert = ctx;

    (void)pthread_mutex_lock(&alert->lock);
    while (!atomic_load(&alert->stop)) {
        if (alert->body != NULL)
            send_body(alert);
        else
            (void)pthread_cond_wait(&alert->changed, &alert->lock);
    }
    (void)pthread_mutex_unlock(&alert->lock);
    return NULL;
}

/* ---- the main thread ---- */

enum obx_code alert_create(const struct alert_opts *opts, struct alert **out, struct obx_err *err)
{
    struct alert *alert = obx_calloc(1, sizeof(*alert));
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (alert == NULL)
        return obx_fail(err, OBX_E_NOMEM, "alert");
    alert->opts = *opts;
    (void)pthread_mutex_init(&alert->lock, NULL);
    (void)pthread_cond_init(&alert->changed, NULL);
    alert->url = obx_strdup(opts->url);
    if (alert->url == NULL)
        rc = obx_fail(err, OBX_E_NOMEM, "alert");
    if (rc == OBX_OK)
        rc = http_client_create(1, &alert->client, err);
    if (rc == OBX_OK)
        rc = thread_start(&alert->thread, run, alert, "the alert", err);
    if (rc != OBX_OK) {
        alert_destroy(alert);
        return rc;
    }
    *out = alert;
    return OBX_OK;
}

void alert_destroy(struct alert *alert)
{
    if (alert == NULL)
        return;
    (void)pthread_mutex_lock(&alert->lock);
    atomic_store(&alert->stop, true);
    (void)pthread_cond_signal(&alert->changed);
    (void)pthread_mutex_unlock(&alert->lock);
    if (alert->thread.is_started)
        http_client_wake(alert->client);
    thread_join(&alert->thread);
    (void)pthread_cond_destroy(&alert->changed);
    (void)pthread_mutex_destroy(&alert->lock);
    free(alert->body);
    http_client_destroy(alert->client);
    obx_free(alert->url);
    obx_free(alert);
}

static uint64_t half_parked(const struct relay_view *view)
{
    return view->half != NULL && view->half->has_check ? view->half->check.parked : 0;
}

static uint64_t parked_so_far(const struct relay_view *view)
{
    uint64_t total = half_parked(view);

    for (size_t i = 0; i < view->lane_count; i++)
        total += view->lanes[i].stats.parked + view->lanes[i].stats.receipts_missing;
    return total;
}

/* What a person has to know to look; NULL when out of memory. */
static char *make_body(const struct alert *alert, const struct relay_view *view, uint64_t count)
{
    json_t *lanes = json_array();
    json_t *root = NULL;
    char *text = NULL;

    for (size_t i = 0; i < view->lane_count; i++) {
        const struct lane_view *lane = &view->lanes[i];

        if (lane->stats.parked_now + lane->stats.parked + lane->stats.receipts_missing > 0)
            json_array_append_new(
                lanes, json_pack("{s:s, s:s, s:I, s:I}", "source", lane->source, "outbox",
                                 lane->outbox, "parked", (json_int_t)lane->stats.parked_now,
                                 "frozen_keys", (json_int_t)lane->stats.frozen_keys));
    }
    root = json_pack("{s:s, s:s, s:I, s:I, s:o}", "event", "parked", "relay", alert->opts.owner,
                     "new", (json_int_t)count, "half_messages_parked",
                     (json_int_t)half_parked(view), "outboxes", lanes);
    if (root != NULL)
        text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

void alert_look(struct alert *alert, const struct relay_view *view)
{
    uint64_t total = 0;
    uint64_t now_ms = clock_now_ms();

    if (alert == NULL)
        return;
    total = parked_so_far(view);
    (void)pthread_mutex_lock(&alert->lock);
    /* A lane that was started again counts from zero. */
    alert->pending += total > alert->last ? total - alert->last : 0;
    alert->last = total;
    if (alert->pending > 0 && alert->in_body == 0 && now_ms >= alert->due_ms) {
        alert->body = make_body(alert, view, alert->pending);
        alert->in_body = alert->body == NULL ? 0 : alert->pending;
        alert->due_ms = now_ms + alert->opts.interval_ms;
        (void)pthread_cond_signal(&alert->changed);
    }
    (void)pthread_mutex_unlock(&alert->lock);
}

void alert_get_stats(struct alert *alert, struct alert_stats *out)
{
    (void)pthread_mutex_lock(&alert->lock);
    *out = alert->stats;
    (void)pthread_mutex_unlock(&alert->lock);
}
