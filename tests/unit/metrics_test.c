/*
 * Unit tests of outbox-relay/daemon/pages/metrics: every line is valid in Prometheus' text format,
 * and the numbers are the right ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hist.h"
#include "daemon/half_role.h"
#include "daemon/pages/metrics.h"
#include "daemon/receipts_role.h"

static struct hist slow, fast;
static struct lane_view lanes[2];

static struct relay_view sample(void)
{
    struct relay_view view = {.owner = "r:1", .version = "1.2.3", .lanes = lanes, .lane_count = 2};

    memset(lanes, 0, sizeof(lanes));
    memset(&slow, 0, sizeof(slow));
    memset(&fast, 0, sizeof(fast));
    hist_record(&slow, 1500);
    hist_record(&slow, 2500000);
    hist_record(&slow, 300000000);
    view.topology.is_done = true;
    lanes[0] = (struct lane_view){.source = "shop",
                                  .outbox = "outbox",
                                  .slot = SLOT_RUNNING,
                                  .commit_to_confirm = &slow,
                                  .publish_to_confirm = &fast,
                                  .trouble = "",
                                  .starts = 1};
    lanes[0].stats = (struct lane_stats){.state = LANE_OWNER,
                                         .broker_state = BRIDGE_UP,
                                         .lease_epoch = 7,
                                         .published = 1234567890123,
                                         .waiting = 100000,
                                         .waiting_capped = true,
                                         .oldest_age_us = 2500000};
    lanes[1] = (struct lane_view){
        .source = "a\"b\\c\nd", .outbox = "o", .slot = SLOT_WAITING, .trouble = "no thread"};
    view.process = (struct process_stats){.resident_bytes = 1048576,
                                          .cpu_us = 1250000,
                                          .open_fds = 12,
                                          .log_dropped = 42,
                                          .started_wall_us = 1700000000000001};
    view.bell.rings = 5;
    return view;
}

static char *text_of(const struct relay_view *view)
{
    struct obx_buf buf = {0};

    assert_int_equal(metrics_write(view, &buf), OBX_OK);
    assert_int_equal(strlen(buf.data), buf.len);
    return buf.data;
}

/* A relay with all that can have numbers. */
static char *all_of_it(void)
{
    struct relay_view view = sample();
    struct checkback_producer_stats asked = {.breaker = BREAKER_CLOSED};
    const struct check_producer producer = {.name = "p"};
    const struct half_view half = {
        .producer_count = 1, .producers = &producer, .producer_stats = &asked};
    const struct receipts_view reader = {.source = "shop"};
    const struct source_fleet fleet = {.source = "shop"};

    view.half = &half;
    view.receipts = &reader;
    view.receipts_count = 1;
    view.fleets = &fleet;
    view.fleet_count = 1;
    return text_of(&view);
}

static void expect(const char *text, const char *line)
{
    char with_ends[512];

    snprintf(with_ends, sizeof(with_ends), "\n%s\n", line);
    if (strstr(text, with_ends) == NULL)
        fail_msg("no line \"%s\" in:\n%s", line, text);
}

/* The grammar of the text format, for what a relay writes. */
#define NAME   "[a-zA-Z_:][a-zA-Z0-9_:]*"
#define LABEL  "[a-zA-Z_][a-zA-Z0-9_]*=\"([^\"\\\\\n]|\\\\[\"\\\\n])*\""
#define NUMBER "([0-9]+(\\.[0-9]+)?(e[+-][0-9]+)?)"
static const char line_pattern[] = "^(# HELP " NAME " [^\n]+"
                                   "|# TYPE " NAME " (counter|gauge|histogram|summary)"
                                   "|" NAME "(\\{" LABEL "(," LABEL ")*\\})? " NUMBER ")$";

