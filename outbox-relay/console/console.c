/*
 * The server of the console: who asks, which page, and the way of a request to a thread and back.
 *
 *     waiting   in the queue, for a thread                          next: at work, late
 *     at work   a thread writes the page                            next: answered, late
 *     late      its time has passed: the peer was told so, and what the thread still writes is thrown
 *               away; an action is done all the same, and its row among the actions says what came of it
 *     answered  the page is out
 *
 * Invariant: an exchange and a configuration's references belong to the main thread; a thread has one
 * job, whole, and gives it back by `done`. Called by daemon.c.
 */
#include "console.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#include <event2/event.h>

#include "assets.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/wake.h"
#include "page.h"

enum {
    QUEUE_MAX = 32, /* requests that may wait for a thread; more are answered 503 at once */
    THREADS_MAX = 16,
    TICK_MS = 100,
    BODY_MAX = 256 * 1024,
    US_PER_MS = 1000,
    MS_PER_S = 1000
};

/* No inline style or script, nothing from elsewhere, no frame around us, no form to elsewhere. The
 * referrer stays within the origin, but there: without one a form's Origin would be "null". */
#define SAFE_FIELDS                                                                                \
    "Content-Security-Policy: default-src 'none'; style-src 'self'; script-src 'self'; img-src "   \
    "'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'\r\n"                      \
    "X-Frame-Options: DENY\r\nReferrer-Policy: same-origin\r\n"                                    \
    "Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n"

struct job {
    TAILQ_ENTRY(job) all;    /* the main thread's */
    TAILQ_ENTRY(job) queued; /* under the lock: waiting, or done */
    struct http_exchange *x; /* NULL: gone, or late */
    struct page page;
    page_fn *write;
    bool is_post;
};
TAILQ_HEAD(job_list, job);

struct console {
    struct console_opts opts;
    struct relay_config *config; /* [console] is that of the start; reference */
    struct http_server *server;
    struct wake wake;
    struct event *wake_event, *tick_event, *sample_event;
    struct job_list jobs; /* every one */
    struct samples samples;
    struct thread threads[THREADS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t has_work;
    struct job_list waiting, done; /* under the lock */
    size_t waiting_count;
    bool is_ending;
};

/* ---- routes ---- */

struct route {
    const char *path;
    page_fn *write;
    bool is_post;
    bool in_memory; /* needs no database: written at once, on the main thread */
    bool has_rest;  /* what follows the path is the page's own */
};

static const struct route routes[] = {
    {"/", page_overview, false, true, false},        {"/search", page_search, false, true, false},
    {"/m", page_message, false, false, true},        {"/parked/row", page_row, false, false, false},
    {"/dead/row", page_row, false, false, false},    {"/inbox/row", page_row, false, false, false},
    {"/notify/row", page_row, false, false, false},  {"/half/row", page_row, false, false, false},
    {"/parked/act", page_act, true, false, false},   {"/dead/act", page_act, true, false, false},
    {"/inbox/act", page_act, true, false, false},    {"/notify/act", page_act, true, false, false},
    {"/half/act", page_act, true, false, false},     {"/parked", page_rows, false, false, false},
    {"/dead", page_rows, false, false, false},       {"/inbox", page_rows, false, false, false},
    {"/notify", page_rows, false, false, false},     {"/half", page_rows, false, false, false},
    {"/frozen", page_frozen, false, false, false},   {"/fleet", page_fleet, false, false, false},
    {"/actions", page_actions, false, false, false},
};

static const struct route *find_route(const char *path)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        const size_t len = strlen(routes[i].path);

        if (strcmp(path, routes[i].path) == 0 ||
            (routes[i].has_rest && strncmp(path, routes[i].path, len) == 0 && path[len] == '/'))
            return &routes[i];
    }
    return NULL;
}

/* The path without the prefix under which a proxy may have put us. False: it is none of ours. */
static bool local_path(const struct console *console, const struct http_exchange *x, char *path)
{
    const char *prefix = console->config->console.prefix;
    char text[PAGE_PATH_MAX];

    if (!http_decode(http_path(x), text, sizeof(text)) ||
        strncmp(text, prefix, strlen(prefix)) != 0)
        return false;
    snprintf(path, PAGE_PATH_MAX, "%s", text + strlen(prefix));
    if (path[0] == '\0')
        snprintf(path, PAGE_PATH_MAX, "/");
    return path[0] == '/';
}

/* ---- answers ---- */

static void answer_plain(struct http_exchange *x, int status, const char *fields, const char *text)
{
    const struct http_response answer = {
        .status = status, .fields = fields, .body = bytes_of(text)};

    http_respond(x, &answer);
}

