/*
 * Lists of database servers: what a person may write, and what is refused with a word about it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "sql/db_hosts.h"

/* The list as it is understood, each as it is shown. */
static void expect(const char *list, uint16_t port, const char *shown)
{
    struct db_hosts hosts;
    struct obx_err err = {0};
    char got[1024] = "";
    char one[DB_HOST_SHOWN_MAX];

    if (db_hosts_parse(list, port, &hosts, &err) != OBX_OK)
        fail_msg("%s: %s", list, err.text);
    for (size_t i = 0; i < hosts.count; i++) {
        const size_t len = strlen(got);

        snprintf(got + len, sizeof(got) - len, "%s%s", i > 0 ? " " : "",
                 db_host_show(&hosts.at[i], one));
    }
    assert_string_equal(got, shown);
}

static void lists_are_understood(void **state)
{
    (void)state;
    expect(NULL, 0, "127.0.0.1:3306");
    expect("", 3307, "127.0.0.1:3307");
    expect("db1", 0, "db1:3306");
    expect("db1,db2", 3310, "db1:3310 db2:3310");
    expect(" db1 ,\tdb2:3307 , db3.example.com:65535", 0,
           "db1:3306 db2:3307 db3.example.com:65535");
    expect("::1", 0, "[::1]:3306");
    expect("[::1]", 3307, "[::1]:3307");
    expect("[fd00::1]:3308, fd00::2", 0, "[fd00::1]:3308 [fd00::2]:3306");
    expect("db1:3306,db1:3307", 0, "db1:3306 db1:3307");
    expect("a,b,c,d,e,f,g,h,i", 1, "a:1 b:1 c:1 d:1 e:1 f:1 g:1 h:1 i:1");
}

static void what_is_wrong_is_said(void **state)
{
    static const char *const lists[] = {
        ",",           "db1,",       ",db1",         "db1,,db2",  " ",
        "db1:",        "db1:0",      "db1:65536",    "db1:3306x", "db1:-1",
        "db1:+1",      "db1: 3306",  "db 1",         "db1;db2",   "user@db1",
        "host=db1",    "[::1",       "[::1]x",       "[::1]:",    "[]:1",
        "[::1]:99999", "db1/orders", "db1:3306,db1", "a,a",       "a,b,c,d,e,f,g,h,i,j",
        "::1]",
    };
    char longer[DB_HOST_NAME_MAX + 2];
    struct db_hosts hosts;

    (void)state;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct obx_err err = {0};

        if (db_hosts_parse(lists[i], 0, &hosts, &err) != OBX_E_INVALID || err.text[0] == '\0')
            fail_msg("'%s' was taken", lists[i]);
    }
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(db_hosts_parse(longer, 0, &hosts, NULL), OBX_E_INVALID);
    longer[DB_HOST_NAME_MAX] = '\0';
    assert_int_equal(db_hosts_parse(longer, 0, &hosts, NULL), OBX_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_understood),
        cmocka_unit_test(what_is_wrong_is_said),
    };

    return cmocka_run_group_tests_name("db_hosts", tests, NULL, NULL);
}
