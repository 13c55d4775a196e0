/*
 * Types: what a text may be, how it becomes the field of a struct, and how that is said to a
 * person. Parsing is strict: no signs, no blanks, no fractions, no unit left out; whatever is not
 * exactly a value is refused.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "internal.h"

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
static const struct unit sizes[] = {
    {"GiB", UINT64_C(1) << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}};
static const struct unit counts[] = {{"", 1}, {"", 1}, {"", 1}, {"", 1}};
enum { UNITS = 4 };

bool cfg_field_fits(const struct cfg_key *key)
{
    switch (key->type) {
    case CFG_STRING:
    case CFG_OPTIONAL:
    case CFG_SECRET:
        return key->size == sizeof(const char *);
    case CFG_BOOL:
    case CFG_NOT:
        return key->size == sizeof(bool);
    case CFG_COUNT:
    case CFG_DURATION:
    case CFG_SECONDS:
    case CFG_SIZE:
        return key->size == sizeof(uint16_t) || key->size == sizeof(uint32_t) ||
               key->size == sizeof(uint64_t);
    case CFG_ENUM:
        return key->size == sizeof(unsigned);
    case CFG_LIST:
        return key->size ==
               (key->count_offset == 0 ? sizeof(struct cfg_list) : sizeof(const char **));
    }
    return false;
}

bool cfg_is_number(const struct cfg_key *key)
{
    return key->type == CFG_COUNT || key->type == CFG_DURATION || key->type == CFG_SECONDS ||
           key->type == CFG_SIZE;
}

uint64_t cfg_field_max(const struct cfg_key *key)
{
    if (!cfg_is_number(key) || key->size == sizeof(uint64_t))
        return UINT64_MAX;
    return key->size == sizeof(uint16_t) ? UINT16_MAX : UINT32_MAX;
}

/* max 0 in a row means: as far as the field goes. */
static bool is_within(const struct cfg_key *key, uint64_t number)
{
    return number >= key->min && number <= (key->max != 0 ? key->max : cfg_field_max(key));
}

/* Digits from the start of text; *end gets what follows them. */
static bool parse_digits(const char *text, uint64_t *number, const char **end)
{
    /* Not strtoull(3): it takes blanks, a sign and a number that is too large, and wraps "-1". */
    *number = 0;
    for (*end = text; **end >= '0' && **end <= '9'; (*end)++) {
        const uint64_t digit = (uint64_t)(**end - '0');

        if (*number > (UINT64_MAX - digit) / 10)
            return false;
        *number = *number * 10 + digit;
    }
    return *end != text;
}

/* Digits and one of the units; 0 needs no unit. */
static bool parse_quantity(const char *text, const struct unit *units, uint64_t *number)
{
    const char *end = NULL;

    if (!parse_digits(text, number, &end))
        return false;
    if (*number == 0 && *end == '\0')
        return true;
    for (size_t i = 0; i < UNITS; i++) {
        if (strcmp(end, units[i].name) != 0)
            continue;
        if (*number > UINT64_MAX / units[i].factor)
            return false;
        *number *= units[i].factor;
        return true;
    }
    return false;
}

static bool parse_number(const struct cfg_key *key, const char *text, uint64_t *number)
{
    const char *end = NULL;

    if (key->type == CFG_DURATION || key->type == CFG_SECONDS)
        return parse_quantity(text, durations, number);
    if (key->type == CFG_SIZE)
        return parse_quantity(text, sizes, number);
    return parse_digits(text, number, &end) && *end == '\0';
}

bool cfg_is_left_to_like(const struct cfg_key *key, const char *text)
{
    uint64_t number = 1;

    return key->like != NULL && parse_number(key, text, &number) && number == 0;
}

static bool convert_number(const struct cfg_key *key, const char *text, void *field)
{
    uint64_t number = 0;

    if (!parse_number(key, text, &number) || !is_within(key, number))
        return false;
    if (key->type == CFG_SECONDS)
        number = number / CFG_SECOND + (number % CFG_SECOND != 0);
    if (key->size == sizeof(uint64_t))
        *(uint64_t *)field = number;
    else if (key->size == sizeof(uint32_t))
        *(uint32_t *)field = (uint32_t)number;
    else
        *(uint16_t *)field = (uint16_t)number;
    return true;
}

