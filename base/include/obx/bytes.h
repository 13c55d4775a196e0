/* A borrowed run of bytes, passed by value. Text as well as bodies: neither is assumed to end in
 * NUL. */
#ifndef OBX_BYTES_H
#define OBX_BYTES_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct obx_bytes {
    const void *p; /**< NULL means absent (SQL NULL, header not there); an empty value has len 0 and
                      p not NULL */
    size_t len;
};

#ifdef __cplusplus
}
#endif

#endif
