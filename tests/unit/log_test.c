/* Unit tests of base/log.h: what a line looks like, that hostile values cannot forge one, levels,
 * limits, sinks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/utf8.h"

struct capture {
    char line[LOG_LINE_MAX + 1];
    size_t len;
    int count;
};

static void keep(enum log_level level, const char *line, size_t len, void *ctx)
{
    struct capture *capture = ctx;

    (void)level;
    assert_true(len <= LOG_LINE_MAX);
    assert_int_equal(line[len], '\0');
    memcpy(capture->line, line, len);
    capture->line[len] = '\0';
    capture->len = len;
    capture->count++;
}

/* What follows the time stamp. */
static const char *body(const struct capture *capture)
{
    assert_true(capture->len > 28);
    return capture->line + 28;
}

static struct capture capture;

static int set_text(void **state)
{
    (void)state;
    capture = (struct capture){.count = 0};
    log_setup(LOG_LVL_DEBUG, LOG_FMT_TEXT, keep, &capture);
    return 0;
}

static int set_json(void **state)
{
    (void)state;
    capture = (struct capture){.count = 0};
    log_setup(LOG_LVL_DEBUG, LOG_FMT_JSON, keep, &capture);
    return 0;
}

static int set_silent(void **state)
{
    (void)state;
    log_setup(LOG_LVL_OFF, LOG_FMT_TEXT, NULL, NULL);
    return 0;
}

static void text_line_has_its_fields_in_order(void **state)
{
    int year, month, day, hour, minute, second, micro, used = 0;

    (void)state;
    OBX_LOG(LOG_LVL_WARN, "lane", "publish.nacked", KV_U64("row", 991), KV_I64("delta", -2),
            KV_STR("reason", "text with spaces"), KV_BOOL("parked", true), KV_BOOL("late", false),
            KV_BYTES("key", bytes_of("customer-7")));
    assert_string_equal(body(&capture), "warn lane publish.nacked row=991 delta=-2 "
                                        "reason=\"text with spaces\" parked=true late=false "
                                        "key=customer-7");
    assert_int_equal(sscanf(capture.line, "%4d-%2d-%2dT%2d:%2d:%2d.%6dZ %n", &year, &month, &day,
                            &hour, &minute, &second, &micro, &used),
                     7);
    assert_int_equal(used, 28);
    assert_int_equal(capture.line[26], 'Z');
}

static void text_values_are_quoted_and_escaped(void **state)
{
    static const struct {
        const char *value;
        size_t len;
        const char *shown;
    } cases[] = {
        {"plain_1.2-3:4/5@6+7,8", 21, "plain_1.2-3:4/5@6+7,8"},
        {"", 0, "\"\""},
        {NULL, 0, "null"},
        {"a=b", 3, "\"a=b\""},
        {"say \"hi\"", 8, "\"say \\\"hi\\\"\""},
        {"back\\slash", 10, "\"back\\\\slash\""},
        {"a\nwarn lane forged", 18, "\"a\\nwarn lane forged\""},
        {"\r\t", 2, "\"\\r\\t\""},
        {"\0\x1B[31m\x7F", 7, "\"\\u0000\\u001b[31m\\u007f\""},
        {"\xC2\x9B"
         "2J",
         4, "\"\\u009b2J\""},
        {"\xFF\xC3\xA9\xE2\x82", 5, "\"\\xff\xC3\xA9\\xe2\\x82\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct obx_bytes value = {cases[i].value, cases[i].len};
        char expected[128];

        OBX_LOG(LOG_LVL_INFO, "m", "e", KV_BYTES("v", value));
        snprintf(expected, sizeof(expected), "info m e v=%s", cases[i].shown);
        assert_string_equal(body(&capture), expected);
    }
}

static void error_pair_names_code_and_text(void **state)
{
    struct obx_err err;

    (void)state;
    obx_fail_sys(&err, OBX_E_DB_GONE, 2013, "ping");
    OBX_LOG(LOG_LVL_ERROR, "m", "e", KV_ERR(&err));
    assert_string_equal(body(&capture),
                        "error m e error=\"database connection lost: ping\" code=OBX_E_DB_GONE");
}

static void an_event_needs_no_pairs(void **state)
{
    (void)state;
    log_event(LOG_LVL_DEBUG, "m", "e", NULL, 0);
    assert_string_equal(body(&capture), "debug m e");
}

static json_t *parsed(void)
{
    json_error_t error;
    json_t *line = json_loadb(capture.line, capture.len, JSON_ALLOW_NUL, &error);

    if (line == NULL)
        fail_msg("%s in %s", error.text, capture.line);
    return line;
}

static void json_line_is_json_for_any_value(void **state)
{
    char every[256];
    json_t *line = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(every); i++)
        every[i] = (char)i;
    OBX_LOG(LOG_LVL_INFO, "lane", "x.y", KV_BYTES("every", ((struct obx_bytes){every, 256})),
            KV_STR("none", NULL), KV_U64("u", UINT64_MAX), KV_I64("i", INT64_MIN),
            KV_BOOL("b", false), KV_STR("quote", "\"\\\n"));
    assert_true(utf8_is_valid((struct obx_bytes){capture.line, capture.len}));
    /* jansson's integers have 63 bits, so the largest counter is checked as text. */
    assert_non_null(strstr(capture.line, ",\"u\":18446744073709551615,"));
    memcpy(strstr(capture.line, "18446744073709551615"), "                   1", 20);
    line = parsed();
    assert_string_equal(json_string_value(json_object_get(line, "level")), "info");
    assert_string_equal(json_string_value(json_object_get(line, "module")), "lane");
    assert_string_equal(json_string_value(json_object_get(line, "event")), "x.y");
    assert_int_equal(json_string_length(json_object_get(line, "ts")), 27);
    assert_int_equal(json_string_length(json_object_get(line, "every")), 128 + 128 * 3);
    assert_true(json_is_null(json_object_get(line, "none")));
    assert_true(json_integer_value(json_object_get(line, "i")) == INT64_MIN);
    assert_true(json_is_false(json_object_get(line, "b")));
    assert_string_equal(json_string_value(json_object_get(line, "quote")), "\"\\\n");
    json_decref(line);
}

