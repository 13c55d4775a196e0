/* See fleet.h. */
#include "fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/bytes.h"
#include "base/fail.h"
#include "base/log.h"
#include "base/thread.h"
#include "share.h"
#include "tables/relays.h"

enum {
    RELAYS_MAX = 256,
    NAME_MAX_BYTES = 129,
    LOOK_PART = 3, /* looks, and renewals, within a lease */
    RETRY_MIN_MS = 200,
    RETRY_CAP_MS = 5000,
};

struct member {
    char name[NAME_MAX_BYTES];
    char address[FLEET_ADDRESS_MAX];
};

struct place {
    const char *outbox;
    bool was_surplus;  /* at the last look another was to have it: one look may be of the moment in
                          which somebody else's row was written */
    bool is_elsewhere; /* under the lock, as the address */
    char address[FLEET_ADDRESS_MAX];
};

struct fleet {
    struct fleet_opts opts;
    struct thread thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock: */
    bool stop, has_ended;
    struct fleet_view view;
    /* The thread's own. */
    struct db *db;
    struct backoff backoff;
    struct obx_buf list;  /* the names of the outboxes in order, with commas */
    struct place *places; /* in the order of their names */
    struct share_lane *lanes;
    struct member *members; /* room for RELAYS_MAX, as relays */
    struct share_relay *relays;
    size_t relay_count;
};

/* ---------------------------------------------------------------- one look */

static enum obx_code read_relays(struct fleet *fleet, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = relays_list(fleet->db, fleet->list.data, RELAYS_MAX, &rows, err);

    fleet->relay_count = 0;
    while (rc == OBX_OK && db_rows_next(rows)) {
        struct member *member = &fleet->members[fleet->relay_count];

        (void)bytes_to_text(db_rows_bytes(rows, 0), member->name, sizeof(member->name));
        (void)bytes_to_text(db_rows_bytes(rows, 2), member->address, sizeof(member->address));
        fleet->relays[fleet->relay_count++] =
            (struct share_relay){.name = member->name, .weight = (uint32_t)db_rows_u64(rows, 1)};
    }
    db_rows_free(rows);
    return rc;
}

static size_t find_relay(const struct fleet *fleet, struct obx_bytes name)
{
    for (size_t i = 0; i < fleet->relay_count; i++) {
        if (bytes_is(name, fleet->members[i].name))
            return i;
    }
    return SHARE_NONE;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct place *)a)->outbox, ((const struct place *)b)->outbox);
}

static enum obx_code read_leases(struct fleet *fleet, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = relays_leases(fleet->db, &rows, err);

    for (size_t i = 0; i < fleet->opts.outbox_count; i++)
        fleet->lanes[i].owner = SHARE_NONE;
    while (rc == OBX_OK && db_rows_next(rows)) {
        char outbox[NAME_MAX_BYTES];
        const struct place key = {.outbox = outbox};
        const struct place *place = NULL;

        (void)bytes_to_text(db_rows_bytes(rows, 0), outbox, sizeof(outbox));
        place = bsearch(&key, fleet->places, fleet->opts.outbox_count, sizeof(key), by_name);
        if (place != NULL)
            fleet->lanes[place - fleet->places].owner = find_relay(fleet, db_rows_bytes(rows, 1));
    }
    db_rows_free(rows);
    return rc;
}

/* me: SHARE_NONE when nothing is known. Whether anything has changed. */
static bool publish(struct fleet *fleet, size_t me, const struct obx_err *err)
{
    const size_t relays = me == SHARE_NONE ? 0 : fleet->relay_count;
    bool has_changed = false;
    size_t mine = 0;

    pthread_mutex_lock(&fleet->lock);
    for (size_t i = 0; i < fleet->opts.outbox_count; i++) {
        struct place *place = &fleet->places[i];
        const size_t relay = me == SHARE_NONE ? SHARE_NONE : fleet->lanes[i].relay;
        const bool is_surplus = relay != SHARE_NONE && relay != me;
        const bool is_elsewhere = is_surplus && place->was_surplus;

        mine += me != SHARE_NONE && relay == me;
        has_changed = has_changed || is_elsewhere != place->is_elsewhere;
        place->was_surplus = is_surplus;
        place->is_elsewhere = is_elsewhere;
        (void)snprintf(place->address, sizeof(place->address), "%s",
                       is_elsewhere ? fleet->members[relay].address : "");
    }
    has_changed = has_changed || fleet->view.relays != relays || fleet->view.mine != mine;
    fleet->view.relays = relays;
    fleet->view.mine = mine;
    (void)snprintf(fleet->view.trouble, sizeof(fleet->view.trouble), "%s",
                   err == NULL ? "" : err->text);
    pthread_mutex_unlock(&fleet->lock);
    return has_changed;
}

