/*
 * Secrets and signatures, as Standard Webhooks has them: HMAC-SHA256 over "id.timestamp.body", one
 * signature for each secret, so that a receiver can change over without a gap. Called by
 * notify_config.c and call.c.
 */
#include "sign.h"

#include <inttypes.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/crash.h"

#define PREFIX     "whsec_"
#define SEPARATORS " \t\r\n,"
enum { TEXT_MAX = 128, BASE64_GROUP = 4, BASE64_BYTES = 3, DIGEST_LEN = 32, DIGEST_TEXT = 45 };

/* base64 with its padding; 0 when it is none. */
static size_t decode(const char *text, size_t len, unsigned char *out)
{
    unsigned char bytes[TEXT_MAX];
    size_t padding = 0;
    int count;

    if (len == 0 || len % BASE64_GROUP != 0 || len > TEXT_MAX)
        return 0;
    while (padding < 2 && text[len - 1 - padding] == '=')
        padding++;
    count = EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)len);
    if (count < 0 || (size_t)count - padding > SIGN_KEY_MAX)
        return 0;
    memcpy(out, bytes, (size_t)count - padding);
    return (size_t)count - padding;
}

/* What is wrong with it, for people; NULL: nothing. Without the text itself. */
static const char *read_secret(const char *text, size_t len, unsigned char *out, size_t *out_len)
{
    size_t prefix = strlen(PREFIX);

    if (len > prefix && strncmp(text, PREFIX, prefix) == 0) {
        *out_len = decode(text + prefix, len - prefix, out);
        if (*out_len == 0)
            return "what stands behind whsec_ is not base64 of at most 64 bytes";
    } else if (len > SIGN_KEY_MAX) {
        return "a secret has more than 64 characters";
    } else {
        memcpy(out, text, len);
        *out_len = len;
    }
    return *out_len < SIGN_KEY_MIN ? "a secret has less than 16 bytes" : NULL;
}

static const char *read_secrets(const char *text, struct sign_keys *keys)
{
    const char *why = NULL;

    memset(keys, 0, sizeof(*keys));
    for (text += strspn(text, SEPARATORS); *text != '\0'; text += strspn(text, SEPARATORS)) {
        size_t len = strcspn(text, SEPARATORS);

        if (keys->count == SIGN_KEYS_MAX)
            return "there are more than 8 secrets";
        why = read_secret(text, len, keys->items[keys->count].bytes, &keys->items[keys->count].len);
        if (why != NULL)
            return why;
        keys->count++;
        text += len;
    }
    return keys->count == 0 ? "there is none; give one, or say sign = no" : NULL;
}

bool sign_check_secrets(const char *text, size_t *count, const char **why)
{
    struct sign_keys keys;

    *why = read_secrets(text, &keys);
    *count = keys.count;
    OPENSSL_cleanse(&keys, sizeof(keys)); /* a stack that is used again for logging, perhaps */
    return *why == NULL;
}

void sign_parse_secrets(const char *text, struct sign_keys *out)
{
    if (read_secrets(text, out) != NULL)
        out->count = 0;
}

enum obx_code sign_add(struct obx_buf *out, const struct sign_keys *keys, const char *id,
                       uint64_t timestamp_s, struct obx_bytes body)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char text[DIGEST_TEXT];
    struct obx_buf input = {0};
    unsigned len = 0;
    enum obx_code rc = OBX_OK;

    OBX_ASSERT(strchr(id, '.') == NULL); /* ids are made fit for it in job.c */
    rc = buf_addf(&input, "%s.%" PRIu64 ".", id, timestamp_s);
    if (rc == OBX_OK)
        rc = buf_add(&input, body.p, body.len);
    for (size_t i = 0; i < keys->count && rc == OBX_OK; i++) {
        if (HMAC(EVP_sha256(), keys->items[i].bytes, (int)keys->items[i].len,
                 (const unsigned char *)input.data, input.len, digest, &len) == NULL ||
            len != DIGEST_LEN) {
            rc = OBX_E_NOMEM;
            break;
        }
        EVP_EncodeBlock((unsigned char *)text, digest, DIGEST_LEN);
        rc = buf_addf(out, "%sv1,%s", i == 0 ? "" : " ", text);
    }
    buf_fini(&input);
    return rc;
}
