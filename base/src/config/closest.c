/*
 * The key that somebody probably meant: the one with the fewest letters to add, drop, change or
 * swap, when they are few. Called by file.c for an unknown key.
 */
#include <string.h>

#include "internal.h"

enum { NAME_MAX_LEN = 48, LETTERS_A_MISTAKE = 3 };

static size_t least(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;

    return ab < c ? ab : c;
}

/* Restricted edit distance; rows[0] is the row before last, rows[1] the last, rows[2] the one being
 * made. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][NAME_MAX_LEN + 1] = {{0}};

    for (size_t k = 0; k <= b_len; k++)
        rows[1][k] = k;
    for (size_t i = 1; i <= a_len; i++) {
        rows[2][0] = i;
        for (size_t k = 1; k <= b_len; k++) {
            const size_t change = a[i - 1] == b[k - 1] ? 0 : 1;

            rows[2][k] = least(rows[1][k] + 1, rows[2][k - 1] + 1, rows[1][k - 1] + change);
            if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
                rows[2][k] = least(rows[2][k], rows[0][k - 2] + 1, rows[2][k]);
        }
        memcpy(rows[0], rows[1], sizeof(rows[0]));
        memcpy(rows[1], rows[2], sizeof(rows[1]));
    }
    return rows[1][b_len];
}

const char *cfg_closest_key(const struct cfg_section *section, const char *name)
{
    const size_t len = strlen(name);
    size_t best = len / LETTERS_A_MISTAKE + 1;
    const char *found = NULL;

    if (len == 0 || len > NAME_MAX_LEN)
        return NULL;
    for (size_t i = 0; i < section->key_count; i++) {
        const char *key = section->keys[i].name;
        const size_t key_len = strlen(key);
        size_t far = key_len > NAME_MAX_LEN ? best : distance(name, len, key, key_len);

        if (far < best) {
            best = far;
            found = key;
        }
    }
    return found;
}
