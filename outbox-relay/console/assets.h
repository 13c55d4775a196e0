/* The files of this folder that are built in: style and script. Made by embed_assets.cmake. */
#ifndef CONSOLE_ASSETS_H
#define CONSOLE_ASSETS_H

#include <stddef.h>

struct asset {
    const char *name, *type;
    const char *data;
    size_t len;
};
extern const struct asset assets[];
extern const size_t asset_count;

#endif
