/*
 * The alert. What was parked is the growth of the counters; what could not be said stays pending
 * and is said with the next call. The thread gets one body at a time.
 */
#include "alert.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>
#include <jansson.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "half_role.h"
#include "service/signals.h"

enum { STATUS_GOOD = 200, STATUS_GOOD_END = 300 };

struct alert {
    struct alert_opts opts;
    char *url;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock: */
    char *body;       /* to be sent; jansson's */
    uint64_t in_body; /* parked messages that it is about; 0: no call is under way */
    uint64_t pending; /* parked messages that nobody was told of yet */
    bool stop;
    struct alert_stats stats;
    /* The main thread's: */
    uint64_t due_ms;
    uint64_t last; /* the counters as they were seen last */
};

/* ---- the thread ---- */

static size_t swallow(char *data, size_t size, size_t count, void *ctx)
{
    (void)data;
    (void)ctx;
    return size * count;
}

/* Only what was configured is called: no redirect. */
static bool set_up(CURL *curl, const struct alert *alert, const char *body,
                   struct curl_slist *headers)
{
    return curl_easy_setopt(curl, CURLOPT_URL, alert->url) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)alert->opts.timeout_ms) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, swallow) == CURLE_OK;
}

static bool post(const struct alert *alert, const char *body)
{
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    CURLcode rc = CURLE_FAILED_INIT;
    long status = 0;

    if (curl != NULL && set_up(curl, alert, body, headers))
        rc = curl_easy_perform(curl);
    if (rc == CURLE_OK)
        rc = curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    if (rc == CURLE_OK && status >= STATUS_GOOD && status < STATUS_GOOD_END)
        return true;
    OBX_LOG(LOG_LVL_WARN, "alert", "alert.failed", KV_STR("why", curl_easy_strerror(rc)),
            KV_I64("status", status));
    return false;
}

/* The lock is held before and after. */
static void send_body(struct alert *alert)
{
    char *body = alert->body;
    bool is_answered = false;

    alert->body = NULL;
    (void)pthread_mutex_unlock(&alert->lock);
    is_answered = post(alert, body);
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
    while (!alert->stop) {
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
    sigset_t old;
    int failed = 0;

    *out = NULL;
    if (alert == NULL)
        return obx_fail(err, OBX_E_NOMEM, "alert");
    alert->opts = *opts;
    alert->url = obx_strdup(opts->url);
    if (alert->url == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        obx_free(alert->url);
        obx_free(alert);
        return obx_fail(err, OBX_E_NOMEM, "alert");
    }
    (void)pthread_mutex_init(&alert->lock, NULL);
    (void)pthread_cond_init(&alert->changed, NULL);
    signals_block(&old);
    failed = pthread_create(&alert->thread, NULL, run, alert);
    signals_restore(&old);
    if (failed != 0) {
        (void)pthread_cond_destroy(&alert->changed);
        (void)pthread_mutex_destroy(&alert->lock);
        obx_free(alert->url);
        obx_free(alert);
        return obx_fail_sys(err, OBX_E_SYSTEM, failed, "thread of the alert");
    }
    *out = alert;
    return OBX_OK;
}

void alert_destroy(struct alert *alert)
{
    if (alert == NULL)
        return;
    (void)pthread_mutex_lock(&alert->lock);
    alert->stop = true;
    (void)pthread_cond_signal(&alert->changed);
    (void)pthread_mutex_unlock(&alert->lock);
    (void)pthread_join(alert->thread, NULL);
    (void)pthread_cond_destroy(&alert->changed);
    (void)pthread_mutex_destroy(&alert->lock);
    free(alert->body);
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
    /* A lane that was started anew counts from zero. */
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
