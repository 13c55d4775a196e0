/*
 * Tokens and groups of receipts. See receipt_key.h.
 */
#include "receipt_key.h"

#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "base/bytes.h"

enum {
    SECRET_BYTES = 32,
    MAC_BYTES = RECEIPT_MAC_HEX / 2,
    MAC_MAX = EVP_MAX_MD_SIZE,
    DECIMAL = 10,
    CONTROL = 0x20
};

static const char sql_read[] =
    "SELECT version, secret FROM outbox_secret ORDER BY version DESC LIMIT 8";
static const char sql_make[] = "INSERT INTO outbox_secret (version, secret) VALUES (1, ?)";

/* ---- secrets ---- */

static enum obx_code read_secrets(struct receipt_keys *keys, struct db *db, struct obx_err *err)
{
    struct db_rows *rows = NULL;
    enum obx_code rc = db_query(db, sql_read, DB_NO_ARGS, &rows, err);

    keys->count = 0;
    if (rc != OBX_OK)
        return rc;
    while (keys->count < RECEIPT_SECRETS_MAX && db_rows_next(rows)) {
        struct receipt_secret *secret = &keys->secrets[keys->count];
        struct obx_bytes bytes = db_rows_bytes(rows, 1);

        if (bytes.len == 0 || bytes.len > RECEIPT_SECRET_MAX)
            continue;
        secret->version = (uint32_t)db_rows_u64(rows, 0);
        secret->len = bytes.len;
        memcpy(secret->bytes, bytes.p, bytes.len);
        keys->count++;
    }
    db_rows_free(rows);
    return OBX_OK;
}

/* Another relay may be faster: then its secret is the one. */
static enum obx_code make_secret(struct db *db, struct obx_err *err)
{
    unsigned char bytes[SECRET_BYTES];
    enum obx_code rc = OBX_OK;

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return obx_fail(err, OBX_E_SYSTEM, "no randomness for the secret of receipts");
    rc = db_exec(db, sql_make,
                 DB_ARGS(DB_BYTES(((struct obx_bytes){.p = bytes, .len = sizeof(bytes)}))), NULL,
                 err);
    OPENSSL_cleanse(bytes, sizeof(bytes));
    if (rc != OBX_E_DB_DUPLICATE)
        return rc;
    obx_err_clear(err);
    return OBX_OK;
}

enum obx_code receipt_keys_load(struct receipt_keys *keys, struct db *db, struct obx_err *err)
{
    struct receipt_keys fresh = {.count = 0};
    enum obx_code rc = read_secrets(&fresh, db, err);

    if (rc == OBX_OK && fresh.count == 0) {
        rc = make_secret(db, err);
        if (rc == OBX_OK)
            rc = read_secrets(&fresh, db, err);
    }
    if (rc == OBX_OK)
        *keys = fresh;
    OPENSSL_cleanse(&fresh, sizeof(fresh));
    return rc;
}

/* ---- tokens ---- */

/* Of the list under a key that is the MAC of the id: neither can lend a byte to the other. */
static bool add_mac(const struct receipt_secret *secret, struct obx_bytes message_id,
                    struct obx_bytes list, char *hex)
{
    unsigned char key[MAC_MAX], mac[MAC_MAX];
    unsigned key_len = 0, mac_len = 0;

    if (HMAC(EVP_sha256(), secret->bytes, (int)secret->len, message_id.p, message_id.len, key,
             &key_len) == NULL ||
        HMAC(EVP_sha256(), key, (int)key_len, list.p, list.len, mac, &mac_len) == NULL ||
        mac_len < MAC_BYTES)
        return false;
    for (size_t i = 0; i < MAC_BYTES; i++) {
        static const char digits[] = "0123456789abcdef";

        hex[2 * i] = digits[mac[i] >> 4U];
        hex[2 * i + 1] = digits[mac[i] & 0xFU];
    }
    return true;
}

static bool make(const struct receipt_secret *secret, struct obx_bytes message_id,
                 const struct receipt_groups *groups, char token[RECEIPT_TOKEN_SIZE])
{
    int head = snprintf(token, RECEIPT_TOKEN_SIZE, "%u.", (unsigned)secret->version);
    char *hex = token + head;
    char *list = hex + RECEIPT_MAC_HEX + 1;
    char *end = list;

    for (size_t i = 0; i < groups->count; i++) {
        if (i > 0)
            *end++ = ',';
        memcpy(end, groups->items[i].p, groups->items[i].len);
        end += groups->items[i].len;
    }
    *end = '\0';
    list[-1] = '.';
    return add_mac(secret, message_id, (struct obx_bytes){.p = list, .len = (size_t)(end - list)},
                   hex);
}

