/*
 * Reading a message: AMQP properties and headers on one side, struct obx_message on the other. The
 * CloudEvents attributes are understood with both prefixes that their AMQP binding allows
 * ("cloudEvents:" and "cloudEvents_").
 */
#ifndef CONSUMER_MESSAGE_H
#define CONSUMER_MESSAGE_H

#include "obx/consumer.h"

#include "bridge/consumer.h"

/**
 * Fill msg; everything is borrowed from the delivery. attempt stays 0. Returns the CloudEvents time in microseconds since 1970, 0 without one: what says how
 * old the event is, while the AMQP timestamp, which msg->created_us falls back to, may be anything
 * that a foreign producer put there.
 */
uint64_t message_read(struct obx_message *msg, const struct bridge_delivery *delivery);

/**
 * Microseconds since 1970 of an RFC 3339 time in UTC or with an offset
 * ("2024-05-01T10:00:00.123456Z"); 0 when it is not one.
 */
uint64_t message_time_us(struct obx_bytes text);

#endif
