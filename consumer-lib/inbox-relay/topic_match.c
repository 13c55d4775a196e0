/* Matching of topics. Called by record.c for each message and endpoint. */
#include "topic_match.h"

#include <string.h>

static size_t word_len(const char *text, size_t len)
{
    const char *dot = memchr(text, '.', len);

    return dot == NULL ? len : (size_t)(dot - text);
}

/* What is left of a text: `at` bytes are done; past the end when its last word was. */
struct rest {
    const char *text;
    size_t len;
    size_t at;
};

static bool is_over(const struct rest *rest)
{
    return rest->at > rest->len;
}

static struct obx_bytes first_word(const struct rest *rest)
{
    const char *p = rest->text + rest->at;

    return (struct obx_bytes){.p = p, .len = word_len(p, rest->len - rest->at)};
}

static void skip_word(struct rest *rest)
{
    rest->at += first_word(rest).len + 1;
}

static bool words_agree(struct obx_bytes pattern, struct obx_bytes word)
{
    const char *p = pattern.p;

    if (pattern.len == 1 && p[0] == '*')
        return true;
    return pattern.len == word.len && memcmp(pattern.p, word.p, word.len) == 0;
}

static bool is_hash(struct obx_bytes word)
{
    return word.len == 1 && *(const char *)word.p == '#';
}

/* As with file names: the last `#` takes one word more whenever what follows it does not fit. */
bool topic_match(const char *pattern, struct obx_bytes topic)
{
    struct rest p = {.text = pattern, .len = strlen(pattern)};
    struct rest t = {.text = topic.p, .len = topic.len};
    struct rest after_hash = {.at = 0};
    struct rest hash_took = {.at = 0};
    bool has_hash = false;

    while (!is_over(&t) || !is_over(&p)) {
        if (!is_over(&p) && is_hash(first_word(&p))) {
            skip_word(&p);
            has_hash = true;
            after_hash = p;
            hash_took = t;
        } else if (!is_over(&p) && !is_over(&t) && words_agree(first_word(&p), first_word(&t))) {
            skip_word(&p);
            skip_word(&t);
        } else if (has_hash && !is_over(&hash_took)) {
            skip_word(&hash_took);
            t = hash_took;
            p = after_hash;
        } else {
            return false;
        }
    }
    return true;
}
