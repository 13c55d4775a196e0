/*
 * The broker of the system tests, seen past the bridge: coordinates from the environment, and a
 * plain connection with which a test makes queues, counts and fetches messages. Every call fails
 * the running cmocka test when it does not work.
 */
#ifndef OBX_TEST_BROKER_H
#define OBX_TEST_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct broker {
    const char *host;
    const char *user;
    const char *password;
    const char *vhost;
    int port;
    char address[300]; /* "host:port" */
};

/** From OBX_TEST_AMQP_...; false when they are not set (no servers run). */
bool broker_from_env(struct broker *broker);

/** A connection with one channel. */
struct broker_admin;
struct broker_admin *broker_admin_open(const struct broker *broker);
void broker_admin_close(struct broker_admin *admin);

/** Argument of a queue; text, number or flag. */
struct broker_arg {
    const char *name;
    const char *text; /* NULL: use number */
    int64_t number;
    bool is_flag; /* number is 0 or 1 */
};

/** A durable classic queue, unless the arguments say x-queue-type; deleted first if it is there. */
void broker_queue(struct broker_admin *admin, const char *queue, const struct broker_arg *args,
                  size_t arg_count);
void broker_delete_queue(struct broker_admin *admin, const char *queue);
/** A durable direct exchange; deleted first if it is there. */
void broker_exchange(struct broker_admin *admin, const char *exchange);
/** The same of type topic. */
void broker_topic_exchange(struct broker_admin *admin, const char *exchange);
void broker_delete_exchange(struct broker_admin *admin, const char *exchange);
void broker_bind(struct broker_admin *admin, const char *queue, const char *exchange,
                 const char *key);
void broker_unbind(struct broker_admin *admin, const char *queue, const char *exchange,
                   const char *key);
uint32_t broker_count(struct broker_admin *admin, const char *queue);
void broker_purge(struct broker_admin *admin, const char *queue);
/** To the default exchange, unconfirmed; id may be NULL. */
void broker_put(struct broker_admin *admin, const char *queue, const char *id, const char *body);
/** The same without an id but with one header that is a text. */
void broker_put_header(struct broker_admin *admin, const char *queue, const char *name,
                       const char *value, const char *body);

/** The same with a header of so many arrays within each other. */
void broker_put_nested(struct broker_admin *admin, const char *queue, unsigned depth);

/** The same with a header that is an array of so many empty values. */
void broker_put_voids(struct broker_admin *admin, const char *queue, int count);

/** What a test looks at in a fetched message. */
struct broker_message {
    char id[256];
    char type[256];
    char content_type[256];
    uint8_t delivery_mode;
    uint64_t timestamp_s;
    int header_count;
    size_t body_len;
    char body[256]; /* the first bytes, as text */
};
/** Take one message off a queue, acknowledged; false when it is empty. */
bool broker_get(struct broker_admin *admin, const char *queue, struct broker_message *out);

/**
 * Make the broker write what it knows of its queues, before a test kills it. It does so by itself
 * only once in a while, and a quorum queue that is younger than that never finds a leader after a
 * kill; nor does one whose name was used before (RabbitMQ 3.10).
 */
void broker_settle(void);

/** Set the broker's own limit on the size of a message; DEFAULT sets it back. */
enum { BROKER_MAX_MESSAGE_DEFAULT = 134217728 };
void broker_max_message_size(unsigned bytes);

/** Run tests/support/servers with the arguments (one string, split at blanks); fails the test when
 * that fails. */
void broker_servers(const char *arguments);

#endif
