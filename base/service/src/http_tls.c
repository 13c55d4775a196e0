/* TLS of the HTTP server, on libevent's bufferevents. */
#include "http_tls.h"

#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/fail.h"

static enum obx_code load(SSL_CTX *ctx, const char *cert_file, const char *key_file,
                          struct obx_err *err)
{
    const char *what = NULL;

    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
        what = "protocol version";
    else if (SSL_CTX_use_certificate_chain_file(ctx, cert_file) != 1)
        what = "certificate";
    else if (SSL_CTX_use_PrivateKey_file(ctx, key_file, SSL_FILETYPE_PEM) != 1)
        what = "private key";
    else if (SSL_CTX_check_private_key(ctx) != 1)
        what = "pair of certificate and key";
    if (what == NULL)
        return OBX_OK;
    /* The queue belongs to the thread: what is left in it would be read as the next call's error. */
    (void)obx_fail(err, OBX_E_CONFIG, "%s of %s and %s: %s", what, cert_file, key_file,
                   ERR_reason_error_string(ERR_peek_last_error()));
    ERR_clear_error();
    return OBX_E_CONFIG;
}

enum obx_code http_tls_create(const char *cert_file, const char *key_file, struct ssl_ctx_st **out,
                              struct obx_err *err)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    enum obx_code rc;

    *out = NULL;
    if (ctx == NULL)
        return obx_fail(err, OBX_E_NOMEM, "TLS");
    /* A peer cannot make us work for it again and again on one connection. */
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    rc = load(ctx, cert_file, key_file, err);
    if (rc != OBX_OK) {
        SSL_CTX_free(ctx);
        return rc;
    }
    *out = ctx;
    return OBX_OK;
}

void http_tls_destroy(struct ssl_ctx_st *ctx)
{
    SSL_CTX_free(ctx);
}

struct bufferevent *http_tls_accept(struct ssl_ctx_st *ctx, struct event_base *base,
                                    evutil_socket_t fd)
{
    SSL *ssl = SSL_new(ctx);
    struct bufferevent *bev;

    if (ssl == NULL)
        return NULL;
    bev = bufferevent_openssl_socket_new(base, fd, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                         BEV_OPT_CLOSE_ON_FREE);
    if (bev == NULL) {
        SSL_free(ssl);
        return NULL;
    }
    /* Many clients just close. Every body has its length, so what is cut is noticed without it. */
    bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    return bev;
}

void http_tls_end(struct bufferevent *bev)
{
    SSL *ssl = bufferevent_openssl_get_ssl(bev);

    if (ssl != NULL)
        (void)SSL_shutdown(ssl);
    ERR_clear_error();
}
