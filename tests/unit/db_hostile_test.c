/*
 * The database client against a server that means harm: what it is told of the password on which
 * line, and that nothing it sends, or does not send, ends the program, hangs it, or gets a file.
 * The numbers of the lines: 127.0.0.1 is near, another address of this machine is open.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hostile_db.h"
#include "sql/db.h"
#include "wait.h"

#define NEAR "127.0.0.1"

enum {
    SCRAMBLE = 20, /* bytes of the proof that mysql_native_password sends */
    DEADLINE_MS =
        20000, /* of what ends within a second or two when nobody else is on the machine */
    LIAR_ROUNDS = 400,
    PATH_LEN = 128,
};

static const char secret[] = "Plain-Secret-9";
static const char file_text[] = "a line of a file of ours";
static char open_host[INET_ADDRSTRLEN]; /* of this machine, not the loopback */
static char folder[] = "/tmp/obx_hostile_XXXXXX";
static char cert_file[PATH_LEN];
static char key_file[PATH_LEN];
static char own_file[PATH_LEN];

static void find_open_host(void)
{
    struct ifaddrs *all = NULL;

    assert_int_equal(getifaddrs(&all), 0);
    for (struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
        if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET ||
            (i->ifa_flags & IFF_LOOPBACK) != 0)
            continue;
        assert_non_null(inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr,
                                  open_host, sizeof(open_host)));
    }
    freeifaddrs(all);
    if (open_host[0] == '\0')
        fail_msg("this machine has no address besides the loopback; the test needs one");
}

/* A certificate that nobody has signed but its owner. */
static void make_certificate(void)
{
    EVP_PKEY *key = EVP_RSA_gen(2048);
    X509 *cert = X509_new();
    FILE *file = fopen(key_file, "w");

    assert_non_null(key);
    assert_non_null(cert);
    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    (void)fclose(file);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"nobody", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    file = fopen(cert_file, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, cert), 1);
    (void)fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static int set_up(void **state)
{
    FILE *file = NULL;

    (void)state;
    find_open_host();
    assert_non_null(mkdtemp(folder));
    (void)snprintf(cert_file, sizeof(cert_file), "%s/cert.pem", folder);
    (void)snprintf(key_file, sizeof(key_file), "%s/key.pem", folder);
    (void)snprintf(own_file, sizeof(own_file), "%s/own.txt", folder);
    make_certificate();
    file = fopen(own_file, "w");
    assert_non_null(file);
    assert_true(fputs(file_text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(cert_file);
    (void)unlink(key_file);
    (void)unlink(own_file);
    (void)rmdir(folder);
    return 0;
}

static struct db_opts opts_for(const char *host, enum db_tls tls)
{
    return (struct db_opts){
        .host = host,
        .user = "somebody",
        .password = secret,
        .tls = tls,
        .connect_timeout_ms = 2000,
        .read_timeout_ms = 2000,
        .write_timeout_ms = 2000,
    };
}

/* ---- the password ---- */

struct talk {
    enum obx_code code;
    struct obx_err err;
    size_t heard_len;
    size_t answered;
    bool knows_password;
};

static void talk_to(const struct hostile_plan *plan, const char *host, enum db_tls tls,
                    struct talk *talk)
{
    struct hostile_db *server = hostile_db_create(plan);
    struct db_opts opts = opts_for(host, tls);
    struct db *db = NULL;

    assert_non_null(server);
    memset(talk, 0, sizeof(*talk));
    opts.port = hostile_db_port(server);
    talk->code = db_open(&opts, &db, &talk->err);
    db_close(db);
    hostile_db_stop(server);
    talk->heard_len = hostile_db_heard_len(server);
    talk->answered = hostile_db_answered(server);
    talk->knows_password = hostile_db_heard(server, secret, strlen(secret));
    hostile_db_destroy(server);
}

static void without_tls_nothing_is_sent_where_it_is_required(void **state)
{
    static const enum db_tls modes[] = {DB_TLS_REQUIRED, DB_TLS_VERIFY_FULL};
    const char *hosts[] = {NEAR, open_host};
    const struct hostile_plan plan = {.no_tls = true};
    struct talk talk;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        talk_to(&plan, hosts[i / 2], modes[i % 2], &talk);
        assert_int_equal(talk.code, OBX_E_DB_TLS);
        assert_non_null(strstr(talk.err.text, "TLS"));
        assert_int_equal(talk.heard_len, 0);
    }
}

/* A server that claims to be older than the methods would be told a proof at once. */
static void a_server_without_methods_gets_nothing(void **state)
{
    const struct hostile_plan plan = {.no_tls = true, .no_methods = true};
    struct talk talk;

    (void)state;
    talk_to(&plan, open_host, DB_TLS_REQUIRED, &talk);
    assert_int_not_equal(talk.code, OBX_OK);
    assert_false(talk.knows_password);
}

/* Each way to ask for the password itself, on each line on which somebody may listen or step
 * between: no TLS, TLS with whom nobody knows. */
static void an_open_line_shows_no_password(void **state)
{
    static const char *const methods[] = {"caching_sha2_password", "sha256_password",
                                          "mysql_clear_password", "dialog", "mysql_old_password"};
    static const enum db_tls modes[] = {DB_TLS_PREFERRED, DB_TLS_DISABLED, DB_TLS_REQUIRED};
    struct hostile_plan plan = {
        .login = HOSTILE_SWITCH, .cert_file = cert_file, .key_file = key_file};
    struct talk talk;

    (void)state;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        plan.method = methods[i];
        for (size_t mode = 0; mode < sizeof(modes) / sizeof(modes[0]); mode++) {
            for (int no_tls = 0; no_tls <= (modes[mode] != DB_TLS_REQUIRED); no_tls++) {
                plan.no_tls = no_tls != 0;
                talk_to(&plan, open_host, modes[mode], &talk);
                assert_int_equal(talk.code, OBX_E_DB_TLS);
                assert_non_null(strstr(talk.err.text, methods[i]));
                assert_non_null(strstr(talk.err.text, "tls_ca_file"));
                assert_false(talk.knows_password);
                assert_int_equal(talk.answered, 0);
            }
        }
    }
}