/* Whatever the length of a value, the line is bounded, well formed and says whether it was cut. */
static void long_lines_are_cut_and_say_so(void **state)
{
    static char value[LOG_LINE_MAX + 100];
    static const char fill[] = "\xE2\x82\xAC\"";

    (void)state;
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = fill[i % 4];
    for (size_t len = LOG_LINE_MAX / 2; len < sizeof(value); len++) {
        json_t *line = NULL;
        bool cut = false;

        OBX_LOG(LOG_LVL_INFO, "m", "e", KV_BYTES("v", ((struct obx_bytes){value, len / 4 * 4})),
                KV_STR("t", "tail"), KV_U64("n", len), KV_BOOL("end", true));
        line = parsed();
        cut = json_is_true(json_object_get(line, "cut"));
        assert_true(cut == (json_object_get(line, "end") == NULL));
        if (!cut)
            assert_int_equal(json_string_length(json_object_get(line, "v")), len / 4 * 4);
        json_decref(line);
    }
    assert_true(capture.len > LOG_LINE_MAX - 40);
}

static void long_text_lines_are_cut_and_say_so(void **state)
{
    static char value[2 * LOG_LINE_MAX];

    (void)state;
    memset(value, 'x', sizeof(value) - 1);
    OBX_LOG(LOG_LVL_INFO, "m", "e", KV_STR("v", value), KV_U64("n", 1));
    assert_true(capture.len <= LOG_LINE_MAX && capture.len > LOG_LINE_MAX - 40);
    assert_string_equal(capture.line + capture.len - 12, "xx\" cut=true");
}

static void many_pairs_are_cut_at_a_whole_pair(void **state)
{
    static struct log_kv kv[1000];
    json_t *line = NULL;

    (void)state;
    for (size_t i = 0; i < 1000; i++)
        kv[i] = KV_U64("number", i);
    for (size_t first = 0; first < 20; first++) {
        log_event(LOG_LVL_INFO, "module", &"a.very.long.event.name"[first], kv, 1000);
        line = parsed();
        assert_true(json_is_true(json_object_get(line, "cut")));
        json_decref(line);
    }
}