static enum obx_code look(struct fleet *fleet, struct obx_err *err)
{
    const struct relays_row row = {.relay = fleet->opts.relay,
                                   .outboxes = fleet->list.data,
                                   .version = fleet->opts.version,
                                   .address = fleet->opts.address,
                                   .weight = fleet->opts.weight,
                                   .lease_ms = fleet->opts.lease_ms};
    enum obx_code rc = OBX_OK;

    if (fleet->db == NULL)
        rc = db_open(&fleet->opts.db, &fleet->db, err);
    if (rc == OBX_OK)
        rc = relays_renew(fleet->db, &row, err);
    if (rc == OBX_OK)
        rc = read_relays(fleet, err);
    if (rc == OBX_OK)
        rc = read_leases(fleet, err);
    return rc;
}

/* How long to wait until the next one. */
static uint32_t look_and_share(struct fleet *fleet)
{
    struct obx_err err = {0};
    size_t me = SHARE_NONE;
    bool has_changed = false;

    if (look(fleet, &err) == OBX_OK) {
        backoff_reset(&fleet->backoff);
        me = find_relay(fleet, bytes_of(fleet->opts.relay));
        share_out(fleet->relays, fleet->relay_count, fleet->lanes, fleet->opts.outbox_count);
        has_changed = publish(fleet, me, NULL);
        if (has_changed)
            OBX_LOG(LOG_LVL_INFO, "fleet", "shared", KV_STR("source", fleet->opts.source),
                    KV_U64("relays", fleet->view.relays), KV_U64("lanes", fleet->opts.outbox_count),
                    KV_U64("mine", fleet->view.mine));
    } else {
        db_close(fleet->db);
        fleet->db = NULL;
        has_changed = publish(fleet, SHARE_NONE, &err);
        if (has_changed)
            OBX_LOG(LOG_LVL_WARN, "fleet", "not_known", KV_STR("source", fleet->opts.source),
                    KV_ERR(&err));
    }
    if (has_changed)
        wake_up(fleet->opts.news);
    return me == SHARE_NONE ? backoff_next_ms(&fleet->backoff) : fleet->opts.lease_ms / LOOK_PART;
}

/* ---------------------------------------------------------------- the thread */

static void *run(void *ctx)
{
    struct fleet *fleet = ctx;

    pthread_mutex_lock(&fleet->lock);
    while (!fleet->stop) {
        uint32_t wait_ms = 0;

        pthread_mutex_unlock(&fleet->lock);
        wait_ms = look_and_share(fleet);
        pthread_mutex_lock(&fleet->lock);
        if (!fleet->stop)
            (void)cond_wait_ms(&fleet->changed, &fleet->lock, wait_ms);
    }
    pthread_mutex_unlock(&fleet->lock);
    /* The others take its lanes now; without this they would when the row has expired. */
    if (fleet->db != NULL && relays_leave(fleet->db, fleet->opts.relay, NULL) != OBX_OK)
        OBX_LOG(LOG_LVL_INFO, "fleet", "not_left", KV_STR("source", fleet->opts.source));
    db_close(fleet->db);
    fleet->db = NULL;
    db_thread_end();
    pthread_mutex_lock(&fleet->lock);
    fleet->has_ended = true;
    pthread_mutex_unlock(&fleet->lock);
    wake_up(fleet->opts.news);
    return NULL;
}

/* ---------------------------------------------------------------- life */

