/*
 * docs/configuration.md and the two shipped examples are what the tables of the two daemons say.
 * With --page it prints the page instead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "config/relay_keys.h"
#include "notify_keys.h"

static const char before[] =
    "# Configuration\n"
    "\n"
    "For those who run outbox-relay or inbox-relay: every key, what it may be, and what a change\n"
    "needs. `--help-config` prints the same, `--example` a file to begin with, `--check` says "
    "what\n"
    "is wrong, and `--dump` what is in force and where each value comes from.\n"
    "\n"
    "A key marked \"restart\" takes effect with the next start of the process. The others do with "
    "a\n"
    "reload (signal `HUP`), which restarts no more than the lanes or the reader that they are "
    "about.\n"
    "A named section, `[source shop]`, has its name in the place of `<NAME>` in its variables.\n"
    "\n"
    "## outbox-relay\n"
    "\n";

static struct obx_buf make_page(void)
{
    struct obx_buf page = {0};

    buf_add_text(&page, before);
    cfg_reference_markdown(&relay_schema, &page);
    buf_add_text(&page, "\n## inbox-relay\n\n");
    cfg_reference_markdown(&notify_schema, &page);
    return page;
}

static void expect_file(const char *path, const struct obx_buf *expected, const char *remedy)
{
    struct obx_buf text = {0};
    char part[4096];
    FILE *file = fopen(path, "re");
    size_t got = 0;

    if (file == NULL)
        fail_msg("cannot open %s", path);
    while ((got = fread(part, 1, sizeof(part), file)) > 0)
        buf_add(&text, part, got);
    fclose(file);
    assert_int_equal(text.rc, OBX_OK);
    assert_int_equal(expected->rc, OBX_OK);
    if (!bytes_equal(buf_bytes(&text), buf_bytes(expected)))
        fail_msg("%s is not what the tables say; %s", path, remedy);
    buf_fini(&text);
}

static void the_page_is_what_the_tables_say(void **state)
{
    struct obx_buf page = make_page();

    (void)state;
    expect_file(SOURCE_DIR "/docs/configuration.md", &page,
                "configuration_doc_test --page >docs/configuration.md");
    buf_fini(&page);
}

static void the_examples_are_what_the_tables_say(void **state)
{
    struct obx_buf relay = {0}, inbox = {0};

    (void)state;
    cfg_reference_example(&relay_schema, &relay);
    cfg_reference_example(&notify_schema, &inbox);
    expect_file(SOURCE_DIR "/outbox-relay/outbox-relay.conf.example", &relay,
                "outbox-relay --example >outbox-relay/outbox-relay.conf.example");
    expect_file(SOURCE_DIR "/consumer-lib/inbox-relay/inbox-relay.conf.example", &inbox,
                "inbox-relay --example >consumer-lib/inbox-relay/inbox-relay.conf.example");
    buf_fini(&relay);
    buf_fini(&inbox);
}

static void both_tables_are_sound(void **state)
{
    struct obx_buf problems = {0};

    (void)state;
    if (cfg_verify(&relay_schema, &problems, NULL) != OBX_OK ||
        cfg_verify(&notify_schema, &problems, NULL) != OBX_OK)
        fail_msg("%s", problems.data);
    buf_fini(&problems);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_is_what_the_tables_say),
        cmocka_unit_test(the_examples_are_what_the_tables_say),
        cmocka_unit_test(both_tables_are_sound),
    };

    if (argc > 1 && strcmp(argv[1], "--page") == 0) {
        struct obx_buf page = make_page();

        fwrite(page.data, 1, page.len, stdout);
        buf_fini(&page);
        return page.rc != OBX_OK;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
