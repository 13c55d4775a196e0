/* Marks for the public interface: what is exported, what may not be ignored, what is checked like
 * printf. */
#ifndef OBX_EXPORT_H
#define OBX_EXPORT_H

#if defined(__GNUC__) || defined(__clang__)
#define OBX_API             __attribute__((visibility("default")))
#define OBX_NODISCARD       __attribute__((warn_unused_result))
#define OBX_PRINTF(fmt, va) __attribute__((format(printf, fmt, va)))
#else
#define OBX_API
#define OBX_NODISCARD
#define OBX_PRINTF(fmt, va)
#endif

#endif