static void a_second_request_is_not_followed(void **state)
{
    static const char *const methods[] = {"caching_sha2_password", "mysql_clear_password",
                                          "dialog"};
    struct hostile_plan plan = {
        .login = HOSTILE_SWITCH_TWICE, .cert_file = cert_file, .key_file = key_file};
    struct talk talk;

    (void)state;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        plan.method = methods[i];
        for (int no_tls = 0; no_tls <= 1; no_tls++) {
            plan.no_tls = no_tls != 0;
            talk_to(&plan, open_host, DB_TLS_PREFERRED, &talk);
            assert_int_not_equal(talk.code, OBX_OK);
            assert_false(talk.knows_password);
            assert_true(talk.answered <= SCRAMBLE);
        }
    }
}

static void the_method_of_1998_is_refused(void **state)
{
    const struct hostile_plan plan = {.login = HOSTILE_SWITCH_OLD, .no_tls = true};
    const char *hosts[] = {NEAR, open_host};
    struct talk talk;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        talk_to(&plan, hosts[i], DB_TLS_PREFERRED, &talk);
        assert_int_not_equal(talk.code, OBX_OK);
        assert_int_equal(talk.answered, 0);
    }
}

/* Another local user may have taken the port. */
static void the_loopback_shows_no_clear_text(void **state)
{
    static const char *const methods[] = {"mysql_clear_password", "dialog"};
    struct hostile_plan plan = {.login = HOSTILE_SWITCH, .no_tls = true};
    struct talk talk;

    (void)state;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        plan.method = methods[i];
        talk_to(&plan, NEAR, DB_TLS_PREFERRED, &talk);
        assert_int_equal(talk.code, OBX_E_DB_TLS);
        assert_int_equal(talk.answered, 0);
    }
}

/* So that an ordinary MySQL beside the program can be logged in to. */
static void the_loopback_carries_the_methods_of_today(void **state)
{
    struct hostile_plan plan = {.login = HOSTILE_SWITCH, .method = "caching_sha2_password"};
    struct talk talk;

    (void)state;
    plan.no_tls = true;
    talk_to(&plan, NEAR, DB_TLS_PREFERRED, &talk);
    assert_true(talk.answered > 0);
    plan.method = "mysql_native_password";
    talk_to(&plan, open_host, DB_TLS_PREFERRED, &talk);
    assert_true(talk.answered > 0 && !talk.knows_password);
}

/* What one of the libraries would take for something else than a name. */
static void a_wrong_list_of_hosts_is_refused(void **state)
{
    static const char *const hosts[] = {
        "127.0.0.1,127.0.0.1", "host=127.0.0.1", "127.0.0.1;", "a b", "127.0.0.1,,", "127.0.0.1:0"};

    (void)state;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        struct db_opts opts = opts_for(hosts[i], DB_TLS_PREFERRED);
        struct obx_err err = {.code = OBX_OK};
        struct db *db = NULL;

        opts.port = 1;
        assert_int_equal(db_open(&opts, &db, &err), OBX_E_DB_CONNECT);
        if (strstr(err.text, "is not a host") == NULL && strstr(err.text, "twice") == NULL)
            fail_msg("%s: %s", hosts[i], err.text);
    }
}

