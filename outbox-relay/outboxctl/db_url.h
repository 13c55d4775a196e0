/*
 * Databases as URLs:
 * mysql://[user[:password]@]host[:port]/database[?socket=PATH&tls=MODE&tls_ca_file=PATH]. Special
 * characters are written as %XX.
 */
#ifndef CTL_DB_URL_H
#define CTL_DB_URL_H

#include "sql/db.h"

struct db_url {
    struct db_opts opts; /* points into text */
    char *text;          /* owned */
};

/** On failure nothing is kept. OBX_E_CONFIG (says what is wrong, never the password), OBX_E_NOMEM.
 */
OBX_NODISCARD enum obx_code db_url_parse(const char *url, struct db_url *out, struct obx_err *err);
void db_url_fini(struct db_url *url);

#endif
