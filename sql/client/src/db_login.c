/*
 * The login; see db_login.h.
 *
 * How the method of our own works, with both client libraries: it is named as the default one, so a
 * server, which does not know it, answers with the method of the account ("auth switch"). By then
 * TLS is up and verified, if it ever will be, and nothing of the password has been sent. Where the
 * line may not carry that method, the password in the library's handle is wiped, so that whatever
 * the library says next, it has nothing to say. MariaDB's library would follow a second switch, so
 * it is given a list of methods besides; Oracle's follows one only.
 */
#include "db_login.h"

#include <arpa/inet.h>
#include <errmsg.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "db_errors.h"
#if DB_CLIENT_IS_MARIADB
#include <mysql/plugin_auth.h>
#define DB_VIO_INFO MYSQL_PLUGIN_VIO_INFO
#else
#include <mysql/client_plugin.h>
#include <mysql/plugin_auth_common.h>
#define DB_VIO_INFO struct MYSQL_PLUGIN_VIO_INFO
#endif

enum {
    DEFAULT_PORT = 3306,
    METHOD_MAX = 65, /* name of a method, with its NUL */
    GATE_NAME_MAX = 32,
    AUTH_SWITCH = 254,
    CLIENT_PACKET_MAX =
        1
        << 30, /* the protocol's own limit: the server's is asked for and is the one that counts */
};

/* Methods that prove knowledge of the password and do not show it. */
#define PROOFS "mysql_native_password,client_ed25519,parsec,auth_gssapi_client"
/* These show it: in clear within TLS, else under a key that the peer has chosen. */
#define SHOWN_TO_SERVER ",caching_sha2_password,sha256_password"

/* What stands between us and the server. */
enum line {
    LINE_OPEN, /* somebody may listen or step between: proofs only */
    LINE_NEAR, /* loopback, or TLS with the certificate's chain verified: all but clear text, which
                  would show it to another local user who took the port */
    LINE_PRIVATE /* socket, or TLS with the host name verified: all */
};

/* One login, on the stack of db_login. */
struct login {
    const struct db_opts *opts;
    bool use_socket;
    bool lacks_tls; /* the server offers none, and it is required */
    bool is_refused;
    char method[METHOD_MAX]; /* that the server asked for */
};

/* The libraries hand no context to a method. A login begins and ends inside one call on one thread.
 */
static _Thread_local struct login *current_login;

static const char *none_if_empty(const char *text)
{
    return text != NULL && *text != '\0' ? text : NULL;
}

static bool needs_tls(const struct db_opts *opts)
{
    return opts->tls == DB_TLS_REQUIRED || opts->tls == DB_TLS_VERIFY_FULL;
}

static bool peer_is_loopback(int fd)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&peer;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&peer;

    if (getpeername(fd, (struct sockaddr *)&peer, &len) != 0)
        return false;
    if (peer.ss_family == AF_INET)
        return (ntohl(v4->sin_addr.s_addr) >> IN_CLASSA_NSHIFT) == IN_LOOPBACKNET;
    return peer.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* Asked when TLS is up, if the server has it: the library has verified what it was asked to. */
static enum line line_of(const struct login *login, MYSQL *mysql, MYSQL_PLUGIN_VIO *vio)
{
    const struct db_opts *opts = login->opts;
    const bool is_encrypted = mysql_get_ssl_cipher(mysql) != NULL;
    DB_VIO_INFO info;

    if (login->use_socket || (is_encrypted && opts->tls == DB_TLS_VERIFY_FULL))
        return LINE_PRIVATE;
    if (is_encrypted && opts->tls == DB_TLS_REQUIRED && none_if_empty(opts->tls_ca_file) != NULL)
        return LINE_NEAR;
    memset(&info, 0, sizeof(info));
    vio->info(vio, &info);
    return peer_is_loopback((int)info.socket) ? LINE_NEAR : LINE_OPEN;
}

/* NULL: all. */
static const char *methods_of(enum line line)
{
    switch (line) {
    case LINE_OPEN:
        return PROOFS;
    case LINE_NEAR:
        return PROOFS SHOWN_TO_SERVER;
    case LINE_PRIVATE:
        break;
    }
    return NULL;
}