static void every_line_is_valid(void **state)
{
    char *text = all_of_it();
    regex_t regex;
    char *rest = NULL;

    (void)state;
    assert_int_equal(text[strlen(text) - 1], '\n');
    assert_int_equal(regcomp(&regex, line_pattern, REG_EXTENDED | REG_NOSUB), 0);
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (regexec(&regex, line, 0, NULL, 0) != 0)
            fail_msg("not valid: %s", line);
    }
    regfree(&regex);
    free(text);
}

/* The name that a sample line belongs to, without _bucket, _sum and _count when it is a histogram.
 */
static void family_of(const char *line, const char *family_now, char *name, size_t size)
{
    size_t len = strcspn(line, "{ ");
    size_t family_len = strlen(family_now);

    snprintf(name, size, "%.*s", (int)len, line);
    if (strncmp(name, family_now, family_len) == 0 &&
        (strcmp(name + family_len, "_bucket") == 0 || strcmp(name + family_len, "_sum") == 0 ||
         strcmp(name + family_len, "_count") == 0))
        name[family_len] = '\0';
}

/* HELP and TYPE come once, before the samples, and the samples of one family stand together. */
static void families_are_whole(void **state)
{
    char *text = all_of_it();
    char family[128] = "", name[160], seen[16384] = " ";
    char *rest = NULL;
    bool has_type = false;

    (void)state;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            snprintf(family, sizeof(family), "%.*s", (int)strcspn(line + 7, " "), line + 7);
            snprintf(name, sizeof(name), " %s ", family);
            assert_null(strstr(seen, name));
            strncat(seen, name + 1, sizeof(seen) - strlen(seen) - 1);
            has_type = false;
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_int_equal(strncmp(line + 7, family, strlen(family)), 0);
            has_type = true;
            if (strstr(line, " counter") != NULL)
                assert_string_equal(family + strlen(family) - 6, "_total");
        } else {
            family_of(line, family, name, sizeof(name));
            assert_string_equal(name, family);
            assert_true(has_type);
        }
    }
    free(text);
}

static void numbers_are_those_of_the_lane(void **state)
{
    struct relay_view view = sample();
    char *text = text_of(&view);

    (void)state;
    expect(text, "rowpost_build_info{version=\"1.2.3\"} 1");
    expect(text, "rowpost_published_total{source=\"shop\",outbox=\"outbox\"} 1234567890123");
    expect(text, "rowpost_lease_epoch{source=\"shop\",outbox=\"outbox\"} 7");
    expect(text, "rowpost_lease_held{source=\"shop\",outbox=\"outbox\"} 1");
    expect(text, "rowpost_rows_waiting{source=\"shop\",outbox=\"outbox\"} 100000");
    expect(text, "rowpost_rows_waiting_capped{source=\"shop\",outbox=\"outbox\"} 1");
    expect(text, "rowpost_oldest_age_seconds{source=\"shop\",outbox=\"outbox\"} 2.500000");
    expect(text, "rowpost_broker_up{source=\"shop\",outbox=\"outbox\"} 1");
    expect(text, "rowpost_lane_ready{source=\"shop\",outbox=\"outbox\"} 1");
    expect(text, "rowpost_lane_state{source=\"shop\",outbox=\"outbox\",state=\"owner\"} 1");
    expect(text, "rowpost_lane_state{source=\"shop\",outbox=\"outbox\",state=\"standby\"} 0");
    expect(text, "rowpost_lane_ready{source=\"a\\\"b\\\\c\\nd\",outbox=\"o\"} 0");
    expect(text, "rowpost_lane_state{source=\"a\\\"b\\\\c\\nd\",outbox=\"o\",state=\"stopped\"} 1");
    expect(text, "rowpost_ready 0");
    expect(text, "rowpost_doorbell_rings_total 5");
    expect(text, "process_resident_memory_bytes 1048576");
    expect(text, "process_cpu_seconds_total 1.250000");
    expect(text, "rowpost_log_lines_dropped_total 42");
    expect(text, "process_start_time_seconds 1700000000.000001");
    free(text);
}

