/*
 * What stands between the outside and a page of the console: escaping, addresses, parameters, and who
 * may come in. Random bytes and known attacks; nothing here needs a server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "console/access.h"
#include "console/html.h"
#include "console/params.h"

enum { ROUNDS = 20000, BYTES_MAX = 64 };

/* The same bytes in every run. */
static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525U + 1013904223U;
    return *seed >> 8;
}

/* ---- escaping ---- */

/* An entity of ours, or none of the characters that mean something to HTML; UTF-8; nothing that a
 * browser would take for an order. */
static void check_html(const struct obx_buf *out)
{
    static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    const char *at = out->data == NULL ? "" : out->data;

    assert_int_equal(strlen(at), out->len);
    assert_true(out->len == 0 || utf8_is_valid(buf_bytes(out)));
    for (; *at != '\0'; at++) {
        bool is_entity = false;

        assert_null(strchr("<>\"'", *at));
        assert_true((unsigned char)*at >= ' ' || *at == '\n' || *at == '\t');
        for (size_t i = 0; *at == '&' && i < sizeof(entities) / sizeof(entities[0]); i++)
            is_entity = is_entity || strncmp(at, entities[i], strlen(entities[i])) == 0;
        assert_true(*at != '&' || is_entity);
    }
}

static void any_bytes_become_only_text(void **state)
{
    static const char alphabet[] = "<>&\"'`=/ \n\0\x7f\x80\xff\xe2\x80\xae\xc2\x9b"
                                   "abc;#x";
    uint32_t seed = 1;

    (void)state;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char bytes[BYTES_MAX];
        const size_t len = next_random(&seed) % BYTES_MAX;
        struct obx_buf out = {0};

        for (size_t k = 0; k < len; k++)
            bytes[k] = i % 2 == 0 ? (char)next_random(&seed)
                                  : alphabet[next_random(&seed) % (sizeof(alphabet) - 1)];
        html_add(&out, (struct obx_bytes){.p = bytes, .len = len});
        assert_int_equal(out.rc, OBX_OK);
        check_html(&out);
        buf_fini(&out);
    }
}

static void what_is_harmless_stays(void **state)
{
    struct obx_buf out = {0};

    (void)state;
    html_add_text(&out, "Grüße, 4711 \xF0\x9F\x93\xA6\nnext");
    assert_string_equal(out.data, "Grüße, 4711 \xF0\x9F\x93\xA6\nnext");
    buf_reset(&out);
    html_add_text(&out, "a<b>\"c\"&'d'");
    assert_string_equal(out.data, "a&lt;b&gt;&quot;c&quot;&amp;&#39;d&#39;");
    buf_reset(&out);
    html_add_text(&out, "user\xE2\x80\xAEgpj.exe"); /* would be shown from right to left */
    assert_string_equal(out.data, "user\xEF\xBF\xBDgpj.exe");
    buf_fini(&out);
}

static void an_address_is_only_an_address(void **state)
{
    struct obx_buf out = {0};

    (void)state;
    url_add(&out, "a b/c?d&e=f#g\"'<>\r\n%\xff");
    assert_string_equal(out.data, "a%20b%2Fc%3Fd%26e%3Df%23g%22%27%3C%3E%0D%0A%25%FF");
    buf_fini(&out);
}

static void a_cell_is_no_formula(void **state)
{
    static const char *const formulas[] = {"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"};
    struct obx_buf out = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(formulas) / sizeof(formulas[0]); i++) {
        buf_reset(&out);
        csv_add(&out, bytes_of(formulas[i]));
        assert_int_equal(strncmp(out.data, "\"'", 2), 0);
    }
    buf_reset(&out);
    csv_add(&out, bytes_of("a\",\"b\nc"));
    assert_string_equal(out.data, "\"a\"\",\"\"b\nc\"");
    buf_fini(&out);
}

/* ---- parameters ---- */

