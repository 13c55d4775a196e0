/* System tests of TLS with the database: what each mode accepts, and that a password does not go
 * where it should not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "test_db.h"

static struct test_db test;
static struct obx_err err;

static int make_database(void **state)
{
    (void)state;
    test_db_create(&test, "tls");
    return 0;
}

static int drop_database(void **state)
{
    (void)state;
    test_db_drop(&test);
    return 0;
}

static struct db_opts opts_with(enum db_tls tls, const char *ca_file)
{
    struct db_opts opts = test.opts;

    obx_err_clear(&err);
    opts.tls = tls;
    opts.tls_ca_file = ca_file;
    return opts;
}

static bool is_encrypted(const struct db_opts *opts)
{
    struct db *db = test_db_open(opts);
    struct db_rows *rows = NULL;
    bool encrypted = false;

    assert_int_equal(db_query(db, "SHOW SESSION STATUS LIKE 'Ssl_cipher'", DB_NO_ARGS, &rows, &err),
                     OBX_OK);
    assert_true(db_rows_next(rows));
    encrypted = db_rows_bytes(rows, 1).len > 0;
    db_rows_free(rows);
    db_close(db);
    return encrypted;
}

static enum obx_code open_code(const struct db_opts *opts)
{
    struct db *db = NULL;
    enum obx_code code = db_open(opts, &db, &err);

    assert_int_equal(code == OBX_OK, db != NULL);
    db_close(db);
    return code;
}

static void each_mode_encrypts_or_not(void **state)
{
    struct db_opts opts = opts_with(DB_TLS_PREFERRED, NULL);

    (void)state;
    assert_true(is_encrypted(&opts));
    opts = opts_with(DB_TLS_DISABLED, NULL);
    assert_false(is_encrypted(&opts));
    opts = opts_with(DB_TLS_REQUIRED, NULL);
    assert_true(is_encrypted(&opts));
    opts = opts_with(DB_TLS_REQUIRED, test_env("OBX_TEST_TLS_CA"));
    assert_true(is_encrypted(&opts));
    opts = opts_with(DB_TLS_VERIFY_FULL, test_env("OBX_TEST_TLS_CA"));
    assert_true(is_encrypted(&opts));
}

/* The client's certificate is signed by the authority but is none. */
static void a_certificate_of_another_authority_is_refused(void **state)
{
    struct db_opts opts = opts_with(DB_TLS_REQUIRED, test_env("OBX_TEST_TLS_CERT"));

    (void)state;
    assert_int_equal(open_code(&opts), OBX_E_DB_TLS);
    opts = opts_with(DB_TLS_VERIFY_FULL, test_env("OBX_TEST_TLS_CERT"));
    assert_int_equal(open_code(&opts), OBX_E_DB_TLS);
    /* "Preferred" asks for no certificate. */
    opts = opts_with(DB_TLS_PREFERRED, test_env("OBX_TEST_TLS_CERT"));
    assert_int_equal(open_code(&opts), OBX_OK);
}

static void the_host_name_counts_for_full_verification_only(void **state)
{
    struct db_opts opts = opts_with(DB_TLS_VERIFY_FULL, test_env("OBX_TEST_TLS_CA"));
    enum obx_code required = OBX_OK;

    (void)state;
    opts.host = "127.1"; /* the same address under a name that is not in the certificate */
    assert_int_equal(open_code(&opts), OBX_E_DB_TLS);
    /* Connector/C compares the name here, too, from 3.4 on (docs/compatibility.md). */
    opts.tls = DB_TLS_REQUIRED;
    required = open_code(&opts);
    assert_true(required == OBX_OK || required == OBX_E_DB_TLS);
    opts.host = "localhost";
    assert_int_equal(open_code(&opts), OBX_OK);
    opts.tls = DB_TLS_VERIFY_FULL;
    assert_int_equal(open_code(&opts), OBX_OK);
}

static void an_address_may_have_brackets(void **state)
{
    struct db_opts opts = opts_with(DB_TLS_PREFERRED, NULL);

    (void)state;
    opts.host = "[127.0.0.1]";
    assert_int_equal(open_code(&opts), OBX_OK);
}

static void a_missing_file_is_an_error(void **state)
{
    struct db_opts opts = opts_with(DB_TLS_VERIFY_FULL, "/nonexistent/ca.pem");

    (void)state;
    assert_int_equal(open_code(&opts), OBX_E_DB_TLS);
}

static void users_of_whom_the_server_asks_tls(void **state)
{
    struct db_opts opts = test_db_root_opts();
    struct db *root = test_db_open(&opts);
    char sql[160];

    (void)state;
    (void)snprintf(sql, sizeof(sql),
                   "CREATE USER '%s'@'%%' IDENTIFIED BY 'Safe-1-Password' REQUIRE X509", test.name);
    test_db_run(root, sql);
    opts = opts_with(DB_TLS_REQUIRED, NULL);
    opts.user = test.name;
    opts.password = "Safe-1-Password";
    opts.database = NULL;
    assert_int_equal(open_code(&opts), OBX_E_DB_AUTH);
    opts.tls_cert_file = test_env("OBX_TEST_TLS_CERT");
    opts.tls_key_file = test_env("OBX_TEST_TLS_KEY");
    assert_int_equal(open_code(&opts), OBX_OK);
    opts.tls = DB_TLS_DISABLED;
    assert_int_equal(open_code(&opts), OBX_E_DB_AUTH);
    (void)snprintf(sql, sizeof(sql), "DROP USER '%s'@'%%'", test.name);
    test_db_run(root, sql);
    db_close(root);
}

/*
 * Somebody who plays a server: offers no TLS, and asks for the password in clear text. Keeps what
 * it was sent.
 */