/* The index of text in choices, which end with NULL; their number when it is none of them. */
static unsigned choice_index(const char *const *choices, const char *text)
{
    unsigned i = 0;

    while (choices[i] != NULL && strcmp(choices[i], text) != 0)
        i++;
    return i;
}

static bool convert_bool(const struct cfg_key *key, const char *text, void *field)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1", NULL};
    unsigned index = choice_index(words, text);

    *(bool *)field = (index % 2 == 1) == (key->type == CFG_BOOL);
    return words[index] != NULL;
}

/* Text that can be put on a terminal and into a log. A secret may hold anything but NUL. */
static bool is_clean(const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7F)
            return false;
    }
    return utf8_is_valid(bytes_of(text));
}

struct cfg_list cfg_get_list(const struct cfg_key *key, const unsigned char *item)
{
    struct cfg_list list;

    if (key->count_offset == 0) {
        memcpy(&list, item + key->offset, sizeof(list));
    } else {
        memcpy(&list.items, item + key->offset, sizeof(list.items));
        memcpy(&list.count, item + key->count_offset, sizeof(list.count));
    }
    return list;
}

static void set_list(const struct cfg_key *key, unsigned char *item, const struct cfg_list *list)
{
    if (key->count_offset == 0) {
        memcpy(item + key->offset, list, sizeof(*list));
    } else {
        memcpy(item + key->offset, &list->items, sizeof(list->items));
        memcpy(item + key->count_offset, &list->count, sizeof(list->count));
    }
}

static bool convert_list(struct cfg *cfg, struct cfg_report *report, const struct cfg_key *key,
                         const char *text, unsigned char *item)
{
    size_t count = *text != '\0' ? 1 : 0; /* one more than there are commas */
    const char **items = NULL;

    for (const char *at = strchr(text, ','); at != NULL; at = strchr(at + 1, ','))
        count++;
    if (!is_within(key, count))
        return false;
    items = cfg_alloc(cfg, report, count * sizeof(*items));
    for (size_t i = 0; i < count && items != NULL; i++) {
        size_t len = strcspn(text, ",");
        const char *next = text + len + 1;

        while (len > 0 && strchr(" \t", text[0]) != NULL) {
            text++;
            len--;
        }
        while (len > 0 && strchr(" \t", text[len - 1]) != NULL)
            len--;
        if (len == 0) /* "a,,b": more likely an item that was forgotten than none that was meant */
            return false;
        items[i] = cfg_copy(cfg, report, (struct obx_bytes){text, len});
        text = next;
    }
    set_list(key, item, &(struct cfg_list){.items = items, .count = count});
    return report->rc == OBX_OK;
}

bool cfg_convert(struct cfg *cfg, struct cfg_report *report, const struct cfg_key *key,
                 const char *text, unsigned char *item)
{
    void *field = item + key->offset;
    unsigned index = 0;

    if (key->type != CFG_SECRET && !is_clean(text))
        return false;
    switch (key->type) {
    case CFG_STRING:
    case CFG_SECRET:
        *(const char **)field = text;
        return is_within(key, strlen(text));
    case CFG_OPTIONAL:
        *(const char **)field = text[0] == '\0' ? NULL : text;
        return is_within(key, strlen(text));
    case CFG_BOOL:
    case CFG_NOT:
        return convert_bool(key, text, field);
    case CFG_COUNT:
    case CFG_DURATION:
    case CFG_SECONDS:
    case CFG_SIZE:
        return convert_number(key, text, field);
    case CFG_ENUM:
        index = choice_index(key->choices, text);
        memcpy(field, &index, sizeof(index)); /* an enum of its own type, as wide as an unsigned */
        return key->choices[index] != NULL;
    case CFG_LIST:
        return convert_list(cfg, report, key, text, item);
    }
    return false;
}

