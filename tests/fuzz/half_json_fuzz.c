/*
 * Fuzz target of what callers of the half-message API send: the input is the body of a prepare and,
 * taken as text, the query of a list. What is accepted is whole and within its bounds; what is
 * refused says why.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/utf8.h"
#include "fuzz.h"
#include "half/api/half_json.h"
#include "half/api/half_query.h"

enum { FIRST_CHECK_MS = 1000, QUERY_MAX = 4096, BAD_REQUEST = 400 };

static void check_refusal(const struct half_refusal *refusal)
{
    struct obx_buf body = {0};

    FUZZ_CHECK(refusal->status == BAD_REQUEST);
    FUZZ_CHECK(refusal->reason != NULL && refusal->text[0] != '\0');
    FUZZ_CHECK(half_json_add_error(&body, refusal->reason, refusal->text, (struct obx_bytes){0},
                                   NULL) == OBX_OK);
    FUZZ_CHECK(utf8_is_valid(buf_bytes(&body)));
    buf_fini(&body);
}

static void check_part(const struct half_part *part)
{
    FUZZ_CHECK(part->on == HALF_COMMIT || part->on == HALF_ROLLBACK);
    FUZZ_CHECK(part->topic.len >= 1 && part->topic.len <= 255);
    FUZZ_CHECK(part->ordering_key.len <= 255 && part->message_id.len <= 64);
    FUZZ_CHECK(part->payload.p != NULL || part->payload.len == 0);
}

static void parse_prepare(struct obx_bytes body)
{
    struct half_prepare *prepare = NULL;
    struct half_refusal refusal = {0};
    enum obx_code rc = half_json_parse_prepare(body, FIRST_CHECK_MS, &prepare, &refusal);
    const struct half_request *req;

    FUZZ_CHECK((rc == OBX_OK) == (prepare != NULL));
    if (rc != OBX_OK) {
        check_refusal(&refusal);
        return;
    }
    req = half_prepare_request(prepare);
    FUZZ_CHECK(req->kind == HALF_REQ_PREPARE && half_gid_is_valid(req->gid));
    FUZZ_CHECK(half_producer_is_valid(req->producer));
    FUZZ_CHECK(req->part_count >= 1 && req->part_count <= HALF_PARTS_MAX);
    for (size_t i = 0; i < req->part_count; i++)
        check_part(&req->parts[i]);
    half_prepare_free(prepare);
}

static void parse_query(struct obx_bytes text)
{
    char query[QUERY_MAX];
    struct half_list list;
    struct half_refusal refusal = {0};
    enum obx_code rc;

    if (!bytes_to_text(text, query, sizeof(query)))
        return;
    rc = half_query_parse(query, &list, &refusal);
    if (rc != OBX_OK) {
        check_refusal(&refusal);
        return;
    }
    FUZZ_CHECK(list.limit >= 1 && list.limit <= HALF_LIST_MAX && list.items == NULL);
    FUZZ_CHECK(list.after[0] == '\0' || half_gid_is_valid(bytes_of(list.after)));
    FUZZ_CHECK(list.producer[0] == '\0' || half_producer_is_valid(bytes_of(list.producer)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct obx_bytes input = {.p = size == 0 ? (const void *)"" : data, .len = size};

    parse_prepare(input);
    parse_query(input);
    return 0;
}