static enum obx_code list_outboxes(struct fleet *fleet, struct obx_err *err)
{
    enum obx_code rc = OBX_OK;

    for (size_t i = 0; i < fleet->opts.outbox_count; i++)
        fleet->places[i].outbox = fleet->opts.outboxes[i];
    qsort(fleet->places, fleet->opts.outbox_count, sizeof(*fleet->places), by_name);
    for (size_t i = 0; i < fleet->opts.outbox_count && rc == OBX_OK; i++)
        rc = buf_addf(&fleet->list, i == 0 ? "%s" : ",%s", fleet->places[i].outbox);
    return rc == OBX_OK ? rc : obx_fail(err, rc, "fleet");
}

enum obx_code fleet_create(const struct fleet_opts *opts, struct fleet **out, struct obx_err *err)
{
    struct fleet *fleet = obx_calloc(1, sizeof(*fleet));
    enum obx_code rc = OBX_OK;

    *out = NULL;
    if (fleet == NULL)
        return obx_fail(err, OBX_E_NOMEM, "fleet");
    fleet->opts = *opts;
    backoff_init(&fleet->backoff, RETRY_MIN_MS, RETRY_CAP_MS);
    pthread_mutex_init(&fleet->lock, NULL);
    cond_init(&fleet->changed);
    fleet->places = obx_calloc(opts->outbox_count, sizeof(*fleet->places));
    fleet->lanes = obx_calloc(opts->outbox_count, sizeof(*fleet->lanes));
    fleet->members = obx_calloc(RELAYS_MAX, sizeof(*fleet->members));
    fleet->relays = obx_calloc(RELAYS_MAX, sizeof(*fleet->relays));
    if (fleet->places == NULL || fleet->lanes == NULL || fleet->members == NULL ||
        fleet->relays == NULL)
        rc = obx_fail(err, OBX_E_NOMEM, "fleet");
    if (rc == OBX_OK)
        rc = list_outboxes(fleet, err);
    if (rc == OBX_OK)
        rc = thread_start(&fleet->thread, run, fleet, "the fleet", err);
    if (rc != OBX_OK) {
        fleet_destroy(fleet);
        return rc;
    }
    *out = fleet;
    return OBX_OK;
}

void fleet_stop(struct fleet *fleet)
{
    pthread_mutex_lock(&fleet->lock);
    fleet->stop = true;
    pthread_cond_signal(&fleet->changed);
    pthread_mutex_unlock(&fleet->lock);
}

bool fleet_has_ended(struct fleet *fleet)
{
    bool has_ended = false;

    pthread_mutex_lock(&fleet->lock);
    has_ended = fleet->has_ended;
    pthread_mutex_unlock(&fleet->lock);
    return has_ended;
}

void fleet_destroy(struct fleet *fleet)
{
    if (fleet == NULL)
        return;
    fleet_stop(fleet);
    thread_join(&fleet->thread);
    pthread_cond_destroy(&fleet->changed);
    pthread_mutex_destroy(&fleet->lock);
    buf_fini(&fleet->list);
    obx_free(fleet->places);
    obx_free(fleet->lanes);
    obx_free(fleet->members);
    obx_free(fleet->relays);
    obx_free(fleet);
}

/* ---------------------------------------------------------------- what others ask */

bool fleet_is_elsewhere(struct fleet *fleet, const char *outbox, char address[FLEET_ADDRESS_MAX])
{
    const struct place key = {.outbox = outbox};
    const struct place *place = NULL;
    bool is_elsewhere = false;

    pthread_mutex_lock(&fleet->lock);
    place = bsearch(&key, fleet->places, fleet->opts.outbox_count, sizeof(key), by_name);
    if (place != NULL) {
        is_elsewhere = place->is_elsewhere;
        memcpy(address, place->address, FLEET_ADDRESS_MAX);
    }
    pthread_mutex_unlock(&fleet->lock);
    return is_elsewhere;
}

void fleet_get_view(struct fleet *fleet, struct fleet_view *out)
{
    pthread_mutex_lock(&fleet->lock);
    *out = fleet->view;
    pthread_mutex_unlock(&fleet->lock);
}
