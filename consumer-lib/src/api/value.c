/* The makers of struct obx_value. */
#include "obx/consumer.h"

#include <string.h>

struct obx_value obx_null(void)
{
    return (struct obx_value){.type = OBX_V_NULL};
}

struct obx_value obx_u64(uint64_t number)
{
    return (struct obx_value){.type = OBX_V_U64, .v.u64 = number};
}

struct obx_value obx_i64(int64_t number)
{
    return (struct obx_value){.type = OBX_V_I64, .v.i64 = number};
}

struct obx_value obx_f64(double number)
{
    return (struct obx_value){.type = OBX_V_F64, .v.f64 = number};
}

struct obx_value obx_text(const char *text)
{
    if (text == NULL)
        return obx_null();
    return obx_data((struct obx_bytes){text, strlen(text)});
}

struct obx_value obx_data(struct obx_bytes bytes)
{
    if (bytes.p == NULL)
        return obx_null();
    return (struct obx_value){.type = OBX_V_BYTES, .v.bytes = bytes};
}
