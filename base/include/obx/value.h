/**
 * @file
 * Single values that cross a public surface: a header of a message, and a value for a `?` place of
 * a statement. Plain data; what they point to is borrowed.
 */
#ifndef OBX_VALUE_H
#define OBX_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "obx/bytes.h"

/** One application header of a message; its type is the one that the message has it in. */
enum obx_header_type { OBX_H_NULL, OBX_H_TEXT, OBX_H_I64, OBX_H_F64, OBX_H_BOOL };
struct obx_header {
    struct obx_bytes name; /**< 1 to 255 bytes */
    enum obx_header_type type;
    union {
        struct obx_bytes text;
        int64_t i64;
        double f64;
        bool yes;
    } v;
};

/** One value for a `?` of a statement. */
enum obx_value_type { OBX_V_NULL, OBX_V_U64, OBX_V_I64, OBX_V_F64, OBX_V_BYTES };
struct obx_value {
    enum obx_value_type type;
    union {
        uint64_t u64;
        int64_t i64;
        double f64;
        struct obx_bytes bytes; /**< text and binary; borrowed for the call */
    } v;
};

#endif
