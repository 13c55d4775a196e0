/*
 * The overview: what is wrong now, in words; each lane; an hour in lines. And the way of a search to
 * the page that answers it. Both are written from memory on the main thread. Called by console.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ops/human.h"
#include "page.h"

enum { US_PER_MS = 1000, OLD_US = 60 * 1000 * 1000 };

/* ---- an hour ---- */

/* The samples from the oldest on; a rate is the difference of two. */
static size_t series(const struct samples *samples,
                     uint64_t (*value)(const struct sample *before, const struct sample *sample),
                     uint64_t *out)
{
    const size_t first = (samples->next + SAMPLES - samples->count) % SAMPLES;
    size_t count = 0;

    for (size_t i = 1; i < samples->count; i++)
        out[count++] = value(&samples->items[(first + i - 1) % SAMPLES],
                             &samples->items[(first + i) % SAMPLES]);
    return count;
}

/* A lane that has started again counts from 0: no rate is known of that interval. */
static uint64_t rate_of(const struct sample *before, const struct sample *sample)
{
    return sample->confirmed < before->confirmed
               ? 0
               : (sample->confirmed - before->confirmed) / (SAMPLE_MS / 1000);
}

static uint64_t waiting_of(const struct sample *before, const struct sample *sample)
{
    (void)before;
    return sample->waiting;
}

static uint64_t oldest_of(const struct sample *before, const struct sample *sample)
{
    (void)before;
    return sample->oldest_us / US_PER_MS;
}

static void add_chart(struct page *page, const char *title,
                      uint64_t (*value)(const struct sample *before, const struct sample *sample),
                      bool is_age)
{
    uint64_t values[SAMPLES], max = 0;
    const size_t count = series(page->samples, value, values);
    char now[HUMAN_MAX], top[HUMAN_MAX];

    for (size_t i = 0; i < count; i++)
        max = values[i] > max ? values[i] : max;
    buf_addf(&page->out, "<figure><figcaption>%s: ", title);
    if (count == 0)
        buf_add_text(&page->out, "after half a minute</figcaption></figure>");
    if (count == 0)
        return;
    buf_addf(&page->out, "%s now, %s at most</figcaption>",
             is_age ? human_age(values[count - 1] * US_PER_MS, now)
                    : human_count(values[count - 1], false, now),
             is_age ? human_age(max * US_PER_MS, top) : human_count(max, false, top));
    page_svg_line(page, values, count, title);
    buf_add_text(&page->out, "</figure>");
}

/* ---- what is wrong ---- */

static void add_trouble(struct page *page, const struct console_lane *lane, const char *what)
{
    buf_add_text(&page->out, "<li><b class=\"bad\">");
    html_add_text(&page->out, lane->source);
    buf_add_text(&page->out, "/");
    html_add_text(&page->out, lane->outbox);
    buf_add_text(&page->out, "</b>: ");
    html_add_text(&page->out, what);
    buf_add_text(&page->out, "</li>");
}

static size_t add_troubles(struct page *page)
{
    char text[2 * HUMAN_MAX + 64], number[HUMAN_MAX];
    const size_t before = page->out.len;

    for (size_t i = 0; i < page->view->lane_count; i++) {
        const struct console_lane *lane = &page->view->lanes[i];

        if (lane->reason[0] != '\0')
            add_trouble(page, lane, lane->reason);
        if (lane->oldest_us > OLD_US) {
            snprintf(text, sizeof(text), "its oldest message has waited for %s",
                     human_age(lane->oldest_us, number));
            add_trouble(page, lane, text);
        }
        if (lane->parked > 0) {
            snprintf(text, sizeof(text), "%s parked messages, %" PRIu64 " frozen keys",
                     human_count(lane->parked, false, number), lane->frozen_keys);
            add_trouble(page, lane, text);
        }
    }
    return page->out.len - before;
}

static void add_state(struct page *page)
{
    const struct console_view *view = page->view;
    char age[HUMAN_MAX];

    buf_addf(&page->out, "<p><b class=\"%s\">%s</b> ", view->is_ready ? "good" : "bad",
             view->is_ready ? "Ready." : "Not ready.");
    html_add_text(&page->out, view->summary);
    buf_add_text(&page->out, "</p><p class=\"quiet\">relay ");
    html_add_text(&page->out, view->owner);
    buf_add_text(&page->out, ", version ");
    html_add_text(&page->out, view->version);
    buf_addf(&page->out, ", up %s</p><ul>", human_age(view->uptime_us, age));
    if (add_troubles(page) == 0)
        buf_add_text(&page->out, "<li>Nothing is wrong with the lanes of this relay.</li>");
    buf_add_text(&page->out, "</ul>");
}

