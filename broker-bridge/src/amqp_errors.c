/*
 * Wraps the three places in which librabbitmq keeps an error (reply type, method, library status)
 * once, so that the rest of the bridge and its users see only obx_err. err->sys holds the AMQP
 * reply code, or the library's status (negative). The broker's own sentence is always part of the
 * text: it is what an operator searches for.
 *
 * The texts of the broker are read in two cases, because the protocol has no other way to say which
 * of many pipelined messages made it close the channel. When a text is not understood the caller
 * falls back to "unknown".
 */
#include "amqp_errors.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

enum {
    CLOSE_TEXT_MAX = 200, /* leaves room for the code's own text and the context in obx_err */
    REPLY_INVALID_PATH = 402,
    REPLY_RESOURCE_LOCKED = 405,
    REPLY_NO_ROUTE = 312,
    REPLY_NO_CONSUMERS = 313,
    DECIMAL = 10,
};

static enum obx_code code_of_close_while_connecting(unsigned reply_code)
{
    switch (reply_code) {
    case AMQP_ACCESS_REFUSED:
    case AMQP_NOT_ALLOWED:
    case AMQP_NOT_FOUND:
    case REPLY_INVALID_PATH:
        return OBX_E_MQ_AUTH;
    default:
        return OBX_E_MQ_CONNECT;
    }
}

static enum obx_code code_of_reply(unsigned reply_code, enum amqp_phase phase)
{
    if (phase == AMQP_CONNECTING)
        return code_of_close_while_connecting(reply_code);
    switch (reply_code) {
    case AMQP_CONTENT_TOO_LARGE:
        return OBX_E_TOO_LARGE;
    case REPLY_NO_ROUTE:
    case REPLY_NO_CONSUMERS:
        return OBX_E_MQ_UNROUTABLE;
    case AMQP_REPLY_SUCCESS:
    case AMQP_CONNECTION_FORCED:
    case AMQP_INTERNAL_ERROR:
    case AMQP_RESOURCE_ERROR:
        return OBX_E_MQ_GONE;
    case AMQP_ACCESS_REFUSED:
    case AMQP_NOT_ALLOWED:
    case REPLY_INVALID_PATH:
        return OBX_E_MQ_DENIED;
    case AMQP_NOT_FOUND:
    case REPLY_RESOURCE_LOCKED:
    case AMQP_PRECONDITION_FAILED:
        return OBX_E_MQ_TOPOLOGY;
    default:
        return OBX_E_MQ_PROTOCOL;
    }
}

static enum obx_code code_of_status(int status, enum amqp_phase phase)
{
    switch (status) {
    case AMQP_STATUS_OK:
        return OBX_OK;
    case AMQP_STATUS_NO_MEMORY:
        return OBX_E_NOMEM;
    case AMQP_STATUS_SSL_ERROR:
    case AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED:
    case AMQP_STATUS_SSL_PEER_VERIFY_FAILED:
    case AMQP_STATUS_SSL_CONNECTION_FAILED:
        return phase == AMQP_CONNECTING ? OBX_E_MQ_TLS : OBX_E_MQ_GONE;
    case AMQP_STATUS_BROKER_UNSUPPORTED_SASL_METHOD:
        return OBX_E_MQ_AUTH;
    case AMQP_STATUS_BAD_AMQP_DATA:
    case AMQP_STATUS_UNKNOWN_CLASS:
    case AMQP_STATUS_UNKNOWN_METHOD:
    case AMQP_STATUS_INCOMPATIBLE_AMQP_VERSION:
    case AMQP_STATUS_WRONG_METHOD:
    case AMQP_STATUS_UNEXPECTED_STATE:
        return OBX_E_MQ_PROTOCOL;
    case AMQP_STATUS_TIMEOUT:
        return phase == AMQP_CONNECTING ? OBX_E_MQ_CONNECT : OBX_E_TIMEOUT;
    default:
        return phase == AMQP_CONNECTING ? OBX_E_MQ_CONNECT : OBX_E_MQ_GONE;
    }
}

/* Control characters would break a log line in two. */
void amqp_copy_text(amqp_bytes_t text, char *dst, size_t dst_size)
{
    (void)bytes_to_text(from_amqp(text), dst, dst_size);
    for (char *c = dst; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ')
            *c = ' ';
    }
}

enum obx_code amqp_fail_close(struct obx_err *err, unsigned reply_code, amqp_bytes_t reply_text,
                              enum amqp_phase phase, const char *what)
{
    char text[CLOSE_TEXT_MAX];