static void answer_page(struct http_exchange *x, struct page *page)
{
    struct obx_buf fields = {0};
    struct http_response answer = {.status = page->status, .content_type = page->type};

    if (page->out.rc != OBX_OK) {
        answer_plain(x, 500, SAFE_FIELDS, "out of memory\n");
        return;
    }
    buf_addf(&fields, "%sServer-Timing: db;desc=\"%llu statements\"\r\n%s%s%s", SAFE_FIELDS,
             (unsigned long long)page->statements,
             page->location[0] == '\0' ? "" : "Location: ", page->location,
             page->location[0] == '\0' ? "" : "\r\n");
    answer.fields = fields.data == NULL ? SAFE_FIELDS : fields.data;
    answer.body = page->out.len == 0 ? (struct obx_bytes){"", 0} : buf_bytes(&page->out);
    http_respond(x, &answer);
    buf_fini(&fields);
}

static void answer_asset(struct http_exchange *x, const struct asset *asset)
{
    const struct http_response answer = {.status = 200,
                                         .content_type = asset->type,
                                         .fields = SAFE_FIELDS,
                                         .body = {.p = asset->data, .len = asset->len}};

    http_respond(x, &answer);
}

static const struct asset *find_asset(const char *path)
{
    for (size_t i = 0; i < asset_count; i++)
        if (strcmp(path + 1, assets[i].name) == 0)
            return &assets[i];
    return NULL;
}

/* ---- requests ---- */

static struct access_claim claim_of(const struct http_exchange *x)
{
    return (struct access_claim){.peer = http_peer(x),
                                 .authorization = http_field(x, "Authorization"),
                                 .fetch_site = http_field(x, "Sec-Fetch-Site"),
                                 .origin = http_field(x, "Origin"),
                                 .host = http_field(x, "Host")};
}

static struct access access_for(const struct console *console, const struct http_exchange *x)
{
    const struct console_config *config = &console->config->console;
    struct access_claim claim = claim_of(x);

    claim.user = http_field(x, config->proxy_user_header);
    claim.role = http_field(x, config->proxy_role_header);
    return access_of(config, &claim);
}

/* By the head alone: what may not be asked sends no body first. */
static bool on_head(struct http_exchange *x, void *ctx)
{
    const struct console *console = ctx;
    const bool is_post = strcmp(http_method(x), "POST") == 0;
    const char *type = http_field(x, "Content-Type");
    const struct access_claim claim = claim_of(x);
    const struct route *route;
    char path[PAGE_PATH_MAX];

    if (!local_path(console, x, path) || (find_asset(path) == NULL && find_route(path) == NULL)) {
        answer_plain(x, 404, SAFE_FIELDS, "there is no such page\n");
        return false;
    }
    route = find_route(path);
    if (!is_post && strcmp(http_method(x), "GET") != 0)
        answer_plain(x, 405, SAFE_FIELDS "Allow: GET, HEAD, POST\r\n", "GET or POST\n");
    else if (route != NULL && access_for(console, x).role == ROLE_NONE)
        answer_plain(x, 401,
                     SAFE_FIELDS "WWW-Authenticate: Basic realm=\"Rowpost\", charset=\"UTF-8\"\r\n",
                     "your name, and the token of a role as the password\n");
    else if (is_post != (route != NULL && route->is_post))
        answer_plain(x, 405,
                     is_post ? SAFE_FIELDS "Allow: GET, HEAD\r\n" : SAFE_FIELDS "Allow: POST\r\n",
                     is_post ? "GET only\n" : "POST only\n");
    else if (is_post && !access_is_ours(&claim))
        answer_plain(x, 403, SAFE_FIELDS, "this request comes from another site\n");
    else if (is_post &&
             (type == NULL || strncasecmp(type, "application/x-www-form-urlencoded",
                                          strlen("application/x-www-form-urlencoded")) != 0))
        answer_plain(x, 415, SAFE_FIELDS, "a form is expected\n");
    else
        return true;
    return false;
}

static void free_job(struct console *console, struct job *job)
{
    TAILQ_REMOVE(&console->jobs, job, all);
    params_fini(&job->page.params);
    buf_fini(&job->page.out);
    relay_config_unref(job->page.config);
    obx_free(job);
}

static bool fill_page(struct console *console, struct http_exchange *x, struct page *page)
{
    const char *query = http_query(x);
    const char *format;

    page->console = &console->config->console;
    page->config = relay_config_ref(console->opts.get_config(console->opts.ctx));
    page->access = access_for(console, x);
    page->status = 200;
    if (!local_path(console, x, page->path) ||
        !params_parse(&page->params, bytes_of(query == NULL ? "" : query)) ||
        !params_parse(&page->params, http_body(x)))
        return false;
    format = params_get(&page->params, "format");
    if (format != NULL && strcmp(format, "json") == 0)
        page->format = FORMAT_JSON;
    if (format != NULL && strcmp(format, "csv") == 0)
        page->format = FORMAT_CSV;
    return true;
}