static void levels_hold_back_what_is_below(void **state)
{
    (void)state;
    log_set_level(LOG_LVL_WARN);
    OBX_LOG(LOG_LVL_INFO, "m", "e", KV_U64("n", 1));
    log_event(LOG_LVL_INFO, "m", "e", NULL, 0);
    assert_int_equal(capture.count, 0);
    OBX_LOG(LOG_LVL_WARN, "m", "e", KV_U64("n", 1));
    OBX_LOG(LOG_LVL_ERROR, "m", "e", KV_U64("n", 1));
    assert_int_equal(capture.count, 2);
    log_set_level(LOG_LVL_OFF);
    OBX_LOG(LOG_LVL_ERROR, "m", "e", KV_U64("n", 1));
    assert_int_equal(capture.count, 2);
    assert_false(log_enabled(LOG_LVL_OFF));
}

static void without_a_sink_nothing_is_enabled(void **state)
{
    (void)state;
    log_setup(LOG_LVL_DEBUG, LOG_FMT_TEXT, NULL, NULL);
    assert_false(log_enabled(LOG_LVL_ERROR));
    OBX_LOG(LOG_LVL_ERROR, "m", "e", KV_U64("n", 1));
}

/* ---- the writer of the programs ---- */

enum { END_MS = 20000, LOTS = 20000 };

/* Every line is LINE_LEN bytes with its newline, whatever number it carries. */
static void log_number(int number)
{
    OBX_LOG(LOG_LVL_INFO, "m", "e", KV_I64("n", 100000 + number),
            KV_STR("pad", "................................"));
}

static void start_log(int fd)
{
    struct obx_err err = {0};

    if (log_start(LOG_LVL_DEBUG, LOG_FMT_TEXT, fd, &err) != OBX_OK)
        fail_msg("%s", err.text);
}

static void the_writer_writes_whole_lines(void **state)
{
    int ends[2];
    char got[256] = "";
    int number = 0, used = 0;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    start_log(ends[1]);
    log_number(1);
    log_number(2);
    log_end(END_MS);
    close(ends[1]);
    assert_true(read(ends[0], got, sizeof(got) - 1) > 0);
    assert_int_equal(sscanf(got + 28, "info m e n=%d pad=%*[.]\n%n", &number, &used), 1);
    assert_int_equal(number, 100001);
    assert_int_equal(sscanf(got + 28 + used + 28, "info m e n=%d", &number), 1);
    assert_int_equal(number, 100002);
    assert_int_equal(log_dropped(), 0);
    close(ends[0]);
}

static void what_cannot_be_written_is_counted(void **state)
{
    (void)state;
    start_log(-1);
    log_number(1);
    log_number(2);
    log_end(END_MS);
    /* The second may bring a word about the first, which is lost as well. */
    assert_in_range(log_dropped(), 2, 3);
}

/* A reader that is let go only after the lines were logged, and then reads all there is. */
struct reader {
    int fd;
    FILE *kept; /* what came */
};

static void *read_all(void *ctx)
{
    struct reader *reader = ctx;
    char bytes[4096];
    ssize_t got;

    while ((got = read(reader->fd, bytes, sizeof(bytes))) > 0)
        (void)fwrite(bytes, 1, (size_t)got, reader->kept);
    return NULL;
}

/* Numbers follow each other, or a line between them says how many are missing. */
static void check_numbers(FILE *file, int count)
{
    char line[256];
    unsigned long long dropped = 0, total = 0, missing = 0;
    int number, next = 0;

    rewind(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line + 28, "warn log lines.dropped dropped=%llu total=%llu", &dropped, &total) ==
            2) {
            missing += dropped;
            assert_int_equal(total, missing);
            next += (int)dropped;
            continue;
        }
        assert_int_equal(sscanf(line + 28, "info m e n=%d", &number), 1);
        assert_int_equal(number, 100000 + next);
        assert_string_equal(strchr(line, '\0') - 3, "..\n");
        next++;
    }
    assert_int_equal(next, count);
    assert_true(missing > 0);
    assert_int_equal(missing, log_dropped());
}

/* With the reader standing still, who logs goes on: this test hangs otherwise. */
static void nobody_waits_for_the_reader(void **state)
{
    int ends[2];
    pthread_t thread;
    struct reader reader = {.kept = tmpfile()};

    (void)state;
    assert_int_equal(pipe(ends), 0);
    reader.fd = ends[0];
    start_log(ends[1]);
    for (int i = 0; i < LOTS; i++)
        log_number(i);
    assert_true(log_dropped() > 0);
    log_flush(1); /* bounded, though nobody reads */
    assert_int_equal(pthread_create(&thread, NULL, read_all, &reader), 0);
    log_flush(END_MS);
    log_number(LOTS); /* into the empty ring */
    log_end(END_MS);
    close(ends[1]);
    assert_int_equal(pthread_join(thread, NULL), 0);
    check_numbers(reader.kept, LOTS + 1);
    (void)fclose(reader.kept);
    close(ends[0]);
}

