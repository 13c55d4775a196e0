/* The news of the topology's thread reach the threads that wait for them, however many others read
 * them. Its broker is not there, which is none of the mailbox's business. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdbool.h>

#include "base/bytes.h"
#include "base/config.h"
#include "daemon/topology_task.h"

static struct relay_config *load(void)
{
    char *no_env[] = {NULL};
    struct cfg_input input = {
        .path = "relay.conf",
        .env = no_env,
        .text = bytes_of("[broker]\naddresses = 127.0.0.1:1\ntopology = no\n"
                         "[source a]\nuser = u\nport = 1\ndatabase = d\n"),
    };
    struct relay_config *config = NULL;
    struct obx_buf problems = {0};
    struct obx_err err = {0};

    if (relay_config_load(&input, &config, &problems, &err) != OBX_OK)
        fail_msg("%s %s", err.text, problems.data);
    buf_fini(&problems);
    return config;
}

static bool has_news(const struct topology_task *task)
{
    struct pollfd event = {.fd = topology_task_fd(task), .events = POLLIN};

    return poll(&event, 1, 0) == 1;
}

/* A page that is asked for between the news and the turn of the loop that hears of them must not
 * take them: the lanes would be told by nobody that they may publish. */
static void a_look_takes_no_news(void **state)
{
    struct relay_config *config = load();
    struct topology_task *task = NULL;
    struct topology_view view = {0};
    struct obx_err err = {0};

    (void)state;
    assert_int_equal(topology_task_create(&task, &err), OBX_OK);
    assert_false(has_news(task));
    topology_task_set(task, config);
    topology_task_view(task, &view);
    assert_true(view.is_open);
    assert_true(has_news(task));
    topology_task_take_news(task);
    assert_false(has_news(task));
    topology_task_destroy(task);
    relay_config_unref(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_look_takes_no_news),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
