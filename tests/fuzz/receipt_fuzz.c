/*
 * Fuzz target of receipts: the input is the body of a message with receipts, and once more a list
 * of groups. Whatever it is, what is read is within the limits that the database's columns have,
 * and no token is good but the right one.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/utf8.h"
#include "fuzz.h"
#include "memory.h"
#include "outbox/receipt_key.h"
#include "receipts/receipt_json.h"

enum { FIXED = RECEIPTS_IN_MESSAGE * (sizeof(struct receipt) + 64) };

static void check_one(const struct receipt *receipt, const struct receipt_keys *keys)
{
    char right[RECEIPT_TOKEN_SIZE];
    enum receipt_token_fate fate;

    FUZZ_CHECK(receipt->message_id.len >= 1 && receipt->message_id.len <= RECEIPT_ID_MAX);
    FUZZ_CHECK(receipt->group.len >= 1 && receipt->group.len <= RECEIPT_ID_MAX);
    FUZZ_CHECK(receipt->reason.len <= RECEIPT_REASON_MAX);
    FUZZ_CHECK(bytes_is_absent(receipt->reason) || utf8_is_valid(receipt->reason));
    FUZZ_CHECK(memchr(receipt->message_id.p, '\0', receipt->message_id.len) == NULL);
    FUZZ_CHECK(receipt_token_make(keys, receipt->message_id,
                                  &(struct receipt_groups){.items = {receipt->group}, .count = 1},
                                  right));
    fate = receipt_token_check(keys, receipt->message_id, receipt->token, receipt->group);
    FUZZ_CHECK(!bytes_is(receipt->token, right) || fate == RECEIPT_TOKEN_GOOD ||
               memchr(receipt->group.p, ',', receipt->group.len) != NULL);
    FUZZ_CHECK(receipt_token_check(keys, receipt->message_id, bytes_of(right), bytes_of("-")) !=
                   RECEIPT_TOKEN_GOOD ||
               bytes_is(receipt->group, "-"));
}

static void read_body(struct obx_bytes body)
{
    const struct receipt_keys keys = {
        .secrets = {{.version = 1, .bytes = "secret", .len = sizeof("secret") - 1}}, .count = 1};
    struct receipt_list list;
    struct obx_err err = {0};
    size_t before = fuzz_memory();
    enum obx_code rc = receipt_list_read(&list, body, &err);

    FUZZ_MEMORY(before, body.len, FIXED, 1);
    FUZZ_CHECK(rc == OBX_OK || rc == OBX_E_FORMAT || rc == OBX_E_TOO_LARGE);
    FUZZ_CHECK(rc == OBX_OK || (list.count == 0 && list.items == NULL));
    FUZZ_CHECK(list.count + list.malformed <= RECEIPTS_IN_MESSAGE);
    for (size_t i = 0; i < list.count; i++)
        check_one(&list.items[i], &keys);
    receipt_list_fini(&list);
}

static void read_groups(struct obx_bytes text)
{
    struct receipt_groups groups;

    if (!receipt_groups_parse(text, &groups))
        return;
    FUZZ_CHECK(groups.count >= 1 && groups.count <= RECEIPT_GROUPS_MAX);
    for (size_t i = 0; i < groups.count; i++) {
        FUZZ_CHECK(groups.items[i].len >= 1 && groups.items[i].len <= RECEIPT_GROUP_MAX);
        FUZZ_CHECK(receipt_groups_find(&groups, groups.items[i]) == i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct obx_bytes all = {.p = data, .len = size};

    read_body(all);
    read_groups(all);
    return 0;
}
