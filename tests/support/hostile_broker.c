/* See hostile_broker.h. Frames are written by hand: no encoder would write most of them. */
#include "hostile_broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    OUT_MAX = 4 * 1024 * 1024,
    IN_MAX = 64 * 1024,
    TURN_MS = 2,     /* to let the client say something */
    SILENCE_MS = 60, /* longer than the clients under test wait for an answer */
    ACCEPT_MS = 20,
    BACKLOG = 8,
    ATTACKS_MAX = 8,
    FRAME_METHOD = 1,
    FRAME_HEADER = 2,
    FRAME_BODY = 3,
    FRAME_HEARTBEAT = 8,
    FRAME_END = 0xce,
    FLAG_CONTENT_TYPE = 0x8000,
    FLAG_HEADERS = 0x2000,
    FLAG_MESSAGE_ID = 0x0080,
};

enum method {
    CONNECTION_START = 0x000a000a,
    CONNECTION_TUNE = 0x000a001e,
    CONNECTION_OPEN_OK = 0x000a0029,
    CONNECTION_CLOSE = 0x000a0032,
    CONNECTION_CLOSE_OK = 0x000a0033,
    CONNECTION_BLOCKED = 0x000a003c,
    CONNECTION_UNBLOCKED = 0x000a003d,
    CHANNEL_OPEN_OK = 0x0014000b,
    CHANNEL_CLOSE = 0x00140028,
    CHANNEL_CLOSE_OK = 0x00140029,
    QUEUE_DECLARE = 0x0032000a,
    BASIC_QOS_OK = 0x003c000b,
    BASIC_CONSUME_OK = 0x003c0015,
    BASIC_CANCEL = 0x003c001e,
    BASIC_CANCEL_OK = 0x003c001f,
    BASIC_PUBLISH = 0x003c0028,
    BASIC_RETURN = 0x003c0032,
    BASIC_DELIVER = 0x003c003c,
    BASIC_ACK = 0x003c0050,
    BASIC_NACK = 0x003c0078,
    CONFIRM_SELECT_OK = 0x0055000b,
};

struct hostile_broker {
    pthread_t thread;
    enum hostile_client client;
    uint64_t seed;
    uint64_t random;
    int listener;
    int peer;
    uint16_t port;
    atomic_bool stop, behaves;
    atomic_uint connections, attacks, logins;
    bool is_gone; /* the client has closed, or cannot be written to */
    bool is_silent;
    uint64_t published; /* by the client on this connection, as far as its frames could be read */
    uint64_t tag;       /* of the last delivery */
    uint8_t out[OUT_MAX];
    size_t len;
    size_t frame_at; /* where the present frame began */
    uint8_t in[IN_MAX];
    size_t in_len;
};

/* ---- chance ---- */