/* ---- the lanes ---- */

static void add_number(struct page *page, uint64_t number, bool is_capped)
{
    char text[HUMAN_MAX];

    buf_addf(&page->out, "<td class=\"n\">%s</td>", human_count(number, is_capped, text));
}

static void add_lane(struct page *page, const struct console_lane *lane)
{
    char age[HUMAN_MAX];

    buf_add_text(&page->out, "<tr><th scope=\"row\">");
    html_add_text(&page->out, lane->source);
    buf_add_text(&page->out, "/");
    html_add_text(&page->out, lane->outbox);
    buf_add_text(&page->out, "</th><td>");
    html_add_text(&page->out, lane->state);
    buf_add_text(&page->out, "</td>");
    add_number(page, lane->waiting, lane->waiting_capped);
    buf_addf(&page->out, "<td class=\"n\">%s</td>", human_age(lane->oldest_us, age));
    add_number(page, lane->inflight, false);
    add_number(page, lane->retrying, false);
    add_number(page, lane->awaiting, false);
    add_number(page, lane->parked, false);
    add_number(page, lane->frozen_keys, false);
    add_number(page, lane->confirmed, false);
    buf_add_text(&page->out, "</tr>");
}

static void write_json(struct page *page)
{
    const struct console_view *view = page->view;
    json_t *lanes = json_array();

    for (size_t i = 0; i < view->lane_count; i++) {
        const struct console_lane *lane = &view->lanes[i];

        json_array_append_new(
            lanes,
            json_pack("{s:s, s:s, s:s, s:s, s:I, s:b, s:I, s:I, s:I, s:I}", "source", lane->source,
                      "outbox", lane->outbox, "state", lane->state, "reason", lane->reason,
                      "waiting", (json_int_t)lane->waiting, "waiting_capped", lane->waiting_capped,
                      "oldest_age_ms", (json_int_t)(lane->oldest_us / US_PER_MS), "parked",
                      (json_int_t)lane->parked, "frozen_keys", (json_int_t)lane->frozen_keys,
                      "confirmed", (json_int_t)lane->confirmed));
    }
    page_json(page, json_pack("{s:b, s:s, s:s, s:o}", "ready", view->is_ready, "reason",
                              view->summary, "owner", view->owner, "lanes", lanes));
}

void page_overview(struct page *page)
{
    if (page->format == FORMAT_CSV)
        page->format = FORMAT_JSON;
    page_begin(page, "Overview");
    if (page->format == FORMAT_JSON) {
        write_json(page);
        return;
    }
    buf_add_text(&page->out, "<div data-follow>");
    add_state(page);
    buf_add_text(&page->out, "<div class=\"charts\">");
    add_chart(page, "Messages confirmed in a second", rate_of, false);
    add_chart(page, "Rows waiting", waiting_of, false);
    add_chart(page, "Age of the oldest", oldest_of, true);
    buf_add_text(&page->out,
                 "</div><h2>Lanes of this relay</h2><div class=\"scroll\"><table><thead><tr>"
                 "<th>lane</th><th>state</th><th class=\"n\">waiting</th><th class=\"n\">oldest"
                 "</th><th class=\"n\">in flight</th><th class=\"n\">retrying</th><th class=\"n\">"
                 "await receipts</th><th class=\"n\">parked</th><th class=\"n\">frozen keys</th>"
                 "<th class=\"n\">confirmed</th></tr></thead><tbody>");
    for (size_t i = 0; i < page->view->lane_count; i++)
        add_lane(page, &page->view->lanes[i]);
    buf_add_text(&page->out, "</tbody></table></div></div>");
    page_end(page);
}

/* ---- search ---- */

void page_search(struct page *page)
{
    const char *q = params_get(&page->params, "q");
    const char *kind = params_get(&page->params, "kind");
    struct obx_buf to = {0};

    if (q == NULL) {
        page_say(page, 200, "Search",
                 "Search for a message id, the gid of a half-message, an ordering key or a topic.");
        return;
    }
    buf_add_text(&to, page->console->prefix);
    buf_add_text(&to, kind != NULL && strcmp(kind, "topic") == 0 ? "/parked?topic="
                      : kind != NULL && strcmp(kind, "key") == 0 ? "/m?key="
                                                                 : "/m?id=");
    url_add(&to, q);
    if (to.rc == OBX_OK && to.len < sizeof(page->location)) {
        page->status = 303;
        page->type = "text/plain";
        snprintf(page->location, sizeof(page->location), "%s", to.data);
    } else {
        page_say(page, 400, "Search", "That is longer than any id.");
    }
    buf_fini(&to);
}