/* By what they mean, not by their bytes: texts are pointers, and two loads have copies of their own. */
bool cfg_same_value(const struct cfg_key *key, const unsigned char *a, const unsigned char *b)
{
    struct cfg_list left, right;
    bool is_same = false;

    if (key->type == CFG_STRING || key->type == CFG_OPTIONAL || key->type == CFG_SECRET) {
        const char *x = *(const char *const *)(const void *)(a + key->offset);
        const char *y = *(const char *const *)(const void *)(b + key->offset);

        return x == NULL || y == NULL ? x == y : strcmp(x, y) == 0;
    }
    if (key->type != CFG_LIST)
        return memcmp(a + key->offset, b + key->offset, key->size) == 0;
    left = cfg_get_list(key, a);
    right = cfg_get_list(key, b);
    is_same = left.count == right.count;
    for (size_t i = 0; i < left.count && is_same; i++)
        is_same = strcmp(left.items[i], right.items[i]) == 0;
    return is_same;
}

bool cfg_same_number(const struct cfg_key *key, const char *a, const char *b)
{
    uint64_t left = 0, right = 0;

    return parse_number(key, a, &left) && parse_number(key, b, &right) && left == right;
}

/* In the largest unit that leaves no fraction. */
static const char *show_number(const struct cfg_key *key, uint64_t number, struct cfg_default *room)
{
    const struct unit *units = key->type == CFG_SIZE    ? sizes
                               : key->type == CFG_COUNT ? counts
                                                        : durations;
    size_t i = 0;

    while (i + 1 < UNITS && (number == 0 || number % units[i].factor != 0))
        i++;
    snprintf(room->text, sizeof(room->text), "%" PRIu64 "%s", number / units[i].factor,
             units[i].name);
    return room->text;
}

const char *cfg_default_of(const struct cfg_key *key, struct cfg_default *room)
{
    if (key->def == NULL && key->number > 0)
        return show_number(key, key->number, room);
    return key->def == NULL ? "" : key->def;
}

bool cfg_is_required(const struct cfg_key *key)
{
    return key->def == NULL && key->number == 0;
}

static void out_number(struct obx_buf *out, const struct cfg_key *key, uint64_t number)
{
    struct cfg_default room;

    buf_add_text(out, show_number(key, number, &room));
}

/* " from 1 to 9", " of at least 1" or nothing. */
static void out_range(struct obx_buf *out, const struct cfg_key *key)
{
    if (key->max != 0) {
        buf_addf(out, " from ");
        out_number(out, key, key->min);
        buf_addf(out, " to ");
        out_number(out, key, key->max);
    } else if (key->min != 0) {
        buf_addf(out, " of at least ");
        out_number(out, key, key->min);
    }
    if (key->like != NULL)
        buf_addf(out, ", or 0");
}

/* The same for what is counted: " of 1 to 64 bytes". */
static void out_amount(struct obx_buf *out, const struct cfg_key *key, const char *noun)
{
    if (key->max != 0)
        buf_addf(out, " of %" PRIu64 " to %" PRIu64 " %ss", key->min, key->max, noun);
    else if (key->min != 0)
        buf_addf(out, " of at least %" PRIu64 " %s%s", key->min, noun, key->min > 1 ? "s" : "");
}

void cfg_out_allowed(struct obx_buf *out, const struct cfg_key *key)
{
    switch (key->type) {
    case CFG_STRING:
    case CFG_OPTIONAL:
    case CFG_SECRET:
        buf_addf(out, "a text");
        out_amount(out, key, "byte");
        return;
    case CFG_BOOL:
    case CFG_NOT:
        buf_addf(out, "true or false (also yes/no, on/off, 1/0)");
        return;
    case CFG_COUNT:
        buf_addf(out, "a number");
        out_range(out, key);
        return;
    case CFG_DURATION:
    case CFG_SECONDS:
        buf_addf(out, "a duration");
        out_range(out, key);
        buf_addf(out, ", as 250ms, 5s, 2m or 1h");
        return;
    case CFG_SIZE:
        buf_addf(out, "a size");
        out_range(out, key);
        buf_addf(out, ", as 4096, 64KiB, 16MiB or 1GiB");
        return;
    case CFG_ENUM:
        buf_addf(out, "one of");
        for (size_t i = 0; key->choices[i] != NULL; i++)
            buf_addf(out, "%s %s", i > 0 ? "," : "", key->choices[i]);
        return;
    case CFG_LIST:
        buf_addf(out, "a list");
        out_amount(out, key, "item");
        buf_addf(out, ", separated by commas");
        return;
    }
}