static void parameters_are_decoded_and_bounded(void **state)
{
    struct params params = {0};
    struct obx_buf many = {0};

    (void)state;
    assert_true(params_parse(&params, bytes_of("a=1&b=x+y%2Bz&c&a=2&d=%3Cb%3E&")));
    assert_int_equal(params.count, 5);
    assert_string_equal(params_get(&params, "a"), "1");
    assert_string_equal(params_get(&params, "b"), "x y+z");
    assert_null(params_get(&params, "c")); /* empty is as if it were not there */
    assert_string_equal(params_get(&params, "d"), "<b>");
    assert_null(params_get(&params, "e"));
    params_fini(&params);
    assert_false(params_parse(&params, bytes_of("a=%")));
    params_fini(&params);
    assert_false(params_parse(&params, bytes_of("a=%zz")));
    params_fini(&params);
    assert_false(params_parse(&params, bytes_of("a=%00")));
    params_fini(&params);
    for (unsigned i = 0; i < PARAMS_MAX + 1; i++)
        buf_add_text(&many, "id=1&");
    assert_false(params_parse(&params, buf_bytes(&many)));
    params_fini(&params);
    buf_reset(&many);
    buf_add_text(&many, "a=");
    for (unsigned i = 0; i < 4 * PARAM_VALUE_MAX; i++)
        buf_add_text(&many, "x");
    assert_false(params_parse(&params, buf_bytes(&many)));
    params_fini(&params);
    buf_fini(&many);
}

static void any_query_is_taken_or_refused(void **state)
{
    static const char alphabet[] = "a=&%+20\0\xff";
    uint32_t seed = 7;

    (void)state;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char bytes[BYTES_MAX];
        const size_t len = next_random(&seed) % BYTES_MAX;
        struct params params = {0};

        for (size_t k = 0; k < len; k++)
            bytes[k] = alphabet[next_random(&seed) % (sizeof(alphabet) - 1)];
        (void)params_parse(&params, (struct obx_bytes){.p = bytes, .len = len});
        for (size_t k = 0; k < params.count; k++)
            assert_true(strlen(params.items[k].value) < PARAM_VALUE_MAX);
        params_fini(&params);
    }
}

/* ---- who may come in ---- */

static const char *const peers[] = {"192.0.2.1", "2001:db8::1"};
static const struct console_config config = {.reader_token = "reader-0123456789",
                                             .operator_token = "",
                                             .admin_token = "admin-0123456789",
                                             .proxy_peers = peers,
                                             .proxy_peer_count = 2};

static enum console_role role_of(const char *authorization)
{
    return access_of(&config, &(struct access_claim){.authorization = authorization}).role;
}

static void tokens_are_roles(void **state)
{
    (void)state;
    assert_int_equal(role_of("Bearer reader-0123456789"), ROLE_READER);
    assert_int_equal(role_of("bearer admin-0123456789"), ROLE_ADMIN);
    assert_int_equal(role_of("Bearer "), ROLE_NONE); /* no token is set for operators */
    assert_int_equal(role_of("Bearer reader-012345678"), ROLE_NONE);
    assert_int_equal(role_of("Bearer reader-01234567890"), ROLE_NONE);
    assert_int_equal(role_of("reader-0123456789"), ROLE_NONE);
    assert_int_equal(role_of(""), ROLE_NONE);
    assert_int_equal(role_of(NULL), ROLE_NONE);
    assert_int_equal(role_of("Basic YTphZG1pbi0wMTIzNDU2Nzg5"), ROLE_ADMIN); /* a:admin-... */
    assert_int_equal(role_of("Basic YWRtaW4tMDEyMzQ1Njc4OQ=="), ROLE_NONE);  /* without a name */
    assert_int_equal(role_of("Basic YTo="), ROLE_NONE);                      /* a: */
    assert_int_equal(role_of("Basic A"), ROLE_NONE);
    assert_int_equal(role_of("Basic !!!!"), ROLE_NONE);
    assert_int_equal(role_of("Basic YTphZG1pbi0wMTIzNDU2Nzg5===="), ROLE_NONE);
    assert_int_equal(role_of("Basic AAAA"), ROLE_NONE); /* NULs */
}

