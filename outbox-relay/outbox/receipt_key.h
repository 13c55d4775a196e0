/*
 * What a message that asks for a receipt carries, and how a receipt proves that it answers one:
 * the token, the list of the groups that are asked and an HMAC of it and of the message id under
 * a secret of the source. So the holder of a token can report for these groups of this message, and
 * for nothing else, also when the message is long settled.
 *
 * The secrets are rows of outbox_secret. The newest makes tokens, each checks those that it made.
 * One thread. Proved by tests/unit/receipt_key_test.c and tests/system/lane_receipt_test.c.
 */
#ifndef RELAY_RECEIPT_KEY_H
#define RELAY_RECEIPT_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sql/db.h"

enum {
    RECEIPT_SECRETS_MAX = 8,
    RECEIPT_SECRET_MAX = 64,
    RECEIPT_GROUPS_MAX = 16,
    RECEIPT_GROUP_MAX = 64,
    RECEIPT_MAC_HEX = 32,
    /* A version of ten digits, the MAC, the groups, each with the mark before it; and a NUL. */
    RECEIPT_TOKEN_SIZE = 10 + 1 + RECEIPT_MAC_HEX + RECEIPT_GROUPS_MAX * (RECEIPT_GROUP_MAX + 1) + 1
};

/** The groups of a receipt_from, borrowed from it. */
struct receipt_groups {
    struct obx_bytes items[RECEIPT_GROUPS_MAX];
    size_t count;
};
/** Take "a, b" apart; blanks around a name do not count. False: a name is empty, too long or there
 * twice, has a blank or a control character in it, or there are too many. */
bool receipt_groups_parse(struct obx_bytes text, struct receipt_groups *out);
/** Its place; SIZE_MAX: it was not asked. */
size_t receipt_groups_find(const struct receipt_groups *groups, struct obx_bytes group);

struct receipt_secret {
    uint32_t version;
    uint8_t bytes[RECEIPT_SECRET_MAX];
    size_t len;
};

/** Zero-initialise. */
struct receipt_keys {
    struct receipt_secret secrets[RECEIPT_SECRETS_MAX]; /* the newest first */
    size_t count;
};

/** Read the secrets; make the first one if there is none. Any OBX_E_DB_*, OBX_E_SYSTEM (no
 * randomness). On failure keys is unchanged. */
OBX_NODISCARD enum obx_code receipt_keys_load(struct receipt_keys *keys, struct db *db,
                                              struct obx_err *err);
/** "<version>.<hex>.<group>,<group>" for a message id. False: there is no secret. */
bool receipt_token_make(const struct receipt_keys *keys, struct obx_bytes message_id,
                        const struct receipt_groups *groups, char token[RECEIPT_TOKEN_SIZE]);

enum receipt_token_fate {
    RECEIPT_TOKEN_GOOD,
    RECEIPT_TOKEN_FORGED,
    RECEIPT_TOKEN_UNASKED, /* ours, but for other groups */
    RECEIPT_TOKEN_UNKNOWN  /* of a secret that is not known here: reading them again may help */
};
enum receipt_token_fate receipt_token_check(const struct receipt_keys *keys,
                                            struct obx_bytes message_id, struct obx_bytes token,
                                            struct obx_bytes group);

/** What the reports of the groups that are asked come to. */
struct receipt_tally {
    struct receipt_groups groups;
    uint32_t reported; /* a bit for each place in groups */
    bool is_rejected;
};
/** Note a report; one of a group that was not asked changes nothing. Returns whether it was asked.
 */
bool receipt_tally_add(struct receipt_tally *tally, struct obx_bytes group, bool is_rejected);
/** One has rejected it, or all have applied it. */
bool receipt_tally_is_complete(const struct receipt_tally *tally);

#endif