static void arm_tick(struct console *console)
{
    const struct timeval tick = {.tv_usec = (suseconds_t)TICK_MS * US_PER_MS};

    if (!TAILQ_EMPTY(&console->jobs) && !evtimer_pending(console->tick_event, NULL))
        evtimer_add(console->tick_event, &tick);
}

static void write_now(struct console *console, struct job *job)
{
    struct console_view view = {0};

    console->opts.get_view(&view, console->opts.ctx);
    job->page.view = &view;
    job->page.samples = &console->samples;
    job->write(&job->page);
    answer_page(job->x, &job->page);
    free_job(console, job);
}

/* False: so many wait already. */
static bool hand_over(struct console *console, struct job *job)
{
    bool has_room;

    pthread_mutex_lock(&console->lock);
    has_room = console->waiting_count < QUEUE_MAX;
    if (has_room) {
        TAILQ_INSERT_TAIL(&console->waiting, job, queued);
        console->waiting_count++;
        pthread_cond_signal(&console->has_work);
    }
    pthread_mutex_unlock(&console->lock);
    return has_room;
}

static void on_request(struct http_exchange *x, void *ctx)
{
    struct console *console = ctx;
    struct job *job = obx_calloc(1, sizeof(*job));
    const struct route *route;
    char path[PAGE_PATH_MAX] = "";

    (void)local_path(console, x, path);
    route = find_route(path);
    if (route == NULL && job != NULL) {
        answer_asset(x, find_asset(path));
        obx_free(job);
        return;
    }
    if (job == NULL) {
        answer_plain(x, 503, SAFE_FIELDS, "out of memory\n");
        return;
    }
    TAILQ_INSERT_TAIL(&console->jobs, job, all);
    job->x = x;
    job->write = route->write;
    job->is_post = route->is_post;
    job->page.due_ms = clock_now_ms() + console->config->console.deadline_ms;
    if (!fill_page(console, x, &job->page)) {
        answer_plain(x, 400, SAFE_FIELDS, "the parameters are malformed, or too many\n");
        free_job(console, job);
        return;
    }
    job->page.rest = job->page.path + strlen(route->path);
    http_set_user(x, job);
    if (route->in_memory) {
        write_now(console, job);
    } else if (hand_over(console, job)) {
        arm_tick(console);
    } else {
        answer_plain(x, 503, SAFE_FIELDS "Retry-After: 2\r\n",
                     "too many pages wait for a database; ask again\n");
        free_job(console, job);
    }
}

static void on_gone(struct http_exchange *x, void *ctx)
{
    struct job *job = http_user(x);

    (void)ctx;
    if (job != NULL)
        job->x = NULL;
}

/* ---- the threads ---- */

static void *work(void *ctx)
{
    struct console *console = ctx;

    pthread_mutex_lock(&console->lock);
    while (!console->is_ending) {
        struct job *job = TAILQ_FIRST(&console->waiting);

        if (job == NULL) {
            pthread_cond_wait(&console->has_work, &console->lock);
            continue;
        }
        TAILQ_REMOVE(&console->waiting, job, queued);
        console->waiting_count--;
        pthread_mutex_unlock(&console->lock);
        job->write(&job->page);
        pthread_mutex_lock(&console->lock);
        TAILQ_INSERT_TAIL(&console->done, job, queued);
        wake_up(&console->wake);
    }
    pthread_mutex_unlock(&console->lock);
    db_thread_end();
    return NULL;
}

static void on_done(evutil_socket_t fd, short what, void *ctx)
{
    struct console *console = ctx;
    struct job *job;

    (void)fd;
    (void)what;
    (void)wake_clear(&console->wake);
    for (;;) {
        pthread_mutex_lock(&console->lock);
        job = TAILQ_FIRST(&console->done);
        if (job != NULL)
            TAILQ_REMOVE(&console->done, job, queued);
        pthread_mutex_unlock(&console->lock);
        if (job == NULL)
            return;
        if (job->x != NULL)
            answer_page(job->x, &job->page);
        free_job(console, job);
    }
}

