/* See keys.h. The hash is of OpenSSL, which the program has for TLS and signatures. */
#include "keys.h"

#include <openssl/evp.h>
#include <string.h>

bool key_hash(struct obx_bytes key, unsigned char hash[KEY_HASH])
{
    unsigned char digest[EVP_MAX_MD_SIZE];

    if (EVP_Digest(key.p, key.len, digest, NULL, EVP_sha256(), NULL) != 1)
        return false;
    memcpy(hash, digest, KEY_HASH);
    return true;
}