bool receipt_token_make(const struct receipt_keys *keys, struct obx_bytes message_id,
                        const struct receipt_groups *groups, char token[RECEIPT_TOKEN_SIZE])
{
    token[0] = '\0';
    return keys->count > 0 && make(&keys->secrets[0], message_id, groups, token);
}

/* The digits before the dot; false when there are none or too many. */
static bool read_version(struct obx_bytes token, uint32_t *version)
{
    const char *at = token.p;
    uint64_t value = 0;
    size_t i = 0;

    for (; i < token.len && at[i] >= '0' && at[i] <= '9'; i++) {
        value = value * DECIMAL + (uint64_t)(at[i] - '0');
        if (value > UINT32_MAX)
            return false;
    }
    *version = (uint32_t)value;
    return i > 0 && i < token.len && at[i] == '.';
}

/* What follows the MAC. */
static bool read_groups(struct obx_bytes token, struct receipt_groups *groups)
{
    const char *dot = memchr(token.p, '.', token.len);
    const size_t head = (size_t)(dot - (const char *)token.p) + 1 + RECEIPT_MAC_HEX + 1;

    return token.len > head &&
           receipt_groups_parse(
               (struct obx_bytes){.p = (const char *)token.p + head, .len = token.len - head},
               groups);
}

static enum receipt_token_fate check_with(const struct receipt_secret *secret,
                                          struct obx_bytes message_id, struct obx_bytes token,
                                          struct obx_bytes group)
{
    char right[RECEIPT_TOKEN_SIZE];
    struct receipt_groups groups;

    if (!read_groups(token, &groups) || !make(secret, message_id, &groups, right) ||
        !bytes_equal_constant_time(bytes_of(right), token))
        return RECEIPT_TOKEN_FORGED;
    return receipt_groups_find(&groups, group) != SIZE_MAX ? RECEIPT_TOKEN_GOOD
                                                           : RECEIPT_TOKEN_UNASKED;
}

enum receipt_token_fate receipt_token_check(const struct receipt_keys *keys,
                                            struct obx_bytes message_id, struct obx_bytes token,
                                            struct obx_bytes group)
{
    uint32_t version = 0;

    if (!read_version(token, &version))
        return RECEIPT_TOKEN_FORGED;
    for (size_t i = 0; i < keys->count; i++) {
        if (keys->secrets[i].version == version)
            return check_with(&keys->secrets[i], message_id, token, group);
    }
    return RECEIPT_TOKEN_UNKNOWN;
}

/* ---- groups ---- */

static struct obx_bytes trim(struct obx_bytes text)
{
    const char *at = text.p;
    size_t from = 0;
    size_t to = text.len;

    while (from < to && at[from] == ' ')
        from++;
    while (to > from && at[to - 1] == ' ')
        to--;
    return (struct obx_bytes){.p = at + from, .len = to - from};
}

static bool is_name(struct obx_bytes name)
{
    const unsigned char *at = name.p;

    if (name.len == 0 || name.len > RECEIPT_GROUP_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        if (at[i] <= CONTROL || at[i] > '~')
            return false;
    }
    return true;
}

bool receipt_groups_parse(struct obx_bytes text, struct receipt_groups *out)
{
    const char *at = text.p;
    size_t left = text.len;

    out->count = 0;
    for (;;) {
        const char *comma = left == 0 ? NULL : memchr(at, ',', left);
        size_t len = comma == NULL ? left : (size_t)(comma - at);
        struct obx_bytes name = trim((struct obx_bytes){.p = at, .len = len});

        if (!is_name(name) || out->count == RECEIPT_GROUPS_MAX ||
            receipt_groups_find(out, name) != SIZE_MAX)
            return false;
        out->items[out->count++] = name;
        if (comma == NULL)
            return true;
        at = comma + 1;
        left -= len + 1;
    }
}

size_t receipt_groups_find(const struct receipt_groups *groups, struct obx_bytes group)
{
    for (size_t i = 0; i < groups->count; i++) {
        if (bytes_equal(groups->items[i], group))
            return i;
    }
    return SIZE_MAX;
}

bool receipt_tally_add(struct receipt_tally *tally, struct obx_bytes group, bool is_rejected)
{
    size_t place = receipt_groups_find(&tally->groups, group);

    if (place == SIZE_MAX)
        return false;
    tally->reported |= UINT32_C(1) << place;
    tally->is_rejected = tally->is_rejected || is_rejected;
    return true;
}

bool receipt_tally_is_complete(const struct receipt_tally *tally)
{
    uint32_t all = (UINT32_C(1) << tally->groups.count) - 1;

    return tally->is_rejected || (tally->groups.count > 0 && tally->reported == all);
}