static bool is_listed(const char *list, const char *name)
{
    const size_t len = strlen(name);

    while (list != NULL && len > 0) {
        if (strncmp(list, name, len) == 0 && (list[len] == ',' || list[len] == '\0'))
            return true;
        list = strchr(list, ',');
        list = list == NULL ? NULL : list + 1;
    }
    return false;
}

/* From now on the library follows only these (NULL: all). False when it does not take that. */
static bool restrict_methods(MYSQL *mysql, const char *methods)
{
#if !DB_CLIENT_IS_MARIADB
    (void)mysql;
    (void)methods;
    return true;
#elif MARIADB_PACKAGE_VERSION_ID >= 30300
    return mysql_options(mysql, MARIADB_OPT_RESTRICTED_AUTH, methods) == 0;
#else
    (void)mysql;
    return methods == NULL;
#endif
}

/* The server has asked for another method; both libraries end a packet with a NUL of their own. */
static void judge_switch(struct login *login, MYSQL *mysql, MYSQL_PLUGIN_VIO *vio)
{
    const char *name = (const char *)mysql->net.read_pos + 1;
    const char *methods = methods_of(line_of(login, mysql, vio));
    size_t len = 0;

    while (len < METHOD_MAX - 1 && ((name[len] >= 'a' && name[len] <= 'z') || name[len] == '_' ||
                                    (name[len] >= '0' && name[len] <= '9')))
        len++; /* it comes from outside, and goes into a text */
    memcpy(login->method, name, len);
    login->method[len] = '\0';
    login->is_refused = methods != NULL && !is_listed(methods, name);
    if ((login->is_refused || !restrict_methods(mysql, methods)) && mysql->passwd != NULL)
        memset(mysql->passwd, 0, strlen(mysql->passwd));
}

/*
 * The handle may still have an error of the certificate that nobody asked to be verified:
 * Connector/C 3.4 looks at it all the same, and goes on. Only where the answer was not read whole
 * is what stands in the buffer no answer.
 */
static bool is_switch(const MYSQL *mysql, int len)
{
    const unsigned number = mysql->net.last_errno;
    const bool is_whole = number != CR_SERVER_LOST && number != CR_SERVER_GONE_ERROR &&
                          number != CR_NET_PACKET_TOO_LARGE;

    return len < 0 && is_whole && mysql->net.buff != NULL && mysql->net.read_pos[0] == AUTH_SWITCH;
}

static int gate_authenticate(MYSQL_PLUGIN_VIO *vio, MYSQL *mysql)
{
    struct login *login = current_login;
    unsigned char *packet = NULL;
    int len = 0;

    if (login == NULL)
        return CR_ERROR;
    login->lacks_tls = needs_tls(login->opts) && (mysql->server_capabilities & CLIENT_SSL) == 0;
    if (login->lacks_tls)
        return CR_ERROR;
    /* Sends the request to begin TLS, then the account's name, and no word of the password. */
    len = vio->read_packet(vio, &packet);
    if (len > 0 && packet[0] == 0) /* an account without a password is in already */
        return CR_OK_HANDSHAKE_COMPLETE;
    if (is_switch(mysql, len))
        judge_switch(login, mysql, vio);
    return CR_ERROR; /* after a switch the libraries go on with the method that was asked for */
}

#if DB_CLIENT_IS_MARIADB
/* As its client_plugin.h has them: that header includes one that Debian does not ship. */
enum { METHOD_TYPE = 2, METHOD_INTERFACE = 0x0100 };
struct login_method {
    int type;
    unsigned interface_version;
    const char *name;
    const char *author;
    const char *desc;
    unsigned version[3];
    const char *license;
    void *mysql_api;
    int (*init)(char *, size_t, int, va_list);
    int (*deinit)(void);
    int (*options)(const char *option, const void *);
    int (*authenticate_user)(MYSQL_PLUGIN_VIO *vio, MYSQL *mysql);
};
#else
enum {
    METHOD_TYPE = MYSQL_CLIENT_AUTHENTICATION_PLUGIN,
    METHOD_INTERFACE = MYSQL_CLIENT_AUTHENTICATION_PLUGIN_INTERFACE_VERSION
};
#define login_method auth_plugin_t
#endif

static char gate_name[GATE_NAME_MAX];

/* Two copies of this code may live in one process (a program and a library that it loads), each
 * with its logins: each registers under a name of its own, the address of its method. MariaDB's
 * library takes a second method of the same name and goes on with the first. */