    amqp_copy_text(reply_text, text, sizeof(text));
    return obx_fail_sys(err, code_of_reply(reply_code, phase), (int)reply_code, "%s: %u %s", what,
                        reply_code, text);
}

enum obx_code amqp_fail_blocked(struct obx_err *err, amqp_bytes_t reason)
{
    char text[CLOSE_TEXT_MAX];

    amqp_copy_text(reason, text, sizeof(text));
    return obx_fail(err, OBX_E_MQ_BLOCKED, "%s", text);
}

/* The library's texts for these two do not help anybody. */
static const char *status_text(int status, enum amqp_phase phase)
{
    if (phase == AMQP_CONNECTING && status == AMQP_STATUS_SOCKET_ERROR)
        return "connection refused or host unreachable";
    if (phase == AMQP_CONNECTING && status == AMQP_STATUS_TIMEOUT)
        return "no answer in time";
    return amqp_error_string2(status);
}

enum obx_code amqp_fail_status(struct obx_err *err, int status, enum amqp_phase phase,
                               const char *what)
{
    return obx_fail_sys(err, code_of_status(status, phase), status, "%s: %s", what,
                        status_text(status, phase));
}

/* The last place in text where mark stands, or -1. The last one, because names may contain
 * anything. */
static ptrdiff_t find_last(struct obx_bytes text, const char *mark)
{
    const size_t mark_len = strlen(mark);
    const char *p = text.p;

    for (size_t i = text.len; i >= mark_len; i--) {
        if (memcmp(p + i - mark_len, mark, mark_len) == 0)
            return (ptrdiff_t)(i - mark_len);
    }
    return -1;
}

static ptrdiff_t find_first(struct obx_bytes text, const char *mark)
{
    const size_t mark_len = strlen(mark);
    const char *p = text.p;

    for (size_t i = 0; i + mark_len <= text.len; i++) {
        if (memcmp(p + i, mark, mark_len) == 0)
            return (ptrdiff_t)i;
    }
    return -1;
}

bool amqp_exchange_of_text(amqp_bytes_t text, struct obx_bytes *exchange)
{
    const char *const before = "exchange '";
    const struct obx_bytes all = from_amqp(text);
    const ptrdiff_t start = find_first(all, before);
    const ptrdiff_t end = find_last(all, "' in vhost '");
    size_t name;

    if (start < 0 || end < 0)
        return false;
    name = (size_t)start + strlen(before);
    if (name > (size_t)end)
        return false;
    *exchange = (struct obx_bytes){.p = (const char *)all.p + name, .len = (size_t)end - name};
    return true;
}

/* Names may hold these words themselves; of several ways to read the text none is taken. */
bool amqp_topic_of_text(amqp_bytes_t text, struct obx_bytes *exchange, struct obx_bytes *topic)
{
    const char *const before = "access to topic '";
    const char *const between = "' in exchange '";
    const struct obx_bytes all = from_amqp(text);
    const ptrdiff_t start = find_first(all, before);
    const ptrdiff_t middle = find_last(all, between);
    const ptrdiff_t end = find_last(all, "' in vhost '");
    size_t key;
    size_t name;

    if (start < 0 || middle < 0 || end < 0 || find_first(all, between) != middle)
        return false;
    key = (size_t)start + strlen(before);
    name = (size_t)middle + strlen(between);
    if (key > (size_t)middle || name > (size_t)end)
        return false;
    *topic = (struct obx_bytes){.p = (const char *)all.p + key, .len = (size_t)middle - key};
    *exchange = (struct obx_bytes){.p = (const char *)all.p + name, .len = (size_t)end - name};
    return true;
}

bool amqp_size_of_text(amqp_bytes_t text, uint64_t *size)
{
    const char *const before = "message size ";
    const struct obx_bytes all = from_amqp(text);
    const char *p = all.p;
    const ptrdiff_t start = find_first(all, before);
    size_t i;
    uint64_t value = 0;

    if (start < 0 || find_first(all, " is larger than ") < 0)
        return false;
    for (i = (size_t)start + strlen(before); i < all.len && p[i] >= '0' && p[i] <= '9'; i++) {
        if (value > UINT32_MAX)
            return false;
        value = value * DECIMAL + (uint64_t)(p[i] - '0');
    }
    *size = value;
    return i > (size_t)start + strlen(before);
}