/* Buckets are cumulative, their bounds grow, and +Inf is the count. */
static void histograms_add_up(void **state)
{
    static const char prefix[] =
        "rowpost_commit_to_confirm_seconds_bucket{source=\"shop\",outbox=\"outbox\",le=\"";
    struct relay_view view = sample();
    char *text = text_of(&view);
    double bound = -1, last_bound = -1;
    long count = 0, last_count = 0, lines = 0;

    (void)state;
    for (const char *at = strstr(text, prefix); at != NULL; at = strstr(at + 1, prefix)) {
        const char *le = at + strlen(prefix);

        bound = strncmp(le, "+Inf", 4) == 0 ? 1e300 : strtod(le, NULL);
        count = strtol(strstr(le, "} ") + 2, NULL, 10);
        assert_true(bound > last_bound);
        assert_true(count >= last_count);
        last_bound = bound;
        last_count = count;
        lines++;
    }
    assert_true(lines > 10);
    assert_true(bound > 1e299);
    assert_int_equal(count, 3);
    expect(text, "rowpost_commit_to_confirm_seconds_count{source=\"shop\",outbox=\"outbox\"} 3");
    expect(text,
           "rowpost_commit_to_confirm_seconds_sum{source=\"shop\",outbox=\"outbox\"} 302.501500");
    expect(text,
           "rowpost_publish_to_confirm_seconds_count{source=\"a\\\"b\\\\c\\nd\",outbox=\"o\"} 0");
    free(text);
}

/* All of docs/operations.md; free it. */
static char *read_page(void)
{
    FILE *file = fopen(OPERATIONS_PAGE, "re");
    struct obx_buf text = {0};
    char part[4096];
    size_t got = 0;

    if (file == NULL)
        fail_msg("cannot open %s", OPERATIONS_PAGE);
    while ((got = fread(part, 1, sizeof(part), file)) > 0)
        buf_add(&text, part, got);
    fclose(file);
    assert_int_equal(text.rc, OBX_OK);
    return text.data;
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || c == '_';
}

static void the_page_explains_every_metric(void **state)
{
    char *text = all_of_it(), *page = read_page(), *rest = NULL;
    char quoted[128];

    (void)state;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "# TYPE ", 7) != 0)
            continue;
        snprintf(quoted, sizeof(quoted), "`%.*s`", (int)strcspn(line + 7, " "), line + 7);
        if (strstr(page, quoted) == NULL)
            fail_msg("docs/operations.md does not explain %s", quoted);
    }
    free(text);
    free(page);
}

static void the_page_explains_no_metric_that_is_not_there(void **state)
{
    char *text = all_of_it(), *page = read_page();
    const char *end = strstr(page, "\n### Log");
    unsigned found = 0;

    (void)state;
    assert_non_null(end);
    for (const char *at = strstr(page, "\n### Every metric"); at != NULL && at < end;
         at = strstr(at, "rowpost_")) {
        char type[160];
        int len = 0;

        while (is_name_char(at[len]))
            len++;
        snprintf(type, sizeof(type), "# TYPE %.*s ", len, at);
        if (len > 0 && strstr(text, type) == NULL)
            fail_msg("docs/operations.md explains %.*s, which is no metric", len, at);
        found += len > 0;
        at += len > 0 ? len : 1;
    }
    assert_true(found > 50);
    free(text);
    free(page);
}

static void without_lanes_it_is_valid_too(void **state)
{
    struct relay_view view = {.owner = "", .version = "1"};
    char *text = text_of(&view);

    (void)state;
    assert_null(strstr(text, "source="));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_is_valid),
        cmocka_unit_test(families_are_whole),
        cmocka_unit_test(numbers_are_those_of_the_lane),
        cmocka_unit_test(histograms_add_up),
        cmocka_unit_test(without_lanes_it_is_valid_too),
        cmocka_unit_test(the_page_explains_every_metric),
        cmocka_unit_test(the_page_explains_no_metric_that_is_not_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