void db_login_register(void)
{
    static struct login_method gate;
    MYSQL *mysql = mysql_init(NULL);

    gate.type = METHOD_TYPE;
    gate.interface_version = METHOD_INTERFACE;
    gate.name = gate_name;
    gate.author = "Rowpost";
    gate.desc = "waits for the method that the server asks for, and judges it";
    gate.version[0] = 1;
    gate.license = "Apache-2.0";
    gate.authenticate_user = gate_authenticate;
    (void)snprintf(gate_name, sizeof(gate_name), "obx_login_%llx",
                   (unsigned long long)(uintptr_t)&gate);
    if (mysql == NULL ||
        mysql_client_register_plugin(mysql, (struct st_mysql_client_plugin *)&gate) == NULL)
        gate_name[0] = '\0';
    if (mysql != NULL)
        mysql_close(mysql);
}

/* ---- the library's options ---- */

static void set_tls_files(MYSQL *mysql, const struct db_opts *opts)
{
    if (none_if_empty(opts->tls_ca_file) != NULL)
        mysql_options(mysql, MYSQL_OPT_SSL_CA, opts->tls_ca_file);
    if (none_if_empty(opts->tls_cert_file) != NULL)
        mysql_options(mysql, MYSQL_OPT_SSL_CERT, opts->tls_cert_file);
    if (none_if_empty(opts->tls_key_file) != NULL)
        mysql_options(mysql, MYSQL_OPT_SSL_KEY, opts->tls_key_file);
}

#if DB_CLIENT_IS_MARIADB
/* With a CA file the library verifies the chain; the host name only when asked to. It goes on
 * without TLS where the server offers none, unless it verifies: our method stops that. */