static void any_credentials_are_refused(void **state)
{
    uint32_t seed = 3;

    (void)state;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char text[BYTES_MAX + 16];
        const size_t len = next_random(&seed) % BYTES_MAX;
        size_t at = (size_t)snprintf(text, sizeof(text), "%s", i % 2 == 0 ? "Basic " : "Bearer ");

        for (size_t k = 0; k < len; k++)
            text[at++] = (char)(1 + next_random(&seed) % 255);
        text[at] = '\0';
        assert_int_equal(role_of(text), ROLE_NONE);
    }
}

static enum console_role proxied(const char *peer, const char *user, const char *role)
{
    return access_of(&config, &(struct access_claim){.peer = peer, .user = user, .role = role})
        .role;
}

static void a_proxy_counts_from_its_address_only(void **state)
{
    (void)state;
    assert_int_equal(proxied("192.0.2.1", "anna", "operator"), ROLE_OPERATOR);
    assert_int_equal(proxied("2001:db8::1", "anna", "admin"), ROLE_ADMIN);
    assert_int_equal(proxied("192.0.2.10", "anna", "admin"), ROLE_NONE);
    assert_int_equal(proxied("", "anna", "admin"), ROLE_NONE);
    assert_int_equal(proxied(NULL, "anna", "admin"), ROLE_NONE);
    assert_int_equal(proxied("192.0.2.1", NULL, "admin"), ROLE_NONE);
    assert_int_equal(proxied("192.0.2.1", "anna", NULL), ROLE_NONE);
    assert_int_equal(proxied("192.0.2.1", "anna", "nobody"), ROLE_NONE);
    assert_int_equal(proxied("192.0.2.1", "anna", "Admin"), ROLE_NONE);
}

static bool is_ours(const char *fetch_site, const char *origin, const char *authorization)
{
    return access_is_ours(&(struct access_claim){.fetch_site = fetch_site,
                                                 .origin = origin,
                                                 .authorization = authorization,
                                                 .host = "console.example:8380"});
}

static void a_form_of_another_site_is_not_ours(void **state)
{
    (void)state;
    assert_true(is_ours("same-origin", NULL, "Basic x"));
    assert_true(is_ours("none", NULL, "Basic x"));
    assert_true(is_ours(NULL, "https://console.example:8380", "Basic x"));
    assert_true(is_ours(NULL, NULL, "Bearer x"));
    assert_false(is_ours("cross-site", "https://console.example:8380", "Bearer x"));
    assert_false(is_ours("same-site", NULL, "Basic x"));
    assert_false(is_ours("", NULL, "Basic x"));
    assert_false(is_ours(NULL, "https://console.example", "Basic x"));
    assert_false(is_ours(NULL, "https://console.example:8380.evil.example", "Basic x"));
    assert_false(is_ours(NULL, "null", "Basic x"));
    assert_false(is_ours(NULL, NULL, "Basic x"));
    assert_false(is_ours(NULL, NULL, NULL)); /* a proxy's user, from a browser that says nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_bytes_become_only_text),
        cmocka_unit_test(what_is_harmless_stays),
        cmocka_unit_test(an_address_is_only_an_address),
        cmocka_unit_test(a_cell_is_no_formula),
        cmocka_unit_test(parameters_are_decoded_and_bounded),
        cmocka_unit_test(any_query_is_taken_or_refused),
        cmocka_unit_test(tokens_are_roles),
        cmocka_unit_test(any_credentials_are_refused),
        cmocka_unit_test(a_proxy_counts_from_its_address_only),
        cmocka_unit_test(a_form_of_another_site_is_not_ours),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