/* Somebody else who has the same open file made it non-blocking, as ssh and node do with a
 * terminal: nothing is lost by it. */
static void a_shared_non_blocking_file_loses_nothing(void **state)
{
    int ends[2];
    pthread_t thread;
    struct reader reader = {.kept = tmpfile()};

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    reader.fd = ends[0];
    start_log(ends[1]);
    for (int i = 0; i < 1500; i++) /* more than the pipe takes, less than the ring */
        log_number(i);
    assert_int_equal(pthread_create(&thread, NULL, read_all, &reader), 0);
    log_end(END_MS);
    close(ends[1]);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(log_dropped(), 0);
    assert_true(ftell(reader.kept) > 64 * 1024);
    (void)fclose(reader.kept);
    close(ends[0]);
}

enum { THREADS = 4, LINES = 500 };

static void *log_lines(void *ctx)
{
    const uint64_t thread = *(const uint64_t *)ctx;

    for (uint64_t i = 0; i < LINES; i++) {
        OBX_LOG(LOG_LVL_ERROR, "m", "e", KV_U64("thread", thread), KV_U64("line", i));
        log_set_level(i % 2 == 0 ? LOG_LVL_DEBUG : LOG_LVL_ERROR);
    }
    return NULL;
}

/* Every line of every thread arrives whole, in the order of its thread. */
static void check_lines(FILE *file)
{
    uint64_t next[THREADS] = {0};
    char line[256];
    unsigned long long thread, number;
    int count = 0;

    for (; fgets(line, sizeof(line), file) != NULL; count++) {
        assert_int_equal(sscanf(line + 28, "error m e thread=%llu line=%llu\n", &thread, &number),
                         2);
        assert_in_range(thread, 0, THREADS - 1);
        assert_int_equal(number, next[thread]);
        next[thread]++;
    }
    assert_int_equal(count, THREADS * LINES);
}

static void threads_do_not_mix_their_lines(void **state)
{
    pthread_t threads[THREADS];
    uint64_t numbers[THREADS];
    FILE *file = tmpfile();
    int fd = fileno(file);

    (void)state;
    assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0);
    start_log(fd);
    for (uint64_t i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, &numbers[i]), 0);
    }
    for (uint64_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    log_end(END_MS);
    rewind(file);
    check_lines(file);
    fclose(file);
}

static void a_limit_counts_what_it_holds_back(void **state)
{
    struct log_limit limit = {0};
    uint64_t dropped = 99;

    (void)state;
    assert_true(log_limit_pass(&limit, 3600000, &dropped));
    assert_true(dropped == 0);
    for (int i = 0; i < 5; i++)
        assert_false(log_limit_pass(&limit, 3600000, &dropped));
    limit.next_ms = 0;
    assert_true(log_limit_pass(&limit, 0, &dropped));
    assert_true(dropped == 5);
    assert_true(log_limit_pass(&limit, 0, &dropped));
    assert_true(dropped == 0);
}

int main(void)
{
#define TEXT(test) cmocka_unit_test_setup_teardown(test, set_text, set_silent)
#define JSON(test) cmocka_unit_test_setup_teardown(test, set_json, set_silent)
    const struct CMUnitTest tests[] = {
        TEXT(text_line_has_its_fields_in_order),  TEXT(text_values_are_quoted_and_escaped),
        TEXT(error_pair_names_code_and_text),     TEXT(an_event_needs_no_pairs),
        JSON(json_line_is_json_for_any_value),    JSON(long_lines_are_cut_and_say_so),
        TEXT(long_text_lines_are_cut_and_say_so), JSON(many_pairs_are_cut_at_a_whole_pair),
        TEXT(levels_hold_back_what_is_below),     TEXT(without_a_sink_nothing_is_enabled),
        TEXT(the_writer_writes_whole_lines),      TEXT(what_cannot_be_written_is_counted),
        TEXT(nobody_waits_for_the_reader),        TEXT(a_shared_non_blocking_file_loses_nothing),
        TEXT(threads_do_not_mix_their_lines),     TEXT(a_limit_counts_what_it_holds_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