/* The thread goes on with it; nobody waits any more. */
static void tell_late(struct console *console, struct job *job)
{
    struct page page = {.console = &console->config->console, .format = job->page.format};

    page.access = job->page.access;
    page_say(&page, 504, "The database did not answer",
             job->is_post
                 ? "Within %u ms there was no answer. What was asked for is still being done; "
                   "the page Actions says what came of it."
                 : "Within %u ms there was no answer. Messages are not held up by this page.",
             (unsigned)console->config->console.deadline_ms);
    answer_page(job->x, &page);
    buf_fini(&page.out);
    job->x = NULL;
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
    struct console *console = ctx;
    const uint64_t now_ms = clock_now_ms();
    struct job *job;

    (void)fd;
    (void)what;
    TAILQ_FOREACH(job, &console->jobs, all)
    {
        if (job->x != NULL && now_ms >= job->page.due_ms)
            tell_late(console, job);
    }
    arm_tick(console);
}

static void on_sample(evutil_socket_t fd, short what, void *ctx)
{
    struct console *console = ctx;
    struct samples *samples = &console->samples;
    struct sample sample = {0};
    struct console_view view = {0};

    (void)fd;
    (void)what;
    console->opts.get_view(&view, console->opts.ctx);
    for (size_t i = 0; i < view.lane_count; i++) {
        sample.confirmed += view.lanes[i].confirmed;
        sample.waiting += view.lanes[i].waiting;
        if (view.lanes[i].oldest_us > sample.oldest_us)
            sample.oldest_us = view.lanes[i].oldest_us;
    }
    samples->items[samples->next] = sample;
    samples->next = (samples->next + 1) % SAMPLES;
    samples->count += samples->count < SAMPLES;
}

/* ---- life ---- */

static enum obx_code start_events(struct console *console, struct obx_err *err)
{
    const struct timeval every = {.tv_sec = SAMPLE_MS / MS_PER_S};
    struct event_base *base = console->opts.base;
    enum obx_code rc = wake_init(&console->wake, err);

    if (rc != OBX_OK)
        return rc;
    console->wake_event = event_new(base, console->wake.fd, EV_READ | EV_PERSIST, on_done, console);
    console->tick_event = evtimer_new(base, on_tick, console);
    console->sample_event = event_new(base, -1, EV_PERSIST, on_sample, console);
    if (console->wake_event == NULL || console->tick_event == NULL ||
        console->sample_event == NULL || event_add(console->wake_event, NULL) != 0 ||
        event_add(console->sample_event, &every) != 0)
        return obx_fail(err, OBX_E_NOMEM, "console");
    return OBX_OK;
}

enum obx_code console_create(const struct console_opts *opts, struct console **out,
                             struct obx_err *err)
{
    static const struct http_ops ops = {
        .on_head = on_head, .on_request = on_request, .on_gone = on_gone};
    struct console *console = obx_calloc(1, sizeof(*console));
    struct http_opts http;
    enum obx_code rc;

    *out = NULL;
    if (console == NULL)
        return obx_fail(err, OBX_E_NOMEM, "console");
    console->opts = *opts;
    console->wake.fd = -1;
    TAILQ_INIT(&console->jobs);
    TAILQ_INIT(&console->waiting);
    TAILQ_INIT(&console->done);
    pthread_mutex_init(&console->lock, NULL);
    cond_init(&console->has_work);
    console->config = relay_config_ref(opts->get_config(opts->ctx));
    http = console->config->console.http;
    http.base = opts->base;
    http.ops = &ops;
    http.ctx = console;
    http.limits.body_bytes = BODY_MAX;
    rc = start_events(console, err);
    for (uint32_t i = 0; i < console->config->console.threads && i < THREADS_MAX && rc == OBX_OK;
         i++)
        rc = thread_start(&console->threads[i], work, console, "console", err);
    if (rc == OBX_OK)
        rc = http_server_create(&http, &console->server, err);
    if (rc != OBX_OK) {
        console_destroy(console);
        return rc;
    }
    OBX_LOG(LOG_LVL_INFO, "console", "started", KV_STR("address", http.address),
            KV_U64("port", http_server_port(console->server)));
    *out = console;
    return OBX_OK;
}

void console_destroy(struct console *console)
{
    if (console == NULL)
        return;
    http_server_destroy(console->server);
    pthread_mutex_lock(&console->lock);
    console->is_ending = true;
    pthread_cond_broadcast(&console->has_work);
    pthread_mutex_unlock(&console->lock);
    for (size_t i = 0; i < THREADS_MAX; i++)
        thread_join(&console->threads[i]);
    while (!TAILQ_EMPTY(&console->jobs))
        free_job(console, TAILQ_FIRST(&console->jobs));
    if (console->wake_event != NULL)
        event_free(console->wake_event);
    if (console->tick_event != NULL)
        event_free(console->tick_event);
    if (console->sample_event != NULL)
        event_free(console->sample_event);
    wake_fini(&console->wake);
    pthread_cond_destroy(&console->has_work);
    pthread_mutex_destroy(&console->lock);
    relay_config_unref(console->config);
    obx_free(console);
}
