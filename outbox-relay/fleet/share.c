/* See share.h. */
#include "share.h"

#include <stdbool.h>

static uint64_t weight_of(const struct share_relay *relay, bool all_count)
{
    return all_count ? 1 : relay->weight;
}

/* The whole parts first. What is left over goes one by one to those that have the most beyond theirs
 * already: so a lane that belongs to the remainder stays where it is. */
static void set_quotas(struct share_relay *relays, size_t relay_count, size_t lane_count)
{
    uint64_t sum = 0;
    size_t left = lane_count;
    bool all_count = false;

    for (size_t i = 0; i < relay_count; i++)
        sum += relays[i].weight;
    all_count = sum == 0;
    sum = all_count ? relay_count : sum;
    for (size_t i = 0; i < relay_count; i++) {
        relays[i].quota = (size_t)(lane_count * weight_of(&relays[i], all_count) / sum);
        left -= relays[i].quota;
    }
    /* No more rounds than there are relays with a weight: each part lost less than one lane. */
    for (; left > 0; left--) {
        struct share_relay *best = NULL;
        size_t most = 0;

        for (size_t i = 0; i < relay_count; i++) {
            /* Counted from what the whole part would be, so that nobody gets two of the rest. */
            const uint64_t whole = lane_count * weight_of(&relays[i], all_count) / sum;
            const size_t above = relays[i].held + lane_count - (size_t)whole;

            if (weight_of(&relays[i], all_count) == 0 || relays[i].quota > whole)
                continue;
            if (best == NULL || above > most) {
                best = &relays[i];
                most = above;
            }
        }
        best->quota++;
    }
}

void share_out(struct share_relay *relays, size_t relay_count, struct share_lane *lanes,
               size_t lane_count)
{
    size_t next = 0;

    for (size_t i = 0; i < relay_count; i++)
        relays[i].held = 0;
    for (size_t i = 0; i < lane_count; i++) {
        lanes[i].relay = SHARE_NONE;
        if (lanes[i].owner < relay_count)
            relays[lanes[i].owner].held++;
    }
    if (relay_count == 0)
        return;
    set_quotas(relays, relay_count, lane_count);
    for (size_t i = 0; i < relay_count; i++)
        relays[i].held = 0;
    for (size_t i = 0; i < lane_count; i++) {
        struct share_relay *owner = lanes[i].owner < relay_count ? &relays[lanes[i].owner] : NULL;

        if (owner != NULL && owner->held < owner->quota) {
            owner->held++;
            lanes[i].relay = lanes[i].owner;
        }
    }
    for (size_t i = 0; i < lane_count; i++) {
        if (lanes[i].relay != SHARE_NONE)
            continue;
        while (relays[next].held >= relays[next].quota) /* the quotas add up to the lanes */
            next++;
        relays[next].held++;
        lanes[i].relay = next;
    }
}