/* ---- what it sends ---- */

/* Each way in which an answer is read; the connection may be gone after any of them. */
static void use(struct db *db)
{
    static const char query[] = "SELECT a FROM t WHERE b = ?";
    struct db_rows *rows = NULL;
    struct obx_err err = {.code = OBX_OK};

    if (db_query(db, "SELECT 1", DB_NO_ARGS, &rows, &err) == OBX_OK) {
        while (db_rows_next(rows))
            (void)db_rows_bytes(rows, 0);
    }
    db_rows_free(rows);
    if (db_query(db, query, DB_ARGS(DB_U64(1)), &rows, &err) == OBX_OK) {
        while (db_rows_next(rows))
            (void)db_rows_bytes(rows, 0);
    }
    db_rows_free(rows);
    (void)!db_exec(db, "UPDATE t SET a = ?", DB_ARGS(DB_TEXT("x")), NULL, &err);
    (void)!db_begin(db, &err);
    (void)!db_commit(db, &err);
    (void)!db_ping(db, &err);
    (void)db_rollback(db, &err);
}

static enum obx_code visit(const struct hostile_plan *plan)
{
    struct hostile_db *server = hostile_db_create(plan);
    struct db_opts opts = opts_for(NEAR, DB_TLS_DISABLED);
    struct obx_err err = {.code = OBX_OK};
    struct db *db = NULL;
    enum obx_code code = OBX_OK;
    bool has_file = false;

    assert_non_null(server);
    opts.port = hostile_db_port(server);
    code = db_open(&opts, &db, &err);
    assert_int_equal(code == OBX_OK, db != NULL);
    if (db != NULL)
        use(db);
    db_close(db);
    hostile_db_stop(server);
    has_file = hostile_db_heard(server, file_text, strlen(file_text));
    hostile_db_destroy(server);
    assert_false(has_file);
    return code;
}

/* To the first request of a session, and to each of those that follow. */
static void a_file_is_never_given(void **state)
{
    struct hostile_plan plan = {.query = HOSTILE_QUERY_FILE, .bytes = own_file, .no_tls = true};

    (void)state;
    plan.len = strlen(own_file);
    for (plan.after = 0; plan.after < 8; plan.after++)
        (void)visit(&plan);
}

/* Heads that promise more or less than comes, texts without an end, counts beyond all reason, a
 * packet of nothing, an error within an answer. */
static void lies_end_the_connection_only(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } lies[] = {
#define LIE(text) {text, sizeof(text) - 1}
        LIE(""),
        LIE("\0\0\0\1"),
        LIE("\xff\xff\xff\1\0\0\0"),
        LIE("\1\0\0\1\0"),
        LIE("\1\0\0\1\xff"),
        LIE("\2\0\0\1\xff\x15"),
        LIE("\3\0\0\1\xff\xff\xff"),
        LIE("\1\0\0\1\xfe"),
        LIE("\1\0\0\1\xfb"),
        LIE("\1\0\0\1\1"),
        LIE("\2\0\0\1\xfc\xff"),
        LIE("\4\0\0\1\xfd\xff\xff\xff"),
        LIE("\x09\0\0\1\xfe\xff\xff\xff\xff\xff\xff\xff\xff"),
        LIE("\1\0\0\1\1\3\0\0\2\xfc\xff\xff"),
        LIE("\1\0\0\1\1\x0a\0\0\2\3def\xfe\xff\xff\xff\xff\xff"),
        LIE("\7\0\0\1\0\xfe\xff\xff\xff\xff\xff"),
        LIE("\x0c\0\0\1\0\1\0\0\0\xff\xff\xff\xff\0\0\0"), /* a statement of 65535 columns and
                                                              places */
        LIE("\1\0\0\7\0"),
        LIE("\x0a HTTP/1.1 400 Bad Request\r\n\r\n"),
#undef LIE
    };
    struct hostile_plan plan = {.no_tls = true};

    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        plan.bytes = lies[i].bytes;
        plan.len = lies[i].len;
        plan.query = HOSTILE_QUERY_BYTES;
        plan.login = HOSTILE_LOGIN_OK;
        for (plan.after = 0; plan.after < 8; plan.after++)
            (void)visit(&plan);
        plan.login = HOSTILE_LOGIN_BYTES;
        assert_int_not_equal(visit(&plan), OBX_OK);
        plan.login = HOSTILE_GREETING;
        assert_int_not_equal(visit(&plan), OBX_OK);
    }
}

