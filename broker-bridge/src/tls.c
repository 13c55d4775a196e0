/*
 * Owns what librabbitmq's TLS socket does not offer: the system's certificate store as the default,
 * host names and addresses verified by OpenSSL itself, a reason that a person can act on when a
 * handshake fails, and reading and writing without waiting.
 *
 * The library gives access to the SSL_CTX only. OpenSSL's info callback, which runs at the start of
 * the handshake, hands out the SSL object made from it. After the handshake the library
 * touches it no more. Called by link_open.c and link_io.c.
 */
#include "tls.h"

#include <arpa/inet.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* OpenSSL has one callback and no context for it but the SSL_CTX itself. */
static void on_handshake(const SSL *ssl, int where, int ret)
{
    struct tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    union {
        const SSL *in;
        SSL *out;
    } cast = {.in = ssl};

    (void)ret;
    if ((where & SSL_CB_HANDSHAKE_START) != 0)
        tls->ssl = cast.out;
    if ((where & SSL_CB_HANDSHAKE_DONE) != 0)
        tls->verify_result = SSL_get_verify_result(ssl);
}

static const char *openssl_reason(void)
{
    const unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

    return reason != NULL ? reason : "no reason given";
}

/*
 * The library's own check of the host name knows no addresses. So OpenSSL learns whom the
 * certificate has to be for, and a mismatch becomes part of the verification's result, which the
 * library looks at.
 */
static bool expect_host(SSL_CTX *ctx, const char *host)
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
    struct in6_addr any; /* room for either kind */

    if (inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
}

static enum obx_code prepare_verification(SSL_CTX *ctx, amqp_socket_t *socket, const char *host,
                                          const struct options *options, struct obx_err *err)
{
    amqp_ssl_socket_set_verify_hostname(socket, 0);
    amqp_ssl_socket_set_verify_peer(socket, options->insecure ? 0 : 1);
    if (options->insecure)
        return OBX_OK;
    ERR_clear_error();
    if (options->ca_file != NULL) {
        if (amqp_ssl_socket_set_cacert(socket, options->ca_file) != AMQP_STATUS_OK)
            return obx_fail(err, OBX_E_MQ_TLS, "cannot load CA file %s: %s", options->ca_file,
                            openssl_reason());
    } else if (SSL_CTX_set_default_verify_paths(ctx) != 1) {
        return obx_fail(err, OBX_E_MQ_TLS, "cannot load the system's certificates: %s",
                        openssl_reason());
    }
    if (!expect_host(ctx, host))
        return obx_fail(err, OBX_E_MQ_TLS, "cannot expect a certificate for %s", host);
    return OBX_OK;
}

enum obx_code tls_prepare(struct tls *tls, amqp_socket_t *socket, const char *host,
                          const struct options *options, struct obx_err *err)
{
    SSL_CTX *ctx = amqp_ssl_socket_get_context(socket);
    enum obx_code rc;

    tls->ssl = NULL;
    tls->verify_result = X509_V_OK;
    rc = prepare_verification(ctx, socket, host, options, err);
    if (rc != OBX_OK)
        return rc;
    ERR_clear_error();
    if (options->cert_file != NULL &&
        amqp_ssl_socket_set_key(socket, options->cert_file, options->key_file) != AMQP_STATUS_OK)
        return obx_fail(err, OBX_E_MQ_TLS, "cannot load certificate %s and key %s: %s",
                        options->cert_file, options->key_file, openssl_reason());
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
        return obx_fail(err, OBX_E_MQ_TLS, "cannot require TLS 1.2");
    SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_app_data(ctx, tls);
    SSL_CTX_set_info_callback(ctx, on_handshake);
    return OBX_OK;
}

const char *tls_reason(const struct tls *tls, int status)
{
    switch (status) {
    case AMQP_STATUS_SSL_PEER_VERIFY_FAILED:
    case AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED:
        return X509_verify_cert_error_string(tls->verify_result);
    case AMQP_STATUS_SSL_CONNECTION_FAILED:
    case AMQP_STATUS_SSL_ERROR:
        return openssl_reason();
    default:
        return NULL;
    }
}

ssize_t tls_write(struct tls *tls, const void *p, size_t len)
{
    int written;
    int reason;

    if (tls->ssl == NULL)
        return -1;
    ERR_clear_error();
    written = SSL_write(tls->ssl, p, len > INT_MAX ? INT_MAX : (int)len);
    if (written > 0)
        return written;
    reason = SSL_get_error(tls->ssl, written);
    return reason == SSL_ERROR_WANT_WRITE || reason == SSL_ERROR_WANT_READ ? 0 : -1;
}

ssize_t tls_read(struct tls *tls, void *p, size_t room, struct obx_err *err)
{
    int got;
    int reason;

    if (tls->ssl == NULL) {
        (void)obx_fail(err, OBX_E_MQ_GONE, "no TLS session");
        return -1;
    }
    ERR_clear_error();
    got = SSL_read(tls->ssl, p, room > INT_MAX ? INT_MAX : (int)room);
    if (got > 0)
        return got;
    reason = SSL_get_error(tls->ssl, got);
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE)
        return 0;
    if (reason == SSL_ERROR_ZERO_RETURN)
        (void)obx_fail(err, OBX_E_MQ_GONE, "connection closed by the broker");
    else
        (void)obx_fail_sys(err, OBX_E_MQ_GONE, AMQP_STATUS_SSL_ERROR, "read: TLS: %s",
                           openssl_reason());
    return -1;
}