static void set_tls(MYSQL *mysql, const struct db_opts *opts)
{
    const db_bool use = (db_bool)(opts->tls != DB_TLS_DISABLED);
    const db_bool verify = (db_bool)(opts->tls == DB_TLS_VERIFY_FULL);

    if (needs_tls(opts))
        set_tls_files(mysql, opts);
    mysql_options(mysql, MYSQL_OPT_SSL_ENFORCE, &use);
    mysql_options(mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
}
#else
static unsigned tls_mode(const struct db_opts *opts)
{
    switch (opts->tls) {
    case DB_TLS_DISABLED:
        return SSL_MODE_DISABLED;
    case DB_TLS_REQUIRED:
        return none_if_empty(opts->tls_ca_file) != NULL ? SSL_MODE_VERIFY_CA : SSL_MODE_REQUIRED;
    case DB_TLS_VERIFY_FULL:
        return SSL_MODE_VERIFY_IDENTITY;
    case DB_TLS_PREFERRED:
        break;
    }
    return SSL_MODE_PREFERRED;
}

static void set_tls(MYSQL *mysql, const struct db_opts *opts)
{
    const unsigned mode = tls_mode(opts);
    /* Without TLS these methods want the server's own key, and the clear text wants to be allowed;
     * our method has judged both before the library comes to them. */
    const db_bool yes = true;

    if (needs_tls(opts))
        set_tls_files(mysql, opts);
    mysql_options(mysql, MYSQL_OPT_SSL_MODE, &mode);
    mysql_options(mysql, MYSQL_OPT_GET_SERVER_PUBLIC_KEY, &yes);
    mysql_options(mysql, MYSQL_ENABLE_CLEARTEXT_PLUGIN, &yes);
}
#endif

static enum obx_code set_options(MYSQL *mysql, const struct login *login, struct obx_err *err)
{
    const unsigned protocol = login->use_socket ? MYSQL_PROTOCOL_SOCKET : MYSQL_PROTOCOL_TCP;
    const unsigned connect_s = db_whole_seconds(login->opts->connect_timeout_ms, DB_CONNECT_MS);
    const unsigned read_s = db_whole_seconds(login->opts->read_timeout_ms, DB_IO_MS);
    const unsigned write_s = db_whole_seconds(login->opts->write_timeout_ms, DB_IO_MS);
    const unsigned no = 0;
    const unsigned long packet_max = CLIENT_PACKET_MAX;
    const char *program = none_if_empty(login->opts->program_name);

    mysql_options(mysql, MYSQL_OPT_CONNECT_TIMEOUT, &connect_s);
    mysql_options(mysql, MYSQL_OPT_READ_TIMEOUT, &read_s);
    mysql_options(mysql, MYSQL_OPT_WRITE_TIMEOUT, &write_s);
    set_tls(mysql, login->opts);
    /* Without this the libraries take "localhost" for a socket of their own choice. */
    mysql_options(mysql, MYSQL_OPT_PROTOCOL, &protocol);
    mysql_options(mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    mysql_options(mysql, MYSQL_OPT_MAX_ALLOWED_PACKET, &packet_max);
    /* Else a server could ask for the files of this machine. */
    mysql_options(mysql, MYSQL_OPT_LOCAL_INFILE, &no);
    mysql_options4(mysql, MYSQL_OPT_CONNECT_ATTR_ADD, "program_name",
                   program == NULL ? "rowpost" : program);
    if (login->use_socket)
        return OBX_OK;
    if (gate_name[0] == '\0')
        return obx_fail(err, OBX_E_DB_CONNECT,
                        "the client library does not take a login method of ours");
    /* A server that knows of no methods would be served with one at once: it is not on the list. */
    if (mysql_options(mysql, MYSQL_DEFAULT_AUTH, gate_name) != 0 ||
        !restrict_methods(mysql, gate_name))
        return obx_fail(err, OBX_E_DB_CONNECT,
                        "this client library (%s) cannot be kept from giving the password away",
                        mysql_get_client_info());
    return OBX_OK;
}

/* ---- what went wrong ---- */

enum obx_code db_connect_code(enum obx_code code)
{
    switch ((int)code) {
    case OBX_E_DB_AUTH:
    case OBX_E_DB_TLS:
    case OBX_E_DB_READ_ONLY:
    case OBX_E_TIMEOUT:
    case OBX_E_NOMEM:
        return code;
    default: /* 1044 too: user and password are right, the database is not the account's */
        return OBX_E_DB_CONNECT;
    }
}

static enum obx_code connect_failed(struct db *db, const struct login *login, uint64_t started_ms,
                                    struct obx_err *err)
{
    const unsigned number = mysql_errno(db->mysql);
    const uint64_t limit_ms =
        (uint64_t)DB_MS_PER_S * db_whole_seconds(login->opts->connect_timeout_ms, DB_CONNECT_MS);
    enum obx_code code = db_connect_code(db_code_of(number, mysql_error(db->mysql)));

    if (login->lacks_tls)
        return obx_fail(err, OBX_E_DB_TLS,
                        "the server offers no TLS and tls is required; nothing was sent to it");
    if (login->is_refused)
        return obx_fail(err, OBX_E_DB_TLS,
                        "the server asks for the password by %s, which this line would show to "
                        "others; it was not sent: set tls = verify-full and tls_ca_file",
                        login->method[0] == '\0' ? "an old method" : login->method);
    if (code == OBX_E_DB_CONNECT && clock_now_ms() - started_ms >= limit_ms)
        code = OBX_E_TIMEOUT;
    return obx_fail_sys(err, code, (int)number, "%s (%u)", mysql_error(db->mysql), number);
}

enum obx_code db_login(struct db *db, const struct db_opts *opts, struct obx_err *err)
{
    const uint64_t started_ms = clock_now_ms();
    const char *host = none_if_empty(opts->host);
    const char *unix_socket = none_if_empty(opts->unix_socket);
    struct login login = {.opts = opts};
    MYSQL *connected = NULL;
    enum obx_code rc;

    login.use_socket = unix_socket != NULL && (host == NULL || strcmp(host, "localhost") == 0);
    rc = set_options(db->mysql, &login, err);
    if (rc != OBX_OK)
        return rc;
    if (host == NULL)
        host = login.use_socket ? "localhost" : "127.0.0.1";
    current_login = &login;
    connected = mysql_real_connect(db->mysql, host, none_if_empty(opts->user),
                                   none_if_empty(opts->password), none_if_empty(opts->database),
                                   opts->port == 0 ? DEFAULT_PORT : opts->port,
                                   login.use_socket ? unix_socket : NULL, CLIENT_FOUND_ROWS);
    current_login = NULL;
    if (connected == NULL)
        return connect_failed(db, &login, started_ms, err);
    if (needs_tls(opts) && mysql_get_ssl_cipher(db->mysql) == NULL)
        return obx_fail(err, OBX_E_DB_TLS, "the server does not offer TLS, and tls is required");
    return OBX_OK;
}