struct impostor {
    int fd;
    uint16_t port;
    pthread_t thread;
    char heard[4096];
    size_t heard_len;
};

static void hear(struct impostor *impostor, int fd)
{
    ssize_t got = recv(fd, impostor->heard + impostor->heard_len,
                       sizeof(impostor->heard) - impostor->heard_len, 0);

    if (got > 0)
        impostor->heard_len += (size_t)got;
}

static void *play_server(void *arg)
{
    /* Protocol 10, native password; the capabilities of a MariaDB but for CLIENT_SSL. */
    static const char greeting[] = "\x59\0\0\0"
                                   "\x0a"
                                   "5.5.5-10.11.9-MariaDB\0"
                                   "\5\0\0\0"
                                   "abcdefgh\0"
                                   "\xfe\xf7\x2d\2\0\x28\0\x15"
                                   "\0\0\0\0\0\0\0\0\0\0"
                                   "ijklmnopqrst\0"
                                   "mysql_native_password";
    static const char in_clear[] = "\x16\0\0\2\xfemysql_clear_password";
    struct impostor *impostor = arg;
    const int fd = accept(impostor->fd, NULL, NULL);

    if (fd < 0)
        return NULL;
    (void)send(fd, greeting, sizeof(greeting), MSG_NOSIGNAL);
    hear(impostor, fd);
    (void)send(fd, in_clear, sizeof(in_clear), MSG_NOSIGNAL);
    hear(impostor, fd);
    close(fd);
    return NULL;
}

static void impostor_start(struct impostor *impostor)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    memset(impostor, 0, sizeof(*impostor));
    impostor->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(impostor->fd >= 0);
    assert_int_equal(bind(impostor->fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(impostor->fd, 1), 0);
    assert_int_equal(getsockname(impostor->fd, (struct sockaddr *)&address, &len), 0);
    impostor->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&impostor->thread, NULL, play_server, impostor), 0);
}

static void impostor_end(struct impostor *impostor)
{
    pthread_join(impostor->thread, NULL);
    close(impostor->fd);
}

static enum obx_code open_impostor(struct impostor *impostor, enum db_tls tls)
{
    struct db_opts opts =
        opts_with(tls, tls == DB_TLS_VERIFY_FULL ? test_env("OBX_TEST_TLS_CA") : NULL);
    enum obx_code code = OBX_OK;

    impostor_start(impostor);
    opts.port = impostor->port;
    opts.password = "Plain-Secret-9";
    opts.connect_timeout_ms = 5000;
    code = open_code(&opts);
    impostor_end(impostor);
    return code;
}

static bool has_heard(const struct impostor *impostor, const char *word)
{
    const size_t len = strlen(word);

    for (size_t i = 0; i + len <= impostor->heard_len; i++) {
        if (memcmp(impostor->heard + i, word, len) == 0)
            return true;
    }
    return false;
}

static void an_impostor_does_not_get_the_password(void **state)
{
    static const enum db_tls modes[] = {DB_TLS_PREFERRED, DB_TLS_DISABLED, DB_TLS_REQUIRED};
    struct impostor impostor;

    (void)state;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        const enum obx_code code = open_impostor(&impostor, modes[i]);

        assert_true(code == OBX_E_DB_AUTH || code == OBX_E_DB_TLS);
        assert_false(has_heard(&impostor, "Plain-Secret-9"));
    }
    /* Nothing at all is sent to whom cannot prove its name. */
    assert_int_equal(open_impostor(&impostor, DB_TLS_VERIFY_FULL), OBX_E_DB_TLS);
    assert_int_equal(impostor.heard_len, 0);
}

/*
 * With the default disposition a SIGPIPE would end this program. The server has closed the
 * connection, and the request is too large for one write, so the answer to the first write (RST)
 * meets a later one. With TLS the writing is OpenSSL's.
 */
static void write_to_closed(enum db_tls tls, struct db *other, struct obx_bytes body)
{
    const struct db_opts opts = opts_with(tls, NULL);
    struct db *db = test_db_open(&opts);
    char sql[64];

    (void)snprintf(sql, sizeof(sql), "KILL %" PRIu64, db_connection_id(db));
    test_db_run(other, sql);
    assert_int_equal(db_exec(db, "SELECT LENGTH(?)", DB_ARGS(DB_BYTES(body)), NULL, &err),
                     OBX_E_DB_GONE);
    db_close(db);
}

static void writing_to_a_closed_connection_raises_no_signal(void **state)
{
    enum { BODY = 8 << 20 };
    struct db *other = test_db_open(&test.opts);
    void (*before)(int) = signal(SIGPIPE, SIG_DFL);
    char *body = calloc(1, BODY);

    (void)state;
    assert_non_null(body);
    for (int i = 0; i < 5; i++) {
        write_to_closed(DB_TLS_DISABLED, other, (struct obx_bytes){body, BODY});
        write_to_closed(DB_TLS_REQUIRED, other, (struct obx_bytes){body, BODY});
    }
    free(body);
    (void)signal(SIGPIPE, before);
    db_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mode_encrypts_or_not),
        cmocka_unit_test(a_certificate_of_another_authority_is_refused),
        cmocka_unit_test(the_host_name_counts_for_full_verification_only),
        cmocka_unit_test(an_address_may_have_brackets),
        cmocka_unit_test(a_missing_file_is_an_error),
        cmocka_unit_test(users_of_whom_the_server_asks_tls),
        cmocka_unit_test(an_impostor_does_not_get_the_password),
        cmocka_unit_test(writing_to_a_closed_connection_raises_no_signal),
    };
    int failed = cmocka_run_group_tests(tests, make_database, drop_database);

    db_thread_end();
    return failed;
}
