/*
 * Takes a copy of the URL apart in place. Called by target.c and the fuzz-like cases of its unit
 * test.
 */
#include "db_url.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "sql/db_hosts.h"

#define NOT_DECODED "a '%' is not followed by two hexadecimal digits"

enum { HEX = 16 };

static enum obx_code wrong(struct obx_err *err, const char *what)
{
    return obx_fail(err, OBX_E_CONFIG,
                    "--db: %s; it is mysql://user@host:port/database[?socket=PATH&tls=MODE]", what);
}

/* %XX in place. False when a '%' is not followed by two digits, or stands for NUL. */
static bool decode(char *text)
{
    char *out = text;

    while (*text != '\0') {
        unsigned char byte = (unsigned char)*text++;

        if (byte == '%') {
            const char digits[] = {text[0], text[0] == '\0' ? '\0' : text[1], '\0'};

            if (strspn(digits, "0123456789abcdefABCDEF") != 2)
                return false;
            byte = (unsigned char)strtoul(digits, NULL, HEX);
            text += 2;
        }
        if (byte == 0)
            return false;
        *out++ = (char)byte;
    }
    *out = '\0';
    return true;
}

/* In the order of enum db_tls, so that a name's place is its value. */
static bool parse_tls(const char *text, enum db_tls *tls)
{
    static const char *const names[] = {"preferred", "disabled", "required", "verify-full"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *tls = (enum db_tls)i;
            return true;
        }
    }
    return false;
}

static enum obx_code take_option(char *option, struct db_opts *opts, struct obx_err *err)
{
    char *value = strchr(option, '=');

    if (value == NULL)
        return wrong(err, "an option is name=value");
    *value++ = '\0';
    if (!decode(value))
        return wrong(err, NOT_DECODED);
    if (strcmp(option, "socket") == 0)
        opts->unix_socket = value;
    else if (strcmp(option, "tls_ca_file") == 0)
        opts->tls_ca_file = value;
    else if (strcmp(option, "tls") != 0)
        return wrong(err, "options are socket, tls and tls_ca_file");
    else if (!parse_tls(value, &opts->tls))
        return wrong(err, "tls is preferred, disabled, required or verify-full");
    return OBX_OK;
}

/* "host", "host:port", "[::1]:port", or several with commas between, as in a configuration. */
static bool take_host(char *host, struct db_opts *opts)
{
    struct db_hosts hosts;

    opts->host = host[0] == '\0' ? NULL : host;
    return decode(host) &&
           (opts->host == NULL || db_hosts_parse(host, opts->port, &hosts, NULL) == OBX_OK);
}

/* From the ends inwards, and decoded piece by piece: a %40 in a password is no '@' of the URL. */
static enum obx_code take_apart(char *text, struct db_opts *opts, struct obx_err *err)
{
    char *query = strchr(text, '?');
    char *database, *host, *password;
    enum obx_code rc = OBX_OK;

    if (query != NULL)
        *query++ = '\0';
    database = strchr(text, '/');
    if (database == NULL || database[1] == '\0')
        return wrong(err, "the database is missing");
    *database++ = '\0';
    if (!decode(database))
        return wrong(err, NOT_DECODED);
    opts->database = database;
    host = strrchr(text, '@');
    if (host != NULL) {
        *host++ = '\0';
        password = strchr(text, ':');
        if (password != NULL)
            *password++ = '\0';
        opts->user = text[0] == '\0' ? NULL : text;
        opts->password = password;
        if (!decode(text) || (password != NULL && !decode(password)))
            return wrong(err, NOT_DECODED);
    }
    if (!take_host(host == NULL ? text : host, opts))
        return wrong(err, "host or port is not right");
    while (query != NULL && rc == OBX_OK) {
        char *option = query;

        query = strchr(option, '&');
        if (query != NULL)
            *query++ = '\0';
        rc = take_option(option, opts, err);
    }
    if (rc == OBX_OK && opts->unix_socket != NULL)
        opts->host = NULL;
    else if (rc == OBX_OK && opts->host == NULL)
        return wrong(err, "the host is missing");
    return rc;
}

enum obx_code db_url_parse(const char *url, struct db_url *out, struct obx_err *err)
{
    static const char *const schemes[] = {"mysql://", "mariadb://"};
    const char *rest = NULL;
    enum obx_code rc;

    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (strncmp(url, schemes[i], strlen(schemes[i])) == 0)
            rest = url + strlen(schemes[i]);
    }
    if (rest == NULL)
        return wrong(err, "it does not begin with mysql://");
    out->text = obx_strdup(rest);
    if (out->text == NULL)
        return obx_fail(err, OBX_E_NOMEM, "--db");
    rc = take_apart(out->text, &out->opts, err);
    if (rc != OBX_OK)
        db_url_fini(out);
    return rc;
}

void db_url_fini(struct db_url *url)
{
    obx_free(url->text);
    memset(url, 0, sizeof(*url));
}