/* The head of an answer that is right, and then bytes at random: the same ones in each run. */
static void noise_ends_the_connection_only(void **state)
{
    static const char result[] = "\1\0\0\1\1"
                                 "\x17\0\0\2\3def\0\0\0\1a\0\x0c\x3f\0\1\0\0\0\x08\1\0\0\0\0"
                                 "\5\0\0\3\xfe\0\0\2\0"
                                 "\2\0\0\4\1"
                                 "7"
                                 "\5\0\0\5\xfe\0\0\2\0";
    char bytes[sizeof(result)];
    struct hostile_plan plan = {.query = HOSTILE_QUERY_BYTES, .no_tls = true, .bytes = bytes};
    uint32_t random = 1;

    (void)state;
    plan.len = sizeof(result) - 1;
    for (unsigned round = 0; round < LIAR_ROUNDS; round++) {
        memcpy(bytes, result, sizeof(result));
        for (unsigned hits = 0; hits < 1 + round % 3; hits++) {
            random = random * 1103515245U + 12345U;
            bytes[(random >> 8) % plan.len] = (char)(random >> 24);
        }
        plan.after = round % 8;
        (void)visit(&plan);
    }
}

/* ---- silence ---- */

struct silent {
    struct hostile_plan plan;
    struct hostile_db *server;
    pthread_t thread;
    enum obx_code code;
    bool is_dead; /* after the first failure, or never opened */
};

static void *open_and_use(void *arg)
{
    struct silent *silent = arg;
    struct db_opts opts = opts_for(NEAR, DB_TLS_DISABLED);
    struct obx_err err = {.code = OBX_OK};
    struct db_rows *rows = NULL;
    struct db *db = NULL;

    opts.port = hostile_db_port(silent->server);
    silent->is_dead = true;
    silent->code = db_open(&opts, &db, &err);
    if (db != NULL) {
        silent->code = db_query(db, "SELECT 1", DB_NO_ARGS, &rows, &err);
        db_rows_free(rows);
        silent->is_dead = db_ping(db, &err) != OBX_OK; /* at once */
    }
    db_close(db);
    db_thread_end();
    return NULL;
}

static void silence_and_floods_end_within_the_deadlines(void **state)
{
    static const char half_packet[] = "\x20\0\0\1\0\1";
    struct silent cases[] = {
        {.plan = {.login = HOSTILE_SILENT_AT_ONCE}},
        {.plan = {.login = HOSTILE_SILENT_LOGIN, .no_tls = true}},
        {.plan = {.query = HOSTILE_QUERY_SILENT, .no_tls = true}},
        {.plan = {.query = HOSTILE_QUERY_SILENT, .no_tls = true, .after = 1}},
        {.plan = {.query = HOSTILE_QUERY_SILENT, .no_tls = true, .after = 2}},
        {.plan = {.query = HOSTILE_QUERY_BYTES, .bytes = half_packet, .len = 6, .no_tls = true}},
        {.plan = {.query = HOSTILE_QUERY_ENDLESS, .no_tls = true, .after = 2}},
        {.plan = {.query = HOSTILE_QUERY_CLOSE, .no_tls = true, .after = 2}},
    };
    const size_t count = sizeof(cases) / sizeof(cases[0]);
    const int64_t started_ms = wait_now_ms();

    (void)state;
    for (size_t i = 0; i < count; i++) {
        cases[i].server = hostile_db_create(&cases[i].plan);
        assert_non_null(cases[i].server);
        assert_int_equal(pthread_create(&cases[i].thread, NULL, open_and_use, &cases[i]), 0);
    }
    for (size_t i = 0; i < count; i++)
        pthread_join(cases[i].thread, NULL);
    for (size_t i = 0; i < count; i++) {
        hostile_db_destroy(cases[i].server);
        if (cases[i].code == OBX_OK)
            fail_msg("case %zu: passed for an answer", i);
        assert_true(cases[i].is_dead);
    }
    assert_true(wait_now_ms() - started_ms < DEADLINE_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_tls_nothing_is_sent_where_it_is_required),
        cmocka_unit_test(a_server_without_methods_gets_nothing),
        cmocka_unit_test(an_open_line_shows_no_password),
        cmocka_unit_test(a_second_request_is_not_followed),
        cmocka_unit_test(the_method_of_1998_is_refused),
        cmocka_unit_test(the_loopback_shows_no_clear_text),
        cmocka_unit_test(the_loopback_carries_the_methods_of_today),
        cmocka_unit_test(a_wrong_list_of_hosts_is_refused),
        cmocka_unit_test(a_file_is_never_given),
        cmocka_unit_test(lies_end_the_connection_only),
        cmocka_unit_test(noise_ends_the_connection_only),
        cmocka_unit_test(silence_and_floods_end_within_the_deadlines),
    };
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);

    db_thread_end();
    return failed;
}
