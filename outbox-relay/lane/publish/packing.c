/*
 * Putting rows together into packs, and remembering which. See packing.h.
 *
 * A row that does not fit into a pack is left out without a word: it has its turn, where it is sent
 * or given up like any other. So nothing is decided here about a row but whether it comes along.
 */
#include "packing.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/crash.h"

enum {
    SCAN_ROWS = 256, /* looked at for company: topics by the thousand cost no more than that each */
    TOKEN_BITS = 32,
    SENT_MIN = 64,
};

/* No row's token has it: the lower half of those counts rows in memory. */
#define PACK_TOKEN UINT64_C(0x80000000)

enum obx_code packing_init(struct packing *packing, const struct packing_parts *parts,
                           struct obx_err *err)
{
    bool is_wanted = false;

    *packing = (struct packing){.parts = *parts};
    for (size_t i = 0; i < parts->opts->rule_count; i++)
        is_wanted = is_wanted || parts->opts->rules[i].pack > 1;
    if (!is_wanted)
        return OBX_OK;
    packing->work = obx_calloc(1, sizeof(*packing->work));
    if (packing->work == NULL)
        return obx_fail(err, OBX_E_NOMEM, "packs");
    packing->rows = packing->work->rows;
    return OBX_OK;
}

void packing_fini(struct packing *packing)
{
    if (packing->work != NULL)
        pack_writer_fini(&packing->work->writer);
    obx_free(packing->work);
    packing->work = NULL;
    for (size_t i = 0; i < packing->sent_cap; i++)
        obx_free(packing->sent[i]);
    obx_free(packing->sent);
    packing->sent = NULL;
    packing->sent_cap = 0;
}

/* ---- who comes along ---- */

bool packing_can(const struct flight_row *row, const struct route *route, size_t room)
{
    return route->pack > 1 && room > 1 && !row->is_alone &&
           (flight_follower(row) != NULL || flight_next(row) != NULL);
}

/* What would keep it from being sent in its own turn keeps it out, too. */
static bool may_come(const struct packing *packing, struct flight_row *row,
                     const struct flight_row *first, const struct route *route)
{
    const struct obx_bytes topic = {.p = &row->topic_hash, .len = sizeof(row->topic_hash)};
    char key[ROUTE_KEY_SIZE];
    const char *why = NULL;

    if (row->is_alone || row->is_packed || row->data == NULL || row->data->payload.p == NULL)
        return false;
    if (row->wants_receipt && settle_is_full(packing->parts.settle, SETTLE_ASKING))
        return false;
    row->rule = route_find(packing->parts.opts, row->data->topic);
    if (row->rule != first->rule || !bytes_equal(route_key(route, row->data, key), packing->key))
        return false;
    return row->topic_hash == first->topic_hash ||
           faults_ask(packing->parts.faults, topic, clock_now_ms(), &why) == FAULT_NONE;
}

static enum pack_answer add_row(struct packing *packing, struct envelope *envelope,
                                struct flight_row *row)
{
    struct bridge_message msg;
    enum obx_code rc = envelope_build(envelope, row->data, &msg, NULL);
    enum pack_answer answer = PACK_UNFIT;

    if (rc == OBX_E_NOMEM)
        return PACK_NOMEM;
    if (rc == OBX_OK)
        answer = pack_add(&packing->work->writer, &msg);
    if (answer != PACK_ADDED)
        return answer;
    row->is_packed = true;
    packing->rows[packing->count++] = row;
    return PACK_ADDED;
}

/* The row and what follows it in its key, without a gap: one that stays behind keeps the later ones
 * back. */
static enum pack_answer add_with_followers(struct packing *packing, struct envelope *envelope,
                                           struct flight_row *row, const struct route *route)
{
    const struct flight_row *first = packing->count > 0 ? packing->rows[0] : row;
    enum pack_answer answer = add_row(packing, envelope, row);

    while (answer == PACK_ADDED) {
        row = flight_follower(row);
        if (row == NULL || !may_come(packing, row, first, route))
            return PACK_ADDED;
        answer = add_row(packing, envelope, row);
    }
    return answer;
}

enum obx_code packing_build(struct packing *packing, struct envelope *envelope,
                            struct flight_row *row, const struct route *route, size_t room,
                            struct bridge_message *msg, struct obx_err *err)
{
    const uint64_t learnt = packing->parts.faults->broker_max_body;
    const size_t bytes = learnt < route->pack_bytes ? (size_t)learnt : route->pack_bytes;
    struct flight_row *next = row;
    enum pack_answer answer = PACK_ADDED;

    pack_begin(&packing->work->writer, route->pack < room ? route->pack : room, bytes);
    packing->count = 0;
    packing->key = route_key(route, row->data, packing->work->key);
    for (int i = 0; i < SCAN_ROWS && next != NULL; i++, next = flight_next(next)) {
        if (next != row && !may_come(packing, next, row, route))
            continue;
        answer = add_with_followers(packing, envelope, next, route);
        if (answer == PACK_FULL || answer == PACK_NOMEM || packing->count == 0)
            break;
    }
    for (size_t i = 0; i < packing->count; i++)
        packing->rows[i]->is_packed = false;
    /* Not the lack of memory, which passes. */
    row->is_alone = packing->count == 0 && answer == PACK_UNFIT;
    if (answer == PACK_NOMEM || pack_end(&packing->work->writer, msg) != OBX_OK)
        return obx_fail(err, OBX_E_NOMEM, "pack");
    msg->exchange = route->exchange;
    msg->routing_key = packing->key;
    return OBX_OK;
}

/* ---- packs in flight ---- */

static bool grow(struct packing *packing)
{
    const size_t cap = packing->sent_cap == 0 ? SENT_MIN : packing->sent_cap * 2;
    struct sent_pack **sent = obx_realloc(packing->sent, cap * sizeof(struct sent_pack *));

    if (sent == NULL)
        return false;
    memset(sent + packing->sent_cap, 0, (cap - packing->sent_cap) * sizeof(struct sent_pack *));
    packing->sent = sent;
    packing->sent_cap = cap;
    return true;
}

enum obx_code packing_keep(struct packing *packing, uint64_t *token, struct obx_err *err)
{
    const size_t count = packing->count;
    struct sent_pack *pack = NULL;

    while (packing->free_hint < packing->sent_cap && packing->sent[packing->free_hint] != NULL)
        packing->free_hint++;
    if (packing->free_hint == packing->sent_cap && !grow(packing))
        return obx_fail(err, OBX_E_NOMEM, "packs in flight");
    pack = obx_malloc(sizeof(*pack) + count * sizeof(pack->rows[0]));
    if (pack == NULL)
        return obx_fail(err, OBX_E_NOMEM, "pack of %zu rows", count);
    pack->token = ++packing->generation << TOKEN_BITS | PACK_TOKEN | packing->free_hint;
    pack->count = count;
    for (size_t i = 0; i < count; i++)
        pack->rows[i] = packing->rows[i]->token;
    packing->sent[packing->free_hint] = pack;
    *token = pack->token;
    return OBX_OK;
}

struct sent_pack *packing_take(struct packing *packing, uint64_t token)
{
    const size_t place = (size_t)(token & (PACK_TOKEN - 1));
    struct sent_pack *pack = NULL;

    if ((token & PACK_TOKEN) == 0)
        return NULL;
    OBX_ASSERT(place < packing->sent_cap && packing->sent[place] != NULL &&
               packing->sent[place]->token == token);
    pack = packing->sent[place];
    packing->sent[place] = NULL;
    if (place < packing->free_hint)
        packing->free_hint = place;
    return pack;
}