static uint64_t next_random(struct hostile_broker *b)
{
    uint64_t z = (b->random += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static unsigned below(struct hostile_broker *b, unsigned n)
{
    return (unsigned)(next_random(b) % n);
}

static bool chance(struct hostile_broker *b, unsigned one_in)
{
    return below(b, one_in) == 0;
}

/* A number that code gets wrong. */
static uint64_t odd_number(struct hostile_broker *b)
{
    static const uint64_t odd[] = {
        0,       1,       2,          127,        255,        4096,        131072,    131073,
        1048576, 1048577, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, INT64_MAX, UINT64_MAX};

    return chance(b, 4) ? next_random(b) : odd[below(b, sizeof(odd) / sizeof(odd[0]))];
}

/* ---- bytes ---- */

static void put(struct hostile_broker *b, const void *p, size_t len)
{
    if (len > OUT_MAX - b->len)
        return;
    memcpy(b->out + b->len, p, len);
    b->len += len;
}

static void put_number(struct hostile_broker *b, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--) {
        const uint8_t byte = (uint8_t)(value >> (8 * i));

        put(b, &byte, 1);
    }
}

static void put_short(struct hostile_broker *b, const char *text)
{
    put_number(b, strlen(text), 1);
    put(b, text, strlen(text));
}

static void put_long(struct hostile_broker *b, const char *text)
{
    put_number(b, strlen(text), 4);
    put(b, text, strlen(text));
}

static void put_noise(struct hostile_broker *b, size_t len)
{
    for (size_t i = 0; i < len; i++)
        put_number(b, next_random(b), 1);
}

static void set_32(struct hostile_broker *b, size_t at, uint64_t value)
{
    for (int i = 0; i < 4; i++)
        b->out[at + (size_t)i] = (uint8_t)(value >> (8 * (3 - i)));
}

static void begin_frame(struct hostile_broker *b, int type, unsigned channel)
{
    b->frame_at = b->len;
    put_number(b, (uint64_t)type, 1);
    put_number(b, channel, 2);
    put_number(b, 0, 4);
}

static void end_frame(struct hostile_broker *b)
{
    set_32(b, b->frame_at + 3, b->len - b->frame_at - 7);
    put_number(b, FRAME_END, 1);
}

static void begin_method(struct hostile_broker *b, unsigned channel, enum method method)
{
    begin_frame(b, FRAME_METHOD, channel);
    put_number(b, (uint64_t)method, 4);
}

static void bare_method(struct hostile_broker *b, unsigned channel, enum method method)
{
    begin_method(b, channel, method);
    end_frame(b);
}

/* ---- the wire ---- */

/* Counts publishes in what the client has sent; whole frames only. */
static void look_at_input(struct hostile_broker *b)
{
    size_t at = b->in_len > 0 && b->in[0] == 'A' ? 8 : 0;

    while (at + 8 <= b->in_len) {
        const uint8_t *p = b->in + at;
        const size_t len = (size_t)p[3] << 24 | (size_t)p[4] << 16 | (size_t)p[5] << 8 | p[6];

        if (len > IN_MAX || at + len + 8 > b->in_len)
            break;
        b->published +=
            p[0] == FRAME_METHOD && len >= 4 && p[7] == 0 && p[8] == 60 && p[9] == 0 && p[10] == 40;
        at += len + 8;
    }
    if (at > b->in_len)
        at = b->in_len;
    memmove(b->in, b->in + at, b->in_len - at);
    b->in_len -= at;
}

/* Hears what the client says for so long; sets is_gone when it leaves. */
static void listen_for(struct hostile_broker *b, int ms)
{
    struct pollfd pfd = {.fd = b->peer, .events = POLLIN};

    while (!b->is_gone && poll(&pfd, 1, ms) > 0) {
        ssize_t got;

        if (b->in_len == IN_MAX)
            b->in_len = 0;
        got = recv(b->peer, b->in + b->in_len, IN_MAX - b->in_len, MSG_DONTWAIT);
        if (got <= 0) {
            b->is_gone = got == 0 || (errno != EAGAIN && errno != EINTR);
            continue;
        }
        b->in_len += (size_t)got;
        look_at_input(b);
        ms = 0;
    }
}

static void say(struct hostile_broker *b)
{
    size_t at = 0;

    while (!b->is_gone && at < b->len) {
        struct pollfd pfd = {.fd = b->peer, .events = POLLOUT};
        const ssize_t sent = send(b->peer, b->out + at, b->len - at, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent > 0)
            at += (size_t)sent;
        else if (errno != EAGAIN || poll(&pfd, 1, SILENCE_MS) <= 0)
            b->is_gone = true;
        listen_for(b, 0);
    }
    b->len = 0;
    listen_for(b, chance(b, 3) ? TURN_MS : 0);
}

/* ---- what an honest broker says ---- */

static void start(struct hostile_broker *b)
{
    begin_method(b, 0, CONNECTION_START);
    put_number(b, 0x0009, 2);
    put_number(b, 0, 4);
    put_long(b, "AMQPLAIN PLAIN");
    put_long(b, "en_US");
    end_frame(b);
}

static void tune(struct hostile_broker *b, uint32_t frame_max, uint16_t heartbeat)
{
    begin_method(b, 0, CONNECTION_TUNE);
    put_number(b, 2047, 2);
    put_number(b, frame_max, 4);
    put_number(b, heartbeat, 2);
    end_frame(b);
}

static void connection_open_ok(struct hostile_broker *b)
{
    begin_method(b, 0, CONNECTION_OPEN_OK);
    put_short(b, "");
    end_frame(b);
}

static void channel_open_ok(struct hostile_broker *b)
{
    begin_method(b, 1, CHANNEL_OPEN_OK);
    put_long(b, "");
    end_frame(b);
}

static void consume_ok(struct hostile_broker *b)
{
    begin_method(b, 1, BASIC_CONSUME_OK);
    put_short(b, "tag");
    end_frame(b);
}

static void close_method(struct hostile_broker *b, unsigned channel, enum method method)
{
    static const char *const texts[] = {
        "NOT_FOUND - no exchange 'x' in vhost '/'",
        "ACCESS_REFUSED - access to topic 'a' in exchange '' in vhost '/' refused for user 'u'",
        "ACCESS_REFUSED - access to topic 'a' in exchange '' in exchange 'b' in vhost '/'",
        "PRECONDITION_FAILED - message size 99999999999999999999 is larger than max size 1",
        "exchange '",
        "' in vhost '",
        "",
    };
    static const uint16_t codes[] = {200, 312, 320, 403, 404, 405, 406, 501, 541, 0, 65535};

    begin_method(b, channel, method);
    put_number(b, codes[below(b, sizeof(codes) / sizeof(codes[0]))], 2);
    put_short(b, texts[below(b, sizeof(texts) / sizeof(texts[0]))]);
    put_number(b, 0, 4);
    end_frame(b);
}

static void confirm(struct hostile_broker *b, enum method method, uint64_t tag, bool multiple)
{
    begin_method(b, 1, method);
    put_number(b, tag, 8);
    put_number(b, multiple, 1);
    end_frame(b);
}

static void deliver(struct hostile_broker *b, uint64_t tag)
{
    begin_method(b, 1, BASIC_DELIVER);
    put_short(b, "tag");
    put_number(b, tag, 8);
    put_number(b, below(b, 2), 1);
    put_short(b, "exchange");
    put_short(b, "key");
    end_frame(b);
}

static void returned(struct hostile_broker *b)
{
    begin_method(b, 1, BASIC_RETURN);
    put_number(b, 312, 2);
    put_short(b, "NO_ROUTE");
    put_short(b, "");
    put_short(b, "key");
    end_frame(b);
}

static void content_header(struct hostile_broker *b, uint64_t body_size, unsigned flags)
{
    begin_frame(b, FRAME_HEADER, 1);
    put_number(b, 60, 2);
    put_number(b, 0, 2);
    put_number(b, body_size, 8);
    put_number(b, flags, 2);
}

/* A message of this tag (0: none) with a body, whole. */
static void content(struct hostile_broker *b, uint64_t tag, size_t body)
{
    content_header(b, body, FLAG_HEADERS | FLAG_MESSAGE_ID);
    put_number(b, tag != 0 ? 19 : 0, 4);
    if (tag != 0) {
        put_short(b, "x-obx-tag");
        put(b, "l", 1);
        put_number(b, tag, 8);
    }
    put_short(b, "id");
    end_frame(b);
    if (body > 0) {
        begin_frame(b, FRAME_BODY, 1);
        put_noise(b, body);
        end_frame(b);
    }
}

/* Whatever comes next, in the order of an honest broker; attacks may stand between any two. */
static void honest_step(struct hostile_broker *b, int step)
{
    switch (step) {
    case 0:
        listen_for(b, SILENCE_MS);
        start(b);
        break;
    case 1:
        tune(b, chance(b, 2) ? 131072 : 4096, (uint16_t)below(b, 3));
        break;
    case 2:
        connection_open_ok(b);
        atomic_fetch_add(&b->logins, 1);
        break;
    case 3:
        channel_open_ok(b);
        break;
    case 4:
        bare_method(b, 1, b->client == HOSTILE_PUBLISHER ? CONFIRM_SELECT_OK : BASIC_QOS_OK);
        break;
    case 5:
        if (b->client == HOSTILE_CONSUMER)
            consume_ok(b);
        break;
    default:
        if (b->client == HOSTILE_PUBLISHER && b->published > 0) {
            confirm(b, BASIC_ACK, b->published, true);
        } else if (b->client == HOSTILE_CONSUMER) {
            deliver(b, ++b->tag);
            content(b, b->tag, below(b, 100));
        }
        break;
    }
    say(b);
}

/* ---- attacks ---- */

static void attack_close(struct hostile_broker *b)
{
    for (unsigned i = 1 + below(b, 3); i > 0; i--)
        close_method(b, 1, CHANNEL_CLOSE);
    if (chance(b, 2))
        bare_method(b, 1, CHANNEL_CLOSE_OK);
    if (chance(b, 2)) { /* as if nothing had been */
        say(b);
        channel_open_ok(b);
        say(b);
        bare_method(b, 1, b->client == HOSTILE_PUBLISHER ? CONFIRM_SELECT_OK : BASIC_QOS_OK);
    }
}

static void attack_connection(struct hostile_broker *b)
{
    for (unsigned i = 1 + below(b, 2); i > 0; i--)
        close_method(b, 0, CONNECTION_CLOSE);
    if (chance(b, 2))
        bare_method(b, 0, CONNECTION_CLOSE_OK);
}

static void attack_channel(struct hostile_broker *b)
{
    const unsigned channel = chance(b, 2) ? below(b, 65536) : 2;

    for (unsigned i = 1 + below(b, 50); i > 0; i--)
        bare_method(b, channel + i, BASIC_QOS_OK);
    begin_frame(b, FRAME_BODY, channel);
    put_noise(b, 20);
    end_frame(b);
}

static void attack_method(struct hostile_broker *b)
{
    static const enum method methods[] = {
        CONNECTION_START,  CONNECTION_TUNE,    CONNECTION_OPEN_OK,  CONNECTION_CLOSE_OK,
        CHANNEL_OPEN_OK,   CHANNEL_CLOSE,      CHANNEL_CLOSE_OK,    BASIC_QOS_OK,
        BASIC_CONSUME_OK,  BASIC_CANCEL,       BASIC_CANCEL_OK,     BASIC_PUBLISH,
        BASIC_RETURN,      BASIC_DELIVER,      BASIC_ACK,           BASIC_NACK,
        CONFIRM_SELECT_OK, CONNECTION_BLOCKED, CONNECTION_UNBLOCKED};

    begin_method(b, below(b, 2), methods[below(b, sizeof(methods) / sizeof(methods[0]))]);
    put_noise(b, below(b, 40));
    end_frame(b);
}

static void attack_unknown_method(struct hostile_broker *b)
{
    begin_frame(b, FRAME_METHOD, below(b, 2));
    put_noise(b, below(b, 300));
    end_frame(b);
}

static void attack_size(struct hostile_broker *b)
{
    static const int types[] = {FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT};

    begin_frame(b, types[below(b, 4)], below(b, 2));
    put_noise(b, below(b, 3000));
    end_frame(b);
    set_32(b, b->frame_at + 3, odd_number(b));
}

static void attack_header(struct hostile_broker *b)
{
    deliver(b, ++b->tag);
    content_header(b, odd_number(b), (unsigned)next_random(b) & 0xffff);
    put_noise(b, below(b, 200));
    end_frame(b);
}

static void attack_body(struct hostile_broker *b)
{
    if (chance(b, 3)) {
        content(b, 0, 10); /* of nothing */
        return;
    }
    deliver(b, ++b->tag);
    content_header(b, below(b, 100), 0);
    end_frame(b);
    for (unsigned i = below(b, 4); i > 0; i--) {
        begin_frame(b, FRAME_BODY, 1);
        put_noise(b, below(b, 80));
        end_frame(b);
    }
}

/* depth (at least 1) tables or arrays within each other, each as long as what it holds. */
static void put_nested(struct hostile_broker *b, char kind, unsigned depth)
{
    const unsigned each = kind == 'A' ? 5 : 6;

    for (unsigned i = depth; i > 0; i--) {
        if (kind == 'F' && i < depth)
            put_number(b, 0, 1); /* an empty name */
        put(b, &kind, 1);
        put_number(b, (uint64_t)(i - 1) * each, 4);
    }
}

static void attack_depth(struct hostile_broker *b)
{
    const unsigned depth = 1 + below(b, 26000);
    const char kind = chance(b, 2) ? 'A' : 'F';

    if (b->client == HOSTILE_CONSUMER)
        deliver(b, ++b->tag);
    else
        returned(b);
    content_header(b, 0, FLAG_HEADERS);
    put_number(b, 2 + (uint64_t)depth * (kind == 'A' ? 5 : 6) - (kind == 'A' ? 0 : 1), 4);
    put_short(b, "n");
    put_nested(b, kind, depth);
    end_frame(b);
    if (chance(b, 2))
        return;
    begin_method(b, 1, QUEUE_DECLARE); /* a table where a client would have to decode it */
    put_number(b, 0, 2);
    put_short(b, "q");
    put_number(b, 0, 1);
    put_number(b, 1 + (uint64_t)depth * 5, 4);
    put_number(b, 0, 1);
    put_nested(b, 'A', depth);
    end_frame(b);
}

/* A header larger than any that is kept: all of it, or part. */
static void attack_huge_header(struct hostile_broker *b)
{
    deliver(b, ++b->tag);
    content_header(b, 3, FLAG_CONTENT_TYPE);
    put_noise(b, 100000 + below(b, 1200000));
    end_frame(b);
    begin_frame(b, FRAME_BODY, 1);
    put_noise(b, 3);
    end_frame(b);
}

static void attack_confirm(struct hostile_broker *b)
{
    for (unsigned i = 1 + below(b, 20); i > 0; i--)
        confirm(b, chance(b, 3) ? BASIC_NACK : BASIC_ACK,
                chance(b, 2) ? odd_number(b) : below(b, 200), chance(b, 3));
}

static void attack_return(struct hostile_broker *b)
{
    for (unsigned i = 1 + below(b, 5); i > 0; i--) {
        returned(b);
        content(b, chance(b, 2) ? below(b, 100) : odd_number(b), below(b, 50));
    }
    if (chance(b, 2))
        returned(b);
    if (chance(b, 2))
        confirm(b, BASIC_ACK, below(b, 20), true);
}

static void attack_flood(struct hostile_broker *b)
{
    const unsigned kind = below(b, 4);

    for (unsigned i = below(b, 400); i > 0; i--) {
        if (kind == 0) {
            begin_method(b, 0, CONNECTION_BLOCKED);
            put_short(b, "low on memory");
            end_frame(b);
        }
        if (kind <= 1)
            bare_method(b, 0, CONNECTION_UNBLOCKED);
        if (kind == 2) {
            begin_frame(b, FRAME_HEARTBEAT, 0);
            end_frame(b);
        }
        if (kind == 3) { /* more than was asked for */
            deliver(b, ++b->tag);
            content(b, 0, 1);
        }
    }
}

static void attack_cancel(struct hostile_broker *b)
{
    for (unsigned i = 1 + below(b, 2); i > 0; i--) {
        begin_method(b, 1, BASIC_CANCEL);
        put_short(b, "tag");
        put_number(b, 0, 1);
        end_frame(b);
    }
    if (chance(b, 2))
        attack_close(b);
}

static void attack_tag(struct hostile_broker *b)
{
    for (unsigned i = 1 + below(b, 3); i > 0; i--) {
        deliver(b, chance(b, 2) ? b->tag : odd_number(b));
        content(b, 0, 1);
    }
}

static void attack_noise(struct hostile_broker *b)
{
    put_noise(b, below(b, 5000));
}

/* Bits of something sound are turned over. */
static void attack_bits(struct hostile_broker *b)
{
    const size_t from = b->len;

    deliver(b, ++b->tag);
    content(b, b->tag, 30);
    confirm(b, BASIC_ACK, 1, true);
    for (unsigned i = 1 + below(b, 4); i > 0; i--)
        b->out[from + below(b, (unsigned)(b->len - from))] ^= (uint8_t)(1U << below(b, 8));
}

static void attack_silence(struct hostile_broker *b)
{
    b->is_silent = true;
    for (int i = 0; i < 20 && !b->is_gone && !atomic_load(&b->stop); i++)
        listen_for(b, SILENCE_MS);
}

/* Part of a frame, and the end. */
static void attack_half(struct hostile_broker *b)
{
    const size_t from = b->len;

    deliver(b, ++b->tag);
    content(b, 0, 30);
    b->len = from + below(b, (unsigned)(b->len - from));
    say(b);
    b->is_gone = true;
}

typedef void attack_fn(struct hostile_broker *b);

static attack_fn *const attacks[] = {
    attack_close,   attack_connection, attack_channel, attack_method, attack_unknown_method,
    attack_size,    attack_header,     attack_body,    attack_depth,  attack_huge_header,
    attack_confirm, attack_return,     attack_flood,   attack_cancel, attack_tag,
    attack_noise,   attack_bits,       attack_half,
};

static void attack(struct hostile_broker *b)
{
    atomic_fetch_add(&b->attacks, 1);
    if (chance(b, 60)) {
        attack_silence(b);
        return;
    }
    attacks[below(b, sizeof(attacks) / sizeof(attacks[0]))](b);
    say(b);
}

/* ---- connections ---- */

static void be_honest(struct hostile_broker *b)
{
    for (int step = 0; !b->is_gone && !atomic_load(&b->stop); step++) {
        if (step > 6 && b->client == HOSTILE_CONSUMER)
            listen_for(b, SILENCE_MS);
        else
            honest_step(b, step);
    }
}

static void be_hostile(struct hostile_broker *b)
{
    unsigned left = 1 + below(b, ATTACKS_MAX);

    for (int step = 0; !b->is_gone && left > 0; step++) {
        if (step < 6 ? chance(b, 25) : !chance(b, 3)) {
            attack(b);
            left--;
        }
        honest_step(b, step);
    }
}

/* With data unread the end is a reset, otherwise an ordinary one. */
static void serve(struct hostile_broker *b)
{
    b->random = b->seed + atomic_load(&b->connections) * UINT64_C(0x2545f4914f6cdd1d);
    b->is_gone = b->is_silent = false;
    b->published = b->tag = 0;
    b->len = b->in_len = 0;
    if (atomic_load(&b->behaves))
        be_honest(b);
    else
        be_hostile(b);
    (void)close(b->peer);
    atomic_fetch_add(&b->connections, 1);
}

static void *run(void *ctx)
{
    struct hostile_broker *b = ctx;
    struct pollfd pfd = {.fd = b->listener, .events = POLLIN};

    while (!atomic_load(&b->stop)) {
        if (poll(&pfd, 1, ACCEPT_MS) <= 0)
            continue;
        b->peer = accept(b->listener, NULL, NULL);
        if (b->peer >= 0)
            serve(b);
    }
    return NULL;
}

static bool listen_somewhere(struct hostile_broker *b)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);

    b->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (b->listener < 0 || bind(b->listener, (struct sockaddr *)&at, sizeof(at)) != 0 ||
        listen(b->listener, BACKLOG) != 0 ||
        getsockname(b->listener, (struct sockaddr *)&at, &len) != 0)
        return false;
    b->port = ntohs(at.sin_port);
    return true;
}

struct hostile_broker *hostile_broker_create(enum hostile_client client, uint64_t seed)
{
    struct hostile_broker *b = calloc(1, sizeof(*b));

    if (b == NULL)
        return NULL;
    b->client = client;
    b->seed = seed;
    if (!listen_somewhere(b) || pthread_create(&b->thread, NULL, run, b) != 0) {
        if (b->listener >= 0)
            (void)close(b->listener);
        free(b);
        return NULL;
    }
    return b;
}

void hostile_broker_destroy(struct hostile_broker *b)
{
    if (b == NULL)
        return;
    atomic_store(&b->stop, true);
    (void)pthread_join(b->thread, NULL);
    (void)close(b->listener);
    free(b);
}

uint16_t hostile_broker_port(const struct hostile_broker *b)
{
    return b->port;
}

void hostile_broker_behave(struct hostile_broker *b)
{
    atomic_store(&b->behaves, true);
}

unsigned hostile_broker_connections(const struct hostile_broker *b)
{
    return atomic_load(&b->connections);
}

unsigned hostile_broker_attacks(const struct hostile_broker *b)
{
    return atomic_load(&b->attacks);
}

unsigned hostile_broker_logins(const struct hostile_broker *b)
{
    return atomic_load(&b->logins);
}
